"""Facts asked of this machine's own shell, on made-up trees: their commands are right, not only their readers."""

import base64
import grp
import hashlib
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_host import RealHost

from ojai.facts.apt import AptOffers, AptPackages, KeyringFingerprints, SourceRefreshed
from ojai.facts.docker import (
    REJECTED,
    DockerContainer,
    DockerDaemon,
    DockerImage,
    Pulled,
    PulledImage,
    RunningContainers,
)
from ojai.facts.files import Entry, Existing, File, Place, Places, SecretFile, Secrets, SharedPlace, SmallFile
from ojai.facts.groups import DEVICE, GpuDevices, Groups
from ojai.facts.kernel import BootFiles, KernelState, Lacking, Ttm, TtmLimit
from ojai.facts.ledger import Added, Loose, OwnUnits
from ojai.facts.report import HostReport
from ojai.facts.report.engine import Server, Unit
from ojai.facts.report.gpu import Gpu
from ojai.facts.service import Endpoint, ServerEndpoint, SystemdUnit
from ojai.operations import files

USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name
NAMES = ["plain", "with blank", "it's", 'a"b', "$HOME", "`id`", "-n", "é", "a\\b", "*"]
debian = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="asks dpkg")


@pytest.fixture
def host():
    return RealHost()


@pytest.fixture
def programs(tmp_path):
    """``programs(name, script)`` puts a program into a folder; its host finds it before the machine's own."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def add(name: str, script: str) -> RealHost:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return RealHost({"PATH": f"{folder}:{os.environ['PATH']}"})

    return add


@pytest.mark.parametrize("name", NAMES)
def test_small_file(host, tmp_path, name):
    place = tmp_path / name
    assert host.get_fact(SmallFile, path=str(place)) is None
    for text in ("", "\n", "a\n b\t$(x)\n\n", "no end", "ä€\u2028"):
        place.write_text(text, newline="")
        place.chmod(0o640)
        assert host.get_fact(SmallFile, path=str(place)) == File(text, USER, GROUP, "640")


#: How a server is asked.
API = {"container": "name", "health": "/health", "models": "/v1/models"}


def test_small_file_of_bytes_that_are_no_text(host, tmp_path):
    place = tmp_path / "file"
    place.write_bytes(b"A=\xff\x00\xfe\n")
    assert host.get_fact(SmallFile, path=str(place)).text.encode(errors="surrogateescape") == b"A=\xff\x00\xfe\n"


def test_small_file_is_no_link_and_no_folder(host, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert host.get_fact(SmallFile, path=str(tmp_path / "link")) is None
    assert host.get_fact(SmallFile, path=str(tmp_path)) is None


def test_existing(host, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text("")
    (tmp_path / "dangling").symlink_to("/nowhere/at/all")
    paths = [str(tmp_path / name) for name in (*NAMES, "gone", "dangling")]
    assert host.get_fact(Existing, paths=tuple(paths)) == tuple(path for path in paths if not path.endswith("gone"))
    assert host.get_fact(Existing, paths=(str(tmp_path / "gone"),)) == ()


@pytest.mark.parametrize("name", [*NAMES, "a:b"])
def test_places(host, tmp_path, name):
    place, other = tmp_path / name, tmp_path / "other"

    def found():
        return host.get_fact(Places, paths=(str(place), str(other), str(tmp_path / "gone")))

    assert found() == {}
    place.symlink_to("/nowhere/at/all")
    assert found()[str(place)].kind == "symbolic link"
    place.unlink()
    place.mkdir(mode=0o700)
    other.write_text("x")
    assert found()[str(place)] == Entry("directory", USER, GROUP, "700")
    assert (len(found()), found()[str(other)].kind) == (2, "regular file")


def test_added(host, tmp_path):
    (tmp_path / "units").write_text("a.service\n\nb.service\n")
    assert host.get_fact(Added, directory=str(tmp_path), kind="units") == ("a.service", "b.service")
    assert host.get_fact(Added, directory=str(tmp_path), kind="none") == ()


def test_groups(host):
    entry = grp.getgrgid(os.getgid())
    found = host.get_fact(Groups, names=(entry.gr_name, "no-such-group"))
    assert {name: (group.gid, list(group.members)) for name, group in found.items()} == {
        entry.gr_name: (entry.gr_gid, entry.gr_mem)
    }
    assert host.get_fact(Groups, names=("no-such-group",)) == {}


def test_gpu_devices(host, tmp_path):
    """A file in the place of a device that was deleted is told from a device."""
    write(tmp_path, **{"dev/kfd": "x"})
    (tmp_path / "dev/dri").mkdir()
    (tmp_path / "dev/dri/renderD128").symlink_to("/nowhere")
    done = host.sh(rooted(GpuDevices().command(), tmp_path, "/dev/kfd", "/dev/dri"))
    found = GpuDevices().process(done.stdout.splitlines())
    assert {path.removeprefix(str(tmp_path)): (node.kind, node.group) for path, node in found.items()} == {
        "/dev/kfd": ("regular file", GROUP),
        "/dev/dri/renderD128": ("symbolic link", GROUP),
    }
    device = host.sh(GpuDevices().command().replace("/dev/kfd", "/dev/null")).stdout.splitlines()[0]
    assert device.endswith(f":{DEVICE}")


@debian
def test_apt_packages(host):
    found = host.get_fact(AptPackages, names=("dpkg", "no-such-package"))
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "dpkg"], capture_output=True, text=True).stdout
    assert found.installed == {"dpkg": version}
    assert found.altered == {}, "this machine's own dpkg was changed"
    check = subprocess.run(
        ["apt-get", "-q", "-o", "Debug::NoLocking=1", "check"], capture_output=True, text=True, check=False
    )
    assert (found.unmet == {}) is (check.returncode == 0), (found.unmet, check.stderr)
    assert host.get_fact(AptPackages, names=("no-such-package",)).installed == {}


def test_apt_packages_sees_what_a_killed_dpkg_left(programs):
    """dpkg's own database cannot be broken for a test; its answers to our two questions are played."""
    host = programs(
        "dpkg-query",
        'case "$3" in package*) printf "package\\tinstall ok half-configured\\ta\\t1\\n"; exit 1;; '
        '*) printf "installed\\tdpkg\\nhalf-configured\\ta\\nunpacked\\tb\\nconfig-files\\tc\\n";; esac',
    )
    found = host.get_fact(AptPackages, names=("a", "no-such-package"))
    assert (found.installed, found.broken) == ({}, ("a", "b"))


def test_apt_packages_sees_what_is_missing_of_what_packages_need(programs):
    """As dpkg prints it: alternatives, versions, architectures, what others provide, packages that are not there."""
    rows = [
        ("installed", "docker.io", "docker-engine (= 1)", ", runc (>= 1.0~), libc6 (>= 2) | musl, tini:any"),
        ("installed", "musl", "", ", "),
        ("installed", "a", "tini (= 2), b", "dpkg (>= 1), gone | provided"),
        ("installed", "dpkg", "", ", "),
        ("installed", "c", "provided", ", nowhere"),
        ("deinstall", "d", "", ", nothing-of-this"),
        ("config-files", "runc", "", ", "),
    ]
    text = "".join("\\t".join(row) + "\\n" for row in rows)
    host = programs("dpkg-query", f"case \"$3\" in *Provides*) printf '{text}';; esac")
    assert host.get_fact(AptPackages, names=("a",)).unmet == {
        "c": ("nowhere",),
        "docker.io": ("runc",),
    }


