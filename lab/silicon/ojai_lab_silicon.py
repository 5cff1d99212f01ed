#!/usr/bin/python3
"""Lab only, runs in the guest: lays the sysfs values of a Radeon 890M (gfx1150) over the real tree.

The kernel, its modules, /dev/kfd and /dev/dri are real; what a virtual machine cannot have is the silicon.
This writes a small tree under /run/ojai-lab and bind-mounts it over three folders of /sys, keeping the
real entries that are there, so that code under test reads the production paths as an ordinary user:

  /sys/bus/pci/devices                          always: 0000:c5:00.0, with amdgpu's mem_info_* files. Ubuntu's stock
                                                kernel has an amdgpu of its own, the lab's stock flavour has none
  /sys/class/drm                                only once the amdgpu module is loaded
  /sys/devices/virtual/kfd/kfd/topology/nodes   only once the amdgpu module is loaded

The BIOS carve-out comes from SMBIOS (/sys/class/dmi/id/product_sku, "carveout=BYTES"), where containers
see it too. Only the standard library: the guest has no other.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PCI_ADDRESS = "0000:c5:00.0"
"""Where the 890M sits on the guides' machine."""
PCI_IDS = {"vendor": "0x1002", "device": "0x150e", "class": "0x030000", "revision": "0xc1"}
SUBSYSTEM = {"subsystem_vendor": "0x1f4c", "subsystem_device": "0xb017"}
GFX_TARGET_VERSION = 110500
"""KFD's decimal form of gfx 11.5.0."""
DEFAULT_CARVEOUT = 64 << 30
"""Bytes, when SMBIOS does not say."""
PAGE = 4096
GIB = 1 << 30

RUN = Path("run/ojai-lab")
PCI_DEVICES = Path("sys/bus/pci/devices")
DRM = Path("sys/class/drm")
KFD_NODES = Path("sys/devices/virtual/kfd/kfd/topology/nodes")
MODULES = ("ttm", "amdgpu", "vgem")


def carveout_bytes(root: Path) -> int:
    """Return the BIOS carve-out in bytes, from SMBIOS's SKU field."""
    try:
        text = (root / "sys/class/dmi/id/product_sku").read_text()
    except OSError:
        return DEFAULT_CARVEOUT
    match = re.search(r"carveout=(\d+)", text)
    return int(match.group(1)) if match else DEFAULT_CARVEOUT


def gtt_bytes(root: Path) -> int:
    """Return what amdgpu gives as GTT: TTM's page limit in bytes.

    The parameter reads 0 until a GPU is set up, unless it was given; TTM then takes half of memory.
    """
    try:
        limit = int((root / "sys/module/ttm/parameters/pages_limit").read_text()) * PAGE
    except (OSError, ValueError):
        limit = 0
    if limit:
        return limit
    match = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    return int(match.group(1)) * 1024 // 2 if match else 0


def write(path: Path, value: str) -> None:
    """Write one sysfs-like file: a line, world-readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value + "\n")
    path.chmod(0o444)


def keep_real(real: Path, copy: Path) -> None:
    """Recreate the real folder's entries in the copy: links as they are, plain files with their content."""
    copy.mkdir(parents=True, exist_ok=True)
    if not real.is_dir():
        return
    for entry in sorted(real.iterdir()):
        target = copy / entry.name
        if entry.is_symlink():
            target.symlink_to(entry.readlink())
        elif entry.is_dir():
            keep_real(entry, target)
        else:
            try:
                target.write_text(entry.read_text(errors="replace"))
            except OSError:
                continue
            target.chmod(0o444)


def pci_device(root: Path, folder: Path, driver: bool) -> None:
    """Write the GPU's PCI function, with the memory that amdgpu reports in it."""
    for name, value in {**PCI_IDS, **SUBSYSTEM, "enable": "1", "numa_node": "-1"}.items():
        write(folder / name, value)
    ids = f"{PCI_IDS['vendor'][2:]}:{PCI_IDS['device'][2:]}".upper()
    lines = ["DRIVER=amdgpu"] if driver else []
    lines += ["PCI_CLASS=30000", f"PCI_ID={ids}", f"PCI_SLOT_NAME={PCI_ADDRESS}"]
    write(folder / "uevent", "\n".join(lines))
    if driver:
        (folder / "driver").symlink_to("/sys/bus/pci/drivers/amdgpu")
    vram, gtt = carveout_bytes(root), gtt_bytes(root)
    sizes = {
        "mem_info_vram_total": vram,
        "mem_info_vis_vram_total": vram,
        "mem_info_vram_used": min(vram, 160 << 20),
        "mem_info_gtt_total": gtt,
        "mem_info_gtt_used": min(gtt, 20 << 20),
    }
    for name, size in sizes.items():
        write(folder / name, str(size))


