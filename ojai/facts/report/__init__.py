"""A report of a host: all that preflight and the memory budget need, in one command."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase

from ojai.connection.lock import Run
from ojai.facts.report import (
    apt,
    deploys,
    dropins,
    engine,
    environment,
    firewall,
    folders,
    gateway,
    gpu,
    owner,
    ports,
    power,
    space,
    surface,
    watch,
)
from ojai.facts.report.apt import AptReport
from ojai.facts.report.engine import Engine
from ojai.facts.report.environment import EnvironmentFiles
from ojai.facts.report.firewall import CameBy
from ojai.facts.report.folders import Folders
from ojai.facts.report.gateway import GatewayReport
from ojai.facts.report.gpu import Gpu
from ojai.facts.report.owner import Owner
from ojai.facts.report.ports import PortHolder
from ojai.facts.report.power import PowerReport
from ojai.facts.report.space import Space
from ojai.facts.report.watch import WatchReport
from ojai.surface import Difference

#: Areas that ask for themselves; each of these groups at the same time as the script below. Of one group are those that
#: share what is asked once.
_SECTIONS = (
    (apt,),
    (engine,),
    (owner, ports, space),
    (deploys, dropins, environment, firewall, folders, gateway, gpu, power, watch),
    (surface,),
)

#: What the sections call.
FUNCTIONS = r"""
say() { printf '%s\t%s\n' "$1" "$2"; }
# The nearest folder that exists; and its free bytes and mount point.
nearest() { near=$1; while [ ! -d "$near" ]; do near=$(dirname "$near"); done; printf '%s\n' "$near"; }
free() { df -P --block-size=1 "$(nearest "$1")" 2>/dev/null | awk 'NR==2 {print $4, $6}'; }
# In a variable, asked once: systemd takes seconds for the list on a small machine.
unit_files() {
  : "${unit_files:=$(systemctl list-unit-files --type=service,socket --no-legend --plain 2>/dev/null)}"
}
"""

#: Runs on any Linux without a package of ours. Only the names in environment files need root.
#: For the paths see docs.kernel.org (amdgpu, driver-misc) and KFD's topology.
_START = f"{FUNCTIONS}export LC_ALL=C\nunset DOCKER_HOST DOCKER_CONTEXT\n"
_BASICS = r"""
say ojai-host-report 1
say user "$(id -un)"
say hostname "$(uname -n)"
say machine "$(uname -m)"
say kernel "$(uname -r)"
say clock "$(date +%s)"
# ssl and hashlib: a minimal Python lacks them.
say python "$(python3 -IBc 'import hashlib, ssl, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)"
( . /etc/os-release; say os_id "$ID"; say os_version "$VERSION_ID"; say os_name "$PRETTY_NAME"
  say os_like "$ID_LIKE"; say os_base "$UBUNTU_CODENAME" )
for device in /sys/bus/pci/devices/*; do
  case "$(cat "$device/class" 2>/dev/null)" in 0x03*)
    say pci "${device##*/} $(cat "$device/vendor"):$(cat "$device/device")"
    # amdgpu's own files. /sys/class/drm/card* links here too, but its number is not stable.
    for expected in %GPUS%; do
      [ "$(cat "$device/vendor"):$(cat "$device/device")" = "0x${expected%:*}:0x${expected#*:}" ] || continue
      for name in mem_info_vram_total mem_info_gtt_total; do
        [ -r "$device/$name" ] && say "$name" "$(cat "$device/$name")"
      done
    done;; esac
