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
    # On Ubuntu 99-sysctl.conf links to /etc/sysctl.conf; systemd reads only sysctl.d.
    last, file = {}, ""
    for line in mini.text("systemd-analyze cat-config sysctl.d").splitlines():
        if line.startswith("# /") and line.endswith(".conf"):
            file = line[2:]
        elif "=" in line and not line.lstrip().startswith(("#", ";")):
            key, value = line.split("=", 1)
            last[key.strip().lstrip("-").replace("/", ".")] = value.strip(), file
    for key, value in mini.settings.sysctl.items():
        found, file = last.get(key, ("nothing", "no file"))
        assert found.split() == str(value).split(), f"{file} sets {key} to {found}"


def test_parameters_are_applied_at_boot(mini):
    assert mini.run("systemctl is-enabled systemd-sysctl.service").stdout.strip() not in ("masked", "masked-runtime")


def test_the_largest_shard_of_the_guides_can_be_mapped(mini):
    if str(mini.settings.sysctl.get("vm.overcommit_memory")) != "1":
        return
    done = mini.run(f"python3 -c {shlex.quote(MAP)}")
    assert done.rc == 0, f"a private mapping of {SHARD} bytes: {done.stderr.strip().splitlines()[-1:]}"
