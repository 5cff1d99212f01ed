"""AMD's packages come from one source that is verified by fingerprint, and see the GPU."""

import re

import pytest


def test_the_source_trusts_one_key_and_it_has_the_fingerprint(mini):
    expected = mini.settings.channel.key_fingerprint
    sources = mini.text("grep -h '^Signed-By:' $(grep -l '/rocm/apt/' /etc/apt/sources.list.d/*)").splitlines()
    keyrings = {line.split(":", 1)[1].strip() for line in sources}
    assert len(keyrings) == 1, f"several keyrings: {keyrings}"
    shown = mini.text(
        f"d=$(mktemp -d); trap 'rm -rf $d' EXIT; GNUPGHOME=$d gpg --batch --with-colons --show-keys {keyrings.pop()}"
    )
    primary = re.findall(r"^pub:.*\nfpr:+([0-9A-F]{40}):", shown, re.MULTILINE)
    assert primary == [expected]


def test_apt_can_read_the_keyring_and_nobody_but_root_can_change_it(mini):
    for keyring in mini.text("sed -n 's/^Signed-By: *//p' /etc/apt/sources.list.d/ojai-*.sources").split():
        found = mini.text(f"stat -c %U:%a {keyring}")
        assert found == "root:644", f"{keyring}: {found}"


def test_only_one_file_names_amds_packages(mini):
    found = mini.text(
        r"cd /etc/apt && grep -slEi '^[^#]*https?://[^ ]*/(rocm/apt|rocm/core|graphics|amdgpu)/' "
        "sources.list sources.list.d/*"
    )
    # A deb822 file can be switched off where it is.
    active = [file for file in found.splitlines() if mini.run(f"grep -qi '^Enabled: *no' /etc/apt/{file}").rc != 0]
    assert len(active) == 1, active


def test_packages_come_from_that_source_which_is_preferred(mini):
    channel = mini.settings.channel
    names = [*mini.settings.rocm_packages, *(["migraphx"] if mini.settings.rocm_migraphx else [])]
    for name in names:
        policy = mini.text(f"apt-cache policy {name}")
        installed = re.search(r"Installed: (\S+)", policy)
        assert installed and installed[1] != "(none)", f"{name} is not installed"
        # The lines below the installed version name where it is to be had; other versions have lines of their own.
        origins = re.search(rf"\*\*\* {re.escape(installed[1])} -?\d+\n((?: {{8}}.*\n?)*)", policy)
        assert origins and f"{channel.mirror}/{channel.rocm_path}" in origins[1], policy
        candidate = re.search(r"Candidate: (\S+)", policy)
        assert candidate and candidate[1] == installed[1], f"{name}: apt would rather have {candidate and candidate[1]}"
        assert re.search(rf"\s600 {re.escape(channel.mirror)}", policy), f"{name}: the source is not pinned at 600"


@pytest.mark.silicon
def test_rocminfo_sees_the_gpu(mini):
    if "rocminfo" not in mini.settings.rocm_packages:
        pytest.skip("rocminfo is not among rocm_packages")
    agents = mini.text("/opt/rocm/bin/rocminfo").split("Agent ")
    gpus = [agent for agent in agents if re.search(r"Device Type:\s+GPU", agent)]
    assert any(re.search(rf"Name:\s+{mini.settings.accelerator}\b", agent) for agent in gpus)


def test_there_is_one_rocm_tree(mini):
    trees = mini.text("find /opt -maxdepth 1 -type d -name 'rocm*'").splitlines()
    assert len(trees) <= 1, trees


def test_opt_rocm_leads_to_the_tree(mini):
    found = mini.run("readlink -e /opt/rocm").stdout.strip()
    assert found.startswith("/opt/rocm-"), f"/opt/rocm leads to {found or 'nothing'}"


def test_the_loader_looks_into_the_tree(mini):
    paths = mini.text("cat /etc/ld.so.conf.d/*.conf").splitlines()
    assert {f"{mini.settings.channel.tree}/lib", f"{mini.settings.channel.tree}/lib64"} <= set(paths)
    # With an empty cache it ends well, and names nothing.
    assert " => /" in mini.run("ldconfig -p").stdout, "the loader's cache cannot be read, or is empty"
    newer = mini.text("find /etc/ld.so.conf.d -newer /etc/ld.so.cache -name '*.conf'")
    assert newer == "", f"the loader has not read {newer}"
