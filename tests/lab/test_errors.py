"""What goes wrong around a deploy: a clear error for each, nothing half-written, and a rerun that works.

On the guest that has been deployed to; each test takes something away that the deploy must fetch again, and leaves
the guest as it was.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from ojai.lab import state, upstreams
from tests.lab.conftest import LAB, deploy
from tests.lab.cutting import Running, using
from tests.lab.machine import Deploy, Guest
from tests.operation_names import NAMES

IMAGE = "vllm/vllm-openai-rocm:v0.20.1"
KEYRING = "/etc/apt/keyrings/ojai-rocm.gpg"

#: Nobody listens there, neither on the guest nor on the machine that runs it.
DEAD = "http://10.0.2.2:1"

#: A name as unattended-upgrades has it, holding apt's lock until it is ended.
HOLDER = (
    "import ctypes, fcntl, time; ctypes.CDLL(None).prctl(15, b'unattended-upgr'); "
    "file = open('/var/lib/dpkg/lock-frontend', 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print('held', flush=True); "
    "time.sleep(600)"
)


def managed(guest: Guest) -> str:
    """What a deploy that fails must leave as it was: every managed file with its content, and no left-overs."""
    return guest.root(
        "find /etc /srv /var/lib/ojai -name '*.ojai-new' -o -path '/etc/apt/keyrings/*.new'; dpkg --audit; "
        "find /etc/apt /etc/docker /etc/ojai /etc/ld.so.conf.d /etc/modprobe.d /etc/sysctl.d /etc/systemd/system "
        "/var/lib/ojai/added -type f -exec sha256sum {} +; dpkg-query -W"
    )


def refused(done: Deploy, *words: str) -> str:
    """The run failed, said these words of this host, and showed no traceback; what it said of the host is returned."""
    assert done.status == 1, done.output[-3000:]
    assert "Traceback" not in done.output, done.output[-3000:]
    told = "\n".join(line for line in done.output.splitlines() if "[lab]" in line or "lab: " in line)
    for word in words:
        assert word in told, told[-3000:]
    return told


@pytest.fixture(scope="module", autouse=True)
def converged(guest: Guest) -> Iterator[None]:
    """A guest on which nothing is left to be done after the last of these tests."""
    yield
    done = deploy()
    assert (done.status, done.changed) == (0, []), done.output[-3000:]


@pytest.mark.whole
def test_apts_lock_is_waited_for_with_the_holders_name(guest):
    guest.root("dpkg --remove --force-depends rocminfo")
    guest.root(
        f'systemd-run --quiet --unit ojai-holder --service-type=exec python3 -c "{HOLDER}"; '
        "until grep -q POSIX /proc/locks; do sleep 0.2; done"
    )
    try:
        run = Running(LAB)
        run.wait_for("waiting for apt's lock, held by ", 300)
        time.sleep(6)
        assert run.wait(0) is None, run.tail()
    finally:
        guest.root("systemctl stop ojai-holder")
    assert run.wait(300) == 0, "\n".join(run.lines[-30:])
    told = [line for line in run.lines if "waiting for apt's lock" in line]
    assert re.search(r"\[lab\] waiting for apt's lock, held by \d+ unattended-upgr \(\d+ of at most 900 s\)", told[0])
    assert guest.run("dpkg -s rocminfo").returncode == 0


@pytest.mark.whole
def test_a_mirror_that_is_down_and_a_key_that_is_not_the_right_one(guest):
    guest.root(f"mv {KEYRING} /root/kept.gpg")
    before = managed(guest)
    down = deploy("--data", f"rocm_mirror={DEAD}")
    refused(
        down, "the signing key could not be downloaded from", DEAD, "is the mirror up, and reachable from this host?"
    )
    wrong = "0123456789ABCDEF0123456789ABCDEF01234567"
    other = deploy("--data", f"rocm_key_fingerprint={wrong}")
    told = refused(other, "is not the expected one: found ", f"expected {wrong}", "Nothing was installed")
    assert re.search(r"found [0-9A-F]{40}, expected", told)
    assert managed(guest) == before
    # With the key there, the next thing that needs the mirror: its lists.
    guest.root(f"mv /root/kept.gpg {KEYRING}")
    lists = deploy("--data", f"rocm_mirror={DEAD}")
    refused(lists, "apt-get update: failed", DEAD.removeprefix("http://"), "cause: a package mirror does not answer")
    assert "what to do: check that the mirror is up" in lists.output
    assert guest.root("find /etc -name '*.ojai-new'; dpkg --audit") == ""
    assert guest.root("ls /opt/rocm-7.2.0/bin/rocminfo /usr/bin/docker").count("\n") == 1
    fixed = deploy()
    assert fixed.status == 0, fixed.output[-3000:]
    assert NAMES["rocm-source"] in fixed.changed


@contextlib.contextmanager
def registry_down(guest: Guest) -> Iterator[None]:
    """The registry's stand-in is stopped, and Docker Hub, which Docker asks then, is out of the guest's reach."""
    guest.root("cp -a /etc/hosts /root/hosts; echo 127.0.0.1 registry-1.docker.io auth.docker.io >> /etc/hosts")
    with using(LAB):
        records = state.read()
        assert records.registry and records.registry.process
        records.registry.process.stop()
        try:
            yield
        finally:
            with state.locked():
                state.write(upstreams.start_registry(state.read()))
            guest.root("cat /root/hosts > /etc/hosts; rm /root/hosts")


@pytest.mark.whole
def test_a_registry_that_is_down(guest):
    guest.root(f"docker image rm --force {IMAGE}")
    before = managed(guest)
    with registry_down(guest):
        done = deploy()
    refused(
        done, f"pulling {IMAGE}: failed", "cause: the registry does not answer", "what to do: check that the registry"
    )
    assert managed(guest) == before
    assert guest.text("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8000/health") == "200", "it served on"
    again = deploy()
    assert again.status == 0, again.output[-3000:]
    assert guest.root(f"docker image inspect --format ok {IMAGE}") == "ok"


def test_a_full_disk_is_refused_before_anything_is_changed(guest):
    before = managed(guest)
    free = int(guest.root("df --output=avail -B1M / | tail -n 1"))
    try:
        guest.root(f"fallocate -l {free - 100}M /var/filler")
        full = deploy()
        told = refused(
            full, "preflight: disk space: found 0.1 GiB free on /: the disk is full; expected 0.5 GiB at least"
        )
        assert "What to do: free space there" in told
        guest.root(f"docker image rm --force {IMAGE}; rm /var/filler; fallocate -l {free - 3000}M /var/filler")
        image = deploy()
        refused(
            image,
            f"preflight: disk space: found 2.9 GiB free on /; expected 6 GiB (image {IMAGE} 1 GiB, 5 GiB to spare)",
        )
    finally:
        guest.root("rm -f /var/filler")
    assert managed(guest) == before
    assert deploy().status == 0


@pytest.mark.parametrize(("year", "word"), [(2019, "behind"), pytest.param(2039, "ahead of", marks=pytest.mark.whole)])
def test_a_clock_that_is_far_off_is_refused(guest, year, word):
    before = managed(guest)
    guest.root(f"date --set '{year}-03-01 12:00:00 UTC'")
    try:
        done = deploy()
    finally:
        guest.root(f"date --set @{time.time():.0f}")
    told = refused(done, f"preflight: clock: found {year}-03-01 12:0", f"{word} this machine's clock; expected ")
    assert "What to do: `sudo timedatectl set-ntp true` on the host" in told
    assert managed(guest) == before
