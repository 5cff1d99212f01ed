"""The engines that serve a model: the one interface that the rest of the project knows, and a package an engine.

Flags, variables, mounts and addresses of an engine are in its own package and nowhere else. Another engine is another
package here with an ``ENGINE``, and its name in the setting ``engine``.
"""

from __future__ import annotations

import importlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, Self

from ojai import counters
from ojai.containers import Container
from ojai.memory import DEFAULT_UTILIZATION, Budget, Demand, HostMemory
from ojai.paths import ApiPaths, Offered, ServicePaths
from ojai.profiles import Features, Profile, ProfileError, budgets
from ojai.sizes import GIB

#: Who reaches a service: others by the gateway, nobody but its own host, or everybody.
Exposure = Literal["gateway", "loopback", "open"]

#: Where a container has the secrets that are files.
SECRETS_INSIDE = "/run/secrets/ojai"

#: The packages here.
NAMES = ("vllm", "llamacpp")


@dataclass(frozen=True)
class Tuning:
    """How the tuning file of a service is made.

    + argv: the command that is run once for it
    + made: the file on the host that this writes as it ends
    + kept: the file that the service reads, by its image and GPU
    """

    argv: tuple[str, ...]
    made: str
    kept: str


@dataclass(frozen=True)
class Refusal:
    """Something that cannot work, or is not known to.

    ``code``: what to put under ``allow`` to override it. ``reason``: what was found, why it cannot work, what to do.
    """

    code: str
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.code}: {self.reason} [{self.source}]"


@dataclass(frozen=True)
class Command:
    """How one service is run; nothing in it is a secret.

    ``docker_argv`` is the whole ``docker run …``; ``engine_argv`` the part after the image; ``environment`` the
    container's, without the secret part; ``mounts`` maps host to container directories; ``image_directories`` are those
    of them that belong to one image and are created with the unit.
    """

    docker_argv: tuple[str, ...]
    engine_argv: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    served_model_name: str
    image_directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A model that a service reads. ``revision``: a commit, tag or branch; None: the commit of its branch that was
    fetched first."""

    model: str
    revision: str | None


@dataclass(frozen=True)
class Files:
    """Which files of a model an engine reads, as fnmatch's patterns of their paths.

    + allow: beside weights
    + weights: forms of weights; only the first that there is
    + ignore: never
    """

    allow: tuple[str, ...]
    weights: tuple[str, ...]
    ignore: tuple[str, ...]


@dataclass(frozen=True)
class Metrics:
    """What an engine calls its metrics in Prometheus' text; None for what it does not count.

    + running, waiting: requests
    + generated: tokens since the start
    + kv_cache: the share of the KV cache that is in use, 0 to 1
    + preemptions: requests that were put back since the start
    + token_seconds, token_intervals: sum and number of the times between two tokens of a request
    """

    running: str | None = None
    waiting: str | None = None
    generated: str | None = None
    kv_cache: str | None = None
    preemptions: str | None = None
    token_seconds: str | None = None
    token_intervals: str | None = None

    @classmethod
    def of(cls, engine: str) -> Self:
        """Those of the engine of this name, by `ojai/data/server-counters.yaml`."""
        known = counters.names(engine).get
        return cls(
            running=known("running"),
            waiting=known("waiting"),
            generated=known("generated_tokens"),
            kv_cache=known("kv_cache"),
            preemptions=known("preemptions"),
            token_seconds=known("decode_seconds"),
            token_intervals=known("decode_steps"),
        )

    @property
    def words(self) -> tuple[str, ...]:
        """``ours=the engine's`` for each, as a script on the host takes them."""
        return tuple(f"{name}={metric}" for name, metric in asdict(self).items() if metric)


@dataclass(frozen=True)
class Reading:
    """What somebody else's command says, as settings of a service of one profile.

    + settings: what differs from the profile, by the names that a service has
    + flags: for some of them, the flag that says them (as `Engine.parts` names it)
    + secrets: flags with a secret, each with the variable that the environment file has instead
    + reasons: why a flag has no setting
    """

    settings: Mapping[str, Any]
    flags: Mapping[str, str]
    secrets: Mapping[str, str]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Workload:
    """Requests that an engine's own program of measurement sends: their number, and tokens of each."""

    input_tokens: int
    output_tokens: int
    prompts: int
    seed: int = 0


