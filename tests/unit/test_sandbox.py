"""What systemd itself says of the sandbox of each unit of ours, and that it does not get worse."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ojai import firewall, gateway, watch
from ojai.facts.report.watch import WatchReport
from ojai.paths import UNITS as UNITS_FOLDER
from ojai.roles import vllm
from ojai.settings import parse

RECORD = Path(__file__).parent / "data" / "sandbox.yaml"
SETTINGS = {"gateway_certificate": "/etc/ai/chain.pem", "gateway_certificate_key": "/etc/ai/key.pem"}


def units() -> dict[str, str]:
    """The text of every service of ours."""
    plain, own = parse("mini", {}), parse("mini", {"service_secrets": {"HF_TOKEN": {"env": "A"}}, **SETTINGS})
    found = {}
    for kind, settings in (("", plain), (" (own files)", own)):
        service = settings.resolved[0].on_host({"video": 44, "render": 992}, None)
        found[f"vllm-gemma4.service{kind}"] = vllm.render_unit(service)
        for path in gateway.UNIT_FILES:
            if path.endswith(".service"):
                name = path.rpartition("/")[2]
                found[f"{name}{kind}"] = gateway.unit(path, settings, ["mini"])
        watched = settings.model_copy(update={"watch": "fleet"})
        written = watch.files(watched, "mini", watch.parts(watched, WatchReport()))
        found[f"{watch.UNIT}{kind}"] = written[f"{UNITS_FOLDER}/{watch.UNIT}"]
    found |= {name: firewall.unit(name) for name in firewall.UNIT_FILES}
    return found


UNITS = units()


def analyzed(folder: Path, text: str) -> tuple[float, set[str]]:
    """systemd's exposure of a unit (10 is the worst), and the checks that it finds nothing wrong with."""
    file = folder / "unit.service"
    # Only what is judged: programs that are absent here do not count.
    file.write_text(re.sub(r"^(Exec\w+=[-+]*)/\S+", r"\1/bin/true", text, flags=re.MULTILINE))
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager"]
    done = subprocess.run([*command, "--json=short", str(file)], capture_output=True, text=True, check=False)
    checks = json.loads(done.stdout)
    shown = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False).stdout
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", shown)
    return float(level), {check["json_field"] for check in checks if not check["exposure"]}


def test_each_unit_is_recorded():
    assert set(yaml.safe_load(RECORD.read_text())["units"]) == set(UNITS)


@pytest.mark.parametrize("name", UNITS)
def test_no_sandbox_got_worse(name, tmp_path):
    """By its checks: the level counts more of them in each release of systemd."""
    recorded = yaml.safe_load(RECORD.read_text())["units"][name]
    level, right = analyzed(tmp_path, UNITS[name])
    assert sorted(set(recorded["right"]) - right) == [], "these were right"
    found = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
    if found == str(yaml.safe_load(RECORD.read_text())["systemd"]):
        assert level <= recorded["level"], "record it, if it is meant to be worse"


def test_a_setting_that_is_taken_away_is_found(tmp_path):
    text = UNITS["ojai-gateway.service"]
    level, right = analyzed(tmp_path, text)
    worse, fewer = analyzed(tmp_path, text.replace("NoNewPrivileges=yes\n", ""))
    assert worse > level and right - fewer == {"NoNewPrivileges"}
