"""The image of llama.cpp's server, and the models that it serves, built once and kept in the lab's cache.

The program is where the official image has it. What is the lab's own is in the image's environment: software Vulkan
counts as a device, and one thread computes, since two on a busy machine wait for each other.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from ojai.lab import image, oci
from ojai.lab.shell import as_root, run, step

REPOSITORY = "ggml-org/llama.cpp"
BUILD = "server-vulkan-b11669"
#: Programs by tag: `…-next` differs by its build's name; `…-broken` lacks the program that it names.
TAGS = {BUILD: "llama-server", f"{BUILD}-next": "llama-server", f"{BUILD}-broken": "llama-of-another-image"}

SUITE = "forky"
INCLUDE = ("llama.cpp-tools", "libggml0-backend-vulkan", "mesa-vulkan-drivers", "dash", "coreutils", "curl")
ENVIRONMENT = (
    "LLAMA_ARG_HOST=0.0.0.0",  # the official image's own
    "GGML_VK_VISIBLE_DEVICES=0",
    "VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json",
    "LLAMA_ARG_THREADS=1",
)
#: What the models are written with.
WRITER = ("gguf==0.19.0", "numpy==2.3.5")
TINY = Path(__file__).with_name("tiny.py")

#: mmdebstrap's `extract` unpacks and runs nothing: these links, and the accounts, are of packages' programs.
_LINKS = (
    'mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64" "$1/etc" "$1/app" "$1/models"; '
    'for name in bin sbin lib lib64; do ln -s "usr/$name" "$1/$name"; done; '
    'ln -s /usr/bin/llama-server "$1/app/llama-server"; ln -s dash "$1/usr/bin/sh"; '
    f'printf %s {shlex.quote(oci.PASSWD)} >"$1/etc/passwd"; printf %s {shlex.quote(oci.GROUP)} >"$1/etc/group"'
)


def build(cache: Path) -> Path:
    """Return the folder with `layout` (OCI), `root` (the file system) and `root/models`, built under `cache` unless it
    is there already. Takes half a minute, and packages of Debian and of Python's index. Raises LabError."""
    digest = image.digest_of([Path(__file__), TINY])
    name = f"llamacpp-{digest}"
    with image.locked(cache, name):
        if not (cache / name).exists():
            with step("building llama.cpp's image and its models"), image.fresh(cache, name) as work:
                _file_system(work / "root")
                _models(work)
                _layout(work)
    return cache / name


def _file_system(root: Path) -> None:
    words = ["--quiet", "--variant=extract", "--mode=root", "--format=directory", f"--setup-hook={_LINKS}"]
    # A mirror's copy of Debian's testing may be past its date; its signature is checked all the same.
    words += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"']
    words += [f"--include={','.join(INCLUDE)}"]
    run(as_root(["mmdebstrap", *words, SUITE, str(root)]), what="making llama.cpp's root file system")


def _models(work: Path) -> None:
    run([sys.executable, "-m", "venv", work / "venv"], what="making an environment to write models in")
    python = str(work / "venv/bin/python")
    run([python, "-m", "pip", "install", "--quiet", *WRITER], what=f"installing {' and '.join(WRITER)}")
    models = work / "root" / "models"
    run(as_root([python, str(TINY), str(models)]), what="writing the models")
    for file in sorted(models.glob("*.gguf")):
        if file.stem != "mmproj":
            small = f"/models/{file.stem}-Q4_K_M.gguf"
            words = [
                "chroot",
                str(work / "root"),
                "/usr/bin/llama-quantize",
                f"/models/{file.name}",
                small,
                "Q4_K_M",
                "1",
            ]
            run(as_root(words), what=f"quantising {file.name}")
    run(as_root(["rm", "-rf", str(work / "venv")]), what="removing the environment")


def _layout(work: Path) -> None:
    whole, layer, layout = work / "whole.tar", work / "layer.tar", work / "layout"
    run(as_root(["tar", "-C", str(work / "root"), "-cf", str(whole), "."]), what="packing llama.cpp's files")
    oci.write_layer(whole, layer, lambda name: bool(name) and not name.startswith(("dev", "models/")))
    oci.umoci("init", "--layout", layout)
    first = f"{layout}:{BUILD}"
    oci.umoci("new", "--image", first)
    oci.umoci("raw", "add-layer", "--image", first, "--history.created", oci.CREATED, layer)
    for tag, program in TAGS.items():
        target = f"{layout}:{tag}"
        if tag != BUILD:
            oci.umoci("tag", "--image", first, tag)
        words: list[str] = ["config", "--image", target, "--created", oci.CREATED, "--no-history"]
        words += ["--architecture", "amd64", "--os", "linux", "--config.workingdir", "/app"]
        words += ["--config.entrypoint", f"/app/{program}", "--config.label", "org.ojai.lab.build=true"]
        for variable in (*ENVIRONMENT, f"OJAI_LAB_BUILD={tag}"):
            words += ["--config.env", variable]
        oci.umoci(*words)
    oci.umoci("gc", "--layout", layout)
    for file in (whole, layer):
        file.unlink()


def push(folder: Path, registry: str) -> None:
    """Push every tag to a registry (`host:port`, plain HTTP)."""
    oci.push(folder / "layout", registry, REPOSITORY, tuple(TAGS))


def give(folder: Path, hub: Path, repository: str, commit: str, files: dict[str, str]) -> None:
    """Have the lab's hub, which keeps its models in ``hub``, serve these (name in the repository -> name of ours)."""
    place = hub / "given" / repository / commit
    place.mkdir(parents=True, exist_ok=True)
    for name, ours in files.items():
        (place / name).write_bytes((folder / "root" / "models" / f"{ours}.gguf").read_bytes())
