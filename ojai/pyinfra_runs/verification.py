"""The checks of ``tests/host``, run over an inventory: two processes a host, hosts side by side, one verdict each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ojai.pyinfra_runs.drift import UNREACHABLE, find_drift
from ojai.resources import CHECKS
from ojai.settings.inventory import Entry
from ojai.settings.lock import VARIABLE

#: Seconds that all checks of one host may take; half a minute is usual. With ``--disruptive`` the services' start
#: times come on top.
TIMEOUT = 600

#: Hosts checked at the same time; each is two processes that wait for their host most of the time.
MAX_WORKERS = 8

#: The area of the dry run, which is no file of checks here.
DRIFT = "drift"

#: ``warned``: passed, with something to be told.
Outcome = Literal["passed", "warned", "failed", "skipped"]
State = Literal["ok", "failed", "unreachable", "timed out", "not checked"]


@dataclass(frozen=True)
class Check:
    """One check of one host. ``area`` is its module, ``message`` why it failed, warned or was skipped."""

    area: str
    name: str
    outcome: Outcome
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class Verdict:
    """All checks of one host, and the same as a JUnit suite; ``error`` says why there are none."""

    host: str
    suite: ElementTree.Element
    checks: tuple[Check, ...] = ()
    error: str | None = None
    state: State = "not checked"

    def count(self, outcome: Outcome) -> int:
        """How many checks had this outcome."""
        return sum(check.outcome == outcome for check in self.checks)

    @property
    def ok(self) -> bool:
        """Whether something was checked and nothing failed: a host that could not be checked is not ok."""
        return self.state == "ok"

    @property
    def seconds(self) -> float:
        """How long the checks took."""
        return float(self.suite.get("time", "0"))


@dataclass(frozen=True)
class Plan:
    """What to check: files of checks, whether to look for drift and with which deploy, and for how long.

    + strict: a warning counts as a failure; deep: what is known by size and times is hashed too
    """

    files: tuple[Path, ...]
    deploy: Path | None
    disruptive: bool = False
    strict: bool = False
    deep: bool = False
    timeout_seconds: float = TIMEOUT


def areas(folders: Iterable[Path] = ()) -> dict[str, list[Path]]:
    """The files of each area, our own checks' and those in ``folders``; drift has none."""
    found: dict[str, list[Path]] = {DRIFT: []}
    for folder in (CHECKS, *folders):
        for path in sorted(folder.resolve().glob("test_*.py")):
            found.setdefault(path.stem.removeprefix("test_"), []).append(path)
    found[DRIFT] = [path for path in found[DRIFT] if path.parent != CHECKS.resolve()]
    return dict(sorted(found.items()))


def failed(host: str, error: str, state: State = "not checked") -> Verdict:
    """The verdict of a host that could not be checked: one error in its suite."""
    # Control characters have no place in XML.
    error = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "", error)
    suite = ElementTree.Element("testsuite", name=host, tests="1", errors="1", failures="0", skipped="0", time="0")
    case = ElementTree.SubElement(suite, "testcase", classname="host", name="can be checked")
    ElementTree.SubElement(case, "error", message=error)
    return Verdict(host, suite, error=error, state=state)


class ChecksError(Exception):
    """Files of checks that cannot be imported: no host's fault. The message names each with its error."""


def _unreadable(text: str) -> str | None:
    """The files that pytest could not import, from its JUnit XML, each with its error; None if that is not why."""
    found = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        error = case.find("error")
        if error is not None and error.get("message") == "collection failure":
            last = (error.text or "").strip().splitlines()[-1].removeprefix("E").strip()
            found.append(f"{case.get('name', '').rsplit('.', 1)[-1]}.py: {last}")
    return "; ".join(found) or None


def read_junit(host: str, text: str, strict: bool = False) -> Verdict:
    """A verdict from pytest's JUnit XML."""
    suite = next(ElementTree.fromstring(text).iter("testsuite"))
    for case in suite.iter("testcase"):
        error = case.find("error")
        cause = (error.text or "") if error is not None else ""
        if cause.startswith(f"{host}: "):
            cause = cause.removeprefix(f"{host}: ")
            return failed(host, cause, "unreachable" if cause.startswith(UNREACHABLE) else "not checked")
    return _verdict(host, suite, strict)


def _verdict(host: str, suite: ElementTree.Element, strict: bool = False) -> Verdict:
    suite.set("name", host)
    checks = tuple(sorted(map(_check, suite.iter("testcase")), key=lambda check: check.area))
    if strict:
        checks = tuple(replace(one, outcome="failed") if one.outcome == "warned" else one for one in checks)
    outcomes = {check.outcome for check in checks}
    if outcomes & {"failed", "passed", "warned"}:
        return Verdict(host, suite, checks, state="failed" if "failed" in outcomes else "ok")
    reasons = dict.fromkeys(check.message for check in checks)
    return Verdict(host, suite, checks, error=f"no check applies: {'; '.join(reasons) or 'none was chosen'}")


def _check(case: ElementTree.Element) -> Check:
    bad = case.find("failure") if case.find("failure") is not None else case.find("error")
    skipped = case.find("skipped")
    found = bad if bad is not None else skipped
    warning = told(case, "warning")
    outcome: Outcome = "warned" if warning else "passed"
    return Check(
        area=case.get("classname", "").rsplit(".", 1)[-1].removeprefix("test_"),
        name=case.get("name", "").split("[", 1)[0].removeprefix("test_").replace("_", " "),
        outcome="failed" if bad is not None else "skipped" if skipped is not None else outcome,
        seconds=float(case.get("time", "0")),
        message=_first_lines(_message(found)) if found is not None else warning or told(case, "note"),
    )


