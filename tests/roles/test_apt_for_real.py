"""apt's operations on packages that are really installed, removed and replaced, in a root of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import operation_harness  # noqa: F401  (its YAML tag)
import pytest
import yaml
from apt_root import AptRoot, pytestmark  # noqa: F401
from pyinfra.context import ctx_host, ctx_state

from ojai.operations import apt, progress

AMD = "rocm/apt/7.2"
OURS, BEFORE = "1.0.0.70200-43~24.04", "5.7.1-3build1"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Ubuntu's archive and AMD's, the first of which has an older ROCm of its own, under larger numbers."""
    place = tmp_path_factory.mktemp("archives")
    host = AptRoot(tmp_path_factory.mktemp("building"), place)
    for name, fields in {
        "curl": {},
        "gpg": {},
        "docker.io": {"Depends": "containerd"},
        "containerd": {"Conflicts": "containerd.io"},
        "tool-a": {},
        "tool-b": {},
    }.items():
        host.deb(host.pool("ubuntu"), name, "1", **fields)
    host.deb(host.pool("ubuntu"), "rocminfo", BEFORE)
    host.deb(host.pool(AMD), "rocm-core", "7.2.0.70200-43~24.04")
    host.deb(host.pool(AMD), "rocminfo", OURS, Depends="rocm-core")
    host.archive("ubuntu", "Ubuntu")
    host.archive(AMD, "repo.radeon.com")
    return place


@pytest.fixture
def box(tmp_path, archives):
    host = AptRoot(tmp_path, archives)
    host.amd = f"file:{archives}/{AMD}"
    host.source("ubuntu.sources", source(f"file:{archives}/ubuntu"))
    host.source("ojai-rocm.sources", source(host.amd))
    (tmp_path / "etc/apt/preferences.d/ojai-rocm-pin-600").write_text(
        "Package: *\nPin: release o=repo.radeon.com\nPin-Priority: 600\n"
    )
    host.ok("apt-get -q update")
    return host


def source(uri: str, suite: str = "noble", components: str = "main", trusted: str = "yes") -> str:
    return f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\nTrusted: {trusted}\n"


def owner(box: AptRoot, *words: str, name: str | None = None, **control: str) -> None:
    """What the owner installed by hand before: names of the archive's, and a package of no archive."""
    if words:
        box.ok(f"apt-get -q -y --allow-downgrades install {' '.join(words)}")
    if name:
        file = box.deb(box.root / "debs", name, "1", **control)
        box.sh(f"dpkg --root={box.root} --force-depends -i {file}")
        assert name in box.ok("dpkg-query -W")


