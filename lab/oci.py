"""The image of the stand-in model server, built without a Docker daemon and pushed to the lab's registry.

A small Debian root file system (mmdebstrap), cut down to a shell, some coreutils and Python, and the server
on top; umoci writes the OCI layout, skopeo pushes it. It carries the real image's name, entry point and
environment, and labels that say what it is. Every part is dated SOURCE_DATE_EPOCH, so the same inputs and the
same Debian packages give the same digests.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from ojai.lab.errors import LabError
from ojai.lab.modelserver import NOTICE
from ojai.lab.modelserver.arguments import contract_file
from ojai.lab.shell import run, step

PACKAGES: tuple[str, ...] = ("mmdebstrap", "umoci", "skopeo")
"""Debian packages that `build` and `push` need."""

REPOSITORY = "vllm/vllm-openai-rocm"
TAGS: tuple[str, ...] = ("v0.20.1", "latest", "v0.20.1-next", "broken")
"""`latest` is `v0.20.1`; `v0.20.1-next` differs by its build's name; `broken` lacks the program that it names."""

SUITE = "trixie"
EPOCH = 1_777_852_800
"""Date of everything in the image: 2026-05-04, when vLLM 0.20.1 was published."""
CREATED = "2026-05-04T00:00:00Z"
HOME = "/opt/ojai-lab"
SOURCE = Path(__file__).resolve().parent / "modelserver"

INCLUDE = ("python3-minimal", "libpython3-stdlib", "dash", "bash", "coreutils", "base-files", "libc-bin")

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # The real image's own (its Dockerfile's last stage):
    "SAFETENSORS_FAST_GPU": "1",
    "HIP_FORCE_DEV_KERNARG": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HSA_ENABLE_IPC_MODE_LEGACY": "1",
}

COMMANDS = (
    "[", "bash", "cat", "chmod", "chown", "cp", "cut", "date", "dash", "dd", "df", "dirname", "basename",
    "du", "echo", "env", "expr", "false", "head", "id", "ln", "ls", "mkdir", "mktemp", "mv", "nproc",
    "printf", "pwd", "python3", "python3.13", "readlink", "realpath", "rm", "rmdir", "seq", "sh", "sleep",
    "sort", "stat", "sync", "tail", "tee", "test", "timeout", "touch", "tr", "true", "tty", "uname", "uniq",
    "wc", "whoami", "getconf", "yes",
)  # fmt: skip
"""What stays of /usr/bin."""

LIBRARIES = (
    "ld-linux-x86-64.so*", "libc.so*", "libm.so*", "libdl.so*", "libpthread.so*", "librt.so*", "libutil.so*",
    "libresolv.so*", "libnss_files.so*", "libnss_dns.so*", "libz.so*", "libexpat.so*", "libtinfo.so*",
    "libselinux.so*", "libpcre2-8.so*", "libacl.so*", "libattr.so*", "libgmp.so*", "libcap.so*",
    "libgcc_s.so*",
)  # fmt: skip
"""What stays of the shared libraries."""

PYTHON_LEFT_OUT = (
    "asyncio", "concurrent", "ctypes", "curses", "dbm", "ensurepip", "idlelib", "lib2to3", "multiprocessing",
    "pydoc_data", "sqlite3", "test", "tkinter", "tomllib", "turtledemo", "unittest", "venv", "wsgiref", "xml",
    "xmlrpc", "zoneinfo", "_pyrepl", "_pyio.py", "turtle.py", "pydoc.py", "doctest.py",
    "pdb.py", "imaplib.py", "mailbox.py", "smtplib.py", "ftplib.py", "poplib.py", "tarfile.py",
    "pickletools.py", "statistics.py", "antigravity.py", "this.py", "cProfile.py", "profile.py", "pstats.py",
    "optparse.py",
)  # fmt: skip
"""What goes of Python's standard library (names below /usr/lib/python3.13)."""

EXTENSIONS_LEFT_OUT = (
    "_ssl*", "_hashlib*", "_sqlite3*", "_curses*", "_dbm*", "_gdbm*", "_ctypes*", "_bz2*", "_lzma*", "_uuid*",
    "_crypt*", "nis*", "readline*", "_decimal*", "_test*", "_codecs_*", "_multiprocessing*", "_asyncio*",
    "_tkinter*", "audioop*", "ossaudiodev*", "xxlimited*", "_remote_debugging*",
)  # fmt: skip
"""Python's compiled modules that would need a library that is not kept."""

PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
# `docker run --group-add NAME` looks names up in here, so both must be there. 109 need not be the host's number
# for `render`: a user other than root gets into the device only by the host's number.
GROUP = "root:x:0:\nvideo:x:44:\nrender:x:109:\nnogroup:x:65534:\n"

PROGRAM = f"""#!/usr/bin/python3 -IS
# {NOTICE}
import sys

sys.path.insert(0, "{HOME}")
from modelserver.server import main

main()
"""
PROGRAM_VERSION = f"""\"\"\"{NOTICE}\"\"\"

__version__ = "0.20.1"
"""


def inputs_hash() -> str:
    """Return a hash over everything that decides what the image holds, except Debian's packages."""
    digest = hashlib.sha256()
    for path in [Path(__file__).resolve(), contract_file(), *sorted(SOURCE.glob("*"))]:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def keep(name: str) -> bool:
    """Whether a path of the root file system (relative, POSIX) stays in the image."""
    parts = PurePosixPath(name).parts
    top = "/".join(parts[:2])
    if not parts:
        return False
    if parts[0] in ("bin", "lib", "lib64", "sbin"):
        return len(parts) == 1
    if parts[0] in ("tmp", "root", "run", "dev", "proc", "sys"):
        return len(parts) == 1
    if parts[0] == "etc":
        return len(parts) == 1 or parts[1] in ("debian_version", "os-release", "ld.so.conf", "ld.so.conf.d")
    if parts[0] == "opt":
        return True
    if parts[0] == "var":
        return len(parts) == 1 or (parts[1] == "tmp" and len(parts) == 2)
    if parts[0] != "usr":
        return False
    if len(parts) <= 2:
        return top in ("usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local")
    if top == "usr/local":
        return True
    if top == "usr/bin":
        return parts[2] in COMMANDS
    if top == "usr/lib64":
        return True
    if top != "usr/lib":
        return False
    if parts[2] == "os-release":
        return True
    if parts[2] == "x86_64-linux-gnu":
        return len(parts) == 3 or (len(parts) == 4 and any(fnmatch.fnmatch(parts[3], pattern) for pattern in LIBRARIES))
    if parts[2] != "python3.13":
        return False
    if len(parts) == 3:
        return True
    if parts[3] in PYTHON_LEFT_OUT or parts[3] == "__pycache__":
        # Compiled files are judged by the source they belong to.
        if parts[3] != "__pycache__" or len(parts) == 4:
            return parts[3] == "__pycache__"
        return f"{parts[4].partition('.')[0]}.py" not in PYTHON_LEFT_OUT
    if parts[3] == "lib-dynload":
        return len(parts) == 4 or not any(fnmatch.fnmatch(parts[4], pattern) for pattern in EXTENSIONS_LEFT_OUT)
    return True


