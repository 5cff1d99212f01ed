"""The kernel that runs, and how much memory it lets the GPU borrow: both change by a reboot, made when it must be."""

from __future__ import annotations

import shlex
import time

from paramiko import SSHException
from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.connectors.local import LocalConnector
from pyinfra.connectors.util import clear_askpass_cache, remove_any_sudo_askpass_file

from ojai import kernels
from ojai.connection import configure_connection, stop_keepalive
from ojai.facts.files import Existing
from ojai.facts.kernel import BootFiles, KernelState, Lacking, TtmLimit
from ojai.facts.ledger import Added
from ojai.operations import Steps, apt
from ojai.operations.files import text_file
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, forget, note
from ojai.operations.progress import HEARTBEAT, ask, complain, connector_arguments, refuse, say, with_progress

#: What we keep on the host: kernels that were rebooted into a second time, and not seen running since.
_AGAIN = "boots"

#: Seconds between two looks at a host that reboots.
POLL = 3.0


def _say_pending(state: State, host: Host, running: str, expected: str) -> bool:
    say(
        host,
        f"reboot needed: {running} runs, {expected} is installed (kernel_reboot is `never`, so it is left to you)",
    )
    return True


def _boot_id(host: Host) -> str | None:
    """The kernel's id of this boot, None while the host gives no answer."""
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
        f"kernel: found {running} running after a boot with {expected} installed; expected {expected}. What to do: see "
        f"which entry GRUB boots (GRUB_DEFAULT in /etc/default/grub; on Ubuntu GRUB_FLAVOUR_ORDER={flavour} in "
        "/etc/default/grub.d/60-flavour.cfg, then update-grub), reboot, and run the deploy again."
    )


def reboot(state: State, host: Host, running: str, expected: str, timeout: int) -> bool:
    """Reboot and wait up to ``timeout`` seconds for another boot id; False when the kernel is not ``expected`` then.

    pyinfra's own ``server.reboot`` compares uptimes, and waits in vain on a host that had just been booted.
    """
    if isinstance(host.connector, LocalConnector):
        complain(
            host,
            f"kernel: found {running} running; expected {expected}, by a reboot that would end this run too, being on "
            "the machine itself. What to do: `sudo reboot`, then run the deploy again; it goes on from here.",
        )
        return False
    say(host, f"rebooting from {running} into {expected} …")
    before = _boot_id(host)
    stop_keepalive(host)
    remove_any_sudo_askpass_file(host)
    # Detached, so that the channel closes before the host goes.
    host.run_shell_command("( sleep 1 && reboot ) </dev/null >/dev/null 2>&1 &", **connector_arguments(host))
    clear_askpass_cache(host)
    started = time.monotonic()
    said = started
    while time.monotonic() - started < timeout:
        time.sleep(POLL)
        host.disconnect()
        host.connect(show_errors=False)
        after = _boot_id(host) if host.connected else None
        if after and after != before:
            configure_connection(host)
            say(host, f"up again after {time.monotonic() - started:.0f} s")
            arrived = f'uname -r; ! test "$(uname -r)" = {shlex.quote(expected)} || {{ {forget(_AGAIN, [expected])}; }}'
            _, output = ask(host, arrived, **connector_arguments(host))
            if output.stdout_lines[:1] not in ([expected], []):
                complain(host, _another_came_up(output.stdout_lines[0], expected))
                return False
            return True
        if time.monotonic() - said >= HEARTBEAT:
            said = time.monotonic()
            say(host, f"waiting for the reboot: {said - started:.0f} of at most {timeout} s")
    complain(
        host,
        f"kernel: the host did not come back within {timeout} s of its reboot into {expected}. What to do: look at its "
        "screen; once it is up, run the deploy again (kernel_reboot_timeout sets the wait).",
    )
    return False


@operation()
def reboot_if_required(flavour: str, policy: str, marker: str, timeout: int) -> Steps:
    """The newest installed kernel of ``flavour`` runs, and nothing that ``marker`` (a file in /run) asks for waits.

    A boot that brought up another is tried once again; then it is refused, since something else chooses.
    ``policy``: ``if-required`` reboots and waits up to ``timeout`` seconds; ``never`` only says that it is needed.
    """
    found = host.get_fact(KernelState)
    expected = kernels.newest(found.installed, flavour) if found else None
    asked = bool(host.get_fact(Existing, paths=(marker,)))
    if found is None or ((expected is None or expected.text == found.running) and not asked):
        host.noop("the expected kernel runs")
        return
    target = expected.text if expected else found.running
    if policy == "never":
        if host.state.is_executing:
            _say_pending(host.state, host, found.running, target)
        host.noop(f"reboot into {target} is left to the operator")
        return
    if not asked and target not in found.fresh:
        # Booted since it was installed, and still another came up. GRUB does not read the journal: after a power cut
        # it may have seen an old menu, and the next boot sees the new one. So once more, and no oftener.
        if target not in host.get_fact(Added, directory=ADDED_DIR, kind=_AGAIN):
            yield note(_AGAIN, [target])
            yield FunctionCommand(reboot, (found.running, target, timeout), {})
            return
        yield refuse(_another_came_up(found.running, target))
        return
    yield FunctionCommand(reboot, (found.running, target, timeout), {})


