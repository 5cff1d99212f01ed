"""The kernel that AMD asks for runs, with its own GPU driver, and the devices are there."""

import pytest

from ojai import accelerators, kernels

pytestmark = pytest.mark.silicon


def test_running_kernel_is_of_the_flavour_and_new_enough(mini):
    release = kernels.parse(mini.text("uname -r"))
    assert release.flavour == mini.settings.kernel_flavour
    assert release.order >= kernels.parse(mini.settings.floor).order


def test_no_newer_kernel_of_the_flavour_waits_for_a_reboot(mini):
    installed = mini.text("ls /lib/modules").split()
    images = mini.text("ls /boot").split()
    flavour = mini.settings.kernel_flavour
    booted = kernels.parse(mini.text("uname -r"))
    newest = kernels.newest(tuple(name for name in installed if f"vmlinuz-{name}" in images), flavour)
    assert newest is not None, f"no {flavour} kernel is installed"
    assert booted.text == newest.text


def test_next_boot_finds_what_it_needs(mini):
    release = mini.text("uname -r")
    expected = [f"/boot/vmlinuz-{release}"]
    if mini.run("command -v update-initramfs").rc == 0:
        expected.append(f"/boot/initrd.img-{release}")
    assert [path for path in expected if not mini.host.file(path).exists] == []
    if mini.run("command -v update-grub").rc == 0:
        found = mini.run(f"grep -F /vmlinuz-{release} /boot/grub/grub.cfg")
        assert found.rc == 0, "grub's menu does not have the running kernel"


def test_metapackage_is_installed_so_that_updates_keep_coming(mini):
    assert mini.text(f"dpkg-query -W -f '${{db:Status-Status}}' {mini.settings.kernel_package}") == "installed"


def test_driver_is_the_kernels_own(mini):
    module = mini.text("PATH=$PATH:/sbin:/usr/sbin modinfo -F filename amdgpu")
    assert "/updates/dkms/" not in module
    assert mini.host.file(module).exists, f"{module} is not there"
    assert not mini.host.file("/sys/module/amdkcl").exists


def test_gpu_is_the_one_the_inventory_names(mini):
    gpu = accelerators.load(mini.settings.accelerator)
    versions = mini.text("sed -n 's/^gfx_target_version //p' /sys/class/kfd/kfd/topology/nodes/*/properties").split()
    assert str(gpu.gfx_target_version) in versions
    assert mini.host.file("/dev/kfd").exists
    assert mini.text("ls /dev/dri").find("renderD") >= 0


def test_gpu_memory_can_be_read(mini):
    # Without it nobody knows whether what is asked for fits.
    found = mini.run("cat /sys/bus/pci/devices/*/mem_info_vram_total").stdout.split()
    assert any(int(size) > 0 for size in found), "no mem_info_vram_total of amdgpu's"


def test_kfd_shows_the_fix_for_rdna_3_5(mini):
    gpu = accelerators.load(mini.settings.accelerator)
    nodes = mini.text("grep -l '^gfx_target_version [1-9]' /sys/class/kfd/kfd/topology/nodes/*/properties").split()
    shown = [mini.text(f"cat {node}").split() for node in nodes]
    of_gpu = [words for words in shown if str(gpu.gfx_target_version) in words]
    assert of_gpu, f"no node of {gpu.name}"
    for words in of_gpu:
        assert {"cwsr_size", "ctl_stack_size"} <= set(words), "this kernel's KFD lacks the fix, whatever its number"


def test_firmware_is_not_a_release_that_breaks_rocm(mini):
    bad = mini.settings.bad_firmware
    # What is loaded counts. Where the kernel does not show it, the package's version is all there is.
    loaded = mini.run("grep -h '^MES feature' /sys/kernel/debug/dri/*/amdgpu_firmware_info").stdout
    versions = {int(line.split("firmware version: ")[1].split()[0], 16) & 0xFFF for line in loaded.splitlines()}
    if versions:
        assert versions.isdisjoint(int(word, 16) for word in bad if word.startswith("0x"))
        return
    found = mini.run("dpkg-query -W -f '${Package} ${Version}\\n' 'linux-firmware*'").stdout
    assert [word for word in bad if word in found] == []


def test_the_gpu_may_borrow_what_the_inventory_says_and_never_more_than_there_is(mini):
    shown = mini.run("cat /sys/module/ttm/parameters/pages_limit")
    if shown.rc != 0:
        assert mini.settings.memory_regime != "gtt", "ttm is not loaded"
        return
    pages = int(shown.stdout)
    total = int(mini.text("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) * 1024
    # A limit left over from before the BIOS carve-out was raised lets the GPU ask for more than there is.
    assert pages * 4096 <= total, f"{pages} pages are in force, {total // 4096} are there: never more than there is"
    if mini.settings.memory_regime == "gtt":
        assert pages == mini.settings.gtt_limit // 4096


def test_no_file_lets_the_gpu_borrow_more_than_there_is(mini):
    total = int(mini.text("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) * 1024
    shown = mini.run(
        "grep -sHo 'pages_limit=[0-9]*' /etc/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf /proc/cmdline"
    ).stdout
    assert [line for line in shown.splitlines() if int(line.rsplit("=", 1)[1]) * 4096 > total] == []
