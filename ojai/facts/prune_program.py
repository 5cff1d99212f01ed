"""What a host keeps of images and models that ojai fetched, and who else has to do with it. Runs on the host.

Nothing is changed. The answer is JSON on standard output; what may be removed is decided where it is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/ojai")
UNITS = Path("/etc/systemd/system")


def lines(file: Path) -> list[str]:
    """A file's lines; none without it."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def docker(*words: str) -> list[Any] | None:
    """What ``docker … inspect`` or ``ls`` says, an object a line; None if it does not answer."""
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0 and not done.stdout.strip():
        return None
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def images(state: Path) -> list[dict[str, Any]]:
    """The images that ojai pulled and that are still there; not what somebody else has pulled by that name since."""
    found = []
    ids = dict(line.rpartition(" ")[::2] for line in lines(state / "images"))
    for name in lines(state / "added" / "images"):
        for one in docker("image", "inspect", "--format", "{{json .}}", name) or ():
            if one["Id"] != ids.get(name):
                continue
            known = {key: one.get(key) or [] for key in ("RepoTags", "RepoDigests")}
            found.append({"name": name, "id": one["Id"], "size": one.get("Size", 0), **known})
    return found


def containers() -> list[dict[str, Any]] | None:
    """Every container, running or not: its image, and the host's folders in it."""
    listed = docker("container", "ls", "--all", "--no-trunc", "--format", "{{json .ID}}")
    if not listed:
        return listed
    every = docker("container", "inspect", "--format", "{{json .}}", *listed)
    if every is None or len(every) != len(listed):
        return None
    return [
        {
            "name": one["Name"].lstrip("/"),
            "image": one["Image"],
            "mounts": [mount.get("Source") or "" for mount in one.get("Mounts") or ()],
        }
        for one in every
    ]


def texts(state: Path, units: Path) -> list[str]:
    """All units, and those of saved releases and of what was adopted: they say what is started."""
    places = [*units.glob("*.service"), *(state / "releases").glob("*/*.unit"), *(state / "adopted").rglob("*")]
    return ["\n".join(lines(place)) for place in sorted(places) if place.is_file()]


def opened() -> set[str]:
    """Names of the files that some process has open or mapped, of those in a folder ``blobs``."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    found.add(str(link.readlink()))
        found |= {line.rpartition(" ")[2] for line in lines(process / "maps") if "/blobs/" in line}
    return {Path(path.removesuffix(" (deleted)")).name for path in found if "/blobs/" in path}


def models(state: Path) -> Iterator[dict[str, Any]]:
    """The commits that ojai fetched and that are still there, with what is theirs alone."""
    noted = [line.split("\t") for line in lines(state / "weights" / "ours")]
    refs = {(words[0], words[2]) for words in noted if len(words) == 3 and words[1] == "refs"}
    commits = sorted({(words[0], words[2]) for words in noted if len(words) == 3 and words[1] == "snapshots"})
    in_use = opened() if commits else set()
    for folder, commit in commits:
        place = Path(folder) / "snapshots" / commit
        if not place.is_dir() or place.is_symlink() or os.path.realpath(folder) != folder:
            continue
        mine, foreign = linked(place)
        others: set[str] = set()
        for snapshot in (Path(folder) / "snapshots").iterdir():
            if snapshot.name != commit:
                others |= linked(snapshot)[0]
        alone = {name: size(Path(folder) / "blobs" / name) for name in sorted(mine - others)}
        named = [name for name, known in references(Path(folder)) if known == commit]
        yield {
            "folder": folder,
            "commit": commit,
            "blobs": alone,
            "foreign": sorted(foreign),
            "open": sorted(mine & in_use - others),
            "refs": [name for name in named if (folder, name) in refs],
            "their_refs": [name for name in named if (folder, name) not in refs],
        }


def linked(snapshot: Path) -> tuple[set[str], set[str]]:
    """The blobs that a snapshot leads to, and what in it is none of the client's links."""
    blobs, foreign = set(), set()
    store = snapshot.parent.parent / "blobs"
    for path in snapshot.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            continue
        target = Path(os.path.normpath(path.parent / path.readlink())) if path.is_symlink() else path
        if target.parent == store:
            blobs.add(target.name)
        else:
            foreign.add(str(path.relative_to(snapshot)))
    return blobs, foreign


def references(folder: Path) -> Iterator[tuple[str, str]]:
    """Names of branches and tags in a model's folder, and the commits that they name."""
    for file in (folder / "refs").rglob("*"):
        if file.is_file():
            yield file.relative_to(folder / "refs").as_posix(), "".join(lines(file)).strip()


def size(file: Path) -> int:
    """Bytes; 0 for what is not there."""
    try:
        return file.lstat().st_size
    except OSError:
        return 0


def records(state: Path) -> dict[str, str]:
    """Name of a record of what was fetched -> its commit."""
    found = {}
    for file in sorted((state / "weights").glob("models--*@*")):
        found[file.name] = next((line.split("\t")[1] for line in lines(file) if line.startswith("commit\t")), "")
    return found


def main(state: Path = STATE, units: Path = UNITS) -> None:
    """Print all of it."""
    json.dump(
        {
            "images": images(state),
            "containers": containers(),
            "models": list(models(state)),
            "records": records(state),
            "texts": texts(state, units),
        },
        sys.stdout,
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