class Engine(Protocol):
    """What the project asks of an engine."""

    @property
    def name(self) -> str:
        """Its name, which is its package's."""

    @property
    def title(self) -> str:
        """What it is called."""

    @property
    def documentation(self) -> str:
        """Where it is documented."""

    @property
    def api(self) -> ApiPaths:
        """Where its server answers."""

    @property
    def key_variable(self) -> str:
        """The variable with a key of the engine's own, which clients of a gateway do not have."""

    @property
    def secret_files(self) -> Mapping[str, str]:
        """Secret variables that it also reads from a file, each with the variable that names the file."""

    @property
    def offered(self) -> tuple[Offered, ...]:
        """What of its HTTP API is offered to others; the gateway passes nothing else on."""

    @property
    def metrics(self) -> Metrics:
        """What its server counts."""

    @property
    def mounts(self) -> Mapping[str, str]:
        """The cache directories by name, and where the container has them."""

    def command(self, service: ResolvedService) -> Command:
        """How the service is run."""

    def tuning(self, service: ResolvedService) -> Tuning | None:
        """How its tuning file is made; None for a service that uses none."""

    def refusals(self, service: ResolvedService) -> Iterator[Refusal]:
        """What cannot work in the service's command, whether it is allowed or not."""

    def remarks(self, service: ResolvedService) -> Iterator[str]:
        """What should be known of the service's image, and what cannot be judged."""

    def demand(self, profile: Profile, features: Features, image: str) -> Demand:
        """What an image asks of the memory with the features in force. Raises ``ProfileError``."""

    @property
    def reserves(self) -> bool:
        """Whether it takes a share of the GPU's memory, whatever it needs."""

    def follows(self, image: str) -> str:
        """Whose planner the budget of a service with this image follows, in words."""

    def forbidden(self, variable: str, accelerator: str) -> Refusal | None:
        """Why a variable may not be in the service's environment file, whatever its value."""

    def model_directory(self, model: str) -> str:
        """Where the weights of a model are: the name of a cache, and the path in it; or a folder of the owner's."""

    def files(self, service: ResolvedService) -> Files:
        """The files of the service's models that it reads."""

    def identity(self, image: str) -> tuple[str, str]:
        """The engine and its release in an image, and the hash (SHA-256) of the contract that it is judged by."""

    def wanted(self, service: ResolvedService) -> Iterator[Wanted]:
        """The models that are fetched for the service, its own first."""

    def explain(self, service: ResolvedService) -> Iterator[tuple[tuple[str, ...], str]]:
        """The command in parts (``--ulimit memlock=-1``), each with what it is for; empty where that is plain."""

    def model(self, container: Container) -> str | None:
        """The model that a container of somebody else's serves; None where it does not run this engine."""

    def read(self, container: Container, base: ResolvedService) -> Reading:
        """Such a container as a service; ``base`` is the service that its profile gives without any choice."""

    def parts(self, container: Container) -> Mapping[str, str]:
        """The engine's arguments in a container for a comparison: flag to value, without secrets."""

    @property
    def benchmark_name(self) -> str:
        """Its own program of measurement; empty where its image has none."""

    def benchmark(self, service: ResolvedService, load: Workload) -> tuple[str, ...]:
        """How that program is run against the service, in the service's image."""

    def read_benchmark(self, text: str) -> Mapping[str, float]:
        """The figures that it prints (``completed`` and ``failed`` among them); empty where it printed none."""


def get(name: str) -> Engine:
    """The engine of this name."""
    engine: Engine = importlib.import_module(f"{__name__}.{name}").ENGINE
    return engine


def cache_names() -> tuple[str, ...]:
    """The caches of all engines."""
    return tuple(dict.fromkeys(name for engine in NAMES for name in get(engine).mounts))


def cache_folders(data_directory: str, elsewhere: Mapping[str, str]) -> dict[str, str]:
    """The host's folder of each cache: the one that it has ``elsewhere``, else one in ``data_directory``."""
    return {name: elsewhere.get(name, f"{data_directory}/{name}") for name in cache_names()}


