"""Forty boxes of a reader who saw the issue and the documentation only: what real owners of Ubuntu 24.04 have.

Each test says what is right, whether or not it is so. A situation is made for real where that can be had here: the
script of the host report runs beside changed folders of this machine (a mount namespace, real apt, real gpg, a real
sshd), and what it answers is put into the answers of a made-up host. The rest are altered answers alone. All made-up
hosts are looked at in one dry run.
"""

# ruff: noqa: E501, RUF012
from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ojai.facts.report import HostReport

CLONE = Path(__file__).resolve().parents[2]
PYINFRA = [sys.executable, "-P", "-m", "pyinfra"]


# --- made-up hosts -------------------------------------------------------------------------------------------------

INVENTORY = r"""
import json as _json
from pathlib import Path as _Path
from ojai.fake import fake_host as _fake_host


def _host(name, case):
    host, data = _fake_host(name, case["data"], case["memory"])
    answers = data["fake_responses"]
    lines = answers["ojai-host-report"]
    if case["booted"]:
        lines = ["kernel\t6.17.0-1012-oem" if line.startswith("kernel\t") else line for line in lines]
        lines += ["gfx\t0", "gfx\t110500", "kfd_node\t110500 128", "gpu_devices\t/dev/kfd /dev/dri/renderD128 ",
                  "pci_driver\t0000:c5:00.0 amdgpu"]
        answers["/boot/vmlinuz-*"] = ["6.17.0-1012-oem", "6.17.0-1012-oem"]
    gone = tuple(case["without"])
    answers["ojai-host-report"] = [line for line in lines if not gone or not line.startswith(gone)] + case["lines"]
    answers.update(case["answers"])
    return host, data


boxes = [_host(name, case) for name, case in _json.loads(_Path(__file__).with_name("cases.json").read_text()).items()]
"""

ENGINE = [
    "program\tdocker /usr/bin/docker /usr/bin/docker docker.io",
    "program\tdockerd /usr/sbin/dockerd /usr/sbin/dockerd docker.io",
    "program\tcontainerd /usr/bin/containerd /usr/bin/containerd containerd",
    "engine\tdocker.io 27.5.1-0ubuntu3~24.04.2",
    "apt_package\tinstall ok installed\tdocker.io\t27.5.1-0ubuntu3~24.04.2",
    "docker_unit\tdocker.service loaded active enabled",
    "docker_unit\tdocker.socket loaded active enabled",
    "docker_unit\tcontainerd.service loaded active enabled",
    "docker_client\tDocker version 27.5.1, build 27.5.1-0ubuntu3~24.04.2",
    'docker_server\t{"version":"27.5.1","root":"/var/lib/docker","driver":"overlay2","status":[["Backing Filesystem","extfs"]],"security":["name=apparmor","name=seccomp,profile=builtin","name=cgroupns"]}',
    "docker_answers\tyes",
    "image_store\tdocker /var/lib/docker",
    "room\t/var/lib/docker 900000000000 /",
]
MIRROR = {"docker_registry_mirrors": ["https://registry.example.net"]}


def daemon_json(content: bytes) -> str:
    return "daemon_json\t" + base64.b64encode(content).decode()


class Case(NamedTuple):
    """A made-up host: its data, and what its answers have more, or less, than a sound one's."""

    data: dict[str, Any] = {}
    lines: list[str] = []
    without: list[str] = []
    answers: dict[str, list[str]] = {}
    booted: bool = True
    memory: str = "64GiB"


CASES: dict[str, Callable[[Path], Case]] = {}


