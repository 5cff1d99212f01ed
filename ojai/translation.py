"""A server that somebody else started, as a service of an inventory; and what would change between the two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ojai import accelerators, engines, profiles
from ojai.containers import Container, UnreadableError, command_line, inspection, script
from ojai.engines import Engine, Reading, ResolvedService
from ojai.paths import env_file
from ojai.profiles import Profile, ProfileError, deviations
from ojai.schema.errors import field_errors
from ojai.schema.nearest import nearest
from ojai.settings import HostSettings, ServiceSettings

#: How an option is written in the comparison where its long name is not what people write.
_SHORT = {"--env": "-e", "--volume": "-v", "--publish": "-p", "--interactive": "-i", "--tty": "-t", "--detach": "-d"}
_UNIT = "systemd runs the container in the foreground, restarts it and starts it at boot"
_NO_SETTING = "a service has no setting for it"
_REASONS = {
    "--detach": _UNIT,
    "--restart": _UNIT,
    "--publish": "the container has the host's network, so the server listens on the host's own port",
    "--env-file": "its lines go into the environment file of the service",
    "--env": "a service cannot leave out a variable of its profile",
    "--label": "labels are of the tool that made the container",
}


@dataclass(frozen=True)
class Change:
    """One argument that differs: ``theirs`` None where it is added, ``ours`` None where it is left out.

    ``lost``: what it says can be said by no setting.
    """

    what: str
    theirs: str | None
    ours: str | None
    why: str
    lost: bool = False

    @property
    def kind(self) -> str:
        """In one word."""
        return "added" if self.theirs is None else "removed" if self.ours is None else "different"


@dataclass(frozen=True)
class Translation:
    """A server in this project's words.

    + service: the settings of the service, but those that are the default or the profile's
    + directories: the host's caches that stay where they are, by name
    + secrets: variables that go into ``env_file``
    + changes: between its command and ours
    + warnings, notes: on the service, and on how the command was read
    """

    service: Mapping[str, Any]
    directories: Mapping[str, str]
    secrets: tuple[str, ...]
    env_file: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def container_of(text: str) -> Container:
    """The container that serves a model in a text: a script with ``docker run``, or an inspection.

    Raises :class:`UnreadableError`.
    """
    if text.lstrip()[:1] in ("[", "{"):
        return inspection.read(text)
    found = script.read(text)
    serving = {line: one for line, one in found.items() if serves(one)} or found
    if len(serving) > 1:
        raise UnreadableError(
            f"found docker run in lines {', '.join(map(str, serving))}; expected one that serves a model. What to do: "
            "put it into a file of its own, with the variables that it uses"
        )
    return next(iter(serving.values()))


def serves(container: Container) -> bool:
    """Whether it is a server of an engine that is known here."""
    return _engine_of(container) is not None


def _engine_of(container: Container) -> tuple[Engine, str] | None:
    for engine in map(engines.get, engines.NAMES):
        model = engine.model(container)
        if model is not None:
            return engine, model
    return None


def translate(container: Container, accelerator: str = accelerators.DEFAULT) -> Translation:
    """The container as a service. Raises :class:`UnreadableError` for one that no profile is for."""
    found = _engine_of(container)
    if found is None:
        raise UnreadableError(
            f"found image {container.image}, whose command names no model; expected a server of "
            f"{' or '.join(engines.NAMES)}. What to do: name the container or the command that serves the model"
        )
    engine, model = found
    notes = list(container.notes)
    of_model = [profile for name in profiles.names() if (profile := profiles.load(name)).model == model]
    if not of_model:
        near = nearest(model.rpartition("/")[2], profiles.names())
        if near is None:
            raise UnreadableError(
                f"found model {model}, which no profile is for; expected one of {', '.join(profiles.names())}, or a "
                "variant of its model. What to do: write a profile for it (CONTRIBUTING.md)"
            )
        of_model = [profiles.load(near)]
        notes.append(f"no profile is for {model}: {near} is the nearest by its name; check that it is the same model")
    attempts = [_attempt(engine, container, profile, model, accelerator) for profile in of_model]
    profile, settings, refused, reading = min(attempts, key=lambda one: (len(one[1]) + len(one[2]), len(one[0].name)))
    ours = _resolve(profile, settings, accelerator)
    # What belongs to one image is copied for it: a folder of its own, not the one that the owner has.
    of_image = {ours.command.mounts[folder] for folder in ours.command.image_directories}
    names = {target: name for name, target in engine.mounts.items() if target not in of_image}
    folders = {target: mount.source for target, mount in container.mounts.items() if mount.source[:1] in "/~$."}
    directories = {names[target]: folder for target, folder in folders.items() if target in names}
    ours = _resolve(profile, settings, accelerator, directories)
    secrets = tuple(dict.fromkeys([*container.secrets, *reading.secrets.values()]))
    changes = tuple(_changes(engine, container, ours, reading, refused))
    return Translation(
        service={"profile": profile.name, **settings},
        directories=directories,
        secrets=secrets,
        env_file=env_file(ours.name),
        changes=changes,
        warnings=(*ours.warnings, *map(str, ours.standing)),
        notes=tuple(notes),
    )


def _attempt(
    engine: Engine, container: Container, profile: Profile, model: str, accelerator: str
) -> tuple[Profile, dict[str, Any], dict[str, str], Reading]:
    """The container as a service of this profile: what may be said, and what is refused with the reason."""
    base = _resolve(profile, {"model": model} if model != profile.model else {}, accelerator)
    reading = engine.read(container, base)
    wanted: dict[str, Any] = {"name": container.value("--name")} if container.value("--name") else {}
    wanted |= {"model": model} if model != profile.model else {}
    wanted |= {**_image(container, profile), **reading.settings}
    defaults = ServiceSettings.model_fields
    settings: dict[str, Any] = {}
    refused: dict[str, str] = {}
    known = {str(refusal) for refusal in _resolve(profile, {}, accelerator).standing}
    for name, value in wanted.items():
        if defaults[name].default == value or (name == "host" and value == base.host):
            continue
        for piece, so_far in _pieces(name, value):
            tried = {**settings, name: so_far(settings.get(name))}
            why = _refusal(profile, tried, accelerator, known)
            if why:
                refused[piece] = why
            else:
                settings = tried
    return profile, settings, refused, reading


def _pieces(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting in the parts that can be refused one by one: the name of each, and how it joins those before it."""
    if name == "environment":
        for variable, text in value.items():
            yield f"-e {variable}", lambda before, pair=(variable, text): {**(before or {}), pair[0]: pair[1]}
    elif name == "engine_args":
        groups: list[list[str]] = []
        for word in value:
            if word.startswith("-") or not groups:
                groups.append([])
            groups[-1].append(word)
        for group in groups:
            yield group[0].partition("=")[0], lambda before, group=group: [*(before or ()), *group]
    else:
        yield name, lambda before: value