@dataclass(frozen=True, kw_only=True)
class ResolvedService(ServicePaths):
    """A service with every choice made: profile, settings and accelerator in one.

    It is resolved when the settings are parsed, and everything else reads from it. ``features`` are those in force;
    ``image`` is ``repository:tag``, with ``@digest`` when one is given; ``model_named``: the service names its model,
    not the profile; ``folders``: the host's caches by name; timeouts are seconds; ``log_max_size`` and
    ``log_max_file`` rotate its log; ``proxies`` are variables of its container; ``media_domains``: hosts to fetch
    from; ``moe_configs``: the host's folder of tuned kernels for a mixture of experts; ``secrets``: names of its secret
    variables. ``revision`` is the model's as the service names it, ``pins`` are the commits that a lock gives its
    models. ``group_ids``, ``image_key``, ``revisions`` (the commit of each model that was fetched), the GPU's
    ``render_node`` and ``memory_total`` (bytes) are the host's own, filled in by
    :meth:`on_host`.
    """

    name: str
    engine: Engine
    profile: Profile
    features: Features
    accelerator: str
    image: str
    model: str
    model_named: bool
    host: str
    port: int
    folders: Mapping[str, str]
    start_timeout: int
    stop_timeout: int
    log_max_size: str
    log_max_file: int
    proxies: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    pins: Mapping[str, str] | None = None
    exposure: Exposure = "open"
    media_domains: tuple[str, ...] = ()
    moe_configs: str | None = None
    hardened: bool = False
    secrets: tuple[str, ...] = ()
    group_ids: Mapping[str, int] | None = None
    image_key: str | None = None
    revisions: Mapping[str, str] | None = None
    render_node: str | None = None
    memory_total: int | None = None
    _on_host: dict[object, ResolvedService] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def command(self) -> Command:
        """How it is run."""
        return self.engine.command(self)

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Everything in it that cannot work, allowed or not."""
        return tuple(self.engine.refusals(self))

    @property
    def allowed(self) -> list[Refusal]:
        """The refusals that ``allow`` overrides."""
        return [refusal for refusal in self.refusals if refusal.code in (self.features.allow or ())]

    @property
    def standing(self) -> list[Refusal]:
        """The refusals that nothing overrides."""
        return [refusal for refusal in self.refusals if refusal.code not in (self.features.allow or ())]

    @cached_property
    def demand(self) -> Demand:
        """What it asks of the memory. Raises ``ProfileError`` for choices that have no budget."""
        asked = self.engine.demand(self.profile, self.features, self.image)
        try:
            asked.plan(GIB)
        except ValueError as error:
            raise ProfileError(
                f"kv_cache_dtype {asked.kv_cache_dtype}: {error}. The cache {self.follows}. What to do: name another "
                "type, or an image of a newer release"
            ) from None
        return asked

    @property
    def share(self) -> float:
        """The share of the GPU's memory that it reserves whatever it needs; 0 where it takes what it needs."""
        return (self.features.gpu_memory_utilization or DEFAULT_UTILIZATION) if self.engine.reserves else 0.0

    def budget(self, memory: HostMemory) -> Budget:
        """Its budget in that memory. Raises ``ProfileError`` as `demand` does."""
        return budgets.added(self.demand, self.features, memory, self.accelerator)

    @property
    def follows(self) -> str:
        """Whose planner the budget follows."""
        return self.engine.follows(self.image)

    @property
    def title(self) -> str:
        """What it serves, in a few words."""
        return self.profile.title if self.model == self.profile.model else f"{self.model} as {self.profile.title}"

    @property
    def warnings(self) -> list[str]:
        """What is allowed, and should be known."""
        found = []
        if self.model != self.profile.model and self.profile.model_given:
            found.append(
                f"model {self.model} is not the profile's ({self.profile.model}): memory budget, limits and parsers "
                f"are those of {self.profile.name}, and are right only for a variant of that model"
            )
        if "@" not in self.image and self.image.endswith(":latest"):
            found.append(
                f"image {self.image}: the tag latest moves, so hosts deployed at different times run different images; "
                "name a version, or set image_digest"
            )
        return [*found, *self.engine.remarks(self)]

    @property
    def address(self) -> str:
        """Where the host itself reaches the server, as a URL has it."""
        address = ipaddress.ip_address(self.host)
        if address.is_unspecified:
            return "127.0.0.1"
        return f"[{address}]" if address.version == 6 else str(address)

    @cached_property
    def wanted(self) -> tuple[Wanted, ...]:
        """The models that are fetched for it, its own first."""
        return tuple(self.engine.wanted(self))

    @property
    def secret_files(self) -> list[str]:
        """Those of its secrets that its engine reads from files, in ``secrets_folder``."""
        return [name for name in self.secrets if name in self.engine.secret_files]

    @property
    def key_file(self) -> str | None:
        """The file with a key of the engine's own, where it reads that from one."""
        name = self.engine.key_variable
        return f"{self.secrets_folder}/{name}" if name in self.secret_files else None

    @property
    def weights_folder(self) -> str:
        """The cache that its weights are in, or the owner's folder of them."""
        cache = self.engine.model_directory(self.model).partition("/")[0]
        return self.folders[cache] if cache else self.model

    @property
    def brought(self) -> bool:
        """Whether the owner brings the weights, in a folder of their own: nothing is fetched for it."""
        return self.weights_folder == self.model

    @property
    def model_directory(self) -> str:
        """Where the host has its weights."""
        if self.brought:
            return self.model
        return f"{self.weights_folder}/{self.engine.model_directory(self.model).partition('/')[2]}"

    def on_host(
        self,
        group_ids: Mapping[str, int] | None,
        image_key: str | None,
        revisions: Mapping[str, str] | None = None,
        render_node: str | None = None,
        memory_total: int | None = None,
    ) -> ResolvedService:
        """The service with the host's numbers, its tuning results filed under the image's key, and the commits of its
        models."""
        named = tuple(tuple(sorted((given or {}).items())) for given in (group_ids, revisions))
        numbers = (*named, image_key, render_node, memory_total)
        if numbers not in self._on_host:
            placed = replace(
                self,
                group_ids=group_ids or None,
                image_key=image_key,
                revisions=revisions or None,
                render_node=render_node,
                memory_total=memory_total,
            )
            placed.__dict__["refusals"] = self.refusals  # they are of the choices, not of the host
            self._on_host[numbers] = placed
        return self._on_host[numbers]
