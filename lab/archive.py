"""A small signed apt archive that stands for repo.radeon.com: same paths, same package names and versions.

What is in the packages is the lab's own and says so. The archive is signed with a key made for it; only
the public half is kept.
"""

from __future__ import annotations

import gzip
import re
import shutil
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from ojai.lab import image
from ojai.lab.errors import LabError
from ojai.lab.shell import run, step

ORIGIN = "repo.radeon.com"
"""Release files carry it, so that the pin of AMD's guide (o=repo.radeon.com) matches."""
ROCM_SUITE = Path("rocm/apt/7.2")
GRAPHICS_SUITE = Path("graphics/7.2/ubuntu")
AMDGPU_SUITE = Path("amdgpu/30.30/ubuntu")
"""Only ``amdgpu-install`` adds it: a host that somebody set up by hand has it, a host of ojai's never."""
KEY_PATH = Path("rocm/rocm.gpg.key")
PREFIX = "/opt/rocm-7.2.0"
BUILD = "70200-43~24.04"
"""ROCm 7.2.0's package version suffix, as `dpkg -l` on the guides' machine showed it."""
NOTE = "Lab stand-in of ojai: same name and version as AMD's package, none of its content."


@dataclass(frozen=True)
class Package:
    """One package of the archive: its control fields and its files (path in the package → text)."""

    name: str
    version: str
    depends: str = ""
    files: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)


CORE_SCRIPTS = {
    "postinst": f"""\
        #!/bin/sh
        set -e
        [ "$1" != configure ] || update-alternatives --quiet --install /opt/rocm rocm {PREFIX} 70200
        """,
    "prerm": f"""\
        #!/bin/sh
        set -e
        [ "$1" = upgrade ] || update-alternatives --quiet --remove rocm {PREFIX}
        """,
}

ROCMINFO = """\
    #!/bin/sh
    # Lab stand-in for rocminfo: prints the agents of KFD's topology in rocminfo's layout. No HSA runtime.
    nodes=${OJAI_KFD_NODES:-/sys/class/kfd/kfd/topology/nodes}
    kfd=${OJAI_KFD_DEVICE:-/dev/kfd}
    if [ ! -d "$nodes" ]; then
      echo "ROCk module is NOT loaded, possibly no GPU devices"
      exit 1
    fi
    echo "ROCk module is loaded"
    if ! ( : <> "$kfd" ) 2>/dev/null; then
      echo "Unable to open $kfd read-write: Permission denied"
      echo "$(id -un) is not member of \\"render\\" group, the default DRM access group. Users must be a member"
      echo "of the \\"render\\" group or another DRM access group in order for ROCm applications to run successfully."
      exit 1
    fi
    echo "=====================    "
    echo "HSA System Attributes    "
    echo "=====================    "
    echo "Runtime Version:         lab stand-in (no HSA runtime)"
    echo
    echo "==========               "
    echo "HSA Agents               "
    echo "==========               "
    agent=0
    for node in "$nodes"/*/; do
      value() { sed -n "s/^$1 //p" "$node/properties"; }
      agent=$((agent + 1))
      gfx=$(value gfx_target_version)
      echo "*******                  "
      echo "Agent $agent                  "
      echo "*******                  "
      if [ "${gfx:-0}" -eq 0 ]; then
        echo "  Name:                    $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n1)"
        echo "  Vendor Name:             CPU                                "
        echo "  Device Type:             CPU                                "
      else
        printf '  Name:                    gfx%d%d%x\\n' $((gfx / 10000)) $((gfx / 100 % 100)) $((gfx % 100))
        echo "  Marketing Name:          AMD Radeon 890M Graphics (ojai lab)"
        echo "  Vendor Name:             AMD                                "
        echo "  Device Type:             GPU                                "
        printf '  Chip ID:                 %d(0x%x)\\n' "$(value device_id)" "$(value device_id)"
        echo "  Compute Unit:            $(($(value simd_count) / 2))"
      fi
    done
    echo "*** Done ***             "
    """

