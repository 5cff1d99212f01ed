"""Known failures: what a line of a log, or a fact of a host, means, and how to fix it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ojai import resources


class Finding(BaseModel):
    """One known failure. ``pattern`` is a regular expression that is searched for in each line.

    ``deploy_mends``: running the deploy again puts it right. ``raised_in``: which of Python's files raise errors of
    this kind; what no pattern fits is taken for one, as a general cause. ``follows``: codes of which this one is the
    consequence, where one of them is found since the machine last started.
    ``rank``: a cause, which stops the service; a general one, beside which a more exact one stands as a rule; unknown,
    an error that does so; a flaw, with which it serves; a consequence, which has a deeper cause as a rule; a note, of
    what could be better; harmless, and never listed. ``seen``: what people see of it, where no line of a log tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    pattern: str
    cause: str
    fix: str
    source: str
    seen: str = ""
    raised_in: str | None = None
    follows: tuple[str, ...] = ()
    deploy_mends: bool = False
    rank: Literal["cause", "general", "unknown", "flaw", "consequence", "note", "harmless"] = "cause"


#: ``failures``: of a server that starts, from the guides. ``failures-installing``: of downloads and installations.
#: ``symptoms``: all else that doctor knows.
Catalogue = Literal["failures", "failures-installing", "symptoms"]


@cache
def catalogue(name: Catalogue = "failures") -> tuple[Finding, ...]:
    """Every known failure, most specific first."""
    return tuple(Finding.model_validate(entry) for entry in resources.data(name))


def explain(lines: Iterable[str], name: Catalogue = "failures") -> list[Finding]:
    """The findings whose pattern matches one of ``lines``, each once, in the order of the catalogue; at most three."""
    text = "\n".join(lines)
    return [finding for finding in catalogue(name) if re.search(finding.pattern, text)][:3]


@dataclass(frozen=True)
class Line:
    """A line of a log, without what wraps it, and its number; 0 for a fact that was asked for just now."""

    number: int
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """A finding, and the lines that show it. ``past``: the engine has come up since."""

    finding: Finding
    evidence: tuple[Line, ...]
    past: bool = False


#: Lines that are shown of one finding: the first ones, and the last.
_SHOWN = 3

#: Characters of a line that are looked at: vLLM prints its whole configuration in one.
_LONGEST = 3000

#: The engine, or the machine, starts: what was before is an earlier try.
_STARTS = re.compile(
    r"vLLM API server version|▀▄▀ █\s+version \d|systemd\[1\]: Started .*(vllm|llama|Gemma)"
    r"|(kernel: |\] )Linux version \d|msg=\"server config\"|(^|: )build: \d+ \("
)

#: The engine serves: what was before no longer keeps it from that.
_SERVES = re.compile(r"Application startup complete|server is listening on http|msg=\"Listening on ")

#: The engine is told to end: its complaints of that are no symptoms.
_STOPS = re.compile(
    r"trigger received signal=SIG(TERM|INT)|systemd\[1\]: Stopping |Received SIGTERM"
    r"|\[shutdown\] Process manager: send sigterm"
)

#: The machine starts.
_BOOTS = re.compile(r"(^|kernel: |\] )Linux version \d")

#: A person's command or request may contain any word; so may what a program says of its inner workings.
_QUOTED = re.compile(
    r"COMMAND=|\(command continued\)|CMD \(|Received request |Added request |\blevel=(debug|DEBUG)\b|\bDEBUG \d\d-\d\d "
)

#: A program tells what it does, or warns and goes on: whatever words are in it, nothing has failed.
_TELLS = re.compile(
    r"\blevel=(info|debug|warn(ing)?)\b|\b(INFO|DEBUG|WARNING) \d\d-\d\d |: \w+Warning: |\.py\[WARNING\]"
)


@cache
def _beside() -> re.Pattern[str]:
    """What programs beside the service say, and systemd of their units (`ojai/data/programs-beside.yaml`)."""
    names = "|".join(name for several in resources.data("programs-beside").values() for name in several)
    return re.compile(
        rf" ({names})\[\d+\]: |systemd\[\d+\]: (?:[^\n]{{0,60}} )?({names})([@-][^ ]*)?\.(service|socket|timer)\b"
    )


#: A download did not go through, and the program goes on with it.
_TRIES_AGAIN = re.compile(
    r"thrown while requesting|[Rr]etrying in \d|before retry|Error while downloading from|resume download"
)

#: It came to its end.
_FETCHED = re.compile(r"Fetching \d+ files: 100%")

#: A program takes, or cannot have, a port that a service of ours or its gateway may have.
_OUR_PORT = re.compile(r"(bind|listen).*:8(0\d\d|443)\b|:8(0\d\d|443)\b.*(in use|requested address)")

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def read_log(lines: Iterable[str]) -> Iterator[Line]:
    """The lines of a log: plain, ``journalctl -o json``, or Docker's json-file, which breaks long lines in pieces."""
    held, begun = "", 0
    for number, raw in enumerate(lines, 1):
        text, whole = _unwrapped(raw.rstrip("\r\n"))
        held, begun = held + text, begun or number
        if whole:
            yield from (Line(begun, _ESCAPES.sub("", part)[:_LONGEST]) for part in held.splitlines())
            held, begun = "", 0
    yield from (Line(begun, part[:_LONGEST]) for part in held.splitlines())