def refused(box: AptRoot, operation, **words) -> str:
    """What an operation says that fails."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patched, ctx_state.use(box.state), ctx_host.use(box):
        patched.setattr(progress, "complain", lambda host, message: said.append(message))
        assert not all(map(box.do, operation._inner(**words)))
    return "\n".join(said)


def test_a_breakage_of_the_owners_is_left_alone(box):
    """Before: `apt-get -f install` removed the package, in the first operation of the deploy."""
    owner(box, "curl", name="brscan-vendor", Depends="libfoo-vendor1")
    owner(box, name="half", postinst="exit 1")
    assert not box.apply(apt.packages, names=["curl"])
    # apt refuses every installation now, and nothing may be removed to change that.
    said = refused(box, apt.packages, names=["gpg"])
    assert "brscan-vendor : Depends: libfoo-vendor1" in said or "unmet dependencies" in said
    assert "brscan-vendor" in box.versions()


def test_a_breakage_that_refuses_ours_is_mended_where_nothing_is_removed(box):
    owner(box, name="vendor", Depends="tool-a")
    assert box.apply(apt.packages, names=["curl"])
    assert {"vendor", "tool-a", "curl"} <= set(box.versions())
    assert "tool-a" not in box.noted("dependencies") + box.noted("packages")
    assert not box.apply(apt.packages, names=["curl"])


def test_a_package_of_others_whose_script_fails_does_not_fail_ours(box):
    owner(box, name="half", postinst="exit 1")
    assert box.apply(apt.packages, names=["curl"])
    assert "curl" in box.versions() and "half" not in box.versions()
    assert not box.apply(apt.packages, names=["curl"])


def test_ours_that_was_cut_off_is_completed(box):
    box.ok("apt-get -q -y --download-only install docker.io")
    debs = " ".join(str(file) for file in box.pool("ubuntu").glob("*.deb") if file.name.startswith(("docker", "cont")))
    (box.root / "var/lib/ojai/added").mkdir(parents=True)
    (box.root / "var/lib/ojai/added/dependencies").write_text("containerd\n")
    box.ok(f"dpkg --root={box.root} --unpack {debs}")
    assert "docker.io" not in box.versions()
    box.apply(apt.packages, names=["docker.io"])
    assert {"docker.io", "containerd"} <= set(box.versions())


def test_a_downgrade_removes_nothing(box):
    """Before: --allow-downgrades took the place of --no-remove, and the owner's package was gone."""
    owner(box, f"rocminfo={BEFORE}")
    owner(box, name="needs-new", Depends="rocminfo (>= 5.0)")
    said = refused(box, apt.packages, names=["rocminfo"], origin=box.amd)
    assert "remove is disabled" in said
    assert box.versions()["rocminfo"] == BEFORE and "needs-new" in box.versions()


def test_a_replaced_version_is_given_back_at_removal(box):
    owner(box, f"rocminfo={BEFORE}", "curl")
    assert box.apply(apt.packages, names=["rocminfo"], origin=box.amd)
    assert box.versions()["rocminfo"] == OURS
    assert box.noted("replaced") == [f"rocminfo={BEFORE}"]
    assert not box.apply(apt.packages, names=["rocminfo"], origin=box.amd)
    # A later release of ROCm replaces our own version, which is nothing to give back.
    later = AMD + ".1"
    box.deb(box.pool(later), "rocminfo", "1.0.0.70201-1~24.04", Depends="rocm-core")
    box.source("ojai-rocm.sources", source(box.archive(later, "repo.radeon.com")))
    box.ok("apt-get -q update")
    assert box.apply(apt.packages, names=["rocminfo"], origin=f"{box.amd}.1")
    assert box.noted("replaced") == [f"rocminfo={BEFORE}"]
    assert not box.apply(apt.packages_removed, names=["rocminfo"])
    (box.root / "etc/apt/sources.list.d/ojai-rocm.sources").unlink()
    assert box.apply(apt.packages_returned)
    box.apply(apt.dependencies_removed)
    assert box.versions() == {"rocminfo": BEFORE, "curl": "1"}
    assert box.noted("replaced") == []
    assert not box.apply(apt.packages_returned)


def test_a_version_that_cannot_be_had_any_more_stays_and_that_is_no_failure(box):
    owner(box, f"rocminfo={BEFORE}")
    box.apply(apt.packages, names=["rocminfo"], origin=box.amd)
    (box.root / "etc/apt/sources.list.d/ubuntu.sources").unlink()
    box.apply(apt.packages_returned)
    assert box.versions()["rocminfo"] == OURS
    assert box.noted("replaced") == []


def test_a_hold_stays_where_the_version_will_do(box):
    owner(box, "docker.io")
    box.ok("apt-mark hold docker.io")
    assert not box.apply(apt.packages, names=["docker.io"])
    assert box.ok("apt-mark showhold").split() == ["docker.io"]


def test_a_hold_in_the_way_is_refused_and_stays(box):
    owner(box, f"rocminfo={BEFORE}")
    box.ok("apt-mark hold rocminfo gpg")
    for names, origin in ((["rocminfo"], box.amd), (["gpg"], None)):
        said = refused(box, apt.packages, names=names, origin=origin)
        assert f"apt-mark unhold {names[0]}" in said
    assert set(box.ok("apt-mark showhold").split()) == {"rocminfo", "gpg"}
    assert box.versions() == {"rocminfo": BEFORE}


