"""What makes a host unfit: one change of a good report at a time, and the check that must find it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ojai.preflight
from ojai import accelerators
from ojai import watch as watched
from ojai.facts.report import Report
from ojai.facts.report.apt import AptReport, Refusal, Source
from ojai.facts.report.engine import Engine, Program, Server, Unit
from ojai.facts.report.environment import EnvironmentFiles
from ojai.facts.report.firewall import CameBy
from ojai.facts.report.folders import Folders
from ojai.facts.report.gateway import GatewayReport
from ojai.facts.report.gpu import Gpu
from ojai.facts.report.owner import Container, Owner
from ojai.facts.report.ports import PortHolder
from ojai.facts.report.space import Space
from ojai.facts.report.watch import EXPORTER, WatchReport
from ojai.facts.sysctl import Boot
from ojai.paths import SCHEMA
from ojai.preflight import environment, firewall, gateway, weights
from ojai.preflight.docker import engine_source, remarks
from ojai.preflight.host import failed_after_boot, failed_checks
from ojai.preflight.memory import budgets, memory_of
from ojai.preflight.packages import ROCM_SOURCE
from ojai.preflight.space import DISK_RESERVE
from ojai.settings import HostSettings, parse
from ojai.settings.lock import Lock, profile_hash
from ojai.sizes import GIB
from ojai.surface import Difference

IMAGE = "vllm/vllm-openai-rocm:v0.20.1"
#: This machine's clock in these tests, in seconds since 1970.
NOW = 1_795_000_000

OURS = Source(ROCM_SOURCE, 1, "https://repo.radeon.com/rocm/apt/7.2", "noble", ("main",))
ROCM_LIST = "/etc/apt/sources.list.d/rocm.list"
AMDS = "1.0.0.70200-43~24.04"
KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
DOCKER = Source(
    "/etc/apt/sources.list.d/docker.list",
    1,
    "https://download.docker.com/linux/ubuntu",
    "noble",
    ("stable",),
    ("amd64",),
    keys=(KEY,),
)

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
    apt=AptReport(sources=(OURS,)),
    firmware={"linux-firmware": "20240318.git3b128b60-0ubuntu2.21"},
)
CONTAINERD = Program("/usr/bin/containerd", "/usr/bin/containerd", "containerd.io")
FOREIGN = Program("/usr/local/bin/docker", "/usr/local/bin/docker")
PODMAN = Program("/usr/bin/docker", "/usr/bin/docker", "podman-docker")
CLIENT = Program("/usr/bin/docker", "/usr/bin/docker", "docker-ce-cli")
#: An engine that ojai did not install, as Docker's own page sets it up.
ENGINE = Engine(
    packages={"docker-ce": "5:29.1.0-1~ubuntu.24.04~noble"},
    docker=CLIENT,
    client=CLIENT,
    dockerd=Program("/usr/bin/dockerd", "/usr/bin/dockerd", "docker-ce"),
    containerd=CONTAINERD,
    units={"docker.service": Unit("loaded", "active", "enabled")},
    client_version="Docker version 29.1.0, build 1",
    server=Server("29.1.0", root="/var/lib/docker"),
)
MIRRORS = {"docker_registry_mirrors": ["https://mirror.lan"]}
#: The same on the kernel that is asked for, with all that its driver makes.
UP = Gpu(
    drivers={"0000:c5:00.0": "amdgpu"},
    nodes=((110500, 128),),
    devices=("/dev/kfd", "/dev/dri/renderD128"),
    boot_words=("BOOT_IMAGE=/boot/vmlinuz-6.17.0-1012-oem", "root=UUID=1", "ro", "quiet"),
    grub_words=("quiet", "splash"),
)
BOOTED = replace(GOOD, kernel="6.17.0-1012-oem", gpu=UP)
#: As BOOTED, while the driver has not taken the GPU.
DOWN = replace(BOOTED, vram_total=None, gtt_total=None, gfx_versions=(), gpu=replace(UP, nodes=(), devices=()))
#: A card beside the APU, as an external one is.
CARD = {"0000:63:00.0": "0x1002:0x744c", **GOOD.gpus}
GTT = {"memory_regime": "gtt", "gtt_limit": "40GiB"}
LARGE = {"services": [{"profile": "gemma-4-26b-a4b"}]}
ENV = "/etc/ojai/vllm-gemma4.env"


#: What a host has that has all it is to serve.
COMPLETE: dict[str, Any] = {
    "engine": ENGINE,
    "images": ("vllm/vllm-openai-rocm:v0.20.1",),
    "models": ("/srv/ojai/huggingface/hub/models--google--gemma-4-E4B-it",),
    "apt": AptReport(
        sources=(OURS,), installed=dict.fromkeys(("rocminfo", "amd-smi-lib"), AMDS) | {"linux-oem-6.17": "6.17.0"}
    ),
}


DIGEST = f"sha256:{'0' * 64}"
#: What a lock says of the host's packages: one of Ubuntu's, one of AMD's.
LOCK = Lock(
    ojai="0.9.0",
    images={IMAGE: {"digest": DIGEST, "engine": "vllm 0.20.1", "contract": "0" * 64}},
    models={
        "google/gemma-4-E4B-it@main": {"commit": "0" * 40, "files": {"config.json": {"size": 1, "hash": "0" * 40}}}
    },
    packages={
        "docker": {"taken": "20261101T000000Z", "versions": {"docker.io": "29.1.3-1", "containerd": "2.1.9-1"}},
        "rocm 7.2": {"taken": "20261101T000000Z", "versions": {"rocminfo": AMDS}},
    },
    profiles={"gemma-4-e4b": profile_hash("gemma-4-e4b")},
)


def settings(lock: Lock | None = None, **data: Any) -> HostSettings:
    found = parse("mini", data)
    return found.locked(lock) if lock else found


def found(report: Report, **data: Any) -> list[str]:
    return [failed.check for failed in failed_checks(settings(**data), report)]


#: A certificate of the owner's.
OWN = {"gateway_certificate": "/etc/ai/chain.pem", "gateway_certificate_key": "/etc/ai/key.pem"}

GOOD_ONES = {
    "the guides' box": (GOOD, {}),
    "the larger model": (GOOD, LARGE),
    "a disk of the owner's, and a package on hold": (
        replace(
            GOOD, surface=(Difference("mount: /mnt/usb", None, "ext4"), Difference("hold: tzdata", None, "on hold"))
        ),
        {},
    ),
    "a lock whose versions are there, in lists and on the host": (
        replace(
            GOOD,
            apt=AptReport(
                sources=(OURS,),
                installed={"containerd": "2.1.9-1"},
                versions={
                    "docker.io": ("30.0.1-1", "29.1.3-1"),
                    "containerd": ("3.0-1",),
                    "rocminfo": (AMDS,),
                },
            ),
        ),
        {"lock": LOCK},
    ),
    "a lock that is newer than the lists": (
        replace(GOOD, apt=AptReport(sources=(OURS,), versions={"docker.io": ("27.1-1",)})),
        {"lock": LOCK},
    ),
    "a lock whose version only the snapshot has": (
        replace(
            GOOD,
            apt=AptReport(
                sources=(OURS,), versions={"docker.io": ("30.0.1-1",)}, snapshot={"docker.io": ("29.1.3-1",)}
            ),
        ),
        {"lock": LOCK},
    ),
    "a ROCm that is newer than the lock's, and is replaced": (
        replace(GOOD, apt=AptReport(sources=(OURS,), installed={"rocminfo": "1.0.0.70200-44~24.04"})),
        {"lock": LOCK},
    ),
    "Docker's packages, before its archive is added": (
        replace(
            GOOD,
            apt=AptReport(
                sources=(OURS,), refusals={"Docker": Refusal(("Unable to locate package docker-ce",))}, lists_age=9
            ),
        ),
        {"docker_source": "docker"},
    ),
    "no universe in lists that are read again first": (
        replace(
            GOOD, apt=AptReport(sources=(OURS,), refusals={"Docker": Refusal(("Unable to locate package docker.io",))})
        ),
        {},
    ),
    "a newer kernel, which GRUB lists after ours": (
        replace(
            GOOD,
            kernel="7.0.0-44-generic",
            space=Space(kernels=("7.0.0-44-generic", "6.17.0-1033-oem")),
            gpu=Gpu(boot_flavours=("oem",)),
        ),
        {},
    ),
    "Ubuntu's newest generic kernel, which is asked for": (
        replace(GOOD, space=Space(kernels=("6.8.0-90-generic",)), apt=AptReport(kernels=("7.0.0-44-generic",))),
        {"kernel_package": "linux-generic-hwe-24.04", "kernel_flavour": "generic"},
    ),
    "GRUB boots the kernel that is asked for": (
        replace(GOOD, gpu=Gpu(boot_entry="gnulinux-advanced-1>gnulinux-6.17.0-1012-oem-advanced-1")),
        {},
    ),
    "GRUB boots another kernel next, while the right one runs": (
        replace(BOOTED, gpu=replace(UP, boot_entry="gnulinux-6.8.0-90-generic-advanced-1")),
        {},
    ),
    "a proxy on another address of the host": (
        replace(GOOD, ports=(PortHolder(8000, "unit", "nginx.service", 7, "nginx", "192.0.2.7", now=True),)),
        {"services": [{"profile": "gemma-4-e4b", "host": "127.0.0.1"}]},
    ),
    "all is there, and nothing may be fetched": (replace(GOOD, **COMPLETE), {"local_only": True}),
    "before the driver is up": (replace(GOOD, gfx_versions=(), vram_total=None, gtt_total=None), LARGE),
    "a Python that will do": (replace(GOOD, python="3.12"), {}),
    "no Python where no model is fetched": (replace(GOOD, python="none"), {"services": []}),
    "before ROCm": (replace(GOOD, apt=AptReport()), {}),
    "a tree that ojai installed, before it is replaced": (
        replace(GOOD, rocm_trees=("/opt/rocm-7.2.0",), apt=AptReport(ours=frozenset({"rocm-core"}))),
        {"rocm_channel": "7.2.4"},
    ),
    "Docker's own source, which will do": (
        replace(GOOD, apt=AptReport(sources=(OURS, DOCKER))),
        {"docker_source": "docker"},
    ),
    "Docker's own source beside Ubuntu's packages": (
        replace(GOOD, apt=AptReport(sources=(OURS, replace(DOCKER, keys=())))),
        {},
    ),
    "what old lists say, which are read again": (
        replace(GOOD, apt=AptReport(refusals={"Docker": Refusal(why=("Unmet",))}, lists_age=90_000)),
        {},
    ),
    "a hold on what will do": (
        replace(
            GOOD, apt=AptReport(held=("rocminfo", "docker.io"), installed={"rocminfo": AMDS, "docker.io": "20.10"})
        ),
        {},
    ),
    "a package of the channel, and one that needs its version": (
        replace(GOOD, apt=AptReport(installed={"rocminfo": AMDS}, needs={"hip-runtime": (f"rocminfo (= {AMDS})",)})),
        {},
    ),
    "a source of ours that is cut short": (
        replace(GOOD, apt=AptReport(unreadable={ROCM_SOURCE: "Malformed"}, conflict="Malformed")),
        {},
    ),
    "a mainline kernel": (replace(GOOD, kernel="6.18.4-061804-generic"), {}),
    "a kernel of Proxmox": (replace(GOOD, kernel="6.17.2-1-pve"), {}),
    "no ROCm module parameter, no version file": (replace(GOOD, amdgpu_module=""), {}),
    "one ROCm tree": (replace(GOOD, rocm_trees=("/opt/rocm-7.2.0",)), {}),
    "a second, discrete GPU": (
        # NVIDIA's are not in KFD.
        replace(GOOD, gpus={"0000:01:00.0": "0x10de:0x2684", **GOOD.gpus}),
        {},
    ),
    "the kernel that is asked for runs": (BOOTED, {}),
    "that kernel, on a host that says nothing of devices": (replace(BOOTED, gpu=Gpu()), {}),
    "a second AMD card that is handed to virtual machines": (
        replace(BOOTED, gpus=CARD, gpu=replace(UP, drivers={**UP.drivers, "0000:63:00.0": "vfio-pci"})),
        {},
    ),
    "the same before that kernel runs": (
        replace(GOOD, gpus=CARD, gpu=replace(UP, drivers={**UP.drivers, "0000:63:00.0": "vfio-pci"})),
        {},
    ),
    "an old AMD card that ROCm does not see": (replace(BOOTED, gpus=CARD), {}),
    "a render node with another number": (
        replace(BOOTED, gpu=replace(UP, nodes=((110500, 129),), devices=("/dev/kfd", "/dev/dri/renderD129"))),
        {},
    ),
    "another id handed to virtual machines": (
        replace(BOOTED, gpu=replace(UP, module_options=("/etc/modprobe.d/a.conf:options vfio-pci ids=1002:744c",))),
        {},
    ),
    "blacklists of other drivers": (
        replace(
            DOWN,
            kernel=GOOD.kernel,
            gpu=replace(
                DOWN.gpu,
                boot_words=("modprobe.blacklist=nouveau",),
                module_options=(
                    "/etc/modprobe.d/b.conf:blacklist amdgpu_other",
                    "/etc/modprobe.d/c.conf:options ttm x=1",
                ),
            ),
        ),
        {},
    ),
    "the same TTM limit set elsewhere": (
        replace(
            BOOTED,
            gpu=replace(
                UP,
                boot_words=("ttm.pages_limit=10485760", "amdgpu.gttsize=40960"),
                module_options=("/etc/modprobe.d/a.conf:options ttm pages_limit=1",),
            ),
        ),
        GTT,
    ),
    "a limit that the kernel's command line puts right": (
        replace(
            BOOTED,
            gpu=replace(
                UP,
                boot_words=("ttm.pages_limit=10485760",),
                grub_words=("ttm.pages_limit=10485760",),
                module_options=("/etc/modprobe.d/ttm.conf:options ttm pages_limit=1",),
            ),
        ),
        GTT,
    ),
    "a TTM limit of others, where the GPU has a carve-out": (
        replace(BOOTED, gpu=replace(UP, boot_words=("ttm.pages_limit=4194304", "amdgpu.gttsize=-1"))),
        {},
    ),
    "parameters that are not TTM's limit": (
        replace(BOOTED, gpu=replace(UP, boot_words=("amdttm.pages_limit=1", "ttm.dma32_pages_limit=1"))),
        GTT,
    ),
    "a carve-out of nothing, with memory borrowed": (replace(BOOTED, vram_total=0), GTT),
    "images on a disk of their own": (
        replace(
            GOOD,
            disks={"/var/lib/docker": (20 * GIB, "/"), "/srv/ojai": (100 * GIB, "/big")},
            space=Space(rooms={"/big/docker": (100 * GIB, "/big")}, stores={"docker": "/big/docker"}),
        ),
        {},
    ),
    "an engine that may use either of two folders on one disk": (
        replace(
            GOOD,
            disks={"/srv/ojai": (120 * GIB, "/")},
            space=Space(
                rooms={"/var/lib/docker": (120 * GIB, "/"), "/var/lib/containerd": (120 * GIB, "/")},
                stores={"containerd": "/var/lib/containerd", "docker": "/var/lib/docker"},
                guessed=True,
            ),
        ),
        {"image_bytes": "60GiB"},
    ),
    "a small /boot, and the kernel is there": (
        replace(
            GOOD,
            space=Space(rooms={"/boot": (50 << 20, "/boot")}, kernels=("6.17.0-1012-oem",), boot_sizes=150 << 20),
        ),
        {},
    ),
    "a small /opt, and ROCm is there": (
        replace(GOOD, space=Space(rooms={"/opt": (GIB, "/opt")}, rocm_packages=("rocm",))),
        {"rocm_packages": ["rocm"]},
    ),
    "a small /tmp": (replace(GOOD, space=Space(rooms={"/tmp": (200 << 20, "/tmp")})), {}),
    "the firmware of Ubuntu 24.04, whose name keeps its date": (
        replace(GOOD, firmware={"linux-firmware": "20240318.git3b128b60-0ubuntu2.22"}),
        {"firmware_known_bad": ["20251125", "0ubuntu2.21"]},
    ),
    "variables that are allowed": (
        replace(GOOD, env_names={ENV: ("HF_TOKEN", "VLLM_API_KEY", "X_AITER")}),
        {"exposure": "open"},
    ),
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
    "a package that was recalled, with other firmware loaded": (
        replace(GOOD, firmware={"linux-firmware": "20251125.git1"}, gpu=Gpu(mes=(0x80,))),
        {},
    ),
    "a scheduler's firmware that this host is told to accept": (
        replace(GOOD, gpu=Gpu(mes=(0x83,))),
        {"firmware_known_bad": []},
    ),
    "a kernel that shows the fix": (
        replace(BOOTED, gpu=replace(UP, saves={110500: True})),
        {},
    ),
    "a kernel without the fix, which is not the one to be used": (replace(GOOD, gpu=Gpu(saves={110500: False})), {}),
    "a firmware that this host is told to accept": (
        replace(GOOD, firmware={"linux-firmware": "20251125.git1"}),
        {"firmware_known_bad": []},
    ),
}


@pytest.mark.parametrize(("report", "data"), GOOD_ONES.values(), ids=GOOD_ONES.keys())
def test_a_good_host_passes(report, data):
    assert failed_checks(settings(**data), report, now=NOW) == []


#: Whatever others may have installed: it is used as it is.
THEIR_ENGINES = {
    "docker-ce": ENGINE,
    "docker.io, though docker_source says otherwise": replace(ENGINE, packages={"docker.io": "28.2.2"}),
    "moby-engine": replace(
        ENGINE, packages={"moby-engine": "27.1"}, containerd=replace(CONTAINERD, package="moby-containerd")
    ),
    "an engine of no package": replace(ENGINE, packages={}, dockerd=Program("/opt/dockerd", "/opt/dockerd")),
    "one that is down": replace(ENGINE, server=None, units={"docker.service": Unit("loaded", "inactive", "disabled")}),
    "one that hangs": replace(ENGINE, server=None),
    "loki as log driver": replace(ENGINE, daemon_json='{"log-driver": "loki", "log-opts": {"loki-url": "x"}}'),
    "loki's driver on the command line": replace(
        ENGINE, words=("dockerd", "--log-driver", "loki"), daemon_json='{"log-opts": {"loki-url": "x"}}'
    ),
    "a key twice, where nothing is written": replace(ENGINE, daemon_json='{"dns": ["a"], "dns": ["b"]}'),
    "a link, where nothing is written": replace(ENGINE, daemon_json_unsafe="a link to /home/ada/daemon.json"),
    "containerd's store": replace(ENGINE, server=Server("29.1.0", containerd_store=True)),
    "a snap whose daemon is disabled": replace(ENGINE, snap="disabled"),
}


@pytest.mark.parametrize("source", ["auto", "docker", "ubuntu"])
@pytest.mark.parametrize("engine", THEIR_ENGINES.values(), ids=THEIR_ENGINES.keys())
def test_an_engine_of_the_owner_s_is_used_as_it_is(engine, source):
    report = replace(GOOD, engine=engine)
    assert found(report, docker_source=source) == []
    assert not engine.ours
    (first, *others) = remarks(settings(docker_source=source), report)
    assert re.fullmatch(r"Docker: \S.* was installed by others: it is used as it is, and stays at removal\..*", first)
    assert ("No effect here: docker_source" in first) is (source != "auto")
    down = engine.units["docker.service"].active == "inactive"
    assert len(others) == (down or engine.server is None)


@pytest.mark.parametrize(
    "engine",
    [
        Engine(),
        Engine(containerd=replace(CONTAINERD, package="containerd")),
        Engine(packages={"docker.io": "28"}, noted=("docker.io",)),
        Engine(noted=("docker.io",)),
    ],
)
def test_an_engine_that_ojai_installed_or_will_install_is_ours(engine):
    assert engine.ours
    assert found(replace(GOOD, engine=engine)) == []
    assert list(remarks(settings(), replace(GOOD, engine=engine))) == []


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://mirror.lan", "{}"),
        ("https://mirror.lan/hub", "{}"),
        ("http://127.0.0.1:5000", "{}"),
        ("http://mirror.lan:5000", '{"insecure-registries": ["mirror.lan:5000"]}'),
        ("http://mirror.lan", '{"insecure-registries": ["mirror.lan"]}'),
        ("http://192.0.2.7:5000", '{"insecure-registries": [7, "mirror.lan:5000", "192.0.2.0/24"]}'),
    ],
)
def test_a_mirror_that_containerd_s_store_takes(url, text):
    engine = replace(ENGINE, server=Server("26.1.5", containerd_store=True), daemon_json=text)
    assert found(replace(GOOD, engine=engine), docker_registry_mirrors=[url]) == []


def test_a_newer_docker_asks_a_mirror_by_http():
    """Seen on 28.5.2, with images in containerd's store; 26.1.5 asks it by https and fails."""
    asked = '{"features": {"containerd-snapshotter": true}}'
    there = replace(GOOD, engine=replace(ENGINE, server=Server("28.5.2+dfsg4", containerd_store=True)))
    apt = replace(GOOD.apt, engines={"docker.io": "29.1.3-0ubuntu3~24.04.2"})
    to_come = replace(GOOD, engine=Engine(daemon_json=asked), apt=apt)
    for report in (there, to_come):
        assert found(report, docker_registry_mirrors=["http://mirror.lan:5000"]) == []
    unknown = replace(GOOD, engine=Engine(daemon_json=asked))
    assert found(unknown, docker_registry_mirrors=["http://mirror.lan:5000"], docker_source="docker") == []


