"""Into the wanted kernel: a reboot when, and only when, another one runs than the newest of its flavour."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.operations import server

from ojai import kernels
from ojai.facts.files import Existing
from ojai.facts.kernel import KernelState
from ojai.operations import Steps
from ojai.operations.progress import refuse, say


def _say_pending(state: State, host: Host, running: str, wanted: str) -> bool:
    say(
        host,
        f"reboot needed: {running} runs, {wanted} is installed (kernel_reboot is `never`, so it is left to you)",
    )
    return True


def _say_reboot(state: State, host: Host, running: str, wanted: str) -> bool:
    say(host, f"rebooting from {running} into {wanted} …")
    return True


@operation()
def reboot_if_required(flavour: str, policy: str, marker: str, timeout: int) -> Steps:
    """The newest installed kernel of ``flavour`` runs, and nothing that ``marker`` (a file in /run) asks for waits.

    ``policy``: ``if-required`` reboots and waits up to ``timeout`` seconds; ``never`` only says that it is needed.
    """
    found = host.get_fact(KernelState)
    wanted = kernels.newest(found.installed, flavour) if found else None
    asked = bool(host.get_fact(Existing, paths=(marker,)))
    if found is None or ((wanted is None or wanted.text == found.running) and not asked):
        host.noop("the wanted kernel runs")
        return
    target = wanted.text if wanted else found.running
    if policy == "never":
        if host.state.is_executing:
            _say_pending(host.state, host, found.running, target)
        host.noop(f"reboot into {target} is left to the operator")
        return
    yield FunctionCommand(_say_reboot, (found.running, target), {})
    yield from server.reboot._inner(delay=5, interval=2, reboot_timeout=timeout)


@operation()
def at_least(flavour: str, floor: str, why: str, strict: bool) -> Steps:
    """The running kernel is of ``flavour`` and not older than ``floor`` (base version and ABI number); else the
    host is refused, or only told when ``strict`` is false."""
    found = host.get_fact(KernelState)
    if found is None:
        host.noop("no answer about the kernel")
        return
    try:
        running = kernels.parse(found.running)
    except ValueError as error:
        yield refuse(f"kernel: found {error}. What to do: boot a kernel of Ubuntu's own.")
        return
    faults = []
    if running.flavour != flavour:
        faults.append(f"its flavour is {running.flavour or 'none'}, wanted {flavour}")
    if running.order < kernels.parse(floor).order:
        faults.append(f"it is older than {floor}")
    if not faults:
        host.noop(f"{running.text} will do")
        return
    text = (
        f"kernel: found {running.text} running: {' and '.join(faults)} ({why}). "
        f"Installed: {', '.join(found.installed) or 'none'}. "
        f"What to do: reboot into the newest {flavour} kernel; if another came up, see what GRUB boots by default."
    )
    if strict:
        yield refuse(text)
    else:
        host.noop(text)
