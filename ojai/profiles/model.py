"""A profile: what is known of one model and how it is served, each fact with its source.

One YAML file a model in ``profiles/``; a file whose name begins with ``_`` is a shared part. A file may
have ``extends: OTHER`` and then state only what differs; ``null`` removes a fact of the other. A model that another
engine can serve too has a file of the same name in ``profiles/ENGINE/``: what that engine serves of it, and how.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ojai import resources
from ojai.memory import Geometry
from ojai.profiles.features import EnvironmentName, EnvironmentValue, Features, Speculative
from ojai.schema.errors import field_errors
from ojai.schema.nearest import nearest

#: The engines of `ojai.engines`.
EngineName = Literal["vllm", "llamacpp"]

Modality = Literal["text", "image", "audio", "video"]


class ProfileError(ValueError):
    """A profile that cannot be used; the text names file, key, what was found and what was expected."""


class Docker(BaseModel):
    """The options of ``docker run`` that come before the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = Field(description="`--network`.")
    ipc: str = Field(description="`--ipc`.")
    shm_size: str = Field(pattern=r"^\d+[bkmgBKMG]?$", description="`--shm-size`, of the container's /dev/shm.")
    ulimits: dict[str, int] = Field(default_factory=dict, description="`--ulimit NAME=VALUE`; -1 is unlimited.")
    devices: tuple[str, ...] = Field(description="`--device`, one a node.")
    groups: tuple[str, ...] = Field(
        description="`--group-add`, by the host's group names; a unit gets the host's numeric ids."
    )
    cap_add: tuple[str, ...] = Field(default=(), description="`--cap-add`.")
    security_opt: tuple[str, ...] = Field(default=(), description="`--security-opt`.")
    healthcheck: bool = Field(
        True,
        description="False: `--no-healthcheck`, for an image that looks at another port than the one that is served.",
    )


class Limits(BaseModel):
    """Bounds that the model has, whatever the memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_num_seqs: int | None = Field(None, ge=1, description="Most requests at once.")
    vllm: str | None = Field(
        None,
        pattern=r"^\d+\.\d+\.\d+$",
        description="First vLLM release that knows the model; older images cannot load it.",
    )
    blocked: str | None = Field(
        None,
        min_length=1,
        description="Why it is known not to run on the GPUs of this project; refused as `no-kernel`.",
    )


class Assistant(BaseModel):
    """The draft model made for this one, and how many tokens it is best asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="Model id.")
    tokens: int = Field(ge=1, description="Recommended `num_speculative_tokens`.")