def build_pci(root: Path, out: Path, loaded: bool) -> None:
    """Write the tree for /sys/bus/pci/devices: the real devices and the GPU."""
    keep_real(root / PCI_DEVICES, out)
    pci_device(root, out / PCI_ADDRESS, loaded)


def build_drm(root: Path, out: Path) -> None:
    """Write the tree for /sys/class/drm: the real entries (vgem's) and card1, the GPU's."""
    keep_real(root / DRM, out)
    device = out / "card1" / "device"
    pci_device(root, device, driver=True)
    write(device / "gpu_busy_percent", "0")


def build_kfd(root: Path, out: Path) -> None:
    """Write the tree for KFD's topology: the real CPU node 0 (or one like it) and the GPU as node 1."""
    keep_real(root / KFD_NODES, out)
    if not (out / "0" / "properties").exists():
        write(
            out / "0" / "properties",
            "cpu_cores_count 2\nsimd_count 0\nmem_banks_count 1\ngfx_target_version 0\nvendor_id 0\ndevice_id 0",
        )
        write(out / "0" / "gpu_id", "0")
    node = out / "1"
    properties = {
        "cpu_cores_count": 0,
        "simd_count": 32,
        "mem_banks_count": 1,
        "caches_count": 0,
        "io_links_count": 1,
        "max_waves_per_simd": 16,
        "lds_size_in_kb": 64,
        "wave_front_size": 32,
        "array_count": 4,
        "simd_arrays_per_engine": 2,
        "cu_per_simd_array": 4,
        "simd_per_cu": 2,
        "gfx_target_version": GFX_TARGET_VERSION,
        "vendor_id": int(PCI_IDS["vendor"], 16),
        "device_id": int(PCI_IDS["device"], 16),
        "location_id": 0xC500,
        "domain": 0,
        "drm_render_minor": 128,
        "num_sdma_engines": 1,
        "num_cp_queues": 8,
        "max_engine_clk_fcompute": 2900,
        "local_mem_size": 0,
        # That they are there shows the kernel's fix; how large they are, nobody looks at.
        "cwsr_size": 0x7A1000,
        "ctl_stack_size": 0x7000,
    }
    write(node / "properties", "\n".join(f"{name} {value}" for name, value in properties.items()))
    write(node / "gpu_id", "50638")
    write(node / "name", "ip discovery")
    bank = {"heap_type": 1, "size_in_bytes": carveout_bytes(root), "flags": 0, "width": 128, "mem_clk_max": 2800}
    write(node / "mem_banks" / "0" / "properties", "\n".join(f"{k} {v}" for k, v in bank.items()))


def build(root: Path, out: Path) -> list[tuple[Path, Path]]:
    """Write all trees that apply now under `out`; return (tree, the path under root that it covers)."""
    loaded = (root / "sys/module/amdgpu").is_dir()
    trees = [(out / "pci", PCI_DEVICES)]
    build_pci(root, out / "pci", loaded)
    if loaded:
        build_drm(root, out / "drm")
        build_kfd(root, out / "kfd")
        trees += [(out / "drm", DRM), (out / "kfd", KFD_NODES)]
    return trees


def mounted(target: Path) -> bool:
    """Tell whether something is mounted exactly at the target."""
    expected = str(target)
    return any(line.split()[4] == expected for line in Path("/proc/self/mountinfo").read_text().splitlines())


def down() -> None:
    """Take the trees away again: the real sysfs shows."""
    for covered in (KFD_NODES, DRM, PCI_DEVICES):
        while mounted(Path("/") / covered):
            subprocess.run(["umount", str(Path("/") / covered)], check=True)
    shutil.rmtree(Path("/") / RUN, ignore_errors=True)


def modules() -> None:
    """Load the modules that this kernel has (the stock one has no amdgpu), with the options of modprobe.d."""
    for module in MODULES:
        known = subprocess.run(["modinfo", "-F", "filename", module], check=False, capture_output=True)
        if known.returncode == 0:
            subprocess.run(["modprobe", module], check=True)


def up() -> None:
    """Lay the trees over /sys."""
    down()
    subprocess.run(["udevadm", "settle", "--timeout=60"], check=False)
    root = Path("/")
    for tree, covered in build(root, root / RUN):
        if not (root / covered).is_dir():
            sys.exit(f"ojai-lab-silicon: this kernel has no /{covered}")
        subprocess.run(["mount", "--bind", str(tree), str(root / covered)], check=True)


if __name__ == "__main__":
    actions = {"modules": modules, "up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        sys.exit("usage: silicon modules|up|down")
    actions[sys.argv[1]]()
