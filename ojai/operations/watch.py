"""What watches a host: its files before its packages, its programs, and all of it gone again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pyinfra import host
from pyinfra.api import operation

from ojai import watch
from ojai.facts.files import Existing
from ojai.facts.report.watch import ALERTMANAGER, EXPORTER, PROMETHEUS, TEXTFILES
from ojai.facts.service import CURL, SystemdUnit
from ojai.operations import Step, Steps, apt, files, service, steps_or_noop
from ojai.paths import UNITS

#: Whether a program answers, by the path on which it says so.
_READY = {PROMETHEUS: "/-/ready", EXPORTER: "/", ALERTMANAGER: "/-/ready"}


@operation()
def configured(written: Mapping[str, str]) -> Steps:
    """Write the options and configuration of all that watches, and remove what is no longer configured of it.

    + written: path -> text
    """
    steps: list[Step] = []
    for path, text in written.items():
        steps += files.text_file._inner(path=path, text=text)
    others = [path for path in watch.every_file() if path not in written]
    if watch.DROP_INS[ALERTMANAGER] in others:
        others.append(watch.SECRET_FOLDER)
    if there := host.get_fact(Existing, paths=tuple(others)):
        steps.append(f"rm -rf -- {shlex.join(there)}")
    yield from steps_or_noop(steps, "it is as the inventory has it")


@operation()
def running(ports: Mapping[str, int], secrets: Sequence[str]) -> Steps:
    """Run the packages' own units and our timer with what is on disk, and see that each answers.

    + ports: package -> port of each that is to run
    + secrets: files that systemd hands to Alertmanager
    """
    steps: list[Step] = []
    for package, port in ports.items():
        inputs = [*watch.inputs(package), *(secrets if package == ALERTMANAGER else ())]
        changes = list(service.running._inner(unit=f"{package}.service", inputs=inputs))
        steps += changes
        if changes:
            # It reads what it kept before it answers.
            ask = f"{CURL} -s -f -o /dev/null --retry 30 --retry-delay 1 --retry-connrefused --retry-all-errors"
            steps.append(
                f"{ask} http://127.0.0.1:{port}{_READY[package]} || {{ "
                f"echo 'watch: found no answer of {package} on port {port}; expected one within 30 s. What to do: "
                f"journalctl -u {package}' >&2; exit 1; }}"
            )
    timer = host.get_fact(SystemdUnit, unit=watch.TIMER)
    service_file = host.get_fact(SystemdUnit, unit=watch.UNIT)
    if timer.reload or service_file.reload:
        steps.append("systemctl daemon-reload")
    if not timer.starts_at_boot or timer.active != "active":
        steps.append(f"systemctl enable --now {watch.TIMER} && systemctl start {watch.UNIT}")
    yield from steps_or_noop(steps, "it runs from what is on disk")


@operation()
def gone(packages: Sequence[str] = watch.PACKAGES, textfiles: str = TEXTFILES) -> Steps:
    """Stop and remove what watches, with its samples. What is the owner's stays as it is.

    + packages: those to remove if they are this project's
    + textfiles: the folder of node exporter's texts
    """
    steps: list[Step] = []
    places = (*watch.every_file(), watch.FOLDER, watch.SECRET_FOLDER, f"{textfiles}/ojai.prom")
    there = host.get_fact(Existing, paths=places)
    if f"{UNITS}/{watch.TIMER}" in there:
        steps.append(f"systemctl disable --now {watch.TIMER}")
    steps += apt.packages_removed._inner(names=list(packages))
    if there:
        folders = shlex.join(path.rpartition("/")[0] for path in watch.DROP_INS.values())
        steps.append(
            f"rm -rf -- {shlex.join(there)}; for folder in {folders}; do ! test -d $folder || "
            "rmdir --ignore-fail-on-non-empty $folder; done; systemctl daemon-reload"
        )
    yield from steps_or_noop(steps, "nothing of ours watches")
