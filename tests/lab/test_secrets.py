"""Secrets and a hardened service on a host: planted, marked, looked for everywhere, replaced, and taken away again.

In a container of the lab, which has no GPU.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ojai.lab import image
from tests.lab import manifest
from tests.lab.conftest import KEEP
from tests.lab.contained import Serving, serving
from tests.lab.machine import ROOT, Deploy, Guest
from tests.operation_names import NAMES

pytestmark = pytest.mark.whole

MARK = "pLaNtEd"
LOGIN = f"ada:ghp_{MARK}passwordpassword"
PLANTED = {
    "token": f"hf_labAccepted{MARK}first",
    "other": f"{MARK}other/other+other",
    "login": LOGIN,
    "key": f"ojai-{MARK}{'k' * 32}",
}
#: What to look for: the mark as it is, and the login as Docker would keep it.
FORMS = (MARK, base64.b64encode(LOGIN.encode()).decode()[:40])
#: As options of grep, and not as one word: sudo logs each command.
WORDS = " ".join(f'-e {form[:4]}""{form[4:]}' for form in FORMS)

#: Where Docker and containerd have a container's configuration.
DOCKER = (
    r"/var/lib/docker/containers/[^/]+/config\.v2\.json|/var/lib/containerd/io\.containerd\.metadata\.v1\.bolt/meta\.db"
    r"|/run/containerd/io\.containerd\.runtime\.v2\.task/moby/[^/]+/config\.json"
)

ENGINE = "/proc/$(docker container inspect -f '{{.State.Pid}}' vllm-gemma4)/environ"


class Vault:
    """The files on this machine in which the secrets are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in PLANTED.items():
            self.put(name, text)

    def put(self, name: str, text: str) -> None:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(f"{text}\n")

    @property
    def data(self) -> dict[str, object]:
        """The inventory's part of it."""
        own = {"HF_TOKEN": {"file": str(self.folder / "token")},
               "S3_SECRET_KEY": {"command": ["cat", str(self.folder / "other")]}}  # fmt: skip
        return {
            "services": [{"profile": "gemma-4-e4b", "start_timeout": 120, "hardened": True, "secrets": own}],
            "registry_credentials": {"docker.io": {"file": str(self.folder / "login")}},
            "gateway_keys": ["default", "laptop"],
            "gateway_key_sources": {"laptop": {"file": str(self.folder / "key")}},
            "gateway_key_overlap": 1,
        }


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("vault"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ojai keeps its own things on this machine."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def bare(kept: Path) -> Iterator[Serving]:
    found = serving(ROOT / ".lab-secrets", "overlay2")
    own = {f"XDG_{what}_HOME": str(kept / what.lower()) for what in ("CACHE", "DATA", "STATE")}
    # What the lab builds stays where it is.
    own["OJAI_LAB_CACHE"] = str(image.cache_root())
    found = replace(found, lab=replace(found.lab, env={**found.lab.env, **own}))
    if not KEEP or found.guest.run("true").returncode != 0:
        found.renew()
    yield found
    if not KEEP:
        found.stop()


@pytest.fixture(scope="module")
def before(bare: Serving) -> dict[str, str]:
    """What is on its disk before anything was deployed. Nothing of one that was kept."""
    return {} if KEEP else manifest.take(bare.guest)


@pytest.fixture(scope="module")
def host(bare: Serving, before: dict[str, str], vault: Vault) -> Serving:
    found = bare.with_data(**vault.data)
    done = found.deploy()
    assert done.status == 0 and "Traceback" not in done.output, done.output[-6000:]
    assert not any(form in done.output for form in FORMS), "the deploy says a secret"
    return found


def said(done: Deploy) -> list[str]:
    return [form for form in FORMS if form in done.output]


def count(guest: Guest, command: str) -> int:
    """Lines of a command's output with a secret in them; they stay on the host.

    grep begins when the command has ended, or a list of processes would have grep's own arguments in it.
    """
    output = "/dev/shm/output"
    return int(guest.root(f"{{ {command}; }} >{output} 2>/dev/null; grep -acF {WORDS} {output}; rm {output}"))


def container(guest: Guest) -> str:
    return guest.root("docker container inspect -f '{{.Id}}' vllm-gemma4")


def test_it_serves_hardened_and_is_what_it_should_be(host: Serving) -> None:
    found = host.verify()
    assert found.ok, found.failed
    again = host.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]
    assert host.guest.text("getent group docker").endswith(":"), "whoever is in it is root"


