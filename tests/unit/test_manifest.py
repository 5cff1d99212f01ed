"""The comparison of a machine with itself, and the page that says what may differ."""

import re

from tests.lab import manifest, results
from tests.lab.manifest import EXPLAINED, Difference, differences, unexplained


def test_every_kind_of_difference_is_found():
    before = {"/etc/a": "f 644 root root 11", "/etc/b": "f 644 root root 22", "/etc/c": "f 644 root root 33"}
    after = {"/etc/a": "f 600 root root 11", "/etc/b": "f 644 root root 22", "/etc/d": "f 644 root root 44"}
    found = differences(before, after)
    assert found == [Difference("/etc/a", "changed"), Difference("/etc/c", "lost"), Difference("/etc/d", "left")]
    assert unexplained(found) == found


def test_what_a_deploy_leaves_is_not_explained_away():
    """No explanation is wide enough for a file of ours."""
    ours = (
        "/etc/ojai /etc/ojai/vllm-gemma4.env /etc/systemd/system/vllm-gemma4.service /var/lib/ojai /srv/ojai "
        "/etc/sysctl.d/99-zz-ojai.conf /etc/apt/sources.list.d/ojai-rocm.sources /etc/apt/keyrings/ojai-rocm.gpg "
        "/etc/apt/preferences.d/ojai-rocm-pin-600 /etc/ld.so.conf.d/ojai-rocm.conf /etc/modprobe.d/ojai-ttm.conf "
        "/etc/docker/daemon.json /etc/group /opt /opt/rocm /usr/bin/dockerd /var/lib/docker /var/lib/containerd "
        "/var/lib/apt/lists/repo.radeon.com_rocm_apt_7.2_dists_noble_InRelease "
        "/var/lib/apt/lists/download.docker.com_linux_ubuntu_dists_noble_InRelease"
    )
    for path in ours.split():
        assert not [e.what for e in EXPLAINED if re.fullmatch(e.pattern, path)], path


def test_the_page_is_the_one_that_the_list_gives():
    assert (results.REFERENCE / "removal.md").read_text() == manifest.page(), "run `make reference`"
