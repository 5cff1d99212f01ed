"""A reboot is over when the boot id is another one, however young the host's uptime was."""

from types import SimpleNamespace

import pytest

from ojai.connection.lock import LockError, Run, Taken
from ojai.operations import kernel


class Rebooting:
    """A host that is gone for some looks and then has another boot id."""

    def __init__(self, answers, kernel="6.17.0-1012-oem"):
        self.answers = iter(answers)
        self.kernel = kernel
        self.now = "first"
        self.connected = True
        self.name = "mini"
        self.print_prefix = "[mini] "
        self.current_op_global_arguments = {}
        self.connector = SimpleNamespace()
        self.connection_data = {}
        self.said = []

    def run_shell_command(self, command, **arguments):
        if "boot_id" not in command:
            came_up = [self.kernel] if "uname -r" in command else []
            return True, SimpleNamespace(stdout="", stdout_lines=came_up)
        return True, SimpleNamespace(stdout=self.now)

    def disconnect(self):
        self.connected = False

    def connect(self, show_errors=True):
        answer = next(self.answers, None)
        self.connected = answer is not None
        if answer:
            self.now = answer


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that passes only by sleeping."""
    now = [0.0]
    monkeypatch.setattr(kernel.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(kernel.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(kernel, "remove_any_sudo_askpass_file", lambda host: None)
    monkeypatch.setattr(kernel, "clear_askpass_cache", lambda host: None)
    monkeypatch.setattr(kernel, "configure_connection", lambda host: None)
    monkeypatch.setattr(kernel.lock, "take", lambda host, arguments: Taken())
    return now


def test_it_waits_through_the_old_boot_and_the_gap_for_the_new_one(clock):
    host = Rebooting(["first", "first", None, None, "second"])
    assert kernel.reboot(None, host, "6.8", "6.17.0-1012-oem", 600) is True
    assert clock[0] == 5 * kernel.POLL


def test_another_kernel_that_came_up_is_told_at_once(clock, caplog):
    host = Rebooting(["second"], kernel="6.17.0-1008-oem")
    assert kernel.reboot(None, host, "6.8.0-10-generic", "6.17.0-1012-oem", 600) is False
    for words in ("found 6.17.0-1008-oem running after a boot with 6.17.0-1012-oem installed", "FLAVOUR_ORDER=oem"):
        assert words in caplog.text


def test_a_host_that_stays_away_fails_after_its_time(clock, caplog):
    assert kernel.reboot(None, Rebooting(["first"]), "6.8", "6.17", 60) is False
    assert 60 <= clock[0] <= 60 + kernel.POLL
    assert "did not come back within 60 s" in caplog.text


def test_a_host_that_never_went_down_is_not_taken_for_rebooted(clock):
    assert kernel.reboot(None, Rebooting(["first"] * 1000), "6.8", "6.17", 30) is False


def test_the_deploy_lock_is_taken_again(clock, monkeypatch):
    taken = []
    monkeypatch.setattr(kernel.lock, "take", lambda host, arguments: taken.append(host.now) or Taken())
    assert kernel.reboot(None, Rebooting(["first", "second"]), "6.8", "6.17.0-1012-oem", 60) is True
    assert taken == ["second"]


def test_a_run_that_was_quicker_after_the_reboot_goes_first(clock, monkeypatch, caplog):
    busy = Taken(busy=Run("2026-11-27 09:00:03 UTC", "bob on desk", "pyinfra a.py deploy.py"))
    monkeypatch.setattr(kernel.lock, "take", lambda host, arguments: busy)
    assert kernel.reboot(None, Rebooting(["second"]), "6.8", "6.17.0-1012-oem", 60) is False
    assert "found another deploy running after the reboot: bob on desk, since 2026-11-27 09:00:03 UTC" in caplog.text


def test_a_host_that_does_not_lock_after_the_reboot_fails(clock, monkeypatch, caplog):
    def fails(host, arguments):
        raise LockError("no answer")

    monkeypatch.setattr(kernel.lock, "take", fails)
    assert kernel.reboot(None, Rebooting(["second"]), "6.8", "6.17.0-1012-oem", 60) is False
    assert "deploy lock: found no answer" in caplog.text
