"""llama.cpp's server by Vulkan: its command line, the container that runs it, and what cannot work.

- `command`: the arguments, and the `docker run` list;
- `refusals`: what cannot work, with reason and source; `cli`: the flags of its parser, by build;
- `ojai/data/llamacpp-endpoints.yaml`: what of its HTTP API is offered to others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ojai.containers import Container
from ojai.engines import (
    Command,
    Files,
    Metrics,
    Reading,
    Refusal,
    ResolvedService,
    Tuning,
    Wanted,
    Workload,
    endpoints,
    explanations,
)
from ojai.engines.llamacpp import cli, command, planning, refusals
from ojai.memory import Demand
from ojai.paths import ApiPaths, Offered
from ojai.profiles import Features, Profile


class _LlamaCpp:
    name = "llamacpp"
    title = "llama.cpp"
    documentation = "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md"
    benchmark_name = ""
    reserves = False
    api = ApiPaths(health="/health", models="/v1/models", metrics="/metrics")
    mounts = command.MOUNTS
    key_variable = command.KEY
    secret_files = command.SECRET_FILES

    @property
    def offered(self) -> tuple[Offered, ...]:
        return endpoints.offered(self.name)

    @property
    def metrics(self) -> Metrics:
        return Metrics.of(self.name)

    def files(self, service: ResolvedService) -> Files:
        weights, *projector = command.files(service)
        return Files(allow=tuple(projector), weights=(weights,), ignore=())

    def identity(self, image: str) -> tuple[str, str]:
        return f"{self.name} {cli.build(image) or 'unknown'}", cli.digest()

    def wanted(self, service: ResolvedService) -> Iterator[Wanted]:
        if not service.model.startswith("/"):
            yield Wanted(service.model, (service.pins or {}).get(service.model) or service.revision)

    def command(self, service: ResolvedService) -> Command:
        return command.build(service)

    def tuning(self, service: ResolvedService) -> Tuning | None:
        return None

    def refusals(self, service: ResolvedService) -> Iterator[Refusal]:
        return refusals.find(service)

    def remarks(self, service: ResolvedService) -> Iterator[str]:
        return refusals.remarks(service)

    def demand(self, profile: Profile, features: Features, image: str) -> Demand:
        return planning.demand(profile, features)

    def follows(self, image: str) -> str:
        return planning.FOLLOWS

    def forbidden(self, variable: str, accelerator: str) -> Refusal | None:
        return refusals.forbidden(variable)

    def model_directory(self, model: str) -> str:
        return command.model_directory(model)

    def explain(self, service: ResolvedService) -> Iterator[tuple[tuple[str, ...], str]]:
        return explanations.parts(service)

    def model(self, container: Container) -> str | None:
        return None  # a server that somebody else set up is not read yet

    def read(self, container: Container, base: ResolvedService) -> Reading:
        raise NotImplementedError

    def parts(self, container: Container) -> Mapping[str, str]:
        raise NotImplementedError

    def benchmark(self, service: ResolvedService, load: Workload) -> tuple[str, ...]:
        raise NotImplementedError

    def read_benchmark(self, text: str) -> Mapping[str, float]:
        return {}


ENGINE = _LlamaCpp()
