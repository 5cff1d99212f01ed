"""Images and models that ojai fetched and nothing uses any more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyinfra import host
from pyinfra.api import operation

from ojai.facts.prune import Commit, Kept, KeptByOjai, PulledImage
from ojai.operations import Steps, steps_or_noop
from ojai.operations.docker import IMAGES, delete_image
from ojai.operations.ledger import forget
from ojai.releases import REPOSITORY, repository
from ojai.settings import HostSettings
from ojai.weights.program import OURS, STATE, folder_name, record_name


@dataclass(frozen=True)
class Unused:
    """Something that may go: ``what`` for a person, ``size`` in bytes, ``remove`` as shell."""

    kind: str
    what: str
    size: int
    remove: str


def unused(settings: HostSettings, found: Kept) -> list[Unused]:
    """What no service, saved release, lock, container or process uses. Unknown is never unused."""
    if found.containers is None:
        return []
    return [*_images(settings, found), *_models(settings, found)]


def _images(settings: HostSettings, found: Kept) -> Iterator[Unused]:
    wanted = {service.image for service in settings.resolved}
    locked = {image.digest for image in settings.lock.images.values()} if settings.lock else set()
    ours = {image.name for image in found.images}
    running = {one.image for one in found.containers or ()}
    for image in found.images:
        digests = {one.rpartition("@")[2] for one in image.RepoDigests}
        kept = image.id in running or digests & locked or any(_names(name, image) for name in wanted)
        if kept or not _ours_alone(image, ours):
            continue
        if any(image.name.partition("@")[0] in text and not _other_digest(image, text) for text in found.texts):
            continue
        line = shlex.quote(f"{image.name} ")
        forgotten = (
            f"{forget('images', [image.name])}; grep -vF -- {line} {IMAGES} > {IMAGES}.new; mv {IMAGES}.new {IMAGES}"
        )
        yield Unused("image", image.name, image.size, f"{delete_image(image.name, '')} && {{ {forgotten}; }}")


def _names(reference: str, image: PulledImage) -> bool:
    """Whether a name stands for the image."""
    name, _, digest = reference.partition("@")
    if digest:
        return any(one.endswith(f"@{digest}") for one in image.RepoDigests)
    tagged = ((repository(tag), tag.rpartition(":")[2]) for tag in (image.name.partition("@")[0], *image.RepoTags))
    return (repository(name), name.rpartition(":")[2]) in tagged


def _ours_alone(image: PulledImage, ours: set[str]) -> bool:
    """Whether it has no name but those that ojai gave it, none of them of a saved release."""
    repositories = {repository(name) for name in ours}
    tags = {name.partition("@")[0] for name in ours}
    if any(tag.partition(":")[0] == REPOSITORY or tag not in tags for tag in image.RepoTags if tag != "<none>:<none>"):
        return False
    return all(repository(digest) in repositories for digest in image.RepoDigests)


def _other_digest(image: PulledImage, text: str) -> bool:
    """Whether a unit that names the image's tag names another digest of it."""
    tag = image.name.partition("@")[0]
    mine = [one.rpartition("@")[2] for one in image.RepoDigests]
    return f"{tag}@sha256:" in text and not any(digest in text for digest in mine)


def _models(settings: HostSettings, found: Kept) -> Iterator[Unused]:
    caches = [path for name, path in settings.caches.items() if name not in settings.cache_folders]
    records = found.records or {}
    wanted = {
        (folder_name(one.model), records.get(record_name(one.model, one.revision)))
        for service in settings.resolved
        for one in service.wanted
    }
    locked = {model.commit for model in settings.lock.models.values()} if settings.lock else set()
    names = {service.name for service in settings.resolved}
    mounted = [mount for one in found.containers or () if one.name not in names for mount in one.mounts if mount]
    for one in found.models:
        folder = PurePosixPath(one.folder)
        own = any(folder.is_relative_to(path) for path in caches)
        used = (
            one.commit in locked
            or one.foreign
            or one.open
            or one.their_refs
            or (folder.name, one.commit) in wanted
            or (folder.name, None) in wanted
            or any(folder.is_relative_to(mount) or PurePosixPath(mount).is_relative_to(folder) for mount in mounted)
            or any(_says(text, folder.name, one.commit) for text in found.texts)
        )
        if own and not used:
            yield Unused(
                "model",
                f"{folder.name.removeprefix('models--').replace('--', '/', 1)} at {one.commit[:12]}",
                sum(one.blobs.values()),
                _remove(one, [name for name, commit in records.items() if commit == one.commit]),
            )


def _says(text: str, folder: str, commit: str) -> bool:
    """Whether a unit starts from a commit: it names it, or the model and no commit at all."""
    model = folder.removeprefix("models--").replace("--", "/", 1)
    return commit in text or (model in text and "--revision" not in text)


def _remove(one: Commit, records: list[str]) -> str:
    """Shell that takes a commit away: records first, so that nothing believes what is half gone."""
    notes = [f"{one.folder}\tsnapshots\t{one.commit}", *(f"{one.folder}\trefs\t{name}" for name in one.refs)]
    blobs = [f"{one.folder}/blobs/{name}" for name in one.blobs]
    refs = [f"{one.folder}/refs/{name}" for name in one.refs]
    file = f"{STATE}/{OURS}"
    gone = [f"{STATE}/{name}" for name in records]
    lines = [f"rm -f {shlex.join(gone)}"] if gone else []
    lines += [f"rm -f {shlex.join(refs)}"] if refs else []
    lines += [f"rm -rf {shlex.quote(f'{one.folder}/snapshots/{one.commit}')}"]
    lines += [f"rm -f {shlex.join(blobs)}"] if blobs else []
    patterns = " ".join(f"-e {shlex.quote(note)}" for note in notes)
    lines += [f"{{ grep -vxF {patterns} {file} > {file}.new || true; }} && mv {file}.new {file}"]
    empty = f"find {shlex.quote(one.folder)} -depth -type d -empty -delete"
    lines += [f"if rmdir {shlex.quote(f'{one.folder}/snapshots')} 2>/dev/null; then {empty}; fi"]
    return " && ".join(lines)


@operation()
def removed(settings: HostSettings) -> Steps:
    """Remove what :func:`unused` finds."""
    steps = (one.remove for one in unused(settings, host.get_fact(KeptByOjai)))
    yield from steps_or_noop(steps, "nothing is unused")