def _refusal(profile: Profile, settings: Mapping[str, Any], accelerator: str, known: set[str]) -> str:
    """Why these settings are not accepted; empty where they are."""
    try:
        standing = [str(refusal) for refusal in _resolve(profile, settings, accelerator).standing]
    except ValidationError as error:
        return "; ".join(str(one) for one in field_errors(error, ServiceSettings, settings))
    except ProfileError as error:
        return str(error)
    return "; ".join(text for text in standing if text not in known)


def _resolve(
    profile: Profile, settings: Mapping[str, Any], accelerator: str, caches: Mapping[str, str] | None = None
) -> ResolvedService:
    directory: str = HostSettings.model_fields["data_directory"].default
    service = ServiceSettings.model_validate({"profile": profile.name, **settings})
    return service.resolve(accelerator=accelerator, data_directory=directory, elsewhere=caches or {})


def _image(container: Container, profile: Profile) -> dict[str, Any]:
    """The image, where it is not the profile's. A tag that moves stands for that, unless its digest is known."""
    named = container.image.removeprefix("docker.io/")
    if ":" not in named.rpartition("/")[2]:
        named += ":latest"
    own = profile.image.rpartition(":")[0]
    if named == profile.image or (named == f"{own}:latest" and container.image_digest is None):
        return {}
    return {"image": named, **({"image_digest": container.image_digest} if container.image_digest else {})}