@pytest.mark.parametrize("cut_off", [False, True])
def test_files_are_restored_and_the_hold_with_them(box, cut_off):
    """dpkg forgets the hold of what it installs again."""
    owner(box, "curl")
    box.ok("apt-mark hold curl")
    (box.root / "opt/of/curl/version").unlink()
    if cut_off:
        hold = """printf '%s\\n' "$held" | xargs apt-mark hold"""
        command = apt.reinstall(["curl"]).replace(hold, "exit 1")
        assert box.sh(command).returncode == 1
        assert box.ok("apt-mark showhold") == "" and box.noted("holds") == ["curl"]
    assert box.apply(apt.packages, names=["curl"])
    assert (box.root / "opt/of/curl/version").exists()
    assert box.ok("apt-mark showhold").split() == ["curl"] and box.noted("holds") == []
    assert not box.apply(apt.packages, names=["curl"])


def test_removal_takes_nothing_of_others_along(box):
    """Each of two packages can be spared alone; both together cannot."""
    box.apply(apt.packages, names=["tool-a", "tool-b"])
    owner(box, name="either", Depends="tool-a | tool-b")
    box.apply(apt.packages_removed, names=["tool-a", "tool-b"])
    assert set(box.versions()) == {"tool-b", "either"}
    assert box.ok("apt-get -q check")


def test_what_conflicts_with_ours_stays(box):
    owner(box, name="containerd.io")
    said = refused(box, apt.packages, names=["docker.io"])
    assert "containerd.io" in said and "remove is disabled" in said
    assert set(box.versions()) == {"containerd.io"}


# Sources


