"""A systemd service that runs what is on disk, and is ready to serve.

A pyinfra handler does not survive a killed controller: a restart that depends on "changed in this run" is lost with the
run. Here it depends on the state of the host: the service is older than its inputs, or its container runs other
arguments than the unit has.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai.facts.docker import ContainerState, DockerContainer
from ojai.facts.service import Endpoint, ServerEndpoint, SystemdUnit, UnitState
from ojai.operations import Step, Steps, steps_or_noop
from ojai.operations.progress import (
    HEARTBEAT,
    OnFailure,
    ask,
    complain,
    connector_arguments,
    explain_failure,
    refuse,
    say,
)
from ojai.paths import ApiPaths

#: Seconds between two polls of a service that is starting.
POLL = 5.0

#: Polls in a row in which another program holds the port, or the server names no model, before the wait ends.
HELD = 3


def _unmask(unit: str, state: UnitState) -> Steps:
    if state.masked:
        yield f"systemctl unmask {'--runtime ' if state.enabled == 'masked-runtime' else ''}{shlex.quote(unit)}"


@operation()
def unmasked(units: Sequence[str]) -> Steps:
    """Unmask units. A masked unit keeps running, and is missing only after the next boot.

    + units: names of the units
    """
    steps = (step for unit in units for step in _unmask(unit, host.get_fact(SystemdUnit, unit=unit)))
    yield from steps_or_noop(steps, "none of them is masked")


def _restart_reasons(
    unit: UnitState,
    container: ContainerState | None,
    overrides: Sequence[str],
    image: str | None,
    argv: Sequence[str] | None,
) -> list[str]:
    """Why a running service does not run what is on disk."""
    reasons = {
        "it started before an input was changed": unit.stale,
        "its unit file is newer than what systemd has loaded": unit.reload,
        "a drop-in changed it": bool(overrides),
    }
    if container:
        reasons |= {
            "its container was not created by the unit": not container.created_by_unit(unit.started),
            "its container runs another image": image is not None and container.image != image,
            "its container runs other arguments": argv is not None and container.argv != tuple(argv),
            "its image name is another image by now": container.image_retagged,
            "a mounted directory was replaced": bool(container.stale_mounts),
        }
    return [reason for reason, holds in reasons.items() if holds]


@operation()
def running(
    unit: str,
    inputs: Sequence[str] = (),
    container: str | None = None,
    image: str | None = None,
    argv: Callable[[], Sequence[str]] | None = None,
    restart: bool = True,
    enable: bool = True,
    on_failure: OnFailure | None = None,
) -> Steps:
    """Enable a unit and run it from what is on disk: start it if it is down, restart it once if it is outdated.

    + unit: its name
    + restart: whether it may be restarted; otherwise it is only started
    + enable: whether it is also unmasked, and enabled for the boot
    + inputs: files that it reads when it starts; it must not be older than any of them
    + container: name of its container. Such a unit is entirely ours: its drop-ins are removed, and a drop-in that
      also applies to other units is refused
    + image: image name that the container must run
    + argv: gives the arguments that the container must run, by what this host has
    + on_failure: called if the unit cannot be started
    """
    found = host.get_fact(SystemdUnit, unit=unit, inputs=tuple(inputs))
    runs = host.get_fact(DockerContainer, container=container) if container else None
    overrides = found.overrides if container else ()
    shared = [path for path in overrides if path.rsplit("/", 2)[-2] != f"{unit}.d"]
    if shared:
        yield refuse(
            f"{unit}: found {', '.join(shared)}, which changes this unit and others too; expected: the unit as the "
            "deploy writes it. What to do: remove the file, or move its settings to the units that they are meant for."
        )
        return
    outdated = restart and _restart_reasons(found, runs, overrides, image, argv() if argv else None)
    steps: list[Step] = []
    if overrides:
        steps.append(f"rm -f {shlex.join(overrides)} && systemctl daemon-reload")
    if enable:
        steps += _unmask(unit, found)
    if found.reload and (restart or not found.up):
        steps.append("systemctl daemon-reload")
    if enable and not found.starts_at_boot:
        steps.append(f"systemctl enable {shlex.quote(unit)}")
    if container and runs and runs.paused and found.up:
        steps.append(f"docker unpause {shlex.quote(container)}")
    if outdated or not found.up:
        # Without it, a start limit that was reached earlier would refuse the start.
        steps.append(f"systemctl reset-failed {shlex.quote(unit)} || true")
        # A plain start of a unit in `activating (auto-restart)` would wait for its next try of the old unit.
        again = restart and (found.up or found.active == "activating")
        steps.append(_start(unit, "restart" if again else "start", on_failure))
    yield from steps_or_noop(steps, f"{unit} runs from what is on disk")


def _start(unit: str, verb: str, on_failure: OnFailure | None) -> Step:
    if on_failure is None:
        return f"systemctl {verb} {shlex.quote(unit)}"
    return FunctionCommand(start, (unit, verb, on_failure), {})


def start(state: State, host: Host, unit: str, verb: str, on_failure: OnFailure) -> bool:
    """``systemctl start`` or ``restart``. If that fails, show its last lines and the cause, and call ``on_failure``."""
    success, output = ask(host, f"systemctl {verb} {shlex.quote(unit)}", **connector_arguments(host))
    if success:
        return True
    complain(host, f"{unit}: systemd could not {verb} it:\n" + "\n".join(output.output_lines[-10:]))
    _explain(host, unit)
    on_failure(state, host)
    return False


def wait_until_ready(
    state: State,
    host: Host,
    unit: str,
    port: int,
    model: str,
    timeout: int,
    address: str,
    health: str,
    models: str,
    on_failure: OnFailure | None = None,
) -> bool:
    """Poll until the server is healthy and serves ``model``; False, with the cause, after ``timeout`` seconds.

    Ends at once when systemd has given up: a unit whose start limit was reached does not come back by itself.
    ``on_failure`` is called if the server did not become ready.
    """
    ready = _becomes_ready(host, unit, port, model, timeout, address, health, models)
    if not ready and on_failure:
        on_failure(state, host)
    return ready


def _becomes_ready(
    host: Host, unit: str, port: int, model: str, timeout: int, address: str, health: str, models: str
) -> bool:
    arguments = connector_arguments(host)
    container = unit.removesuffix(".service")
    fact = ServerEndpoint()
    started = reported = time.monotonic()
    held = silent = 0
    endpoint = Endpoint()
    say(host, f"{unit}: waiting for {health} on port {port}, {timeout} s at most …")
    while time.monotonic() - started < timeout:
        command = fact.command(port=port, container=container, address=address, health=health, models=models)
        success, output = ask(host, command, **arguments)
        if not success:
            complain(host, f"{unit}: the host stopped answering after {time.monotonic() - started:.0f} s of waiting.")
            return False
        endpoint = fact.process(output.stdout_lines)
        waited = time.monotonic() - started
        # Not on the first poll: a server that is being stopped may still hold the port.
        held = held + 1 if endpoint.others else 0
        if held >= HELD:
            complain(
                host,
                f"{unit}: port {port} is held by {', '.join(endpoint.others)} (process id, name), outside its "
                "container; expected: its own server.\nStop that program, or give the service another port.",
            )
            return False
        if endpoint.health == 200 and not endpoint.others:
            # A server that is slow to list its models is asked again.
            silent = silent + 1 if not endpoint.models and not endpoint.locked else 0
            if 0 < silent < HELD:
                time.sleep(POLL)
                continue
            if not endpoint.serves(model):
                complain(
                    host,
                    f"{unit}: healthy, but {models} names {', '.join(endpoint.models) or 'nothing'}; "
                    f"expected {model}.\nAnother server may hold port {port} (`ss -ltnp` on the host names it).",
                )
                return _explain(host, unit)
            say(host, f"{unit}: healthy after {waited:.0f} s, serving {model}")
            return True
        success, output = ask(host, f"systemctl is-failed {shlex.quote(unit)} || true", **arguments)
        if output.stdout_lines[:1] == ["failed"]:
            complain(host, f"{unit}: systemd gave up on it after {waited:.0f} s (its start limit was reached).")
            return _explain(host, unit)
        if time.monotonic() - reported >= HEARTBEAT:
            reported = time.monotonic()
            answer = f"HTTP {endpoint.health}" if endpoint.health else "no answer yet"
            say(host, f"{unit}: {waited:.0f} s, {health}: {answer}")
        time.sleep(POLL)
    complain(
        host, f"{unit}: not healthy within {timeout} s (last answer: {endpoint.health or 'none'}); expected: HTTP 200."
    )
    return _explain(host, unit)


def _explain(host: Host, unit: str) -> bool:
    # Only of this start: the cause of an earlier failure would be shown for this one.
    journal = (
        f"id=$(systemctl show {shlex.quote(unit)} -p InvocationID --value); "
        "journalctl _SYSTEMD_INVOCATION_ID=$id + INVOCATION_ID=$id --lines 200 --output cat --no-pager"
    )
    _, output = ask(host, journal, **connector_arguments(host))
    lines = output.stdout_lines
    complain(host, "last lines of its journal:\n" + "\n".join(f"    {line}" for line in lines[-15:]))
    explain_failure(host, lines, "failures")
    return False


@operation()
def ready(
    unit: str,
    port: int,
    model: str,
    timeout: int,
    api: ApiPaths,
    address: str = "127.0.0.1",
    on_failure: OnFailure | None = None,
) -> Steps:
    """Wait until the server of a unit is healthy and lists a model.

    A server that has run for longer than ``timeout`` and does not answer hangs: it is restarted.

    + unit: its name; its container has the same one, without ``.service``
    + port, address: where the server listens
    + model: name under which it must serve
    + timeout: seconds to wait
    + api: where it answers
    + on_failure: called if it does not become ready
    """
    container = unit.removesuffix(".service")
    paths = {"health": api.health, "models": api.models}
    if host.get_fact(ServerEndpoint, port=port, container=container, address=address, **paths).serves(model):
        host.noop(f"serving {model} on port {port}")
        return
    found = host.get_fact(SystemdUnit, unit=unit)
    if found.active == "active" and found.age is not None and found.age > timeout:
        yield _start(unit, "restart", on_failure)
    kwargs = {"on_failure": on_failure} if on_failure else {}
    yield FunctionCommand(wait_until_ready, (unit, port, model, timeout, address, api.health, api.models), kwargs)
