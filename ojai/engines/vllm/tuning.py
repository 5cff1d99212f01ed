"""TunableOp's results file: how a service makes one, once, and where it is kept."""

from __future__ import annotations

from dataclasses import replace

from ojai.engines import ResolvedService, Tuning
from ojai.engines.vllm import command
from ojai.engines.vllm.flags import FILENAME

#: The name that a run which tunes writes under: a file that is kept is never written to.
_MADE = "tuning.csv"


def plan(service: ResolvedService) -> Tuning | None:
    """How a service that uses a file makes it; None for one that uses none, or tunes whenever it is started."""
    if service.features.tunableop != "use":
        return None
    tunes = replace(service, features=service.features.model_copy(update={"tunableop": "tune"}))
    before = f"{FILENAME}={command.tuning_file(service)}"
    after = f"{FILENAME}={command.MOUNTS['tunableop']}/{_MADE}"
    argv = tuple(after if word == before else word for word in tunes.command.docker_argv)
    folder = command.directories(service)["tunableop"]
    return Tuning(argv, _numbered(f"{folder}/{_MADE}"), kept(service))


def kept(service: ResolvedService) -> str:
    """The file on the host, by the image and the GPU."""
    name = command.tuning_file(service).rpartition("/")[2]
    return _numbered(f"{command.directories(service)['tunableop']}/{name}")


def _numbered(path: str) -> str:
    """As PyTorch writes it: the number of the GPU before the extension (aten/src/ATen/cuda/tunable/Tunable.cpp)."""
    stem, _, extension = path.rpartition(".")
    return f"{stem}0.{extension}"