@pytest.fixture
def told(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(apt, "say", lambda host, message: lines.append(message))
    return lines


DEAD = {
    "nobody answers": "http://127.0.0.1:1/x",
    "no Release file": "file:/nowhere/at/all",
    "credentials": "http://ada:geheim@127.0.0.1:1/x",
}


@pytest.mark.parametrize("uri", DEAD.values(), ids=DEAD.keys())
@pytest.mark.parametrize("file", ["browser.sources", "sources.list"])
def test_somebody_elses_dead_source_does_not_fail_the_run(box, told, uri, file):
    if file == "sources.list":
        (box.root / "etc/apt/sources.list").write_text(f"deb {uri} stable chrome\n")
    else:
        box.source(file, source(uri, "stable", "main", trusted="no"))
    ours = f"{box.root}/etc/apt/sources.list.d/ojai-rocm.sources"
    assert box.apply(apt.lists_updated, inputs=[ours])
    (line,) = [line for line in told if "failed" in line]
    assert uri.replace("ada:geheim@", "") in line and "geheim" not in line
    assert not box.apply(apt.lists_updated, inputs=[ours])


@pytest.mark.parametrize("file", ["ojai-rocm.sources", "ubuntu.sources"])
def test_a_source_that_is_needed_fails_the_run(box, told, file):
    place = box.source(file, source("http://127.0.0.1:1/rocm/apt/7.2", trusted="no"))
    box.source("browser.sources", source("http://127.0.0.1:1/rocm/apt/7.2.4", "stable"))
    ours = f"{box.root}/etc/apt/sources.list.d/ojai-rocm.sources"
    said = refused(box, apt.lists_updated, inputs=[ours])
    assert "http://127.0.0.1:1/rocm/apt/7.2 noble" in said
    assert not (box.root / "var/lib/ojai/apt-refreshed").exists()
    place.unlink()


def test_an_error_of_no_source_fails_the_run(box):
    box.source("contradiction.list", f"deb [signed-by=/a.gpg trusted=yes] {box.amd} noble main\n")
    box.source("ojai-rocm.sources", source(box.amd) + "Signed-By: /b.gpg\n")
    said = refused(box, apt.lists_updated, inputs=[f"{box.root}/etc/apt/sources.list.d/ojai-rocm.sources"])
    assert "Conflicting values set for option Signed-By" in said


def test_a_mirror_with_odd_characters_is_read_once(box):
    """Before: ~ was looked for as it is, so that every run read the lists again, and `ojai verify` found drift."""
    path = "~ada/a_b=c"
    box.deb(box.pool(path), "tool-c", "1")
    uri = box.archive(path, "x")
    file = str(box.source("m.sources", source(uri)))
    assert box.apply(apt.lists_updated, inputs=[file])
    assert not box.apply(apt.lists_updated, inputs=[file])
    lists = sorted(place.name for place in (box.root / "var/lib/apt/lists").glob("*ada*"))
    assert lists and "~" not in "".join(lists)
    # Its lists stay while a source has them, and go with the last one.
    assert not box.apply(apt.lists_removed, uris=[uri])
    (box.root / "etc/apt/sources.list.d/m.sources").unlink()
    assert box.apply(apt.lists_removed, uris=[uri])
    left = (box.root / "var/lib/apt/lists").glob("*ada*")
    assert not [place for place in left if not place.is_symlink()]  # only an archive of this machine is linked


# Rule 1


ROOT = Path(__file__).resolve().parents[2]
#: What of apt-get removes nothing by itself; and the one purge, of what was judged before it.
HARMLESS = re.compile(r"\b(update|indextargets)\b|--simulate purge|-q -y purge \"\$@\"'?$")
#: What is said to a person: in backquotes, or after these words.
ADVICE = re.compile(r"(`|sudo |downloaded: )$")


def calls(text: str) -> list[str]:
    """Each call of apt-get in shell, up to its end."""
    text = text.replace("\\\n", " ")
    found = re.finditer(r"\bapt(?:-get|(?= (?:install|remove|purge|upgrade|autoremove)\b)) ([^;|&\n)`]*)", text)
    return [call[1].strip() for call in found if not ADVICE.search(text[: call.start()])]


@pytest.mark.parametrize(
    "wrong",
    ["apt-get -y install a", "x && apt-get -y -f install", "apt-get purge a", "apt-get autoremove", "apt install a"],
)
def test_a_call_without_no_remove_would_be_found(wrong):
    (call,) = calls(wrong)
    assert not HARMLESS.search(call) and "--no-remove" not in call


def test_every_call_of_apt_get_is_with_no_remove():
    """Each step in the fixtures of operations, which are all code paths; and no other module writes such a step."""
    fixtures = sorted((ROOT / "tests/roles/operations").glob("*/*.yaml"))
    found = [
        (file.relative_to(ROOT), call)
        for file in fixtures
        for step in _texts(yaml.load(file.read_text(), yaml.SafeLoader)["commands"])
        for call in calls(step)
    ]
    assert sum("--no-remove" in call for _, call in found) > 20
    assert [(file, call) for file, call in found if "--no-remove" not in call and not HARMLESS.search(call)] == []
    others = [
        (file.relative_to(ROOT), call)
        for file in [*(ROOT / "ojai").rglob("*.py"), *(ROOT / "roles").glob("*.py"), ROOT / "deploy.py"]
        if "lab" not in file.parts and file != ROOT / "ojai/operations/apt.py"
        for line in file.read_text().splitlines()
        if "apt-get" in line and "`" not in line and not line.lstrip().startswith("#")
        for call in calls(line)
        if re.search(r"\b(install|remove|purge|upgrade|dist-upgrade|autoremove)\b", call) and "--simulate" not in call
    ]
    assert others == []


def _texts(found: Any) -> list[str]:
    if isinstance(found, str):
        return [found]
    return [text for each in found for text in _texts(each)] if isinstance(found, list) else []