def test_the_secrets_are_there(host: Serving) -> None:
    """Or the search below would find nothing because there is nothing."""
    guest = host.guest
    assert guest.root("docker exec vllm-gemma4 cat /run/secrets/ojai/HF_TOKEN") == PLANTED["token"]
    assert count(guest, f"tr '\\0' '\\n' < {ENGINE} | grep ^S3_SECRET_KEY=") == 1


@pytest.mark.parametrize(
    "place",
    [
        "ps axww -o args",
        "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'",
        "systemctl show '*'",
        "systemctl cat '*'",
        "systemctl show-environment",
        "journalctl --no-pager -o verbose",
        "cat /var/log/*.log /var/log/*/*.log",
        "docker logs vllm-gemma4 2>&1",
        "docker container inspect vllm-gemma4 | grep -v S3_SECRET_KEY",
        "docker image inspect $(docker image ls -q)",
        f"tr '\\0' '\\n' < {ENGINE} | grep -v ^S3_SECRET_KEY=",
        "cat /root/.bash_history /home/*/.bash_history",
        "cat /etc/ojai/gateway/keys/*",
    ],
)
def test_no_secret_is_shown_by(host: Serving, place: str) -> None:
    assert count(host.guest, place) == 0


def test_the_files_with_a_secret_are_known_and_root_s_alone(host: Serving) -> None:
    folders = "/etc /var /root /home /srv /tmp /run /opt /usr/local"
    found = host.guest.root(f"grep -rlaF {WORDS} {folders} 2>/dev/null | xargs -r stat -c '%U:%a %n'")
    files = {path: rights for rights, path in (line.split(" ", 1) for line in found.splitlines())}
    known = ("/etc/ojai/vllm-gemma4.env", "/etc/ojai/vllm-gemma4.secrets/HF_TOKEN")
    kept = [path for path in files if path.startswith("/var/lib/ojai/releases/") and path.endswith("/vllm-gemma4.env")]
    # Docker's and containerd's own configuration of the container, with its variables.
    ours = {*known, *kept}
    docker = set(files) - ours
    assert kept and ours <= set(files)
    assert all(re.fullmatch(DOCKER, path) for path in docker), docker
    other = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    for path in files:
        assert host.guest.root(f"{other} test -r {shlex.quote(path)} || echo closed") == "closed", path
    for path in (*known, *kept):
        assert files[path] == "root:600", path
    assert host.guest.root("stat -c %U:%a /etc/ojai/vllm-gemma4.secrets") == "root:700"


def test_no_command_of_ours_says_one(host: Serving, tmp_path: Path, kept: Path) -> None:
    bundle = tmp_path / "bundle.json"
    for words in (
        ("doctor", host.lab.inventory, "--bundle", str(bundle)),
        ("plan", host.lab.inventory, "--json"),
        ("status", host.lab.inventory, "--json"),
        ("open", host.lab.inventory, "--json", "--show-key"),
        ("logs", host.lab.inventory, "--lines", "500", "--no-follow"),
    ):
        done = host.lab.ojai(*words)
        assert "Traceback" not in done.stderr and done.stdout, (words, done.stderr)
        assert not any(form in done.stdout + done.stderr for form in FORMS), words
    assert bundle.stat().st_size > 10_000
    text = json.dumps(json.loads(bundle.read_text()))
    assert not any(form in text for form in FORMS)
    assert not said(host.deploy("-vvv", "--diff"))
    inventory = tmp_path / "fleet.py"
    inventory.write_text(f"import runpy\nlab = runpy.run_path({str(ROOT / host.lab.inventory)!r})['lab']\n")
    done = host.lab.ojai("lock", str(inventory))
    assert done.returncode == 0, done.stderr
    made = [inventory.with_suffix(".lock"), *(file for file in kept.rglob("*") if file.is_file())]
    assert len(made) > 1
    assert not any(form in done.stdout + done.stderr for form in FORMS)
    assert not [file for file in made if any(form in file.read_text(errors="replace") for form in FORMS)]


