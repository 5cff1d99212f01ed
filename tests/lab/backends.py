"""The hosts that cases are run on: the lab's virtual machine, or a container where kernel and GPU do not matter."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ojai.lab import vm
from ojai.lab.errors import LabError
from ojai.lab.image import ENGINES
from tests.lab.cutting import must, using
from tests.lab.machine import CHECKS, ROOT, Deploy, Guest, Lab, read_junit, renamed

#: Seconds that a guest may take to be up after a reboot.
BOOT = 300


def say(text: str) -> None:
    """Print one line of progress, with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


@dataclass(frozen=True)
class Verified:
    """What ``ojai verify --json`` said: ``failed`` checks as ``area: check: message``, and how many ``passed``.

    ``error``: why nothing was checked. ``warned``: as ``failed``, of checks that passed with a warning.
    """

    ok: bool
    failed: list[str]
    error: str = ""
    passed: int = 0
    warned: tuple[str, ...] = ()

    @classmethod
    def of(cls, host: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> Verified:
        """From what is said of one host and of its checks."""
        told = {
            outcome: [f"{c['area']}: {c['name']}: {c['message']}" for c in checks if c["outcome"] == outcome]
            for outcome in ("failed", "warned")
        }
        passed = sum(check["outcome"] == "passed" for check in checks)
        return cls(
            *(renamed(host, "ok", "good"), told["failed"], renamed(host, "error", "trouble") or "", passed),
            tuple(told["warned"]),
        )


@dataclass(frozen=True)
class TestHost:
    """A host of a lab of its own, called ``lab``, that is deployed to and verified."""

    __test__ = False

    lab: Lab

    @property
    def guest(self) -> Guest:
        """The host itself."""
        return Guest(self.lab)

    def deploy(self, *words: str) -> Deploy:
        """Run the deploy to its end."""
        return self.lab.deploy(*words)

    def verify(self) -> Verified:
        """Run all checks of the host."""
        raise NotImplementedError

    def provision(self) -> None:
        """Bring it to where it serves and all is verified. LabError where that fails."""
        raise NotImplementedError

    def reset(self, dirty: bool) -> None:
        """Back to the provisioned host; ``dirty``: something is wrong with it now."""
        raise NotImplementedError

    def wait_until_served(self) -> None:
        """Wait until the service answers, a few minutes at most."""

    def boot(self) -> None:
        """Reboot it, and wait until systemd has started all that it will start."""
        raise NotImplementedError

    def must_verify(self) -> None:
        """LabError where a check fails."""
        found = self.verify()
        if not found.ok:
            raise LabError(f"verify is not green before anything is broken: {found.error or found.failed}")

    def must_deploy(self) -> None:
        """LabError where the deploy fails."""
        done = self.deploy()
        if done.status != 0:
            raise LabError(f"the first deploy failed:\n{done.output[-4000:]}")


@dataclass(frozen=True)
class VirtualMachine(TestHost):
    """The lab's virtual machine. ``label``: the snapshot, memory included, of the provisioned host."""

    label: str = "provisioned"

    def start(self) -> None:
        """Have it running."""
        say("bringing the machine up …")
        must(self.lab.ojai("lab", "up"))

    def verify(self) -> Verified:
        done = self.lab.ojai("verify", self.lab.inventory, "--json")
        try:
            host = json.loads(done.stdout)["hosts"][0]
        except (ValueError, IndexError):
            return Verified(False, [], done.stdout + done.stderr)
        return Verified.of(host, host["checks"])

    def snapshots(self) -> list[str]:
        """Labels of the snapshots that it has."""
        with using(self.lab):
            return list(vm.snapshots("lab"))

    def keep(self, label: str) -> None:
        """Keep it as it is now, memory included."""
        must(self.lab.ojai("lab", "snapshot", "lab", label, "--running"))

    def restore(self, label: str) -> None:
        """Back to what it was under this label."""
        must(self.lab.ojai("lab", "restore", "lab", label))

    def provision(self, prepare: Callable[[], None] = lambda: None) -> None:
        """Take the snapshot that was kept earlier, or ``prepare``, provision, and keep one."""
        if self.label in self.snapshots():
            self.restore(self.label)
            if not self.deploy().changed:
                return
        prepare()
        self.must_deploy()
        again = self.deploy()
        if again.status != 0 or again.changed:
            raise LabError(f"the second deploy was not without changes: {again.changed} {again.output[-2000:]}")
        self.must_verify()
        self.keep(self.label)

    def reset(self, dirty: bool) -> None:
        self.restore(self.label)

    def wait_until_served(self) -> None:
        health = "curl -sf -o /dev/null -m 5 http://127.0.0.1:8000/health"
        self.guest.run(f"for i in $(seq 60); do {health} && break; sleep 2; done")

    def boot(self) -> None:
        before = self.guest.text("cat /proc/sys/kernel/random/boot_id")
        self.guest.root("systemd-run --quiet --on-active=1 systemctl reboot")
        end = time.monotonic() + BOOT
        while time.monotonic() < end:
            time.sleep(4)
            now = self.guest.run("cat /proc/sys/kernel/random/boot_id")
            if now.returncode == 0 and now.stdout.strip() not in ("", before):
                self.guest.run("timeout 120 systemctl is-system-running --wait")
                return
        raise TimeoutError(f"the guest did not come back within {BOOT} s of its reboot")

    def stop(self, destroy: bool) -> None:
        """Power it down; ``destroy``: its disk and its snapshots go too."""
        self.lab.ojai("lab", "down", *["--destroy"] * destroy)


@dataclass(frozen=True)
class Container(TestHost):
    """A container of the lab, with the roles of molecule/default. It has no snapshots: it is made anew.

    It has no service, and is verified by the checks that need no silicon.
    """

    #: The checks that it can hold, as pytest is told by ``-m``.
    marks: str = "not silicon"

    def verify(self) -> Verified:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "junit.xml"
            argv = [sys.executable, "-m", "pytest", str(CHECKS), "--rootdir", str(ROOT), "-q", "-p", "no:cacheprovider"]
            argv += [f"--inventory={self.lab.inventory}", f"--deploy={self.lab.deploy_file}", "-m", self.marks]
            done = self.lab.run(*argv, "--junitxml", str(report), "-o", "junit_family=xunit2")
            if not report.exists():
                return Verified(False, [], done.stdout + done.stderr)
            checks = [vars(check) for check in read_junit("lab", report.read_text()).checks]
        outcomes = {check["outcome"] for check in checks}
        return Verified.of({"ok": "passed" in outcomes and "failed" not in outcomes, "error": ""}, checks)

    def renew(self) -> None:
        """Make it anew: nothing was deployed to it."""
        self.stop()
        must(self.lab.ojai("lab", "container", "lab"))

    def provision(self) -> None:
        self.renew()
        self.must_deploy()
        self.must_verify()

    def reset(self, dirty: bool) -> None:
        if dirty:
            self.provision()

    def stop(self) -> None:
        """Take it away."""
        self.lab.ojai("lab", "down", "--destroy")


def virtual_machine(folder: Path, engine: str = ENGINES[0]) -> VirtualMachine:
    """A virtual machine whose lab is in ``folder``, and whose Docker is ``engine``."""
    return VirtualMachine(Lab(folder, env={"OJAI_LAB_ENGINE": engine}))


def container(folder: Path, engine: str = ENGINES[0]) -> Container:
    """A container whose lab is in ``folder``, and whose Docker is ``engine``."""
    here = "molecule/default/inventory.py", "molecule/default/deploy.py"
    return Container(Lab(folder, *here, {"OJAI_LAB_ENGINE": engine}))