def case(name: str) -> Callable[[Callable[[Path], Case]], Callable[[Path], Case]]:
    def keep(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
        CASES[name] = make
        return make

    return keep


class Seen(NamedTuple):
    """What a dry run said of one host, and of all."""

    text: str
    all: str
    lines: list[str] = []

    @property
    def refused(self) -> bool:
        return "REFUSED" in self.text

    @property
    def accepted(self) -> bool:
        return "ok " in self.text and not self.refused and "preflight:" not in self.text


def clean_environment(**more: str) -> dict[str, str]:
    secrets = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DOCKER_HOST")
    return {**{k: v for k, v in os.environ.items() if k not in secrets and not k.startswith("COV_")}, **more}


def dry(folder: Path, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [*PYINFRA, "--dry", str(folder / "boxes.py"), "deploy.py", *options],
        cwd=CLONE,
        env=clean_environment(XDG_STATE_HOME=str(folder / "state"), **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.stdout + done.stderr


def write_inventory(folder: Path, cases: dict[str, Case]) -> None:
    (folder / "boxes.py").write_text(INVENTORY)
    (folder / "cases.json").write_text(json.dumps({name: one._asdict() for name, one in cases.items()}))


def of(name: str, text: str) -> Seen:
    return Seen("\n".join(line for line in text.splitlines() if re.search(rf"@fake/{name}\b(?!-)", line)), text)


def dry_run(folder: Path, makers: Mapping[str, Callable[[Path], Case]]) -> tuple[str, dict[str, Case]]:
    """One dry run over all made-up hosts, each made in a folder of its own."""
    made = {}
    for name, make in makers.items():
        (folder / name).mkdir()
        try:
            made[name] = make(folder / name)
        except Skipped:
            continue
    write_inventory(folder, made)
    return dry(folder), made


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Case]]:
    return dry_run(tmp_path_factory.mktemp("boxes"), CASES)


@pytest.fixture
def seen(fleet: tuple[str, dict[str, Case]]) -> Callable[[str], Seen]:
    text, made = fleet

    def look(name: str) -> Seen:
        if name not in made:
            pytest.skip("this machine lets nobody make a mount namespace")
        return of(name, text)._replace(lines=made[name].lines)

    return look


# --- this machine, changed -----------------------------------------------------------------------------------------


class Skipped(Exception):
    pass


ASKED: dict[str, Any] = {
    "places": ("/var/lib/docker", "/srv/ojai", "/var/lib/dpkg"),
    "env_files": ("/etc/ojai/vllm-gemma4.env",),
    "gpus": ("1002:150e",),
    "data_folders": ("/srv/ojai",),
    "service_ports": (8000,),
    "units": ("vllm-gemma4.service",),
    "system_packages": ("linux-oem-6.17", "ca-certificates", "curl"),
    "rocm_packages": ("rocminfo",),
    "engine_packages": ("docker.io",),
    "rocm_archive": "https://repo.radeon.com/rocm/apt/7.2",
}

#: Folders of this machine with a layer over them, which goes with the process.
NAMESPACE = r"""
set -e
mount --make-rprivate /
base=$1
mount -t tmpfs tmpfs "$base"
for folder in etc srv opt boot mnt usr/local/bin var/lib/dpkg var/lib/apt; do
  [ -d "/$folder" ] || continue
  mkdir -p "$base/up/$folder" "$base/scratch/$folder"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$base/up/$folder,workdir=$base/scratch/$folder" "/$folder"
done
stub() { cat > "/usr/local/bin/$1"; chmod 755 "/usr/local/bin/$1"; }
export PATH="/usr/local/bin:$PATH"
"""
#: Where apt has nothing to do with it.
NO_APT = "for name in apt-get apt-cache dpkg-query; do printf '#!/bin/sh\\nexit 0\\n' | stub $name; done\n"


def inside(
    folder: Path, prepare: str, then: str, timeout: int = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Change this machine for one process tree, and run ``then`` there."""
    base = folder / "namespace"
    base.mkdir(exist_ok=True)
    script = folder / "inside.sh"
    script.write_text(NAMESPACE + "(\n" + prepare + "\n) >&2\nset +e\n" + then)
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    return subprocess.run(
        [*unshare, "sh", str(script), str(base)],
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )


#: What is of this machine, and not of the situation.
OURS = ("user", "hostname", "machine", "kernel", "clock", "os_id", "os_version", "os_name", "amdgpu_module", "MemTotal",
        "SwapTotal", "CommitLimit", "overcommit", "schema", "ojai-host-report", "container_kind", "gpu_devices", "boot_words",
        "boot_kernel", "boot_sizes", "docker_unit", "docker_server", "docker_client", "program", "power", "idle_action",
        "image_store_guessed", "image_store", "pci", "pci_driver", "running")  # fmt: skip


def look(
    folder: Path, prepare: str, keys: tuple[str, ...], asked: dict[str, Any] | None = None, **environment: str
) -> list[str]:
    """Lines of the host report, of these ``keys`` or all but ``OURS``, on this machine so changed."""
    if inside(folder, ":", ":").returncode:
        raise Skipped
    done = inside(folder, prepare, HostReport().command(**{**ASKED, **(asked or {})}), **environment)
    assert "ojai-host-report" in done.stdout, done.stderr
    found = [(line.split("\t")[0], line) for line in done.stdout.splitlines()]
    return [line for key, line in found if (key in keys if keys else key not in OURS)]


# --- apt -----------------------------------------------------------------------------------------------------------

APT_ANSWERS = ("apt_source", "apt_unreadable", "apt_conflict", "apt_key", "apt_pin", "apt_package", "apt_broken", "apt_unmet",
               "apt_needs", "apt_removes", "apt_lacks", "apt_refuses", "apt_offer", "apt_lists_age", "apt_default_release")  # fmt: skip


def deb(pool: Path, name: str, version: str) -> None:
    top = pool / f".{name}"
    (top / "DEBIAN").mkdir(parents=True)
    (top / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x <x@example.net>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "-b", top, pool / f"{name}_{version}.deb"], check=True, capture_output=True)
    shutil.rmtree(top)


def archive(folder: Path) -> Path:
    """What Ubuntu has, as far as the deploy asks for it: an archive of two components."""
    top = folder / "ubuntu"
    for component, packages in {
        "main": [("linux-oem-6.17", "6.17.0-1012.12"), ("curl", "8.5.0"), ("ca-certificates", "20240203")],
        "universe": [("docker.io", "27.5.1"), ("rocminfo", "5.7.1-3build1")],
    }.items():
        (top / "pool" / component).mkdir(parents=True)
        for name, version in packages:
            deb(top / "pool" / component, name, version)
        index = top / f"dists/noble/{component}/binary-amd64/Packages"
        index.parent.mkdir(parents=True)
        index.write_bytes(subprocess.check_output(["apt-ftparchive", "packages", f"pool/{component}"], cwd=top))
    fields = {"Origin": "Ubuntu", "Suite": "noble", "Codename": "noble", "Components": "main universe"}
    options = [word for name, value in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")]
    (top / "dists/noble/Release").write_bytes(
        subprocess.check_output(["apt-ftparchive", *options, "release", "dists/noble"], cwd=top)
    )
    return top


APT_ROOT = r"""
rm -rf /etc/apt/sources.list* /etc/apt/preferences* /etc/apt/apt.conf.d/* /etc/apt/trusted.gpg* /var/lib/apt/lists/* \
  /var/lib/dpkg/info/*
mkdir -p /etc/apt/sources.list.d /etc/apt/preferences.d /etc/apt/apt.conf.d /etc/apt/keyrings /etc/apt/trusted.gpg.d
for name in curl=8.5.0 ca-certificates=20240203; do
  printf 'Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\nMaintainer: x\nDescription: x\n\n' \
    "${name%=*}" "${name#*=}"
done > /var/lib/dpkg/status
mount -t tmpfs tmpfs /var/cache/apt
"""


def apt(folder: Path, prepare: str, components: str = "main universe") -> list[str]:
    source = f"echo 'deb [trusted=yes] file:{archive(folder)} noble {components}' > /etc/apt/sources.list\n"
    return look(folder, APT_ROOT + source + prepare + "\napt-get -q update", APT_ANSWERS)


@case("nouniverse")
def _(folder: Path) -> Case:
    return Case(lines=apt(folder, "", components="main"))


def test_01_universe_is_switched_off(seen: Callable[[str], Seen]) -> None:
    """A hardened server: only main and restricted are on, so apt with fresh lists knows no docker.io."""
    box = seen("nouniverse")
    assert box.refused and "docker.io" in box.text, box.text


@case("pinnedaway")
def _(folder: Path) -> Case:
    pin = "Package: docker.io docker-compose-v2\\nPin: release *\\nPin-Priority: -1\\n"
    return Case(lines=apt(folder, f"printf '{pin}' > /etc/apt/preferences.d/no-ubuntu-docker"))


def test_02_the_owner_pinned_ubuntus_docker_away(seen: Callable[[str], Seen]) -> None:
    """Pin-Priority -1 on docker.io, as guides for Docker's own archive advise: apt has no candidate."""
    box = seen("pinnedaway")
    assert box.refused and "docker.io" in box.text, box.text


@case("defaultrelease")
def _(folder: Path) -> Case:
    return Case(lines=apt(folder, "echo 'APT::Default-Release \"noble\";' > /etc/apt/apt.conf.d/99default-release"))


def test_03_a_default_release_makes_the_pin_void(seen: Callable[[str], Seen]) -> None:
    """APT::Default-Release "noble": AMD's Suite is noble too, both have 990, and Ubuntu's rocminfo 5.7.1 is the higher version."""
    box = seen("defaultrelease")
    assert "Default-Release" in box.text, box.text


@case("inlinekey")
def _(folder: Path) -> Case:
    home = folder / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    subprocess.run(
        [*gpg, "--passphrase", "", "--quick-gen-key", "Docker <docker@example.net>", "ed25519", "sign", "never"],
        check=True,
        capture_output=True,
    )
    colons = subprocess.check_output([*gpg, "--with-colons", "--list-keys"], text=True)
    fingerprint = next(line.split(":")[9] for line in colons.splitlines() if line.startswith("fpr:"))
    key = subprocess.check_output([*gpg, "--armor", "--export"], text=True).strip()
    sources = (
        "# Ubuntu sources have moved to this file.\n#\n# See http://help.ubuntu.com/community\n\n## a second comment alone\n\n"
        "Enabled: no\nTypes: deb\nURIs: https://download.docker.com/linux/ubuntu\nSuites: jammy\nComponents: stable\n\n"
        "# Docker\nTypes: deb\nURIs: https://download.docker.com/linux/ubuntu/\nSuites: noble\nComponents: stable\nArchitectures: amd64\n"
        "Signed-By:\n" + "".join(f" {line or '.'}\n" for line in key.splitlines())
    )  # fmt: skip
    (folder / "docker.sources").write_text(sources)
    lines = look(folder, APT_ROOT + f"cp {folder}/docker.sources /etc/apt/sources.list.d/Docker.sources", APT_ANSWERS)
    return Case(data={"docker_source": "docker", "docker_key_fingerprint": fingerprint}, lines=lines)


def test_04_dockers_source_with_its_key_inside(seen: Callable[[str], Seen]) -> None:
    """Docker's archive in deb822 with an inline key, behind comments and a stanza that is switched off: used as it is."""
    box = seen("inlinekey")
    assert box.accepted, box.text
    assert not re.search(r"Docker \| (Add|Install) Docker's (apt source|signing key).*inlinekey", box.all), box.all


@case("heldkernel")
def _(folder: Path) -> Case:
    return Case(
        without=["kernel\t6.17"],
        lines=["kernel\t6.14.0-1004-oem", "boot_kernel\t6.14.0-1004-oem", "apt_package\thold ok installed\tlinux-oem-6.17\t6.14.0-1004.4"],
        answers={"/boot/vmlinuz-*": ["6.14.0-1004-oem", "6.14.0-1004-oem"]},
    )  # fmt: skip


def test_05_the_kernel_is_held_below_the_floor(seen: Callable[[str], Seen]) -> None:
    """linux-oem-6.17 on hold at 6.14.0-1004, which runs: no newer one can come, and the floor is never reached."""
    box = seen("heldkernel")
    assert box.refused and "6.14.0-1004" in box.text, box.text


@case("halfdkms")
def _(folder: Path) -> Case:
    return Case(lines=["apt_broken\tvirtualbox-dkms"])


def test_06_somebody_elses_package_is_half_configured(seen: Callable[[str], Seen]) -> None:
    """virtualbox-dkms does not build for the running kernel and is half configured: named, and left alone."""
    box = seen("halfdkms")
    assert box.accepted and "virtualbox-dkms" in box.text, box.text


# --- Docker --------------------------------------------------------------------------------------------------------


@case("podman")
def _(folder: Path) -> Case:
    return Case(
        lines=["program\tdocker /usr/bin/docker /usr/bin/docker podman-docker", "docker_client\tpodman version 4.9.3"]
    )


def test_07_docker_is_podman(seen: Callable[[str], Seen]) -> None:
    """podman-docker gives /usr/bin/docker: refused, with the package's name."""
    box = seen("podman")
    assert box.refused and "podman-docker" in box.text, box.text


@case("bom")
def _(folder: Path) -> Case:
    return Case(data=MIRROR, lines=[*ENGINE, daemon_json(b'\xef\xbb\xbf{"dns": ["192.0.2.1"]}')])


def test_08_daemon_json_has_a_byte_order_mark(seen: Callable[[str], Seen]) -> None:
    """Written on Windows, read by Docker 23 and newer: taken, or refused with the mark as the reason."""
    box = seen("bom")
    assert box.accepted or (box.refused and "BOM" in box.text and "Traceback" not in box.all), box.text


@case("usernsflag")
def _(folder: Path) -> Case:
    lines = [line.replace('"name=cgroupns"', '"name=cgroupns","name=userns"') for line in ENGINE]
    return Case(lines=[*lines, "docker_word\t/usr/bin/dockerd", "docker_word\t--userns-remap=default"])


def test_09_users_are_remapped_by_an_option(seen: Callable[[str], Seen]) -> None:
    """`--userns-remap=default` in a drop-in of docker.service, nothing in daemon.json: host network and IPC are refused by Docker."""
    box = seen("usernsflag")
    assert box.refused and "userns" in box.text, box.text


@case("maskedengine")
def _(folder: Path) -> Case:
    lines = [
        line.replace("docker.service loaded active enabled", "docker.service masked inactive masked") for line in ENGINE
    ]
    return Case(lines=[line for line in lines if not line.startswith(("docker_server", "docker_answers"))])


def test_10_the_owner_masked_docker_for_a_rootless_one(seen: Callable[[str], Seen]) -> None:
    """docker.service is masked, as for a rootless daemon: not unmasked without a word."""
    box = seen("maskedengine")
    assert "mask" in box.text and "docker.service" in box.text, box.text


DOCKER_STUB = r"""
stub docker <<'END'
#!/bin/sh
if [ -n "$DOCKER_HOST$DOCKER_CONTEXT" ]; then root=/volume1/docker driver=btrfs; else root=/var/lib/docker driver=overlay2; fi
case "$*" in
  *--version*) echo 'Docker version 27.5.1, build 27.5.1-0ubuntu3~24.04.2';;
  *DockerRootDir*json*) printf '{"version":"27.5.1","root":"%s","driver":"%s","status":[],"security":["name=seccomp"]}\n' $root $driver;;
  *DockerRootDir*) echo "$root []";;
  *'image inspect'*) [ -n "$DOCKER_HOST$DOCKER_CONTEXT" ];;
esac
END
"""


@case("dockerhost")
def _(folder: Path) -> Case:
    keys = ("docker_server", "image_store", "image", "room")
    lines = look(
        folder,
        NO_APT + DOCKER_STUB,
        keys,
        {"images": ("vllm/vllm-openai-rocm:v0.20.1",)},
        DOCKER_HOST="tcp://nas.example.net:2375",
    )
    return Case(lines=[line for line in ENGINE if not line.startswith(("docker_server", "image_store"))] + lines)


def test_11_docker_host_is_set_for_every_login(seen: Callable[[str], Seen]) -> None:
    """DOCKER_HOST in /etc/environment, which sudo's PAM reads: the answers of a NAS are not this machine's."""
    box = seen("dockerhost")
    other = [line for line in box.lines if "/volume1" in line or line.startswith("image\t")]
    assert not other or (box.refused and "DOCKER_HOST" in box.text), (other, box.text)


# --- storage, environment, parameters --------------------------------------------------------------------------------


@case("linkedsrv")
def _(folder: Path) -> Case:
    prepare = NO_APT + (
        "mkdir -p /mnt/bigdisk && ln -s /mnt/bigdisk/llm /mnt/llm\n"
        "echo 'UUID=2f6ce1c2-0000-4000-8000-000000000001 /mnt/bigdisk ext4 defaults,nofail 0 2' > /etc/fstab"
    )
    lines = look(folder, prepare, (), {"data_folders": ("/mnt/llm/ojai",), "places": ("/var/lib/dpkg",)})
    return Case(
        data={"data_directory": "/mnt/llm/ojai"},
        lines=[line for line in lines if not line.startswith(("disk", "room"))],
    )


def test_12_a_link_leads_to_a_disk_that_is_not_mounted(seen: Callable[[str], Seen]) -> None:
    """/mnt/llm is a link onto a `nofail` disk that is switched off: refused as if the disk had been named itself."""
    box = seen("linkedsrv")
    assert box.refused and "/mnt/bigdisk" in box.text, box.text


@case("readonlydata")
def _(folder: Path) -> Case:
    prepare = NO_APT + "mount -t tmpfs -o ro,size=900g tmpfs /srv"
    return Case(without=["disk\t/srv"], lines=look(folder, prepare, (), {"places": ("/srv/ojai",)}))


def test_13_the_data_disk_is_read_only(seen: Callable[[str], Seen]) -> None:
    """Windows' fast start left the shared disk dirty, or ext4 went to remount-ro: no folder can be made there."""
    box = seen("readonlydata")
    assert box.refused and "read-only" in box.text.lower().replace("read only", "read-only"), box.text


@case("dataowner")
def _(folder: Path) -> Case:
    return Case(data={"data_owner": "ada"}, lines=["missing_user\tada"])


def test_14_owner_and_group_of_the_data_are_not_there(seen: Callable[[str], Seen], tmp_path: Path) -> None:
    """`data_owner: ada` and `data_group: llm`, which nobody has made: both asked about while looking, and named as what they are."""
    write_inventory(tmp_path, {"datagroup": Case(data={"data_group": "llm"})})
    said = dry(tmp_path, "-vvv", "--debug")
    assert "vllm/vllm-openai-rocm" in said, "the commands are not printed any more"
    asked = said.split("Detected changes")[0]
    box = seen("dataowner")
    assert box.refused and "data_owner" in box.text, box.text
    assert re.search(r"(?<![\w/-])llm\b", asked), "nothing is asked about the group llm"


@case("sysctlafter")
def _(folder: Path) -> Case:
    said = [
        "service enabled",
        "# /etc/sysctl.d/99-zzz-database.conf",
        "vm/overcommit_memory = 2",
        "vm.overcommit_ratio = 80",
    ]
    lines = [f"owner_sysctl\t{line}" for line in said[1:]]  # as the report's script has them
    return Case(answers={"systemd-analyze cat-config sysctl.d": said}, lines=lines)


def test_15_a_later_file_of_the_owners_sets_the_parameter(seen: Callable[[str], Seen]) -> None:
    """A database's 99-zzz-database.conf has vm/overcommit_memory = 2, with slashes: refused or named while looking."""
    box = seen("sysctlafter")
    assert "99-zzz-database.conf" in box.text, box.text


# --- GPU and kernel --------------------------------------------------------------------------------------------------


@case("grubdefault")
def _(folder: Path) -> Case:
    grub = "GRUB_DEFAULT='Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-90-generic'\\nGRUB_CMDLINE_LINUX_DEFAULT='quiet splash'\\n"
    lines = look(folder, NO_APT + f'printf "{grub}" > /etc/default/grub', ())
    return Case(booted=False, lines=[line for line in lines if line.startswith("grub")])


def test_16_grub_is_told_to_boot_the_old_kernel(seen: Callable[[str], Seen]) -> None:
    """GRUB_DEFAULT names Linux 6.8.0-90-generic: after kernel and reboot the old one would come up again."""
    box = seen("grubdefault")
    assert box.refused and "GRUB_DEFAULT" in box.text, box.text


@case("vfionext")
def _(folder: Path) -> Case:
    return Case(
        booted=False,
        lines=[
            "boot_words\tquiet splash",
            "grub_words\tquiet splash vfio-pci.ids=1002:150e ",
            "pci_driver\t0000:c5:00.0 amdgpu",
        ],
    )


def test_17_passthrough_is_set_up_for_the_next_boot(seen: Callable[[str], Seen]) -> None:
    """/etc/default/grub gives the GPU to vfio-pci; the driver is still up: the deploy's own reboot would take it away."""
    box = seen("vfionext")
    assert box.refused and "vfio" in box.text, box.text


@case("externalonly")
def _(folder: Path) -> Case:
    return Case(
        booted=False,
        without=["pci", "mem_info"],
        lines=["pci\t0000:63:00.0 0x1002:0x744c", "pci_driver\t0000:63:00.0 amdgpu", "gfx\t0", "gfx\t110000"],
    )


def test_18_the_integrated_gpu_is_off(seen: Callable[[str], Seen]) -> None:
    """An OCuLink card is in, and the BIOS has turned the integrated GPU off: refused, with what was found."""
    box = seen("externalonly")
    assert box.refused and "744c" in box.text, box.text


# --- section 3: ports and sleep --------------------------------------------------------------------------------------


@case("otheraddress")
def _(folder: Path) -> Case:
    with socket.create_server(("127.0.0.2", 0)) as proxy:
        port = proxy.getsockname()[1]
        lines = look(
            folder, NO_APT, ("port_listener", "port_unit", "port_container", "own_unit"), {"service_ports": (port,)}
        )
    return Case(data={"services": [{"host": "127.0.0.1", "port": port}]}, lines=lines)


def test_19_a_proxy_has_the_port_on_another_address(seen: Callable[[str], Seen]) -> None:
    """The service on 127.0.0.1:8000, and before it a proxy with TLS on the LAN's address and the same port: both work."""
    box = seen("otheraddress")
    assert any(line.startswith("port_listener") for line in box.lines), box.lines
    assert box.accepted, box.text


SYSTEMCTL_STUB = r"""
stub systemctl <<'END'
#!/bin/sh
case "$*" in
  list-unit-files*) echo 'ollama.service enabled enabled';;
  show*MainPID*) echo 0;;
  show*--property=Id*)
    echo 'ExecStart={ path=/usr/local/bin/ollama ; argv[]=/usr/local/bin/ollama serve ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }'
    case "$*" in *Environment*) echo 'Environment=PATH=/usr/bin OLLAMA_HOST=0.0.0.0:8000';; esac
    echo Id=ollama.service;;
  is-enabled*) echo enabled;;
  get-default*) echo multi-user.target;;
  is-active*) echo inactive;;
esac
END
"""


@case("environmentport")
def _(folder: Path) -> Case:
    return Case(lines=look(folder, NO_APT + SYSTEMCTL_STUB, ("port_listener", "port_unit", "port_container")))


def test_20_an_enabled_unit_has_the_port_in_its_environment(seen: Callable[[str], Seen]) -> None:
    """ollama.service with Environment=OLLAMA_HOST=0.0.0.0:8000 in a drop-in, stopped now to free memory, enabled: back at the next boot."""
    box = seen("environmentport")
    assert box.refused and "ollama.service" in box.text, box.text


@case("othernumber")
def _(folder: Path) -> Case:
    return Case(lines=["port_unit\t8000 worker.service --max-memory 8000", "port_unit\t8000 sampler.service -r 8000"])


def test_21_a_number_that_is_no_port(seen: Callable[[str], Seen]) -> None:
    """An enabled unit runs with --max-memory 8000, another with -r 8000: neither holds a port."""
    box = seen("othernumber")
    assert box.accepted, box.text


@case("socketunit")
def _(folder: Path) -> Case:
    return Case(
        lines=["port_listener\t8000 00000000 1 /init.scope systemd", "port_unit\t8000 portal.socket  Listen=[::]:8000"]
    )


def test_22_a_socket_unit_has_the_port(seen: Callable[[str], Seen]) -> None:
    """systemd itself listens, for portal.socket: the socket unit is named, not process 1."""
    box = seen("socketunit")
    assert box.refused and "portal.socket" in box.text, box.text


@case("nosleep")
def _(folder: Path) -> Case:
    lines = ["power\ttarget graphical.target", "power\tmanager gdm3.service active"]
    for whose, kind, seconds in (
        ("default", "'suspend'", "1200"),
        ("greeter", "'nothing'", "0"),
        ("ada", "'nothing'", "0"),
    ):
        lines += [f"gnome\t{whose} type {kind}", f"gnome\t{whose} timeout {seconds}"]
    return Case(lines=lines)


def test_23_the_owner_turned_gnomes_sleep_off(seen: Callable[[str], Seen]) -> None:
    """Automatic suspend is off for the greeter and for the only account: it is not said that the host may suspend itself."""
    box = seen("nosleep")
    assert box.accepted and "may suspend itself" not in box.text, box.text


# --- login, and two at once: a real sshd -----------------------------------------------------------------------------

SUDO = r"""
stub sudo <<'END'
#!/bin/sh
while :; do case $1 in -u) shift 2;; -*) shift;; *) break;; esac; done
exec "$@"
END
"""


class Sshd(NamedTuple):
    """A real sshd beside changed folders of this machine."""

    folder: Path
    port: int

    def inventory(self, boxes: dict[str, dict[str, Any]], **more: Any) -> None:
        reached = {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": self.port,
            "ssh_user": "root",
            "ssh_key": str(self.folder / "me"),
            "ssh_known_hosts_file": str(self.folder / "known_hosts"),
        }
        hosts = [(name, {**reached, **data} if not name.startswith("@") else data) for name, data in boxes.items()]
        (self.folder / "boxes.py").write_text(f"boxes = {hosts!r}\n")

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            argv, cwd=CLONE, env=clean_environment(XDG_STATE_HOME=str(self.folder / "state")), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        return done.stdout + done.stderr


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    if (
        os.geteuid() != 0
        or not shutil.which("sshd", path="/usr/sbin:/usr/bin")
        or inside(tmp_path, ":", ":").returncode
    ):
        pytest.skip("needs root and sshd")
    running: list[subprocess.Popen[bytes]] = []

    def start(prepare: str, config: str = "") -> Sshd:
        for key in ("host", "me"):
            subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", tmp_path / key], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (tmp_path / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/me.pub\n"
            "PermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
            "SetEnv PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n" + config
        )
        script = tmp_path / "sshd.sh"
        run = "mount -t tmpfs tmpfs /run\nmkdir -p /run/sshd\n"
        script.write_text(NAMESPACE + run + NO_APT + prepare + f"\nexec /usr/sbin/sshd -D -e -f {tmp_path}/sshd_config")
        (tmp_path / "namespace").mkdir(exist_ok=True)
        with (tmp_path / "sshd.log").open("w") as log:
            running.append(subprocess.Popen(["unshare", "--mount", "sh", script, tmp_path / "namespace"], stderr=log))
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        return Sshd(tmp_path, port)

    yield start
    for one in running:
        one.kill()
        one.wait()


def advice(text: str) -> str:
    """What the reader is told to do."""
    return " ".join(re.findall(r"What to do: (.*)", text))


@pytest.mark.slow
def test_24_sudo_wants_a_terminal(sshd: Callable[..., Sshd]) -> None:
    """`Defaults requiretty`: refused, and the advice is about that, not about a password."""
    box = sshd("stub sudo <<'END'\n#!/bin/sh\necho 'sudo: sorry, you must have a tty to run sudo' >&2\nexit 1\nEND\n")
    box.inventory({"mini": {}})
    said = box.run(*PYINFRA, "--dry", str(box.folder / "boxes.py"), "deploy.py")
    assert "REFUSED" in said and "you must have a tty" in said, said
    assert "requiretty" in advice(said), advice(said)


@pytest.mark.slow
def test_25_the_password_has_expired(sshd: Callable[..., Sshd]) -> None:
    """The account's password has expired: the key is taken, no command is run; the advice is to change the password."""
    box = sshd(
        SUDO,
        "ForceCommand echo 'You are required to change your password immediately (administrator enforced).' >&2; "
        "echo 'Password change required but no TTY available.' >&2; exit 1\n",
    )
    box.inventory({"mini": {}})
    said = box.run(*PYINFRA, "--dry", str(box.folder / "boxes.py"), "deploy.py")
    assert "REFUSED" in said and "required to change your password" in said, said
    assert "--use-sudo-password" not in advice(said), advice(said)


@pytest.mark.slow
def test_26_the_ssh_config_says_proxyjump_none(sshd: Callable[..., Sshd]) -> None:
    """`ProxyJump none` for one host, as below `Host * ProxyJump bastion`: ssh goes there directly, and the other hosts are looked at."""
    box = sshd(SUDO)
    (box.folder / "config").write_text(
        f"Host mini\n  HostName 127.0.0.1\n  Port {box.port}\n  ProxyJump none\nHost *\n  ProxyJump bastion.example.net\n"
    )
    box.inventory({"mini": {"ssh_config_file": str(box.folder / "config")}, "@fake/other": {}})
    boxes = (box.folder / "boxes.py").read_text()
    (box.folder / "boxes.py").write_text(
        boxes.replace("'ssh_hostname': '127.0.0.1', ", "").replace(f"'ssh_port': {box.port}, ", "")
    )
    said = box.run(*PYINFRA, "--dry", str(box.folder / "boxes.py"), "deploy.py")
    assert "Traceback" not in said and "internal exception" not in said, said[-1500:]
    assert re.search(r"\[mini\] +Connected", said), said[-1500:]
    assert re.search(r"\[@fake/other\] +Connected", said), said[-1500:]


@pytest.mark.slow
def test_27_one_box_under_two_names(sshd: Callable[..., Sshd]) -> None:
    """The inventory has the box by its name and by its address: one of the two runs is refused, and says who runs."""
    slow = "stub uname <<'END'\n#!/bin/sh\ncase $1 in -n) sleep 6;; esac\nexec /usr/bin/uname \"$@\"\nEND\n"
    box = sshd(SUDO + slow)  # looking takes a while, so that the two runs meet
    box.inventory({"mini": {}, "mini-by-address": {}})
    said = box.run(*PYINFRA, "-y", str(box.folder / "boxes.py"), "deploy.py")
    assert said.count("found another deploy running here") in (1, 2), said
    assert "since" in said and "Traceback" not in said, said


@case("halfway")
def _(folder: Path) -> Case:
    return Case(
        without=["mem_info", "gfx", "kfd_node", "gpu_devices"], lines=["running\tsomebody", "gpu_devices\tnone"]
    )


def test_28_a_dry_run_beside_a_deploy(seen: Callable[[str], Seen]) -> None:
    """Another deploy has just rebooted the host, whose driver is not up yet: the refusal comes with the word that one is running."""
    box = seen("halfway")
    assert box.refused and "a deploy is running here" in box.text, box.text


# --- section 2: adoption -----------------------------------------------------------------------------------------------

ADOPT = {"adopt": True}
CACHE = "/home/ada/.cache/huggingface"
ID = "c0ffee" * 10 + "1234"
IN_HOME = [
    f"owner_folder\tada\thuggingface\t{CACHE}\t{CACHE}\tada",
    f"owner_weights\t{CACHE}\tmodels--google--gemma-4-E4B-it\tcomplete",
]


def container(
    name: str = "vllm-gemma4",
    argv: tuple[str, ...] = ("google/gemma-4-E4B-it", "--host", "0.0.0.0", "--port", "8000"),
    entrypoint: tuple[str, ...] = ("vllm", "serve"),
    mounts: tuple[tuple[str, str], ...] = ((CACHE, "/root/.cache/huggingface"),),
    port: int = 8000,
) -> list[str]:
    """A vLLM of the owner's that runs, started as in the guides."""
    said = {
        "id": ID, "name": f"/{name}", "image": "vllm/vllm-openai-rocm:v0.20.1", "image_id": "sha256:" + "ab" * 32,
        "argv": argv, "entrypoint": entrypoint, "environment": [], "labels": {}, "network": "host", "published": {},
        "removes": True, "restart": "no", "status": "running", "created": "2026-11-01T10:00:00.0Z", "started": "2026-11-20T10:00:00.0Z",
        "mounts": [{"Type": "bind", "Source": a, "Destination": b, "Mode": "", "RW": True, "Propagation": "rprivate"} for a, b in mounts],
    }  # fmt: skip
    return [f"owner_container\t{json.dumps(said)}", f"container\t{ID} {name} running no", f"port_container\t{port} {ID} --port {port}",
            f"port_listener\t{port} 00000000 4711 /system.slice/docker-{ID}.scope vllm"]  # fmt: skip


def adopted_from(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "run.sh").write_bytes(text.encode())
    return subprocess.run(
        [sys.executable, "-P", "-m", "ojai", "adopt", "--from", "run.sh", *options],
        cwd=folder, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


PUBLISHED = r"""#!/bin/bash
export HF_TOKEN=hf_secretsecret
docker run -it --rm --name vllm-gemma4 -p 127.0.0.1:8080:8000 --device=/dev/kfd --device=/dev/dri \
  -e HF_TOKEN=$HF_TOKEN -e "HUGGING_FACE_HUB_TOKEN=hf_othersecret" --env AWS_SECRET_ACCESS_KEY=awssecret \
  -v ~/.cache/huggingface:/root/.cache/huggingface \
  vllm/vllm-openai-rocm:v0.20.1 google/gemma-4-E4B-it --host 0.0.0.0 --port 8000 --api-key sk-verysecret
"""


def test_29_a_script_full_of_secrets(tmp_path: Path) -> None:
    """`ojai adopt --from` a script with tokens in variables, options and arguments: named, and none printed."""
    said = adopted_from(tmp_path, PUBLISHED)
    assert said.returncode == 0, said.stderr
    for secret in ("hf_secretsecret", "hf_othersecret", "awssecret", "sk-verysecret"):
        assert secret not in said.stdout + said.stderr
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "VLLM_API_KEY"):
        assert name in said.stdout


def test_30_a_port_that_docker_publishes(tmp_path: Path) -> None:
    """-p 127.0.0.1:8080:8000: the service has port 8080 on 127.0.0.1, and nothing of it is called lost."""
    said = adopted_from(tmp_path, PUBLISHED)
    assert "port: 8080" in said.stdout and "host: 127.0.0.1" in said.stdout, said.stdout
    lost = said.stdout.partition("is lost:")[2]
    assert "--port" not in lost and "--host" not in lost, lost


def test_31_a_script_from_windows(tmp_path: Path) -> None:
    """CRLF at the ends of lines, `docker container run`, sudo, nohup and a background &: read as it is meant."""
    text = (
        "cd ~\r\nnohup sudo docker container run -d --restart=unless-stopped --net=host --name=gemma \\\r\n"
        "  vllm/vllm-openai-rocm:v0.20.1 --model=google/gemma-4-E4B-it \\\r\n  --port=8002 --max-model-len=16384 > /dev/null 2>&1 &\r\n"
    )
    said = adopted_from(tmp_path, text, "--json")
    assert said.returncode == 0, said.stderr
    for piece in ("8002", "16384", "gemma-4-e4b"):
        assert piece in said.stdout, said.stdout


HOME = r"""
mkdir -p /opt/ada && echo 'ada:x:1000:1000::/opt/ada:/bin/bash' > /etc/passwd.new && grep -v ':1000:1000:' /etc/passwd >> /etc/passwd.new
cat /etc/passwd.new > /etc/passwd
"""


def test_32_a_secret_inside_a_shell_command(tmp_path: Path) -> None:
    """The container runs `bash -c "… vllm serve … --api-key sk-…"`, with GITHUB_PAT and DB_PASS: no value leaves the host."""
    inspected = {
        "id": ID, "name": "/gemma", "image": "vllm/vllm-openai-rocm:v0.20.1", "image_id": "sha256:ab", "entrypoint": ["/bin/bash"],
        "argv": ["-c", "pip install -U transformers && vllm serve google/gemma-4-E4B-it --api-key sk-insidesecret"],
        "environment": ["HF_TOKEN=hf_envsecret", "GITHUB_PAT=ghp_patsecret", "DB_PASS=dbpasssecret"], "labels": {}, "network": "host",
        "published": {}, "removes": True, "restart": "no", "status": "running", "created": "", "started": "", "mounts": [],
    }  # fmt: skip
    (tmp_path / "container.json").write_text(json.dumps(inspected) + "\n")
    docker = (
        "stub docker <<'END'\n#!/bin/sh\ncase \"$*\" in\n  *'ps '*) echo c0ffee;;\n"
        f"  *'\"argv\"'*) cat {tmp_path}/container.json;;\n  *--version*) echo 'Docker version 27.5.1, build x';;\nesac\nEND\n"
    )
    try:
        lines = look(tmp_path, NO_APT + docker, ())
    except Skipped:
        pytest.skip("this machine lets nobody make a mount namespace")
    text = "\n".join(lines)
    assert "owner_container" in text, text
    for secret in ("hf_envsecret", "sk-insidesecret", "ghp_patsecret", "dbpasssecret"):
        assert secret not in text, text


@case("hublevel")
def _(folder: Path) -> Case:
    hub = f"{CACHE}/hub"
    return Case(
        data={**ADOPT, "cache_folders": {"huggingface": hub}},
        lines=[*ENGINE, *IN_HOME, f"owner_folder\t\thuggingface\t{hub}\t{hub}\tada"],
    )


def test_33_the_cache_is_named_one_level_too_deep(seen: Callable[[str], Seen]) -> None:
    """cache_folders names ~/.cache/huggingface/hub, mounted as huggingface: 15 GB would be downloaded again into hub/hub."""
    box = seen("hublevel")
    assert f"{CACHE}/hub" in box.text, box.text


@case("staleincomplete")
def _(folder: Path) -> Case:
    home = HOME + (
        "cd /opt/ada && mkdir -p .cache/huggingface/hub/models--google--gemma-4-E4B-it && cd .cache/huggingface/hub/models--google--gemma-4-E4B-it\n"
        "mkdir -p blobs refs snapshots/abc && printf abc > refs/main\n"
        "for name in config.json model.safetensors; do echo x > blobs/$name-blob; ln -s ../../blobs/$name-blob snapshots/abc/$name; done\n"
        "echo y > blobs/0123456789abcdef.incomplete\nchown -R 1000:1000 /opt/ada\n"
    )
    lines = [line for line in look(folder, NO_APT + home, ()) if "/opt/ada" in line]
    return Case(data=ADOPT, lines=[*ENGINE, *lines])


def test_34_a_download_that_was_cut_off_once(seen: Callable[[str], Seen]) -> None:
    """A whole snapshot, and one old .incomplete blob beside it, as the hub's client leaves them: the cache is used where it is."""
    box = seen("staleincomplete")
    assert any("models--google--gemma-4-E4B-it" in line for line in box.lines), box.lines
    assert "/opt/ada/.cache/huggingface" in box.text, box.text


@case("linkedcache")
def _(folder: Path) -> Case:
    lines = [f"owner_folder\tada\thuggingface\t{CACHE}\t/mnt/data/hf\tada", IN_HOME[1]]
    return Case(data=ADOPT, lines=[*ENGINE, *lines])


def test_35_the_cache_is_a_link_to_another_disk(seen: Callable[[str], Seen]) -> None:
    """~/.cache/huggingface is a link to /mnt/data/hf, to spare the root disk: used where it really is."""
    box = seen("linkedcache")
    assert box.accepted and "/mnt/data/hf" in box.text, box.text


@case("sysctlconf")
def _(folder: Path) -> Case:
    return Case(
        data=ADOPT,
        lines=[*ENGINE, "owner_sysctl\t# /etc/sysctl.d/99-sysctl.conf", "owner_sysctl\tvm.overcommit_memory = 1"],
    )


def test_36_the_parameter_is_in_sysctl_conf(seen: Callable[[str], Seen]) -> None:
    """vm.overcommit_memory = 1 in /etc/sysctl.conf, read through Ubuntu's own link 99-sysctl.conf: the link is not set aside."""
    box = seen("sysctlconf")
    table = [line for line in box.text.splitlines() if "99-sysctl.conf" in line]
    assert not [line for line in table if "replaces" in line or "aside" in line], table


@case("secondserver")
def _(folder: Path) -> Case:
    argv = ("google/gemma-4-E4B-it", "--port", "8001", "--gpu-memory-utilization", "0.9")
    return Case(
        data=ADOPT,
        lines=[*ENGINE, *[line for line in container("gemma-test", argv, port=8001) if not line.startswith("port_")]],
    )


def test_37_a_server_of_the_owners_on_another_port(seen: Callable[[str], Seen]) -> None:
    """gemma-test runs on port 8001 with 0.9 of the GPU's memory; ours wants 0.85: refused, as two such services of an inventory are."""
    box = seen("secondserver")
    assert box.refused and "gemma-test" in box.text, box.text


@case("localpath")
def _(folder: Path) -> Case:
    argv = ("/app/models/gemma-4-E4B-it", "--served-model-name", "google/gemma-4-E4B-it", "--port", "8000")
    lines = [
        "owner_folder\tada\tmodels\t/home/ada/models\t/home/ada/models\tada",
        *container(argv=argv, mounts=(("/home/ada/models", "/app/models"),)),
    ]
    return Case(data=ADOPT, lines=[*ENGINE, *lines])


def test_38_the_weights_are_a_folder_of_the_owners(seen: Callable[[str], Seen]) -> None:
    """The server serves /app/models/gemma-4-E4B-it out of ~/models: the folder is used, and it is said that `model` must name it, or 15 GB are fetched."""
    box = seen("localpath")
    assert "/home/ada/models" in box.text, box.text
    assert "/app/models/gemma-4-E4B-it" in box.text, box.text


@case("userunit")
def _(folder: Path) -> Case:
    home = HOME + (
        "cd /opt/ada && mkdir -p .config/systemd/user/default.target.wants && cd .config/systemd/user\n"
        "printf '[Service]\\nExecStart=/usr/bin/docker run --rm --network=host --name vllm-gemma4 vllm/vllm-openai-rocm:v0.20.1 "
        "google/gemma-4-E4B-it --port 8000\\nRestart=always\\n[Install]\\nWantedBy=default.target\\n' > my-vllm.service\n"
        "ln -s ../my-vllm.service default.target.wants/my-vllm.service\nchown -R 1000:1000 /opt/ada\n"
    )
    lines = [line for line in look(folder, NO_APT + home, ()) if "/opt/ada" in line or "my-vllm" in line]
    return Case(data=ADOPT, lines=[*ENGINE, *IN_HOME, *container(), *lines])


def test_39_a_unit_of_the_users_own_manager_runs_it(seen: Callable[[str], Seen]) -> None:
    """my-vllm.service of `systemctl --user`, Restart=always: the container that is stopped would come back at once, so the unit is named."""
    box = seen("userunit")
    assert "my-vllm.service" in box.text, box.text


def test_40_nobody_is_there_to_be_asked(tmp_path: Path) -> None:
    """`ojai adopt` without a terminal and without --yes, as in CI: the table is shown, nothing is changed, the status is not 0."""
    write_inventory(tmp_path, {"mini": Case(data=ADOPT, lines=[*ENGINE, *IN_HOME, *container()])})
    said = subprocess.run(
        [sys.executable, "-P", "-m", "ojai", "adopt", str(tmp_path / "boxes.py")],
        cwd=CLONE, env=clean_environment(XDG_STATE_HOME=str(tmp_path / "state")), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    text = said.stdout + said.stderr
    assert said.returncode == 1, text
    assert "vllm-gemma4" in text and CACHE in text and "Starting operation" not in text and "Traceback" not in text, (
        text
    )
