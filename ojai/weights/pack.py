"""The programs and the hub's client as one file that any Python from 3.11 on runs, with nothing to install.

The client is what is installed beside ojai, without its compiled parts: each of them is an accelerator that the package
does without. What goes in has to be the content that ``ojai/data/hub-client.yaml`` pins, whoever installed it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ojai import resources

#: What of a package is its content; the rest is compiled, or for other programs.
SUFFIXES = (".py", ".pem")

_MAIN = '''\
"""Made by ojai."""

import sys

if sys.argv[1] == "pull":
    from ojai.weights.pull import main
else:
    from ojai.weights.program import main

sys.exit(main())
'''

#: What of ojai itself goes in.
_OURS = ("program", "pull", "upstream")

#: A zip file's dates begin in 1980; one for all, so that the same content is the same file.
_DATE = (1980, 1, 1, 0, 0, 0)


class PackError(Exception):
    """The client beside ojai is not the one that is pinned."""


def content(name: str) -> dict[str, bytes]:
    """The files of a package that is installed, by their path. Raises :class:`PackageNotFoundError`."""
    found = distribution(name)
    files: dict[str, bytes] = {}
    for file in found.files or ():
        if file.suffix in SUFFIXES and ".." not in file.parts and not file.parts[0].endswith(".dist-info"):
            files[file.as_posix()] = Path(str(found.locate_file(file))).read_bytes()
    return files


def digest(files: dict[str, bytes]) -> str:
    """One hash over files and their paths."""
    found = hashlib.sha256()
    for path, data in sorted(files.items()):
        found.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return found.hexdigest()


def _pinned() -> Iterator[tuple[str, dict[str, bytes]]]:
    for name, pin in resources.data("hub-client").items():
        try:
            version, files = distribution(name).version, content(name)
        except (PackageNotFoundError, OSError):
            version, files = "nothing", {}
        if version != pin["version"] or digest(files) != pin["sha256"]:
            changed = " with other content" if version == pin["version"] else ""
            raise PackError(
                f"the hub's client beside ojai: found {name} {version}{changed}; expected {pin['version']} as it was "
                "released. What to do: install ojai anew (`make setup` in a clone, `pipx reinstall ojai`)."
            )
        yield name, files


@cache
def packed() -> bytes:
    """The file: the same bytes from the same content. Raises :class:`PackError`."""
    files = {"__main__.py": _MAIN.encode(), "ojai/__init__.py": b"", "ojai/weights/__init__.py": b""}
    for name in _OURS:
        files[f"ojai/weights/{name}.py"] = Path(__file__).with_name(f"{name}.py").read_bytes()
    for _, more in _pinned():
        files |= more
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(path, _DATE), data, zipfile.ZIP_DEFLATED)
    return target.getvalue()