def test_lists_that_a_power_cut_emptied_are_as_good_as_none(host, tmp_path):
    def age() -> int | None:
        command = AptPackages().command(names=("dpkg",))
        return AptPackages().process(host.sh(rooted(command, tmp_path, "/var/lib/apt/")).stdout.splitlines()).lists_age

    assert age() is None
    lists = "var/lib/apt/lists"
    write(tmp_path, **{f"{lists}/a_InRelease": "x", f"{lists}/a_Packages": "Package: a\n", f"{lists}/lock": ""})
    assert age() in range(60)
    write(tmp_path, **{f"{lists}/b_Packages": ""})
    assert age() is None


def test_apt_packages_sees_altered_files(programs):
    host = programs(
        "dpkg",
        "[ $2 = a ] || exit 0; printf '%s\\n' 'missing     /opt/a b' '??5??????   /usr/bin/x' '??5?????? c /etc/conf' "
        "'missing   c /etc/gone' 'missing     /usr/share/doc/a' '?????????   /usr/bin/y'; exit 1",
    )
    assert host.get_fact(AptPackages, names=("a", "b")).altered == {"a": ("/opt/a b", "/usr/bin/x")}


def test_source_refreshed_looks_for_the_lists(host, tmp_path):
    source, mark = tmp_path / "a.sources", tmp_path / "stamp"
    source.write_text("Types: deb\nURIs: http://ada:pw@host.example:80/rocm_x/apt/7.2/\nSuites: noble\n")
    mark.write_text("")
    unreadable = source.read_text()
    source.write_text(f"{unreadable}Components: main\n")
    os.utime(source, (1, 1))

    def read() -> bool:
        command = SourceRefreshed().command(stamp=str(mark), inputs=(str(source),))
        done = host.sh(rooted(command, tmp_path, "/var/lib/apt/"))
        return SourceRefreshed().process(done.stdout.splitlines())

    assert not read()
    write(tmp_path, **{"var/lib/apt/lists/host.example:80_rocm%5fx_apt_7.2_dists_noble_InRelease": ""})
    assert read()
    source.write_text(unreadable)
    os.utime(source, (1, 1))
    assert not read(), "apt cannot read the source"


def test_apt_offers_name_the_pins(host, tmp_path):
    write(
        tmp_path,
        **{
            "etc/apt/preferences.d/all": "Package: *\nPin: origin a\n",
            "etc/apt/preferences.d/one": "Package: half rocminfo\nPin: origin a\n",
            "etc/apt/preferences.d/other": "Package: rocminfo-dev\nPin: origin a\n",
        },
    )
    command = AptOffers().command(names=("rocminfo", "libstdc++6"), origin="https://a.example/x")
    found = AptOffers().process(host.sh(rooted(command, tmp_path, "/etc/")).stdout.splitlines())
    assert [pin.rpartition("/")[2] for pin in found.pins] == ["one"]


def test_pulled_image(host, tmp_path):
    file = tmp_path / "it's images"
    asked = {"file": str(file), "reference": "a/b:1"}
    assert host.get_fact(PulledImage, **asked) == Pulled()
    file.write_text("a/b:10 sha256:x\na/b:1 sha256:y\n")
    assert host.get_fact(PulledImage, **asked) == Pulled(id="sha256:y")
    assert host.get_fact(PulledImage, file=str(file), reference="a/b") == Pulled()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file.write_text(f"a/b:10 sha256:x\na/b:1 pulling:{boot}\n")
    assert host.get_fact(PulledImage, **asked) == Pulled(begun=True)
    file.write_text("a/b:1 pulling:another-boot\n")
    assert host.get_fact(PulledImage, **asked) == Pulled(begun=True, booted=True)


def test_docker_daemon(programs):
    host = programs("docker", """echo '"28.2.2" ["http://a/"]'""")
    programs_ = host.get_fact(DockerDaemon)
    assert (programs_.there, programs_.answers, programs_.mirrors) == (True, True, ("http://a/",))


def test_docker_daemon_that_is_silent(programs):
    # What docker prints on standard output when its daemon does not answer: empty values.
    host = programs("docker", "echo '\"\" null'; exit 1")
    found = host.get_fact(DockerDaemon)
    assert (found.there, found.answers) == (True, False)


def test_boot_files(programs, tmp_path):
    """Of two kernels by dpkg's records the second has lost all; a third, that dpkg does not know, is no matter."""
    modules = f"{tmp_path}/usr/lib/modules"
    host = programs(
        "dpkg-query",
        "for r in 1.0-a 2.0-a; do echo linux-image-$r: /boot/vmlinuz-$r; "
        f"echo linux-modules-$r:amd64: {modules}/$r/kernel/amdgpu.ko.zst; done; echo diversion by x from: /boot/y",
    )
    programs("update-initramfs", "")
    programs("update-grub", "")
    write(tmp_path, **{"boot/vmlinuz-1.0-a": "", "boot/initrd.img-1.0-a": "", "boot/vmlinuz-3.0-a": ""})
    write(tmp_path, **{"usr/lib/modules/1.0-a/kernel/amdgpu.ko.zst": ""})
    write(tmp_path, **{"boot/grub/grub.cfg": "linux /boot/vmlinuz-1.0-a ro\n"})
    script = BootFiles().command().replace("/boot/initrd", f"{tmp_path}/boot/initrd")
    script = script.replace("/boot/grub", f"{tmp_path}/boot/grub").replace(
        'test -e "$path"', f'test -e "{tmp_path}$path" -o -e "$path"'
    )
    found = BootFiles().process(host.sh(script).stdout.splitlines())
    assert found == {
        "1.0-a": Lacking(),
        "2.0-a": Lacking(packages=("linux-image-2.0-a", "linux-modules-2.0-a"), initrd=True, menu=True),
    }


@pytest.mark.parametrize("stamp", [None, 100, 200, 300])
def test_source_refreshed(host, tmp_path, stamp):
    """Inputs of the times 100 and 200: read when the stamp is not older than the newest."""
    inputs = [tmp_path / "a.pin", tmp_path / "it's a.gpg"]
    for time, path in zip((100, 200), inputs, strict=True):
        path.write_text("")
        os.utime(path, (time, time))
    mark = tmp_path / "stamp"
    if stamp is not None:
        mark.write_text("")
        os.utime(mark, (stamp, stamp))
    found = host.get_fact(SourceRefreshed, stamp=str(mark), inputs=tuple(map(str, inputs)))
    assert found is (stamp is not None and stamp >= 200)


