"""The checks of ``tests/host``, run over an inventory: a process a host, side by side, and one verdict."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ojai.resources import CHECKS

#: Seconds that all checks of one host may take; half a minute is usual. With ``--disruptive`` the services' start
#: times come on top.
TIMEOUT = 600

#: Hosts checked at the same time; each is one process that waits for its host most of the time.
MAX_WORKERS = 8

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One check of one host. ``area`` is its module, ``message`` why it failed or was left out."""

    area: str
    name: str
    outcome: Outcome
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class Verdict:
    """All checks of one host; ``error`` says why there are none (pytest itself failed)."""

    host: str
    checks: tuple[Check, ...]
    junit: str
    error: str = ""

    def count(self, outcome: Outcome) -> int:
        """How many checks had this outcome."""
        return sum(check.outcome == outcome for check in self.checks)

    @property
    def ok(self) -> bool:
        """Whether something was checked and nothing failed: a host that could not be checked is not good."""
        return not self.error and self.count("passed") > 0 and self.count("failed") == 0


def read_junit(host: str, text: str) -> Verdict:
    """A verdict from pytest's JUnit XML."""
    checks = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        found = bad if bad is not None else skipped
        outcome: Outcome = "failed" if bad is not None else "skipped" if skipped is not None else "passed"
        checks.append(
            Check(
                area=case.get("classname", "").rsplit(".", 1)[-1].removeprefix("test_"),
                name=case.get("name", "").split("[", 1)[0].removeprefix("test_").replace("_", " "),
                outcome=outcome,
                seconds=float(case.get("time", "0")),
                message=_first_lines(_message(found)) if found is not None else "",
            )
        )
    return Verdict(host=host, checks=tuple(checks), junit=text)


def _message(found: ElementTree.Element) -> str:
    """Why: pytest shortens the attribute, and has all of it in the text where a check failed without a traceback."""
    short, text = found.get("message", "").removeprefix("Failed: "), found.text or ""
    return text if text[:100] == short[:100] else short


def _first_lines(message: str, most: int = 3) -> str:
    lines = [line.strip() for line in message.removeprefix("AssertionError: ").splitlines() if line.strip()]
    return "\n".join(lines[:most])


def verify_host(inventory: str, host: str, disruptive: bool = False, timeout_seconds: float = TIMEOUT) -> Verdict:
    """Check one host of an inventory, in processes of its own, for ``timeout_seconds`` seconds at most.

    The dry run that looks for drift takes as long as all else together, so the two run side by side; not so with
    ``disruptive``, which would pull the host away from under it.
    """
    if not host.startswith("@local") and shutil.which("ssh") is None:
        error = "this computer has no program `ssh`, which the checks connect with: apt install openssh-client"
        return Verdict(host=host, checks=(), junit="", error=error)
    drift, rest = ["test_drift.py"], sorted(path.name for path in CHECKS.glob("test_*.py") if path.stem != "test_drift")
    with ThreadPoolExecutor(max_workers=1 if disruptive else 2) as pool:
        first = pool.submit(_run, inventory, host, drift, False, timeout_seconds)
        second = pool.submit(_run, inventory, host, rest, disruptive, timeout_seconds)
        return _joined(second.result(), first.result())


def _joined(one: Verdict, other: Verdict) -> Verdict:
    """Both halves of a host's verdict as one."""
    error = one.error or other.error
    if error:
        return Verdict(host=one.host, checks=(*one.checks, *other.checks), junit="", error=error)
    suites = ElementTree.Element("testsuites")
    for half in (one, other):
        suites.extend(ElementTree.fromstring(half.junit).iter("testsuite"))
    return Verdict(
        host=one.host,
        checks=tuple(sorted((*one.checks, *other.checks), key=lambda check: check.area)),
        junit=ElementTree.tostring(suites, encoding="unicode"),
    )


def _run(inventory: str, host: str, files: list[str], disruptive: bool, timeout_seconds: float) -> Verdict:
    try:
        return _checked(inventory, host, files, disruptive, timeout_seconds)
    except subprocess.TimeoutExpired:
        error = f"the checks did not end within {timeout_seconds:.0f} s; does the host still answer, and its Docker?"
    except (OSError, ElementTree.ParseError) as failure:
        # Of this machine; the other hosts are told of all the same.
        error = f"the checks could not be run: {failure}"
    return Verdict(host=host, checks=(), junit="", error=error)


def _checked(inventory: str, host: str, files: list[str], disruptive: bool, timeout_seconds: float) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="ojai-verify-") as folder:
        report = Path(folder) / "junit.xml"
        argv = [sys.executable, "-m", "pytest", *(str(CHECKS / name) for name in files), "--rootdir", str(CHECKS)]
        argv += ["-q", "-p", "no:cacheprovider", f"--inventory={inventory}", f"--host={host}"]
        argv += ["--junitxml", str(report), "-o", "junit_family=xunit2"]
        if disruptive:
            argv.append("--disruptive")
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout_seconds)
        if done.returncode not in (0, 1) or not report.exists():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
            # Control characters have no place in XML.
            told = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "", "\n".join(said))
            return Verdict(host=host, checks=(), junit="", error=told or f"pytest exited {done.returncode}")
        return read_junit(host, report.read_text())


def verify(
    inventory: str, hosts: list[str], disruptive: bool = False, timeout_seconds: float = TIMEOUT
) -> Iterator[Verdict]:
    """Check hosts side by side; verdicts come as they are ready, one for every host, whatever becomes of others.

    A host whose checks have not ended after ``timeout_seconds`` seconds has failed.
    """
    with ThreadPoolExecutor(max_workers=MAX_WORKERS) as pool:
        for future in as_completed(
            [pool.submit(verify_host, inventory, host, disruptive, timeout_seconds) for host in hosts]
        ):
            yield future.result()


def merge_junit(verdicts: list[Verdict]) -> str:
    """One JUnit document with a suite a host; a host that could not be checked is an error in it."""
    suites = ElementTree.Element("testsuites", name="ojai verify")
    for verdict in verdicts:
        if verdict.error:
            suite = ElementTree.SubElement(suites, "testsuite", name=verdict.host, tests="1", errors="1", failures="0")
            case = ElementTree.SubElement(suite, "testcase", classname="host", name="can be checked")
            ElementTree.SubElement(case, "error", message=verdict.error)
            continue
        for suite in ElementTree.fromstring(verdict.junit).iter("testsuite"):
            suite.set("name", verdict.host)
            suites.append(suite)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)
