"""Hosts that do not exist, for pyinfra's ``@fake`` connector: a dry run of the whole deploy needs no machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyinfra.api.exceptions import InventoryError

from ojai import accelerators
from ojai.settings import SettingsError, parse
from ojai.sizes import GIB, PAGE_BYTES, parse_bytes

#: Memory of the box: what the BIOS gives to the GPU and what is left to the OS.
_MEMORY = 126 * GIB
_SMALLEST_CARVE_OUT = GIB // 2

_REPORT = """\
ojai-host-report\t1
user\troot
hostname\tmini
machine\tx86_64
kernel\t6.8.0-90-generic
os_id\tubuntu
os_version\t24.04
os_name\tUbuntu 24.04.4 LTS
pci\t0000:c5:00.0 {gpu}
mem_info_vram_total\t{carve_out}
mem_info_gtt_total\t{gtt}
ttm_pages\t{pages}
MemTotal\t{memory}
SwapTotal\t8388608
CommitLimit\t{commit_limit}
overcommit\t0
disk\t/var/lib/docker 900000000000 /
disk\t{data_directory} 900000000000 /"""


def fake_host(name: str, data: Mapping[str, Any], gpu_memory: str = "64GiB") -> tuple[str, dict[str, Any]]:
    """A host of an inventory that answers as a bare Ubuntu 24.04 on the GPU that ``data`` names.

    ``gpu_memory`` is its BIOS carve-out, unless the host's GPU borrows memory from the OS (``memory_regime: gtt``).
    Everything else that is asked of it succeeds with no output.
    """
    try:
        settings = parse(name, data)
    except SettingsError as error:
        raise InventoryError(f"\n{error}") from None
    vendor, _, device = accelerators.load(settings.accelerator).pci_ids[0].partition(":")
    carve_out = _SMALLEST_CARVE_OUT if settings.memory_regime == "gtt" else parse_bytes(gpu_memory)
    memory = (_MEMORY - carve_out) // 1024
    report = _REPORT.format(
        gpu=f"0x{vendor}:0x{device}",
        carve_out=carve_out,
        gtt=memory * 1024 // 2,
        # What the deploy would set is in force: nothing of a host that does not exist changes.
        pages=(settings.gtt_limit or memory * 1024 // 2) // PAGE_BYTES,
        memory=memory,
        commit_limit=memory // 2 + 8388608,
        data_directory=settings.data_directory,
    )
    answers = {
        "ojai-host-report": report.splitlines(),
        "/boot/vmlinuz-*": ["6.8.0-90-generic", "6.8.0-90-generic"],
    }
    return f"@fake/{name}", {**data, "fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": answers}