AMD_SMI = """\
    #!/bin/sh
    # Lab stand-in for amd-smi: knows its version, nothing else.
    case "${1:-}" in
      version) echo "AMDSMI Tool: lab stand-in | ROCm version: $(cut -d- -f1 /opt/rocm/.info/version)" ;;
      *) echo "amd-smi: lab stand-in, only 'version' is there (memory is read from sysfs)" >&2; exit 2 ;;
    esac
    """

ROCM_PACKAGES = (
    Package(
        "rocm-core",
        f"7.2.0.{BUILD}",
        files={f"{PREFIX}/.info/version": "7.2.0-43\n"},
        scripts=CORE_SCRIPTS,
    ),
    Package("rocminfo", f"1.0.0.{BUILD}", "rocm-core, kmod", files={f"{PREFIX}/bin/rocminfo": ROCMINFO}),
    Package("amd-smi-lib", f"26.2.1.{BUILD}", "rocm-core", files={f"{PREFIX}/bin/amd-smi": AMD_SMI}),
    Package("rocm-smi-lib", f"7.8.0.{BUILD}", "rocm-core"),
    Package("hsa-rocr", f"1.18.0.{BUILD}", "rocm-core"),
    Package("rocm-language-runtime", f"7.2.0.{BUILD}", "rocm-core, hsa-rocr"),
    Package("rocm-hip-runtime", f"7.2.0.{BUILD}", "rocm-core, rocminfo, rocm-language-runtime"),
    Package("rocm-hip-libraries", f"7.2.0.{BUILD}", "rocm-core, rocm-hip-runtime"),
    Package("rocm-opencl-runtime", f"7.2.0.{BUILD}", "rocm-core, rocm-language-runtime"),
    Package("rocm-ml-libraries", f"7.2.0.{BUILD}", "rocm-core, rocm-hip-libraries"),
    Package("half", f"1.12.0.{BUILD}", "rocm-core"),
    Package("migraphx", f"2.15.0.{BUILD}", "rocm-core, half, rocm-hip-runtime"),
    Package(
        "rocm",
        f"7.2.0.{BUILD}",
        "rocm-core, rocminfo, amd-smi-lib, rocm-smi-lib, rocm-hip-libraries, rocm-ml-libraries, rocm-opencl-runtime",
    ),
)

GRAPHICS_PACKAGES = (
    Package("libdrm-amdgpu-common", "1.0.0.07020000-2278356.24.04"),
    Package("libdrm-amdgpu-amdgpu1", "1:2.4.125.07020000-2278356.24.04", "libdrm-amdgpu-common"),
)
"""Versions by analogy with 7.2.4's (1:2.4.125.07020400-2341098.24.04): not read from AMD's archive."""

AMDGPU_PACKAGES = (Package("amdgpu-core", "1:30.30.0.0.30300000-2278356.24.04"),)
"""Its version by analogy too."""


def build_package(package: Package, pool: Path, work: Path) -> Path:
    """Build one .deb into the pool and return its path."""
    root = work / package.name
    (root / "DEBIAN").mkdir(parents=True)
    control = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": "amd64",
        "Maintainer": "ojai lab <lab@ojai.invalid>",
        "Section": "devel",
        "Priority": "optional",
        "Depends": package.depends,
        "Description": NOTE,
    }
    text = "".join(f"{key}: {value}\n" for key, value in control.items() if value)
    (root / "DEBIAN" / "control").write_text(text)
    for name, script in package.scripts.items():
        (root / "DEBIAN" / name).write_text(textwrap.dedent(script))
        (root / "DEBIAN" / name).chmod(0o755)
    notice = {f"/usr/share/doc/{package.name}/copyright": NOTE + "\nLicense: Apache-2.0\n"}
    for path, content in {**package.files, **notice}.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(content))
        target.chmod(0o755 if "/bin/" in path else 0o644)
    for directory in [root, *(item for item in root.rglob("*") if item.is_dir())]:
        directory.chmod(0o755)
    file_version = package.version.partition(":")[2] or package.version
    deb = pool / f"{package.name}_{file_version}_amd64.deb"
    run(["dpkg-deb", "--root-owner-group", "-Zxz", "-b", root, deb], what=f"building {deb.name}")
    return deb