def test_the_source_of_an_engine_is_found():
    """`auto` keeps what is there; the others say which."""
    ce = Engine(packages={"docker-ce": "5:29.1.3"}, noted=("docker-ce",))
    io = Engine(packages={"docker.io": "29.1.3"}, noted=("docker.io",))
    for engine, auto in ((ce, "docker"), (io, "ubuntu"), (Engine(), "ubuntu"), (ENGINE, "ubuntu")):
        assert engine_source(settings(), engine) == auto
        for source in ("ubuntu", "docker"):
            assert engine_source(settings(docker_source=source), engine) == source
    assert found(replace(GOOD, engine=ce)) == [] == found(replace(GOOD, engine=io))
    # The host was asked about Ubuntu's.
    refused = replace(GOOD.apt, refusals={"Docker": Refusal(("…",), removes=("docker-ce", "containerd.io"))})
    assert found(replace(GOOD, engine=ce, apt=refused)) == []
    assert "apt" in found(replace(GOOD, engine=io, apt=refused))
    assert "Docker packages" in found(replace(GOOD, engine=ce), docker_source="ubuntu")


def test_images_in_the_store_of_before_are_told():
    report = replace(GOOD, engine=replace(ENGINE, unseen_images=3))
    (first, _) = remarks(settings(), report)
    assert "3 images from before it kept images in containerd's store are out of sight" in first


