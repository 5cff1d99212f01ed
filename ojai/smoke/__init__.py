"""Does a server do what its model can? Checks over OpenAI's API."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ojai.engines import ResolvedService

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """A check of a server. Of one that was skipped, ``came`` says why."""

    name: str
    outcome: Outcome
    seconds: float
    asked: str
    came: str
    expected: str


@dataclass(frozen=True)
class Report:
    """All checks of a server; ``error`` says why there are none."""

    server: str
    model: str
    results: tuple[Result, ...] = ()
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether something was checked, and nothing failed."""
        return self.error is None and self.count("failed") == 0 and self.count("passed") > 0

    def count(self, outcome: Outcome) -> int:
        """How many checks had this outcome."""
        return sum(result.outcome == outcome for result in self.results)


@dataclass(frozen=True)
class Abilities:
    """What a server should be able to do: True, False, or None where only the server can say.

    + context: the longest request, in tokens
    + users: how many requests it decodes at once
    """

    tools: bool | None = None
    thinking: bool | None = None
    images: bool | None = None
    audio: bool | None = None
    video: bool | None = None
    prefix_cache: bool | None = None
    metrics: bool | None = None
    named: bool | None = None
    context: int | None = None
    users: int | None = None


def configured(service: ResolvedService) -> Abilities:
    """What a service is configured for."""
    features, modalities = service.features, service.profile.modalities

    def media(name: str, most: int | None) -> bool | None:
        """A medium that nothing is said of may need more than the image has: the server tells."""
        if features.text_only or name not in modalities or most == 0:
            return False
        return True if most or name == "image" else None

    return Abilities(
        tools=bool(features.tool_calling),
        thinking=bool(features.reasoning),
        images=media("image", features.images),
        audio=media("audio", features.audios),
        video=media("video", features.videos),
        prefix_cache=features.prefix_caching,
        metrics=True,
        named=True,
        context=features.max_model_len or service.profile.geometry.max_context,
        users=features.max_num_seqs,
    )


def junit(reports: Iterable[Report]) -> str:
    """One JUnit document with a suite a server."""
    suites = ElementTree.Element("testsuites", name="ojai smoke")
    for report in reports:
        seconds = sum(result.seconds for result in report.results)
        counts = {"failures": report.count("failed"), "skipped": report.count("skipped")}
        suite = ElementTree.SubElement(suites, "testsuite", name=report.server, time=f"{seconds:.3f}")
        suite.set("tests", str(len(report.results) or 1))
        suite.set("errors", str(int(report.error is not None)))
        for key, value in counts.items():
            suite.set(key, str(value))
        for result in report.results:
            case = ElementTree.SubElement(suite, "testcase", classname="smoke", name=result.name)
            case.set("time", f"{result.seconds:.3f}")
            told = _printable(f"asked: {result.asked}\ncame: {result.came}\nexpected: {result.expected}")
            if result.outcome == "failed":
                message = _printable(f"found {result.came}; expected {result.expected}")
                ElementTree.SubElement(case, "failure", message=message).text = told
            elif result.outcome == "skipped":
                ElementTree.SubElement(case, "skipped", message=_printable(result.came))
            else:
                ElementTree.SubElement(case, "system-out").text = told
        if report.error is not None:
            case = ElementTree.SubElement(suite, "testcase", classname="smoke", name="can be asked")
            ElementTree.SubElement(case, "error", message=_printable(report.error))
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """Control characters have no place in XML, and what a model says may have any."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