def build_suite(top: Path, where: Path, packages: tuple[Package, ...], gnupg: Path, work: Path) -> None:
    """Build and sign one repository of the archive (suite noble, component main) at top/where."""
    repository = top / where
    pool = repository / "pool" / "main"
    pool.mkdir(parents=True)
    for package in packages:
        build_package(package, pool, work)
    publish(repository, ORIGIN, "main", gnupg)


def publish(repository: Path, origin: str, component: str, gnupg: Path, snapshots: str | None = None) -> None:
    """Write and sign the index of a repository (suite noble) whose packages are in pool/COMPONENT.

    ``snapshots``: where apt finds it as it was, as Ubuntu's Release files say it, with ``@SNAPSHOTID@`` for the time.
    """
    binary = repository / "dists" / "noble" / component / "binary-amd64"
    binary.mkdir(parents=True, exist_ok=True)
    index = run(["apt-ftparchive", "packages", f"pool/{component}"], what="indexing packages", cwd=repository)
    (binary / "Packages").write_text(index)
    (binary / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
    dist = repository / "dists" / "noble"
    fields = {
        "Origin": origin,
        "Label": origin,
        "Suite": "noble",
        "Codename": "noble",
        "Architectures": "amd64",
        "Components": component,
        "Description": f"{NOTE}",
    }
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
    for old in ("Release", "InRelease", "Release.gpg"):
        (dist / old).unlink(missing_ok=True)
    release = run(["apt-ftparchive", *options, "release", "."], what="writing Release", cwd=dist)
    if snapshots:  # apt-ftparchive does not know this field
        release = f"Snapshots: {snapshots}\n{release}"
    (dist / "Release").write_text(release)
    sign: list[str | Path] = ["gpg", "--batch", "--yes", "--homedir", gnupg, "--digest-algo", "SHA512"]
    run([*sign, "--clearsign", "-o", dist / "InRelease", dist / "Release"], what="signing InRelease")
    run([*sign, "--armor", "--detach-sign", "-o", dist / "Release.gpg", dist / "Release"], what="signing Release")


def make_key(gnupg: Path) -> str:
    """Make the archive's signing key and return its fingerprint (40 upper-case hex digits)."""
    gnupg.mkdir(mode=0o700)
    uid = "ojai lab (stands for repo.radeon.com) <lab@ojai.invalid>"
    base: list[str | Path] = ["gpg", "--batch", "--homedir", gnupg]
    run(
        [*base, "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", uid, "rsa3072", "sign", "never"],
        what="making the archive's key",
    )
    listing = run([*base, "--with-colons", "--list-keys"], what="reading the archive's key")
    match = re.search(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)
    if not match:
        raise LabError(f"gpg shows no fingerprint of the key that it made:\n{listing}")
    return match.group(1)


def build(top: Path) -> str:
    """Build the whole archive in an existing empty folder; return the signing key's fingerprint."""
    work = top / "work"
    work.mkdir()
    gnupg = work / "gnupg"
    fingerprint = make_key(gnupg)
    try:
        build_suite(top, ROCM_SUITE, ROCM_PACKAGES, gnupg, work)
        build_suite(top, GRAPHICS_SUITE, GRAPHICS_PACKAGES, gnupg, work)
        build_suite(top, AMDGPU_SUITE, AMDGPU_PACKAGES, gnupg, work)
        key = run(["gpg", "--batch", "--homedir", gnupg, "--armor", "--export", fingerprint], what="exporting the key")
    finally:
        run(["gpgconf", "--homedir", gnupg, "--kill", "all"], what="stopping gpg-agent")
    (top / KEY_PATH).write_text(key)
    (top / "fingerprint").write_text(fingerprint + "\n")
    shutil.rmtree(work)
    return fingerprint


def cached() -> tuple[Path, str]:
    """Return the archive's folder and its key's fingerprint, building them once."""
    name = "archive-" + image.digest_of([Path(__file__)])
    cache = image.cache_root()
    with image.locked(cache, name):
        if not (cache / name / "fingerprint").exists():
            with step("building the apt archive that stands for repo.radeon.com"), image.fresh(cache, name) as top:
                build(top)
    return cache / name, (cache / name / "fingerprint").read_text().strip()
