"""Functions that fixtures name by ``!python sample:…``: a server that tunes, a short unit, a judge of memory."""

from pyinfra.api import Host, State

from ojai.engines import ResolvedService
from ojai.facts.report import Report
from ojai.operations import adoption, ledger, weights
from ojai.paths import ApiPaths
from ojai.preflight import host as preflight
from ojai.releases import Serving
from ojai.settings import parse
from ojai.settings.secrets import Source
from ojai.weights.pack import PackError

_SETTINGS = parse("mini", {"services": [{"tunableop": "tune"}]})


#: A service that uses a tuning file.
USES = parse("mini", {"services": [{"tunableop": "use"}]}).resolved[0]

#: A service that tunes.
SERVICE = _SETTINGS.resolved[0]


def render_unit(service: ResolvedService) -> str:
    """Of the unit only what a host's answers decide."""
    words = [word for word in service.command.docker_argv if "group-add" in word or "tunableop" in word]
    return "\n".join(words) + "\n"


def render_revision(service: ResolvedService) -> str:
    """Of the unit only what was fetched decides."""
    words = service.command.docker_argv
    return "\n".join([words[words.index("--revision") + 1], *(word for word in words if "HF_HUB" in word)]) + "\n"


def check(report: Report) -> list[str]:
    """What preflight has against the host's memory when it is to serve the larger model."""
    found = preflight.failed_checks(parse("mini", {"services": [{"profile": "gemma-4-26b-a4b"}]}), report)
    return [f"preflight: {failed}" for failed in found if failed.check.startswith("memory")]


def check_driver(report: Report) -> list[str]:
    """What preflight has against the host's driver after the kernel role."""
    found = preflight.failed_after_boot(parse("mini", {}), report)
    return [str(failed) for failed in found if failed.check == "GPU driver"]


#: Where a login would be read, if it were there.
LOGIN = Source(env="HOME_OF_NOTHING")


#: Where its server answers.
API = ApiPaths("/health", "/v1/models", "/metrics")


def argv() -> list[str]:
    """What its container runs after the image."""
    return ["google/gemma-4-E4B-it", "--port", "8000"]


def packed() -> bytes:
    """In place of the hub's client."""
    return b"the client\n"


def other_client() -> bytes:
    """What is said where another client is installed than the pinned one."""
    raise PackError("found another")


#: A service that two models are fetched for.
DRAFTED = parse(
    "mini", {"services": [{"image": "vllm/vllm-openai-rocm:v0.28.0", "speculative": True, "revision": "main"}]}
).resolved[0]
REQUEST = weights.request([DRAFTED], "http://hub.example.net")

#: A service as a release has it, and the same with the next image.
SERVING = Serving("vllm-gemma4", "vllm/vllm-openai-rocm:v0.20.1", "google/gemma-4-E4B-it", 8000, "127.0.0.1", 1800)
SERVICES = [SERVING]


def restored(state: State, host: Host) -> None:
    """In place of what a role puts back when a step has failed."""


#: Shell of the operations on what is adopted: the functions are long, the calls are what a fixture shows.
KEEP_SERVER = adoption._shell([("keep_container", "vllm-gemma4", "", "vllm-gemma4-before-ojai", "/t.csv", "/to.csv")])
KEEP_UNIT = adoption._shell([("keep_unit", "gemma.service", "enabled", "active")])
UP_AGAIN = adoption._shell([("bring_back", "vllm-gemma4"), ("start_unit", "gemma.service")])
STOP_BOTH = adoption._shell([("stop_unit", "gemma.service"), ("stop_container", "vllm-gemma4")])
GIVE_BACK = adoption._shell([("bring_all_back",)])

#: A cache of the owner's that is renamed, and back.
_PLACES = ("/home/ada/.cache/huggingface", "/srv/ojai/huggingface")
NOTE_MOVED = ledger.note("moved", ["=".join(_PLACES)])
MOVE = adoption._moved(*_PLACES)
MOVE_BACK = adoption._moved_back("=".join(_PLACES))
FORGET_MOVED = ledger.forget("moved", ["=".join(_PLACES)])


#: A path that answers without a key, as an operation hands it on.
HEALTH = ("/health",)
