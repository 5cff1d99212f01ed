"""What the owner has, asked of this machine's own shell on made-up homes: what is found, and that no secret leaves."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from real_host import RealHost

from ojai.facts.report import FUNCTIONS, owner
from ojai.facts.report.owner import Owner

SECRET = "hf_SENTINEL"
CONTAINER = {
    "id": "1234",
    "name": "/vllm-gemma4",
    "image": "vllm/vllm-openai-rocm:v0.20.1",
    "image_id": "sha256:57",
    "argv": ["m", "--api-key", SECRET, f'{SECRET} " two', "--port", "8000", f"--http-token={SECRET}"],
    "entrypoint": ["vllm", "serve"],
    "environment": [
        f"HF_TOKEN={SECRET}",
        f'VLLM_API_KEY=a\t"{SECRET}\\',
        "TOKENIZERS_PARALLELISM=false",
        f"GITHUB_PAT={SECRET}",
        f"DB_PASS={SECRET} {SECRET}",
        f"MYSQL_PWD={SECRET}",
        "COMPAT=1",
        f"https_proxy=http://me:{SECRET}@proxy:1/",
    ],
    "labels": {"com.docker.compose.project": "gemma", "com.docker.compose.service": "vllm"},
    "network": "host",
    "published": None,
    "removes": True,
    "restart": "no",
    "status": "running",
    "created": "2026-11-27T04:57:17Z",
    "started": "2026-11-27T04:57:17Z",
    "mounts": [{"Type": "bind", "Source": "%HOME%/.cache", "Destination": "/root/.cache"}],
}


@pytest.fixture
def home(tmp_path) -> Path:
    folder = tmp_path / "home" / "ada"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def ask(tmp_path, home) -> Callable[..., Owner]:
    """``ask(program=script, …)``: the report of a host with these programs in place of its own."""
    bin = tmp_path / "bin"
    bin.mkdir()

    def run(*caches: str, **programs: str) -> Owner:
        defaults = {
            "getent": f"echo root:x:0:0::/nowhere:; echo ada:x:1000:1000::{home}:/bin/sh; echo nobody:x:65534:::/:",
            "docker": "exit 1",
            "systemctl": "exit 1",
            "findmnt": "exit 1",
            "systemd-analyze": "exit 1",
        }
        for name, script in {**defaults, **{name.replace("_", "-"): text for name, text in programs.items()}}.items():
            (bin / name).write_text(f"#!/bin/sh\n{script}\n")
            (bin / name).chmod(0o755)
        host = RealHost({"PATH": f"{bin}:{os.environ['PATH']}"})
        done = host.sh("export LC_ALL=C\n" + FUNCTIONS + owner.SCRIPT.replace("%CACHES%", shlex.join(caches)))
        assert (done.returncode, done.stderr) == (0, "")
        assert SECRET not in done.stdout
        every: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition("\t")
            every.setdefault(key, []).append(value)
        return owner.read(every)

    return run


def model(home: Path, name: str = "models--google--gemma-4-E4B-it", revision: str = "0a1b") -> Path:
    """A complete one, as the hub's client leaves it."""
    repo = home / ".cache" / "huggingface" / "hub" / name
    for folder in ("blobs", "refs", f"snapshots/{revision}"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    for blob, file in (("aa", "config.json"), ("bb", "model.safetensors")):
        (repo / "blobs" / blob).write_text("x")
        (repo / "snapshots" / revision / file).symlink_to(f"../../blobs/{blob}")
    return repo


def test_a_bare_host_has_nothing(ask):
    assert ask() == Owner()


def test_caches_of_a_home(ask, home, tmp_path):
    model(home)
    (home / ".cache" / "huggingface" / "token").write_text(SECRET)
    (home / ".cache" / "tunableop").mkdir()
    (home / ".cache" / "tunableop" / "gemma4_gfx11500.csv").write_text("Validator,PT_VERSION,2.9\n")
    (home / "models").symlink_to(tmp_path / "disk" / "models")
    found = ask(f"vllm={tmp_path}/none")
    assert {folder.name: (folder.real, bool(folder.owner)) for folder in found.folders} == {
        "huggingface": (f"{home}/.cache/huggingface", True),
        "tunableop": (f"{home}/.cache/tunableop", True),
        "models": (f"{tmp_path}/disk/models", False),
        "vllm": (f"{tmp_path}/none", False),
    }
    (weights,) = found.weights
    assert (weights.repository, weights.state) == ("models--google--gemma-4-E4B-it", "complete")
    assert found.tokens == (f"{home}/.cache/huggingface",)
    assert found.tuned == (f"{home}/.cache/tunableop/gemma4_gfx11500.csv",)


def _moved(repo: Path) -> None:
    (repo / "blobs" / "bb").unlink()


def _cut_off(repo: Path) -> None:
    (repo / "blobs" / "cc.incomplete").write_text("x")


def _shard_missing(repo: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (repo / "snapshots" / "0a1b" / "model.safetensors.index.json").write_text(json.dumps(index))


def _only_config(repo: Path) -> None:
    (repo / "snapshots" / "0a1b" / "model.safetensors").unlink()


def _other_revision(repo: Path) -> None:
    (repo / "refs" / "main").write_text("ffff")


def _no_refs(repo: Path) -> None:
    (repo / "refs" / "main").unlink()


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (_moved, "broken"),
        (_cut_off, "complete"),  # a later attempt has replaced it
        (_shard_missing, "partial"),
        (_only_config, "partial"),
        (_other_revision, "partial"),
        (_no_refs, "complete"),
    ],
)
def test_weights_that_are_not_whole(ask, home, change, state):
    change(model(home))
    assert [one.state for one in ask().weights] == [state]


