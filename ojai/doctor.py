"""What is wrong with a host, and what to do: from its answers, or from a bundle of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import ojai
from ojai.connection.likely import likely
from ojai.containers import is_secret
from ojai.diagnosis import Diagnosis, Finding, Line, diagnose
from ojai.facts.condition import Answered
from ojai.gauge.result import Run
from ojai.heard import heard
from ojai.memory import bands
from ojai.preflight.host import failed_checks
from ojai.preflight.memory import memory_of
from ojai.profiles import budgets
from ojai.pyinfra_runs.kept import Kept
from ojai.settings import HostSettings, SettingsError, parse
from ojai.sizes import GIB

#: The form of bundles; docs/guide/troubleshooting.md describes it.
FORMAT, VERSION = "ojai-bundle", 2

_ANSWERED = TypeAdapter(Answered)

#: Tokens between which the server measured, from which on their mean tells of its speed.
_MEASURED = 200


class BundleError(ValueError):
    """A file that is no bundle; the message has what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Results:
    """What was last found of a host from this computer: checks of verify and smoke, and a run of bench a service."""

    checks: tuple[Kept, ...] = ()
    bench: tuple[Run, ...] = ()


_RESULTS = TypeAdapter(Results)


@dataclass(frozen=True)
class Case:
    """A host: what the inventory says of it, and what it answered, or why it did not.

    + data: its inventory data without secrets, and without how it is reached
    + asked: when it answered (seconds since 1970)
    + results: without secrets, too
    """

    name: str
    data: Mapping[str, Any]
    asked: float
    answered: Answered | None = None
    failure: str = ""
    results: Results = field(default_factory=Results)


def _found(code: str, rank: str, cause: str, fix: str, source: str, *evidence: str) -> Diagnosis:
    finding = Finding.model_validate(
        {"code": code, "pattern": "", "rank": rank, "cause": cause, "fix": fix, "source": source}
    )
    return Diagnosis(finding, tuple(Line(0, text) for text in evidence))


_CASE = TypeAdapter(Case)


def unreachable(name: str, data: Mapping[str, Any], failure: str) -> Diagnosis:
    """The diagnosis of a host that gave no answer. ``data``: of the inventory, with how it is reached."""
    if "sudo" in failure:
        todo = (
            "give the account sudo without a password, or its password as `_sudo_password` in the data; where there is "
            "no sudo, log in as root with `_sudo: False`"
        )
        return _found("no-root", "cause", "the login may not run commands as root", todo, "sudo", failure)
    look = f"look in the inventory at {likely(name, data, failure)} `ssh HOST sudo true` must work first"
    return _found("unreachable", "cause", "the host gave no answer", look, "pyinfra", failure)


def examine(case: Case, data: Mapping[str, Any] | None = None) -> list[Diagnosis]:
    """What is wrong with a host, most likely first: by its log and facts, and by preflight.

    ``data``: how it is reached, where that is known.
    """
    if case.answered is None:
        return [unreachable(case.name, data or {}, case.failure)]
    answered = case.answered
    try:
        settings = parse(case.name, case.data)
    except SettingsError as error:
        settings = None
        unread = [_found("inventory", "note", "its inventory data are not judged", "nothing", "ojai", str(error))]
    else:
        unread = []
    lines = [Line(0, text) for text in facts(case)]
    found = diagnose([*lines, *(Line(number, text) for number, text in enumerate(answered.log, 1))])
    causes = [one for one in found if one.finding.rank == "cause" and not one.past]
    others = [one for one in found if one not in causes]
    if settings and answered.report:
        failed = failed_checks(settings, answered.report, case.asked)
        for one in failed:
            cause = f"{one.check}: found {one.found}; expected {one.expected}"
            causes.append(_found("preflight", "cause", cause, one.todo, "preflight", one.found))
    allowed = [one for service in settings.resolved for one in service.allowed] if settings else []
    known = [_found(one.code, "note", one.reason, "the inventory allows it", one.source, str(one)) for one in allowed]
    return [_with_names(one, settings) for one in (*causes, *others, *_failed(case), *known, *unread)]


def _with_names(found: Diagnosis, settings: HostSettings | None) -> Diagnosis:
    """What to do as it is typed: with the unit and the profile, where the host has one service."""
    if settings is None or len(settings.resolved) != 1:
        return found
    (service,) = settings.resolved
    fix = re.sub(r"\bUNIT\b", service.unit.removesuffix(".service"), found.finding.fix)
    fix = re.sub(r"\bPROFILE\b", service.profile.name, fix)
    return replace(found, finding=found.finding.model_copy(update={"fix": fix}))