def test_an_image_needs_half_as_much_again_with_containerd_s_store():
    rooms = {"/var/lib/containerd": (65 * GIB, "/"), "/var/lib/docker": (65 * GIB, "/")}
    for store, size in (("docker", 40), ("containerd", 60)):
        space = Space(rooms=rooms, stores={store: f"/var/lib/{store}"})
        report = replace(GOOD, disks={"/srv/ojai": (200 * GIB, "/srv")}, space=space)
        assert found(report, image_bytes="40GiB") == []
        less = replace(report, space=replace(space, rooms={f"/var/lib/{store}": ((size + 4) * GIB, "/")}))
        assert found(less, image_bytes="40GiB") == ["disk space"]


BAD_ONES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "notes of a newer ojai": ("notes of ojai on the host", {"schema": SCHEMA + 1}, {}),
    "another release": ("operating system", {"os_version": "22.04", "os_name": "Ubuntu 22.04.5 LTS"}, {}),
    "a derivative": ("operating system", {"os_id": "linuxmint", "os_version": "22.1", "os_like": "ubuntu debian"}, {}),
    "a metapackage that brings another flavour": (
        "kernel package",
        {"apt": AptReport(sources=(OURS,), kernels=("7.0.0-44-generic",))},
        {"kernel_package": "linux-oem-24.04d"},
    ),
    "a newer kernel of another flavour": (
        "kernel",
        {
            "kernel": "7.0.0-44-generic",
            "space": Space(kernels=("7.0.0-44-generic", "6.8.0-90-generic")),
            "apt": AptReport(sources=(OURS,), kernels=("6.17.0-1033-oem",)),
        },
        {},
    ),
    "another distribution": ("operating system", {"os_id": "debian"}, {}),
    "a file system over the models": (
        "file systems",
        {"surface": (Difference("mount: /srv/ojai/huggingface", None, "ext4 /dev/sdb1 / rw"),)},
        {},
    ),
    "a file in the place of a device": (
        "device nodes",
        {"surface": (Difference("device: /dev/kfd", "character as the kernel has it", "no device"),)},
        {},
    ),
    "a proxy in root's client": (
        "Docker's client",
        {"surface": (Difference("docker client: /root/.docker/config.json proxies", None, '["default"]'),)},
        {},
    ),
    "a program before docker": (
        "programs",
        {"surface": (Difference("tool: docker", None, "/usr/local/bin/docker"),)},
        {},
    ),
    "no os-release": ("operating system", {"os_id": "", "os_version": "", "os_name": ""}, {}),
    "no image, and nothing may be fetched": ("local_only: image", {**COMPLETE, "images": ()}, {"local_only": True}),
    "no model, and nothing may be fetched": ("local_only: model", {**COMPLETE, "models": ()}, {"local_only": True}),
    "packages are missing, and nothing may be fetched": (
        "local_only: packages",
        {**COMPLETE, "apt": AptReport(sources=(OURS,))},
        {"local_only": True},
    ),
    "a model in a folder that has it not": ("model", {}, {"services": [{"model": "/mnt/usb/gemma-4-E4B-it"}]}),
    "proxies for a Docker that reads none": (
        "proxies",
        {"engine": replace(ENGINE, server=Server("20.10.24", root="/var/lib/docker"))},
        {"http_proxy": "http://proxy.example.net:3128"},
    ),
    "no Python": ("Python", {"python": "none"}, {}),
    "an old Python": ("Python", {"python": "3.10"}, {}),
    "a clock that stood still": ("clock", {"clock": 1_500_000_000}, {}),
    "a clock of the future": ("clock", {"clock": 4_000_000_000}, {}),
    "ARM": ("architecture", {"machine": "aarch64"}, {}),
    "32 bits": ("architecture", {"machine": "i686"}, {}),
    "no sudo": ("privilege", {"user": "ada"}, {}),
    "the kernel's package, held at an old one": (
        "kernel",
        {
            "kernel": "6.14.0-1004-oem",
            "apt": AptReport(sources=(OURS,), installed={"linux-oem-6.17": "6.14.0-1004.4"}, held=("linux-oem-6.17",)),
        },
        {},
    ),
    "apt's default release": ("apt pins", {"apt": AptReport(sources=(OURS,), default_release="noble")}, {}),
    "no universe": (
        "apt",
        {
            "apt": AptReport(
                sources=(OURS,), refusals={"Docker": Refusal(("Unable to locate package docker.io",))}, lists_age=9
            )
        },
        {},
    ),
    "an archive that has moved on, and so has its snapshot": (
        "locked package",
        {"apt": AptReport(sources=(OURS,), versions={"docker.io": ("30.0.1-1", "29.2.0-1")})},
        {"lock": LOCK},
    ),
    "AMD's archive, which has no such version any more": (
        "locked package",
        {
            "apt": AptReport(
                sources=(OURS,),
                versions={"rocminfo": ("1.0.0.70200-44~24.04",)},
                offers={"rocminfo": "1.0.0.70200-44~24.04"},
            )
        },
        {"lock": LOCK},
    ),
    "a newer engine than the lock's": (
        "newer package",
        {"apt": AptReport(sources=(OURS,), installed={"docker.io": "30.0.1-1"})},
        {"lock": LOCK},
    ),
    "no such group": ("account", {"missing_groups": ("llm",)}, {"data_group": "llm"}),
    "GRUB is told to boot another kernel": (
        "boot entry",
        {"gpu": Gpu(boot_entry="gnulinux-advanced-1>gnulinux-6.8.0-90-generic-advanced-1")},
        {},
    ),
    "GRUB is told a number": ("boot entry", {"gpu": Gpu(boot_entry="1>2")}, {}),
    "a GPU that is handed out after the reboot": (
        "GPU driver",
        {"gpu": Gpu(grub_words=("quiet", "vfio-pci.ids=1002:150e"))},
        {},
    ),
    "a driver that is off after the reboot": (
        "GPU driver",
        {"gpu": Gpu(module_options=("/etc/modprobe.d/a.conf:options amdgpu modeset=0",))},
        {},
    ),
    "a hardened service with a cache of somebody else's": (
        "vllm-gemma4: hardened",
        {"folders": Folders(cache_owners={"/home/ada/.cache/huggingface": "ada", "/var/cache/vllm": "root"})},
        {
            "services": [{"hardened": True}],
            "cache_folders": {"huggingface": "/home/ada/.cache/huggingface", "vllm": "/var/cache/vllm"},
        },
    ),
    "a hardened service that borrows more than its limit": (
        "vllm-gemma4: hardened",
        {"ttm_pages": 60 * GIB // 4096},
        {"services": [{"hardened": True}], "memory_regime": "gtt", "gtt_limit": "60GiB"},
    ),
    "a data folder on a disk that is read-only": (
        "data folder",
        {"folders": Folders(read_only={"/srv/ojai": "/srv /dev/sdb1"})},
        {},
    ),
    "an adopted cache that cannot be moved": (
        "data folder",
        {
            "folders": Folders(cannot_move={"/home/ada/.cache/vllm": "on another file system than /srv/ojai"}),
            "owner": Owner(adopted={"vllm": "/home/ada/.cache/vllm"}),
        },
        {"adopt": True, "move_adopted_caches": True},
    ),
    "no such user": ("account", {"missing_users": ("bob",)}, {"gpu_users": ["bob"]}),
    "a user that the host writes in another way": (
        "account",
        {"other_users": {"Ada": "ada"}},
        {"gpu_users": ["Ada"]},
    ),
    "a kernel built by hand": ("kernel", {"kernel": "6.18.0-rc4+"}, {}),
    "a mainline release candidate": ("kernel", {"kernel": "6.18.0-061800rc4-generic"}, {}),
    "a kernel that names no release": ("kernel", {"kernel": "next-20261126"}, {}),
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
    "AMD's DKMS package": ("GPU driver", {"gpu": Gpu(dkms_packages={"amdgpu-dkms": "1:6.16"})}, {}),
    "DKMS package, module and folder": (
        "GPU driver",
        {"dkms": ("loaded", "built"), "gpu": Gpu(dkms_packages={"amdgpu-dkms": "1:6.16"})},
        {},
    ),
    "a container": ("machine", {"gpu": Gpu(container="lxc")}, {}),
    "a container of Proxmox, with its kernel": ("machine", {"gpu": Gpu(container="lxc"), "kernel": "6.17.2-1-pve"}, {}),
    "a container on a host that is right": (
        "machine",
        {"kernel": BOOTED.kernel, "vram_total": None, "gfx_versions": (), "gpu": Gpu(container="lxc", devices=())},
        {},
    ),
    "a second AMD card in KFD": ("second AMD GPU", {"gpus": CARD, "gfx_versions": (110000, 110500)}, {}),
    "a second AMD card, the right kernel": (
        "second AMD GPU",
        {"gpus": CARD, "gfx_versions": (110500, 110000), "kernel": BOOTED.kernel, "gpu": UP},
        {},
    ),
    "a second AMD card that today's kernel does not take": (
        "second AMD GPU",
        {"gpus": CARD, "gpu": replace(UP, drivers={"0000:c5:00.0": "amdgpu", "0000:63:00.0": ""})},
        {},
    ),
    "a second GPU of the same kind": (
        "second AMD GPU",
        {"gpus": {"0000:c6:00.0": "0x1002:0x150e", **GOOD.gpus}, "gfx_versions": (110500, 110500)},
        {},
    ),
    "a compute card without a display": ("second AMD GPU", {"gfx_versions": (110500, 90010)}, {}),
    "the right kernel, no driver": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "vram_total": None, "gfx_versions": (), "gpu": DOWN.gpu},
        {},
    ),
    "the right kernel, no driver, on a host that says nothing of devices": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "vram_total": None, "gfx_versions": ()},
        {},
    ),
    "the right kernel, no driver, memory borrowed": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "vram_total": None, "gfx_versions": (), "gpu": DOWN.gpu},
        GTT,
    ),
    "the right kernel, no driver, no service": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "vram_total": None, "gfx_versions": (), "gpu": DOWN.gpu},
        {"services": []},
    ),
    "the right kernel, no KFD": ("GPU driver", {"kernel": BOOTED.kernel, "gfx_versions": ()}, {}),
    "the right kernel, no memory": ("GPU driver", {"kernel": BOOTED.kernel, "vram_total": None}, {}),
    "the right kernel, no /dev/kfd": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "gpu": replace(UP, devices=("/dev/dri/renderD128",))},
        {},
    ),
    "the right kernel, no render node": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "gpu": replace(UP, devices=("/dev/kfd",))},
        {},
    ),
    "the right kernel, the render node of another GPU": (
        "GPU driver",
        {"kernel": BOOTED.kernel, "gpu": replace(UP, nodes=((110500, 129),))},
        {},
    ),
    "a driver that stays off after the reboot": (
        "GPU driver",
        {"vram_total": None, "gfx_versions": (), "gpu": replace(DOWN.gpu, grub_words=("quiet", "nomodeset"))},
        {},
    ),
    "a TTM limit on the kernel's command line": (
        "TTM limit",
        {"gpu": replace(UP, boot_words=("ttm.pages_limit=4194304",))},
        GTT,
    ),
    "a TTM limit for the next boot": ("TTM limit", {"gpu": replace(UP, grub_words=("ttm.pages_limit=4194304",))}, GTT),
    "a TTM limit in a later file": (
        "TTM limit",
        {"gpu": replace(UP, module_options=("/etc/modprobe.d/ttm.conf:options ttm pages_limit=4194304",))},
        GTT,
    ),
    "a GTT size that is another": (
        "TTM limit",
        {"gpu": replace(UP, module_options=("/etc/modprobe.d/amdgpu.conf:options amdgpu gttsize=16384",))},
        GTT,
    ),
    "a TTM limit of others above the memory": (
        "TTM limit",
        {"gpu": replace(UP, boot_words=("ttm.pages_limit=32505856",))},
        {},
    ),
    "a carve-out of nothing": ("GPU memory", {"vram_total": 0}, {}),
    "a df without a number": ("disk space", {"space": Space(unknown=("/srv/ojai",))}, {}),
    "containerd's store on a small disk": (
        "disk space",
        {
            "disks": {"/var/lib/docker": (900 * GIB, "/big"), "/srv/ojai": (900 * GIB, "/big")},
            "space": Space(rooms={"/var/lib/containerd": (3 * GIB, "/")}, stores={"containerd": "/var/lib/containerd"}),
        },
        {},
    ),
    "an engine that may use a small disk": (
        "disk space",
        {
            "disks": {"/srv/ojai": (900 * GIB, "/big")},
            "space": Space(
                rooms={"/var/lib/containerd": (3 * GIB, "/"), "/var/lib/docker": (900 * GIB, "/big")},
                stores={"containerd": "/var/lib/containerd", "docker": "/var/lib/docker"},
                guessed=True,
            ),
        },
        {},
    ),
    "a /boot without room for a kernel": (
        "disk space",
        {
            "space": Space(
                rooms={"/boot": (200 << 20, "/boot")},
                kernels=("6.8.0-90-generic", "6.14.0-1005-oem"),
                boot_sizes=150 << 20,
            )
        },
        {},
    ),
    "an /opt without room for ROCm": (
        "disk space",
        {"space": Space(rooms={"/opt": (3 * GIB, "/opt")})},
        {"rocm_packages": ["rocm"]},
    ),
    "an /opt without room for MIGraphX": (
        "disk space",
        {"space": Space(rooms={"/opt": (3 * GIB, "/opt")})},
        {"rocm_migraphx": True},
    ),
    "a full /tmp": ("disk space", {"space": Space(rooms={"/tmp": (1 << 20, "/tmp")})}, {}),
    "half a model, and no room for the rest": (
        "disk space",
        {
            "images": (IMAGE,),
            "disks": {"/var/lib/docker": (6 * GIB, "/"), "/srv/ojai": (6 * GIB, "/")},
            "space": Space(weights={"/srv/ojai/huggingface/hub/models--google--gemma-4-E4B-it": 3 * GIB}),
        },
        {},
    ),
    "a revision of Ubuntu's firmware": (
        "firmware",
        {"firmware": {"linux-firmware": "20240318.git3b128b60-0ubuntu2.21"}},
        {"firmware_known_bad": ["0ubuntu2.21"]},
    ),
    "two ROCm trees": ("ROCm trees", {"rocm_trees": ("/opt/rocm-7.1.0", "/opt/rocm-7.2.0")}, {}),
    "a source beside ours": (
        "ROCm apt sources",
        {"apt": AptReport(sources=(OURS, Source(ROCM_LIST, 1, "https://a/rocm/apt/7.1", "noble", ("main",))))},
        {},
    ),
    "a kernel parameter that another file sets later": (
        "set up by hand",
        {"owner": Owner(sysctl=Boot((("/etc/sysctl.d/99-zzz.conf", "vm.overcommit_memory", "2"),)))},
        {},
    ),
    "a server on the port, and no word of adoption": (
        "set up by hand",
        {"owner": Owner(containers=(Container("1", "mine", IMAGE, published=(8000,), status="running"),))},
        {},
    ),
    "a source whose name begins as ours": (
        "ROCm apt sources",
        {"apt": AptReport(sources=(replace(OURS, file=ROCM_SOURCE.replace(".sources", ".old.sources")),))},
        {},
    ),
    "a tree of another release": ("ROCm trees", {"rocm_trees": ("/opt/rocm-6.4.0",)}, {}),
    "a folder where the link must be": ("ROCm trees", {"rocm_trees": ("/opt/rocm",)}, {}),
    "a source of Docker's with another key": (
        "Docker apt sources",
        {"apt": AptReport(sources=(OURS, replace(DOCKER, keys=("0" * 40,))))},
        {"docker_source": "docker"},
    ),
    "a pin that prefers Ubuntu's ROCm": (
        "apt pins",
        {"apt": AptReport(offers={"rocminfo": AMDS}, candidates={"rocminfo": "5.7.1-3build1"})},
        {},
    ),
    "a hold on a package that is to be installed": ("packages on hold", {"apt": AptReport(held=("docker.io",))}, {}),
    "a hold on a package of another release": (
        "packages on hold",
        {"apt": AptReport(held=("rocminfo",), installed={"rocminfo": AMDS})},
        {"rocm_channel": "7.2.4"},
    ),
    "a package that needs a version of Ubuntu's ROCm": (
        "packages that need another ROCm",
        {"apt": AptReport(installed={"rocminfo": "5.7.1-3build1"}, needs={"hipcc": ("rocminfo (>= 5.0)",)})},
        {},
    ),
    "a package that the engine excludes": (
        "apt",
        {"apt": AptReport(refusals={"Docker": Refusal(("Packages need to be removed",), ("containerd.io",))})},
        {},
    ),
    "a breakage for which apt refuses everything": (
        "apt",
        {"apt": AptReport(refusals={"the system": Refusal(("Unmet dependencies",), (), ("a : Depends: b",))})},
        {},
    ),
    "sources that contradict each other": (
        "apt sources",
        {"apt": AptReport(conflict="Conflicting values set for option Signed-By regarding source https://a b: c != d")},
        {},
    ),
    "a scheduler's firmware that hangs": ("firmware", {"gpu": Gpu(mes=(0x83,))}, {}),
    "a scheduler's firmware that the inventory names": (
        "firmware",
        {"gpu": Gpu(mes=(0x82,))},
        {"firmware_known_bad": ["0x82"]},
    ),
    "a kernel of the right number without the fix": (
        "GPU driver",
        {"kernel": "6.17.0-1012-oem", "gpu": replace(UP, saves={110500: False})},
        {},
    ),
    "recalled firmware": ("firmware", {"firmware": {"linux-firmware": "20251125.git3b128b60"}}, {}),
    "recalled firmware, Debian's package": ("firmware", {"firmware": {"firmware-amd-graphics": "20251125-1"}}, {}),
    "no boot sets kernel parameters": ("kernel parameters", {"owner": Owner(sysctl=Boot(masked=True))}, {}),
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
    **{
        f"an environment file: {word}": ("environment file", {"environment": EnvironmentFiles({ENV: ((3, word),)})}, {})
        for word in environment._FAULTS
    },
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
    "another engine than the one that ojai installed": (
        "Docker packages",
        {"engine": Engine(packages={"docker.io": "28"}, noted=("docker.io",))},
        {"docker_source": "docker"},
    ),
    "a snap": ("Docker", {"engine": Engine(snap="enabled")}, {}),
    "a snap beside an engine": ("Docker", {"engine": replace(ENGINE, snap="installed")}, {}),
    "podman's docker": (
        "Docker",
        {"engine": Engine(docker=PODMAN, client=PODMAN, client_version="podman version 4.9.3")},
        {},
    ),
    "a docker of no package before the real one": ("Docker client", {"engine": replace(ENGINE, docker=FOREIGN)}, {}),
    "a docker of no package, and no engine yet": ("Docker client", {"engine": Engine(docker=FOREIGN)}, {}),
    "an engine without a client": ("Docker client", {"engine": replace(ENGINE, docker=None, client=None)}, {}),
    "an engine that is started by hand": (
        "Docker",
        {"engine": replace(ENGINE, units={"docker.service": Unit("not-found", "inactive", "")})},
        {},
    ),
    "an engine that its owner has masked": (
        "Docker",
        {"engine": replace(ENGINE, server=None, units={"docker.service": Unit("masked", "inactive", "masked")})},
        {},
    ),
    "an old engine": ("Docker", {"engine": replace(ENGINE, server=Server("19.03.15"))}, {}),
    "a rootless daemon": (
        "Docker",
        {"engine": replace(ENGINE, server=Server("29.1.0", security=("name=rootless",)))},
        {},
    ),
    "a daemon with remapped users": (
        "Docker",
        {
            "engine": replace(
                ENGINE, server=Server("29.1.0", security=("name=userns",)), daemon_json='{"userns-remap": "default"}'
            )
        },
        {},
    ),
    "users that will be remapped": ("daemon.json", {"engine": Engine(daemon_json='{"userns-remap": "default"}')}, {}),
    "Docker's containerd without an engine": ("containerd", {"engine": Engine(containerd=CONTAINERD)}, {}),
    "Microsoft's containerd without an engine": (
        "containerd",
        {"engine": Engine(containerd=replace(CONTAINERD, package="moby-containerd"))},
        {"docker_source": "docker"},
    ),
    "Ubuntu's containerd, and Docker's engine wanted": (
        "containerd",
        {"engine": Engine(containerd=replace(CONTAINERD, package="containerd"))},
        {"docker_source": "docker"},
    ),
    "a comment in daemon.json": ("daemon.json", {"engine": Engine(daemon_json='{"a": 1} // why')}, {}),
    "a comma too many in daemon.json": ("daemon.json", {"engine": replace(ENGINE, daemon_json='{"a": 1,}')}, {}),
    "a key that is there twice, one of which would be lost": (
        "daemon.json",
        {"engine": replace(ENGINE, daemon_json='{"dns": ["a"], "dns": ["b"]}')},
        MIRRORS,
    ),
    "the same, with something of ours to take back": (
        "daemon.json",
        {"engine": replace(ENGINE, daemon_json='{"dns": ["a"], "dns": ["b"]}', daemon_json_noted=True)},
        {},
    ),
    "a daemon.json that dockerd does not accept": (
        "daemon.json",
        {"engine": replace(ENGINE, daemon_json='{"x": 1}', daemon_json_rejected="don't match any option: x")},
        {},
    ),
    "options of another log driver, left by an earlier ojai": (
        "daemon.json",
        {"engine": replace(ENGINE, daemon_json='{"log-driver": "json-file", "log-opts": {"loki-url": "x"}}')},
        {},
    ),
    "a daemon.json that is a link into a home": (
        "daemon.json",
        {"engine": replace(ENGINE, daemon_json_unsafe="a link to /home/ada/x, where /home/ada belongs to ada")},
        MIRRORS,
    ),
    "mirrors on the daemon's command line": (
        "daemon.json",
        {"engine": replace(ENGINE, words=("/usr/bin/dockerd", "--registry-mirror=https://a"))},
        MIRRORS,
    ),
    "a daemon that reads another file": (
        "daemon.json",
        {"engine": replace(ENGINE, words=("/usr/bin/dockerd", "--config-file", "/etc/other.json"))},
        MIRRORS,
    ),
    "a mirror with a path for an older Docker": (
        "registry mirror",
        {"engine": replace(ENGINE, server=Server("24.0.7"))},
        {"docker_registry_mirrors": ["https://mirror.lan/hub"]},
    ),
    "a mirror without TLS for containerd's store": (
        "registry mirror",
        {"engine": replace(ENGINE, server=Server("26.1.5+dfsg1", containerd_store=True))},
        {"docker_registry_mirrors": ["http://mirror.lan:5000"]},
    ),
    "the same, before the daemon runs": (
        "registry mirror",
        {"engine": Engine(daemon_json='{"features": {"containerd-snapshotter": true}}')},
        {"docker_registry_mirrors": ["http://mirror.lan:5000"]},
    ),
    "the same, where apt would install an old one": (
        "registry mirror",
        {
            "engine": Engine(daemon_json='{"features": {"containerd-snapshotter": true}}'),
            "apt": AptReport(sources=(OURS,), engines={"docker.io": "24.0.7-0ubuntu4.1"}),
        },
        {"docker_registry_mirrors": ["http://mirror.lan:5000"]},
    ),
    "a data folder that is a link": ("data folder", {"folders": Folders({"/srv/ojai": "a link to /mnt/big"})}, {}),
    "a data disk that is not mounted": ("data disk", {"folders": Folders(not_mounted=("/srv",))}, {}),
    "another program on the port": ("port", {"ports": (PortHolder(8000, "process", "nc", 7, "nc", now=True),)}, {}),
    "another unit on the port at the next boot": (
        "port",
        {"ports": (PortHolder(8000, "unit", "other.service", at_boot=True),)},
        {},
    ),
    "an nginx of the owner's without JavaScript": ("nginx", {"gateway": GatewayReport(nginx=True)}, {}),
    "a key of the engine's own": ("engine key", {"env_names": {ENV: ("HF_TOKEN", "VLLM_API_KEY")}}, {}),
    "a certificate that is not there": (
        "certificate",
        {"gateway": GatewayReport(missing=(OWN["gateway_certificate"],))},
        OWN,
    ),
    "a certificate of another key": (
        "certificate",
        {"gateway": GatewayReport(bad=("no key of that certificate in /etc/ai/key.pem",))},
        OWN,
    ),
    "another program on the gateway's port": (
        "gateway port",
        {"ports": (PortHolder(8443, "unit", "unifi.service", 7, "java", now=True, at_boot=True),)},
        {},
    ),
    "the gateway's port at the next boot": (
        "gateway port",
        {"ports": (PortHolder(443, "container", "web", at_boot=True),)},
        {"gateway_port": 443},
    ),
    "a Prometheus of the owner's that does not read ours": (
        "watch",
        {"watch": WatchReport(theirs=("prometheus",), running=("prometheus",))},
        {"watch": "box"},
    ),
    "a node exporter of the owner's that is stopped": (
        "watch",
        {"watch": WatchReport(theirs=("prometheus-node-exporter",))},
        {"watch": "box"},
    ),
    "a node exporter of the owner's that reads no texts": (
        "watch",
        {"watch": WatchReport(theirs=(EXPORTER,), running=(EXPORTER,))},
        {"watch": "box"},
    ),
    "a node exporter of the owner's on another port": (
        "watch",
        {"watch": WatchReport(theirs=(EXPORTER,), running=(EXPORTER,), textfiles="/var/x", node_port=9101)},
        {"watch": "box"},
    ),
    "a receiver beside an Alertmanager of the owner's": (
        "watch",
        {"watch": WatchReport(theirs=("prometheus-alertmanager",), running=("prometheus-alertmanager",))},
        {"watch": "box", "watch_secrets": {"webhook": {"env": "HOOK"}}},
    ),
    "Cockpit on the port of Prometheus": (
        "watch port",
        {"ports": (PortHolder(9090, "unit", "cockpit.socket", 1, "systemd", now=True, at_boot=True),)},
        {"watch": "box"},
    ),
    "SSH on a port that the firewall would guard": (
        "firewall",
        {"came_by": CameBy("192.0.2.9", 8443)},
        {"firewall_networks": ["192.0.2.0/24"]},
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


@pytest.mark.parametrize(("pci", "name"), [("0x1002:0x1114", "gfx1152"), ("0x1002:0x1902", "gfx1153")])
def test_a_gpu_that_no_image_has_code_for_is_told_the_truth(pci, name):
    (failed,) = failed_checks(settings(), replace(GOOD, gpus={"0000:c5:00.0": pci}))
    assert failed.check == "GPU" and name in failed.found
    assert "no image of vLLM has code for it" in failed.found and "llama.cpp's images have" in failed.found


def test_what_is_to_be_fetched_and_what_restarts_is_said_beforehand():
    wanted = settings()
    (service,) = wanted.resolved
    bare = replace(GOOD, images=(service.image,), models=(), space=Space())
    assert f"{service.image}: to be pulled" in next(weights.remarks(wanted, replace(bare, images=())))
    measured = replace(bare, line=(10_000_000, 1_795_000_000))
    assert next(weights.remarks(wanted, measured)).endswith(
        " to fetch; about 25 min at 10.0 MB/s (measured 2026-11-18)"
    )
    assert list(weights.remarks(wanted, bare)) == ["vllm-gemma4: about 15.2 GB of google/gemma-4-E4B-it to fetch"]
    begun = replace(bare, space=Space(weights={service.model_directory: 5_000_000_000}))
    assert next(weights.remarks(wanted, begun)).endswith(" 10.2 GB of google/gemma-4-E4B-it to fetch, 5.0 GB are there")
    there = replace(bare, models=(service.model_directory,))
    assert "is restarted once" in next(weights.remarks(wanted, there))
    recorded = replace(there, fetched=("models--google--gemma-4-E4B-it@main",))
    assert list(weights.remarks(wanted, recorded)) == []
    assert list(weights.remarks(settings(services=[]), bare)) == []


def test_every_check_is_in_the_table():
    """A check that is added to ojai/preflight wants a line here."""
    sources = [file.read_text() for file in Path(ojai.preflight.__file__).parent.glob("*.py")]
    names = set(re.findall(r'FailedCheck\(\s*f?"([^"]+)"', "\n".join(sources)))
    tried = {check.replace("vllm-gemma4", "{service.name}") for check, _, _ in BAD_ONES.values()}
    # Secrets are read by a deploy alone (tests/roles/test_secrets.py), not for each report.
    assert names - {"memory for all services", "secret"} == tried


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


@pytest.mark.parametrize(
    ("image", "containerd_store", "way"),
    [
        (IMAGE, False, f"`docker save {IMAGE}` on a host"),
        (IMAGE, True, f"`docker save {IMAGE}` on a host"),
        (f"{IMAGE}@{DIGEST}", True, f"`docker tag {IMAGE}@{DIGEST} {IMAGE}` and `docker save {IMAGE}`;"),
        (f"{IMAGE}@{DIGEST}", False, "deploy once with local_only: false, from a registry"),
    ],
)
def test_how_an_image_is_brought_is_what_the_host_s_store_can_keep(image, containerd_store, way):
    engine = replace(ENGINE, server=Server("29.1.0", root="/var/lib/docker", containerd_store=containerd_store))
    wanted = settings(LOCK if "@" in image else None, local_only=True)
    here = replace(GOOD, **{**COMPLETE, "engine": engine, "images": ()})
    (failed,) = (one for one in failed_checks(wanted, here) if one.check == "local_only: image")
    assert image in failed.found and way in failed.todo


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


def test_what_keeps_the_driver_off_is_named_with_its_place():
    words = {
        "boot_words": ("ro", "nomodeset", "vfio-pci.ids=1002:1640,1002:150e"),
        "grub_words": ("module_blacklist=amdgpu",),
        "module_options": (
            "/etc/modprobe.d/amd.conf:blacklist amdgpu",
            "/etc/modprobe.d/vfio.conf:options vfio-pci ids=1002:150E disable_vga=1",
            "/etc/modprobe.d/never.conf:install amdgpu /bin/false",
            "/etc/modprobe.d/other.conf:options amdgpu cwsr_enable=0",
        ),
    }
    drivers = {"0000:c5:00.0": "vfio-pci"}
    (failed,) = failed_checks(settings(), replace(DOWN, gpu=replace(DOWN.gpu, drivers=drivers, **words)))
    assert failed.found.startswith("kernel 6.17.0-1012-oem running with no mem_info_vram_total")
    told = failed.found.partition("keeps the driver off: ")[2].split("; ")
    assert told == [
        "nomodeset in /proc/cmdline",
        "vfio-pci.ids=1002:1640,1002:150e in /proc/cmdline",
        "module_blacklist=amdgpu in /etc/default/grub or its grub.d",
        "blacklist amdgpu in /etc/modprobe.d/amd.conf",
        "options vfio-pci ids=1002:150E disable_vga=1 in /etc/modprobe.d/vfio.conf",
        "install amdgpu /bin/false in /etc/modprobe.d/never.conf",
        "vfio-pci bound to 0000:c5:00.0",
    ]
    (missing,) = failed_checks(settings(), replace(DOWN, amdgpu_module=""))
    assert "linux-modules-extra-$(uname -r)" in missing.todo and "keeps the driver off" not in missing.found


def test_after_the_boot_the_driver_must_be_up_whatever_kernel_runs():
    """With `kernel_reboot: never` the old kernel runs on, and without a driver there is nothing to go on for."""
    assert failed_after_boot(settings(), BOOTED) == []
    assert failed_after_boot(settings(), GOOD) == [], "an older kernel with a driver is up to the operator"
    old = replace(DOWN, kernel=GOOD.kernel)
    assert failed_checks(settings(), old) == []
    (failed,) = failed_after_boot(settings(kernel_reboot="never"), old)
    assert failed.check == "GPU driver"
    assert failed.todo.startswith("reboot into the oem kernel, 6.14.0-1018 or newer (kernel_reboot is `never`)")
    assert [failed.check for failed in failed_after_boot(settings(), DOWN)] == ["GPU driver"], "said once"


def test_after_the_boot_the_limit_must_be_in_force():
    limit = 40 * GIB // 4096
    assert failed_after_boot(settings(**GTT), replace(BOOTED, ttm_pages=limit)) == []
    for pages in (None, 0, limit - 1):
        (failed,) = failed_after_boot(settings(**GTT), replace(BOOTED, ttm_pages=pages))
        assert (failed.check, failed_checks(settings(**GTT), replace(BOOTED, ttm_pages=pages))) == ("TTM limit", [])
    assert failed_after_boot(settings(), replace(BOOTED, ttm_pages=1)) == []


def test_what_is_left_of_dkms_is_three_things_with_three_ways_out():
    own = "/lib/modules/6.17.0-1012-oem/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko.zst"

    def told(**changes: Any) -> tuple[str, str]:
        (failed,) = failed_checks(settings(), replace(GOOD, amdgpu_module=own, **changes))
        assert own not in failed.found, "the kernel's own module is not AMD's"
        return failed.found, failed.todo

    found, todo = told(
        dkms=("loaded", "built"), gpu=Gpu(dkms_packages={"amdgpu-dkms": "1:6", "amdgpu-dkms-firmware": "1"})
    )
    assert "amdgpu-dkms 1:6" in found and todo.startswith("`sudo apt purge amdgpu-dkms amdgpu-dkms-firmware`")
    found, todo = told(dkms=("loaded", "built"))
    assert "in use (amdkcl is loaded)" in found and "dkms remove" in todo
    found, todo = told(dkms=("built",))
    assert "left over" in found and todo.startswith("`sudo rm -r /var/lib/dkms/amdgpu`")


def test_each_need_has_its_own_advice():
    small = {"/var/lib/docker": (GIB, "/docker"), "/srv/ojai": (GIB, "/srv"), "/var/lib/dpkg": (9 * GIB, "/")}
    space = Space(
        rooms={"/boot": (9 << 20, "/boot"), "/opt": (GIB, "/opt")},
        stores={"docker": "/var/lib/docker"},
        boot_sizes=150 << 20,
    )
    found = failed_checks(settings(rocm_packages=["rocm"]), replace(GOOD, disks=small, space=space))
    advice = {failed.found.rpartition(" ")[2]: failed.todo for failed in found}
    assert set(advice) == {"/docker", "/srv", "/boot", "/opt"}
    assert "data-root" in advice["/docker"] and "data_directory" not in advice["/docker"]
    assert "data_directory" in advice["/srv"]
    assert "autoremove" in advice["/boot"] and "rocm_packages" in advice["/opt"]
    containerd = replace(space, stores={"containerd": "/var/lib/docker"})
    told = [str(failed) for failed in failed_checks(settings(), replace(GOOD, disks=small, space=containerd))]
    assert any("/etc/containerd/config.toml" in text for text in told)


def test_weights_count_as_far_as_they_are_there():
    folder = "/srv/ojai/huggingface/hub/models--google--gemma-4-E4B-it"
    disks = {"/var/lib/docker": (6 * GIB, "/"), "/srv/ojai": (6 * GIB, "/")}
    whole = settings().resolved[0].profile.weights_bytes

    def fits(**changes: Any) -> bool:
        return not failed_checks(settings(), replace(GOOD, images=(IMAGE,), disks=disks, **changes))

    assert fits(models=(folder,))
    assert not fits()
    assert not fits(space=Space(weights={folder: 3 * GIB}))
    assert fits(space=Space(weights={folder: whole - GIB}))


def test_a_limit_above_the_memory_names_the_setting():
    (failed,) = failed_checks(
        settings(memory_regime="gtt", gtt_limit="100GiB"), replace(BOOTED, memory_total=62 * GIB + 5)
    )
    assert failed.todo == "set gtt_limit to 62GiB at most"


def test_a_gateway_stands_beside_what_is_there():
    unit = PortHolder(8443, "unit", "ojai-gateway.service", 7, "nginx", now=True, at_boot=True)
    elsewhere = PortHolder(8443, "process", "x", 7, "x", "192.0.2.9", now=True)
    held = PortHolder(8443, "process", "x", 7, "x", now=True)
    assert found(replace(GOOD, ports=(unit,))) == []
    assert found(replace(GOOD, ports=(elsewhere,)), gateway_address="192.0.2.8") == []
    assert found(replace(GOOD, ports=(elsewhere,))) == ["gateway port"]
    for data in ({"exposure": "open"}, {"exposure": "loopback"}, {"services": []}):
        assert found(replace(GOOD, ports=(held,), gateway=GatewayReport(nginx=True)), **data) == []
    assert found(replace(GOOD, gateway=GatewayReport(nginx=True, module=True))) == []
    assert found(replace(GOOD, gateway=GatewayReport(nginx=True, ours=True))) == []


def test_what_watches_already_is_joined():
    """The owner's, which reads ours; ours from before; and nothing is asked of a host that is not to be watched."""
    joined = ("prometheus", EXPORTER)
    theirs = WatchReport(theirs=joined, running=joined, joined=True, textfiles="/var/lib/prometheus/node-exporter")
    cockpit = PortHolder(9090, "unit", "cockpit.socket", 1, "systemd", now=True)
    assert found(replace(GOOD, watch=theirs), watch="box") == []
    assert found(replace(GOOD, watch=theirs, ports=(cockpit,)), watch="box") == [], "it is theirs"
    assert found(replace(GOOD, watch=WatchReport(ours=("prometheus",)), ports=(cockpit,)), watch="box") == []
    assert found(replace(GOOD, ports=(cockpit,)), watch="box", watch_port=9095) == []
    assert found(replace(GOOD, watch=WatchReport(theirs=joined), ports=(cockpit,))) == []
    assert watched.parts(settings(watch="box"), theirs).packages == []
    assert watched.parts(settings(watch="box"), WatchReport()).packages == ["prometheus", EXPORTER]


def test_rules_of_the_firewall_are_never_for_ssh_and_who_is_not_let_in_is_told():
    fenced = {"firewall_networks": ["192.0.2.0/24", "2001:db8::/64"]}

    def said(client: str, port: int, **data: Any) -> tuple[list[str], list[str]]:
        report = replace(GOOD, came_by=CameBy(client, port))
        return found(report, **data), list(firewall.warnings(settings(**data), report))

    assert said("192.0.2.9", 22, **fenced) == said("2001:db8::9", 22, **fenced) == said("", 0, **fenced) == ([], [])
    assert said("198.51.100.9", 8443) == said("198.51.100.9", 8443, **fenced, removed=True) == ([], [])
    faults, (warning,) = said("198.51.100.9", 22, **fenced)
    assert faults == [] and warning.startswith("this computer (198.51.100.9, as the host sees it) is not in")
    for port in (8000, 8443):
        assert said("192.0.2.9", port, **fenced)[0] == ["firewall"]
    assert said("192.0.2.9", 8443, exposure="open", **fenced)[0] == [], "there is no gateway then"


def test_an_nginx_of_the_owner_s_is_not_installed_anew():
    theirs = replace(GOOD, gateway=GatewayReport(nginx=True, module=True))
    assert gateway.packages(theirs) == ["openssl"]
    for report in (GOOD, None, replace(GOOD, gateway=GatewayReport(nginx=True, ours=True))):
        assert gateway.packages(report) == ["nginx", "libnginx-mod-http-js", "openssl"]


def test_who_reaches_a_service_is_said_before_it_changes_and_each_time_that_it_is_everybody():
    def told(report: Report, **data: Any) -> list[str]:
        return list(gateway.warnings(settings(**data), report))

    today = replace(GOOD, gateway=GatewayReport(open=(("vllm-gemma4", 8000),)))
    (change,) = told(today)
    assert change.startswith("vllm-gemma4 answers on port 8000 of the network today")
    assert "https://HOST:8443/v1 with a key" in change and "set `exposure: open`" in change
    (change,) = told(today, exposure="loopback")
    assert "only this host itself" in change and "8443" not in change
    for report in (today, GOOD):
        (meaning,) = told(report, exposure="open")
        assert meaning.startswith("exposure is open: whoever reaches 0.0.0.0:8000 can use vllm-gemma4")
    assert told(GOOD) == told(GOOD, exposure="loopback") == []
    by_hand = replace(GOOD, ports=(PortHolder(8000, "container", "gemma", now=True),))
    assert told(by_hand) == []  # refused, or nothing of what ojai changes
    (change,) = told(by_hand, adopt=True)
    assert change.startswith("the Docker container gemma answers on port 8000")