@pytest.mark.parametrize("named", ["huggingface/hub", ""])
def test_a_cache_named_a_level_away(ask, tmp_path, named):
    disk = tmp_path / "disk"
    model(disk)
    (disk / ".cache").rename(disk / "c")
    (weights,) = ask(f"huggingface={disk}/c/{named}".rstrip("/")).weights
    assert weights.folder == f"{disk}/c/huggingface"


def test_a_container_without_its_secrets(ask, home):
    model(home)
    (home / ".cache" / "tunableop").mkdir()
    (home / ".cache" / "tunableop" / "x.csv").write_text("Validator,PT_VERSION,2.9\n")
    answer = json.dumps(CONTAINER, separators=(",", ":")).replace("%HOME%", str(home))  # as Docker prints it
    (home.parent / "answer").write_text(answer + "\n")
    docker = f"""case "$*" in
      ps*) echo 1234;;
      *'{{{{.Image}}}}'*) echo sha256:57;;
      *RepoDigests*) echo 'vllm@sha256:ab ';;
      *println*) echo {home}/.cache;;
      *inspect*) cat {home.parent}/answer;;
    esac"""
    found = ask(docker=docker)
    (container,) = found.containers
    assert container.argv == ("m", "--api-key", "", "", "--port", "8000", "--http-token=")
    assert container.environment == {
        "HF_TOKEN": "",
        "VLLM_API_KEY": "",
        "TOKENIZERS_PARALLELISM": "false",
        "GITHUB_PAT": "",
        "DB_PASS": "",
        "MYSQL_PWD": "",
        "COMPAT": "1",
        "https_proxy": "http://:@proxy:1/",
    }
    assert (container.port, container.ports, container.compose, container.up) == (8000, (8000,), "gemma/vllm", True)
    assert container.folder("/root/.cache/huggingface") == f"{home}/.cache/huggingface"
    assert container.folder("/app/models") is None
    assert found.images == {"sha256:57": ("vllm@sha256:ab",)}
    assert [one.state for one in found.weights] == ["complete"]