done
for node in /sys/class/kfd/kfd/topology/nodes/*/properties; do
  [ -r "$node" ] && say gfx "$(sed -n 's/^gfx_target_version //p' "$node")"
done
[ -r /sys/module/ttm/parameters/pages_limit ] && say ttm_pages "$(cat /sys/module/ttm/parameters/pages_limit)"
say amdgpu_module "$(modinfo -F filename amdgpu 2>/dev/null || /sbin/modinfo -F filename amdgpu 2>/dev/null)"
[ -d /sys/module/amdkcl ] && say dkms loaded
[ -d /var/lib/dkms/amdgpu ] && say dkms built
sed -n 's/^\(MemTotal\|SwapTotal\|CommitLimit\): *\([0-9]*\) kB/\1\t\2/p' /proc/meminfo
say overcommit "$(cat /proc/sys/vm/overcommit_memory)"
for want in %PLACES%; do
  say disk "$want $(free "$want")"
done
for tree in /opt/rocm /opt/rocm-*; do [ -d "$tree" ] && [ ! -L "$tree" ] && say rocm_tree "$tree"; done
for user in %USERS%; do
  if found=$(getent passwd "$user"); then
    # A directory server may take Ada for ada: groups hold the name as it is written.
    [ "${found%%:*}" = "$user" ] || say other_user "$user ${found%%:*}"
  else say missing_user "$user"; fi
done
for group in %GROUPS%; do getent group "$group" >/dev/null || say missing_group "$group"; done
for file in %ENV_FILES%; do
  [ -f "$file" ] && sed -n 's/^[[:space:]]*\([A-Za-z_][A-Za-z_0-9]*\)=.*/\1/p' "$file" | while IFS= read -r name; do
    say env_name "$file $name"; done
done
dpkg-query -W -f '${db:Status-Status}\t${Package} ${Version}\n' 'linux-firmware*' firmware-amd-graphics 2>/dev/null |
  sed -n 's/^installed\t/firmware\t/p'
for file in /var/lib/ojai/schema /var/lib/ojai/releases/*/release.json; do
  say schema "$(sed -n 's/^\([0-9][0-9]*\)$/\1/p; s/.*"schema": *\([0-9][0-9]*\).*/\1/p' "$file" 2>/dev/null)"
