"""Functions that fixtures name by ``!python sample:…``: a server that tunes, a short unit, a judge of memory."""

from collections.abc import Mapping

from ojai import preflight
from ojai.facts.report import Report
from ojai.profiles import Command
from ojai.settings import parse

_SETTINGS = parse("mini", {"services": [{"tunableop": "tune"}]})


def make(numbers: Mapping[str, int], key: str | None) -> Command:
    """The command with this host's group numbers, and TunableOp's folder filed under the image's key."""
    return _SETTINGS.command(_SETTINGS.services[0], group_ids=numbers or None, image_key=key)


def render(command: Command) -> str:
    """Of the unit only what a host's answers decide."""
    words = [word for word in command.docker_argv if "group-add" in word or "tunableop" in word]
    return "\n".join(words) + "\n"


def judge(report: Report) -> list[str]:
    """What preflight has against the host's memory when it is to serve the larger model."""
    found = preflight.refusals(parse("mini", {"services": [{"profile": "gemma-4-26b-a4b"}]}), report)
    return [f"preflight: {refusal}" for refusal in found if refusal.check.startswith("memory")]
