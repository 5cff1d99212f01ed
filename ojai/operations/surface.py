"""The record of a host's surface (see :mod:`ojai.surface`): made once, then only what deploys change."""

from __future__ import annotations

import hashlib

from pyinfra import host, logger
from pyinfra.api import Host, operation

from ojai import surface
from ojai.connection import privileges, reads
from ojai.facts.surface import SurfaceRecorded
from ojai.operations import Steps
from ojai.pyinfra_internals import SSHException


@operation()
def recorded(order: str) -> Steps:
    """Record the surface of a host that has no record, or none by this order, or one that a deploy left unfinished.

    What a deploy changes is recorded as it ends: see :func:`watch`.

    + order: what is to be read, as the program has it
    """
    found = host.get_fact(SurfaceRecorded)
    unfinished = found.unfinished and not reads.has_changed(host)
    if found.by != hashlib.sha256(order.encode()).hexdigest() or unfinished:
        yield surface.command("record")
    else:
        host.noop("it is recorded")


def watch(host: Host) -> None:
    """See how the host is before the first change of this run; at its end, record what has changed in between.

    So what was another before, and still is, stays unexplained. A run that changes nothing asks nothing.
    """
    host = host.state.inventory.get_host(host.name)  # in a deploy file the name means whichever host is current

    def run(shell: str) -> None:
        try:
            done, output = host.run_shell_command(shell, **privileges(host))
            said = output.output
        except (SSHException, EOFError, OSError) as error:  # the connection is lost
            done, said = False, str(error)
        if not done:
            logger.warning(
                f"{host.print_prefix}surface: found {' '.join(said.split())[-300:]!r}; expected a record of "
                "what this run changes. `ojai verify` will name these changes as unexplained"
            )

    reads.around_changes(
        host,
        first=lambda: run(f"if [ -e {surface.RECORDED} ]; then {surface.command('before')}; fi"),
        last=lambda: run(f"if [ -e {surface.BEFORE} ]; then {surface.command('record')}; fi"),
    )