def _normal(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = EPOCH
    member.uname = member.gname = ""
    member.pax_headers = {}
    return member


def write_layer(source: Path, target: Path, expected: Callable[[str], bool]) -> None:
    """Copy the expected members of a tar archive into another, sorted and with one date."""
    with tarfile.open(source) as whole, tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as layer:
        members = {member.name.removeprefix("./").strip("/"): member for member in whole.getmembers()}
        for name in sorted(members):
            member = members[name]
            if not expected(name) or not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                continue
            data = whole.extractfile(member) if member.isfile() else None
            member.name = name
            layer.addfile(_normal(member), data)


def _is_server(name: str) -> bool:
    return name.startswith((HOME.lstrip("/"), "usr/local/"))


def _stage(folder: Path) -> None:
    """Lay out what goes on top of Debian's files: the server, its flags, and the accounts."""
    server = folder / HOME.lstrip("/") / "modelserver"
    server.mkdir(parents=True)
    for path in [*SOURCE.glob("*.py"), *SOURCE.glob("*.json"), contract_file()]:
        shutil.copyfile(path, server / path.name)
    binary = folder / "usr/local/bin/vllm"
    binary.parent.mkdir(parents=True)
    binary.write_text(PROGRAM)
    binary.chmod(0o755)
    # `python3 -c 'import vllm; print(vllm.__version__)'`, which the 26B guide asks an image.
    package = folder / "usr/local/lib/python3.13/dist-packages/vllm/__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text(PROGRAM_VERSION)


def _file_system(work: Path) -> Path:
    """Make the whole root file system as a tar archive, with Python's files compiled."""
    staged = work / "staged"
    _stage(staged)
    archive = work / "whole.tar"
    # Compiled here, natively: in a container that is thrown away each start would compile again, and under
    # emulation that takes long. Unchecked hashes instead of dates keep the files the same in every build.
    compile_all = (
        'chroot "$1" env PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m compileall -q -j 1 '
        f"-x '/({'|'.join(sorted(PYTHON_LEFT_OUT))})/' --invalidation-mode unchecked-hash "
        f"/usr/lib/python3.13 {HOME} /usr/local/lib"
    )
    run(
        [
            "mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(INCLUDE)}", "--format=tar",
            f"--extract-hook=copy-in {staged}/opt {staged}/usr /",
            f"--extract-hook={compile_all}",
            SUITE, archive,
        ],
        what="making the model server's root file system",
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )  # fmt: skip
    return archive


def _accounts_layer(target: Path) -> None:
    """Write the layer with the accounts and the empty folders of a container."""
    with tarfile.open(target, "a", format=tarfile.GNU_FORMAT) as layer:
        for name, text in (("etc/group", GROUP), ("etc/passwd", PASSWD)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o644
            layer.addfile(_normal(member), io.BytesIO(text.encode()))
        folder = tarfile.TarInfo("app")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        layer.addfile(_normal(folder))


def umoci(*words: str | Path) -> None:
    """Run umoci. Raises LabError."""
    run(["umoci", *words], what="writing an image")


def _configure(image: str, program: str, environment: Iterable[str], labels: dict[str, str]) -> None:
    words: list[str] = ["config", "--image", image, "--created", CREATED, "--no-history"]
    words += ["--architecture", "amd64", "--os", "linux", "--config.workingdir", "/app"]
    for part in (program, "serve"):
        words += ["--config.entrypoint", part]
    for variable in environment:
        words += ["--config.env", variable]
    for name, value in labels.items():
        words += ["--config.label", f"{name}={value}"]
    umoci(*words)


def _layout(work: Path, layers: list[Path]) -> Path:
    """Write the OCI layout with one image a tag over the same layers."""
    layout = work / "layout"
    umoci("init", "--layout", layout)
    for tag, program in (("v0.20.1", "vllm"), ("v0.20.1-next", "vllm"), ("broken", "vllm-of-another-image")):
        image = f"{layout}:{tag}"
        umoci("new", "--image", image)
        for layer in layers:
            words = ["raw", "add-layer", "--image", image, "--history.created", CREATED]
            umoci(*words, "--history.created_by", f"ojai lab: {layer.stem}", layer)
        labels = {
            "org.opencontainers.image.title": "ojai lab: stand-in for vllm/vllm-openai-rocm",
            "org.opencontainers.image.description": NOTICE,
            "org.opencontainers.image.version": tag,
            "org.ojai.lab.stand-in": "true",
        }
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        _configure(image, program, [*variables, f"OJAI_LAB_BUILD={tag}"], labels)
    umoci("tag", "--image", f"{layout}:v0.20.1", "latest")
    umoci("gc", "--layout", layout)
    return layout


def build(cache: Path) -> Path:
    """Return the OCI layout of the image, built under `cache` unless the same inputs are there already.

    Takes some ten seconds and Debian's packages the first time. Raises LabError.
    """
    expected = cache / f"modelserver-{inputs_hash()}"
    if (expected / "index.json").exists():
        return expected
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}. Install the Debian packages of those names.")
    cache.mkdir(parents=True, exist_ok=True)
    with (
        step("building the stand-in model server's image"),
        tempfile.TemporaryDirectory(dir=cache, prefix="modelserver.") as folder,
    ):
        work = Path(folder)
        work.chmod(0o755)
        archive = _file_system(work)
        base, server = work / "debian.tar", work / "modelserver.tar"
        write_layer(archive, base, lambda name: keep(name) and not _is_server(name))
        _accounts_layer(base)
        write_layer(archive, server, _is_server)
        layout = _layout(work, [base, server])
        try:
            layout.rename(expected)
        except OSError:
            # Another build of the same inputs came first; it is as good.
            if not (expected / "index.json").exists():
                raise
    return expected


def push(layout: Path, registry: str, repository: str = REPOSITORY, tags: tuple[str, ...] = TAGS) -> dict[str, str]:
    """Push every tag to a registry (`host:port`, plain HTTP); return tag -> manifest digest."""
    digests: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for tag in tags:
            target = f"docker://{registry}/{repository}:{tag}"
            said = Path(folder) / tag
            run(
                [
                    "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
                    "--preserve-digests", "--digestfile", said, f"oci:{layout}:{tag}", target,
                ],
                what=f"pushing {target}",
                env={**os.environ, "no_proxy": "*", "NO_PROXY": "*"},
            )  # fmt: skip
            digests[tag] = said.read_text().strip()
    return digests
