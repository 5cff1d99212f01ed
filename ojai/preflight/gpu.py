"""What makes a host's GPU or its driver unfit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ojai import accelerators, kernels
from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings

#: Drivers that leave a GPU to others: ROCm does not see it then.
_NOT_COMPUTE = frozenset({"vfio-pci", "pci-stub", "radeon"})

#: `blacklist amdgpu`, `module_blacklist=a,amdgpu`, `rd.driver.blacklist=amdgpu`, `install amdgpu /bin/false`.
_OFF = re.compile(
    r"nomodeset|\S*blacklist=(\S*,)?amdgpu(,\S*)?|\s*blacklist\s+amdgpu\s*(#.*)?|\s*install\s+amdgpu\s+\S*(true|false)\b.*|"
    r"amdgpu\.modeset=0|\s*options\s+amdgpu\s(.*\s)?modeset=0\b.*"
)
#: `vfio-pci.ids=1002:150e`, `options vfio-pci ids=1002:150e,1002:1640`.
_HANDED_OUT = re.compile(r"(?:^|\s)(?:vfio[-_]pci|pci[-_]stub)(?:\.|\s(?:.*\s)?)ids=(\S+)")


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why the GPU, its driver or its firmware will not do."""
    yield from _container(report)
    yield from _gpu(settings, report)
    yield from _second_gpu(settings, report)
    yield from _dkms(report)
    yield from _old_kernel(settings, report)
    if expected_kernel_runs(settings, report) or _kept_off(settings, report):
        yield from driver_missing(settings, report)
    if not expected_kernel_runs(settings, report):
        yield from _next_boot(settings, report)
        yield from _newer_kernel(settings, report)
    else:
        yield from _saves(settings, report)
    yield from _firmware(settings, report)


def expected_kernel_runs(settings: HostSettings, report: Report) -> bool:
    """Whether the running kernel is of the flavour that is asked for and new enough: then the driver must be up."""
    return _fits(settings, report.kernel)


def expected_kernel_installed(settings: HostSettings, report: Report) -> bool:
    """Whether /boot has such a kernel."""
    return any(_fits(settings, release) for release in report.space.kernels)


