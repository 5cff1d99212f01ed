"""What an installed Ubuntu does by itself, and a bare system does not: on the machine's own apt, with real archives."""

from __future__ import annotations

import json
import sys

import pytest
from apt_root import AptRoot, pytestmark  # noqa: F401
from test_apt_for_real import OURS, archives, box, refused, source, told  # noqa: F401
from test_apt_foretold import look as foretell  # noqa: F401

from ojai.operations import apt

#: As the installer of 24.04 writes it.
UBUNTU_SOURCES = """\
# See http://help.ubuntu.com/community/UpgradeNotes for how to upgrade to
# newer versions of the distribution.

# Ubuntu distribution repository
#
# Enabled: no would switch the next stanza off.
Types: deb
URIs: {release}
Suites: noble
Components: main
Trusted: yes

## Ubuntu security updates. Aside from URIs and Suites,
## this should mirror your choices in the previous section.
Types: deb
URIs: {security}
Suites: noble
Components: main
Trusted: yes
"""

#: What Ubuntu Pro and its news put into apt's output, and what the login prints.
ADVERTISEMENTS = """\
Get more security updates through Ubuntu Pro with 'esm-apps' enabled:
  libavcodec60 docker.io containerd
Learn more about Ubuntu Pro at https://ubuntu.com/pro
The following packages will be REMOVED from the news:
#
# News about significant security updates, features and services will
# appear here to raise awareness and perhaps tease /r/Linux ;)
#
12 updates can be applied immediately.
7 of these updates are standard security updates.
"""

#: A program that apt asks by its own protocol, as the one of Ubuntu Pro, and that prints what it likes.
HOOK = f"""\
import json, os, socket, sys
line = socket.socket(fileno=int(os.environ["APT_HOOK_SOCKET"])).makefile("rw")
for text in line:
    if not text.strip():
        continue
    asked = json.loads(text)
    if asked["method"].endswith(".hello"):
        line.write(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], "result": {{"version": "0.2"}}}}) + "\\n\\n")
        line.flush()
    elif asked["method"].endswith(".bye"):
        break
    else:
        print({ADVERTISEMENTS!r}, flush=True)
        open(sys.argv[1], "a").write(asked["method"] + "\\n")
"""


def configured(box: AptRoot, text: str) -> None:  # noqa: F811
    """Add to the host's configuration of apt."""
    with (box.root / "apt.conf").open("a") as config:
        config.write(text)


@pytest.fixture
def phased(box):  # noqa: F811
    """An update that this machine is not let have yet, and a package that needs it."""
    box.ok("apt-get -q -y install tool-b")
    box.deb(box.pool("updates"), "tool-b", "2", Phased_Update_Percentage="0")
    box.deb(box.pool("updates"), "needs-update", "2", Depends="tool-b (>= 2)")
    box.source("updates.sources", source(box.archive("updates", "Ubuntu")))
    box.ok("apt-get -q update")
    configured(box, 'APT::Machine-ID "0123456789abcdef0123456789abcdef";\nAPT::Get::Phase-Policy "true";\n')
    assert box.sh("apt-get --simulate install needs-update").returncode != 0, "the update is not phased here"
    return box


def test_it_does_not_depend_on_the_machine_whether_ours_can_be_installed(phased, foretell):  # noqa: F811
    """Before: refused on those machines of a fleet that an update comes to last, with APT::Get::Phase-Policy."""
    _, failed, _ = foretell(kernel_package="needs-update")
    assert failed == []
    assert phased.apply(apt.packages, names=["needs-update"])
    assert phased.versions() == {"needs-update": "2", "tool-b": "2"}


def test_an_update_that_nothing_of_ours_needs_stays_phased(phased):
    assert phased.apply(apt.packages, names=["tool-a"])
    assert phased.versions() == {"tool-a": "1", "tool-b": "1"}


def test_ubuntus_own_file_has_two_stanzas_and_comments(box, archives, told):  # noqa: F811
    release = f"file:{archives}/ubuntu"
    box.source("ubuntu.sources", UBUNTU_SOURCES.format(release=release, security=release.replace("file:", "copy:")))
    ours = f"{box.root}/etc/apt/sources.list.d/ojai-rocm.sources"
    assert box.apply(apt.lists_updated, inputs=[ours])
    assert not [line for line in told if "failed" in line]
    (box.root / "var/lib/ojai/apt-refreshed").unlink()
    box.source("ubuntu.sources", UBUNTU_SOURCES.format(release=release, security="http://127.0.0.1:1/security"))
    said = refused(box, apt.lists_updated, inputs=[ours])
    assert "http://127.0.0.1:1/security noble" in said, "the second stanza is the distribution's too"