def test_keyring_fingerprints(host, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    try:
        for name in ("one", "two"):
            subprocess.run([*gpg, "--quick-gen-key", name, "ed25519", "sign", "never"], check=True, capture_output=True)
        listing = subprocess.run([*gpg, "--with-colons", "-k"], check=True, capture_output=True, text=True).stdout
        expected = tuple(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        place = tmp_path / "it's a.gpg"
        assert host.get_fact(KeyringFingerprints, path=str(place)) == ()
        subprocess.run([*gpg, "--output", str(place), "--export"], check=True)
        assert len(expected) == 2
        assert host.get_fact(KeyringFingerprints, path=str(place)) == expected
        place.write_text("no key")
        assert host.get_fact(KeyringFingerprints, path=str(place)) == ()
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def rooted(command: str, root: Path, *folders: str) -> str:
    """``command`` with these absolute folders under ``root`` instead."""
    start = "|".join(map(re.escape, folders))
    return re.sub(rf"(?<![\w./])(?:{start})", lambda found: f"{root}{found[0]}", command)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def test_kernel_state_wants_image_and_modules(host, tmp_path):
    for release in ("6.17.0-1012-oem", "6.8.0-90-generic"):
        write(tmp_path, **{f"boot/vmlinuz-{release}": "", f"lib/modules/{release}/modules.dep": ""})
    write(tmp_path, **{"boot/vmlinuz-6.8.0-48-generic": "", "lib/modules/6.18.4/modules.dep": ""})
    done = host.sh(rooted(KernelState().command(), tmp_path, "/boot", "/lib/modules"))
    found = KernelState().process(done.stdout.splitlines())
    assert found.running == os.uname().release
    assert set(found.installed) == {"6.17.0-1012-oem", "6.8.0-90-generic"}


def test_kernel_state_without_any(host, tmp_path):
    done = host.sh(rooted(KernelState().command(), tmp_path, "/boot", "/lib/modules"))
    assert (done.returncode, KernelState().process(done.stdout.splitlines()).installed) == (0, ())


BOOT = 1_700_000_000


def ttm(host: RealHost, root: Path) -> Ttm:
    command = TtmLimit().command(path=f"{root}/etc/modprobe.d/ojai-ttm.conf", stamp=f"{root}/stamp")
    done = host.sh(rooted(command, root, "/sys/", "/proc/", "/etc/", "/usr/lib/modprobe.d"))
    assert (done.returncode, done.stderr) == (0, "")
    return TtmLimit().process(done.stdout.splitlines())


def ttm_tree(root: Path, *, options: int | None, stamp: int | None, live: str | None) -> None:
    """``options``, ``stamp``: seconds after boot at which the file was written, None for no such file."""
    write(root, **{"proc/stat": f"cpu 1 2 3\nbtime {BOOT}\nprocesses 9\n", "proc/cmdline": "ro quiet"})
    write(root, **{"proc/meminfo": "MemTotal:       65011712 kB\nMemFree: 1 kB\n"})
    if live is not None:
        write(root, **{"sys/module/ttm/parameters/pages_limit": live})
    for name, after in (("etc/modprobe.d/ojai-ttm.conf", options), ("stamp", stamp)):
        if after is not None:
            write(root, **{name: "options ttm pages_limit=26214400\n"})
            os.utime(root / name, (BOOT + after, BOOT + after))


@pytest.mark.parametrize(
    ("options", "stamp", "settled"),
    [
        (None, None, False),
        (-100, -50, True),  # written, put into the initramfs where it has to be, booted
        (-100, None, False),  # written and booted, but cut off before the initramfs was looked at
        (-50, -100, False),  # the same, after an earlier look
        (50, 100, False),  # written since the boot
    ],
)
def test_ttm_limit_is_settled_by_a_boot(host, tmp_path, options, stamp, settled):
    ttm_tree(tmp_path, options=options, stamp=stamp, live="8126464\n")
    assert ttm(host, tmp_path) == Ttm(live=8126464, settled=settled, file=options is not None, memory=16252928)


def test_ttm_limit_names_what_else_sets_it(host, tmp_path):
    ttm_tree(tmp_path, options=-100, stamp=None, live=None)
    write(
        tmp_path,
        **{
            "proc/cmdline": "ro ttm.pages_limit=16252929",
            "etc/modprobe.d/amd.conf": "# options ttm pages_limit=99\noptions ttm pages_limit=2\n",
            "usr/lib/modprobe.d/x.conf": "options ttm pages_limit=3\n",
        },
    )
    found = ttm(host, tmp_path)
    assert found.live is None
    assert [entry.removeprefix(str(tmp_path)) for entry in found.others] == [
        "/etc/modprobe.d/amd.conf:2:options ttm pages_limit=2",
        "/usr/lib/modprobe.d/x.conf:1:options ttm pages_limit=3",
        "/proc/cmdline:1:ro ttm.pages_limit=16252929",
    ]
    assert found.excess == found.others[-1:], "one page more than there is memory"


TREE = {
    "sys/bus/pci/devices/0000:00:00.0/class": "0x060000",
    "sys/bus/pci/devices/0000:c5:00.0/class": "0x038000",
    "sys/bus/pci/devices/0000:c5:00.0/vendor": "0x1002",
    "sys/bus/pci/devices/0000:c5:00.0/device": "0x150e",
    "sys/bus/pci/devices/0000:c5:00.0/mem_info_vram_total": "68719476736\n",
    "sys/bus/pci/devices/0000:c5:00.0/mem_info_gtt_total": "33285996544\n",
    "sys/class/kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 24\ngfx_target_version 0\n",
    "sys/class/kfd/kfd/topology/nodes/1/properties": "simd_count 32\ngfx_target_version 110500\nvendor_id 4098\n",
    "sys/module/ttm/parameters/pages_limit": "8126464",
    "proc/meminfo": "MemTotal:       65011712 kB\nMemFree: 1 kB\n"
    "SwapTotal:       8388608 kB\nCommitLimit: 40894464 kB\n",
    "proc/sys/vm/overcommit_memory": "0\n",
    "etc/os-release": 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.4 LTS"\n',
    "etc/apt/sources.list": "# deb https://repo.radeon.com/rocm/apt/6.4 noble main\n",
    "etc/apt/sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://archive.example.org/ubuntu/\n"
    "Suites: noble\nComponents: main\n",
}


def report(host: RealHost, root: Path, **words: tuple[str, ...]):
    command = rooted(HostReport().command(**words), root, "/sys/", "/proc/", "/etc/", "/opt/", "/var/lib/")
    done = host.sh(command)
    assert (done.returncode, done.stderr) == (0, "")
    return HostReport().process(done.stdout.splitlines())


def test_report_of_the_guides_box(host, tmp_path):
    write(tmp_path, **TREE)
    (tmp_path / "opt").mkdir()
    found = report(host, tmp_path, places=(str(tmp_path), f"{tmp_path}/not/yet"), gpus=("1002:150e",))
    assert (found.os_id, found.os_version, found.os_name) == ("ubuntu", "24.04", "Ubuntu 24.04.4 LTS")
    assert found.gpus == {"0000:c5:00.0": "0x1002:0x150e"}
    assert found.gfx_versions == (110500,)
    assert (found.vram_total, found.gtt_total, found.ttm_pages) == (64 << 30, 33285996544, 8126464)
    assert (found.memory_total, found.swap_total) == (65011712 << 10, 8 << 30)
    assert (found.user, found.machine, found.kernel) == (USER, os.uname().machine, os.uname().release)
    assert (found.dkms, found.rocm_trees, found.overcommit_memory) == ((), (), 0)
    assert [source.uri for source in found.apt.sources] == (
        ["http://archive.example.org/ubuntu"] if shutil.which("apt-get") else []
    )
    assert (found.apt.unreadable, found.apt.conflict) == ({}, "")
    here, below = (found.disks[path] for path in (str(tmp_path), f"{tmp_path}/not/yet"))
    assert here[0] > 0 and here[1] == below[1]


def test_report_has_the_memory_of_the_gpu_that_is_asked_for(host, tmp_path):
    """Another one may stand before it on the bus."""
    write(tmp_path, **TREE)
    for name, text in (("class", "0x030000"), ("vendor", "0x1002"), ("device", "0x744c"), ("mem_info_vram_total", "1")):
        write(tmp_path, **{f"sys/bus/pci/devices/0000:01:00.0/{name}": text})
    (tmp_path / "opt").mkdir()
    found = report(host, tmp_path, gpus=("1002:150e", "1002:1586"))
    assert found.gpus == {"0000:01:00.0": "0x1002:0x744c", "0000:c5:00.0": "0x1002:0x150e"}
    assert found.vram_total == 64 << 30
    assert report(host, tmp_path, gpus=("1002:1586",)).vram_total is None


def test_report_of_trouble(programs, tmp_path):
    host = programs("modinfo", "echo /lib/modules/6.8.0-90-generic/updates/dkms/amdgpu.ko.zst")
    programs(
        "dpkg-query",
        'printf "installed\\tlinux-firmware 20251125\\nconfig-files\\tlinux-firmware-old 1\\nnot-installed\\ta \\n"',
    )
    programs("docker", '[ "$*" = "image inspect a:b" ]')
    write(
        tmp_path,
        **TREE,
        **{
            "sys/module/amdkcl/refcnt": "1",
            "var/lib/dkms/amdgpu/6.16/build.log": "",
            "opt/rocm-7.1.0/.info/version": "",
            "opt/rocm-7.2.0/.info/version": "",
            "etc/apt/sources.list.d/rocm.list": "deb [arch=amd64] https://repo.radeon.com/rocm/apt/7.1 noble main\n",
            "etc/apt/sources.list.d/amdgpu.sources": "Types: deb\nURIs: https://repo.radeon.com/amdgpu/7.1/ubuntu/\n"
            "Suites: noble\nComponents: main\n",
            "a.env": "# VLLM_OLD=1\nHF_TOKEN=hf_secret\n VLLM_ROCM_USE_AITER = 1\nVLLM_ROCM_USE_AITER_MHA=1\nBARE\n",
        },
    )
    (tmp_path / "opt/rocm").symlink_to("rocm-7.2.0")
    command = HostReport().command(
        places=("/",),
        users=("root", "no-such-user"),
        env_files=(f"{tmp_path}/a.env", f"{tmp_path}/none.env"),
        images=("a:b", "c:d"),
    )
    done = host.sh(rooted(command, tmp_path, "/sys/", "/proc/", "/etc/", "/opt/", "/var/lib/dkms/"))
    assert "hf_secret" not in done.stdout
    found = HostReport().process(done.stdout.splitlines())
    assert found.dkms == ("loaded", "built")
    assert found.amdgpu_module == "/lib/modules/6.8.0-90-generic/updates/dkms/amdgpu.ko.zst"
    assert found.rocm_trees == (f"{tmp_path}/opt/rocm-7.1.0", f"{tmp_path}/opt/rocm-7.2.0")
    if shutil.which("apt-get"):
        names = [source.file.rpartition("/")[2] for source in found.apt.sources if source.kind == "rocm"]
        assert names == ["rocm.list", "amdgpu.sources"]
    assert found.missing_users == ("no-such-user",)
    assert found.env_names[f"{tmp_path}/a.env"] == ("HF_TOKEN", "VLLM_ROCM_USE_AITER_MHA")
    assert found.environment.faults == {f"{tmp_path}/a.env": ((3, "blank"),)}
    assert found.firmware == {"linux-firmware": "20251125"}
    assert found.images == ("a:b",)


def test_host_report_of_accounts_that_are_written_in_another_way(programs):
    """A directory server answers to a name in capitals with the name as it writes it."""
    host = programs(
        "getent",
        r"""case $2 in
CORP\\ada | jane.doe) printf '%s:x:1:1::/:/bin/sh\n' "$2" ;; Ada) echo ada:x:2:2::/:/bin/sh ;; *) exit 2 ;; esac""",
    )
    found = host.get_fact(HostReport, users=("CORP\\ada", "jane.doe", "Ada", "bob"))
    assert (found.missing_users, found.other_users) == (("bob",), {"Ada": "ada"})


#: A line of an environment file -> what Docker would not read, or not as it is meant.
ENV_LINES = {
    "HF_TOKEN=hf_abc": None,
    "HF_TOKEN=": None,
    "  # a comment": None,
    "": None,
    "  HF_TOKEN=hf_abc\r": None,
    "\ufeffHF_TOKEN=hf_abc": None,
    "HF_TOKEN": None,
    'VLLM_X={"a": "b"}': None,
    "VLLM_TITLE=Channel #1 of 'ours'": None,
    "VLLM_API_KEY=a=b==": None,
    "export HF_TOKEN=hf_abc": "export",
    "export\tHF_TOKEN=hf_abc": "export",
    "HF_TOKEN = hf_abc": "blank",
    "HF_TOKEN hf_abc": "blank",
    "HF_TOKEN: hf_abc": "blank",
    "=hf_abc": "nameless",
    'HF_TOKEN="hf_abc"': "quotes",
    "VLLM_X='a b' ": "quotes",
    "VLLM_X=1 # one": "comment",
    "VLLM_X=1\t#": "comment",
    "HF_TOKEN=hf_abc #mine": "spaces",
    "VLLM_API_KEY=abc ": "spaces",
    "HF_TOKEN=HF_TOKEN=hf_abc": "token",
    "HUGGING_FACE_HUB_TOKEN=hf_abc'": "token",
    "é=1\xff": "encoding",
}


@pytest.mark.parametrize("line", ENV_LINES, ids=repr)
def test_host_report_of_a_line_that_docker_would_not_read(host, tmp_path, line):
    file = tmp_path / "a.env"
    file.write_bytes(f"{line}\nOTHER=1\n".encode("latin-1" if "\xff" in line else "utf-8"))
    command = HostReport().command(env_files=(str(file), str(tmp_path / "none.env")))
    output = host.sh(command).stdout.splitlines()
    told = [one for one in output if one.startswith("env_fault")]
    assert not any("hf_abc" in one for one in told)
    word = ENV_LINES[line]
    place = 0 if word == "encoding" else 1
    assert HostReport().process(output).environment.faults == ({str(file): ((place, word),)} if word else {})


def test_host_report_of_an_environment_file_that_is_none(host, tmp_path):
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "folder").mkdir()
    files = (str(tmp_path / "link"), str(tmp_path / "folder"))
    found = HostReport().process(host.sh(HostReport().command(env_files=files)).stdout.splitlines())
    assert found.environment.faults == {files[0]: ((0, "link"),), files[1]: ((0, "kind"),)}


@pytest.mark.parametrize(
    ("files", "schema"),
    [
        ({}, 0),
        ({"schema": "1\n"}, 1),
        ({"schema": "one\n", "releases/healthy/release.json": '{"kept":"2026-11-27T01:00:00Z","services":[]}'}, 0),
        ({"schema": "1\n", "releases/previous/release.json": '{"services": [], "schema": 2}'}, 2),
        ({"schema": "3\n", "releases/healthy/release.json": '{"services":[],"schema":2}'}, 3),
    ],
)
def test_report_has_the_newest_format_of_what_is_kept(host, tmp_path, files, schema):
    write(tmp_path, **TREE, **{f"var/lib/ojai/{name}": text for name, text in files.items()})
    assert report(host, tmp_path).schema == schema


def test_report_of_this_machine(host):
    """Whatever it is: an answer, and no word on stderr."""
    done = host.sh(HostReport().command(places=("/var/lib/docker", "/srv/ojai")))
    found = HostReport().process(done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, "")
    assert found.hostname == os.uname().nodename
    assert set(found.disks) == {"/var/lib/docker", "/srv/ojai"}


GPU_TREE = {
    **TREE,
    "sys/class/kfd/kfd/topology/nodes/1/properties": "gfx_target_version 110500\ndrm_render_minor 129\n"
    "cwsr_size 7999488\nctl_stack_size 28672\n",
    # As amdgpu_debugfs_firmware_info_show() prints it.
    "sys/kernel/debug/dri/0000:c5:00.0/amdgpu_firmware_info": "RLC feature version: 1, firmware version: 0x11530506\n"
    "MES_KIQ feature version: 6, firmware version: 0x0000006f\nMES feature version: 1, firmware version: 0x00000083\n",
    "sys/class/kfd/kfd/topology/nodes/2/properties": "gfx_target_version 110000\n",
    "proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz ro nomodeset\n",
    # A shell script, whose later files add to what the earlier ones say.
    "etc/default/grub": '# amdgpu\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet splash"\nGRUB_CMDLINE_LINUX=""\n',
    "etc/default/grub.d/50-ttm.cfg": 'echo loud\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ttm.pages_limit=5 a=*"\n',
    "etc/modprobe.d/a.conf": "# blacklist amdgpu\nblacklist amdgpu\n  options ttm pages_limit=1\noptions snd x=1\n",
    "usr/lib/modprobe.d/vfio.conf": "options vfio-pci ids=1002:150e\n",
    "etc/modprobe.d/not-read": "blacklist amdgpu\n",
}


def test_report_of_the_driver(programs, tmp_path):
    host = programs("systemd-detect-virt", "echo none; exit 1")
    programs(
        "dpkg-query", 'case "$*" in *amdgpu-dkms*) printf "installed\\tamdgpu-dkms 1:6\\nconfig-files\\ta 1\\n";; esac'
    )
    write(tmp_path, **GPU_TREE)
    gpu = tmp_path / "sys/bus/pci/devices/0000:c5:00.0"
    (gpu / "driver").symlink_to("../../../../bus/pci/drivers/amdgpu")
    for name, text in (("class", "0x030000"), ("vendor", "0x1002"), ("device", "0x744c")):
        write(tmp_path, **{f"sys/bus/pci/devices/0000:63:00.0/{name}": text})
    (tmp_path / "opt").mkdir()
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD129").symlink_to("/dev/null")
    write(tmp_path, **{"dev/kfd": "no device"})
    folders = (
        "/sys/",
        "/proc/",
        "/etc/",
        "/opt/",
        "/var/lib/",
        "/usr/lib/",
        "/run/",
        "/dev/kfd",
        "/dev/dri",
        "/.docker",
    )
    done = host.sh(rooted(HostReport().command(places=("/",)), tmp_path, *folders))
    assert (done.returncode, done.stderr) == (0, "")
    found = HostReport().process(done.stdout.replace(str(tmp_path), "").splitlines()).gpu
    assert found == Gpu(
        container="",
        drivers={"0000:63:00.0": "", "0000:c5:00.0": "amdgpu"},
        nodes=((110500, 129), (110000, None)),
        saves={110500: True, 110000: False},
        mes=(0x83,),
        devices=("/dev/dri/renderD129",),
        boot_words=("BOOT_IMAGE=/boot/vmlinuz", "ro", "nomodeset"),
        grub_words=("ttm.pages_limit=5", "a=*", "quiet", "splash"),
        module_options=(
            "/etc/modprobe.d/a.conf:blacklist amdgpu",
            "/etc/modprobe.d/a.conf:  options ttm pages_limit=1",
            "/usr/lib/modprobe.d/vfio.conf:options vfio-pci ids=1002:150e",
        ),
        dkms_packages={"amdgpu-dkms": "1:6"},
    )


@pytest.mark.parametrize(
    ("answer", "marks", "kind"),
    [
        ("echo lxc", (), "lxc"),
        ("echo none; exit 1", (), ""),
        ("exit 127", (), ""),
        ("exit 127", (".dockerenv",), "docker"),
        ("exit 127", ("run/.containerenv",), "podman"),
    ],
)
def test_report_knows_a_container(programs, tmp_path, answer, marks, kind):
    host = programs("systemd-detect-virt", answer)
    write(tmp_path, **TREE, **dict.fromkeys(marks, ""))
    command = rooted(HostReport().command(), tmp_path, "/sys/", "/proc/", "/etc/", "/.dockerenv", "/run/")
    assert HostReport().process(host.sh(command).stdout.splitlines()).gpu.container == kind


def test_report_without_a_device(host, tmp_path):
    write(tmp_path, **TREE)
    (tmp_path / "opt").mkdir()
    command = rooted(HostReport().command(), tmp_path, "/sys/", "/proc/", "/etc/", "/opt/", "/dev/kfd", "/dev/dri")
    assert HostReport().process(host.sh(command).stdout.splitlines()).gpu.devices == ()


OVERLAY = '[["Backing Filesystem","extfs"],["Supports d_type","true"]]'
CONTAINERD = '[["driver-type","io.containerd.snapshotter.v1"]]'


@pytest.mark.parametrize(
    ("daemon", "files", "stores", "guessed"),
    [
        (f"/big/docker {OVERLAY}", {}, {"docker": "/big/docker"}, False),
        (f"/var/lib/docker {CONTAINERD}", {}, {"containerd": "/var/lib/containerd"}, False),
        (
            f"/var/lib/docker {CONTAINERD}",
            {"etc/containerd/config.toml": 'version = 2\nroot = "/big/containerd"\n[plugins]\n  root = "/other"\n'},
            {"containerd": "/big/containerd"},
            False,
        ),
        (
            "",
            {"etc/containerd/config.toml": "version = 3\n[plugins]\n  root = '/other'\n"},
            {"containerd": "/var/lib/containerd", "docker": "/var/lib/docker"},
            True,
        ),
        (
            "",
            {"etc/docker/daemon.json": '{"features":\n\t{"containerd-snapshotter" : false},\n"data-root": "/big/d"}'},
            {"docker": "/big/d"},
            True,
        ),
        (
            "",
            {"etc/docker/daemon.json": '{"data-root":"/big/d","features":{"containerd-snapshotter":true}}'},
            {"containerd": "/var/lib/containerd"},
            True,
        ),
        # What an engine of before has there, a newer one goes on with.
        ("", {"var/lib/docker/image/overlay2/imagedb/x": ""}, {"docker": "/var/lib/docker"}, True),
    ],
)
def test_report_knows_where_images_go(programs, tmp_path, daemon, files, stores, guessed):
    host = programs("docker", f"[ $1 = info ] || exit 1; [ -n '{daemon}' ] || {{ echo; exit 1; }}; echo '{daemon}'")
    write(tmp_path, **TREE, **files)
    (tmp_path / "opt").mkdir()
    found = report(host, tmp_path).space
    assert {name: folder.removeprefix(str(tmp_path)) for name, folder in found.stores.items()} == stores
    assert found.guessed is guessed
    assert set(found.stores.values()) < set(found.rooms) and found.unknown == ()


def test_report_of_a_daemon_that_is_silent(programs, tmp_path):
    """It is asked once, and for no longer than the facts of the daemon ask."""
    host = programs(
        "timeout", '[ "$*" = "20 docker info --format {{.DockerRootDir}} {{json .DriverStatus}}" ]; exit 124'
    )
    write(tmp_path, **TREE)
    (tmp_path / "opt").mkdir()
    found = report(host, tmp_path).space
    assert found.guessed and set(found.stores) == {"containerd", "docker"}


def test_report_of_boot_and_packages(programs, tmp_path):
    host = programs(
        "dpkg-query", 'case "$*" in *migraphx*) printf "installed\\trocm\\nconfig-files\\trocm-core\\n";; esac'
    )
    sizes = {"vmlinuz-6.8.0-90-generic": 15, "initrd.img-6.8.0-90-generic": 70, "initrd.img-6.8.0-48-generic": 9}
    write(tmp_path, **TREE, **{f"boot/{name}": "x" * size for name, size in sizes.items()})
    (tmp_path / "opt").mkdir()
    done = host.sh(rooted(HostReport().command(), tmp_path, "/sys/", "/proc/", "/etc/", "/opt/", "/var/lib/", "/boot"))
    found = HostReport().process(done.stdout.splitlines()).space
    assert (found.kernels, found.boot_sizes, found.rocm_packages) == (("6.8.0-90-generic",), 85, ("rocm",))
    assert {f"{tmp_path}/boot", "/tmp", "/var/cache/apt"} < set(found.rooms)


def test_report_of_a_df_without_numbers(programs, tmp_path):
    host = programs("df", 'echo header; echo "none - - - - /srv"')
    write(tmp_path, **TREE)
    (tmp_path / "opt").mkdir()
    found = report(host, tmp_path, places=("/srv",))
    assert found.disks == {} and {"/srv", "/tmp", "/boot"} < set(found.space.unknown)


def test_report_counts_weights_as_far_as_they_are_there(host, tmp_path):
    write(tmp_path, **TREE)
    (tmp_path / "opt").mkdir()
    hub = tmp_path / "hub"

    def model(name: str, *, index: bool, shards: int, incomplete: bool = False) -> str:
        folder = hub / name
        snapshot = folder / "snapshots/abc"
        snapshot.mkdir(parents=True)
        write(folder, **{f"blobs/{number}": "w" * 1000 for number in range(shards)}, **{"refs/main": "abc"})
        for number in range(shards):
            (snapshot / f"model-0000{number + 1}-of-00002.safetensors").symlink_to(f"../../blobs/{number}")
        if index:
            names = '"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"'
            write(snapshot, **{"model.safetensors.index.json": f'{{"weight_map": {{{names}}}}}'})
        if incomplete:
            write(folder, **{"blobs/2.incomplete": "w" * 500})
        return str(folder)

    whole = model("whole", index=True, shards=2)
    half = model("half", index=True, shards=1, incomplete=True)
    unlisted = model("unlisted", index=False, shards=2)
    refused = str(hub / "refused")
    write(Path(refused), **{"refs/main": "abc", "blobs/1.incomplete": "w" * 3000})
    gone = model("gone", index=True, shards=2)
    (Path(gone) / "blobs/1").unlink()
    one = str(hub / "one")
    write(Path(one), **{"snapshots/abc/model.safetensors": "w" * 10, "snapshots/def/config.json": "{}"})
    plain = str(tmp_path / "models/plain")
    write(Path(plain), **{"model.safetensors": "w" * 20, "config.json": "{}", "tokenizer.json": "{}"})
    bare = str(tmp_path / "models/bare")  # as far as the size goes, but no engine starts from it
    write(Path(bare), **{"model.safetensors": "w" * 20})
    found = report(host, tmp_path, models=(whole, half, unlisted, refused, gone, one, plain, bare, str(hub / "none")))
    assert found.models == (whole, one, plain)
    index = len((Path(whole) / "snapshots/abc/model.safetensors.index.json").read_text())
    assert found.space.weights == {
        whole: 2000 + index, half: 1000 + index, unlisted: 2000, gone: 1000 + index, one: 10, plain: 24,
        bare: 20,
    }  # fmt: skip


def test_docker_image(programs):
    assert programs("docker", "echo 'no such image' >&2; exit 1").get_fact(DockerImage, reference="a:b") is None
    answer = json.dumps({"Id": "sha256:1", "RepoDigests": ["a@sha256:2"]})
    host = programs("docker", f'[ "$5" = "a:b" ] && echo \'{answer}\'')
    assert host.get_fact(DockerImage, reference="a:b").digests == ("a@sha256:2",)


def test_running_containers_come_without_their_secrets(programs):
    config = {
        "Env": ["HF_TOKEN=hf_one", "TOKENIZERS_PARALLELISM=false", 'MY_KEY=a"b', "P=http://u:two@proxy/"],
        "Cmd": ["a/b", "--api-key", "sk-three", "sk-four", "--port", "8000"],
    }
    container = {"Name": "/x", "Image": "sha256:a", "Config": config}
    text = shlex.quote(json.dumps(container, separators=(",", ":")))
    script = f"""
    case $* in
      'ps --quiet --no-trunc') echo 1; echo 2;;
      "container inspect --format {{{{.Image}}}} 1") echo sha256:a;;
      "container inspect --format {{{{json .}}}} 1") printf '%s\\n' {text};;
      "image inspect --format {{{{json .}}}} sha256:a") echo '{{"Id":"sha256:a"}}';;
      *) exit 1;;
    esac"""
    found = programs("docker", script).get_fact(RunningContainers)
    assert not [word for word in ("hf_one", "two", "sk-three", "sk-four", "a\\") if word in json.dumps(found)]
    kept = ["HF_TOKEN=", "TOKENIZERS_PARALLELISM=false", "MY_KEY=", "P=http://:@proxy/"]
    left = {"Env": kept, "Cmd": ["a/b", "--api-key", "", "", "--port", "8000"]}
    assert found == [{**container, "Config": left}, {"Id": "sha256:a"}]


def test_docker_image_before_docker(tmp_path):
    (tmp_path / "sh").symlink_to(shutil.which("sh"))
    assert RealHost({"PATH": str(tmp_path)}).get_fact(DockerImage, reference="a:b") is None


SYSTEMCTL = """\
case "$*" in
  *ExecMainStartTimestamp*) [ -z "$SINCE" ] || echo "$SINCE";;
  show*) printf 'ActiveState=active\\nSubState=running\\nUnitFileState=enabled\\nNeedDaemonReload=no\\n';;
esac"""


@pytest.mark.parametrize(
    ("since", "stale"),
    [("", False), ("Sat 2026-11-21 05:00:00.000001 UTC", False), ("Sat 2026-11-21 04:59:59.999999 UTC", True)],
)
def test_systemd_unit_is_stale_to_the_microsecond(programs, tmp_path, since, stale):
    programs("systemctl", f"SINCE='{since}'\n{SYSTEMCTL}")
    host = programs("docker", "exit 1")
    old, new = tmp_path / "old", tmp_path / "it's new"
    for nanoseconds, path in ((1_000_000_000, old), (1795237200_000000000, new)):
        path.write_text("")
        os.utime(path, ns=(nanoseconds, nanoseconds))
    found = host.get_fact(SystemdUnit, unit="a.service", inputs=(str(old), str(new), str(tmp_path / "none")))
    assert (found.active, found.sub, found.enabled, found.stale) == ("active", "running", "enabled", stale)
    assert host.get_fact(DockerContainer, container="a") is None


def test_docker_container(programs, tmp_path):
    programs("systemctl", SYSTEMCTL)
    config = json.dumps({"Image": "a:b", "Cmd": ["m", "--x", '{"image": 4}', "a=b"], "Env": ["A=B"]})
    same, stale_mounts = tmp_path / "same", tmp_path / "strange"
    same.mkdir()
    stale_mounts.mkdir()
    docker = f"""case "$*" in
"container inspect name --format "*) cat <<'END'
Container={config}
Name=a:b
Runs=paused sha256:11 true 2026-11-21T08:05:00.123456789Z
Mount={os.getpid()} {same} {same}
Mount={os.getpid()} {same} {stale_mounts}
Mount={os.getpid()} /nowhere {stale_mounts}
END
;;
"image inspect --format {{{{.Id}}}} a:b") echo sha256:22;;
*) exit 1;;
esac"""
    host = programs("docker", docker)
    found = host.get_fact(DockerContainer, container="name")
    assert (found.image, found.argv) == ("a:b", ("m", "--x", '{"image": 4}', "a=b"))
    assert (found.image_retagged, found.paused) == (True, True)
    assert found.stale_mounts == (str(stale_mounts), str(stale_mounts))
    started = host.get_fact(SystemdUnit, unit="a.service").started
    assert not found.created_by_unit(started), "made long after the unit was started"
    assert (found.created, found.auto_remove) == (1795248300.123456, True)


@pytest.mark.parametrize("noted", [None, "chat.service\nvllm-gemma4.service\n"])
def test_own_units(host, tmp_path, noted):
    if noted:
        (tmp_path / "units").write_text(noted)
    found = host.get_fact(OwnUnits, directory=str(tmp_path))
    assert found == (tuple(noted.split()) if noted else ())


def test_a_unit_of_ours_says_so_in_its_first_line_by_its_own_name(host, tmp_path, monkeypatch):
    monkeypatch.setattr("ojai.facts.ledger.UNITS", str(tmp_path))
    for name, text in {
        "chat": "# Made by ojai for chat (profile e4b). Edits are found.\n[Unit]\n",
        "copy": "# Made by ojai for chat (profile e4b). Edits are found.\n[Unit]\n",
        "other": "[Unit]\n# Made by ojai for other (profile e4b).\n",
        "chat2": "",
    }.items():
        (tmp_path / f"{name}.service").write_text(text)
    (tmp_path / "link.service").symlink_to("/dev/null")
    assert host.get_fact(OwnUnits, directory=str(tmp_path)) == ("chat.service",)


def test_secret_file_tells_sums_and_never_what_is_in_it(host, tmp_path):
    place = tmp_path / "a.env"
    assert host.get_fact(SecretFile, path=str(place), names=("HF_TOKEN",)) is None
    place.write_bytes(b"# HF_TOKEN=no\xe9\nHF_TOKEN=hf_secret\n HF_TOKEN = two\nHF_TOKEN_X=3\nOTHER=1")
    place.chmod(0o640)
    names = ("HF_TOKEN", "OTHER", "UNSET")
    sums = {
        "HF_TOKEN": hashlib.sha256(b"HF_TOKEN=hf_secret\n HF_TOKEN = two\n").hexdigest(),
        "OTHER": hashlib.sha256(b"OTHER=1\n").hexdigest(),
        "UNSET": hashlib.sha256(b"").hexdigest(),
    }
    assert host.get_fact(SecretFile, path=str(place), names=names) == Secrets(USER, GROUP, "640", sums)
    told = host.sh(SecretFile().command(path=str(place), names=names)).stdout
    assert "hf_secret" not in told and base64.b64encode(b"hf_secret").decode()[:-4] not in told
    link = tmp_path / "link"
    link.symlink_to(place)
    assert host.get_fact(SecretFile, path=str(link), names=names) is None


@pytest.mark.skipif(os.getuid() != 0, reason="what belongs to root")
def test_loose_is_what_others_can_change(host, tmp_path):
    folder = tmp_path / "ojai"
    assert host.get_fact(Loose, directory=str(folder)) == ()
    for name in ("added", "releases"):
        (folder / name).mkdir(parents=True)
    (folder / "added" / "units").write_text("a.service\n")
    (folder / "link").symlink_to("/nowhere")
    assert host.get_fact(Loose, directory=str(folder)) == ()
    (folder / "added").chmod(0o777)
    os.chown(folder / "added" / "units", 65534, 0)
    assert set(host.get_fact(Loose, directory=str(folder))) == {
        str(folder / "added"),
        str(folder / "added" / "units"),
    }


@pytest.fixture
def closed():
    """A folder that only root can change, as every folder above it."""
    if os.getuid():
        pytest.skip("only root can make one")
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_shared_place(host, closed, tmp_path):
    place, end = closed / "daemon.json", closed / "end"
    asked = lambda: host.get_fact(SharedPlace, path=str(place))  # noqa: E731
    assert asked() == Place(str(place))
    place.write_text("{}")
    assert asked() == Place(str(place))
    place.unlink()
    place.symlink_to("end")
    assert asked() == Place(str(end), "a link to end, where no file is")
    end.write_text("{}")
    end.chmod(0o644)
    assert asked() == Place(str(end)), "only root can change it"
    end.chmod(0o664)
    assert asked().unsafe == f"a link to {end}, where {end} belongs to root with mode 664"
    end.chmod(0o644)
    os.chown(end, 65534, 0)
    assert "belongs to nobody" in asked().unsafe
    place.unlink()
    (tmp_path / "theirs").write_text("{}")
    place.symlink_to(tmp_path / "theirs")
    assert re.search(r"where /\S+ belongs to \S+ with mode 1?77", asked().unsafe), "whoever may write to a folder above"
    place.unlink()
    place.mkdir()
    assert asked().unsafe == "a folder"


def test_json_is_merged_into_what_a_link_points_at(host, closed, monkeypatch):
    """Docker's configuration in a folder of root's own: the link stays, before, while and after ours is in it."""
    monkeypatch.setattr(files, "ADDED_DIR", str(closed / "added"))
    place, end = closed / "daemon.json", closed / "dotfiles.json"
    text = '{"data-root": "/big",  "log-driver": "journald"}'
    end.write_text(text)
    end.chmod(0o640)
    place.symlink_to(end)
    host.apply(files.json_merged, path=str(place), values={"registry-mirrors": ["https://a"]})
    assert place.is_symlink() and json.loads(end.read_text())["registry-mirrors"] == ["https://a"]
    assert json.loads(end.read_text())["data-root"] == "/big" and end.stat().st_mode & 0o777 == 0o640
    host.apply(files.json_merged, path=str(place), values={})
    assert place.is_symlink() and end.read_text() == text
    end.chmod(0o666)
    with pytest.raises(AssertionError, match=r"found a link to \S+, where"):
        host.apply(files.json_merged, path=str(place), values={"registry-mirrors": ["https://a"]})
    assert end.read_text() == text


def engine_of(programs, **answers):
    """The engine as the whole report has it, on a machine with these programs."""
    answers = {"dpkg-query": "exit 1", "findmnt": "exit 1", "systemctl": "exit 0", **answers}
    for name, script in answers.items():
        host = programs(name, script)
    host.environment["PATH"] = f"{Path(host.environment['PATH'].split(':')[0])}:/usr/bin:/bin"
    return host.get_fact(HostReport).engine


DPKG = r"""
case "$*" in
  -S*)
    for path; do case $path in
      */programs/dockerd) echo "moby-engine: $path";;
      */programs/docker) echo "moby-cli:amd64: $path";;
    esac; done;;
  *moby-engine*) printf 'installed\tmoby-engine 27.1\nconfig-files\tdocker.io 26.1\n';;
esac
"""
INFO = r"""
case "$1" in
  --version) echo 'Docker version 27.1.0, build 1';;
  info)
    printf '{"version":"27.1.0","root":"/big/docker",\n'
    printf '"driver":"overlay2","status":[["Backing Filesystem","extfs"]],\n"security":["name=userns"]}\n';;
  *) exit 1;;
esac
"""


def test_engine_of_another_vendor(programs):
    found = engine_of(
        programs,
        **{
            "dpkg-query": DPKG,
            "docker": INFO,
            "dockerd": "exit 0",
            "systemctl": "case $* in *Load*) echo loaded;; *Active*) echo active;; *File*) echo masked;; esac",
        },
    )
    assert found.packages == {"moby-engine": "27.1"} and found.there and not found.ours
    assert found.docker.package == "moby-cli" and found.dockerd.package == "moby-engine"
    assert found.client_version == "Docker version 27.1.0, build 1"
    assert found.server == Server("27.1.0", "/big/docker", "overlay2", False, ("name=userns",))
    assert found.units["docker.service"] == Unit("loaded", "active", "masked")


def test_engine_that_does_not_answer_or_is_another_program(programs):
    for script in ("exit 1", "echo '{'", "echo nonsense", "echo '[]'", 'echo \'{"version": ""}\''):
        found = engine_of(programs, docker=script)
        assert found.server is None and found.docker.package == "" and found.ours
    assert engine_of(programs).server is None


def test_rejected_by_dockerd(programs, tmp_path):
    """With the options of the daemon that runs; never with userns-remap, for which dockerd would create a user."""
    place, log = tmp_path / "daemon.json", tmp_path / "log"
    place.write_text("{}")
    host = programs(
        "dockerd",
        f"""case $* in *--validate*) echo "$@" >> {log};; *) exit 0;; esac
printf 'time=x level=info\\nunable to configure: no\\n' >&2; exit 1""",
    )
    ask = f"{REJECTED}\nrejected {place}"
    programs("systemctl", "echo 0")
    assert host.sh(ask).stdout == "unable to configure: no\n"
    assert log.read_text() == f"--validate --config-file={place}\n"
    place.write_text('{"userns-remap": "default"}')
    assert host.sh(ask).stdout == "" and log.read_text().count("\n") == 1
    place.write_text("{}")
    programs("dockerd", "echo 'unknown flag: --validate' >&2; exit 125")
    assert host.sh(ask).stdout == "", "older than 23.0"
    programs("dockerd", "exit 0")
    assert host.sh(ask).stdout == ""


def test_rejected_by_dockerd_with_the_options_that_it_runs_with(programs, tmp_path):
    (tmp_path / "daemon.json").write_text("{}")
    program = tmp_path / "programs" / "dockerd"
    host = programs("dockerd", 'case $* in *--validate*) echo "refused: $*" >&2; exit 1;; *) sleep 60; exit 0;; esac')
    with subprocess.Popen([program, "-H", "fd://", "--config-file", "/etc/other"], start_new_session=True) as running:
        try:
            programs("systemctl", f"echo {running.pid}")
            said = host.sh(f"{REJECTED}\nrejected {tmp_path}/daemon.json").stdout
        finally:
            os.killpg(running.pid, signal.SIGTERM)
    assert said == (f"refused: -H fd:// --config-file /etc/other --validate --config-file={tmp_path}/daemon.json\n")


def test_folders(programs, tmp_path):
    real, link, file = tmp_path / "real", tmp_path / "link", tmp_path / "file"
    real.mkdir()
    link.symlink_to(real)
    file.write_text("")
    host = programs("findmnt", f"printf '%s\\n' / {tmp_path} {tmp_path}/rea none")
    asked = (str(real), str(link), str(file), str(real / "new"))
    found = host.get_fact(HostReport, data_folders=asked).folders
    assert found.not_folders == {str(link): f"a link to {real}", str(file): "a file"}
    assert found.not_mounted == (str(tmp_path),), "/ is mounted, and /…/rea is not above /…/real"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answers.get(self.path, (403, "refused"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


MODELS = '{"object": "list",\n "data": [{"id": "a/b"}, {"id": "lora"}]}'


@pytest.mark.parametrize(
    ("health", "models", "found"),
    [
        (200, (200, MODELS), Endpoint(200, ("a/b", "lora"))),
        (503, (503, ""), Endpoint(503)),
        (200, (401, '{"error": "Unauthorized"}'), Endpoint(200, (), locked=True)),
        (200, (200, "<html>\nnothing</html>"), Endpoint(200)),
        (404, (404, "[]"), Endpoint(404)),
    ],
)
def test_server_endpoint(programs, server, health, models, found):
    server.answers = {"/health": (health, ""), "/v1/models": models}
    programs("ss", listening(server.server_port))
    # In place of the container's id something that stands in this process's cgroup.
    host = programs("docker", "echo /")
    assert host.get_fact(ServerEndpoint, port=server.server_port, **API) == found


@pytest.fixture
def refusing_proxy():
    """The environment of a machine with a proxy for everything, which refuses loopback addresses; and who asked it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        found.answers = {}
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{found.server_port}"
        yield dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"), address)
        found.shutdown()
        thread.join()


def test_server_endpoint_is_not_asked_by_the_machine_s_proxy(programs, server, refusing_proxy, tmp_path):
    """Set in the environment, with localhost excepted but no address, or in root's .curlrc."""
    server.answers = {"/health": (200, ""), "/v1/models": (200, MODELS)}
    programs("ss", listening(server.server_port))
    host = programs("docker", "echo /")
    (tmp_path / ".curlrc").write_text(f"proxy = {refusing_proxy['http_proxy']}\n")
    for settings in (refusing_proxy, {**refusing_proxy, "no_proxy": "localhost,.lan"}, {"CURL_HOME": str(tmp_path)}):
        host.environment.update({"no_proxy": "", "CURL_HOME": "/nonexistent"} | settings)
        plain = host.sh(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{server.server_port}/health")
        assert plain.stdout == "403", "the proxy is not in force, so this proves nothing"
        assert host.get_fact(ServerEndpoint, port=server.server_port, **API) == Endpoint(200, ("a/b", "lora"))


def test_whoever_asks_the_host_s_own_address_asks_past_a_proxy():
    root = Path(__file__).resolve().parents[2]
    asks = [
        (str(file.relative_to(root)), line.strip())
        for folder in ("ojai/facts", "ojai/operations", "roles", "tests/host", "examples")
        for file in (root / folder).rglob("*.py")
        for line in file.read_text().splitlines()
        if re.search(r"\bcurl -", line) and "curl --fail" not in line
    ]
    assert len(asks) >= 3
    assert [ask for ask in asks if "curl -q --noproxy '*'" not in ask[1]] == []


def listening(port):
    """``ss`` on a machine where this process has the port."""
    return f"""[ "$*" = "-ltnpH sport = :{port}" ] || exit 1
printf 'LISTEN 0 5 127.0.0.1:{port} 0.0.0.0:* users:(("a",pid={os.getpid()},fd=3),("a",pid={os.getpid()},fd=4))\n'"""


def test_server_endpoint_of_another_program(programs, server):
    server.answers = {"/health": (200, ""), "/v1/models": (200, MODELS)}
    programs("ss", listening(server.server_port))
    name = Path("/proc/self/comm").read_text().strip()
    for docker in ("exit 1", "echo 0123456789abcdef"):
        found = programs("docker", docker).get_fact(ServerEndpoint, port=server.server_port, **API)
        assert found.others == (f"{os.getpid()} {name}",)
        assert found.health == 200 and not found.serves("a/b")


def test_server_endpoint_where_nothing_listens(programs):
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as gone:
        port = gone.server_port
    programs("ss", "exit 0")
    assert programs("docker", "exit 1").get_fact(ServerEndpoint, port=port, **API) == Endpoint()


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """A host that speaks German, as sshd's PAM gives a login its language and sudo keeps it."""
    folder = tmp_path_factory.mktemp("locale")
    made = folder / "de_DE.UTF-8"
    built = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(made)], capture_output=True, check=False
    )
    if not built or not made.exists():
        pytest.skip("this machine cannot build a locale (localedef, locales)")
    return {"LANG": "de_DE.UTF-8", "LANGUAGE": "de", "LOCPATH": str(folder)}


def test_facts_do_not_depend_on_the_hosts_language(german, programs, tmp_path):
    programs("systemctl", f"SINCE='Sat 2026-11-21 05:00:00.000001 UTC'\n{SYSTEMCTL}")
    host = programs("docker", "exit 1")
    host.environment.update(german)
    host.environment.pop("LC_ALL", None)
    (tmp_path / "file").write_text("x")
    assert host.get_fact(Places, paths=(str(tmp_path),))[str(tmp_path)].kind == "directory"
    assert host.get_fact(SystemdUnit, unit="a.service", inputs=(str(tmp_path / "file"),)).active == "active"
