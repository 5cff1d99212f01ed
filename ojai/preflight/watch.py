"""Whether what watches a host can stand beside what the owner has for that. It is joined, never replaced."""

from __future__ import annotations

from collections.abc import Iterator

from ojai import watch
from ojai.facts.report import Report
from ojai.facts.report.watch import ALERTMANAGER, EXPORTER, PROMETHEUS, TEXTFILES
from ojai.gateway import NODE_PORT
from ojai.preflight import FailedCheck
from ojai.preflight.ports import freed, named, state
from ojai.settings import HostSettings

#: What the owner adds to their own prometheus.yml.
TO_ADD = (
    f"rule_files: [{watch.ALERTS}] and, in scrape_configs, {{job_name: ojai, file_sd_configs: [{{files: "
    f"[{watch.TARGETS}]}}]}}"
)


def wanted_packages(settings: HostSettings) -> tuple[str, ...]:
    """What is installed on a host that has none of it."""
    return tuple(watch.ports(settings))


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why the host cannot be watched beside what is there."""
    wanted, found = watch.ports(settings), report.watch
    for package in (one for one in wanted if one in found.theirs and one not in found.running):
        yield FailedCheck(
            "watch",
            f"a {package} of yours that does not run",
            "it running, to be joined, or none",
            f"`sudo systemctl enable --now {package}`, or remove it",
        )
    if EXPORTER in wanted and EXPORTER in found.running:
        if not found.textfiles:
            yield FailedCheck(
                "watch",
                "a node exporter of yours without a folder for texts",
                "one: certificates, verify's verdict and more are told there",
                f"start it with --collector.textfile.directory={TEXTFILES}, and --collector.drm for the GPU",
            )
        if found.node_port != NODE_PORT:
            yield FailedCheck(
                "watch",
                f"a node exporter of yours on port {found.node_port}",
                f"it on port {NODE_PORT}",
                "let it listen there, or set `watch: none`",
            )
    if PROMETHEUS in wanted and PROMETHEUS in found.running and not found.joined:
        yield FailedCheck(
            "watch",
            "a Prometheus of yours that does not read what ojai writes for it",
            "it joined: it stays as it is, and no second one is installed",
            f"add to its configuration {TO_ADD}; reload it, then run the deploy again; or set `watch: none`",
        )
    decides = [one for one in (PROMETHEUS, ALERTMANAGER) if one in found.theirs]
    if settings.watch == "box" and watch.receives(settings) and decides:
        yield FailedCheck(
            "watch",
            f"a receiver in the inventory, and a {decides[0]} of yours",
            "one of them: your own decides where alerts go",
            "leave out `webhook` and `watch_mail`, and route alerts there as you do the others",
        )
    for package, port in wanted.items():
        for holder in report.ports:
            ours = package in found.ours or package in found.theirs or holder.ours
            if holder.port == port and not ours:
                other = ", or set another `watch_port`" if package == PROMETHEUS else ""
                yield FailedCheck(
                    "watch port",
                    f"{port} {state(holder)} by {named(holder)}",
                    f"it free for {package}",
                    f"{freed(holder)}{other}, or set `watch: none`",
                )
