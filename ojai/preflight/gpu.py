"""What makes a host's GPU or its driver unfit."""

from __future__ import annotations

from collections.abc import Iterator

from ojai import accelerators
from ojai.facts.report import Report
from ojai.preflight import FailedCheck
from ojai.settings import HostSettings


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why the GPU, its driver or its firmware will not do."""
    yield from _gpu(settings, report)
    yield from _driver(report)
    yield from _firmware(settings, report)


def _gpu(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    gpu = accelerators.load(settings.accelerator)
    expected = [identity.replace(":", " ") for identity in gpu.pci_ids]
    found = {address: value.replace("0x", "").replace(":", " ") for address, value in report.gpus.items()}
    if not any(value in expected for value in found.values()):
        other = next(
            (
                accelerators.by_pci_id(v.replace(" ", ":"))
                for v in found.values()
                if accelerators.by_pci_id(v.replace(" ", ":"))
            ),
            None,
        )
        yield FailedCheck(
            "GPU",
            ", ".join(f"{v.replace(' ', ':')} at {a}" for a, v in found.items()) or "no display device on the PCI bus",
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


def _driver(report: Report) -> Iterator[FailedCheck]:
    # /sys/module/amdgpu/version is no check: only the DKMS driver has it, its absence is normal (ollama#3425).
    if report.dkms or "/updates/dkms/" in report.amdgpu_module:
        yield FailedCheck(
            "GPU driver",
            f"amdgpu from DKMS ({report.amdgpu_module or ', '.join(report.dkms)})",
            "the kernel's own amdgpu, which AMD requires on Ryzen",
            "`sudo amdgpu-install --uninstall --rocmrelease=all` or `sudo apt purge amdgpu-dkms`, then reboot",
        )


def _firmware(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    for package, version in report.firmware.items():
        for bad in settings.firmware_known_bad:
            if bad in version:
                yield FailedCheck(
                    "firmware",
                    f"{package} {version}",
                    f"any other than {bad}",
                    f"`sudo apt install --only-upgrade {package}`; it breaks ROCm on RDNA 3.5 and was recalled",
                )
