"""What apt would do, asked while looking: refused before anything is changed. Each on packages really installed."""

from __future__ import annotations

import os
from typing import Any

import pytest
from apt_root import AptRoot, pytestmark  # noqa: F401
from test_apt_for_real import AMD, BEFORE, OURS, archives, box, owner  # noqa: F401

from ojai.facts.report import HostReport, Report
from ojai.facts.report.engine import Engine
from ojai.preflight import FailedCheck, packages
from ojai.preflight.docker import package_names
from ojai.roles.versions import pins_text
from ojai.settings import parse

DATA = {"kernel_package": "tool-a", "rocm_packages": ["rocminfo"]}


@pytest.fixture
def look(box, archives, monkeypatch):  # noqa: F811
    """``look(…settings)``: the report of the box, and what preflight has against its packages."""
    monkeypatch.setattr(packages, "TOOLS", ("curl",))

    def report(**data: Any) -> tuple[Report, list[FailedCheck], list[str]]:
        settings = parse("mini", {**DATA, "rocm_mirror": "http://mirror.invalid", **data})
        found = box.get_fact(
            HostReport,
            system_packages=(settings.kernel_package, *packages.TOOLS),
            rocm_packages=packages.rocm_packages(settings),
            engine_packages=tuple(package_names(settings, Engine())),
            rocm_archive=f"file:{archives}/{AMD}",
        )
        # The archives of these tests are ours and Ubuntu's; sources are judged in test_apt_sources.py.
        failed = [one for one in packages.failed(settings, found) if "sources" not in one.check]
        return found, failed, list(packages.warnings(settings, found))

    return report


def test_a_bare_host_has_nothing_against_it(look):
    found, failed, warned = look()
    assert (failed, warned, dict(found.apt.refusals)) == ([], [], {})
    assert found.apt.offers == {"rocminfo": OURS}


def test_what_an_engine_excludes_is_refused_while_looking(look, box):  # noqa: F811
    """Before: found by apt in the deploy, after kernel and reboot."""
    owner(box, name="containerd.io")
    _, (failed,), _ = look()
    assert (failed.check, "containerd.io" in failed.found) == ("apt", True)
    assert "containerd " not in failed.found and "remove containerd.io yourself" in failed.todo
    assert box.versions() == {"containerd.io": "1"}, "looking changes nothing"


def test_a_downgrade_that_would_remove_something_is_refused_while_looking(look, box):  # noqa: F811
    owner(box, f"rocminfo={BEFORE}", name="needs-new", Depends="rocminfo (>= 5.0)")
    _, (failed,), _ = look()
    assert failed.check == "apt" and "it excludes needs-new" in failed.found
    # The same before AMD's archive is known, when apt cannot say.
    (box.root / "etc/apt/sources.list.d/ojai-rocm.sources").unlink()
    found, (failed,), _ = look()
    assert found.apt.offers == {}
    assert failed.check == "packages that need another ROCm" and "needs-new" in failed.found
    assert "rocminfo (>= 5.0)" in failed.found


def test_a_replacement_that_removes_nothing_is_no_reason(look, box):  # noqa: F811
    owner(box, f"rocminfo={BEFORE}", name="any-version", Depends="rocminfo, curl (>= 1) | other")
    assert look()[1] == []
    (box.root / "etc/apt/sources.list.d/ojai-rocm.sources").unlink()
    assert look()[1] == []


def test_a_breakage_of_the_owners_is_told_and_refused_only_where_apt_refuses(look, box):  # noqa: F811
    owner(box, "tool-a", "curl", "docker.io", "rocminfo", name="brscan-vendor", Depends="libfoo-vendor1")
    _, failed, warned = look()
    assert failed == []
    assert warned == ["the package brscan-vendor lacks libfoo-vendor1; it is not ojai's, and is left as it is"]
    box.ok(f"dpkg --root={box.root} --purge docker.io")
    _, (failed,), _ = look()
    assert failed.check == "apt" and "brscan-vendor : Depends: libfoo-vendor1" in failed.found


def test_a_breakage_that_is_mended_by_adding_is_no_reason(look, box):  # noqa: F811
    owner(box, name="vendor", Depends="tool-b")
    _, failed, warned = look()
    assert failed == [] and len(warned) == 1