def told(case: ElementTree.Element, name: str) -> str:
    """A property that a check has recorded: ``warning``, ``note``, or the ``surface`` of the host."""
    return next((one.get("value", "") for one in case.iter("property") if one.get("name") == name), "")


def _message(found: ElementTree.Element) -> str:
    """Why: pytest shortens the attribute, and has all of it in the text where a check failed without a traceback."""
    short, text = found.get("message", "").removeprefix("Failed: "), found.text or ""
    return text if text[:100] == short[:100] else short


def _first_lines(message: str, most: int = 3) -> str:
    lines = [line.strip() for line in message.removeprefix("AssertionError: ").splitlines() if line.strip()]
    return "\n".join(lines[:most])


def verify_host(entry: Entry, plan: Plan) -> Verdict:
    """Check one host, for ``timeout_seconds`` at most.

    The dry run that looks for drift takes as long as all checks together, so the two run side by side; not so with
    ``disruptive``, which would pull the host away from under it.
    """
    if not entry.name.startswith("@") and shutil.which("ssh") is None:
        return failed(entry.name, "this computer has no ssh, by which hosts are checked: apt install openssh-client")
    try:
        with ThreadPoolExecutor(max_workers=1 if plan.disruptive else 2) as pool:
            drift = pool.submit(_drift, entry, plan) if plan.deploy else None
            verdict = pool.submit(_pytest, entry, plan).result() if plan.files else None
            if verdict and verdict.error and not verdict.checks:
                return verdict  # the dry run met the same
            suite = verdict.suite if verdict else ElementTree.Element("testsuite", time="0")
            if drift:
                case = drift.result()
                cause = case.findtext("failure") or ""
                if not verdict and cause.startswith(UNREACHABLE):
                    return failed(entry.name, cause, "unreachable")
                suite.append(case)
                for kind in ("tests", "failures") if len(case) else ("tests",):
                    suite.set(kind, str(int(suite.get(kind, "0")) + 1))
                suite.set("time", str(max(float(suite.get("time", "0")), float(case.get("time", "0")))))
            return _verdict(entry.name, suite, plan.strict)
    except subprocess.TimeoutExpired:
        error = (
            f"the checks did not end within {plan.timeout_seconds:.0f} s; does the host still answer, and its Docker?"
        )
        return failed(entry.name, error, "timed out")
    except (OSError, ValueError, ElementTree.ParseError) as error:
        # Of this machine; the other hosts are reported all the same.
        return failed(entry.name, f"the checks could not be run: {error}")


def _drift(entry: Entry, plan: Plan) -> ElementTree.Element:
    started = time.monotonic()
    found = find_drift(entry, plan.deploy, plan.timeout_seconds) if plan.deploy else None
    case = ElementTree.Element("testcase", classname=DRIFT, name="test_the_deploy_would_change_nothing")
    case.set("time", f"{time.monotonic() - started:.3f}")
    if found:
        ElementTree.SubElement(case, "failure", message=found).text = found
    return case


def _pytest(entry: Entry, plan: Plan) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="ojai-verify-") as folder:
        # In a file, since data may have passwords and every account can read a command line. The folder is ours alone.
        host, report = Path(folder) / "host.json", Path(folder) / "junit.xml"
        host.touch(0o600)
        host.write_text(json.dumps([{"name": entry.name, "groups": entry.groups, "data": dict(entry.data)}]))
        # No settings of pytest but these, whatever folder the checks are in, and no conftest.py above ours.
        argv = [sys.executable, "-P", "-m", "pytest", *map(str, plan.files), "-q", "-p", "ojai.checks"]
        argv += ["-c", os.devnull, "--rootdir", CHECKS.anchor, "--confcutdir", str(CHECKS.resolve())]
        argv += ["-p", "no:cacheprovider", "--import-mode=importlib", f"--inventory={host}"]
        argv += ["--junitxml", str(report), "-o", "junit_family=xunit2"]
        if plan.disruptive:
            argv.append("--disruptive")
        if plan.deep:
            argv.append("--deep")
        done = subprocess.run(
            argv,
            env={**os.environ, VARIABLE: str(entry.lock or "")},
            capture_output=True,
            text=True,
            check=False,
            timeout=plan.timeout_seconds,
        )
        if done.returncode == 2 and report.exists() and (faults := _unreadable(report.read_text())):
            raise ChecksError(faults)
        if done.returncode not in (0, 1) or not report.exists():
            last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
            return failed(entry.name, last or f"pytest exited {done.returncode}")
        return read_junit(entry.name, report.read_text(), plan.strict)


def verify(entries: list[Entry], plan: Plan) -> Iterator[Verdict]:
    """Check hosts side by side; verdicts come as they are ready, one for every host, whatever becomes of others."""
    pool = ThreadPoolExecutor(max_workers=MAX_WORKERS)
    try:
        for future in as_completed([pool.submit(verify_host, entry, plan) for entry in entries]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # whoever is interrupted begins no more hosts


def merge_junit(verdicts: list[Verdict]) -> str:
    """One JUnit document with a suite a host."""
    suites = ElementTree.Element("testsuites", name="ojai verify")
    suites.extend(verdict.suite for verdict in verdicts)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)