done
for record in /var/lib/ojai/weights/*@*; do
  [ -e "$record" ] || continue
  say fetched "${record##*/}"
  # By its commit too, as a lock names it.
  record=${record##*/}
  say fetched "${record%@*}@$(sed -n 's/^commit\t//p' "/var/lib/ojai/weights/$record")"
done
say line "$(cat /var/lib/ojai/weights/line 2>/dev/null)"
for folder in %FOLDERS%; do
  case $folder in */tunableop) ;; *) continue;; esac
  for file in "$folder"/*/*.csv; do [ ! -s "$file" ] || say tuning_file "$file"; done
done
for image in %IMAGES%; do timeout 20 docker image inspect "$image" >/dev/null 2>&1 && say image "$image"; done
"""


def _beside(one: str, other: str) -> str:
    """Shell that runs both at the same time, and prints what ``other`` says, then what ``one`` says."""
    return f"{{\n{one}\n:\n}} </dev/null | {{\n{{\n{other}\n:\n}} </dev/null\ncat\n}}\n"


@dataclass(frozen=True)
class Report:
    """The answer of one host, in bytes unless a name says otherwise; None for what it does not have."""

    user: str = ""
    hostname: str = ""
    machine: str = ""
    kernel: str = ""
    os_id: str = ""
    os_version: str = ""
    os_name: str = ""
    #: the systems that it is made from, nearest first, and the release of Ubuntu
    os_like: str = ""
    os_base: str = ""
    #: version of python3, ``none`` where it does not run or is not whole; None: the host did not say
    python: str | None = None
    #: the host's clock, in seconds since 1970
    clock: int | None = None
    #: display-class PCI functions: address -> "vendor:device" as sysfs has them, e.g. "0x1002:0x150e"
    gpus: dict[str, str] = field(default_factory=dict)
    #: KFD's gfx_target_version of every GPU node, e.g. 110500 for gfx1150; empty while the driver is not loaded
    gfx_versions: tuple[int, ...] = ()
    vram_total: int | None = None
    gtt_total: int | None = None
    ttm_pages: int | None = None
    amdgpu_module: str = ""
    dkms: tuple[str, ...] = ()
    memory_total: int = 0
    swap_total: int = 0
    commit_limit: int = 0
    overcommit_memory: int = 0
    #: folder -> (free bytes, mount point)
    disks: dict[str, tuple[int, str]] = field(default_factory=dict)
    rocm_trees: tuple[str, ...] = ()
    missing_users: tuple[str, ...] = ()
    missing_groups: tuple[str, ...] = ()
    #: account as asked for -> its name, where the host writes it in another way
    other_users: dict[str, str] = field(default_factory=dict)
    #: environment file -> names of the variables in it; values are never read
    env_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: package -> version
    firmware: dict[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    #: records of models that were fetched (see ojai.weights.program)
    fetched: tuple[str, ...] = ()
    #: TunableOp's files, each in the folder of its image
    tunings: tuple[str, ...] = ()
    #: bytes a second that the last fetch came at, and when that was (seconds since 1970); None before the first
    line: tuple[int, int] | None = None
    #: newest format of ojai's files on the host (see ojai.paths.SCHEMA); 0 without one
    schema: int = 0
    gpu: Gpu = field(default_factory=Gpu)
    space: Space = field(default_factory=Space)
    owner: Owner = field(default_factory=Owner)
    #: who holds the ports that were asked about, now or after the next boot; ours too
    ports: tuple[PortHolder, ...] = ()
    #: the run of pyinfra that holds the deploy lock
    running: Run | None = None
    power: PowerReport = field(default_factory=PowerReport)
    #: unit of ours -> drop-ins that change it and others too
    shared_dropins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    environment: EnvironmentFiles = field(default_factory=EnvironmentFiles)
    apt: AptReport = field(default_factory=AptReport)
    engine: Engine = field(default_factory=Engine)
    folders: Folders = field(default_factory=Folders)
    gateway: GatewayReport = field(default_factory=GatewayReport)
    came_by: CameBy = field(default_factory=CameBy)
    watch: WatchReport = field(default_factory=WatchReport)
    #: mounts, device nodes and programs that are not as they were recorded
    surface: tuple[Difference, ...] = ()
    #: what registry and hub say of what is missing, and of what is locked (see ojai.preflight.upstream)
    upstream: dict[str, Any] = field(default_factory=dict)
    newer: dict[str, Any] = field(default_factory=dict)


def _line(text: str) -> tuple[int, int] | None:
    rate, _, moment = text.partition(" ")
    return (int(rate), int(moment)) if rate.isdigit() and moment.isdigit() and int(rate) else None


def parse(lines: list[str]) -> Report | None:
    """Read the ``key<TAB>value`` lines; None if they are not a report (no answer, another program)."""
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    if ["ojai-host-report", "1"] not in pairs:
        return None
    every: dict[str, list[str]] = {}
    for key, value in pairs:
        if value:
            every.setdefault(key, []).append(value)

    def one(key: str) -> str:
        return every.get(key, [""])[0]

    def number(key: str) -> int | None:
        return int(one(key)) if one(key) else None

    def kibi(key: str) -> int:
        return (number(key) or 0) * 1024

    env_names: dict[str, tuple[str, ...]] = {}
    for entry in every.get("env_name", []):
        file, name = entry.rsplit(" ", 1)
        env_names[file] = (*env_names.get(file, ()), name)
    return Report(
        user=one("user"),
        hostname=one("hostname"),
        machine=one("machine"),
        kernel=one("kernel"),
        os_id=one("os_id"),
        os_version=one("os_version"),
        os_name=one("os_name"),
        os_like=one("os_like"),
        os_base=one("os_base"),
        python=one("python") or None,
        clock=number("clock"),
        gpus=dict(entry.split(" ", 1) for entry in every.get("pci", [])),
        gfx_versions=tuple(v for v in map(int, every.get("gfx", [])) if v),
        vram_total=number("mem_info_vram_total"),
        gtt_total=number("mem_info_gtt_total"),
        ttm_pages=number("ttm_pages"),
        amdgpu_module=one("amdgpu_module"),
        dkms=tuple(every.get("dkms", [])),
        memory_total=kibi("MemTotal"),
        swap_total=kibi("SwapTotal"),
        commit_limit=kibi("CommitLimit"),
        overcommit_memory=number("overcommit") or 0,
        disks=space.rooms(every.get("disk", ()))[0],
        rocm_trees=tuple(every.get("rocm_tree", [])),
        missing_users=tuple(every.get("missing_user", [])),
        missing_groups=tuple(every.get("missing_group", [])),
        other_users=dict(entry.split(" ", 1) for entry in every.get("other_user", [])),
        env_names=env_names,
        firmware=dict(entry.split(" ", 1) for entry in every.get("firmware", [])),
        images=tuple(every.get("image", [])),
        models=tuple(every.get("model", [])),
        fetched=tuple(every.get("fetched", [])),
        tunings=tuple(every.get("tuning_file", [])),
        line=_line(one("line")),
        schema=max(map(int, every.get("schema", [])), default=0),
        gpu=gpu.read(every),
        space=space.read(every),
        owner=owner.read(every),
        ports=ports.read(every),
        running=deploys.read(every),
        power=power.read(every),
        shared_dropins=dropins.read(every),
        environment=environment.read(every),
        apt=apt.read(every),
        engine=engine.read(every),
        folders=folders.read(every),
        gateway=gateway.read(every),
        came_by=firewall.read(every),
        watch=watch.read(every),
        surface=surface.read(every),
    )


class HostReport(FactBase[Report | None]):
    """The :class:`Report` of a host; None if it did not answer.

    + places: folders whose free disk space is read (of the nearest parent that exists)
    + users, groups: accounts and groups that must exist
    + env_files: environment files of which the variable *names* are read
    + images: images that need no disk space if the host has them
    + gpus: PCI ids (``1002:150e``) of the accelerator whose memory is read; there may be another GPU
    + models: folders in the Hugging Face cache of models that need no disk space if they are complete
    + data_folders: folders that a service mounts
    + caches: ``name=path`` of caches that are used where they are
    + service_ports: ports whose holders are named
    + certificates: files of the owner's certificate, which must be there
    + units: units of ours, of which drop-ins that change others too are named
    + system_packages, rocm_packages, engine_packages: what is to be installed from Ubuntu, AMD, and for Docker
    + rocm_archive: address of AMD's archive
    + locked: ``package=version`` of the lock, whose versions in the archives are read
    + snapshots: snapshots of Ubuntu's archive in which those that are gone from it are looked for: each a time, then
      ``package=version``
    """

    def command(
        self,
        places: tuple[str, ...] = ("/",),
        users: tuple[str, ...] = (),
        groups: tuple[str, ...] = (),
        env_files: tuple[str, ...] = (),
        images: tuple[str, ...] = (),
        gpus: tuple[str, ...] = (),
        models: tuple[str, ...] = (),
        data_folders: tuple[str, ...] = (),
        caches: tuple[str, ...] = (),
        service_ports: tuple[int, ...] = (),
        certificates: tuple[str, ...] = (),
        units: tuple[str, ...] = (),
        system_packages: tuple[str, ...] = (),
        rocm_packages: tuple[str, ...] = (),
        engine_packages: tuple[str, ...] = (),
        rocm_archive: str = "",
        locked: tuple[str, ...] = (),
        snapshots: tuple[str, ...] = (),
    ) -> str:
        """The script, with the lists that it loops over."""
        words = {
            "%PLACES%": places,
            "%USERS%": users,
            "%GROUPS%": groups,
            "%ENV_FILES%": env_files,
            "%IMAGES%": images,
            "%GPUS%": gpus,
            "%MODELS%": models,
            "%FOLDERS%": data_folders,
            "%CACHES%": caches,
            "%UNITS%": units,
            **ports.words(service_ports),
            **apt.words(system_packages, rocm_packages, engine_packages, rocm_archive, locked, snapshots),
            **gateway.words(certificates),
        }
        script = _BASICS
        for group in _SECTIONS:
            script = _beside("".join(section.SCRIPT for section in group), script)
        script = _START + script
        for mark, values in words.items():
            script = script.replace(mark, shlex.join(values))
        return script

    def process(self, output: list[str]) -> Report | None:
        """Read the answer."""
        return parse(output)
