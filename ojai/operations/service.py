"""A systemd service that runs what is on disk, and is ready to serve.

pyinfra has no handler that survives a killed controller: a restart that hangs on "changed in this run" is lost
with the run. Here it hangs on the state of the host: the service is older than its inputs, or its container runs
other arguments than the unit has.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai.diagnosis import explain
from ojai.facts.service import Endpoint, ServerEndpoint, ServiceState
from ojai.operations import Steps
from ojai.operations.progress import OnFailure, ask, complain, connector_arguments, refuse, say

#: Seconds between two looks at a service that is coming up.
POLL = 5.0

#: Looks in a row at which another program has the port, or the server names no model, before it is given up.
HELD = 3


def _unmask(unit: str, enabled: str) -> Steps:
    if enabled in ("masked", "masked-runtime"):
        yield f"systemctl unmask {'--runtime ' if enabled.endswith('runtime') else ''}{shlex.quote(unit)}"


@operation()
def unmasked(units: Sequence[str]) -> Steps:
    """None of these is masked. One that is masked runs on, and is missed by what needs it only after the next boot."""
    steps = [step for unit in units for step in _unmask(unit, host.get_fact(ServiceState, unit=unit).enabled)]
    if not steps:
        host.noop("none of them is masked")
    yield from steps


@operation()
def running(
    unit: str,
    inputs: Sequence[str] = (),
    container: str | None = None,
    image: str | None = None,
    argv: Sequence[str] | None = None,
    on_failure: OnFailure | None = None,
) -> Steps:
    """``unit`` is enabled and runs from what its ``inputs`` (files) and, for a container, ``image`` and ``argv`` say.

    Started when it is down; restarted once when it is older than an input or its container differs; never both.
    A unit with a ``container`` is wholly ours: drop-ins of its own go, like edits of its file. One for many units is
    refused. ``on_failure`` is called when the unit cannot be started.
    """
    found = host.get_fact(ServiceState, unit=unit, inputs=tuple(inputs), container=container)
    name = shlex.quote(unit)
    overrides = found.overrides if container else ()
    others = [path for path in overrides if path.rsplit("/", 2)[-2] != f"{unit}.d"]
    if others:
        yield refuse(
            f"{unit}: found {', '.join(others)}, which changes this unit and others too; expected: the unit as the "
            "deploy writes it. What to do: remove the file, or move what it sets to the units it is meant for."
        )
        return
    if overrides:
        yield f"rm -f {shlex.join(overrides)} && systemctl daemon-reload"
    yield from _unmask(unit, found.enabled)
    if found.reload:
        yield "systemctl daemon-reload"
    if found.enabled not in ("enabled", "static", "alias", "indirect"):
        yield f"systemctl enable {name}"
    up = found.active == "active" and found.sub in ("running", "listening", "exited")
    differs = (image is not None and found.image is not None and found.image != image) or (
        argv is not None and found.argv is not None and found.argv != tuple(argv)
    )
    differs = differs or found.image_retagged or found.unmanaged or bool(found.stale_mounts)
    if up and found.paused:
        yield f"docker unpause {shlex.quote(container or '')}"
    if up and (found.stale or found.reload or overrides or differs):
        # A start limit that was reached earlier would refuse the start.
        yield f"systemctl reset-failed {name} || true"
        yield from _start(unit, "restart", on_failure)
    elif not up:
        # Also out of `activating (auto-restart)`, in which a plain start would wait for the old unit's next try.
        yield f"systemctl reset-failed {name} || true"
        yield from _start(unit, "restart" if found.active == "activating" else "start", on_failure)
    elif found.enabled in ("enabled", "static", "alias", "indirect") and not found.paused:
        host.noop(f"{unit} runs from what is on disk")


def _start(unit: str, verb: str, on_failure: OnFailure | None) -> Steps:
    if on_failure is None:
        yield f"systemctl {verb} {shlex.quote(unit)}"
    else:
        yield FunctionCommand(start, (unit, verb, on_failure), {})


def start(state: State, host: Host, unit: str, verb: str, on_failure: OnFailure) -> bool:
    """``systemctl start`` or ``restart``; when that fails, its last lines are shown and ``on_failure`` called."""
    arguments = connector_arguments(host)
    success, output = ask(host, f"systemctl {verb} {shlex.quote(unit)}", **arguments)
    if success:
        return True
    complain(host, f"{unit}: systemd could not {verb} it:\n" + "\n".join(output.output_lines[-10:]))
    _explain(host, unit, arguments)
    on_failure(state, host)
    return False


def wait_until_ready(
    state: State,
    host: Host,
    unit: str,
    port: int,
    model: str,
    timeout: int,
    address: str = "127.0.0.1",
    on_failure: OnFailure | None = None,
) -> bool:
    """Poll until the server is healthy and names ``model``, saying so; False (with the cause) after ``timeout`` s.

    Gives up at once when systemd has: a start limit that was reached will not come back by itself. ``on_failure`` is
    called when it did not become ready.
    """
    ready = _becomes_ready(host, unit, port, model, timeout, address)
    if not ready and on_failure:
        on_failure(state, host)
    return ready


def _becomes_ready(host: Host, unit: str, port: int, model: str, timeout: int, address: str) -> bool:
    arguments = connector_arguments(host)
    container = unit.removesuffix(".service")
    fact = ServerEndpoint()
    started = time.monotonic()
    said = started
    held = silent = 0
    endpoint = Endpoint()
    say(host, f"{unit}: waiting for /health on port {port}, {timeout} s at most …")
    while time.monotonic() - started < timeout:
        success, output = ask(host, fact.command(port=port, container=container, address=address), **arguments)
        if not success:
            complain(host, f"{unit}: the host stopped answering after {time.monotonic() - started:.0f} s of waiting.")
            return False
        endpoint = fact.process(output.stdout_lines)
        waited = time.monotonic() - started
        # Not at the first sight: a server that is being stopped may still be seen.
        held = held + 1 if endpoint.others else 0
        if held >= HELD:
            complain(
                host,
                f"{unit}: port {port} is held by {', '.join(endpoint.others)} (process number, name), which is not in "
                f"its container; expected: its own server.\nStop that program, or give the service another port.",
            )
            return False
        if endpoint.health == 200 and not endpoint.others:
            # One that is slow to name its models is asked again.
            silent = silent + 1 if not endpoint.models and not endpoint.locked else 0
            if 0 < silent < HELD:
                time.sleep(POLL)
                continue
            if not endpoint.serves(model):
                complain(
                    host,
                    f"{unit}: healthy, but /v1/models names {', '.join(endpoint.models) or 'nothing'}; "
                    f"expected {model}.\nAnother server may hold port {port} (`ss -ltnp` on the host names it).",
                )
                return _explain(host, unit, arguments)
            say(host, f"{unit}: healthy after {waited:.0f} s, serving {model}")
            return True
        success, output = ask(host, f"systemctl is-failed {shlex.quote(unit)} || true", **arguments)
        if output.stdout_lines[:1] == ["failed"]:
            complain(host, f"{unit}: systemd gave up on it after {waited:.0f} s (its start limit was reached).")
            return _explain(host, unit, arguments)
        if time.monotonic() - said >= 15:
            said = time.monotonic()
            answer = f"HTTP {endpoint.health}" if endpoint.health else "no answer yet"
            say(host, f"{unit}: {waited:.0f} s, /health: {answer}")
        time.sleep(POLL)
    complain(
        host, f"{unit}: not healthy within {timeout} s (last answer: {endpoint.health or 'none'}); expected: HTTP 200."
    )
    return _explain(host, unit, arguments)


def _explain(host: Host, unit: str, arguments: dict[str, object]) -> bool:
    # Of this start alone: the cause of an earlier failure would be told for that of the present one.
    journal = (
        f"id=$(systemctl show {shlex.quote(unit)} -p InvocationID --value); "
        "journalctl _SYSTEMD_INVOCATION_ID=$id + INVOCATION_ID=$id --lines 200 --output cat --no-pager"
    )
    _, output = ask(host, journal, **arguments)
    lines = output.stdout_lines
    complain(host, "last lines of its journal:\n" + "\n".join(f"    {line}" for line in lines[-15:]))
    for finding in explain(lines):
        complain(host, f"cause: {finding.cause}\nwhat to do: {finding.fix}\nsource: {finding.source}")
    return False


@operation()
def ready(
    unit: str, port: int, model: str, timeout: int, address: str = "127.0.0.1", on_failure: OnFailure | None = None
) -> Steps:
    """The server of ``unit`` answers 200 on /health and names ``model`` on /v1/models, within ``timeout`` seconds.

    One that has run for longer than that and does not answer hangs: it is restarted. ``on_failure`` is called when it
    does not become ready.
    """
    container = unit.removesuffix(".service")
    if host.get_fact(ServerEndpoint, port=port, container=container, address=address).serves(model):
        host.noop(f"serving {model} on port {port}")
        return
    found = host.get_fact(ServiceState, unit=unit)
    if found.active == "active" and found.age is not None and found.age > timeout:
        yield from _start(unit, "restart", on_failure)
    words = {"on_failure": on_failure} if on_failure else {}
    yield FunctionCommand(wait_until_ready, (unit, port, model, timeout, address), words)
