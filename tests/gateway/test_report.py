"""What preflight asks a host for the gateway's sake, asked of this machine's shell, on files of a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ojai.facts.report import FUNCTIONS, firewall
from ojai.facts.report import gateway as section
from ojai.facts.report.firewall import CameBy
from ojai.facts.report.gateway import GatewayReport
from ojai.roles.vllm import render_unit
from ojai.settings import parse

EARLIER = Path(__file__).parents[1] / "roles/hosts/e5f0d01.yaml"


class Root:
    """A folder in place of the host's /etc, /var and /usr."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, path: str, text: str) -> Path:
        place = self.folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755)
        return place

    def unit(self, name: str, text: str) -> None:
        self.put(f"/etc/systemd/system/{name}.service", text)
        with (self.folder / "units").open("a") as notes:
            notes.write(f"{name}.service\n")
        self.put("/var/lib/ojai/added/units", (self.folder / "units").read_text())

    def report(self, *certificates: Path) -> GatewayReport:
        script = section.SCRIPT.replace("%CERTIFICATES%", " ".join(map(str, certificates)))
        script = re.sub(r"(?<![\w.])/(etc|var|usr)/", rf"{self.folder}/\1/", script)
        done = subprocess.run(["sh", "-c", FUNCTIONS + script], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        every: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition("\t")
            every.setdefault(key, []).append(value)
        return section.read(every)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_a_bare_host_has_nothing(root):
    assert root.report() == GatewayReport()


def test_whose_nginx_it_is(root):
    root.put("/usr/sbin/nginx", "")
    assert root.report().of_owner and not root.report().module
    root.put("/usr/lib/nginx/modules/ngx_http_js_module.so", "")
    assert root.report().of_owner and root.report().module
    root.put("/var/lib/ojai/added/packages", "nginx-light\nnginx\n")
    assert not root.report().of_owner


def unit_of(**data: object) -> str:
    return render_unit(parse("mini", data).resolved[0])


def test_which_services_others_reach_today(root):
    root.unit("vllm-gemma4", unit_of(exposure="open"))
    root.unit("one-address", unit_of(exposure="open", services=[{"host": "192.0.2.7", "port": 8001}]))
    root.unit("closed", unit_of())
    root.unit("last-argument", unit_of(exposure="open", services=[{"port": 8002, "engine_args": ["--seed", "1"]}]))
    root.put("/etc/systemd/system/other.service", unit_of(exposure="open"))
    assert set(root.report().open) == {("vllm-gemma4", 8000), ("one-address", 8001), ("last-argument", 8002)}


def test_a_unit_of_an_earlier_ojai_is_read(root):
    text = EARLIER.read_text()
    assert "--host 0.0.0.0 \\" in text
    units = [
        value for value in yaml.safe_load(text).values() if isinstance(value, str) and "ExecStart=" in value
    ] or re.findall(r"ExecStart=.*?--port \d+", text, re.DOTALL)
    root.unit("vllm-gemma4", "[Service]\n" + re.sub(r"\n +", "\n    ", units[0]) + "\n")
    assert root.report().open == (("vllm-gemma4", 8000),)


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True)


def test_certificates_that_cannot_be_used(root, tmp_path):
    one, key, other = tmp_path / "one.pem", tmp_path / "one.key", tmp_path / "other.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=a",
            "-days", "9", "-keyout", key, "-out", one)  # fmt: skip
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", other)
    assert root.report(one, key) == GatewayReport()
    assert root.report(one, other).bad == (f"no key of that certificate in {other}",)
    assert root.report(tmp_path / "none", key).missing == (f"{tmp_path}/none",)
    (tmp_path / "nonsense").write_text("x")
    assert f"no certificate in {tmp_path}/nonsense" in root.report(tmp_path / "nonsense", key).bad
    locked = tmp_path / "locked.key"
    openssl("pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:x")
    assert root.report(one, locked).bad == (f"no key of that certificate in {locked}",)


@pytest.mark.parametrize(
    ("connection", "found"),
    [
        ("192.0.2.9 50123 203.0.113.1 2222", CameBy("192.0.2.9", 2222)),
        ("fe80::9%eth0 50123 fe80::1%eth0 22", CameBy("fe80::9", 22)),
        ("nonsense", CameBy()),
    ],
)
def test_by_which_connection_a_command_came_is_known_below_sudo_too(connection, found):
    """sudo keeps the variable, and not its children."""
    below = ["env", "-u", "SSH_CONNECTION", "sh", "-c", FUNCTIONS + firewall.SCRIPT]
    child = f"import subprocess, sys; sys.exit(subprocess.run({below!r}).returncode)"
    done = subprocess.run(
        [sys.executable, "-c", child],
        env={**os.environ, "SSH_CONNECTION": connection}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"came_by\t{connection}\n", "")
    assert firewall.read({"came_by": [connection]}) == found


def test_a_command_that_came_by_no_connection():
    assert firewall.read({}) == CameBy()
