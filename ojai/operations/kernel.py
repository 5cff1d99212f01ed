"""The running kernel and its TTM limit (how much memory the GPU may use): both change by a reboot, if required."""

from __future__ import annotations

import shlex
import time

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai import kernels
from ojai.connection import configure_connection, lock, stop_keepalive
from ojai.facts.files import Existing
from ojai.facts.kernel import BootFiles, KernelState, Lacking, TtmLimit
from ojai.operations import Steps, apt
from ojai.operations.files import text_file
from ojai.operations.ledger import STATE_DIR, added, forget, note
from ojai.operations.progress import HEARTBEAT, ask, complain, connector_arguments, refuse, say, with_progress
from ojai.pyinfra_internals import LocalConnector, SSHException, clear_askpass_cache, remove_any_sudo_askpass_file

#: Ledger: kernels that a second reboot was to start, and that have not run since.
_AGAIN = "boots"

#: Seconds between two attempts to reach a host that reboots.
POLL = 3.0


def _say_pending(state: State, host: Host, running: str, expected: str) -> bool:
    say(
        host,
        f"reboot required: {running} runs, {expected} is installed (kernel_reboot is `never`, so reboot it yourself)",
    )
    return True


def _boot_id(host: Host) -> str | None:
    """The kernel's id of this boot, None while the host does not answer."""
    try:
        success, output = host.run_shell_command(
            "cat /proc/sys/kernel/random/boot_id", **{**connector_arguments(host), "_timeout": 15}
        )
    except (OSError, SSHException, TimeoutError):
        return None
    return output.stdout if success else None


def _another_came_up(running: str, expected: str) -> str:
    flavour = kernels.parse(expected).flavour
    return (
        f"kernel: found {running} running after a boot with {expected} installed; expected {expected}. What to do: "
        f"check which entry GRUB boots (GRUB_DEFAULT in /etc/default/grub; on Ubuntu GRUB_FLAVOUR_ORDER={flavour} in "
        "/etc/default/grub.d/60-flavour.cfg, then update-grub), reboot, and run the deploy again."
    )


def reboot(state: State, host: Host, running: str, expected: str, timeout: int) -> bool:
    """Reboot and wait up to ``timeout`` seconds for a new boot id; False if the kernel is not ``expected`` then.

    pyinfra's own ``server.reboot`` compares uptimes, and fails on a host that was booted a moment ago.
    """
    if isinstance(host.connector, LocalConnector):
        complain(
            host,
            f"kernel: found {running} running; expected {expected}, which takes a reboot. pyinfra runs on this "
            "host, so the reboot would end it. What to do: `sudo reboot`, then run the deploy again.",
        )
        return False
    say(host, f"rebooting from {running} into {expected} …")
    before = _boot_id(host)
    stop_keepalive(host)
    lock.stop_beating(host)
    remove_any_sudo_askpass_file(host)
    # Detached, so that the channel closes before the host goes.
    host.run_shell_command("( sleep 1 && reboot ) </dev/null >/dev/null 2>&1 &", **connector_arguments(host))
    clear_askpass_cache(host)
    started = time.monotonic()
    reported = started
    while time.monotonic() - started < timeout:
        time.sleep(POLL)
        host.disconnect()
        host.connect(show_errors=False)
        after = _boot_id(host) if host.connected else None
        if after and after != before:
            configure_connection(host)
            if not _locked_again(host):
                return False
            say(host, f"up again after {time.monotonic() - started:.0f} s")
            arrived = f'uname -r; ! test "$(uname -r)" = {shlex.quote(expected)} || {{ {forget(_AGAIN, [expected])}; }}'
            _, output = ask(host, arrived, **connector_arguments(host))
            if output.stdout_lines[:1] not in ([expected], []):
                complain(host, _another_came_up(output.stdout_lines[0], expected))
                return False
            return True
        if time.monotonic() - reported >= HEARTBEAT:
            reported = time.monotonic()
            say(host, f"waiting for the reboot: {reported - started:.0f} of at most {timeout} s")
    complain(
        host,
        f"kernel: the host did not come back within {timeout} s of its reboot into {expected}. What to do: look at its "
        "screen; once it is up, run the deploy again (kernel_reboot_timeout sets the wait).",
    )
    return False