def test_a_token_that_is_replaced_restarts_nothing(host: Serving, vault: Vault) -> None:
    before = container(host.guest)
    vault.put("token", f"hf_labAccepted{MARK}second")
    done = host.deploy()
    assert (done.status, done.changed) == (0, [NAMES["vllm-secret"]]), done.output[-3000:]
    assert host.guest.root("docker exec vllm-gemma4 cat /run/secrets/ojai/HF_TOKEN") == f"hf_labAccepted{MARK}second"
    assert container(host.guest) == before


def test_a_registry_s_login_that_is_replaced_changes_nothing(host: Serving, vault: Vault) -> None:
    vault.put("login", f"{LOGIN}second")
    done = host.deploy()
    assert (done.status, done.changed) == (0, []), done.output[-3000:]


def asked(guest: Guest, key: str) -> str:
    header = shlex.quote(f'header = "Authorization: Bearer {key}"')
    return guest.text(  # not by sudo, which logs it
        f"printf '%s' {header} | curl -q --noproxy '*' -K - -k -s -o /dev/null -m 10 -w '%{{http_code}}' "
        "https://127.0.0.1:8443/v1/models"
    )


def test_a_key_that_is_replaced_is_valid_beside_the_new_one_until_its_time(host: Serving, vault: Vault) -> None:
    guest, new = host.guest, f"ojai-{MARK}{'n' * 32}"
    assert (asked(guest, PLANTED["key"]), asked(guest, new)) == ("200", "401")
    before = container(guest), guest.root("systemctl show ojai-gateway -p MainPID,ExecMainStartTimestamp")
    vault.put("key", new)
    done = host.deploy()
    assert (done.status, done.changed) == (0, [NAMES["gateway-keys"], NAMES["gateway-running"]]), done.output[-3000:]
    assert (container(guest), guest.root("systemctl show ojai-gateway -p MainPID,ExecMainStartTimestamp")) == before
    assert (asked(guest, PLANTED["key"]), asked(guest, new)) == ("200", "200")
    # An hour later: the time at which it ends is put back, and nothing else is done but what nginx needs to see it.
    old = "/etc/ojai/gateway/keys/laptop.old.map"
    end = int(guest.root(f"sed -n 's/.*@\\([0-9]*\\)\";$/\\1/p' {old}"))
    now = int(guest.text("date +%s"))
    assert 3000 < end - now <= 3600
    guest.root(f"sed -i 's/@{end}/@{now}/' {old}; systemctl reload ojai-gateway; sleep 2")
    assert (asked(guest, PLANTED["key"]), asked(guest, new)) == ("401", "200")
    assert host.deploy().status == 0
    assert guest.run(f"sudo test -e {old}").returncode == 1, "what has ended is not taken away"


def test_a_variable_that_is_replaced_restarts_its_service_once(host: Serving, vault: Vault) -> None:
    before = container(host.guest)
    vault.put("other", f"{MARK}another")
    done = host.deploy()
    assert done.status == 0 and not said(done), done.output[-3000:]
    assert NAMES["vllm-env"] in done.changed and NAMES["gateway-keys"] not in done.changed
    assert container(host.guest) != before
    again = host.deploy()
    assert (again.status, again.changed) == (0, []), again.output[-3000:]


def test_one_that_the_inventory_no_longer_names_is_gone(host: Serving, bare: Serving) -> None:
    service = {"profile": "gemma-4-e4b", "start_timeout": 120}
    done = bare.with_data(services=[service]).deploy()
    assert done.status == 0, done.output[-3000:]
    assert NAMES["vllm-secrets-removed"] in done.changed
    assert host.guest.run("sudo ls /etc/ojai/vllm-gemma4.secrets").returncode != 0


def test_a_removal_leaves_no_secret(host: Serving, bare: Serving, before: dict[str, str], vault: Vault) -> None:
    assert bare.with_data(**vault.data).deploy().status == 0
    assert bare.with_data(**vault.data, removed=True, removed_data=True).deploy().status == 0
    left = host.guest.root(f"grep -rlaF {WORDS} /etc /var /root /home /srv /tmp /run 2>/dev/null || true")
    assert left == ""
    if before:
        assert manifest.unexplained(manifest.differences(before, manifest.take(host.guest))) == []