def test_what_our_own_interrupted_run_left_is_no_reason(look, box):  # noqa: F811
    (box.root / "var/lib/ojai/added").mkdir(parents=True)
    (box.root / "var/lib/ojai/added/packages").write_text("docker.io\n")
    debs = [file for file in box.pool("ubuntu").glob("*.deb") if file.name.startswith("docker")]
    box.sh(f"dpkg --root={box.root} --unpack {debs[0]}")
    found, failed, warned = look()
    assert "docker.io" in found.apt.broken
    assert (failed, warned) == ([], [])


@pytest.mark.parametrize(
    ("installed", "name", "fails"),
    [
        (["docker.io"], "docker.io", False),
        (["curl"], "curl", False),
        ([f"rocminfo={OURS}"], "rocminfo", False),
        ([f"rocminfo={BEFORE}"], "rocminfo", True),
        ([], "docker.io", True),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_hold_is_refused_only_where_it_is_in_the_way(look, box, installed, name, fails, known):  # noqa: F811
    if installed:
        owner(box, *installed)
    box.ok(f"apt-mark hold {name}")
    if not known:
        (box.root / "etc/apt/sources.list.d/ojai-rocm.sources").unlink()
    _, failed, _ = look()
    holds = [one for one in failed if one.check == "packages on hold"]
    assert [f"apt-mark unhold {name}" in one.todo for one in holds] == ([True] if fails else [])
    assert box.ok("apt-mark showhold").split() == [name]


def test_a_package_that_apt_does_not_know_is_refused_unless_its_lists_are_read_again(look, box):  # noqa: F811
    (failed,) = look(kernel_package="linux-of-tomorrow")[1]
    assert "Unable to locate package linux-of-tomorrow" in str(failed)
    for file in (box.root / "var/lib/apt/lists").glob("*Release"):
        os.utime(file, (0, 0))
    assert look(kernel_package="linux-of-tomorrow")[1] == []


@pytest.mark.parametrize(
    ("pin", "known", "fails"),
    [
        ("Package: rocminfo\nPin: release o=Ubuntu\nPin-Priority: 1001", True, True),
        ("Package: rocminfo\nPin: release o=Ubuntu\nPin-Priority: 1001", False, True),
        ("Package: curl rocminfo\nPin: release o=Ubuntu\nPin-Priority: 700", False, True),
        ("Package: *\nPin: release o=Ubuntu\nPin-Priority: 1001", True, True),
        ("Package: rocminfo\nPin: release o=Ubuntu\nPin-Priority: 100", False, False),
        ("Package: rocminfo\nPin: release o=repo.radeon.com\nPin-Priority: 900", True, False),
        ("Package: rocminfo\nPin: release o=repo.radeon.com\nPin-Priority: 900", False, False),
        ("Package: rocminfo-dev\nPin: release o=Ubuntu\nPin-Priority: 1001", True, False),
    ],
)
def test_a_pin_that_prefers_another_version_is_refused_while_looking(look, box, pin, known, fails):  # noqa: F811
    parts = box.root / "etc/apt/preferences.d"
    (parts / "99-other").write_text(f"{pin}\n")
    if not known:  # as before the first deploy
        (parts / "ojai-rocm-pin-600").unlink()
        (box.root / "etc/apt/sources.list.d/ojai-rocm.sources").unlink()
    _, failed, _ = look()
    assert [one.check for one in failed] == (["apt pins"] if fails else [])
    if fails and "rocminfo" in pin:
        assert "99-other" in failed[0].found


def test_our_own_pin_that_is_gone_is_no_reason(look, box):  # noqa: F811
    owner(box, f"rocminfo={OURS}")
    (box.root / "etc/apt/preferences.d/ojai-rocm-pin-600").unlink()
    assert look()[1] == []


@pytest.mark.parametrize("known", [True, False])
def test_the_pins_of_our_own_lock_are_not_in_our_way(look, box, known):  # noqa: F811
    parts = box.root / "etc/apt/preferences.d"
    (parts / "ojai-lock").write_text(pins_text({"rocminfo": OURS}))
    if not known:  # as on a host that has just got its pins
        (parts / "ojai-rocm-pin-600").unlink()
        (box.root / "etc/apt/sources.list.d/ojai-rocm.sources").unlink()
    found, failed, _ = look()
    assert failed == [] and any(file.endswith("/ojai-lock") for file in found.apt.pins)