def _locked_again(host: Host) -> bool:
    """The reboot took the deploy lock, and another run may have been quicker."""
    try:
        busy = lock.take(host, connector_arguments(host)).busy
    except lock.LockError as error:
        complain(host, f"deploy lock: found {error}; expected to take it again after the reboot.")
        return False
    if busy:
        complain(
            host,
            f"deploy lock: found another deploy running after the reboot: {busy}; expected to be the only one. "
            "What to do: let it end, then run this deploy again.",
        )
    return busy is None


@operation()
def reboot_if_required(flavour: str, policy: str, marker: str, timeout: int) -> Steps:
    """Reboot unless the newest installed kernel runs and nothing asks for a reboot.

    If another kernel comes up, it reboots once more; then the host is refused, because something else decides.

    + flavour: the kernel's, such as ``oem``
    + policy: ``if-required`` reboots; ``never`` only reports that a reboot is required
    + marker: file in /run whose existence asks for a reboot
    + timeout: seconds to wait for the host
    """
    found = host.get_fact(KernelState)
    expected = kernels.newest(found.installed, flavour) if found else None
    asked = bool(host.get_fact(Existing, paths=(marker,)))
    if found is None or ((expected is None or expected.text == found.running) and not asked):
        host.noop("the newest kernel runs")
        return
    target = expected.text if expected else found.running
    if policy == "never":
        if host.state.is_executing:
            _say_pending(host.state, host, found.running, target)
        host.noop(f"the reboot into {target} is up to the operator")
        return
    if not asked and target not in found.fresh:
        # The host has booted since it was installed, and another kernel came up. GRUB does not read the file system's
        # journal: after a power cut it may have read an old menu, and reads the new one on the next boot. So reboot
        # once more, and only once.
        if target not in added(_AGAIN):
            yield note(_AGAIN, [target])
            yield FunctionCommand(reboot, (found.running, target, timeout), {})
            return
        yield refuse(_another_came_up(found.running, target))
        return
    yield FunctionCommand(reboot, (found.running, target, timeout), {})


#: ttm may be loaded from the initramfs, which must have the new options then (AMD's amd-ttm checks the same).
_TTM_STAMP = f"{STATE_DIR}/ttm-refreshed"
_REFRESH_INITRAMFS = (
    "for image in /boot/initrd.img-*; do if lsinitramfs \"$image\" 2>/dev/null | grep -q '/ttm\\.ko'; "
    'then update-initramfs -u -k "${image#/boot/initrd.img-}" || exit 1; fi; done; '
    f"mkdir -p {STATE_DIR} && touch {_TTM_STAMP}"
)


@operation()
def ttm_limit(path: str, pages: int | None, marker: str) -> Steps:
    """Set how much system memory the GPU may use.

    ttm reads the limit when it is loaded, so a change asks for a reboot, and the initramfs is updated if ttm is in it.
    A limit that something else overrides is refused, because another reboot would not change that; so is a limit of
    others that is larger than the memory.

    + path: options file of ttm, which is ours
    + pages: the limit, in pages of 4096 bytes; None leaves it to the kernel
    + marker: file in /run whose existence asks for a reboot
    """
    ours = bool(added("ttm"))
    found = host.get_fact(TtmLimit, path=path, stamp=_TTM_STAMP)
    if pages is None:
        if not ours and not found.file:
            if found.excess:
                yield refuse(
                    f"ttm.pages_limit: found {'; '.join(found.excess)}; expected: no more than the memory of this "
                    f"host ({found.memory} pages): the GPU would use more, and the kernel would kill processes. "
                    "What to do: remove or lower that limit, then run the deploy again."
                )
            elif found.live and found.live > found.memory > 0:
                # Set by hand, or by a file that is gone: the next boot does without it.
                yield f"touch {shlex.quote(marker)}"
            else:
                host.noop("the limit is the kernel's own")
            return
        yield from _remove_limit(path, marker)
        return
    text = f"# Made by ojai: the GPU may borrow this many pages of 4096 bytes.\noptions ttm pages_limit={pages}\n"
    changes = list(text_file._inner(path=path, text=text))
    if not changes and found.live in (pages, None):
        host.noop("the limit is in force")
        return
    if not changes and found.settled:
        elsewhere = "; ".join(found.others) or "nowhere (is ttm built into the kernel?)"
        yield refuse(
            f"ttm.pages_limit: found {found.live} in force after a boot with {path}; expected {pages}. "
            f"Set elsewhere: {elsewhere}. What to do: remove the other setting, then run the deploy again."
        )
        return
    if not ours:
        yield note("ttm", ["pages_limit"])
    yield from changes
    yield with_progress(_REFRESH_INITRAMFS, "updating the initramfs")
    yield f"touch {shlex.quote(marker)}"