@pytest.mark.parametrize(
    "text",
    [
        f"vllm serve m --api-key {SECRET} --port 8000",
        f"vllm serve m --api-key={SECRET} --port 8000",
        f"exec vllm serve m --api-key '{SECRET} two' {SECRET} --port 8000",
        f'vllm serve m --api-key "{SECRET} two" --port 8000',
        f"A=1 HF_TOKEN={SECRET} GITHUB_PAT='{SECRET}' vllm serve m --port 8000",
        f'export DB_PASS="{SECRET}"; vllm serve m --port 8000',
    ],
)
def test_a_command_for_a_shell_without_its_secrets(ask, home, text):
    answer = json.dumps({**CONTAINER, "entrypoint": ["bash"], "argv": ["-c", text]}, separators=(",", ":"))
    (home.parent / "answer").write_text(answer + "\n")
    (container,) = ask(docker=f'case "$*" in ps*) echo 1;; *argv*) cat {home.parent}/answer;; esac').containers
    assert (container.port, container.words[-2:]) == (8000, ["--port", "8000"])
    assert container.argv[1].startswith(text.split(SECRET)[0].rstrip(" ='\""))


UNITS = f"""case "$*" in
  list-unit-files*) echo gemma.service enabled; echo ssh.service enabled; echo box@.service enabled;;
  list-units*) echo vllm-chat.service loaded active;;
  *ExecMainStartTimestamp*) echo 'Fri 2026-11-27 04:57:17.500000 UTC';;
  show*) printf '%s\\n' 'WorkingDirectory=/home/ada' \
    'ExecStart={{ path=/bin/sh ; argv[]=/bin/sh %SCRIPT% -e HF_TOKEN={SECRET} ; ignore_errors=no ; pid=1 }}' \
    Id=gemma.service ActiveState=active FragmentPath=/etc/systemd/system/gemma.service UnitFileState=enabled '' \
    'ExecStart={{ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D ; ignore_errors=no }}' \
    Id=ssh.service ActiveState=active FragmentPath=/usr/lib/systemd/system/ssh.service UnitFileState=enabled;;
esac"""


def test_a_unit_whose_script_runs_the_server(ask, home):
    script = home / "serve.sh"
    script.write_text(
        f"#!/bin/sh\nexport HF_TOKEN={SECRET} OTHER_API_KEY='{SECRET} two'\n# --name old\n"
        f"docker run --rm --name vllm-gemma4 \\\n  vllm m --api-key {SECRET} --port 8000\n"
    )
    (unit,) = ask(systemctl=UNITS.replace("%SCRIPT%", str(script))).units
    assert (unit.name, unit.enabled, unit.active, unit.folder) == ("gemma.service", "enabled", "active", "/home/ada")
    assert unit.names("vllm-gemma4") and unit.names("8000") and not unit.names("old")
    assert not unit.names("vllm-gemma")


def test_a_unit_of_an_accounts_own_systemd(ask, home):
    place = home / ".config" / "systemd" / "user"
    (place / "default.target.wants").mkdir(parents=True)
    for name in ("gemma.service", "asleep.service"):
        (place / name).write_text(
            "[Service]\nWorkingDirectory=%h/llm\nRestart=always\nExecStart=-/usr/bin/docker run --rm \\\n"
            f"  --name vllm-gemma4 -e HF_TOKEN={SECRET} vllm m \\\n  --port 8000\n"
        )
    (place / "default.target.wants" / "gemma.service").symlink_to(place / "gemma.service")
    (unit,) = ask().units
    assert (unit.account, unit.name, unit.enabled, unit.active) == ("ada", "gemma.service", "enabled", "inactive")
    assert (unit.folder, unit.path) == (f"{home}/llm", str(place / "gemma.service"))
    assert unit.words.startswith("/usr/bin/docker run") and unit.names("vllm-gemma4") and unit.names("8000")


def test_what_boots_set_and_what_is_not_mounted(ask, tmp_path):
    link = tmp_path / "sysctl.d" / "99-sysctl.conf"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "sysctl.conf")
    assert ask(systemd_analyze=f"echo '# {link}'; echo vm.overcommit_memory=1").links == (str(link),)
    found = ask(
        systemd_analyze="echo '# /etc/sysctl.d/99-rocm-vllm.conf'; echo '# a note = 1'; echo vm.overcommit_memory=1",
        findmnt=f"echo /; echo {tmp_path}; echo none",
    )
    assert found.sysctl.settings == (("/etc/sysctl.d/99-rocm-vllm.conf", "vm.overcommit_memory", "1"),)
    assert found.unmounted[-1:] == (str(tmp_path),)
