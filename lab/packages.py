"""The system packages that the lab needs on the machine that runs it, installed by apt only when missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from ojai.lab.errors import LabError
from ojai.lab.shell import as_root, run, step

QEMU = "qemu-system-x86_64"
QEMU_MINIMUM = 10
"""QEMU 7.2 panicked the guest kernel under multi-threaded emulation; 10.0 runs it."""
QEMU_OLDEST = 7
"""What a release without backports (Ubuntu 24.04 has 8.2) may have: run by KVM, or emulated on one thread."""

PROGRAMS: dict[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "sfdisk": "fdisk",
    "apt-ftparchive": "apt-utils",
    "dpkg-deb": "dpkg",
    "gpg": "gpg",
    "gpg-agent": "gpg-agent",
    "gpgv": "gpgv",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "mount": "mount",
    "umount": "mount",
    "qemu-img": "qemu-utils",
    QEMU: "qemu-system-x86",
}
"""Program expected on PATH (or in sbin) and the Debian package that has it."""

CONTAINER_PROGRAMS: dict[str, str] = {
    **{name: PROGRAMS[name] for name in ("mmdebstrap", "apt-ftparchive", "dpkg-deb", "gpg", "gpg-agent", "gpgv")},
    **{name: PROGRAMS[name] for name in ("ssh", "ssh-keygen", "mount", "umount")},
    "systemd-nspawn": "systemd-container",
    "slirp4netns": "slirp4netns",
    "ip": "iproute2",
    "kill": "procps",
}
"""The same for a lab of containers only, which needs no QEMU and no image of the model server."""

LINE_PROGRAMS: dict[str, str] = {"wirefilter": "vde-wirefilter", "dpipe": "vdeplug", "vde_plug": "vdeplug"}
"""The same for a line with a delay or loss between this machine and the lab's bridge."""

TEST_PROGRAMS: dict[str, str] = {
    **CONTAINER_PROGRAMS,
    "qemu-img": PROGRAMS["qemu-img"],
    "curl": "curl",
    "openssl": "openssl",
    "nft": "nftables",
    "systemd-analyze": "systemd",
}
"""The same for the tests that need no machine, and for `make fresh`."""

BACKPORTS_FILE = Path("/etc/apt/sources.list.d/ojai-lab-backports.sources")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEYRINGS = {
    "debian": (DEBIAN_KEYRING, "debian-archive-keyring"),
    "ubuntu": (Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"), "ubuntu-keyring"),
}
"""For guests of each vendor: the keyring that its archive is checked with, and the package that has it."""
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return where a program is, looking in the sbin folders too (they are not on a user's PATH)."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def qemu_major(version_text: str) -> int:
    """Return QEMU's major version from the text of `qemu-system-x86_64 --version`; 0 if there is none."""
    match = re.search(r"version (\d+)\.", version_text)
    return int(match.group(1)) if match else 0


def backports_source(targets: str, codename: str, keyring: Path | None) -> str:
    """Return a deb822 source for CODENAME-backports, at the URI the machine already uses for CODENAME.

    `targets` is the output of `apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)'`.
    No mirror is written down in this program: the machine's own is used. Raises LabError without one.
    """
    for line in targets.splitlines():
        uri, _, rest = line.partition("|")
        if rest == f"{codename}|main":
            signed_by = f"Signed-By: {keyring}\n" if keyring else ""
            return f"Types: deb\nURIs: {uri}\nSuites: {codename}-backports\nComponents: main\n{signed_by}"
    raise LabError(
        f"no apt source of this machine carries the suite {codename!r} (component main), so the lab cannot "
        f"tell where {codename}-backports is. Install QEMU {QEMU_MINIMUM} or newer by hand and try again."
    )


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _apt(arguments: list[str], what: str) -> None:
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"]
    try:
        run(as_root([*environment, "apt-get", "-q", "-y", *arguments]), what=what)
    except LabError as failed:
        raise LabError(
            f"{failed.message}\nThe lab installs its system packages as root or through sudo; "
            "if you have neither, ask for them: " + " ".join(sorted({*PROGRAMS.values(), *TEST_PROGRAMS.values()}))
        ) from failed


def qemu_version() -> int:
    """Return the major version of the QEMU that is installed; 0 when none is."""
    program = find(QEMU)
    if not program:
        return 0
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    return qemu_major(done.stdout)


def missing(programs: Mapping[str, str] = PROGRAMS, keyrings: Collection[str] = ("debian",)) -> list[str]:
    """Return the packages that have to be installed to have these programs and vendors' keyrings; empty when none."""
    packages = {package for program, package in programs.items() if find(program) is None}
    release = _os_release()
    ubuntu = release.get("ID") == "ubuntu"
    if QEMU in programs and qemu_version() < (QEMU_OLDEST if ubuntu else QEMU_MINIMUM):
        packages |= {"qemu-system-x86", "qemu-utils"}
    packages |= {package for file, package in map(KEYRINGS.__getitem__, keyrings) if not file.exists()}
    return sorted(packages)


def ensure(programs: Mapping[str, str] = PROGRAMS, keyrings: Collection[str] = ("debian",)) -> None:
    """Install what is missing. Adds Debian 12's backports (for QEMU) only where it is needed."""
    expected = missing(programs, keyrings)
    if not expected:
        return
    if shutil.which("apt-get") is None:
        raise LabError(f"this machine has no apt; install by hand: {' '.join(expected)} (QEMU >= {QEMU_MINIMUM})")
    with step(f"installing system packages: {' '.join(expected)}"):
        qemu = [name for name in expected if name.startswith("qemu")]
        release = _os_release()
        backports = f"{release.get('VERSION_CODENAME', '')}-backports"
        old = release.get("ID") == "debian" and int(release.get("VERSION_ID", "0") or 0) < 13
        if qemu and old and not BACKPORTS_FILE.exists():
            targets = run(
                ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"],
                what="reading this machine's apt sources",
            )
            keyring = DEBIAN_KEYRING if DEBIAN_KEYRING.exists() else None
            text = backports_source(targets, release["VERSION_CODENAME"], keyring)
            run(as_root(["tee", str(BACKPORTS_FILE)]), what=f"writing {BACKPORTS_FILE}", stdin=text)
        _apt(["update"], "apt-get update")
        rest = [name for name in expected if name not in qemu]
        if rest:
            _apt(["install", "--no-install-recommends", *rest], "installing system packages")
        if qemu:
            suite = ["-t", backports] if old else []
            _apt(["install", "--no-install-recommends", *suite, *qemu], "installing QEMU")
    still = missing(programs, keyrings)
    if still:
        raise LabError(
            f"after installing, still missing: {' '.join(still)} (QEMU {qemu_version()} found, "
            f"{QEMU_MINIMUM} or newer expected)"
        )


def unpack(package: str, into: Path) -> None:
    """Download a Debian package as any user may, and unpack it into a folder without installing it.

    For a program whose package would start a service of its own (docker-registry listens on every
    interface as soon as it is installed).
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        run(["apt-get", "-q", "download", package], what=f"downloading {package}", cwd=into)
    except LabError:
        _apt(["update"], "apt-get update")
        run(["apt-get", "-q", "download", package], what=f"downloading {package}", cwd=into)
    for deb in into.glob(f"{package}_*.deb"):
        run(["dpkg-deb", "-x", deb, into], what=f"unpacking {deb.name}")
        deb.unlink()
