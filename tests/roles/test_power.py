"""Sleep and the desktop: systemd's own `systemctl` on a made-up root, the report on made-up trees, the warnings."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from real_host import CutOff, RealHost

import ojai.facts.power
from ojai.facts.power import SLEEP, Power
from ojai.facts.report import HostReport, Report, power
from ojai.facts.report.power import PowerReport
from ojai.operations import ledger
from ojai.operations import power as operations
from ojai.preflight.power import warnings
from ojai.settings import parse

needs_systemctl = pytest.mark.skipif(not shutil.which("systemctl"), reason="asks systemctl")

#: systemd's own, on another root; whether the display manager runs is a file.
SYSTEMCTL = """\
case $1 in
  is-active) cat "{root}/desktop";;
  stop) echo inactive > "{root}/desktop";;
  start) echo active > "{root}/desktop";;
  cat) test -e "{root}/usr/lib/systemd/system/$2";;
  daemon-reload) ;;
  *) exec {systemctl} --quiet --root="{root}" "$@" 2>/dev/null;;
esac"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealHost:
    """A host with a desktop that runs."""
    units, own = tmp_path / "usr/lib/systemd/system", tmp_path / "etc/systemd/system"
    for folder in (units, own, tmp_path / "programs"):
        folder.mkdir(parents=True)
    for name in (*SLEEP, "graphical.target", "multi-user.target", "gdm.service"):
        (units / name).write_text("[Unit]\nDescription=x\n[Service]\nExecStart=x\n")
    (units / "default.target").symlink_to("graphical.target")
    (own / "display-manager.service").symlink_to("/usr/lib/systemd/system/gdm.service")
    (tmp_path / "desktop").write_text("active\n")
    program = tmp_path / "programs/systemctl"
    program.write_text("#!/bin/sh\n" + SYSTEMCTL.format(root=tmp_path, systemctl=shutil.which("systemctl")))
    program.chmod(0o755)
    monkeypatch.setattr(ledger, "ADDED_DIR", str(tmp_path / "added"))
    monkeypatch.setattr(ojai.facts.power, "UNITS", str(own))
    monkeypatch.setattr(operations, "_LINK", str(own / "default.target"))
    return RealHost({"PATH": f"{tmp_path / 'programs'}:{os.environ['PATH']}"})


def state(tmp_path: Path) -> dict[str, str]:
    own = tmp_path / "etc/systemd/system"
    found = {str(place.relative_to(own)): str(place.readlink()) for place in own.rglob("*") if place.is_symlink()}
    return {**found, "desktop": (tmp_path / "desktop").read_text().strip()}


def headless(host: RealHost) -> Power:
    return host.get_fact(ojai.facts.power.PowerState)


@needs_systemctl
@pytest.mark.parametrize("chosen", ["", "/usr/lib/systemd/system/graphical.target"])
@pytest.mark.parametrize("masked", [(), SLEEP[:2], SLEEP])
def test_what_was_there_is_given_back(box, tmp_path, chosen, masked):
    if chosen:
        (tmp_path / "etc/systemd/system/default.target").symlink_to(chosen)
    for unit in masked:
        (tmp_path / "etc/systemd/system" / unit).symlink_to("/dev/null")
    before = state(tmp_path)
    assert not box.apply(operations.configured, headless=False)
    for _ in range(2):
        assert box.apply(operations.configured, headless=True)
        assert headless(box).sleepers == () and headless(box).target == "multi-user.target"
        assert state(tmp_path)["desktop"] == "inactive"
        assert not box.apply(operations.configured, headless=True)
        assert box.apply(operations.configured, headless=False)
        assert state(tmp_path) == before
        assert not box.apply(operations.configured, headless=False)


@needs_systemctl
@pytest.mark.parametrize("after", range(4))
def test_what_was_there_is_given_back_after_a_cut(box, tmp_path, after):
    before = state(tmp_path)
    with pytest.raises(CutOff):
        box.apply(operations.configured, headless=True, cut_off_after=after)
    assert box.apply(operations.configured, headless=True)
    assert headless(box).sleepers == () and state(tmp_path)["desktop"] == "inactive"
    with pytest.raises(CutOff):
        box.apply(operations.configured, headless=False, cut_off_after=after)
    box.apply(operations.configured, headless=False)
    assert state(tmp_path) == before


@needs_systemctl
def test_what_the_owner_chose_since_stays(box, tmp_path):
    box.apply(operations.configured, headless=True)
    place = tmp_path / "etc/systemd/system/default.target"
    place.unlink()
    place.symlink_to("/usr/lib/systemd/system/rescue.target")
    box.apply(operations.configured, headless=False)
    assert str(place.readlink()) == "/usr/lib/systemd/system/rescue.target"


def read(*lines: str) -> PowerReport:
    every: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition("\t")
        every.setdefault(key, []).append(value)
    return power.read(every)


DESKTOP = Power((), "graphical.target", "", "gdm3.service", desktop=True)
SETTINGS = parse("mini", {})


def said(found: PowerReport, **data: object) -> list[str]:
    return [text.partition(":")[0] for text in warnings(parse("mini", data), replace(Report(), power=found))]