class Profile(BaseModel):
    """All facts of one model. Sizes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="The profile's name, its file's stem.")
    title: str = Field(min_length=1, description="What it is, in a few words.")
    engine: EngineName = Field(description="The engine that serves it.")
    model: str = Field(min_length=1, description="Model id on Hugging Face.")
    revision: str | None = Field(
        None, pattern=r"^[0-9a-f]{40}$", description="Commit of the model, where one is pinned."
    )
    files: tuple[str, ...] = Field(
        (), description="Files of the model that are served: the weights, then the projector of pictures and sound."
    )
    model_given: bool = Field(
        True,
        description="False: no checkpoint has a known publisher, so a service has to name its own in `model`.",
    )
    image: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?:[A-Za-z0-9_][A-Za-z0-9._-]*$",
        description="Container image, repository:tag.",
    )
    image_digest: str | None = Field(
        None, pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of the image, when it is pinned."
    )
    docker: Docker = Field(description="Options of `docker run`.")
    environment: dict[EnvironmentName, EnvironmentValue] = Field(
        description="The container's environment. `{hsa_override}` and `{accelerator}` are filled in."
    )
    mounts: tuple[str, ...] = Field(description="Cache directories mounted, by name.")
    features: Features = Field(description="The engine's defaults.")
    geometry: Geometry = Field(description="Shape of the attention layers.")
    moe: bool = Field(False, description="Whether it is a mixture of experts.")
    weights_bytes: int = Field(gt=0, description="Weights resident on the GPU.")
    largest_shard_bytes: int = Field(gt=0, description="Largest weight file, which is mapped as a whole.")
    active_params: int = Field(gt=0, description="Parameters used for one token.")
    bytes_read_per_token: int | None = Field(
        gt=0, description="Weight bytes read to decode one token; null where that has no meaning."
    )
    modalities: tuple[Modality, ...] = Field(min_length=1, description="What a request may contain.")
    limits: Limits = Field(default_factory=Limits, description="Bounds the model itself has.")
    assistant: Assistant | None = Field(None, description="Draft model for speculative decoding.")
    notes: tuple[str, ...] = Field((), description="What a reader should know before choosing it.")
    sources: dict[str, str] = Field(description="For every fact above, where it is from.")

    @property
    def default_context(self) -> int:
        """Tokens of context served unless a service has its own."""
        return self.features.max_model_len or self.geometry.max_context

    def source_of(self, fact: str) -> str:
        """Where ``fact`` (a key of this profile) is from."""
        return self.sources.get(fact, f"profiles/{self.name}.yaml")


UNSOURCED = {"name", "title", "extends", "sources", "notes", "engine", "model_given"}
"""Keys that are choices of this project or prose, not facts."""

MODEL = ("name", "geometry", "moe", "active_params", "modalities")
"""Facts of the model itself, whatever serves it."""


def _facts(written: dict[str, Any]) -> set[str]:
    """The facts a file states: each top-level key, and each entry of environment and features apart."""
    facts: set[str] = set()
    for key, value in written.items():
        if key in UNSOURCED:
            continue
        if key in ("environment", "features") and isinstance(value, dict):
            facts |= {f"{key}.{entry}" for entry in value}
        else:
            facts.add(key)
    return facts


def _read(path: Path) -> dict[str, Any]:
    """One file, its sources checked against the facts it states."""
    try:
        written = resources.parse(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ProfileError(f"{path.name}: not YAML: {error}") from None
    if not isinstance(written, dict):
        raise ProfileError(f"{path.name}: found {type(written).__name__}, expected a mapping of keys")
    sources = written.get("sources") or {}
    if not isinstance(sources, dict):
        raise ProfileError(f"{path.name}: sources: found {sources!r}, expected a mapping of fact to source")
    errors = [
        f"{path.name}: sources.{fact}: found nothing, expected where {fact} is from"
        for fact in sorted(_facts(written))
        if not str(sources.get(fact) or "").strip()
    ]
    errors += [
        f"{path.name}: sources.{fact}: a source for something this file does not state"
        for fact in sorted(set(sources) - _facts(written))
    ]
    if errors:
        raise ProfileError("\n".join(errors))
    return written


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` merged into ``base``, mappings key by key; ``None`` removes a key."""
    merged = dict(base)
    for key, value in over.items():
        if value is None and key != "bytes_read_per_token":
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "geometry":
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _resolve(name: str, directory: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file ``name`` merged over what it extends."""
    path = directory / f"{name}.yaml"
    if name in seen:
        raise ProfileError(f"{path.name}: extends: is circular: {' -> '.join((*seen, name))}")
    if not path.is_file():
        asked = f"{seen[-1]}.yaml: extends: found {name!r}, expected" if seen else f"no profile {name!r}, expected"
        raise ProfileError(f"{asked} a file {path.name} in {directory}")
    written = _read(path)
    parent = written.pop("extends", None)
    if parent is None:
        return written
    inherited = _resolve(str(parent), directory, (*seen, name))
    for key in ("notes", "title"):
        inherited.pop(key, None)
    return _merge(inherited, written)


def names(directory: Path = resources.PROFILES) -> tuple[str, ...]:
    """Every profile's name, sorted; shared parts (``_*.yaml``) are none."""
    return tuple(sorted(path.stem for path in directory.glob("*.yaml") if not path.stem.startswith("_")))


def load(name: str, directory: Path = resources.PROFILES, engine: str | None = None) -> Profile:
    """The profile ``name``, as ``engine`` serves it; None: its own.

    Raises :class:`ProfileError`, naming file, key, found and expected, when there is none, when a fact has
    no source, or when a value is not of its kind.
    """
    return _load(name, directory, engine)


def served_by(name: str, directory: Path = resources.PROFILES) -> tuple[str, ...]:
    """The engines that can serve the profile ``name``, its own first."""
    others = sorted(path.parent.name for path in directory.glob(f"*/{name}.yaml"))
    return (load(name, directory).engine, *others)


def _of_engine(name: str, engine: str, base: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What another engine serves of the model of ``base``: its own facts, and those of the model itself."""
    if not (directory / engine / f"{name}.yaml").is_file():
        able = [one for one in names(directory) if engine in served_by(one, directory)]
        raise ProfileError(
            f"{name}: engine: found {engine}, which no file of it is known for; expected "
            f"{' or '.join(served_by(name, directory))}. What to do: for {engine} take {' or '.join(able) or 'none'}"
        )
    model = {key: base[key] for key in MODEL if key in base}
    sources = {fact: text for fact, text in base["sources"].items() if fact in MODEL}
    return _merge({**model, "sources": sources}, _resolve(name, directory / engine))


@cache
def _load(name: str, directory: Path, engine: str | None) -> Profile:
    known = names(directory)
    if name not in known:
        near = nearest(name, known)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ProfileError(f"no profile {name!r}{hint} (known: {', '.join(known) or 'none'})")
    written = _resolve(name, directory)
    file = f"{name}.yaml"
    if engine not in (None, written.get("engine")):
        written = _of_engine(name, str(engine), written, directory)
        file = f"{engine}/{file}"
    if written.get("name") != name:
        raise ProfileError(f"{file}: name: found {written.get('name')!r}, expected {name!r}, as the file is called")
    try:
        profile = Profile.model_validate(written)
    except ValidationError as error:
        found = field_errors(error, Profile, written, listed="docs/reference/profiles.md")
        raise ProfileError("\n".join(f"{file}: {one}" for one in found)) from None
    if profile.default_context > profile.geometry.max_context:
        raise ProfileError(
            f"{file}: features.max_model_len: found {profile.default_context}, "
            f"expected at most geometry.max_context {profile.geometry.max_context}"
        )
    return profile


def effective(profile: Profile, features: Features | None = None) -> Features:
    """What will be served: the profile's features with a service's laid over, ``speculative: true`` resolved.

    Raises :class:`ProfileError` when speculative decoding is asked of a model without an assistant, or
    thinking without its parser.
    """
    merged = (features or Features()).over(profile.features)
    if merged.thinking and not merged.reasoning:
        raise ProfileError(
            f"{profile.name}: thinking: found true without reasoning, expected reasoning: true beside it "
            "(without it the thoughts are part of the answer)"
        )
    if merged.speculative is True:
        if profile.assistant is None:
            raise ProfileError(
                f"{profile.name}: speculative: found true, but no assistant model is known for {profile.model}; "
                "expected false, or a mapping of model and tokens"
            )
        draft = Speculative(model=profile.assistant.model, tokens=profile.assistant.tokens)
        return merged.model_copy(update={"speculative": draft})
    return merged
