"""What makes a host unfit: one change of a good report at a time, and the check that must find it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ojai.preflight
from ojai import accelerators
from ojai.facts.report import Report
from ojai.facts.report.ports import PortHolder
from ojai.paths import SCHEMA
from ojai.preflight.host import failed_checks
from ojai.preflight.memory import budgets, memory_of
from ojai.preflight.packages import ROCM_SOURCE
from ojai.preflight.space import DISK_RESERVE
from ojai.settings import HostSettings, parse
from ojai.sizes import GIB

IMAGE = "vllm/vllm-openai-rocm:v0.20.1"
#: This machine's clock in these tests, in seconds since 1970.
NOW = 1_795_000_000

GOOD = Report(
    user="root",
    hostname="mini",
    machine="x86_64",
    kernel="6.8.0-90-generic",
    os_id="ubuntu",
    os_version="24.04",
    os_name="Ubuntu 24.04.4 LTS",
    gpus={"0000:c5:00.0": "0x1002:0x150e"},
    gfx_versions=(110500,),
    vram_total=64 * GIB,
    gtt_total=31 * GIB,
    amdgpu_module="/lib/modules/6.8.0-90-generic/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko.zst",
    memory_total=62 * GIB,
    swap_total=8 * GIB,
    disks={"/var/lib/docker": (900 * GIB, "/"), "/srv/ojai": (900 * GIB, "/")},
    apt_sources=(f"{ROCM_SOURCE}:URIs: https://repo.radeon.com/rocm/apt/7.2",),
    firmware={"linux-firmware": "20240318.git3b128b60-0ubuntu2.21"},
)
LARGE = {"services": [{"profile": "gemma-4-26b-a4b"}]}
ENV = "/etc/ojai/vllm-gemma4.env"


def settings(**data: Any) -> HostSettings:
    return parse("mini", data)


def found(report: Report, **data: Any) -> list[str]:
    return [failed.check for failed in failed_checks(settings(**data), report)]


GOOD_ONES = {
    "the guides' box": (GOOD, {}),
    "the larger model": (GOOD, LARGE),
    "before the driver is up": (replace(GOOD, gfx_versions=(), vram_total=None, gtt_total=None), LARGE),
    "before ROCm": (replace(GOOD, apt_sources=()), {}),
    "no ROCm module parameter, no version file": (replace(GOOD, amdgpu_module=""), {}),
    "one ROCm tree": (replace(GOOD, rocm_trees=("/opt/rocm-7.2.0",)), {}),
    "a second, discrete GPU": (
        replace(GOOD, gpus={"0000:01:00.0": "0x10de:0x2684", **GOOD.gpus}, gfx_versions=(120001, 110500)),
        {},
    ),
    "variables that are allowed": (replace(GOOD, env_names={ENV: ("HF_TOKEN", "VLLM_API_KEY", "X_AITER")}), {}),
    "a full disk, once image and model are there": (
        replace(
            GOOD,
            images=(IMAGE,),
            models=("/srv/ojai/huggingface/hub/models--google--gemma-4-E4B-it",),
            disks={"/var/lib/docker": (6 * GIB, "/"), "/srv/ojai": (6 * GIB, "/")},
        ),
        {},
    ),
    "two small models side by side": (
        GOOD,
        {
            "services": [
                {"name": "a", "port": 8000, "gpu_memory_utilization": 0.5, "max_model_len": 32768},
                {"name": "b", "port": 8001, "gpu_memory_utilization": 0.45, "max_model_len": 32768},
            ]
        },
    ),
    "Strix Halo, memory borrowed": (
        replace(
            GOOD,
            gpus={"0000:c5:00.0": "0x1002:0x1586"},
            gfx_versions=(110501,),
            vram_total=GIB // 2,
            memory_total=125 * GIB,
        ),
        {"accelerator": "gfx1151", "memory_regime": "gtt", "gtt_limit": "100GiB", **LARGE},
    ),
    "a clock that is a little off": (replace(GOOD, clock=NOW - 240), {}),
    "our own server, and another program elsewhere": (
        replace(
            GOOD,
            ports=(
                PortHolder(8000, "container", "vllm-gemma4", 812, "python3", now=True, ours=True),
                PortHolder(8000, "unit", "vllm-gemma4.service", at_boot=True, ours=True),
                PortHolder(9000, "process", "nginx", 900, "nginx", now=True),
            ),
        ),
        {},
    ),
    "notes of this ojai": (replace(GOOD, schema=SCHEMA), {}),
    "a firmware that this host is told to accept": (
        replace(GOOD, firmware={"linux-firmware": "20251125.git1"}),
        {"firmware_known_bad": []},
    ),
}


@pytest.mark.parametrize(("report", "data"), GOOD_ONES.values(), ids=GOOD_ONES.keys())
def test_a_good_host_passes(report, data):
    assert failed_checks(settings(**data), report, now=NOW) == []


BAD_ONES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "notes of a newer ojai": ("notes of ojai on the host", {"schema": SCHEMA + 1}, {}),
    "another release": ("operating system", {"os_version": "22.04", "os_name": "Ubuntu 22.04.5 LTS"}, {}),
    "another distribution": ("operating system", {"os_id": "debian"}, {}),
    "no os-release": ("operating system", {"os_id": "", "os_version": "", "os_name": ""}, {}),
    "a clock that stood still": ("clock", {"clock": 1_500_000_000}, {}),
    "a clock of the future": ("clock", {"clock": 4_000_000_000}, {}),
    "ARM": ("architecture", {"machine": "aarch64"}, {}),
    "32 bits": ("architecture", {"machine": "i686"}, {}),
    "no sudo": ("privilege", {"user": "ada"}, {}),
    "no such user": ("account", {"missing_users": ("bob",)}, {"gpu_users": ["bob"]}),
    "no display device": ("GPU", {"gpus": {}}, {}),
    "NVIDIA": ("GPU", {"gpus": {"0000:01:00.0": "0x10de:0x2684"}}, {}),
    "another APU": ("GPU", {"gpus": {"0000:c5:00.0": "0x1002:0x1586"}}, {}),
    "the right vendor, another device": ("GPU", {"gpus": {"0000:c5:00.0": "0x1002:0x15bf"}}, {}),
    "this one, another expected": ("GPU", {}, {"accelerator": "gfx1151"}),
    "KFD says otherwise": ("GPU instruction set", {"gfx_versions": (110000,)}, {}),
    "DKMS driver loaded": ("GPU driver", {"dkms": ("loaded",)}, {}),
    "DKMS driver built for the next boot": ("GPU driver", {"dkms": ("built",)}, {}),
    "DKMS module chosen by modinfo": (
        "GPU driver",
        {"amdgpu_module": "/lib/modules/6.8.0-90-generic/updates/dkms/amdgpu.ko.zst"},
        {},
    ),
    "two ROCm trees": ("ROCm trees", {"rocm_trees": ("/opt/rocm-7.1.0", "/opt/rocm-7.2.0")}, {}),
    "a source beside ours": (
        "ROCm apt sources",
        {"apt_sources": (*GOOD.apt_sources, "/etc/apt/sources.list.d/rocm.list:deb https://a/rocm/apt/7.1 noble main")},
        {},
    ),
    "a source whose name begins as ours": ("ROCm apt sources", {"apt_sources": (f"{ROCM_SOURCE}.old:x",)}, {}),
    "recalled firmware": ("firmware", {"firmware": {"linux-firmware": "20251125.git3b128b60"}}, {}),
    "recalled firmware, Debian's package": ("firmware", {"firmware": {"firmware-amd-graphics": "20251125-1"}}, {}),
    "a drop-in of every service": (
        "systemd drop-ins",
        {"shared_dropins": {"vllm-gemma4.service": ("/etc/systemd/system/service.d/nice.conf",)}},
        {},
    ),
    "AITER": ("environment file", {"env_names": {ENV: ("HF_TOKEN", "VLLM_ROCM_USE_AITER")}}, {}),
    "a part of AITER": ("environment file", {"env_names": {ENV: ("VLLM_ROCM_USE_AITER_MHA",)}}, {}),
    "allocator": ("environment file", {"env_names": {ENV: ("PYTORCH_ALLOC_CONF",)}}, {}),
    "allocator, HIP's name": ("environment file", {"env_names": {ENV: ("PYTORCH_HIP_ALLOC_CONF",)}}, {}),
    "allocator, CUDA's name": ("environment file", {"env_names": {ENV: ("PYTORCH_CUDA_ALLOC_CONF",)}}, {}),
    "development mode": ("environment file", {"env_names": {ENV: ("VLLM_SERVER_DEV_MODE",)}}, {}),
    "no room for the image": (
        "disk space",
        {"disks": {"/var/lib/docker": (30 * GIB, "/"), "/srv/ojai": (900 * GIB, "/srv")}},
        {},
    ),
    "no room for anything, although image and model are there": (
        "disk space",
        {
            "images": (IMAGE,),
            "models": ("/srv/ojai/huggingface/hub/models--google--gemma-4-E4B-it",),
            "disks": {"/var/lib/docker": (9 << 20, "/"), "/srv/ojai": (9 << 20, "/"), "/var/lib/dpkg": (9 << 20, "/")},
        },
        {},
    ),
    "no room for packages": (
        "disk space",
        {"disks": {**GOOD.disks, "/srv/ojai": (900 * GIB, "/"), "/var/lib/dpkg": (9 << 20, "/var")}},
        {},
    ),
    "no room for the weights": (
        "disk space",
        {"disks": {"/var/lib/docker": (900 * GIB, "/"), "/srv/ojai": (10 * GIB, "/srv")}},
        {},
    ),
    "room for one of them on a shared disk": (
        "disk space",
        {"disks": {"/var/lib/docker": (50 * GIB, "/"), "/srv/ojai": (50 * GIB, "/")}},
        {},
    ),
    "Docker's own packages where Ubuntu's are expected": ("Docker packages", {"docker": ("docker-ce",)}, {}),
    "another program on the port": ("port", {"ports": (PortHolder(8000, "process", "nc", 7, "nc", now=True),)}, {}),
    "another unit on the port at the next boot": (
        "port",
        {"ports": (PortHolder(8000, "unit", "other.service", at_boot=True),)},
        {},
    ),
    "a carve-out that is too small": ("memory for vllm-gemma4", {"vram_total": 16 * GIB}, LARGE),
    "a context that is too long": (
        "memory for vllm-gemma4",
        {"vram_total": 16 * GIB},
        {"services": [{"gpu_memory_utilization": 0.98}]},
    ),
    "more borrowed than there is": (
        "gtt_limit",
        {"vram_total": GIB // 2, "memory_total": 62 * GIB},
        {"memory_regime": "gtt", "gtt_limit": "100GiB"},
    ),
    "a cache format of unknown size": ("memory budget", {}, {"services": [{"kv_cache_dtype": "turboquant_k8v4"}]}),
    "no overcommit, and a shard larger than memory": (
        "memory for vllm-gemma4",
        {"memory_total": 30 * GIB, "swap_total": 0},
        {**LARGE, "sysctl": {"vm.overcommit_memory": 0}},
    ),
}


@pytest.mark.parametrize(("check", "changes", "data"), BAD_ONES.values(), ids=BAD_ONES.keys())
def test_one_fault_is_found_and_nothing_else(check, changes, data):
    report = replace(GOOD, **changes)
    result = failed_checks(settings(**data), report)
    assert [failed.check for failed in result] == [check]
    text = str(result[0])
    assert re.fullmatch(rf"{re.escape(check)}: found \S.*; expected \S.*\. What to do: \S.*\.", text), text
    assert "\n" not in text
    assert not re.search(r"None|\(\)|\[\]|<|\{\}", text), text


def test_every_check_is_in_the_table():
    """A check that is added to ojai/preflight wants a line here."""
    sources = [file.read_text() for file in Path(ojai.preflight.__file__).parent.glob("*.py")]
    names = set(re.findall(r'FailedCheck\(\s*f?"([^"]+)"', "\n".join(sources)))
    tried = {check.replace("vllm-gemma4", "{service.name}") for check, _, _ in BAD_ONES.values()}
    assert names - {"memory for all services"} == tried


def test_all_faults_are_told_at_once_in_the_order_a_person_would_look():
    report = replace(
        GOOD,
        os_id="debian",
        user="ada",
        gpus={},
        dkms=("loaded",),
        rocm_trees=("/opt/a", "/opt/b"),
        env_names={ENV: ("VLLM_ROCM_USE_AITER", "PYTORCH_ALLOC_CONF")},
        vram_total=GIB,
    )
    assert found(report, **LARGE) == [
        "operating system",
        "privilege",
        "GPU",
        "GPU driver",
        "ROCm trees",
        "environment file",
        "environment file",
        "memory for vllm-gemma4",
    ]


def test_the_other_apu_is_named_with_what_to_set():
    (failed,) = failed_checks(settings(), replace(GOOD, gpus={"0000:c5:00.0": "0x1002:0x1586"}))
    assert failed.todo == "set accelerator to gfx1151"


def test_the_carve_out_that_would_do_is_named():
    (failed,) = failed_checks(settings(**LARGE), replace(GOOD, vram_total=16 * GIB))
    assert "16 GiB" in failed.found
    assert "at least 56 GiB: set 64 GB in the BIOS" in failed.todo


def test_a_wrong_clock_is_told_with_both_times():
    behind = replace(GOOD, clock=1_700_000_000)
    (failed,) = failed_checks(settings(), behind, now=1_700_000_000 + 90_061)
    assert failed.found == "2023-11-14 22:13:20 UTC, 1 day, 1:01:01 behind this machine's clock"
    assert failed.expected.startswith("2023-11-15 23:14:21 UTC, give or take 5 minutes")
    assert "in the future" in failed.expected and "timedatectl set-ntp true" in failed.todo
    (failed,) = failed_checks(settings(), behind, now=1_700_000_000 - 301)
    assert "0:05:01 ahead of" in failed.found and "too long ago" in failed.expected
    assert failed_checks(settings(), behind, now=1_700_000_000 - 300) == []
    assert failed_checks(settings(), behind, now=1_700_000_000 + 300.0) == []


def test_disk_space_is_added_up_by_file_system():
    both = settings(image_bytes="40GiB")
    need = next(
        size
        for size in range(40, 120)
        if not failed_checks(
            both, replace(GOOD, disks={"/var/lib/docker": (size * GIB, "/"), "/srv/ojai": (size * GIB, "/")})
        )
    )
    assert need * GIB > 40 * GIB + DISK_RESERVE + 15 * 10**9
    apart = {"/var/lib/docker": (45 * GIB, "/"), "/srv/ojai": ((need - 40) * GIB, "/srv")}
    assert found(replace(GOOD, disks=apart), image_bytes="40GiB") == []


def test_two_services_need_their_image_once_and_their_weights_each():
    two = {
        "image_bytes": "40GiB",
        "services": [
            {"name": "a", "port": 8000, "gpu_memory_utilization": 0.45, "max_model_len": 8192},
            {
                "name": "b",
                "port": 8001,
                "profile": "gemma-4-e2b",
                "gpu_memory_utilization": 0.45,
                "max_model_len": 8192,
            },
        ],
    }
    tight = {"/var/lib/docker": (46 * GIB, "/"), "/srv/ojai": (17 * GIB, "/srv")}
    (failed,) = failed_checks(settings(**two), replace(GOOD, disks=tight))
    assert failed.expected.count("weights of") == 2
    assert "image" not in failed.expected


def test_budgets_are_of_the_host_as_it_will_be():
    """The sysctl role's value counts, and in the gtt regime what is borrowed."""
    before = replace(GOOD, overcommit_memory=0)
    assert memory_of(settings(), before).overcommit_memory == 1
    assert memory_of(settings(sysctl={"vm.swappiness": 10}), before).overcommit_memory == 0
    borrowed = settings(memory_regime="gtt", gtt_limit="40GiB")
    assert memory_of(borrowed, before).gpu_bytes == 40 * GIB
    assert memory_of(borrowed, replace(before, memory_total=30 * GIB)).gpu_bytes == 30 * GIB
    assert memory_of(settings(), replace(before, vram_total=None)) is None
    assert budgets(settings(), replace(before, vram_total=None)) == {}


@pytest.mark.parametrize("name", accelerators.names())
def test_every_accelerator_has_a_host_that_passes(name):
    gpu = accelerators.load(name)
    vendor, device = gpu.pci_ids[0].split(":")
    report = replace(GOOD, gpus={"0000:c5:00.0": f"0x{vendor}:0x{device}"}, gfx_versions=(gpu.gfx_target_version,))
    assert found(report, accelerator=name) == []