@pytest.mark.parametrize(
    ("found", "about"),
    {
        "a host that says nothing": (PowerReport(), []),
        "a server": (PowerReport(Power(target="graphical.target"), "ignore"), []),
        "a desktop": (PowerReport(DESKTOP, "ignore"), ["sleep", "desktop"]),
        "a desktop that is not started": (PowerReport(replace(DESKTOP, target="multi-user.target", desktop=False)), []),
        "a desktop that cannot sleep": (PowerReport(replace(DESKTOP, masked=SLEEP)), ["desktop"]),
        "a server that suspends when idle": (PowerReport(Power(target="multi-user.target"), "suspend"), ["sleep"]),
        "the same, masked": (PowerReport(Power(SLEEP, "multi-user.target"), "suspend"), []),
    }.values(),
)
def test_what_is_warned_of(found, about):
    assert said(found) == about
    assert said(found, headless=True) == []


def test_the_warnings_name_what_was_found():
    clients = {"Xorg": 50 << 20, "gnome-shell": 300 << 20}
    found = PowerReport(DESKTOP, "suspend", ("greeter", "ada"), gpu_clients=clients)
    sleep, desktop = warnings(SETTINGS, replace(Report(), power=found))
    assert "logind does `suspend` when it is idle; GNOME suspends it on mains power for greeter, ada" in sleep
    assert "gdm3.service runs a graphical session" in desktop
    assert "hold memory of the GPU: gnome-shell 300 MiB, Xorg 50 MiB." in desktop


@pytest.mark.parametrize(
    ("own", "suspends"),
    [
        ("", ("ada",)),
        ("'nothing'", ()),
        ("'suspend'", ("ada",)),
    ],
)
def test_gnome_suspends_unless_the_account_has_something_else(own, suspends):
    default = ("gnome\tdefault type 'suspend'", "gnome\tdefault timeout 1200", "gnome\tgreeter type 'nothing'")
    assert read(*default, f"gnome\tada type {own}", "gnome\tada timeout ").gnome_suspends == suspends
    assert read(*default, f"gnome\tada type {own}", "gnome\tada timeout 0").gnome_suspends == ()


def test_gpu_memory_of_programs_outside_containers_each_client_once(tmp_path):
    fdinfo = "drm-driver:\tamdgpu\ndrm-client-id:\t{id}\ndrm-memory-vram:\t{vram} KiB\ndrm-memory-gtt:\t{gtt} KiB\n"
    for pid, name, group, descriptors in (
        (10, "gnome-shell", "/user.slice/x", {3: (7, 1024, 512), 4: (7, 1024, 512), 9: (8, 2048, 0)}),
        (11, "Xorg", "/user.slice/x", {5: (9, 0, 0)}),
        (12, "python3", f"/system.slice/docker-{'a' * 64}.scope", {3: (10, 1 << 20, 0)}),
    ):
        place = tmp_path / f"proc/{pid}"
        for folder in ("fd", "fdinfo"):
            (place / folder).mkdir(parents=True)
        (place / "comm").write_text(f"{name}\n")
        (place / "cgroup").write_text(f"0::{group}\n")
        (place / "fd/1").symlink_to("/dev/null")
        for number, (client, vram, gtt) in descriptors.items():
            (place / f"fd/{number}").symlink_to("/dev/dri/renderD128")
            (place / f"fdinfo/{number}").write_text(fdinfo.format(id=client, vram=vram, gtt=gtt))
    (tmp_path / "proc/meminfo").touch()
    (tmp_path / "proc/sys/vm").mkdir(parents=True)
    (tmp_path / "proc/sys/vm/overcommit_memory").write_text("0\n")
    # The root of the tree has as many folders as the shell counts: none.
    command = HostReport().command().replace("/proc/", "proc/")
    command = command.replace("IFS=/ read -r _ _ pid _ fd", "IFS=/ read -r _ pid _ fd")
    done = RealHost().sh(f"cd {tmp_path} && {command}")
    assert (done.returncode, done.stderr) == (0, "")
    found = HostReport().process(done.stdout.splitlines())
    assert found is not None
    assert found.power.gpu_clients == {"gnome-shell": (1024 + 512 + 2048) << 10}


@pytest.mark.parametrize("dconf", ["", "'nothing'"])
def test_gnome_is_asked_by_its_own_programs(tmp_path, dconf):
    """The words of the real gsettings for GNOME's schema: 'suspend' after 1200 s."""
    home = tmp_path / "home"
    (home / ".config/dconf").mkdir(parents=True)
    (home / ".config/dconf/user").touch()
    plugin = "org.gnome.settings-daemon.plugins.power"
    programs = {
        "gsettings": f'[ "$1 $2" = "get {plugin}" ] && case $3 in *-type) echo "\'suspend\'";; *) echo 1200;; esac',
        "dconf": f'case "$2" in /org/gnome/settings-daemon/plugins/power/*-type) echo "{dconf}";; esac',
        "getent": f'echo "ada:x:1000:1000::{home}:/bin/bash"',
        "runuser": '[ "$1 $2 $3" = "-u ada --" ] && shift 3 && exec "$@"',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = RealHost({"PATH": f"{tmp_path}:{os.environ['PATH']}"}).sh(HostReport().command())
    assert (done.returncode, done.stderr) == (0, "")
    found = HostReport().process(done.stdout.splitlines())
    assert found is not None
    assert found.power.gnome_suspends == (() if dconf else ("greeter", "ada"))