#: ttm may be loaded from the initramfs, which then has to hold the new options (AMD's amd-ttm looks for the same).
_TTM_STAMP = f"{STATE_DIR}/ttm-refreshed"
_REFRESH_INITRAMFS = (
    "for image in /boot/initrd.img-*; do if lsinitramfs \"$image\" 2>/dev/null | grep -q '/ttm\\.ko'; "
    'then update-initramfs -u -k "${image#/boot/initrd.img-}" || exit 1; fi; done; '
    f"mkdir -p {STATE_DIR} && touch {_TTM_STAMP}"
)


@operation()
def ttm_limit(path: str, pages: int | None, marker: str) -> Steps:
    """The GPU may borrow at most ``pages`` (of 4096 bytes) of the system's memory; None leaves it to the kernel.

    The options file at ``path`` is ours. ttm reads it when it is loaded, so a change is followed by a reboot
    (``marker`` asks for it), and the initramfs is made anew when ttm is in it. A limit that is overridden
    elsewhere is refused, since rebooting again would change nothing; so is one of others above the memory there is.
    """
    added = bool(host.get_fact(Added, directory=ADDED_DIR, kind="ttm"))
    if pages is None:
        found = host.get_fact(TtmLimit, path=path, stamp=_TTM_STAMP)
        if not added and not found.file:
            if found.excess:
                yield refuse(
                    f"ttm.pages_limit: found {'; '.join(found.excess)}; expected: no more than the memory there is "
                    f"({found.memory} pages): the GPU would ask for the rest, and the kernel end programs for it. "
                    "What to do: remove or lower that limit, then run the deploy again."
                )
            elif found.live and found.live > found.memory > 0:
                # Set by hand, or by a file that is gone: the next boot is without it.
                yield f"touch {shlex.quote(marker)}"
            else:
                host.noop("the limit is the kernel's own")
            return
        yield from _no_limit_of_ours(path, marker)
        return
    text = f"# Made by ojai: the GPU may borrow this many pages of 4096 bytes.\noptions ttm pages_limit={pages}\n"
    found = host.get_fact(TtmLimit, path=path, stamp=_TTM_STAMP)
    changes = list(text_file._inner(path=path, text=text))
    if not changes and found.live in (pages, None):
        host.noop("the limit is in force")
        return
    if not changes and found.settled:
        elsewhere = "; ".join(found.others) or "nothing that was found; is ttm built into the kernel?"
        yield refuse(
            f"ttm.pages_limit: found {found.live} in force after a boot with {path}; expected {pages}. "
            f"Set elsewhere: {elsewhere}. What to do: remove the other setting, then run the deploy again."
        )
        return
    if not added:
        yield note("ttm", ["pages_limit"])
    yield from changes
    yield with_progress(_REFRESH_INITRAMFS, "refreshing the initramfs")
    yield f"touch {shlex.quote(marker)}"


def _no_limit_of_ours(path: str, marker: str) -> Steps:
    yield f"rm -f {shlex.quote(path)}"
    yield with_progress(_REFRESH_INITRAMFS, "refreshing the initramfs")
    yield f"touch {shlex.quote(marker)}"
    yield forget("ttm", ["pages_limit"])


@operation()
def ttm_limit_removed(path: str, marker: str) -> Steps:
    """The limit that :func:`ttm_limit` set is gone; one of others is theirs."""
    added = host.get_fact(Added, directory=ADDED_DIR, kind="ttm")
    if added or host.get_fact(TtmLimit, path=path, stamp=_TTM_STAMP).file:
        yield from _no_limit_of_ours(path, marker)
    else:
        host.noop("no limit of ours is there")


@operation()
def bootable(flavour: str) -> Steps:
    """What the newest installed kernel of ``flavour`` needs for the next boot is on the disk: its image, its modules
    (the GPU's driver stands for them), its initramfs, its entry in GRUB's menu.

    Without one of them this run would end well, and the next power cut in another kernel, or in none.
    """
    found = host.get_fact(BootFiles)
    newest = kernels.newest(tuple(found), flavour)
    lacks = found[newest.text] if newest else Lacking()
    if newest is None or lacks == Lacking():
        host.noop("nothing of the kernel is missing")
        return
    image = shlex.quote(f"/boot/vmlinuz-{newest.text}")
    if lacks.packages:
        # Their scripts make initramfs and menu too.
        yield from apt.locked(
            f"{apt.COMMAND} --reinstall install {shlex.join(lacks.packages)} && test -e {image} || "
            f'{{ echo "{image} is still not there; expected: the file of an installed kernel. What to do: boot another '
            'kernel of the flavour, or install a newer one." >&2; exit 1; }',
            f"installing {' '.join(lacks.packages)} anew",
        )
    elif lacks.initrd:
        # GRUB's menu names the initramfs, where there was one when it was written.
        yield with_progress(
            f"update-initramfs -c -k {shlex.quote(newest.text)} && {{ ! command -v update-grub || update-grub; }}",
            f"making the initramfs of {newest.text}",
        )
    else:
        yield with_progress("update-grub", "writing GRUB's menu")


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
        faults.append(f"its flavour is {running.flavour or 'none'}, expected {flavour}")
    if running.order < kernels.parse(floor).order:
        faults.append(f"it is older than {floor}")
    if not faults:
        host.noop(f"{running.text} will do")
        return
    text = (
        f"kernel: found {running.text} running: {' and '.join(faults)} ({why}). "
        f"Installed: {', '.join(found.installed) or 'none'}. "
        f"What to do: reboot into the newest {flavour} kernel; if another came up, see what GRUB boots by default; if "
        "none is installed though its package is, put its files back with `apt-get install --reinstall`."
    )
    if strict:
        yield refuse(text)
    else:
        host.noop(text)
