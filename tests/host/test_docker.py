"""Docker runs, comes back after a boot, asks the mirrors it should, and rotates the logs of our containers."""

import json
import re


def test_own_source_trusts_one_key_and_it_has_the_fingerprint(mini):
    if mini.settings.docker_source == "ubuntu" or not _ours(mini, "docker-ce"):
        return
    if mini.run("test -e /etc/apt/sources.list.d/ojai-docker.sources").rc != 0:
        # A source of the owner's is used as it is; apt checks what it is signed with.
        known = mini.text("apt-get -q indextargets --format '$(SITE) $(ORIGIN)' 'Created-By: Packages'").splitlines()
        sites = (mini.settings.docker_mirror.rstrip("/"), "https://download.docker.com/linux/ubuntu")
        assert [line for line in known if line.startswith(sites) or line.endswith(" Docker")], "no source of Docker's"
        return
    keyrings = mini.text("sed -n 's/^Signed-By: *//p' /etc/apt/sources.list.d/ojai-docker.sources").split()
    assert len(keyrings) == 1, keyrings
    shown = mini.text(
        f"d=$(mktemp -d); trap 'rm -rf $d' EXIT; GNUPGHOME=$d gpg --batch --with-colons --show-keys {keyrings[0]}"
    )
    primary = re.findall(r"^pub:.*\nfpr:+([0-9A-F]{40}):", shown, re.MULTILINE)
    assert primary == [mini.settings.docker_key_fingerprint.replace(" ", "").upper()]


def _ours(mini, name="docker\\.io|docker-ce|moby-engine"):
    """Whether ojai installed the engine; one that it found is the owner's to enable."""
    return mini.run(f"grep -qsxE '{name}' /var/lib/ojai/added/packages").rc == 0


def test_engine_answers_and_starts_at_boot(mini):
    assert mini.text("timeout 20 docker version --format '{{.Server.Version}}'")
    enabled = mini.run("systemctl is-enabled docker.service").stdout.strip()
    if _ours(mini):
        assert enabled == "enabled"
    else:
        assert "masked" not in enabled, "docker.service is masked"
        for service in mini.settings.services:
            wants = mini.text(f"systemctl show {service.unit} -p Requires --value").split()
            assert enabled == "enabled" or "docker.service" in wants, "nothing starts Docker at boot"


def test_what_the_engine_needs_is_not_masked(mini):
    """A masked unit runs on; docker.service would not come up at the next boot."""
    for unit in ("containerd.service", "docker.socket") if _ours(mini) else ():
        assert "masked" not in mini.run(f"systemctl is-enabled {unit}").stdout, f"{unit} is masked"


def test_engine_would_start_with_its_configuration(mini):
    """dockerd itself judges it, with the options that it runs with. It would create a user for userns-remap."""
    if mini.run("test -e /etc/docker/daemon.json && ! grep -q userns-remap /etc/docker/daemon.json").rc == 0:
        done = mini.run(
            "tr '\\0' '\\n' < /proc/$(systemctl show docker.service -p MainPID --value)/cmdline | xargs -d '\\n' "
            "sh -c '\"$@\" --validate --config-file=/etc/docker/daemon.json' sh"
        )
        assert done.rc == 0 or "unknown flag" in done.stderr, done.stderr.splitlines()[-1]


def test_configuration_has_our_mirrors(mini):
    if not mini.settings.docker_registry_mirrors:
        return
    try:
        found = json.loads(mini.text("cat /etc/docker/daemon.json"))
    except ValueError as error:
        raise AssertionError(f"/etc/docker/daemon.json: {error}") from None
    missing = set(mini.settings.docker_registry_mirrors) - set(found.get("registry-mirrors", []))
    assert not missing, f"/etc/docker/daemon.json does not name {', '.join(missing)}"
    owners = mini.text("namei -lx $(readlink -f /etc/docker/daemon.json) | awk 'NR > 1 {print $1, $2}'").splitlines()
    opened = [line for line in owners if not re.match(".{5}-..-. root$", line)]
    assert not opened, "/etc/docker/daemon.json is not closed"


def test_engine_asks_the_mirrors(mini):
    expected = [f"{url}/" for url in mini.settings.docker_registry_mirrors]
    found = json.loads(mini.text("timeout 20 docker info --format '{{json .RegistryConfig.Mirrors}}'")) or []
    assert [url for url in expected if url not in found] == []


def test_container_logs_are_rotated(services):
    for served in services:
        log = json.loads(served.inspect("{{json .HostConfig.LogConfig}}"))
        settings = served.mini.settings
        ours = {"max-size": settings.docker_log_max_size, "max-file": str(settings.docker_log_max_file)}
        assert log["Type"] == "json-file"
        # With json-file as the daemon's default too, Docker adds its options, such as labels.
        assert ours.items() <= log["Config"].items()