def current(case: Case) -> Iterator[str]:
    """The results of what runs now, a line each: those since the host's boot and the last start of its services.

    Where a host does not say when that was, none is known to be of what runs now.
    """
    said = case.answered.facts if case.answered else ()
    uptime = next((found[1] for text in said if (found := re.match(r"fact uptime ([\d.]+)", text))), None)
    starts = [found[1] for text in said if (found := re.search(r"^fact container .*StartedAt=(\d\S+)", text))]
    try:
        since = max(case.asked - float(uptime or "unknown"), *map(_seconds, starts), 0.0)
        measured = [(run, _seconds(run.when)) for run in case.results.bench]
    except ValueError:
        return
    for one in case.results.checks:
        if one.when >= since:
            yield f"result {one.by} {one.about} {one.outcome} {one.name}{': ' if one.said else ''}{one.said}"
    for run, when in measured:
        if when >= since:
            mark = f"result bench {run.subject.service}"
            yield f"{mark} {'passed' if run.ok else 'failed'} verdict={run.verdict}"
            yield from (f"{mark} {one.rank} {one.code}: {one.found}" for one in run.findings)


def _seconds(when: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(when).timestamp()


def _failed(case: Case) -> Iterator[Diagnosis]:
    """A note for each command whose last results are of what runs now, and not all good."""
    for by in ("verify", "smoke", "bench"):
        if wrong := [line for line in current(case) if re.match(rf"result {by} \S+ fail(ed|ure) ", line)]:
            cause = f"the last `ojai {by}` found what is not as it should be"
            yield _found(
                f"{by}-failed", "note", cause, f"if it was mended since, run `ojai {by}` again", "ojai", *wrong
            )


def facts(case: Case) -> list[str]:
    """A host's facts, and what follows of them: its server's speed, and whether the memory budget is what it found."""
    try:
        settings = parse(case.name, case.data)
    except SettingsError:
        return list(case.answered.facts) if case.answered else []
    if case.answered is None:
        return []
    return [
        *case.answered.facts,
        *_speeds(settings, case.answered.facts),
        *_budget(settings, case.answered),
    ]


def _speeds(settings: HostSettings, facts: Sequence[str]) -> list[str]:
    """A fact for each service that has decoded enough to be judged: how fast, by its own metrics."""
    said = []
    for service in settings.resolved:
        line = next((text for text in facts if text.startswith(f"fact metrics {service.name} ")), "")
        values = dict(re.findall(r"(\w+)=([\d.e+-]+)", line))
        seconds, tokens = (float(values.get(name, 0)) for name in ("token_seconds", "token_intervals"))
        expected = budgets.decoding(service.profile, settings.accelerator)
        if seconds and tokens >= _MEASURED and expected:
            rate = tokens / seconds
            verdict = bands().rate(rate, expected.ceiling_tok_per_s).verdict
            said.append(
                f"fact decode {service.name} {rate:.1f} tokens/s a request, where the memory could deliver "
                f"{expected.ceiling_tok_per_s:.1f} verdict={verdict}"
            )
    return said


#: By how much what the engine finds for its cache may be off the budget.
_AGREES = 0.1


def _budget(settings: HostSettings, answered: Answered) -> list[str]:
    """A fact for a host with one service: the KV cache that the budget computes, and what the engine found last."""
    found = re.findall(r"Available KV cache memory: (-?[\d.]+) GiB", "\n".join(answered.log))
    memory = memory_of(settings, answered.report) if answered.report else None
    if len(settings.resolved) != 1 or not found or memory is None:
        return []
    (service,) = settings.resolved
    computed, measured = service.budget(memory).kv_available_bytes / GIB, float(found[-1])
    agrees = "yes" if abs(computed - measured) <= _AGREES * abs(measured) else "no"
    return [f"fact budget {service.name} found={measured:.2f} GiB computed={computed:.2f} GiB agrees={agrees}"]


_REMOVED = "(removed)"
_OPTION = re.compile(r"--[a-z-]*(key|token|password)", re.IGNORECASE)
_FORMS = (
    (re.compile(r"\b(hf_|sk-|ghp_|gho_|glpat-|dckr_pat_)[\w-]{8,}"), rf"\1{_REMOVED}"),
    (re.compile(r"\b(bearer|basic) +[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {_REMOVED}"),
    (re.compile(r"(//)[^/@\s\"]*:[^/@\s\"]*@"), rf"\1{_REMOVED}@"),
    (re.compile(r"(--[a-z-]*(?:key|token|password)[ =]+)[^-\s\"][^\s\"]*", re.IGNORECASE), rf"\1{_REMOVED}"),
)


def without_secrets(value: Any, name: str = "") -> Any:
    """A document without what is secret in it by its name, by its option or by its form."""
    if isinstance(value, Mapping):
        return {key: without_secrets(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        before = ["", *value]
        return [
            _REMOVED
            if isinstance(before[at], str) and _OPTION.fullmatch(before[at]) and isinstance(one, str)
            else without_secrets(one)
            for at, one in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    if name and is_secret(name, value):
        return _REMOVED
    for form, replacement in _FORMS:
        value = form.sub(replacement, value)
    return value


def case(
    name: str,
    data: Mapping[str, Any],
    asked: float,
    answered: Answered | None,
    failure: str,
    results: Results | None = None,
) -> Case:
    """A case with only those of the inventory's data that say what a host should be."""
    ours = {key: value for key, value in data.items() if key in HostSettings.model_fields}
    document = _forms_removed(_RESULTS.dump_python(results or Results(), mode="json"), tuple(_secrets(data)))
    return Case(name, without_secrets(ours), asked, answered, failure, _RESULTS.validate_python(document))


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    """What is secret in the inventory's data by its name, which a check may have repeated."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _secrets(one, str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _secrets(one)
    elif isinstance(value, str) and value and is_secret(name):
        yield value


def pack(cases: Sequence[Case], when: str) -> str:
    """A bundle as JSON text."""
    hosts = [
        {
            "host": one.name,
            "asked": one.asked,
            "failure": without_secrets(one.failure),
            "data": one.data,
            # The host removed its secrets by their names; what has the form of one is looked for again.
            "answer": _forms_removed(_ANSWERED.dump_python(one.answered, mode="json")) if one.answered else None,
            "results": _RESULTS.dump_python(one.results, mode="json"),
            "findings": [document(found) for found in examine(one)],
        }
        for one in cases
    ]
    bundle = {"format": FORMAT, "version": VERSION, "ojai": ojai.__version__, "made": when, "hosts": hosts}
    return json.dumps(bundle, indent=1)


#: What of a result is free text, which may repeat anything; all else is of ours, and may happen to hold a short secret.
_FREE = ("said", "error", "found", "metrics", "skipped", "text", "url")


def _forms_removed(value: Any, secrets: Sequence[str] = (), name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _forms_removed(one, secrets, str(key)) for key, one in value.items()}
    if isinstance(value, list):
        return [_forms_removed(one, secrets, name) for one in value]
    if isinstance(value, str) and name in _FREE:
        for secret in secrets:
            value = value.replace(secret, _REMOVED)
    return without_secrets(value)


def unpack(file: Path) -> list[Case]:
    """The hosts of a bundle. Raises :class:`BundleError`."""
    try:
        bundle = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(bundle, dict) or bundle.get("format") != FORMAT:
            raise BundleError(f"{file}: found no bundle; expected a file that `ojai doctor --bundle` wrote")
        if type(bundle["version"]) is not int or not 1 <= bundle["version"] <= VERSION:
            raise BundleError(
                f"{file}: found version {bundle['version']}; expected {VERSION} or older. What to do: use ojai "
                f"{bundle.get('ojai')} or a newer one"
            )
        return [
            _CASE.validate_python(
                {
                    "name": one["host"],
                    "data": one["data"],
                    "asked": one["asked"],
                    "answered": one["answer"] or None,
                    "failure": one["failure"],
                    # Version 1 had none.
                    "results": one.get("results", {}),
                }
            )
            for one in bundle["hosts"]
        ]
    except (
        OSError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        RecursionError,
        KeyError,
        TypeError,
        ValidationError,
    ) as error:
        raise BundleError(f"{file}: cannot be read as a bundle: {type(error).__name__}: {error}") from None


def shown(found: Diagnosis) -> Diagnosis:
    """A diagnosis whose evidence may be shown: what somebody's log says has secrets and control characters in it."""
    evidence = (replace(line, text=heard(without_secrets(line.text))) for line in found.evidence)
    return replace(found, evidence=tuple(evidence))


def document(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis as JSON has it."""
    finding = found.finding
    return {
        "code": finding.code,
        "rank": finding.rank,
        "past": found.past,
        "cause": finding.cause,
        "fix": finding.fix,
        "deploy_mends": finding.deploy_mends,
        "source": finding.source,
        "evidence": [{"line": one.number or None, "text": one.text} for one in found.evidence],
    }
