"""Kernel parameters are in force, stay so after a boot, and have the effect they are for."""

import shlex

import pytest

pytestmark = pytest.mark.silicon

#: The guides' central failure: the first shard of 26B-A4B, mapped privately and writable.
SHARD = 49_907_246_508

MAP = f"""
import mmap, os, tempfile
with tempfile.TemporaryFile(dir="/var/tmp") as shard:
    os.truncate(shard.fileno(), {SHARD})
    mmap.mmap(shard.fileno(), {SHARD}, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE).close()
"""


def test_parameters_are_in_force(mini):
    for key, value in mini.settings.sysctl.items():
        assert mini.text(f"sysctl -n {shlex.quote(key)}").split() == str(value).split(), key


def test_parameters_are_what_the_next_boot_would_set(mini):
    lines = mini.text("systemd-analyze cat-config sysctl.d").splitlines()
    # On Ubuntu 99-sysctl.conf links to it; systemd reads only sysctl.d.
    settings = [line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith(("#", ";"))]
    last = {key.strip().lstrip("-").replace("/", "."): value.strip() for key, value in settings}
    for key, value in mini.settings.sysctl.items():
        assert last.get(key, "").split() == str(value).split(), f"a later drop-in sets {key} to {last.get(key)}"


def test_the_largest_shard_of_the_guides_can_be_mapped(mini):
    if str(mini.settings.sysctl.get("vm.overcommit_memory")) != "1":
        return
    done = mini.run(f"python3 -c {shlex.quote(MAP)}")
    assert done.rc == 0, f"a private mapping of {SHARD} bytes: {done.stderr.strip().splitlines()[-1:]}"
