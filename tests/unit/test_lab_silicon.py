"""The lab-only script that lays the missing silicon's sysfs over the real one, run on a tree of its own."""

import importlib.util
import os
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "lab" / "silicon" / "ojai_lab_silicon.py"


@pytest.fixture(scope="module")
def silicon():
    spec = importlib.util.spec_from_file_location("ojai_lab_silicon", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    """A machine's /sys as a guest on the second kernel has it: real devices, vgem, amdgpu without silicon."""
    root = tmp_path / "root"
    real = root / "sys/devices/pci0000:00/0000:00:01.0"
    real.mkdir(parents=True)
    (real / "vendor").write_text("0x1af4\n")
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    (root / "sys/bus/pci/devices/0000:00:01.0").symlink_to("../../../devices/pci0000:00/0000:00:01.0")
    (root / "sys/class/drm").mkdir(parents=True)
    (root / "sys/class/drm/renderD128").symlink_to("../../devices/platform/vgem/drm/renderD128")
    (root / "sys/class/drm/version").write_text("drm 1.1.0 20060810\n")
    (root / "sys/class/dmi/id").mkdir(parents=True)
    (root / "sys/class/dmi/id/product_sku").write_text("carveout=17179869184\n")
    (root / "sys/module/ttm/parameters").mkdir(parents=True)
    (root / "sys/module/ttm/parameters/pages_limit").write_text("0\n")
    (root / "sys/module/amdgpu").mkdir(parents=True)
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal:        3000000 kB\nMemFree: 1 kB\n")
    return root


def build(silicon, root, tmp_path):
    return {str(path): tree for tree, path in silicon.build(root, tmp_path / "out")}


def test_stock_kernel_shows_the_gpu_on_the_bus_and_nothing_else(silicon, root, tmp_path):
    (root / "sys/module/amdgpu").rmdir()
    trees = build(silicon, root, tmp_path)
    assert list(trees) == ["sys/bus/pci/devices"]
    gpu = trees["sys/bus/pci/devices"] / "0000:c5:00.0"
    assert (gpu / "vendor").read_text() == "0x1002\n"
    assert (gpu / "device").read_text() == "0x150e\n"
    assert (gpu / "class").read_text() == "0x030000\n"
    assert "DRIVER=" not in (gpu / "uevent").read_text()


def test_real_devices_stay(silicon, root, tmp_path):
    trees = build(silicon, root, tmp_path)
    link = trees["sys/bus/pci/devices"] / "0000:00:01.0"
    assert link.is_symlink()
    assert str(link.readlink()) == "../../../devices/pci0000:00/0000:00:01.0"
    assert (trees["sys/class/drm"] / "renderD128").is_symlink()
    assert (trees["sys/class/drm"] / "version").read_text().startswith("drm")


def test_carveout_of_the_bios_is_the_vram(silicon, root, tmp_path):
    device = build(silicon, root, tmp_path)["sys/class/drm"] / "card1" / "device"
    for name in ("mem_info_vram_total", "mem_info_vis_vram_total"):
        assert int((device / name).read_text()) == 16 << 30
    assert "PCI_ID=1002:150E" in (device / "uevent").read_text().splitlines()
    assert "DRIVER=amdgpu" in (device / "uevent").read_text().splitlines()


def test_without_a_carveout_in_smbios_it_is_64_gib(silicon, root, tmp_path):
    (root / "sys/class/dmi/id/product_sku").write_text("Not Specified\n")
    assert silicon.carveout_bytes(root) == 64 << 30
    (root / "sys/class/dmi/id/product_sku").unlink()
    assert silicon.carveout_bytes(root) == 64 << 30


def test_gtt_is_half_of_memory_until_ttm_is_told_otherwise(silicon, root):
    assert silicon.gtt_bytes(root) == 3000000 * 1024 // 2
    (root / "sys/module/ttm/parameters/pages_limit").write_text("262144\n")
    assert silicon.gtt_bytes(root) == 1 << 30


def test_kfd_topology_has_a_cpu_and_a_gfx1150(silicon, root, tmp_path):
    nodes = build(silicon, root, tmp_path)["sys/devices/virtual/kfd/kfd/topology/nodes"]

    def properties(node):
        return dict(line.split() for line in (nodes / node / "properties").read_text().splitlines())

    assert properties("0")["gfx_target_version"] == "0"
    gpu = properties("1")
    assert gpu["gfx_target_version"] == "110500"
    assert gpu["simd_count"] == "32"
    assert int(gpu["device_id"]) == 0x150E
    assert gpu["drm_render_minor"] == "128"


def test_the_kernels_own_cpu_node_is_kept(silicon, root, tmp_path):
    node = root / "sys/devices/virtual/kfd/kfd/topology/nodes/0"
    node.mkdir(parents=True)
    (node / "properties").write_text("cpu_cores_count 2\ngfx_target_version 0\n")
    (node / "gpu_id").write_text("0\n")
    nodes = build(silicon, root, tmp_path)["sys/devices/virtual/kfd/kfd/topology/nodes"]
    assert (nodes / "0" / "properties").read_text() == "cpu_cores_count 2\ngfx_target_version 0\n"


def test_every_file_is_readable_by_ordinary_users(silicon, root, tmp_path):
    build(silicon, root, tmp_path)
    files = [Path(top) / name for top, _, names in os.walk(tmp_path / "out") for name in names]
    plain = [file for file in files if not file.is_symlink()]
    assert len(plain) > 20
    assert all(file.stat().st_mode & 0o777 == 0o444 for file in plain)
