import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ojai import profiles
from ojai.profiles import Features
from ojai.settings import HostSettings, ServiceSettings, parse
from ojai.settings import connection_data as connection_data
from ojai.settings.fleet import FleetError, load
from tools.contract import real_engines

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"

_spec = importlib.util.spec_from_file_location("settings_reference", ROOT / "tools" / "settings_reference.py")
assert _spec and _spec.loader
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads((REFERENCE / "fleet.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("path", sorted(tool.expected()), ids=lambda path: path.name)
def test_the_reference_is_fresh(path: Path) -> None:
    assert path.read_text() == tool.expected()[path], f"{path.name} is stale: run python tools/settings_reference.py"


def test_the_page_of_failures_to_fetch_is_fresh() -> None:
    from tools import fetch_errors_table

    assert fetch_errors_table.PAGE.read_text() == fetch_errors_table.page(), "run make reference"


def test_the_page_of_findings_is_fresh_and_says_of_each_what_is_seen() -> None:
    from tools import findings_table

    text = findings_table.PAGE.read_text()
    assert text == findings_table.page(), "run make reference"
    rows = [line.strip("|").replace("\\|", "").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 100 and all(len(row) == 6 and all(cell.strip() for cell in row) for row in rows)
    causes = [row[2] for row in rows]
    assert len(causes) == len(set(causes)), "two codes with one cause cannot be told apart"


def test_a_stale_reference_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    stale, fresh = tmp_path / "settings.md", tmp_path / "fleet.schema.json"
    stale.write_text("old")
    fresh.write_text("new")
    monkeypatch.setattr(tool, "expected", lambda: {stale: "new", fresh: "new"})
    assert tool.main(["--check"]) == 1
    assert capsys.readouterr().err == "settings.md is stale: run python tools/settings_reference.py\n"
    assert stale.read_text() == "old"
    assert tool.main([]) == 0 and stale.read_text() == "new"
    assert tool.main(["--check"]) == 0
    assert tool.main(["--chekc"]) == 2


@pytest.mark.parametrize("model", [HostSettings, ServiceSettings])
def test_every_setting_is_explained_with_an_example_that_holds(model: Any, validator: Any) -> None:
    beside: dict[str, dict[str, Any]] = {
        "gtt_limit": {"memory_regime": "gtt"},
        "memory_regime": {"gtt_limit": "8GiB"},
        "removed_data": {"removed": True},
        **{f"watch_{name}": {"watch": "box"} for name in ("port", "retention", "retention_size", "mail", "secrets")},
        "move_adopted_caches": {"adopt": True},
        "gateway_certificate": {"gateway_certificate_key": "/etc/ai/key.pem"},
        "gateway_certificate_key": {"gateway_certificate": "/etc/ai/chain.pem"},
        "gateway_key_sources": {"gateway_keys": ["laptop"]},
        "thinking": {"reasoning": True},
        "speculative": {"allow": ["speculative-too-early"]},
        "quantization": {"allow": ["quantization-not-on-rocm"]},
    }
    for name, field in model.model_fields.items():
        assert field.description and field.description.rstrip().endswith((".", "`")), name
        assert field.examples, name
        for example in field.examples:
            data: Any = {name: example, **beside.get(name, {})}
            data = data if model is HostSettings else {"services": [data]}
            parse("mini", data)
            told = json.loads(json.dumps({"hosts": {"mini": data}}))
            assert not list(validator.iter_errors(told)), (name, example)


def test_the_page_has_every_setting_once_under_a_role() -> None:
    page = (REFERENCE / "settings.md").read_text()
    for name in {*HostSettings.model_fields, *ServiceSettings.model_fields, *profiles.CODES, *connection_data.ssh()}:
        assert page.count(f"\n| `{name}` |") == 1, name
    assert "\n## Other\n" not in page
    assert "`vllm-gemma4`" in page and set(Features.model_fields) < set(ServiceSettings.model_fields)


def test_the_example_fleet_satisfies_the_schema(validator: Any) -> None:
    fleet = yaml.safe_load((ROOT / "inventory" / "fleet.yaml").read_text())
    assert [error.message for error in validator.iter_errors(fleet)] == []


SOUND: list[dict[str, Any]] = [
    {"x-anchors": [1], "hosts": {"mini-[01:50]": None}},
    {"groups": {"g": {"groups": ["h"]}, "h": None}, "hosts": {"a": {"groups": ["g"]}}},
    {"hosts": {"a": {"vars": {"site": "berlin", "any": [1]}}}},
    {"hosts": {"a": None}},
    {"hosts": {"a": {"rocm_channel": 7.2}}},
    {"hosts": {"a": {"image_bytes": 5}}},
    {"hosts": {"a": {"image_bytes": "50GB"}}},
    {"hosts": {"a": {"_sudo_user": "x", "ssh_port": 22}}},
    {"defaults": None, "groups": None, "hosts": {"a": {}}},
    {"groups": {"g": None}, "hosts": {"a": {"groups": ["g"]}}},
    {"hosts": {"a": {"services": [{"environment": {"A": 1, "B": "x"}, "engine_args": ["--seed", 7]}]}}},
    {"hosts": {"a": {"sysctl": {"vm.swappiness": 10, "kernel.core_pattern": "core"}}}},
]

FAULTY: list[dict[str, Any]] = [
    {},
    {"hosts": {}},
    {"host": {"a": {}}},
    {"hosts": {"a": 5}},
    {"hosts": {"a b": {}}},
    {"groups": {"all": {}}, "hosts": {"a": {}}},
    {"groups": {"1": {}}, "hosts": {"a": {}}},
    {"groups": {"g": {"groups": "g"}}, "hosts": {"a": {}}},
    {"y-anchors": [1], "hosts": {"a": None}},
    {"defaults": {"groups": ["g"]}, "groups": {"g": {}}, "hosts": {"a": {}}},
    {"hosts": {"a": {"vars": 1}}},
    {"hosts": {"a": {"groups": "g"}}},
    {"hosts": {"a": {"kernel_flor": "x"}}},
    {"hosts": {"a": {"ssh_usr": "x"}}},
    {"hosts": {"a": {"accelerator": "gfx1"}}},
    {"hosts": {"a": {"rocm_channel": "9"}}},
    {"hosts": {"a": {"kernel_reboot": "later"}}},
    {"hosts": {"a": {"removed": "maybe"}}},
    {"hosts": {"a": {"image_bytes": True}}},
    {"hosts": {"a": {"services": [{"port": 0}]}}},
    {"hosts": {"a": {"services": [{"port": True}]}}},
    {"hosts": {"a": {"services": [{"profile": "x"}]}}},
    {"hosts": {"a": {"services": [{"allow": ["x"]}]}}},
    {"hosts": {"a": {"services": [{"speculative": {"model": "x"}}]}}},
    {"hosts": {"a": {"services": [{"speculative": {"model": "x", "tokens": 2, "z": 1}}]}}},
    {"hosts": {"a": {"rocm_key_fingerprint": "12"}}},
    {"hosts": {"a": {"sysctl": {"nodots": 1}}}},
    {"defaults": {"gpu_users": "ada"}, "hosts": {"a": {}}},
]


@pytest.mark.parametrize("fleet", [*SOUND, *FAULTY], ids=json.dumps)
def test_the_schema_and_the_settings_agree(fleet: dict[str, Any], validator: Any, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    if fleet in SOUND:
        assert [error.message for error in validator.iter_errors(fleet)] == []
        load(path)
    else:
        assert not validator.is_valid(fleet)
        with pytest.raises(FleetError):
            load(path)


def test_real_engines_were_green_and_their_page_is_fresh() -> None:
    assert real_engines.main(["--check"]) == 0, "run make reference"
    kept = {file.stem: json.loads(file.read_text()) for file in real_engines.KEPT.glob("*.json")}
    assert {"vllm-cpu", "llamacpp-vulkan"} <= kept.keys()
    for name, one in kept.items():
        assert {"smoke", "bench", "status"} <= one.keys() and not any(each["status"] for each in one.values()), name
        assert not any(each["commit"].endswith("-dirty") for each in one.values()), name
        outcomes = {outcome for _, outcome, _ in one["smoke"]["checks"]}
        assert outcomes <= {"passed", "skipped"} and "passed" in outcomes
        assert all(came for _, outcome, came in one["smoke"]["checks"] if outcome == "skipped"), "each says why"
