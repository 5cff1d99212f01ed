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

HERE = Path(__file__).parent
GUEST = HERE / "guest"
SILICON = HERE / "silicon"

SUITE = "trixie"
"""Debian release of the guest's userland and of the kernel that stands for Ubuntu's OEM kernel."""
STOCK_SUITE = "bookworm"
"""Debian release whose cloud kernel (6.1) stands for Ubuntu's GA kernel."""
DISK_BYTES = 200 << 30
"""Virtual size; the file is sparse. `df` in the guest shows more than 190 GiB."""
FS_UUID = "0ba1ab00-0ba1-4a11-8a11-000000890a00"
FREE_BYTES = 6 << 30
"""What a build needs on the cache's disk."""

INCLUDE = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "python3",
    "sudo",
    "iproute2",
    "iputils-ping",
    "netbase",
    "ca-certificates",
    "udev",
    "procps",
    "kmod",
    "curl",
    "gpg",
    "gpgv",
    "zstd",
    "e2fsprogs",
    "adduser",
    "apt-utils",
    "debconf-utils",
    "initramfs-tools",
    "linux-base",
    "grub2-common",
    "grub-pc-bin",
)
"""Packages of the guest, beyond what apt itself needs."""

PRESEED = (
    "linux-image-amd64",
    "docker.io",
    "docker-cli",
    "pciutils",
    "rsyslog",
    "logrotate",
    "libatomic1",
    "libquadmath0",
    "libdrm-amdgpu1",
    "libnuma1",
)
"""Packages that a deploy may ask for: downloaded into the guest's apt cache natively, not installed."""

ENGINE_SUITE = "forky"
"""Debian release that the engine of :data:`ENGINES` other than the default is taken from."""
ENGINES = ("overlay2", "containerd")
"""Docker of the guest by its image store: the suite's own with overlay2, or a newer one with containerd's."""


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


def mmdebstrap_argv(hook: str, form: str, target: str, include: Sequence[str], suite: str = SUITE) -> list[str]:
    """Return the command that builds a Debian. Only the suite is named: the mirror is mmdebstrap's default."""
    return [
        packages.find("mmdebstrap") or "mmdebstrap",
        "--variant=apt",
        f"--format={form}",
        f"--include={','.join(include)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--skip=cleanup/apt,cleanup/reproducible",
        f"--customize-hook={hook}",
        suite,
        target,
    ]


def disk_argv(out: Path) -> list[str]:
    """Return the command that builds the virtual machine's disk."""
    hook = f'"{GUEST / "build.sh"}" "$1" "{GUEST}" "{SILICON}" "{out}"'
    return mmdebstrap_argv(hook, "null", "/dev/null", INCLUDE)


def build(argv: Sequence[str], settings: Mapping[str, str], *, what: str, log: Path) -> None:
    """Run a build as root. If this program is killed, the build ends too (and mmdebstrap clears up after itself)."""
    words = [f"{key}={value}" for key, value in settings.items()]
    path = f"PATH={os.environ.get('PATH', '')}:{packages.SBIN}"
    run(as_root(["setpriv", "--pdeathsig", "TERM", "env", path, *words, *argv]), what=what, log=log)


def engine_settings(engine: str) -> dict[str, str]:
    """Return what the build is told of the engine: from which suite it is taken, nothing for the guest's own."""
    return {"LAB_SUITE": SUITE, "LAB_ENGINE_SUITE": "" if engine == ENGINES[0] else ENGINE_SUITE}


def base(engine: str = ENGINES[0]) -> Path:
    """Return the folder with disk.raw (the base of every lab host's disk), building it if it is not cached."""
    kind = f"base-{engine}-"
    name = kind + digest_of(
        [GUEST, SILICON, Path(__file__)], SUITE, STOCK_SUITE, str(DISK_BYTES), FS_UUID, *INCLUDE, *PRESEED
    )
    cache = cache_root()
    if (cache / name / "disk.raw").exists():
        return cache / name
    with locked(cache, name):
        if (cache / name / "disk.raw").exists():
            return cache / name
        need_space(cache, FREE_BYTES)
        with step("building the guest's disk image (once; cached)"), fresh(cache, name) as work:
            log = cache / f"{name}.log"
            log.unlink(missing_ok=True)
            settings = {
                **engine_settings(engine),
                "LAB_STOCK_SUITE": STOCK_SUITE,
                "LAB_DISK_BYTES": str(DISK_BYTES),
                "LAB_FS_UUID": FS_UUID,
                "LAB_PRESEED_PACKAGES": " ".join(PRESEED),
            }
            build(disk_argv(work), settings, what="building the guest's image", log=log)
            if os.geteuid() != 0:
                run(as_root(["chown", "-R", f"{os.getuid()}:{os.getgid()}", str(work)]), what="chown")
        prune(cache, name, kind)
    return cache / name


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
