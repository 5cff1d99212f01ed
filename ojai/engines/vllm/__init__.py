"""vLLM: its command line, the container that runs it, and what cannot work.

- `flags`: the named choices as arguments and variables;
- `command`: the `docker run` list;
- `refusals`: what cannot work, with reason and source;
- `releases`: what is known of each release;
- `planning`: how the image's release plans its cache;
- `weights`: what it reads of which models, and how it starts from that;
- `cli` and `argv`: the flags of its parser, by release, and how it reads them;
- `reading`: a command of somebody else's, back into choices;
- `benchmark`: `vllm bench serve`;
- `tuning`: TunableOp's file.
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
from ojai.engines.vllm import (
    benchmark,
    cli,
    command,
    planning,
    reading,
    refusals,
    releases,
    tuning,
    weights,
)
from ojai.memory import Demand
from ojai.paths import ApiPaths, Offered
from ojai.profiles import Features, Profile, budgets


class _Vllm:
    name = "vllm"
    title = "vLLM"
    documentation = "https://docs.vllm.ai/"
    benchmark_name = "vllm bench serve"
    reserves = True
    api = ApiPaths(health="/health", models="/v1/models", metrics="/metrics")
    mounts = command.MOUNTS
    key_variable = "VLLM_API_KEY"
    secret_files = command.SECRET_FILES

    @property
    def offered(self) -> tuple[Offered, ...]:
        return endpoints.offered(self.name)

    def files(self, service: ResolvedService) -> Files:
        return weights.files()

    def identity(self, image: str) -> tuple[str, str]:
        found = releases.of(image)
        return f"{self.name} {found.version or 'unknown'}", cli.digest(found.contract.vllm)

    def wanted(self, service: ResolvedService) -> Iterator[Wanted]:
        return weights.wanted(service)

    @property
    def metrics(self) -> Metrics:
        return Metrics.of(self.name)

    def command(self, service: ResolvedService) -> Command:
        return command.build(service)

    def tuning(self, service: ResolvedService) -> Tuning | None:
        return tuning.plan(service)

    def refusals(self, service: ResolvedService) -> Iterator[Refusal]:
        return refusals.find(service)

    def remarks(self, service: ResolvedService) -> Iterator[str]:
        return refusals.remarks(service)

    def demand(self, profile: Profile, features: Features, image: str) -> Demand:
        return budgets.demand(profile, features, planning.planner(image, features))

    def follows(self, image: str) -> str:
        return planning.follows(image)

    def forbidden(self, variable: str, accelerator: str) -> Refusal | None:
        return refusals.forbidden(variable, accelerator)

    def model_directory(self, model: str) -> str:
        if model.startswith(f"{self.mounts['models']}/"):
            return f"models{model.removeprefix(self.mounts['models'])}"
        if command.from_folder(model):
            return model
        # As huggingface_hub names it.
        return f"huggingface/hub/models--{model.replace('/', '--')}"

    def explain(self, service: ResolvedService) -> Iterator[tuple[tuple[str, ...], str]]:
        return explanations.parts(service)

    def model(self, container: Container) -> str | None:
        return reading.model(container)

    def read(self, container: Container, base: ResolvedService) -> Reading:
        return reading.read(container, base)

    def parts(self, container: Container) -> Mapping[str, str]:
        return reading.parts(container)

    def benchmark(self, service: ResolvedService, load: Workload) -> tuple[str, ...]:
        return benchmark.argv(service, load)

    def read_benchmark(self, text: str) -> Mapping[str, float]:
        return benchmark.read(text)


ENGINE = _Vllm()
