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
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from real_host import RealHost

from ojai.facts.apt import AptOffers, AptPackages, KeyringFingerprints, SourceRefreshed
from ojai.facts.docker import DockerContainer, DockerDaemon, DockerImage, Pulled, PulledImage, RunningContainers
from ojai.facts.files import Entry, Existing, File, Places, SecretFile, Secrets, SmallFile
from ojai.facts.groups import DEVICE, GpuDevices, Groups
from ojai.facts.kernel import BootFiles, KernelState, Lacking, Ttm, TtmLimit
from ojai.facts.ledger import Added, Loose, OwnUnits
from ojai.facts.report import HostReport
from ojai.facts.service import Endpoint, ServerEndpoint, SystemdUnit

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
    assert (found.unmet == ()) is (check.returncode == 0), (found.unmet, check.stderr)
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
    assert host.get_fact(AptPackages, names=("a",)).unmet == ("nowhere", "runc")


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
    os.utime(source, (1, 1))

    def read() -> bool:
        command = SourceRefreshed().command(stamp=str(mark), inputs=(str(source),))
        done = host.sh(rooted(command, tmp_path, "/var/lib/apt/"))
        return SourceRefreshed().process(done.stdout.splitlines())

    assert not read()
    write(tmp_path, **{"var/lib/apt/lists/host.example:80_rocm%5fx_apt_7.2_dists_noble_InRelease": ""})
    assert read()


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
    host = programs("docker", """echo '"json-file" ["http://a/"]'""")
    programs_ = host.get_fact(DockerDaemon)
    assert (programs_.there, programs_.answers, programs_.driver, programs_.mirrors) == (
        True,
        True,
        "json-file",
        ("http://a/",),
    )


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
            "etc/modprobe.d/amd.conf": "# by hand\noptions ttm pages_limit=2\n",
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
    "etc/apt/sources.list.d/ubuntu.sources": "URIs: http://archive.example.org/ubuntu/\n",
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
    assert (found.dkms, found.rocm_trees, found.apt_sources, found.overcommit_memory) == ((), (), (), 0)
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


def test_report_passes_over_sources_that_are_switched_off(host, tmp_path):
    source = "Types: deb\nURIs: https://repo.radeon.com/rocm/apt/7.1\nSuites: noble\n"
    write(
        tmp_path,
        **TREE,
        **{
            "etc/apt/sources.list.d/off.sources": f"Enabled: no\n{source}",
            "etc/apt/sources.list.d/half.sources": f"Enabled: no\n{source}\n{source}",
            "etc/apt/sources.list.d/on.sources": f"Enabled: yes\n{source}",
        },
    )
    (tmp_path / "opt").mkdir()
    found = {entry.split(":", 1)[0].rpartition("/")[2] for entry in report(host, tmp_path).apt_sources}
    assert found == {"half.sources", "on.sources"}


def test_report_has_the_drop_ins_of_many_units(host, tmp_path):
    """Not those of the unit alone, nor of another one."""
    folders = (
        "service.d",
        "vllm-.service.d",
        "vllm-gemma4-.service.d",
        "vllm-gemma4.service.d",
        "vllm-other.service.d",
    )
    write(tmp_path, **TREE, **{f"etc/systemd/system/{folder}/a.conf": "[Service]\n" for folder in folders})
    write(tmp_path, **{"etc/systemd/system/service.d/b.txt": "", "usr/lib/systemd/system/service.d/c.conf": ""})
    (tmp_path / "opt").mkdir()
    command = HostReport().command(units=("vllm-gemma4.service", "vllm-gemma4-b.service"))
    done = host.sh(rooted(command, tmp_path, "/sys/", "/proc/", "/etc/", "/opt/", "/run/", "/usr/"))
    found = HostReport().process(done.stdout.replace(str(tmp_path), "").splitlines())
    etc = "/etc/systemd/system"
    every = (f"{etc}/service.d/a.conf", "/usr/lib/systemd/system/service.d/c.conf")
    assert found.shared_dropins == {
        "vllm-gemma4.service": (*every, f"{etc}/vllm-.service.d/a.conf"),
        "vllm-gemma4-b.service": (
            *every,
            f"{etc}/vllm-gemma4-.service.d/a.conf",
            f"{etc}/vllm-.service.d/a.conf",
        ),
    }


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
            "etc/apt/sources.list.d/amdgpu.sources": "Types: deb\nURIs: https://repo.radeon.com/amdgpu/7.1/ubuntu/\n",
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
    assert [entry.split(":", 1)[0].rpartition("/")[2] for entry in found.apt_sources] == ["rocm.list", "amdgpu.sources"]
    assert found.missing_users == ("no-such-user",)
    assert found.env_names[f"{tmp_path}/a.env"] == ("HF_TOKEN", "VLLM_ROCM_USE_AITER_MHA")
    assert found.firmware == {"linux-firmware": "20251125"}
    assert found.images == ("a:b",)


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


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answers[self.path]
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
