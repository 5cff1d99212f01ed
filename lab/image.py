"""The guest's disk image: built once by mmdebstrap, natively, and cached by a hash of what it is made from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ojai.lab import packages
from ojai.lab.errors import LabError
from ojai.lab.shell import as_root, lock, run, step
from ojai.lab.suites import SUITES, Suite

HERE = Path(__file__).parent
GUEST = HERE / "guest"
SILICON = HERE / "silicon"

DISK_BYTES = 200 << 30
"""Virtual size; the file is sparse. `df` in the guest shows more than 190 GiB."""
FS_UUID = "0ba1ab00-0ba1-4a11-8a11-000000890a00"
FREE_BYTES = 6 << 30
"""What a build needs on the cache's disk."""

ENGINES = ("overlay2", "containerd")
"""Docker of the guest: the suite's own as it is (overlay2 on Debian's), or a newer with containerd's image store."""


def cache_root() -> Path:
    """Return the folder of expensive build results, shared by all labs of this user."""
    own = os.environ.get("OJAI_LAB_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "ojai-lab"


def digest_of(paths: list[Path], *words: str) -> str:
    """Return a short hash over files (with folders walked, names and modes included) and words."""
    seen = hashlib.sha256("\0".join(words).encode())
    for top in paths:
        files = sorted(item for item in top.rglob("*") if item.is_file()) if top.is_dir() else [top]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            name = file.relative_to(top) if top.is_dir() else Path(file.name)
            seen.update(f"\0{name}\0{file.stat().st_mode & 0o111:o}\0".encode())
            seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


@contextlib.contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock while building one cached thing; the kernel drops it if the builder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        lock(handle, f"the cached {name}")
        yield


@contextlib.contextmanager
def fresh(folder: Path, name: str) -> Iterator[Path]:
    """Give a temporary folder that becomes folder/name in one rename, if nothing goes wrong inside.

    Left-overs of killed builds of the same thing are removed first. Call it under `locked`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f".{name}.*"):
        shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
    try:
        yield work
        work.chmod(0o755)
        work.rename(folder / name)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def need_space(folder: Path, expected: int) -> None:
    """Raise LabError when the folder's file system has less than `expected` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < expected:
        raise LabError(
            f"{folder} has {free / 2**30:.1f} GiB free and the lab needs {expected / 2**30:.0f} GiB: free some "
            "space, or point OJAI_LAB_CACHE (built images) or OJAI_LAB_DIR (disks) somewhere else"
        )


def mmdebstrap_argv(hook: str, form: str, target: str, include: Sequence[str], suite: Suite) -> list[str]:
    """Return the command that builds a system. Only the suite is named: the mirror is mmdebstrap's default."""
    return [
        packages.find("mmdebstrap") or "mmdebstrap",
        "--variant=apt",
        f"--format={form}",
        f"--components={suite.components}",
        f"--include={','.join(include)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        *(['--aptopt=Acquire::Check-Valid-Until "false"'] if suite.expired else []),
        "--skip=cleanup/apt,cleanup/reproducible",
        f"--customize-hook={hook}",
        suite.name,
        target,
    ]


def disk_argv(out: Path, suite: Suite) -> list[str]:
    """Return the command that builds the virtual machine's disk."""
    hook = f'"{GUEST / "build.sh"}" "$1" "{GUEST}" "{SILICON}" "{out}"'
    return mmdebstrap_argv(hook, "null", "/dev/null", suite.packages, suite)


def settings(suite: Suite, engine: str, preseed: Sequence[str]) -> dict[str, str]:
    """What the scripts of both builds read of the suite and the engine, as environment variables."""
    if engine != ENGINES[0] and suite.newer_docker is None:
        raise LabError(f"{suite.name} has no Docker with containerd's image store; take another suite (`--suite`)")
    return {
        "LAB_SUITE": suite.name,
        "LAB_VENDOR": suite.vendor,
        "LAB_STOCK_SUITE": suite.stock,
        "LAB_STOCK_KERNEL": suite.stock_kernel,
        "LAB_READY_PACKAGES": " ".join(suite.ready),
        "LAB_PRESEED_PACKAGES": " ".join(preseed),
        "LAB_ENGINE": engine,
        "LAB_ENGINE_SUITE": (suite.newer_docker or "") if engine != ENGINES[0] else "",
    }


def build(argv: Sequence[str], settings: Mapping[str, str], *, what: str, log: Path) -> None:
    """Run a build as root. If this program is killed, the build ends too (and mmdebstrap clears up after itself)."""
    words = [f"{key}={value}" for key, value in settings.items()]
    path = f"PATH={os.environ.get('PATH', '')}:{packages.SBIN}"
    run(as_root(["setpriv", "--pdeathsig", "TERM", "env", path, *words, *argv]), what=what, log=log)


def base(suite: Suite, engine: str = ENGINES[0]) -> Path:
    """Return the folder with disk.raw (the base of every lab host's disk), building it if it is not cached."""
    kind = f"base-{suite.name}-{engine}-"
    made_from = [GUEST, SILICON, Path(__file__)]
    name = kind + digest_of(made_from, repr(suite), str(DISK_BYTES), FS_UUID, *suite.packages, *suite.preseed)
    cache = cache_root()
    if (cache / name / "disk.raw").exists():
        return cache / name
    with locked(cache, name):
        if (cache / name / "disk.raw").exists():
            return cache / name
        need_space(cache, FREE_BYTES)
        with step(f"building the guest's disk image from {suite.name} (once; cached)"), fresh(cache, name) as work:
            log = cache / f"{name}.log"
            log.unlink(missing_ok=True)
            disk = {"LAB_DISK_BYTES": str(DISK_BYTES), "LAB_FS_UUID": FS_UUID}
            given = {**settings(suite, engine, suite.preseed), **disk}
            build(disk_argv(work, suite), given, what=_what(suite), log=log)
            if os.geteuid() != 0:
                run(as_root(["chown", "-R", f"{os.getuid()}:{os.getgid()}", str(work)]), what="chown")
        prune(cache, name, kind)
    return cache / name


def _what(suite: Suite) -> str:
    return f"building the guest's image from {suite.name} (`--suite` takes another: {', '.join(SUITES)})"


def claim(base: Path, disk: Path) -> None:
    """Note that a disk is an overlay of this base, so that `prune` leaves the base alone while it exists."""
    users = base / "users"
    users.mkdir(exist_ok=True)
    (users / hashlib.sha256(str(disk).encode()).hexdigest()[:16]).write_text(str(disk))


def prune(cache: Path, keep: str, kind: str) -> None:
    """Remove older base images of a kind (how their names begin) that no lab's disk is made from any more."""
    for base in cache.glob(f"{kind}*/users"):
        old = base.parent
        if old.name != keep and not any(Path(user.read_text()).exists() for user in base.iterdir()):
            shutil.rmtree(old)
            old.with_suffix(".log").unlink(missing_ok=True)
            old.with_suffix(".lock").unlink(missing_ok=True)
