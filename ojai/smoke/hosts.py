"""The checks of all services of a host."""

from __future__ import annotations

from collections.abc import Callable

from ojai.parameters import absolute
from ojai.pyinfra_runs import kept
from ojai.serving import NotReachedError, Place
from ojai.smoke import Report
from ojai.smoke.asking import Rules
from ojai.smoke.checks import run


def ask(
    place: Place, inventory: str | None, rules: Rules, only: tuple[str, ...], tell: Callable[[str, str], None]
) -> list[Report]:
    """A report of each server; ``tell``: hears the server's name and how far it is. With an inventory it is kept."""
    reports = []
    try:
        with place.reach() as servers:
            for server in servers:
                results = []
                for result in run(server, rules, only):
                    results.append(result)
                    tell(server.name, f"{len(results)} checks done, the last one: {result.name}")
                reports.append(Report(server.name, server.model, tuple(results)))
                if inventory and server.service:
                    found = [(server.service.name, one.name, one.outcome, one.came) for one in results]
                    kept.keep_results(absolute(inventory), place.name, "smoke", found)
        return reports
    except NotReachedError as error:
        return [Report(place.name, "", error=str(error))]