def _unwrapped(text: str) -> tuple[str, bool]:
    """A journal's JSON as a plain journal has it, Docker's message, else the line itself; and whether it is whole."""
    try:
        entry = json.loads(text) if text.startswith("{") else None
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return text, True
    if isinstance(entry.get("log"), str):
        return entry["log"], entry["log"].endswith("\n")
    message, who = entry.get("MESSAGE", text), entry.get("SYSLOG_IDENTIFIER")
    if isinstance(message, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in message):
        message = bytes(message).decode(errors="replace")  # systemd writes what cannot be printed as bytes
    if not isinstance(message, str):
        return "", True
    if not isinstance(who, str):
        return message, True
    process = "" if who == "kernel" else f"[{entry.get('SYSLOG_PID') or entry.get('_PID') or 0}]"
    return f"{entry.get('_HOSTNAME', '')} {who}{process}: {message}", True


#: What differs between lines that mean the same: times, addresses, large numbers.
_VARYING = re.compile(r"\d+(?:[.:]\d+)+|\d{5,}|0x[0-9a-f]+")


@cache
def _known() -> tuple[tuple[Finding, re.Pattern[str]], ...]:
    """Every finding with its pattern: what is harmless, then the most specific first."""
    names: tuple[Catalogue, ...] = ("failures", "symptoms", "failures-installing")
    findings = [finding for name in names for finding in catalogue(name)]
    findings.sort(key=lambda finding: finding.rank != "harmless")
    return tuple((finding, re.compile(finding.pattern)) for finding in findings)


@cache
def _places() -> tuple[tuple[Finding, re.Pattern[str]], ...]:
    return tuple(
        (finding.model_copy(update={"rank": "general"}), re.compile(finding.raised_in))
        for finding, _ in _known()
        if finding.raised_in
    )


#: A step of a traceback; the last one is where the error was raised.
_FRAME = re.compile(r'File "([^"]+)", line \d+')


def match(text: str) -> Finding | None:
    """What a line means: the first finding whose pattern it has."""
    return _match(_VARYING.sub("0", text), _OUR_PORT.search(text) is not None)


@lru_cache(maxsize=20_000)
def _match(text: str, ours: bool) -> Finding | None:
    if _QUOTED.search(text) or (_beside().search(text) and not ours):
        return None
    failed = () if _TELLS.search(text) is None else ("cause", "general", "unknown")
    return next((one for one, pattern in _known() if one.rank not in failed and pattern.search(text)), None)


def diagnose(lines: Iterable[Line]) -> list[Diagnosis]:
    """What is wrong by these lines, most likely first.

    Causes come before consequences and notes. Of several causes, those of the engine's last start come first, then
    those of the start before it; of one start in the order in which they appear: the first error is the reason for the
    next. What the engine came up after comes later; a download that was tried again, and went well, is left out.
    """
    findings: dict[str, Finding] = {}
    evidence: dict[str, list[Line]] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    turn: dict[str, int] = {}  # in which start it was seen last
    boot: dict[str, int] = {}  # and since which start of the machine
    starts, boots, serves, fetched = 0, 0, -1, -1
    stopping = False
    place: Finding | None = None
    for position, line in enumerate(lines):
        if frame := _FRAME.search(line.text):
            place = next((one for one, where in _places() if where.search(frame[1])), place)
        elif "Traceback (most recent call last)" in line.text:
            place = None
        if line.number and _STARTS.search(line.text):
            starts, stopping = starts + 1, False
        if _BOOTS.search(line.text):
            boots += 1
        if line.number and _STOPS.search(line.text):
            stopping = True
        if line.number and _SERVES.search(line.text):
            serves = position
        if _FETCHED.search(line.text):
            fetched = position
        finding = match(line.text)
        if finding is not None and finding.rank == "unknown" and place is not None:
            finding, place = place, None
        if finding is None or finding.rank == "harmless" or (stopping and finding.rank in ("consequence", "unknown")):
            continue
        code = finding.code
        if code not in findings or findings[code].rank in ("general", "note"):
            findings[code] = finding
        evidence.setdefault(code, []).append(line)
        boot[code] = boots
        # A fact is true now, whatever the log says later.
        last[code], now = (position, starts) if line.number else (sys.maxsize, sys.maxsize)
        if turn.get(code) != now and turn.get(code) != sys.maxsize:
            first[code], turn[code] = position, now

    def likely(code: str) -> tuple[int, int, int, int]:
        rank = findings[code].rank
        order = {"cause": 0, "general": 1, "unknown": 2, "flaw": 3, "consequence": 5, "note": 6}[rank]
        if any(other in codes and boot[other] == boot[code] for other in findings[code].follows):
            order = 5
        return 4 if past(code) and order < 3 else order, -turn[code], order, first[code]

    def past(code: str) -> bool:
        return findings[code].rank != "flaw" and last[code] < serves

    # A server that serves tells of its clients' mistakes, too.
    ended = serves < 0 or any(findings[code].rank == "consequence" and last[code] > serves for code in findings)
    codes = [
        code
        for code in findings
        if not (findings[code].rank == "consequence" and past(code))  # what it was of is over, too
        and not (last[code] < max(serves, fetched) and all(_TRIES_AGAIN.search(line.text) for line in evidence[code]))
        and (findings[code].rank != "unknown" or (ended and not past(code)))
    ]
    return [
        Diagnosis(findings[code], (*evidence[code][: _SHOWN - 1], *evidence[code][_SHOWN - 1 :][-1:]), past(code))
        for code in sorted(codes, key=likely)
    ]
