"""What a host says of its GPU's driver, of what keeps it off, and of the memory limits that others have set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Appended to the report's script. The boot loader's configuration is a shell script, and is read as grub-mkconfig
#: reads it: what it says takes effect when a kernel is installed, since that writes GRUB's menu anew.
SCRIPT = r"""
container=$(systemd-detect-virt --container 2>/dev/null)
[ -n "$container" ] || { [ ! -e /.dockerenv ] || container=docker; [ ! -e /run/.containerenv ] || container=podman; }
say container_kind "${container#none}"
for device in /sys/bus/pci/devices/*; do
  case "$(cat "$device/class" 2>/dev/null)" in 0x03*)
    driver=$(readlink "$device/driver"); driver=${driver##*/}
    say pci_driver "${device##*/} ${driver:--}";; esac
done
for node in /sys/class/kfd/kfd/topology/nodes/*/properties; do
  [ -r "$node" ] && say kfd_node "$(awk '$1 == "gfx_target_version" {gfx = $2} $1 == "drm_render_minor" {minor = $2}
    END {if (gfx > 0) print gfx, minor}' "$node" 2>/dev/null)"
done
# KFD names what it saves of a wave when the kernel has the fix for RDNA 3.5.
for node in /sys/class/kfd/kfd/topology/nodes/*/properties; do
  [ -r "$node" ] && say kfd_saves "$(awk '$1 == "gfx_target_version" {gfx = $2} $1 == "cwsr_size" {save = 1}
    $1 == "ctl_stack_size" {stack = 1} END {if (gfx > 0) print gfx, (save + stack == 2 ? "yes" : "no")}' "$node")"
done
# The firmware of the scheduler as it is loaded; root alone may look.
for file in /sys/kernel/debug/dri/*/amdgpu_firmware_info; do
  [ -r "$file" ] && say mes "$(sed -n 's/^MES feature .*firmware version: \(0x[0-9a-f]*\).*/\1/p' "$file")"
done
devices=
for node in /dev/kfd /dev/dri/renderD*; do [ ! -c "$node" ] || devices="$devices$node "; done
say gpu_devices "${devices:-none}"
say boot_words "$(cat /proc/cmdline 2>/dev/null)"
# The entry that is booted, unless it is the first, by its number, its name or its id.
(
  for file in /etc/default/grub /etc/default/grub.d/*.cfg; do
    # shellcheck source=/dev/null
    [ ! -r "$file" ] || . "$file"
  done >/dev/null 2>&1
  say grub_words "$(echo "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT" | tr '\n' ' ')"
  say grub_flavours "$GRUB_FLAVOUR_ORDER"
  saved=$(grub-editenv list 2>/dev/null | sed -n 's/^saved_entry=//p')
  case ${GRUB_DEFAULT:-0} in 0) ;; saved) say grub_entry "$saved";; *) say grub_entry "$GRUB_DEFAULT";; esac
) 2>/dev/null
grep -sHE '^[[:space:]]*(options|blacklist|install|softdep)[[:space:]].*(amdgpu|ttm|vfio|stub)' /etc/modprobe.d/*.conf \
  /run/modprobe.d/*.conf /usr/local/lib/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf |
  while IFS= read -r line; do say module_option "$line"; done
dpkg-query -W -f '${db:Status-Status}\t${Package} ${Version}\n' 'amdgpu-dkms*' 2>/dev/null |
  sed -n 's/^installed\t/dkms_package\t/p'
:
"""


#: The part of the register that is the version (AMDGPU_MES_VERSION_MASK).
_MES_VERSION = 0xFFF


@dataclass(frozen=True)
class Gpu:
    """The driver's state; None or empty for what the host did not say."""

    #: the kind of container that this is (``lxc``, ``docker``); empty for a machine
    container: str = ""
    #: display-class PCI functions: address -> kernel driver, empty without one
    drivers: dict[str, str] = field(default_factory=dict)
    #: KFD's GPU nodes: gfx_target_version and number of the render node, None if it names none
    nodes: tuple[tuple[int, int | None], ...] = ()
    #: which of /dev/kfd and /dev/dri/renderD* are there
    devices: tuple[str, ...] | None = None
    #: kernel parameters of this boot, and those that the boot loader's configuration has for the next one
    boot_words: tuple[str, ...] = ()
    grub_words: tuple[str, ...] = ()
    #: what GRUB is told to boot instead of its first entry; empty if nothing
    boot_entry: str = ""
    #: flavours of kernels that Ubuntu's GRUB lists first, whatever their versions
    boot_flavours: tuple[str, ...] = ()
    #: "file:line" of what modprobe is told about amdgpu, ttm, vfio-pci and pci-stub
    module_options: tuple[str, ...] = ()
    #: installed packages of AMD's DKMS driver -> version
    dkms_packages: dict[str, str] = field(default_factory=dict)
    #: gfx_target_version of each GPU node -> whether KFD names cwsr_size and ctl_stack_size
    saves: dict[int, bool] = field(default_factory=dict)
    #: versions of the MES firmware that is loaded; empty where it cannot be read
    mes: tuple[int, ...] = ()


def read(every: Mapping[str, Sequence[str]]) -> Gpu:
    """Read the script's keys."""

    def words(key: str) -> tuple[str, ...]:
        return tuple(word for text in every.get(key, ()) for word in text.split())

    def pairs(key: str) -> dict[str, str]:
        return {name: value for name, _, value in (entry.partition(" ") for entry in every.get(key, ()))}

    nodes = [entry.split() for entry in every.get("kfd_node", ())]
    return Gpu(
        container=next(iter(words("container_kind")), ""),
        drivers={address: driver.removeprefix("-") for address, driver in pairs("pci_driver").items()},
        nodes=tuple((int(node[0]), int(node[1]) if node[1:] else None) for node in nodes),
        devices=tuple(word for word in words("gpu_devices") if word != "none") if "gpu_devices" in every else None,
        boot_words=words("boot_words"),
        grub_words=words("grub_words"),
        boot_entry=next(iter(every.get("grub_entry", ())), ""),
        boot_flavours=words("grub_flavours"),
        module_options=tuple(every.get("module_option", ())),
        dkms_packages=pairs("dkms_package"),
        saves={int(gfx): answer == "yes" for gfx, answer in pairs("kfd_saves").items()},
        mes=tuple(dict.fromkeys(int(version, 16) & _MES_VERSION for version in words("mes"))),
    )