def _old_kernel(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """The kernel's package is there, and what it brought is too old: it is not installed again."""
    newest = kernels.newest((*report.space.kernels, report.kernel), settings.kernel_flavour)
    if newest is None or _fits(settings, newest.text) or settings.kernel_package not in report.apt.installed:
        return
    held = settings.kernel_package in report.apt.held
    unhold = f"sudo apt-mark unhold {settings.kernel_package} && " if held else ""
    yield FailedCheck(
        "kernel",
        f"{newest.text} the newest of {settings.kernel_package}{', on hold' * held}",
        f"{settings.floor} or newer",
        f"`{unhold}sudo apt-get update && sudo apt-get install --only-upgrade {settings.kernel_package}`",
    )


def _fits(settings: HostSettings, release: str) -> bool:
    try:
        found = kernels.parse(release)
    except ValueError:
        return False
    return found.flavour == settings.kernel_flavour and found.order >= kernels.parse(settings.floor).order


def driver_missing(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What a driver that is up would show: without it no server can start, whatever kernel runs."""
    gpu = accelerators.load(settings.accelerator)
    if report.gpu.container or not any(_identity(value) in gpu.pci_ids for value in report.gpus.values()):
        return  # said already
    lacks = []
    if report.vram_total is None:
        lacks.append("no mem_info_vram_total in the GPU's folder in /sys/bus/pci/devices")
    if not report.gfx_versions and (report.gpu.devices is not None or expected_kernel_runs(settings, report)):
        lacks.append("no GPU node in /sys/class/kfd")
    if report.gpu.devices is not None:
        minors = [minor for gfx, minor in report.gpu.nodes if gfx == gpu.gfx_target_version and minor is not None]
        render = f"/dev/dri/renderD{minors[0]}" if minors else "/dev/dri/renderD"
        if "/dev/kfd" not in report.gpu.devices:
            lacks.append("no /dev/kfd")
        if not any(device == render if minors else device.startswith(render) for device in report.gpu.devices):
            lacks.append(f"no {render}{'' if minors else '*'}")
    if not lacks:
        return
    kept_off = _kept_off(settings, report)
    if kept_off:
        lacks.append(f"and what keeps the driver off: {'; '.join(kept_off)}")
        todo = "delete that, run `sudo update-grub` and `sudo update-initramfs -u -k all`, reboot, and deploy again"
    elif not report.amdgpu_module:
        todo = "this kernel has no amdgpu module: `sudo apt install linux-modules-extra-$(uname -r)`, reboot"
    else:
        todo = (
            "`sudo dmesg | grep -iE 'amdgpu|kfd|drm'` on the host says why; reboot, which also creates a deleted "
            "device again, and deploy again"
        )
    if not expected_kernel_runs(settings, report):
        never = " (kernel_reboot is `never`)" if settings.kernel_reboot == "never" else ""
        first = f"reboot into the {settings.kernel_flavour} kernel, {settings.floor} or newer{never}, and deploy again"
        todo = todo if kept_off else first
    yield FailedCheck(
        "GPU driver",
        f"kernel {report.kernel} running with {', '.join(lacks)}",
        "the kernel's amdgpu to have set up the GPU: its memory, its KFD node, /dev/kfd and its render node",
        todo,
    )


def _kept_off(settings: HostSettings, report: Report) -> list[str]:
    """Settings that keep the driver from a GPU that it has not set up."""
    gpu = accelerators.load(settings.accelerator)
    if _is_up(settings, report):
        return []
    found = [f"{word} in /proc/cmdline" for word in report.gpu.boot_words if _off(settings, word)]
    found += _off_at_boot(settings, report)
    found += [
        f"{report.gpu.drivers[address]} bound to {address}"
        for address, value in report.gpus.items()
        if _identity(value) in gpu.pci_ids and report.gpu.drivers.get(address) in _NOT_COMPUTE
    ]
    return found


def _is_up(settings: HostSettings, report: Report) -> bool:
    gpu = accelerators.load(settings.accelerator)
    return report.vram_total is not None and gpu.gfx_target_version in report.gfx_versions


def _off(settings: HostSettings, text: str) -> bool:
    """Whether a kernel parameter or a line of modprobe keeps the driver off."""
    pci_ids = accelerators.load(settings.accelerator).pci_ids
    handed = _HANDED_OUT.search(text)
    return bool(_OFF.fullmatch(text) or (handed and any(gpu_id in handed[1].lower() for gpu_id in pci_ids)))


def _off_at_boot(settings: HostSettings, report: Report) -> list[str]:
    """What will keep the driver off after the next boot."""
    words = [word for word in report.gpu.grub_words if _off(settings, word)]
    lines = (entry.partition(":")[::2] for entry in report.gpu.module_options)
    return [f"{word} in /etc/default/grub or its grub.d" for word in words] + [
        f"{line.strip()} in {file}" for file, line in lines if _off(settings, line)
    ]


def _next_boot(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What the reboot into the kernel that is asked for would bring: another kernel, or a GPU without its driver."""
    off = _off_at_boot(settings, report)
    if off and not any(driver_missing(settings, report)):
        yield FailedCheck(
            "GPU driver",
            f"what will keep it off after the reboot: {'; '.join(off)}",
            "nothing that does",
            "delete that, run `sudo update-grub` and `sudo update-initramfs -u -k all`, and deploy again",
        )
    entry = report.gpu.boot_entry
    release = re.search(r"\d+\.\d+\.\d+-[\w.-]*?[a-z][\w-]*?(?=-advanced|-recovery|\W|$)", entry)
    if (release and not _fits(settings, release[0])) or re.fullmatch(r"\d+>\d+|[1-9]\d*", entry):
        yield FailedCheck(
            "boot entry",
            f"GRUB told to boot {entry}",
            f"its first entry, which is the newest kernel: {settings.kernel_flavour}, {settings.floor} or newer",
            "set GRUB_DEFAULT=0 in /etc/default/grub (and in /etc/default/grub.d), run `sudo update-grub`",
        )


def _newer_kernel(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """A kernel of another flavour that GRUB would boot after the reboot, because it is the newest."""
    flavour = settings.kernel_flavour
    ours = kernels.newest((*report.space.kernels, *report.apt.kernels), flavour)
    if ours is None or report.gpu.boot_entry or flavour in report.gpu.boot_flavours[:1]:
        return
    for release in report.space.kernels:
        try:
            found = kernels.parse(release)
        except ValueError:
            continue
        if found.flavour != flavour and found.order > ours.order:
            yield FailedCheck(
                "kernel",
                f"{release} installed, which GRUB boots before {ours.text}",
                f"the newest kernel to be one of the flavour {flavour}",
                f"keep it and put GRUB_FLAVOUR_ORDER={flavour} into /etc/default/grub.d/60-flavour.cfg, or use it: set "
                f"kernel_package and kernel_flavour, linux-generic-hwe-24.04 and generic for Ubuntu's own",
            )
            return


def _identity(value: str) -> str:
    """``1002:150e`` of sysfs's ``0x1002:0x150e``."""
    return value.replace("0x", "")


def _container(report: Report) -> Iterator[FailedCheck]:
    if report.gpu.container:
        yield FailedCheck(
            "machine",
            f"a container ({report.gpu.container})",
            "a machine or a virtual machine: a container has no kernel, driver or memory limit of its own",
            "deploy to a machine with Ubuntu 24.04 on it, or to a virtual machine that has the GPU passed through; a "
            "container has the kernel, the driver and the TTM limit of its host, and they are set there",
        )


def _gpu(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    gpu = accelerators.load(settings.accelerator)
    found = {address: _identity(value) for address, value in report.gpus.items()}
    if not any(value in gpu.pci_ids for value in found.values()):
        other = next(filter(None, map(accelerators.by_pci_id, found.values())), None)
        unserved = [gpu for gpu in accelerators.unserved().values() if set(gpu.pci_ids) & set(found.values())]
        if unserved and not other:
            yield FailedCheck(
                "GPU",
                "; ".join(map(str, unserved)),
                f"{gpu.title} (PCI id {' or '.join(gpu.pci_ids)})",
                f"use a machine with {gpu.name} for vLLM",
            )
            return
        yield FailedCheck(
            "GPU",
            ", ".join(f"{value} at {address}" for address, value in found.items())
            or "no display device on the PCI bus",
            f"{gpu.title} (PCI id {' or '.join(gpu.pci_ids)})",
            f"set accelerator to {other.name}" if other else f"use a machine with {gpu.name}, or correct `accelerator`",
        )
    elif report.gfx_versions and gpu.gfx_target_version not in report.gfx_versions:
        yield FailedCheck(
            "GPU instruction set",
            f"KFD names gfx_target_version {', '.join(map(str, report.gfx_versions))}",
            f"{gpu.gfx_target_version} ({gpu.name})",
            "unset HSA_OVERRIDE_GFX_VERSION on the host, or correct `accelerator`",
        )


def _second_gpu(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """The engine is given all of /dev/dri and one HSA_OVERRIDE_GFX_VERSION: which of two GPUs it takes is not known."""
    gpu = accelerators.load(settings.accelerator)
    amd = {address: _identity(value) for address, value in report.gpus.items() if value.startswith("0x1002:")}
    ours = next((address for address, value in amd.items() if value in gpu.pci_ids), None)
    if ours is None:
        return
    others = {a: value for a, value in amd.items() if a != ours and report.gpu.drivers.get(a) not in _NOT_COMPUTE}
    # KFD is what ROCm sees. Before the kernel runs that is to run, its own driver may take more than today's does.
    if len(report.gfx_versions) < 2 and (not others or expected_kernel_runs(settings, report)):
        return
    named = ", ".join(f"{value} at {address}" for address, value in others.items())
    ids = ",".join(sorted({value for value in others.values() if value not in gpu.pci_ids}))
    hand_out = (
        f", or keep amdgpu off it: `options vfio-pci ids={ids}` and `softdep amdgpu pre: vfio-pci` in "
        "/etc/modprobe.d/vfio.conf, `sudo update-initramfs -u -k all`, reboot"
    )
    yield FailedCheck(
        "second AMD GPU",
        f"beside {amd[ours]} at {ours} also {named or f'{len(report.gfx_versions) - 1} more in /sys/class/kfd'}",
        f"one AMD GPU that ROCm can use ({gpu.name}): the engine might take the other",
        f"take the other card out{hand_out if ids else ''}",
    )


def _dkms(report: Report) -> Iterator[FailedCheck]:
    # /sys/module/amdgpu/version is no check: only the DKMS driver has it, its absence is normal (ollama#3425).
    expected = "the kernel's own amdgpu, which AMD requires on Ryzen"
    packages = ", ".join(f"{name} {version}" for name, version in report.gpu.dkms_packages.items())
    if packages:
        names = " ".join(report.gpu.dkms_packages)
        found, todo = f"AMD's DKMS driver installed ({packages})", f"`sudo apt purge {names}`, then reboot"
    elif "loaded" in report.dkms or "/updates/dkms/" in report.amdgpu_module:
        module = report.amdgpu_module if "/updates/dkms/" in report.amdgpu_module else "amdkcl is loaded"
        found = f"AMD's DKMS driver in use ({module})"
        todo = (
            "`sudo amdgpu-install --uninstall --rocmrelease=all`, or without that program `sudo dkms remove "
            "amdgpu/VERSION --all` (`dkms status` names the version), then reboot"
        )
    elif report.dkms:
        found = "/var/lib/dkms/amdgpu left over from AMD's DKMS driver, which is neither installed nor in use"
        todo = "`sudo rm -r /var/lib/dkms/amdgpu`: dkms would build from it for the next kernel, or fail over it"
    else:
        return
    yield FailedCheck("GPU driver", found, expected, todo)


def _saves(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What the fix for RDNA 3.5 shows, whatever the kernel calls itself."""
    gpu = accelerators.load(settings.accelerator)
    if report.gpu.saves.get(gpu.gfx_target_version) is False:
        yield FailedCheck(
            "GPU driver",
            f"kernel {report.kernel} whose KFD node of {gpu.name} names no cwsr_size and ctl_stack_size",
            "both: a kernel without them lacks the fix for RDNA 3.5, whatever its number",
            f"install {settings.kernel_package} and boot it, and remove a driver that is not the kernel's own",
        )


def _firmware(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    loaded = [bad for bad in settings.bad_firmware if bad.startswith("0x") and int(bad, 16) in report.gpu.mes]
    for bad in loaded:
        yield FailedCheck(
            "firmware",
            f"MES {bad} loaded",
            "another version: this one hangs the GPU or faults under ROCm",
            "`sudo apt install --only-upgrade linux-firmware && sudo update-initramfs -u -k all`, reboot, and see "
            "`sudo grep MES /sys/kernel/debug/dri/*/amdgpu_firmware_info`; firmware_known_bad names it",
        )
    if report.gpu.mes:
        return  # what is loaded counts, not what a package is called
    for package, version in report.firmware.items():
        for bad in settings.bad_firmware:
            if bad in version:
                yield FailedCheck(
                    "firmware",
                    f"{package} {version}",
                    f"any other than {bad}",
                    f"`sudo apt install --only-upgrade {package}`; firmware_known_bad names it as one that breaks ROCm",
                )