def _changes(
    engine: Engine, container: Container, ours: ResolvedService, reading: Reading, refused: Mapping[str, str]
) -> Iterator[Change]:
    here = command_line.container(ours.command.docker_argv[2:])
    theirs, mine = _units(engine, container), _units(engine, here)
    deviating = _deviations(engine, ours)
    meant = {what: why for part, why in engine.explain(ours) if why for what in _names(engine, ours, part)}
    flags = {"name": "--name", **reading.flags}
    not_taken = {flags.get(piece, piece): why for piece, why in refused.items()}
    no_setting = {**reading.reasons, **not_taken}
    told = set()
    for what in [*theirs, *(what for what in mine if what not in theirs)]:
        one, other = theirs.get(what), mine.get(what)
        if one == other or (what[0] == "--env" and other is None and what[1] in container.of_image):
            continue
        option = what[0]
        name = " ".join(part for part in (_SHORT.get(option, option), what[1]) if part)
        why, lost = deviating.get(what, ""), False
        if option == "--env" and what[1] in container.secrets:
            why = f"a secret: it goes into {ours.env_file}"
        elif option in reading.secrets:
            why = f"a secret: it goes into {ours.env_file}, as {reading.secrets[option]}"
        elif option in ("--host", "--port") and "--publish" in {name for name, _ in theirs}:
            why = _REASONS["--publish"]
        elif one is None:
            why = why or meant.get(what) or meant.get((option, "")) or ""
        elif not why:
            why = no_setting.get(name) or (deviating.get((option, "")) if option == "--group-add" else None) or ""
            why = why or _REASONS.get(option) or (meant.get(what, "") if other is not None else "")
            lost = not why or name in no_setting or other is not None
        told.add(name)
        yield Change(name, one, other, why or _NO_SETTING, lost)
    for name, why in not_taken.items():
        if name not in told:
            yield Change(name, "", None, why, lost=True)


def _units(engine: Engine, container: Container) -> dict[tuple[str, str], str]:
    image = container.image.removeprefix("docker.io/")
    flags = {(flag, ""): value for flag, value in engine.parts(container).items()}
    return {**container.parts, ("image", ""): image, **flags}


def _names(engine: Engine, ours: ResolvedService, words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What some words of a command are called in a comparison."""
    words = [word for word in words if word not in ("docker", "run")]
    try:
        options, rest = command_line.split(words)
    except UnreadableError:
        options, rest = [], list(words)
    yield from Container("", (), tuple(options)).parts
    if options and not rest:
        return
    if rest and not rest[0].startswith("-"):
        yield "image", ""
    as_ours = Container(ours.image, (ours.model, *rest))
    yield from ((flag, "") for flag in engine.parts(as_ours) if flag != "model")


def _deviations(engine: Engine, ours: ResolvedService) -> dict[tuple[str, str], str]:
    """The written reasons to differ from the guides, by what they are about; for an option in general too."""
    found: dict[tuple[str, str], str] = {}
    for deviation in deviations.load():
        for change in deviation.changes:
            if change.guide == change.here:
                continue
            for words in (change.guide, change.here):
                for what in _names(engine, ours, words):
                    found.setdefault(what, deviation.reason)
                    if what[0] == "--group-add":
                        found.setdefault((what[0], ""), deviation.reason)
    return found
