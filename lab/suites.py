"""The systems that a lab guest can be: one entry a suite, with what differs from one to the next.

A guest of Debian's has Ubuntu 24.04's os-release and stands for it; a guest of noble is Ubuntu 24.04 itself.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from ojai.lab import packages
from ojai.lab.errors import LabError

UBUNTU_ARCHIVE = "http://archive.ubuntu.com/ubuntu"
"""mmdebstrap's own default for Ubuntu's suites."""
REACHABLE_SECONDS = 3
"""How long Ubuntu's archive may take to answer, where no suite is asked for."""

COMMON = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "python3",
    "sudo",
    "iproute2",
    "iputils-ping",
    "netbase",
    "ca-certificates",
    "udev",
    "procps",
    "kmod",
    "curl",
    "gpg",
    "gpgv",
    "zstd",
    "e2fsprogs",
    "adduser",
    "apt-utils",
    "debconf-utils",
    "initramfs-tools",
    "linux-base",
    "grub2-common",
    "grub-pc-bin",
)
"""Packages of every guest, beyond what apt itself needs."""

ASKED_FOR = (
    "docker.io",
    "pciutils",
    "rsyslog",
    "logrotate",
    "libatomic1",
    "libquadmath0",
    "libdrm-amdgpu1",
    "libnuma1",
)
"""Packages that a deploy may ask for on every guest: downloaded into its apt cache natively, not installed."""


@dataclass(frozen=True)
class Suite:
    """One system of a guest.

    + vendor: ``debian`` or ``ubuntu``, whose archive and keyring it is built from
    + components: of that archive
    + stock: the suite of the kernel that the guest boots with at first, in the place of Ubuntu's GA kernel
    + stock_kernel: the package that depends on that kernel
    + kernel: the package of the kernel that the deploy installs, in the place of Ubuntu's OEM kernel
    + include: packages of this suite's guest that the others lack
    + ready: packages installed in the build, that only an emulated machine would take minutes for
    + docker: the packages that have Docker Engine and its client
    + newer_docker: the suite that has a Docker with containerd's image store for it, empty for its own; None for none
    + expired: whether a mirror's copy may be past its Valid-Until, as that of Debian's testing may
    + data: what an inventory says of the guest, because it is not the system that the defaults are for
    """

    name: str
    vendor: str = "debian"
    components: str = "main"
    stock: str = ""
    stock_kernel: str = "linux-image-cloud-amd64"
    kernel: str = "linux-image-amd64"
    include: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    docker: tuple[str, ...] = ("docker.io",)
    newer_docker: str | None = None
    expired: bool = False
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that are installed in its guest."""
        return (*COMMON, *self.include)

    @property
    def preseed(self) -> tuple[str, ...]:
        """Packages that are downloaded into its apt cache."""
        return tuple(dict.fromkeys((self.kernel, *self.docker, *ASKED_FOR)))

    @property
    def inventory(self) -> dict[str, object]:
        """What an inventory says of a guest of it: settings of the host."""
        docker = {} if self.docker == ("docker.io",) else {"docker_packages": list(self.docker)}
        return {**self.data, **docker}


def _debian_kernel(floor: str) -> dict[str, str]:
    """Debian's ordinary kernel stands for the OEM kernel, over the stock cloud flavour."""
    return {"kernel_package": "linux-image-amd64", "kernel_flavour": "amd64", "kernel_floor": floor}


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        # GRUB would boot a cloud kernel of its own before an ordinary one of the same version.
        # Its Docker starts no container where the kernel has AppArmor but there is no parser; Ubuntu always has it.
        Suite("bookworm", stock="bullseye", include=("apparmor",), data=_debian_kernel("6.1.0")),
        Suite(
            "trixie",
            stock="bookworm",
            docker=("docker.io", "docker-cli"),
            newer_docker="forky",
            data=_debian_kernel("6.12.0"),
        ),
        Suite(
            "forky",
            stock="trixie",
            include=("mount",),  # systemd no longer depends on it
            docker=("docker.io", "docker-cli"),
            newer_docker="",
            expired=True,
            data=_debian_kernel("6.12.0"),
        ),
        Suite(
            "noble",
            vendor="ubuntu",
            components="main,universe",
            stock="noble",
            stock_kernel="linux-image-virtual",
            kernel="linux-oem-6.17",
            newer_docker="",
            include=("apparmor", "needrestart", "unattended-upgrades", "ubuntu-pro-client"),
            ready=("linux-firmware",),
        ),
    )
}

STAND_IN = "trixie"
"""The suite that stands for Ubuntu 24.04 where Ubuntu's archive cannot be reached."""
REAL = "noble"


def reachable(archive: str = UBUNTU_ARCHIVE, timeout: float = REACHABLE_SECONDS) -> bool:
    """Tell whether Ubuntu's archive answers, within a few seconds."""
    try:
        request = urllib.request.Request(f"{archive}/dists/{REAL}/InRelease", method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def chosen(name: str | None) -> Suite:
    """The suite of that name; without one Ubuntu's own on an Ubuntu whose archive answers, else the stand-in.

    An Ubuntu is a machine that has the keys of Ubuntu's archive.
    """
    if name is None:
        name = REAL if packages.KEYRINGS["ubuntu"][0].exists() and reachable() else STAND_IN
    return of(name)


def of(name: str) -> Suite:
    """The suite of that name; LabError for one that there is not."""
    if name not in SUITES:
        raise LabError(f"there is no suite {name!r} (there are: {', '.join(SUITES)})")
    return SUITES[name]
