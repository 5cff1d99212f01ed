"""A service's tuning file, made on purpose by a unit of the host's own, which puts the service back at any end."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import StringCommand, operation

from ojai import resources
from ojai.engines import ResolvedService
from ojai.facts.files import Existing
from ojai.facts.service import SystemdUnit
from ojai.operations import Steps
from ojai.operations.progress import refuse, with_progress
from ojai.operations.vllm import on_this_host


@operation()
def tuned(service: ResolvedService, minutes: int, again: bool = False) -> Steps:
    """Make the tuning file of a service's image and this GPU. The service is away meanwhile, and then uses it.

    A unit of its own does it, so that an end of this run, or too long a time, ends the tuning and not the service: it
    is started again as it was. A power cut too: nothing of it is on disk but the file, once that is whole.

    + service: one that uses a file
    + minutes: the most that it may take
    + again: even if there is a file
    """
    placed = on_this_host(service)
    plan = placed.engine.tuning(placed)
    if plan is None:
        yield refuse(
            f"{service.name}: found tunableop {service.features.tunableop or 'off'}; expected use: a file that is not "
            "used need not be made. What to do: set `tunableop: use`, deploy, then tune."
        )
        return
    if not again and host.get_fact(Existing, paths=(plan.kept,)):
        host.noop(f"it is there: {plan.kept}")
        return
    if not host.get_fact(SystemdUnit, unit=service.unit).up:
        yield refuse(
            f"{service.name}: found its unit down; expected it running: it would have to be started again afterwards. "
            "What to do: `ojai doctor INVENTORY`, run the deploy, then this again."
        )
        return
    script = f"/run/ojai-tune-{service.name}.sh"
    values = {
        "name": service.name,
        "unit": service.unit,
        "url": f"http://{service.address}:{service.port}",
        "health": service.engine.api.health,
        "model": placed.command.served_model_name,
        "made": plan.made,
        "kept": plan.kept,
        "stop": str(service.stop_timeout),
    }
    head = [f"{key}={shlex.quote(value)}" for key, value in values.items()]
    text = "\n".join([*head, f"set -- {shlex.join(plan.argv)}", resources.text("tune.sh")])
    yield StringCommand(f"umask 077; cat > {script}", _stdin=text)
    back = f"docker rm --force {service.name}; rm -f {script} {shlex.quote(plan.made)}; systemctl start {service.unit}"
    properties = {
        "RuntimeMaxSec": str(minutes * 60),
        "TimeoutStopSec": str(service.stop_timeout + 60),
        "KillMode": "mixed",
        "ExecStopPost": f"/bin/sh -c {shlex.quote(back)}",
    }
    options = " ".join(f"--property={shlex.quote(f'{name}={value}')}" for name, value in properties.items())
    yield with_progress(
        f"systemctl reset-failed ojai-tune-{service.name}.service 2>/dev/null; systemd-run --quiet --wait --pipe "
        f"--collect --unit=ojai-tune-{service.name} {options} sh {script} </dev/null || {{ status=$?; echo "
        f"'{service.name}: it was not tuned, or not within {minutes} minutes; the service is started again as it was' "
        ">&2; exit $status; }",
        f"{service.name}: tuning, {minutes} minutes at most",
        show=True,
    )