@pytest.fixture
def talkative(box, tmp_path):  # noqa: F811
    """A host on which everything that apt does is commented on."""
    hook, text = tmp_path / "hook.py", tmp_path / "advertisements"
    hook.write_text(HOOK)
    text.write_text(ADVERTISEMENTS)
    run = json.dumps(f"{sys.executable} {hook} {tmp_path}/asked")
    configured(
        box,
        f"AptCli::Hooks::Install {{ {run}; }};\nAptCli::Hooks::Upgrade {{ {run}; }};\n"
        f'APT::Update::Pre-Invoke {{ "cat {text}"; }};\nAPT::Update::Post-Invoke-Success {{ "cat {text}"; }};\n'
        f'DPkg::Pre-Invoke {{ "cat {text}"; }};\nDPkg::Post-Invoke {{ "cat {text}"; }};\n',
    )
    return box


def test_advertisements_are_no_answers(talkative, foretell, tmp_path):  # noqa: F811
    found, failed, warned = foretell()
    assert (failed, warned, dict(found.apt.refusals)) == ([], [], {})
    assert found.apt.offers == {"rocminfo": OURS}
    assert (tmp_path / "asked").read_text(), "nothing was advertised while looking"
    assert talkative.apply(apt.packages, names=["docker.io"])
    assert talkative.apply(apt.packages, names=["rocminfo"], origin=talkative.amd)
    assert set(talkative.versions()) == {"containerd", "docker.io", "rocm-core", "rocminfo"}
    assert talkative.versions()["rocminfo"] == OURS
    assert set(talkative.noted("dependencies")) == {"containerd", "rocm-core"}
    assert not talkative.apply(apt.packages, names=["docker.io"])


def test_what_stands_in_the_way_is_found_among_advertisements(talkative, foretell):  # noqa: F811
    talkative.sh(f"dpkg --root={talkative.root} -i {talkative.deb(talkative.root / 'debs', 'containerd.io', '1')}")
    _, (failed,), _ = foretell()
    assert failed.check == "apt" and "it excludes containerd.io;" in f"{failed.found};"


def test_needrestart_restarts_nothing_while_we_install(box, tmp_path):  # noqa: F811
    """Ubuntu's hook runs after each call of dpkg, and by itself restarts what has been upgraded."""
    hook, restarted = tmp_path / "hook", tmp_path / "restarted"
    hook.write_text(f'[ -n "$NEEDRESTART_SUSPEND" ] || echo restarted >> {restarted}\n')
    configured(box, f'DPkg::Post-Invoke {{ "sh {hook}"; }};\n')
    assert box.apply(apt.packages, names=["docker.io"])
    assert box.apply(apt.packages_removed, names=["docker.io"])
    assert not restarted.exists()
    box.ok("apt-get -q -y install tool-a")
    assert restarted.exists(), "the hook is not run at all"


def test_a_metapackage_that_has_become_transitional_is_told_before_it_is_installed(box, foretell):  # noqa: F811
    """As when a rolling name moves to the HWE kernel: the flavour that is asked for would never be there to boot."""
    image = box.deb(box.pool("kernels"), "linux-image-7.0.0-44-generic", "7.0.0-44.44")
    box.deb(image.parent, "linux-image-generic-hwe-24.04", "7.0.0-44.44", Depends="linux-image-7.0.0-44-generic")
    box.deb(image.parent, "linux-oem-24.04d", "7.0.0-44.44", Depends="linux-image-generic-hwe-24.04")
    box.source("kernels.sources", source(box.archive("kernels", "Ubuntu")))
    box.ok("apt-get -q update")
    found, (failed,), _ = foretell(kernel_package="linux-oem-24.04d")
    assert found.apt.kernels == ("7.0.0-44-generic",)
    assert failed.check == "kernel package" and "linux-oem-6.17 for the flavour oem" in failed.todo
    _, failures, _ = foretell(kernel_package="linux-oem-24.04d", kernel_flavour="generic")
    assert failures == []
