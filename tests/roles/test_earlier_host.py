"""What e5f0d01 keeps on a host (hosts/e5f0d01.yaml, taken from the lab's machine), read by the code of today.

The last ojai whose ledger and releases have no version. It was deployed to twice: with E4B, then with the 26B A4B.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api import FileUploadCommand
from test_release import Machine, pytestmark  # noqa: F401

from ojai.facts.files import Place, SecretFile, Secrets, SharedPlace
from ojai.facts.ledger import Added, Loose, OwnUnits
from ojai.facts.release import ReleaseState
from ojai.facts.report import HostReport, Report
from ojai.facts.report.apt import AptReport
from ojai.facts.report.engine import DAEMON
from ojai.operations import docker, files, release, vllm
from ojai.operations.ledger import ADDED_DIR, STATE_DIR
from ojai.paths import SCHEMA, SECRETS
from ojai.preflight.host import fact_arguments, failed_checks
from ojai.releases import serving_of
from ojai.roles.vllm import render_unit
from ojai.settings import parse

HOST = yaml.safe_load((Path(__file__).parent / "hosts" / "e5f0d01.yaml").read_text())
UNIT = "vllm-gemma4.service"
#: What the second deploy asked for.
SETTINGS = parse("lab", {"exposure": "open", "services": [{"profile": "gemma-4-26b-a4b", "start_timeout": 300}]})
SERVING = serving_of(SETTINGS.resolved[0])


@pytest.fixture
def earlier(tmp_path, monkeypatch) -> Machine:
    """The host: its files with their modes, owned by root, and its images' names."""
    monkeypatch.setattr(release, "wait_until_ready", lambda *words: True)
    found = Machine(tmp_path)
    for path, entry in HOST["files"].items():
        place = Path(f"{tmp_path}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if "text" in entry:
            place.write_text(entry["text"])
        elif "data" in entry:
            place.write_bytes(entry["data"])
        else:
            place.mkdir(exist_ok=True)
        place.chmod(int(entry["mode"], 8))
        assert entry["owner"] == "root:root", path
    for name, image_id in HOST["images"].items():
        found.has(name, image_id)
    return found


def releases(host: Machine) -> Any:
    return host.get_fact(ReleaseState, services=((SERVING.name, SERVING.image),))


def report(host: Machine) -> Report:
    """Of preflight's report what is read under /etc and /var/lib/ojai; the rest is this machine's."""
    done = host.sh(HostReport().command(**fact_arguments(SETTINGS)))
    assert done.returncode == 0, done.stderr
    return HostReport().process(done.stdout.replace(str(host.root), "").splitlines())


def test_both_releases_are_known_and_one_is_what_serves(earlier):
    found = releases(earlier)
    models = {slot: [r.serving.model for r in kept.services] for slot, kept in found.kept.items()}
    assert models == {"healthy": ["google/gemma-4-26B-A4B-it"], "previous": ["google/gemma-4-E4B-it"]}
    assert [kept.schema for kept in found.kept.values()] == [0, 0]
    assert found.held("healthy") and found.held("previous") and not found.pending
    (released,) = found.kept["healthy"].services
    assert released.contents.same_as == found.now[SERVING.name].same_as


def test_nothing_is_kept_anew_for_the_sake_of_the_version(earlier):
    assert not earlier.keep(SERVING)


def test_the_next_release_has_the_version_and_the_one_before_is_still_read(earlier):
    following = replace(SERVING, image="vllm/vllm-openai-rocm:v0.20.1-next")
    earlier.has(following.image, "sha256:" + "2" * 64)
    earlier.put(SERVING.name, "next")
    assert earlier.keep(following)
    assert {slot: kept.schema for slot, kept in earlier.kept().items()} == {"healthy": SCHEMA, "previous": 0}
    assert earlier.restore()
    assert {slot: kept.schema for slot, kept in earlier.kept().items()} == {"healthy": 0, "previous": SCHEMA}


def test_rollback_finds_the_release_before(earlier):
    kept = HOST["files"]["/var/lib/ojai/releases/previous/vllm-gemma4.unit"]["text"]
    assert earlier.restore()
    assert (earlier.root / f"etc/systemd/system/{UNIT}").read_text() == kept
    assert "google/gemma-4-E4B-it" in kept
    assert f"restart {UNIT}" in earlier.asked()


def test_the_unit_is_ours_also_without_its_note(earlier):
    assert earlier.get_fact(OwnUnits, directory=ADDED_DIR) == (UNIT,)
    (earlier.root / "var/lib/ojai/added/units").unlink()
    assert earlier.get_fact(OwnUnits, directory=ADDED_DIR) == (UNIT,)


@pytest.mark.parametrize(("slot", "profile"), [("healthy", "gemma-4-26b-a4b"), ("previous", "gemma-4-e4b")])
def test_the_unit_of_today_differs_only_as_the_changelog_says(slot, profile):
    """Any difference makes the next deploy restart the server of every host, once.

    Meant, and in the changelog: the log's rotation is the container's own, a missing cache folder is an error, the
    unit waits for the data disk, docker's client has a sandbox, and the 26B profile no longer tunes on every start.
    """
    settings = parse("lab", {"exposure": "open", "services": [{"profile": profile, "start_timeout": 300}]})
    service = settings.resolved[0].on_host({"video": 44, "render": 992}, "3c54bb91fa2c")
    kept = HOST["files"][f"/var/lib/ojai/releases/{slot}/vllm-gemma4.unit"]["text"]
    changed = re.sub(r"^    -v ([^:]+):(\S+)", r"    --mount type=bind,src=\1,dst=\2", kept, flags=re.MULTILINE)
    changed = changed.replace("PYTORCH_TUNABLEOP_TUNING=1 ", "PYTORCH_TUNABLEOP_TUNING=0 ")
    for line, before in {
        "".join(
            f"    {option} \\\n"
            for option in ("--log-driver=json-file", "--log-opt max-size=50m", "--log-opt max-file=5")
        ): "    --network=host",
        "# A data disk that is mounted late, or not at all: wait for it, and do not start without it.\n"
        f"RequiresMountsFor={' '.join(re.findall('src=([^,]+)', changed))}\n": "# A model that cannot load",
    }.items():
        assert changed.count(before) == 1
        changed = changed.replace(before, line + before)
    unit, sandbox, rest = re.split(
        r"(?<=\n)(\n# Of the client, .*?\n)(?=\n\[Install\])", render_unit(service), flags=re.DOTALL
    )
    assert "NoNewPrivileges=yes" in sandbox and "\nExec" not in sandbox
    assert unit + rest == changed


def test_once_its_model_is_recorded_the_unit_gains_these_lines_and_no_other():
    """So the deploy that fetches for the first time restarts each service once: meant, and in the changelog."""
    service, numbers = SETTINGS.resolved[0], {"video": 44, "render": 992}
    before = render_unit(service.on_host(numbers, "3c54bb91fa2c"))
    after = render_unit(service.on_host(numbers, "3c54bb91fa2c", {service.model: "0" * 40}))
    gained = [
        "    -e HF_HUB_OFFLINE=1 \\\n",
        f"    --revision {'0' * 40} \\\n",
        f"    --served-model-name {service.model} \\\n",
    ]
    lines = after.splitlines(keepends=True)
    assert [line for line in lines if line not in gained] == before.splitlines(keepends=True)
    assert [line for line in lines if line in gained] == gained


def test_every_note_is_read_and_closed(earlier):
    notes = {path.rpartition("/")[2]: entry for path, entry in HOST["files"].items() if f"{ADDED_DIR}/" in path}
    assert len(notes) == 10
    for kind, entry in notes.items():
        assert entry["text"].splitlines() == list(earlier.get_fact(Added, directory=ADDED_DIR, kind=kind)), kind
    assert earlier.get_fact(Loose, directory=STATE_DIR) == ()


def test_the_environment_file_is_as_it_should_be(earlier):
    found = earlier.get_fact(SecretFile, path=f"{SECRETS}/vllm-gemma4.env", names=())
    assert found == Secrets("root", "root", "600", {})


def test_preflight_has_nothing_against_it(earlier):
    """No version is version 0; AMD's source is ours; no variable in the environment file is unknown."""
    found = report(earlier)
    assert found.schema == 0 and found.apt.sources
    # What this machine's own lists do not have, says nothing of that host.
    found = replace(found, apt=replace(found.apt, refusals={}))
    bare = replace(found, apt=AptReport(), env_names={})
    assert failed_checks(SETTINGS, found) == failed_checks(SETTINGS, bare)
    # The same host, once a newer ojai has been there.
    (earlier.root / "var/lib/ojai/schema").write_text(f"{SCHEMA + 1}\n")
    assert set(failed_checks(SETTINGS, report(earlier))) - set(failed_checks(SETTINGS, bare))


@pytest.mark.parametrize("mirrors", [["http://10.0.2.2:58583"], []])
def test_its_log_settings_are_taken_out_of_daemon_json(earlier, monkeypatch, mirrors):
    """Docker is told by a reload, if it runs: it is not restarted. Without mirrors nothing of ours is left."""
    do = earlier.do
    monkeypatch.setattr(
        earlier,
        "do",
        lambda step: do(FileUploadCommand(step.src, f"{earlier.root}{step.dest}") if hasattr(step, "dest") else step),
    )
    # It answers with a path of the host.
    ask = earlier.get_fact
    monkeypatch.setattr(
        earlier, "get_fact", lambda kind, **words: Place(DAEMON) if kind is SharedPlace else ask(kind, **words)
    )
    place = earlier.root / "etc/docker/daemon.json"
    words = {"path": DAEMON, "values": {"registry-mirrors": mirrors} if mirrors else {}, "then": docker.RELOAD}
    assert earlier.apply(files.json_merged, **words)
    assert place.exists() == bool(mirrors)
    assert not mirrors or json.loads(place.read_text()) == {"registry-mirrors": mirrors}
    assert earlier.asked() == ["is-active --quiet docker.service", "reload docker.service"]
    assert not earlier.apply(files.json_merged, **words)


def test_removal_takes_service_and_releases_away(earlier):
    assert earlier.apply(vllm.removed, keep=[])
    assert earlier.apply(release.releases_removed)
    assert not earlier.kept() and earlier.get_fact(OwnUnits, directory=ADDED_DIR) == ()
    for gone in (f"etc/systemd/system/{UNIT}", "etc/ojai/vllm-gemma4.env", "var/lib/ojai/releases"):
        assert not (earlier.root / gone).exists()
    assert not [file.name for file in earlier.store.iterdir() if file.name.startswith("ojai-release")]
