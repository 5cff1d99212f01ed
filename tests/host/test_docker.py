"""Docker runs, comes back after a boot, turns its logs, and asks the mirrors it should."""

import json
import re


def test_own_source_trusts_one_key_and_it_has_the_fingerprint(mini):
    if mini.settings.docker_source != "docker":
        return
    keyrings = mini.text("sed -n 's/^Signed-By: *//p' /etc/apt/sources.list.d/ojai-docker.sources").split()
    assert len(keyrings) == 1, keyrings
    shown = mini.text(
        f"d=$(mktemp -d); trap 'rm -rf $d' EXIT; GNUPGHOME=$d gpg --batch --with-colons --show-keys {keyrings[0]}"
    )
    primary = re.findall(r"^pub:.*\nfpr:+([0-9A-F]{40}):", shown, re.MULTILINE)
    assert primary == [mini.settings.docker_key_fingerprint.replace(" ", "").upper()]


def test_engine_answers_and_starts_at_boot(mini):
    assert mini.text("timeout 20 docker version --format '{{.Server.Version}}'")
    assert mini.text("systemctl is-enabled docker.service") == "enabled"


def test_what_the_engine_needs_is_not_masked(mini):
    """A masked unit runs on; docker.service would not come up at the next boot."""
    for unit in ("containerd.service", "docker.socket"):
        assert "masked" not in mini.run(f"systemctl is-enabled {unit}").stdout, f"{unit} is masked"


def test_engine_has_read_its_configuration(mini):
    since = mini.text('date -d "$(systemctl show docker -p ExecMainStartTimestamp --value)" +%s')
    changed = mini.text("stat -c %Y /etc/docker/daemon.json")
    assert int(changed) <= int(since) + 1, "daemon.json was changed after the daemon was started"


def test_configuration_can_be_read_and_has_our_settings(mini):
    try:
        found = json.loads(mini.text("cat /etc/docker/daemon.json"))
    except ValueError as error:
        raise AssertionError(f"/etc/docker/daemon.json: {error}") from None
    assert found.get("log-opts", {}).get("max-size") == mini.settings.docker_log_max_size
    owner, mode = mini.text("stat -c '%U %a' /etc/docker/daemon.json").split()
    assert (owner, int(mode, 8) & 0o022) == ("root", 0), "/etc/docker/daemon.json is not closed"


def test_engine_logs_as_it_should(mini):
    assert mini.text("timeout 20 docker info --format '{{.LoggingDriver}}'") == "json-file"


def test_engine_asks_the_mirrors(mini):
    expected = [f"{url}/" for url in mini.settings.docker_registry_mirrors]
    found = json.loads(mini.text("timeout 20 docker info --format '{{json .RegistryConfig.Mirrors}}'")) or []
    assert [url for url in expected if url not in found] == []


def test_container_logs_are_rotated(services):
    for served in services:
        log = json.loads(served.inspect("{{json .HostConfig.LogConfig}}"))
        settings = served.mini.settings
        assert log["Type"] == "json-file"
        assert log["Config"] == {
            "max-size": settings.docker_log_max_size,
            "max-file": str(settings.docker_log_max_file),
        }
