"""Systems as data: what an os-release stands for, and what is said to a host that cannot be served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ojai import kernels, systems
from ojai.preflight.docker import PACKAGES
from ojai.preflight.host import failed_checks
from ojai.settings import channels, parse
from tests.unit.test_preflight import GOOD

#: ID, VERSION_ID, ID_LIKE, UBUNTU_CODENAME and PRETTY_NAME of os-release -> words of the refusal.
REFUSED = {
    ("ubuntu", "26.04", "debian", "resolute", "Ubuntu 26.04 LTS"): ("ROCm only (10.1", "install Ubuntu 24.04"),
    ("ubuntu", "22.04", "debian", "jammy", "Ubuntu 22.04.5 LTS"): ("do-release-upgrade",),
    ("ubuntu", "24.10", "debian", "oracular", "Ubuntu 24.10"): ("interim release",),
    ("ubuntu", "25.10", "debian", "questing", "Ubuntu 25.10"): ("cannot go back to 24.04",),
    ("ubuntu", "28.04", "debian", "", "Ubuntu 28.04 LTS"): ("install Ubuntu 24.04",),
    ("ubuntu-core", "24", "", "", "Ubuntu Core 24"): ("has no apt",),
    ("debian", "13", "", "", "Debian GNU/Linux 13 (trixie)"): ("no Debian", "data_directory"),
    ("linuxmint", "22.1", "ubuntu debian", "noble", "Linux Mint 22.1"): ("made from Ubuntu noble", "a derivative"),
    ("pop", "24.04", "ubuntu debian", "noble", "Pop!_OS 24.04 LTS"): ("made from Ubuntu noble", "Ubuntu 24.04 itself"),
    ("linuxmint", "6", "debian", "", "LMDE 6 (faye)"): ("no Debian",),
    ("kali", "2026.3", "debian", "", "Kali GNU/Linux Rolling"): ("no Debian",),
    ("fedora", "43", "", "", "Fedora Linux 43"): ("by apt",),
    ("arch", "", "", "", "Arch Linux"): ("virtual machine",),
    ("", "", "", "", ""): ("none named",),
}


@pytest.mark.parametrize(("release", "words"), REFUSED.items(), ids=lambda one: str(one[-1]) or "none")
def test_every_other_system_is_refused_with_the_reason_and_what_to_do(release, words):
    os_id, version, like, base, name = release
    report = replace(GOOD, os_id=os_id, os_version=version, os_like=like, os_base=base, os_name=name)
    (refused,) = failed_checks(parse("mini", {}), report)
    assert (refused.check, refused.expected) == ("operating system", "Ubuntu 24.04")
    for word in (*words, name):
        assert word in f"{refused.found} {refused.todo}"


def test_the_reference_is_what_the_settings_and_the_roles_go_by():
    facts, default = systems.reference(), parse("mini", {})
    assert [system.title for system in systems.supported()] == ["Ubuntu 24.04"]
    assert (default.kernel_package, default.kernel_flavour) == (facts.kernel_package, facts.kernel_flavour)
    assert kernels.parse(facts.kernel_example).flavour == facts.kernel_flavour
    assert kernels.parse(facts.kernel_example).order > kernels.parse(default.floor).order
    assert PACKAGES["ubuntu"] == facts.docker_packages
    # AMD's suites are called after Ubuntu's codenames.
    assert {channel.suite for channel in channels().values() if facts.rocm in channel.rocm_path} == {facts.codename}


def test_the_next_lts_is_known_with_its_own_kernel_rocm_and_docker():
    known = systems.find("ubuntu", "26.04").facts
    assert known and known.codename == "resolute"
    assert kernels.parse(known.kernel_example).base >= (7, 0)
    lines = {tuple(map(int, channel.release.split(".")[:2])) for channel in channels().values()}
    assert max(lines) < tuple(map(int, known.rocm.split("."))), "there is a channel for it: is it offered now?"


def test_a_fact_without_a_source_is_refused():
    entry = {"title": "x", "id": "x", "refused": {"why": "y", "todo": "z"}, "sources": {"rocm": "somewhere"}}
    with pytest.raises(ValueError, match="x: facts and sources differ in rocm"):
        systems.System.model_validate(entry)
    with pytest.raises(ValueError, match="x: a system that is supported needs facts"):
        systems.System.model_validate({"title": "x", "id": "x"})