def _remove_limit(path: str, marker: str) -> Steps:
    yield f"rm -f {shlex.quote(path)}"
    yield with_progress(_REFRESH_INITRAMFS, "updating the initramfs")
    yield f"touch {shlex.quote(marker)}"
    yield forget("ttm", ["pages_limit"])


@operation()
def ttm_limit_removed(path: str, marker: str) -> Steps:
    """Remove the limit that :func:`ttm_limit` set, not a limit of others.

    + path: options file of ttm, which is ours
    + marker: file in /run whose existence asks for a reboot
    """
    if added("ttm") or host.get_fact(TtmLimit, path=path, stamp=_TTM_STAMP).file:
        yield from _remove_limit(path, marker)
    else:
        host.noop("this project has set none")


@operation()
def bootable(flavour: str) -> Steps:
    """Restore what the next boot needs of the newest installed kernel: image, modules, initramfs, entry in GRUB's menu.

    Without one of them this run would succeed, and the next power cut would end in another kernel, or in none.

    + flavour: the kernel's, such as ``oem``
    """
    found = host.get_fact(BootFiles)
    newest = kernels.newest(tuple(found), flavour)
    lacks = found[newest.text] if newest else Lacking()
    if newest is None or lacks == Lacking():
        host.noop("nothing is missing")
        return
    image = shlex.quote(f"/boot/vmlinuz-{newest.text}")
    if lacks.packages:
        # The packages' scripts also make the initramfs and the menu.
        yield from apt.locked(
            f"{{ {apt.reinstall(lacks.packages)}; }} && test -e {image} || "
            f'{{ echo "{image} is still missing; expected: the file of an installed kernel. What to do: boot another '
            'kernel of the flavour, or install a newer one." >&2; exit 1; }',
            f"reinstalling {' '.join(lacks.packages)}",
        )
    elif lacks.initrd:
        # GRUB's menu names the initramfs only if it existed when the menu was written.
        yield with_progress(
            f"update-initramfs -c -k {shlex.quote(newest.text)} && {{ ! command -v update-grub || update-grub; }}",
            f"creating the initramfs of {newest.text}",
        )
    else:
        yield with_progress("update-grub", "writing GRUB's menu")


@operation()
def at_least(flavour: str, floor: str, why: str, strict: bool) -> Steps:
    """Refuse a host whose running kernel is of another flavour, or too old.

    + flavour: the kernel's, such as ``oem``
    + floor: the oldest version that will do, with its ABI number (``6.14.0-1018``)
    + why: reason for the floor
    + strict: False only reports it
    """
    found = host.get_fact(KernelState)
    if found is None:
        host.noop("the host did not report its kernel")
        return
    try:
        running = kernels.parse(found.running)
    except ValueError as error:
        yield refuse(f"kernel: found {error}. What to do: boot a kernel of Ubuntu's own.")
        return
    errors = []
    if running.flavour != flavour:
        errors.append(f"its flavour is {running.flavour or 'none'}, expected {flavour}")
    if running.order < kernels.parse(floor).order:
        errors.append(f"it is older than {floor}")
    if not errors:
        host.noop(f"{running.text} is new enough")
        return
    text = (
        f"kernel: found {running.text} running: {' and '.join(errors)} ({why}). "
        f"Installed: {', '.join(found.installed) or 'none'}. "
        f"What to do: reboot into the newest {flavour} kernel; if another came up, check what GRUB boots by default; "
        "if none is installed although its package is, restore its files with `apt-get install --reinstall`."
    )
    if strict:
        yield refuse(text)
    else:
        host.noop(text)
