"""Every managed thing, broken on purpose: the damages that ``ojai verify`` must name and the deploy must mend.

Each is done by shell, as root, on a provisioned guest of the lab. ``tests.lab.drift`` runs them;
docs/reference/drift.md has what came of it. tests/unit/test_mutations.py fails when a role has an operation that
none of them touches.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

#: Operations, as the deploy names them.
METAPACKAGE = "Kernel | Install the kernel metapackage"
TTM = "Kernel | Set the TTM page limit"
BOOTABLE = "Kernel | Ensure kernel, initramfs and boot entry"
RUN_KERNEL = "Kernel | Reboot into the newest kernel, if required"
FLOOR = "Kernel | Check the minimum kernel version"
FITS = "Recheck GPU memory after the reboot"
GROUPS = "Groups | Create the groups video and render"
DEVICES = "Groups | Set group ownership of the GPU devices"
MEMBERS = "Groups | Add users to the GPU groups"
SYSCTL = "Sysctl | Set kernel parameters"
TOOLS = "ROCm | Install curl, gpg and CA certificates"
KEY = "ROCm | Install AMD's signing key"
SOURCE = "ROCm | Add the ROCm apt source"
PIN = "ROCm | Pin AMD's packages above Ubuntu's"
LISTS = "ROCm | Update the package lists"
ROCM = "ROCm | Install ROCm packages"
TREE = "ROCm | Point /opt/rocm to the release"
LOADER = "ROCm | Add ROCm libraries to the loader path"
CACHE = "ROCm | Refresh the loader cache"
NO_SOURCE = "Docker | Remove Docker's own apt source"
DOCKER_TOOLS = "Docker | Install curl, gpg and CA certificates"
DOCKER_KEY = "Docker | Install Docker's signing key"
DOCKER_SOURCE = "Docker | Add Docker's apt source"
DOCKER_LISTS = "Docker | Update Docker's package lists"
DAEMON = "Docker | Configure the Docker daemon"
ENGINE = "Docker | Install Docker Engine"
UNMASKED = "Docker | Unmask units that Docker needs"
RUN_DOCKER = "Docker | Start Docker"
ANSWERS = "Docker | Check that the Docker daemon answers as configured"
FOLDERS = "Caches | Create cache directories"
IMAGE = "vLLM | vllm-gemma4: pull the image"
STAND_DOWN = "vLLM | Stop services no longer configured"
ENV = "vLLM | vllm-gemma4: write the environment file"
UNIT = "vLLM | vllm-gemma4: write the systemd unit"
RUN = "vLLM | vllm-gemma4: start the service"
SERVES = "vLLM | vllm-gemma4: wait until it is healthy"
NOTES = "Ledger | Restrict ledger permissions to root"
FORMAT = "Ledger | Write the ledger's schema version"
KEEP = "vLLM | Save the healthy release for rollback"
RETIRE = "vLLM | Remove services no longer configured"

_UNIT_FILE = "/etc/systemd/system/vllm-gemma4.service"
_ENV_FILE = "/etc/ojai/vllm-gemma4.env"
_ROCM_SOURCE = "/etc/apt/sources.list.d/ojai-rocm.sources"
_KEYRING = "/etc/apt/keyrings/ojai-rocm.gpg"
_PIN_FILE = "/etc/apt/preferences.d/ojai-rocm-pin-600"
_LOADER_FILE = "/etc/ld.so.conf.d/ojai-rocm.conf"
_SYSCTL_FILE = "/etc/sysctl.d/99-zz-ojai.conf"
_DAEMON_FILE = "/etc/docker/daemon.json"
_OTHER_KEY = "/usr/share/keyrings/debian-archive-trixie-stable.gpg"
_REPOSITORY = f"$(sed -n 's/^URIs: //p' {_ROCM_SOURCE} | head -n 1)"
#: The kernel that the deploy installed.
_KERNEL = "$(ls /boot | sed -n 's/^vmlinuz-\\(.*-amd64\\)$/\\1/p' | grep -v cloud)"
#: The newest kernel of the flavour in the distribution's archive that is older than the one that runs.
_OLDER_KERNEL = (
    "$(apt-cache madison $(apt-cache pkgnames linux-image-6 | grep -E '^linux-image-[0-9.]+[+]deb[0-9]+-amd64$') | "
    "cut -d' ' -f1 | sort -uV | grep -B1 -x linux-image-$(uname -r) | head -n 1)"
)


@dataclass(frozen=True)
class Mutation:
    """One damage, small and named.

    ``damage``: shell, as root. ``named``: regular expression that a failed check of ``ojai verify`` must match, as
    ``area: check: message``. ``operations``: those that the deploy must report as changed, consequences included;
    ``may``: those that it may report too (what comes up by itself may be up in time or not).

    With ``refused`` (a regular expression of the deploy's words) the deploy must end with an error instead and leave
    the damage alone; ``why`` says what makes mending it wrong, ``undo`` is the shell of the person who is told. Then
    ``operations`` has the one that refuses, or none where preflight does.

    ``hidden``: operations that the dry run names too, and that find nothing left to do once their turn comes, because
    an earlier role has mended what they both look after. ``own_docker``: on a host with Docker from its own archive.
    ``boots``: the damage shows after a reboot, after which ``then`` is run. ``alone``: in no batch with others.
    """

    name: str
    role: str
    damage: str
    named: str
    operations: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    refused: str = ""
    why: str = ""
    undo: str = ""
    boots: bool = False
    then: str = ""
    undo_boots: bool = False
    hidden: tuple[str, ...] = ()
    own_docker: bool = False
    alone: bool = False

    @property
    def solitary(self) -> bool:
        """Whether it must be run by itself."""
        return self.alone or self.boots

    @property
    def restarts_docker(self) -> bool:
        """Whether mending it may restart Docker, which would mend more than that."""
        return self.role == "Docker" and bool({RUN_DOCKER, ANSWERS, RUN} & {*self.operations, *self.may})

    @property
    def preflight(self) -> bool:
        """Whether preflight refuses it, before any operation."""
        return bool(self.refused) and not self.operations


def pending(operation: str) -> str:
    """What the check says that runs the deploy without letting it change anything."""
    return rf"drift: .* would.*{re.escape(operation)}"


#: GRUB boots this entry of its menu; the newest kernel is the first.
_FIRST_ENTRY, _SECOND_ENTRY = (
    f"sed -i s/^GRUB_DEFAULT=.*/GRUB_DEFAULT={entry}/ /etc/default/grub && update-grub" for entry in (0, 1)
)

_KERNEL_MUTATIONS = (
    Mutation(
        "the kernel's metapackage is removed",
        "Kernel",
        "dpkg --remove --force-depends linux-image-amd64",
        r"kernel: metapackage is installed",
        (METAPACKAGE,),
    ),
    Mutation(
        "the kernel's metapackage is put on hold",
        "Kernel",
        "apt-mark hold linux-image-amd64",
        r"held back.*linux-image-amd64",
        (METAPACKAGE,),
    ),
    Mutation(
        "dpkg was killed between unpacking and configuring",
        "Kernel",
        "dpkg --unpack /var/cache/apt/archives/rocm-core_*.deb",
        r"apt: dpkg left nothing half done.*rocm-core",
        (METAPACKAGE,),
    ),
    Mutation(
        "a package that another one needs is removed by force",
        "Kernel",
        "dpkg --remove --force-depends runc",
        r"packages have what they need.*runc",
        (METAPACKAGE,),
    ),
    Mutation(
        "the running kernel's image is deleted",
        "Kernel",
        "rm /boot/vmlinuz-$(uname -r)",
        r"kernel: next boot.*vmlinuz",
        (BOOTABLE,),
        alone=True,
    ),
    Mutation(
        "the running kernel's initramfs is deleted",
        "Kernel",
        "rm /boot/initrd.img-$(uname -r)",
        r"kernel: next boot.*initrd",
        (BOOTABLE,),
    ),
    Mutation(
        "GRUB's menu no longer has the running kernel",
        "Kernel",
        r'sed -i "/vmlinuz-$(uname -r)/d" /boot/grub/grub.cfg',
        r"kernel: next boot.*grub",
        (BOOTABLE,),
    ),
    Mutation(
        "the module of the GPU's driver is deleted",
        "Kernel",
        "rm $(modinfo -F filename amdgpu)",
        r"kernel: driver is the kernels own.*amdgpu",
        (BOOTABLE,),
        alone=True,
    ),
    Mutation(
        "a TTM limit is left over from an earlier regime",
        "Kernel",
        "echo options ttm pages_limit=262144 > /etc/modprobe.d/ojai-ttm.conf",
        pending(TTM),
        (TTM, RUN_KERNEL),
        (RUN, SERVES),
        alone=True,
    ),
    Mutation(
        "the TTM limit in force is above the memory there is",
        "Kernel",
        "echo 100000000 > /sys/module/ttm/parameters/pages_limit",
        r"kernel: the gpu may borrow.*never more than there is",
        (TTM, RUN_KERNEL),
        (RUN, SERVES),
        alone=True,
    ),
    Mutation(
        "another file sets a TTM limit above the memory there is",
        "Kernel",
        "echo options ttm pages_limit=100000000 > /etc/modprobe.d/zz-other.conf",
        r"kernel: .*zz-other\.conf",
        (TTM,),
        refused=r"ttm\.pages_limit: found .*/etc/modprobe\.d/zz-other\.conf",
        why="the file is not ours; it may be amd-ttm's, for another size of carve-out than the BIOS has now",
        undo="rm /etc/modprobe.d/zz-other.conf",
    ),
    Mutation(
        "a reboot that was asked for never happened",
        "Kernel",
        "touch /run/ojai-reboot-required",
        pending(RUN_KERNEL),
        (RUN_KERNEL,),
        (RUN, SERVES),
        alone=True,
    ),
    Mutation(
        "an older kernel of the flavour runs than the newest installed",
        "Kernel",
        # GRUB lists the newest first.
        f"apt-get -q -y install {_OLDER_KERNEL} && " + _SECOND_ENTRY,
        r"kernel: no newer kernel of the flavour",
        (RUN_KERNEL,),
        (RUN_DOCKER, RUN, SERVES),
        boots=True,
        then=_FIRST_ENTRY,
    ),
    Mutation(
        "a kernel of another flavour runs",
        "Kernel",
        _SECOND_ENTRY,
        r"kernel: running kernel is of the flavour",
        (RUN_KERNEL,),
        (RUN_DOCKER, RUN, SERVES),
        hidden=(FLOOR,),
        boots=True,
        then=_FIRST_ENTRY,
    ),
    Mutation(
        "GRUB boots an older kernel by default",
        "Kernel",
        _SECOND_ENTRY,
        r"kernel: no newer kernel of the flavour",
        (RUN_KERNEL,),
        refused=r"running after a boot with .* installed; expected .*GRUB_DEFAULT",
        why="the host was booted with the newer kernel installed and another came up: booting again would end in the "
        "same, for ever, and which entry is booted is for whoever set it",
        undo=_FIRST_ENTRY,
        boots=True,
        undo_boots=True,
    ),
    Mutation(
        "no trace of the kernel is left on the disk, and another runs",
        "Kernel",
        _SECOND_ENTRY,
        r"kernel: no newer kernel of the flavour.*no amd64 kernel is installed",
        (BOOTABLE, RUN_KERNEL),
        (RUN_DOCKER, RUN, SERVES),
        hidden=(FLOOR,),
        boots=True,
        then="sed -i s/^GRUB_DEFAULT=.*/GRUB_DEFAULT=0/ /etc/default/grub && "
        f"k={_KERNEL}; rm -rf /boot/*-$k /lib/modules/$k && update-grub",
    ),
    Mutation(
        "no trace of the kernel is left on the disk, and GRUB boots another by default",
        "Kernel",
        _SECOND_ENTRY,
        r"kernel: no newer kernel of the flavour.*no amd64 kernel is installed",
        (RUN_KERNEL,),
        # What is missing is put back, and booted in vain.
        (BOOTABLE,),
        refused=r"running after a boot with .* installed; expected .*GRUB_DEFAULT",
        why="which entry of GRUB's menu is booted is for whoever set it; the kernel's files are put back",
        undo=_FIRST_ENTRY,
        boots=True,
        then=f"k={_KERNEL}; rm -rf /boot/*-$k /lib/modules/$k && update-grub",
        undo_boots=True,
    ),
)

_MEMORY = "/sys/bus/pci/devices/0000:c5:00.0/mem_info_vram_total"

_PREFLIGHT_MUTATIONS = (
    Mutation(
        "the carve-out is lowered in the BIOS, which shows only after a reboot that waits",
        "Preflight",
        # What the lab's silicon says of itself: nothing now, and 16 GiB from the next boot on.
        f"rm {_MEMORY} && mkdir -p /etc/systemd/system/ojai-lab-silicon.service.d && "
        f"printf '[Service]\\nExecStartPost=sh -c \"echo 17179869184 > {_MEMORY}\"\\n' "
        "> /etc/systemd/system/ojai-lab-silicon.service.d/small.conf && touch /run/ojai-reboot-required",
        r"kernel: gpu memory can be read",
        (FITS,),
        (RUN_KERNEL,),
        refused=r"memory for vllm-gemma4: found 16 GiB",
        why="what is asked for does not fit, and only the operator can raise the carve-out or take a smaller model",
        undo="rm -r /etc/systemd/system/ojai-lab-silicon.service.d && systemctl daemon-reload && "
        f"rm {_MEMORY} && echo 68719476736 > {_MEMORY}",
        alone=True,
    ),
)

_GROUP_MUTATIONS = (
    Mutation(
        "the user is taken out of the group render",
        "Groups",
        "gpasswd --delete ojai render",
        r"groups: named users can open the gpu",
        (MEMBERS,),
    ),
    Mutation(
        "the user is taken out of the group video",
        "Groups",
        "gpasswd --delete ojai video",
        r"groups: named users are in both groups",
        (MEMBERS,),
    ),
    Mutation(
        "the group video is removed",
        "Groups",
        "groupdel video",
        pending(GROUPS),
        (GROUPS, MEMBERS),
        (DEVICES, UNIT, RUN, SERVES, KEEP),
        alone=True,
    ),
    Mutation(
        "the group render gets another number",
        "Groups",
        "groupmod --gid 4242 render",
        r"groups: device belongs to the group",
        (DEVICES, UNIT, RUN, SERVES, KEEP),
        alone=True,
    ),
    Mutation(
        "the GPU is opened to everybody",
        "Groups",
        "chmod 666 /dev/kfd",
        r"groups: device belongs to the group and is closed to others.*can open /dev/kfd",
        (DEVICES,),
    ),
    Mutation(
        "the GPU's render node is given to root",
        "Groups",
        "chgrp root /dev/dri/renderD128",
        r"groups: named users can open the gpu.*renderD128",
        (DEVICES,),
    ),
    Mutation(
        "a udev rule opens the GPU to everybody",
        "Groups",
        """echo 'SUBSYSTEM=="kfd", KERNEL=="kfd", MODE="0666"' > /etc/udev/rules.d/90-other-kfd.rules
        udevadm control --reload && udevadm trigger --settle --action=add --subsystem-match=kfd""",
        r"groups: device belongs to the group and is closed to others.*can open /dev/kfd",
        (DEVICES,),
        refused=r"90-other-kfd\.rules",
        why="the rule is not ours, and guides do recommend it: somebody may rely on it",
        undo="rm /etc/udev/rules.d/90-other-kfd.rules && udevadm control --reload && "
        "udevadm trigger --settle --action=add --subsystem-match=kfd",
    ),
)

_SYSCTL_MUTATIONS = (
    Mutation(
        "vm.overcommit_memory is changed live only",
        "Sysctl",
        "sysctl -w vm.overcommit_memory=0",
        r"sysctl: parameters are in force.*vm\.overcommit_memory",
        (SYSCTL,),
    ),
    Mutation(
        "the drop-in is deleted",
        "Sysctl",
        f"rm {_SYSCTL_FILE}",
        r"sysctl: parameters are what the next boot would set",
        (SYSCTL,),
    ),
    Mutation(
        "the drop-in is truncated",
        "Sysctl",
        f": > {_SYSCTL_FILE}",
        r"sysctl: parameters are what the next boot would set",
        (SYSCTL,),
    ),
    Mutation(
        "the drop-in is edited on disk only",
        "Sysctl",
        f"sed -i 's/overcommit_memory = 1/overcommit_memory = 2/' {_SYSCTL_FILE}",
        r"sysctl: parameters are what the next boot would set.*to 2",
        (SYSCTL,),
    ),
    Mutation(
        "the drop-in is given to a user, who can then edit it",
        "Sysctl",
        f"chown ojai {_SYSCTL_FILE}",
        pending(SYSCTL),
        (SYSCTL,),
    ),
    Mutation(
        "the drop-in is masked by a link to /dev/null",
        "Sysctl",
        f"ln -sf /dev/null {_SYSCTL_FILE}",
        r"sysctl: parameters are what the next boot would set",
        (SYSCTL,),
    ),
    Mutation(
        "a later drop-in overrides it at the next boot",
        "Sysctl",
        "echo vm.overcommit_memory=0 > /etc/sysctl.d/99-zzz-other.conf",
        r"sysctl: parameters are what the next boot would set.*to 0",
        (SYSCTL,),
        refused=r"/etc/sysctl\.d/99-zzz-other\.conf",
        why="the file is not ours: it is a decision of somebody else, which the inventory contradicts",
        undo="rm /etc/sysctl.d/99-zzz-other.conf",
    ),
    Mutation(
        "the service that applies drop-ins at boot is masked",
        "Sysctl",
        "systemctl mask systemd-sysctl.service",
        r"sysctl: parameters are applied at boot",
        (SYSCTL,),
        refused=r"systemd-sysctl\.service.*unmask",
        why="nothing masks it by accident, and unmasking it would put every other drop-in of the host in force too",
        undo="systemctl unmask systemd-sysctl.service",
    ),
)

_FAKE_ROCMINFO = (
    "d=$(mktemp -d) && chmod 755 $d && mkdir $d/DEBIAN && "
    "printf 'Package: rocminfo\\nVersion: {version}\\nArchitecture: amd64\\n"
    "Maintainer: other <other@example.invalid>\\nDescription: from elsewhere\\n' > $d/DEBIAN/control && "
    "dpkg-deb -Znone -b $d $d.deb && dpkg --install --force-downgrade $d.deb && rm -rf $d $d.deb"
)

_ROCM_MUTATIONS = (
    Mutation(
        "gpg is removed",
        "ROCm",
        "dpkg --remove --force-depends gpg",
        r"rocm: the source trusts one key",
        (TOOLS,),
        (METAPACKAGE,),
    ),
    Mutation(
        "the keyring is deleted",
        "ROCm",
        f"rm {_KEYRING}",
        r"rocm: the source trusts one key",
        (KEY, LISTS),
    ),
    Mutation(
        "the keyring is truncated",
        "ROCm",
        f"truncate -s 100 {_KEYRING}",
        r"rocm: the source trusts one key",
        (KEY, LISTS),
    ),
    Mutation(
        "the key is swapped for another key of the same name",
        "ROCm",
        f"cp {_OTHER_KEY} {_KEYRING}",
        r"rocm: the source trusts one key",
        (KEY, LISTS),
    ),
    Mutation(
        "a second key is put beside the right one",
        "ROCm",
        f"cat {_OTHER_KEY} >> {_KEYRING}",
        r"rocm: the source trusts one key",
        (KEY, LISTS),
    ),
    Mutation(
        "the keyring is closed, so that apt cannot read it",
        "ROCm",
        f"chmod 600 {_KEYRING}",
        r"rocm: apt can read the keyring and nobody but root can change it",
        (KEY,),
    ),
    Mutation(
        "the keyring is given to a user, who can then swap the key",
        "ROCm",
        f"chown ojai {_KEYRING}",
        r"rocm: apt can read the keyring and nobody but root can change it",
        (KEY,),
    ),
    Mutation(
        "the source is deleted", "ROCm", f"rm {_ROCM_SOURCE}", r"rocm: the source trusts one key", (SOURCE, LISTS)
    ),
    Mutation(
        "the source is edited to another release of Ubuntu",
        "ROCm",
        f"sed -i 's/noble/jammy/' {_ROCM_SOURCE}",
        pending(SOURCE),
        (SOURCE, LISTS),
    ),
    Mutation(
        "the source is truncated", "ROCm", f": > {_ROCM_SOURCE}", r"rocm: the source trusts one key", (SOURCE, LISTS)
    ),
    Mutation(
        "the source is switched off where it is",
        "ROCm",
        f"sed -i 's/^Types:/Enabled: no\\nTypes:/' {_ROCM_SOURCE}",
        r"rocm: only one file names amds packages",
        (SOURCE, LISTS),
    ),
    Mutation(
        "signatures are switched off in the source",
        "ROCm",
        f"sed -i 's/^Types:/Trusted: yes\\nTypes:/' {_ROCM_SOURCE}",
        pending(SOURCE),
        (SOURCE, LISTS),
    ),
    Mutation(
        "the source can be written by everybody",
        "ROCm",
        f"chmod 666 {_ROCM_SOURCE}",
        pending(SOURCE),
        (SOURCE,),
    ),
    Mutation(
        "another file names the same source",
        "ROCm",
        f'echo "deb [signed-by={_KEYRING}] {_REPOSITORY} noble main" > /etc/apt/sources.list.d/rocm.list',
        r"rocm: only one file names amds packages.*rocm\.list",
        refused=r"ROCm apt sources: found /etc/apt/sources\.list\.d/rocm\.list",
        why="the file is not ours: amdgpu-install writes one, and whoever ran it should know",
        undo="rm /etc/apt/sources.list.d/rocm.list",
    ),
    Mutation(
        "a second source, of another ROCm release, is added",
        "ROCm",
        f"""printf 'Types: deb\\nURIs: %s\\nSuites: noble\\nComponents: main\\nSigned-By: {_KEYRING}\\n' """
        f"""{_REPOSITORY}.4 > /etc/apt/sources.list.d/amdgpu.sources""",
        r"rocm: only one file names amds packages.*amdgpu\.sources",
        refused=r"ROCm apt sources: found .*amdgpu\.sources",
        why="the file is not ours, and which of two releases is meant is for the operator",
        undo="rm /etc/apt/sources.list.d/amdgpu.sources",
    ),
    Mutation(
        "a second ROCm tree lies under /opt",
        "ROCm",
        "mkdir -p /opt/rocm-7.1.0/lib",
        r"rocm: there is one rocm tree.*rocm-7\.1\.0",
        refused=r"ROCm trees: found /opt/rocm-7\.1\.0",
        why="somebody installed it, perhaps by hand, and programs of theirs may be linked with it",
        undo="rm -r /opt/rocm-7.1.0",
    ),
    Mutation("the pin is deleted", "ROCm", f"rm {_PIN_FILE}", r"rocm: packages come from that source", (PIN, LISTS)),
    Mutation(
        "the pin's priority is changed",
        "ROCm",
        f"sed -i s/600/100/ {_PIN_FILE}",
        r"rocm: packages come from that source",
        (PIN, LISTS),
    ),
    Mutation(
        "another pin prefers the distribution's package",
        "ROCm",
        "printf 'Package: rocminfo\\nPin: release n=trixie\\nPin-Priority: 1001\\n' > /etc/apt/preferences.d/99-other",
        r"rocm: packages come from that source",
        (ROCM,),
        refused=r"rocminfo.*/etc/apt/preferences\.d/99-other",
        why="the file is not ours: it is a decision of somebody else, which the inventory contradicts",
        undo="rm /etc/apt/preferences.d/99-other",
    ),
    Mutation(
        "the package lists of the source are removed",
        "ROCm",
        "rm /var/lib/apt/lists/*_rocm_apt_*",
        r"rocm: packages come from that source",
        (LISTS,),
    ),
    Mutation(
        "the mark that the lists were read is removed",
        "ROCm",
        "rm /var/lib/ojai/apt-refreshed",
        pending(LISTS),
        (LISTS,),
    ),
    Mutation(
        "rocminfo is removed",
        "ROCm",
        "dpkg --remove --force-depends rocminfo",
        r"rocm: packages come from that source.*rocminfo",
        (ROCM,),
    ),
    Mutation(
        "rocminfo is replaced by an older one from elsewhere",
        "ROCm",
        _FAKE_ROCMINFO.format(version="0.9"),
        r"rocm: packages come from that source",
        (ROCM,),
    ),
    Mutation(
        "rocminfo is replaced by a newer one from elsewhere",
        "ROCm",
        _FAKE_ROCMINFO.format(version="99"),
        r"rocm: packages come from that source",
        (ROCM,),
    ),
    Mutation(
        "rocminfo is put on hold",
        "ROCm",
        "apt-mark hold rocminfo",
        r"apt: packages are not held back.*rocminfo",
        (ROCM,),
    ),
    Mutation(
        "a program of a ROCm package is deleted",
        "ROCm",
        "rm /opt/rocm/bin/rocminfo",
        r"apt: packages are as they were installed.*rocminfo",
        (ROCM,),
    ),
    Mutation(
        "a program of a ROCm package is replaced by hand",
        "ROCm",
        "echo '# changed' >> /opt/rocm/bin/amd-smi",
        r"apt: packages are as they were installed.*amd-smi",
        (ROCM,),
    ),
    Mutation("the link /opt/rocm is removed", "ROCm", "rm /opt/rocm", r"rocm: opt rocm leads to the tree", (TREE,)),
    Mutation(
        "the link /opt/rocm is turned elsewhere",
        "ROCm",
        "ln -sfn /usr /opt/rocm",
        r"rocm: opt rocm leads to the tree",
        (TREE,),
    ),
    Mutation(
        "the loader's drop-in is deleted",
        "ROCm",
        f"rm {_LOADER_FILE}",
        r"rocm: the loader looks into the tree",
        (LOADER, CACHE),
    ),
    Mutation(
        "the loader's drop-in is edited",
        "ROCm",
        f"sed -i s,/opt/rocm/,/opt/other/, {_LOADER_FILE}",
        r"rocm: the loader looks into the tree",
        (LOADER, CACHE),
    ),
    Mutation(
        "the loader's drop-in is given to a user, who can then add libraries",
        "ROCm",
        f"chown ojai {_LOADER_FILE}",
        pending(LOADER),
        (LOADER,),
    ),
    Mutation(
        "the loader's cache is older than what it is made from",
        "ROCm",
        "touch -d 2001-01-01 /etc/ld.so.cache",
        r"rocm: the loader looks into the tree.*has not read",
        (CACHE,),
    ),
    Mutation(
        "the loader's cache is emptied",
        "ROCm",
        ": > /etc/ld.so.cache",
        r"rocm: the loader looks into the tree",
        (CACHE,),
    ),
)

_DOCKER_MUTATIONS = (
    Mutation(
        "a source of Docker's own is left over",
        "Docker",
        "printf 'Enabled: no\\nTypes: deb\\nURIs: https://download.docker.com/linux/ubuntu\\nSuites: noble\\n' "
        "> /etc/apt/sources.list.d/ojai-docker.sources",
        pending(NO_SOURCE),
        (NO_SOURCE,),
    ),
    Mutation(
        "daemon.json is broken",
        "Docker",
        f"echo '{{broken' > {_DAEMON_FILE}",
        r"docker: configuration can be read.*daemon\.json",
        (DAEMON,),
        refused=r"/etc/docker/daemon\.json: found a file that is not JSON",
        why="it may hold settings of others, which would be lost with it",
        undo="cp /var/lib/ojai/added/json-etc-docker-daemon.json /etc/docker/daemon.json && "
        "chmod 644 /etc/docker/daemon.json && touch -d 2001-01-01 /etc/docker/daemon.json",
    ),
    Mutation(
        "our setting in daemon.json is changed",
        "Docker",
        f"sed -i 's/50m/1m/' {_DAEMON_FILE}",
        pending(DAEMON),
        (DAEMON, RUN_DOCKER),
        (RUN, SERVES),
    ),
    Mutation(
        "daemon.json is deleted",
        "Docker",
        f"rm {_DAEMON_FILE}",
        r"docker: engine has read its configuration",
        (DAEMON, RUN_DOCKER),
        (RUN, SERVES),
    ),
    Mutation(
        "daemon.json is given to a user, who can then become root by it",
        "Docker",
        f"chown ojai {_DAEMON_FILE}",
        pending(DAEMON),
        (DAEMON, RUN_DOCKER),
        (RUN, SERVES),
    ),
    Mutation(
        "the daemon was not restarted since daemon.json was changed",
        "Docker",
        f"touch {_DAEMON_FILE}",
        r"docker: engine has read its configuration.*changed after",
        (RUN_DOCKER,),
        (RUN, SERVES),
    ),
    Mutation(
        "the daemon is made to read another file",
        "Docker",
        "mkdir -p /etc/systemd/system/docker.service.d && echo '{}' > /etc/docker/other.json && "
        "printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/"
        "containerd.sock --config-file=/etc/docker/other.json\\n' > /etc/systemd/system/docker.service.d/other.conf && "
        "systemctl daemon-reload && systemctl restart docker.service",
        r"docker: engine asks the mirrors",
        (ANSWERS,),
        (RUN, SERVES),
        refused=r"docker\.service\.d/other\.conf",
        why="drop-ins of docker.service are the usual place for a proxy and the like: the file is not ours",
        undo="rm -r /etc/systemd/system/docker.service.d /etc/docker/other.json && systemctl daemon-reload && "
        "systemctl restart docker.service",
    ),
    Mutation(
        "Docker is disabled",
        "Docker",
        "systemctl disable docker.service",
        r"docker: engine .*starts at boot",
        (RUN_DOCKER,),
    ),
    Mutation(
        "Docker is masked and stopped",
        "Docker",
        "systemctl stop docker.socket docker.service && systemctl mask docker.service",
        r"docker: engine answers",
        (RUN_DOCKER, RUN),
        (SERVES,),
    ),
    Mutation(
        "the socket of Docker is masked, which shows only at the next boot",
        "Docker",
        "systemctl mask docker.socket",
        r"docker: what the engine needs is not masked.*docker\.socket",
        (UNMASKED,),
    ),
    Mutation(
        "containerd is masked, which shows only at the next boot",
        "Docker",
        "systemctl mask containerd.service",
        r"docker: what the engine needs is not masked.*containerd",
        (UNMASKED,),
    ),
    Mutation(
        "the daemon hangs",
        "Docker",
        "kill -STOP $(pidof dockerd)",
        r"docker: engine answers",
        (ANSWERS,),
        (RUN_DOCKER, RUN, SERVES),
        alone=True,
    ),
    Mutation(
        "the socket of Docker is deleted",
        "Docker",
        "rm /run/docker.sock",
        r"docker: engine answers",
        (ANSWERS,),
        (RUN, SERVES),
    ),
    Mutation(
        "Docker's package is removed",
        "Docker",
        "dpkg --remove --force-depends docker.io",
        r"docker: engine answers",
        (ENGINE, RUN),
        (RUN_DOCKER, SERVES),
    ),
    Mutation(
        "the package of Docker's client is removed",
        "Docker",
        "dpkg --remove --force-depends docker-cli",
        r"docker: engine answers",
        (ENGINE,),
        (METAPACKAGE, RUN_DOCKER, RUN, SERVES),
    ),
    Mutation(
        "Docker's package is put on hold", "Docker", "apt-mark hold docker.io", r"held back.*docker\.io", (ENGINE,)
    ),
    Mutation(
        "the daemon's program is deleted while it runs",
        "Docker",
        "rm /usr/sbin/dockerd",
        r"apt: packages are as they were installed.*dockerd",
        (ENGINE,),
        (RUN_DOCKER, RUN, SERVES),
    ),
)

_OWN_KEYRING = "/etc/apt/keyrings/ojai-docker.gpg"
_OWN_SOURCE = "/etc/apt/sources.list.d/ojai-docker.sources"

_OWN_DOCKER_MUTATIONS = (
    Mutation(
        "gpg is removed from a host with Docker's own archive",
        "Docker",
        "dpkg --remove --force-depends gpg",
        r"rocm: the source trusts one key",
        (TOOLS,),
        (METAPACKAGE,),
        hidden=(DOCKER_TOOLS,),
        own_docker=True,
    ),
    Mutation(
        "Docker's key is swapped for another key of the same name",
        "Docker",
        f"cp {_OTHER_KEY} {_OWN_KEYRING}",
        r"docker: own source trusts one key",
        (DOCKER_KEY, DOCKER_LISTS),
        own_docker=True,
    ),
    Mutation(
        "Docker's source is edited",
        "Docker",
        f"sed -i s/stable/test/ {_OWN_SOURCE}",
        pending(DOCKER_SOURCE),
        (DOCKER_SOURCE,),
        (DOCKER_LISTS,),
        own_docker=True,
    ),
    Mutation(
        "the package of Docker's own archive is removed",
        "Docker",
        "dpkg --remove --force-depends docker-ce",
        r"docker: engine answers",
        (ENGINE, RUN),
        (RUN_DOCKER, SERVES),
        own_docker=True,
    ),
)

_CACHE_MUTATIONS = (
    Mutation(
        "a cache folder is given to a user",
        "Caches",
        "chown ojai /srv/ojai/models",
        r"caches: folders are real.*/srv/ojai/models",
        (FOLDERS,),
    ),
    Mutation(
        "the data folder can be written by everybody",
        "Caches",
        "chmod 777 /srv/ojai",
        r"caches: folders are real.*/srv/ojai",
        (FOLDERS,),
    ),
    Mutation(
        "a cache folder that no container has is deleted",
        "Caches",
        "rmdir /srv/ojai/workspace",
        r"caches: folders are real.*/srv/ojai/workspace",
        (FOLDERS,),
    ),
    Mutation(
        "a cache folder is deleted under a running container",
        "Caches",
        "rm -r /srv/ojai/models",
        r"caches: folders are real.*/srv/ojai/models",
        (FOLDERS, RUN, SERVES),
        alone=True,
    ),
    Mutation(
        "a cache folder is replaced by a symbolic link",
        "Caches",
        "mv /srv/ojai/vllm /srv/elsewhere && ln -s /srv/elsewhere /srv/ojai/vllm",
        r"caches: folders are real.*/srv/ojai/vllm is a symbolic link",
        (FOLDERS,),
        refused=r"/srv/ojai/vllm is a symbolic link",
        why="following it would change a folder that is not ours, replacing it would lose what took hours to load",
        undo="rm /srv/ojai/vllm && mv /srv/elsewhere /srv/ojai/vllm",
    ),
    Mutation(
        "a cache folder is replaced by a file",
        "Caches",
        "rmdir /srv/ojai/workspace && echo note > /srv/ojai/workspace",
        r"caches: folders are real.*/srv/ojai/workspace is a regular file",
        (FOLDERS,),
        refused=r"/srv/ojai/workspace is a regular file",
        why="what is in the file may be expected",
        undo="rm /srv/ojai/workspace && mkdir /srv/ojai/workspace",
    ),
)

_LEDGER_MUTATIONS = (
    Mutation(
        "the note of what was added is given to a user, who can then have anything removed",
        "Ledger",
        "chown -R ojai /var/lib/ojai/added",
        r"ledger: only root can change the notes.*/var/lib/ojai/added",
        (NOTES,),
    ),
    Mutation(
        "the folder of the notes can be written by everybody",
        "Ledger",
        "chmod 777 /var/lib/ojai",
        r"ledger: only root can change the notes.*/var/lib/ojai",
        (NOTES,),
    ),
    Mutation(
        "the version of the notes' format is removed",
        "Ledger",
        "rm /var/lib/ojai/schema",
        pending(FORMAT),
        (FORMAT,),
    ),
)

_RESTART = (RUN, SERVES)

#: A server that does not answer is said to hang once it has run for longer than its start may take (in the lab 300 s).
_SETTLED = (
    'while since=$(date -d "$(systemctl show vllm-gemma4 -p ExecMainStartTimestamp --value)" +%s); '
    "[ $(( $(date +%s) - since )) -lt 320 ]; do sleep 5; done; "
)

#: Healthy, and of the same model.
_OTHER_SERVER = """
import http.server
class Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"data": [{"id": "google/gemma-4-E4B-it"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Other).serve_forever()
"""

_VLLM_MUTATIONS = (
    Mutation(
        "the environment file is made readable", "vLLM", f"chmod 644 {_ENV_FILE}", r"vllm: secrets are closed", (ENV,)
    ),
    Mutation(
        "the environment file is given to a user",
        "vLLM",
        f"chown ojai {_ENV_FILE}",
        r"vllm: secrets are closed",
        (ENV,),
    ),
    Mutation(
        "the environment file is deleted",
        "vLLM",
        f"rm {_ENV_FILE}",
        r"vllm: secrets are closed",
        (ENV, *_RESTART),
    ),
    Mutation(
        "the folder of the environment files can be written by everybody",
        "vLLM",
        "chmod 777 /etc/ojai",
        r"vllm: secrets are closed.*/etc/ojai",
        (ENV,),
    ),
    Mutation(
        "the environment file was changed since the server started",
        "vLLM",
        f"echo HF_HUB_OFFLINE=0 >> {_ENV_FILE}",
        r"vllm: server has read its files.*\.env was changed",
        (*_RESTART, KEEP),
    ),
    Mutation(
        "a variable of AITER is put into the environment file",
        "vLLM",
        f"echo VLLM_ROCM_USE_AITER=1 >> {_ENV_FILE}",
        r"VLLM_ROCM_USE_AITER",
        refused=r"environment file: found .*VLLM_ROCM_USE_AITER set in",
        why="the file is the operator's to edit, and the other lines in it are their secrets",
        undo=f"sed -i /VLLM_ROCM_USE_AITER/d {_ENV_FILE} && touch -d 2001-01-01 {_ENV_FILE}",
    ),
    Mutation(
        "a variable of PyTorch's allocator is put into the environment file",
        "vLLM",
        f"echo PYTORCH_HIP_ALLOC_CONF=expandable_segments:True >> {_ENV_FILE}",
        r"PYTORCH_HIP_ALLOC_CONF",
        refused=r"environment file: found .*PYTORCH_HIP_ALLOC_CONF set in",
        why="the file is the operator's to edit, and the other lines in it are their secrets",
        undo=f"sed -i /PYTORCH_HIP_ALLOC_CONF/d {_ENV_FILE} && touch -d 2001-01-01 {_ENV_FILE}",
    ),
    Mutation(
        "a forbidden variable is added to the unit, and is in force",
        "vLLM",
        f"sed -i 's/^    --rm /    --rm -e VLLM_ROCM_USE_AITER=1 /; s/^    --rm$/    --rm -e VLLM_ROCM_USE_AITER=1/' "
        f"{_UNIT_FILE} && grep -q AITER {_UNIT_FILE} && systemctl daemon-reload && systemctl restart vllm-gemma4",
        r"vllm: forbidden variables are absent.*AITER",
        (UNIT, *_RESTART),
    ),
    Mutation(
        "an argument in the unit is edited",
        "vLLM",
        f"sed -i 's/--max-model-len 131072/--max-model-len 4096/' {_UNIT_FILE}",
        r"vllm: unit runs at boot.*not reloaded",
        (UNIT, *_RESTART),
    ),
    Mutation("the unit is deleted", "vLLM", f"rm {_UNIT_FILE}", pending(UNIT), (UNIT, *_RESTART)),
    Mutation("the unit can be written by everybody", "vLLM", f"chmod 666 {_UNIT_FILE}", pending(UNIT), (UNIT,)),
    Mutation(
        "the unit is given to a user, who can then become root by it",
        "vLLM",
        f"chown ojai {_UNIT_FILE}",
        pending(UNIT),
        (UNIT,),
    ),
    Mutation(
        "the unit is masked",
        "vLLM",
        f"systemctl stop vllm-gemma4 && rm {_UNIT_FILE} && systemctl mask vllm-gemma4",
        r"vllm: it is healthy|vllm: unit runs at boot",
        (UNIT, *_RESTART),
    ),
    Mutation(
        "the unit is overridden by a drop-in",
        "vLLM",
        "mkdir -p /etc/systemd/system/vllm-gemma4.service.d && printf '[Service]\\nRestart=no\\n' > "
        "/etc/systemd/system/vllm-gemma4.service.d/override.conf && systemctl daemon-reload",
        r"vllm: unit runs at boot and nothing overrides it.*override\.conf",
        _RESTART,
    ),
    Mutation(
        "a property of the unit is set at run time",
        "vLLM",
        "systemctl set-property --runtime vllm-gemma4.service MemoryMax=1G",
        r"vllm: unit runs at boot and nothing overrides it.*MemoryMax",
        _RESTART,
    ),
    Mutation(
        "a drop-in for every service of the host changes the unit too",
        "vLLM",
        "mkdir -p /etc/systemd/system/service.d && printf '[Service]\\nNice=5\\n' > "
        "/etc/systemd/system/service.d/nice.conf && systemctl daemon-reload",
        r"vllm: unit runs at boot and nothing overrides it.*service\.d/nice\.conf",
        (RUN,),
        refused=r"/etc/systemd/system/service\.d/nice\.conf, which changes this unit and others too",
        why="it is meant for other services too, and is not ours",
        undo="rm -r /etc/systemd/system/service.d && systemctl daemon-reload",
    ),
    Mutation("the unit is disabled", "vLLM", "systemctl disable vllm-gemma4", r"vllm: unit runs at boot", (RUN,)),
    Mutation("the unit is stopped", "vLLM", "systemctl stop vllm-gemma4", r"vllm: it is healthy", _RESTART),
    Mutation(
        "the unit has reached its start limit",
        "vLLM",
        "systemctl stop vllm-gemma4; for i in 1 2 3 4 5 6 7; do systemctl start vllm-gemma4 || break; "
        "systemctl stop vllm-gemma4; done; test $(systemctl is-failed vllm-gemma4) = failed",
        r"vllm: it is healthy",
        _RESTART,
    ),
    Mutation(
        "the container is replaced by one with other arguments",
        "vLLM",
        "docker rename vllm-gemma4 other && docker run -d --name vllm-gemma4 vllm/vllm-openai-rocm:v0.20.1 "
        "google/gemma-4-E4B-it --port 8001",
        r"vllm: container runs what the inventory asks for",
        _RESTART,
    ),
    Mutation(
        "the container is replaced by one of another image",
        "vLLM",
        "docker pull -q vllm/vllm-openai-rocm:v0.20.1-next && docker rename vllm-gemma4 other && "
        "docker run -d --name vllm-gemma4 --entrypoint sleep vllm/vllm-openai-rocm:v0.20.1-next 100000",
        r"vllm: container runs what the inventory asks for",
        _RESTART,
    ),
    Mutation(
        "the container is replaced by a privileged one with the same arguments",
        "vLLM",
        "docker rename vllm-gemma4 other && docker run -d --name vllm-gemma4 --privileged "
        "$(docker inspect -f '{{.Config.Image}}{{range .Config.Cmd}} {{.}}{{end}}' other)",
        r"vllm: container has the rights of the guides command",
        _RESTART,
    ),
    Mutation("the container is paused", "vLLM", "docker pause vllm-gemma4", r"vllm: it is healthy", (RUN,), (SERVES,)),
    Mutation(
        "the server hangs",
        "vLLM",
        _SETTLED + "kill -STOP $(docker inspect -f '{{.State.Pid}}' vllm-gemma4)",
        r"vllm: it is healthy",
        (SERVES,),
    ),
    Mutation(
        "another server has taken the port",
        "vLLM",
        "systemctl stop vllm-gemma4 && systemd-run --quiet --unit=other-server python3 -c "
        f"{shlex.quote(_OTHER_SERVER)} && for i in $(seq 60); do curl -sf -m 5 http://127.0.0.1:8000/health && break; "
        "sleep 1; done",
        r"vllm: unit runs at boot",
        (SERVES,),
        (RUN,),
        refused=r"port 8000 is held by \d+ python3",
        why="the other server is somebody's, who may be using it",
        undo="systemctl stop other-server; systemctl reset-failed vllm-gemma4; systemctl restart vllm-gemma4",
    ),
    Mutation(
        "the image's name is removed under the running container",
        "vLLM",
        "docker rmi -f vllm/vllm-openai-rocm:v0.20.1",
        r"vllm: container runs what the inventory asks for",
        (IMAGE,),
    ),
    Mutation(
        "the image is deleted, with all that holds it",
        "vLLM",
        "systemctl stop vllm-gemma4 && docker image rm -f $(docker image ls -q vllm/vllm-openai-rocm:v0.20.1)",
        r"vllm: it is healthy",
        (IMAGE, *_RESTART),
        (KEEP,),
        alone=True,
    ),
    Mutation(
        "the image's tag is moved to another image",
        "vLLM",
        "docker pull -q vllm/vllm-openai-rocm:v0.20.1-next && "
        "docker tag vllm/vllm-openai-rocm:v0.20.1-next vllm/vllm-openai-rocm:v0.20.1",
        r"vllm: container runs what the inventory asks for",
        (IMAGE,),
    ),
    Mutation(
        "a service of an earlier deploy is left over",
        "vLLM",
        "printf '# Made by ojai for vllm-old (profile e4b).\\n[Service]\\nExecStart=/usr/bin/sleep infinity\\n' "
        "> /etc/systemd/system/vllm-old.service && echo vllm-old.service >> /var/lib/ojai/added/units && "
        "systemctl daemon-reload && systemctl start vllm-old",
        r"vllm: no unit of ours is left over.*vllm-old",
        (STAND_DOWN, RETIRE),
    ),
    Mutation(
        "a service of an earlier deploy is left over, and not in the notes",
        "vLLM",
        "printf '# Made by ojai for vllm-old (profile e4b).\\n[Service]\\nExecStart=/usr/bin/sleep infinity\\n' "
        "> /etc/systemd/system/vllm-old.service && systemctl daemon-reload && systemctl start vllm-old",
        r"vllm: no unit of ours is left over.*vllm-old",
        (STAND_DOWN, RETIRE),
    ),
    Mutation(
        "the note of our units is lost",
        "vLLM",
        "rm /var/lib/ojai/added/units",
        pending(UNIT),
        (UNIT,),
    ),
    Mutation(
        "the kept release is deleted",
        "vLLM",
        "rm -r /var/lib/ojai/releases",
        pending(KEEP),
        (KEEP,),
    ),
    Mutation(
        "the kept release, which has the secrets, is made readable",
        "vLLM",
        "chmod -R go+rX /var/lib/ojai/releases",
        pending(KEEP),
        (KEEP,),
    ),
    Mutation(
        "the kept environment file alone, which has the secrets, is made readable",
        "vLLM",
        "chmod 644 /var/lib/ojai/releases/healthy/vllm-gemma4.env",
        r"releases: kept secrets are closed",
        (KEEP,),
    ),
    Mutation(
        "the folder of the kept releases is opened",
        "vLLM",
        "chmod 755 /var/lib/ojai/releases",
        r"releases: kept secrets are closed.*/var/lib/ojai/releases",
        (KEEP,),
    ),
    Mutation(
        "the kept release's environment file is changed",
        "vLLM",
        "echo X=1 >> /var/lib/ojai/releases/healthy/vllm-gemma4.env",
        pending(KEEP),
        (KEEP,),
    ),
    Mutation(
        "the tag that holds the kept release's image is removed",
        "vLLM",
        "docker rmi ojai-release:vllm-gemma4-healthy",
        pending(KEEP),
        (KEEP,),
    ),
)

MUTATIONS = (
    *_PREFLIGHT_MUTATIONS,
    *_KERNEL_MUTATIONS,
    *_GROUP_MUTATIONS,
    *_SYSCTL_MUTATIONS,
    *_ROCM_MUTATIONS,
    *_DOCKER_MUTATIONS,
    *_OWN_DOCKER_MUTATIONS,
    *_CACHE_MUTATIONS,
    *_LEDGER_MUTATIONS,
    *_VLLM_MUTATIONS,
)

#: One a role, independent of one another and quick: what `make test` runs, as one batch.
SAMPLE = (
    "the kernel's metapackage is put on hold",
    "the user is taken out of the group render",
    "the drop-in is edited on disk only",
    "the loader's drop-in is deleted",
    "a source of Docker's own is left over",
    "the data folder can be written by everybody",
    "the folder of the notes can be written by everybody",
    "an argument in the unit is edited",
)


def named(name: str) -> Mutation:
    """The mutation of this name."""
    return next(mutation for mutation in MUTATIONS if mutation.name == name)


def compatible(one: Mutation, other: Mutation) -> bool:
    """Whether two can be in one batch: neither hides what becomes of the other."""
    if one.solitary or other.solitary or one.own_docker != other.own_docker:
        return False
    if one.preflight != other.preflight or bool(one.refused) != bool(other.refused):
        return False
    if one.preflight:
        return True
    # A restart of Docker restarts the service, and would put right what is wrong with it.
    if {one.role, other.role} == {"Docker", "vLLM"}:
        return False
    if one.restarts_docker and other.restarts_docker:
        return False
    # One failed check of verify would do for both.
    if one.named == other.named:
        return False
    # What mends the one must not come of mending the other. What follows from both (lists read anew) may be shared.
    return not any(
        mended and mended[0] in (*beside.operations, *beside.may)
        for mended, beside in ((one.operations, other), (other.operations, one))
    )


def batches(mutations: list[Mutation]) -> list[list[Mutation]]:
    """As few batches as come from putting each mutation into the first in which it is compatible with all.

    In the order of what they cover that no earlier one does: a run that is cut short has seen most.
    """
    made: list[list[Mutation]] = []
    # Those that touch most are the hardest to place.
    for mutation in sorted(mutations, key=lambda one: -len({*one.operations, *one.may})):
        for batch in made:
            if all(compatible(mutation, other) for other in batch):
                batch.append(mutation)
                break
        else:
            made.append([mutation])
    order = list(mutations)
    ordered = [sorted(batch, key=order.index) for batch in made]
    seen: set[str] = set()
    found = []
    while ordered:
        best = max(ordered, key=lambda batch: _worth(batch, seen))
        ordered.remove(best)
        found.append(best)
        seen |= {name for one in best for name in (*one.operations, *one.hidden)}
    return found


def _worth(batch: list[Mutation], seen: set[str]) -> int:
    """How much a batch is worth when the operations in ``seen`` are covered: a reboot costs three."""
    fresh = {name for one in batch for name in (*one.operations, *one.hidden)} - seen
    return (
        2 * len(fresh)
        + len(batch)
        - 3 * sum(one.boots + one.undo_boots + one.own_docker + (RUN_KERNEL in one.operations) for one in batch)
    )
