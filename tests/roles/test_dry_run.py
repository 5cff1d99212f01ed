"""The whole deploy on hosts made of air: ``pyinfra --dry`` over every inventory, and over hosts that it must refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from ojai.roles import vllm
from ojai.settings import parse
from tests.operation_names import NAMES

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "inventories"
INVENTORIES = sorted(ROOT.glob("inventory/*.py"))
#: Those that change a bare host whatever it is to be.
ROLES = (
    *("Ledger", "Versions", "Kernel", "Groups", "Sysctl", "ROCm", "Docker", "Caches", "Weights", "Gateway", "vLLM"),
    "Surface",
)
SENTINEL = "hf_SENTINEL_of_the_tests"


class Run(NamedTuple):
    status: int
    stdout: str
    said: str

    @property
    def plan(self) -> dict[str, list[str]]:
        """Operation -> hosts that it would change, of a run with ``--json``."""
        return {
            entry["name"]: entry["hosts_with_change"] + entry["hosts_with_conditional_change"]
            for entry in json.loads(self.stdout)["plan"]
        }

    def of(self, host: str) -> list[str]:
        """What was said of one host, without its name."""
        lines = re.sub(r"\x1b\[[0-9;]*m", "", self.said).splitlines()
        found = [re.fullmatch(rf"\s*\[@fake/{host}\]\s+(.*)", line) for line in lines]
        return [line[1] for line in found if line]


@cache
def pyinfra(inventory: Path, *options: str, operations: str = "deploy.py", **environment: str) -> Run:
    environment = {**os.environ, "HF_TOKEN": SENTINEL, "FAKED": str(inventory), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", *options, str(inventory), operations],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def group_data() -> tuple[str, ...]:
    folder = ROOT / "inventory" / "group_data"
    return ("--group-data", str(folder)) if folder.is_dir() else ()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> dict[str, str]:
    """The state of a lab with one running host, as lab/state.py documents it."""
    from ojai.lab import state

    folder = tmp_path_factory.mktemp("lab")
    me = state.Process.of(os.getpid())
    host = state.HostRecord(name="lab", port=2201, uuid="0", image=folder / "image", process=me)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OJAI_LAB_DIR", str(folder))
        state.write(
            state.Records(
                hosts={"lab": host},
                rocm=state.ServiceRecord(port=2202, process=me),
                registry=state.ServiceRecord(port=2203, process=me),
                hub=state.ServiceRecord(port=2204, process=me),
                rocm_fingerprint="0123456789ABCDEF0123456789ABCDEF01234567",
            )
        )
    return {"OJAI_LAB_DIR": str(folder)}


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
def test_every_inventory_has_a_plan(inventory, lab):
    run = pyinfra(HERE / "faked.py", "--json", *group_data(), **lab, FAKED=str(inventory))
    assert run.status == 0, run.said
    assert "Traceback" not in run.said
    hosts = set().union(*run.plan.values())
    assert hosts, "no host of it was read"
    for role in ROLES:
        changed = {host for name, found in run.plan.items() if name.startswith(f"{role} | ") for host in found}
        assert changed, f"{role} would change nothing on a bare host"


def test_sleep_and_the_desktop_are_left_alone_unless_the_host_is_headless():
    plan = pyinfra(ROOT / "inventory" / "fake.py", "--json").plan
    assert plan[NAMES["power"]] == ["@fake/mini-02"]


def test_the_plan_is_shown_to_a_person():
    run = pyinfra(ROOT / "inventory" / "fake.py", "--dry")
    assert run.status == 0, run.said
    for role in ROLES:
        assert f"{role} | " in run.said
    for host in ("mini-00", "mini-01", "mini-02"):
        assert any("fits" in line and "sequences" in line for line in run.of(host)), "the memory budget is not told"
    assert run.stdout == ""


def test_removal_changes_nothing_where_nothing_was_added(lab):
    run = pyinfra(HERE / "faked.py", "--json", *group_data(), **lab, FAKED=str(ROOT / "inventory" / "fake.py"))
    removals = {name: hosts for name, hosts in run.plan.items() if ": removal | " in name}
    assert len(removals) > 10
    assert {name for name, hosts in removals.items() if hosts} == {
        # An operation with a condition is listed before the condition can be known.
        "ROCm: removal | Refresh the loader cache",
        "Ledger: removal | Refresh the loader cache",
        # The host that is played has no folders at all.
        "Ledger: removal | Ensure /opt exists",
    }


def test_a_host_that_serves_is_neither_rebooted_nor_waited_for():
    run = pyinfra(HERE / "serving.py", "--json")
    assert run.status == 0, run.said
    changes = {name for name, hosts in run.plan.items() if hosts}
    assert NAMES["groups"] in changes
    for key in ("kernel-reboot", "kernel-floor", "vllm-serves"):
        assert NAMES[key] in run.plan and NAMES[key] not in changes


#: host -> what is found, what is expected, what to do: words of each
REFUSED = {
    "carveout": ("16 GiB of GPU memory", "gemma-4-26b-a4b", "set 64 GB in the BIOS"),
    "debian": ("Debian GNU/Linux 13", "Ubuntu 24.04", "install Ubuntu 24.04"),
    "jammy": ("Ubuntu 22.04.5 LTS", "Ubuntu 24.04", "install Ubuntu 24.04"),
    "arm": ("aarch64", "x86_64", "AMD Ryzen"),
    "nvidia": ("10de:2684 at 0000:c5:00.0", "1002:150e", "accelerator"),
    "strix-halo": ("1002:1586", "1002:150e", "set accelerator to gfx1151"),
    "override": ("110000", "110500 (gfx1150)", "HSA_OVERRIDE_GFX_VERSION"),
    "dkms": ("DKMS", "kernel's own amdgpu", "uninstall"),
    "trees": ("/opt/rocm-7.1.0, /opt/rocm-7.2.0", "one tree", "remove the others"),
    "sources": ("/etc/apt/sources.list.d/rocm.list", "ojai-rocm.sources", "remove or disable"),
    "aiter": ("VLLM_ROCM_USE_AITER_MHA set in /etc/ojai/vllm-gemma4.env", "absent", "delete its line"),
    "allocator": ("PYTORCH_CUDA_ALLOC_CONF set in /etc/ojai/vllm-gemma4.env", "absent", "delete its line"),
    "firmware": ("linux-firmware 20251125", "any other than 20251125", "apt install"),
    "disk": ("27.9 GiB free on /", "GiB", "free space"),
    "sudo": ("'ada'", "root", "sudo rights"),
    "account": ("'bob'", "gpu_users", "create it"),
    "newer": ("format 3 in /var/lib/ojai", "format 2 or an older one", "use a newer ojai"),
    "newer-removed": ("format 3 in /var/lib/ojai", "format 2 or an older one", "use a newer ojai"),
    "silent": ("no answer", "sudo", "reachable"),
}


@pytest.fixture(scope="module", params=["--dry", "--json"])
def refused(request) -> Run:
    run = pyinfra(HERE / "refused.py", request.param)
    assert "Traceback" not in run.said, run.said
    return run


def test_refusals_end_in_status_1(refused):
    assert refused.status == 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_host_is_told_why_once(refused, name):
    errors = [line for line in refused.of(name) if line.startswith("preflight: ")]
    assert len(errors) == 1, errors
    for words in REFUSED[name]:
        assert words in errors[0]


def test_a_refused_host_has_no_operations_and_the_others_have_theirs(refused):
    if refused.stdout:
        for hosts in refused.plan.values():
            assert set(hosts) <= {"@fake/good-00", "@fake/good-01"}
        changed = [name for name, hosts in refused.plan.items() if {"@fake/good-00", "@fake/good-01"} <= set(hosts)]
        assert {name.split(" | ")[0] for name in changed} == set(ROLES)
    else:
        table = refused.said.partition("Detected changes")[2].partition("--> Recap")[0]
        assert table.count("2 (@fake/good-00, @fake/good-01)") > 20
        for name in REFUSED:
            assert f"@fake/{name}" not in table


def test_a_host_that_is_refused_alone_ends_the_run():
    run = pyinfra(HERE / "refused.py", "--dry", "--limit", "@fake/carveout")
    assert run.status == 1
    assert "Traceback" not in run.said
    assert run.said.count("preflight: memory for vllm-gemma4") == 1
    assert "@fake/carveout" in run.said.partition("preflight: memory")[0].splitlines()[-1]
    assert "Detected changes" not in run.said


def test_rollback_leaves_releases_of_a_newer_ojai_alone():
    run = pyinfra(
        HERE / "refused.py", "-y", "--limit", "@fake/newer", operations="ojai/pyinfra_runs/rollback_deploy.py"
    )
    assert (run.status, "Traceback" in run.said) == (1, False), run.said
    assert "format 3 in /var/lib/ojai" in run.said and "use a newer ojai" in run.said
    assert "Roll back to the last healthy release" not in run.said


@pytest.mark.parametrize("option", ["--dry", "-y"])
def test_faulty_settings_are_refused_before_the_first_connection(option):
    run = pyinfra(HERE / "faulty.py", option)
    assert run.status == 1
    assert "Traceback" not in run.said
    assert "Connecting" not in run.said and "Connected" not in run.said
    faults = [line for line in run.said.splitlines() if "@fake/" in line]
    assert len(faults) == 4, faults
    for words in (
        ("@fake/one", "services[0].profil", "profile"),
        ("@fake/one", "kernel_reboot", "'sometimes'", "if-required"),
        ("@fake/two", "gpu_user", "gpu_users"),
        ("@fake/two", "services[1].port", "found 1"),
    ):
        assert any(all(word in fault for word in words) for fault in faults), words
    assert "@fake/good" not in run.said


def test_faults_in_data_given_on_the_command_line_are_found():
    run = pyinfra(ROOT / "inventory" / "fake.py", "--dry", "--data", "kernel_reboot=sometimes")
    assert (run.status, "Traceback" in run.said, "Connected" in run.said) == (1, False, False)
    assert "'sometimes'" in run.said


@pytest.mark.parametrize("word", ["kernel_reboot", "=never"])
def test_data_that_is_no_pair_is_refused(word):
    run = pyinfra(ROOT / "inventory" / "fake.py", "--dry", "--data", word)
    assert (run.status, "Traceback" in run.said, "Connected" in run.said) == (1, False, False), run.said
    assert word in run.said


@pytest.mark.parametrize("inventory", [ROOT / "inventory" / "not-there.py", HERE / "serving.py"])
def test_an_inventory_without_hosts_is_refused(inventory):
    """A name that is mistyped, and a limit that nothing matches."""
    run = pyinfra(inventory, "--dry", "--limit", "@fake/not-there")
    assert (run.status, "Traceback" in run.said) == (1, False), run.said
    assert "not-there" in run.said and "Detected changes" not in run.said


@pytest.mark.parametrize("token", ["hf_x\n", " hf_x\r\n", "hf_x"])
def test_a_token_is_trimmed(monkeypatch, token):
    settings = parse("mini", {})
    monkeypatch.setenv("HF_TOKEN", token)
    (service,) = settings.resolved
    assert vllm.secret_variables(settings, service) == ({"HF_TOKEN": "hf_x"}, {})
    monkeypatch.setenv("HF_TOKEN", "")
    assert vllm.secret_variables(settings, service) == ({}, {})


def test_the_older_name_of_the_token_is_read_too(monkeypatch):
    settings = parse("mini", {})
    (service,) = settings.resolved
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_old")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert vllm.secret_variables(settings, service) == ({"HF_TOKEN": "hf_old"}, {})
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert vllm.secret_variables(settings, service) == ({"HF_TOKEN": "hf_x"}, {})


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
@pytest.mark.parametrize(
    "token",
    ["hf_SECRET\nVLLM_ROCM_USE_AITER=1", '"hf_SECRET"', "'hf_SECRET'", "HF_TOKEN=hf_SECRET", "hf_SECRET # mine"],
)
def test_a_token_that_is_none_is_refused(name, token):
    """It would put a second variable into the environment file, or Docker would hand its quotes to the server."""
    run = pyinfra(HERE / "serving.py", "--dry", **{"HF_TOKEN": "", name: token})
    assert (run.status, "Traceback" in run.said) == (1, False), run.said
    assert "preflight: secret: found for HF_TOKEN: " in run.said
    assert f"in what the variable {name} of this environment has; expected" in run.said
    assert "hf_SECRET" not in run.said and "AITER" not in run.said


@pytest.mark.parametrize(
    "options",
    [
        ["--dry", "--diff", "-vvv", "--debug-facts"],
        ["--dry", "--debug", "--debug-operations"],
        ["--json"],
        ["-y", "-vvv", "--diff", "--debug"],
    ],
    ids=" ".join,
)
def test_no_secret_is_ever_said(options):
    run = pyinfra(HERE / "serving.py", *options)
    assert run.status == 0, run.said
    assert NAMES["vllm-env"] in run.said + run.stdout, "the operation that has the secret did not run"
    assert SENTINEL not in run.said + run.stdout


@pytest.mark.parametrize(("token", "changed"), [(SENTINEL, {"serving"}), ("hf_new", {"serving", "has-token"})])
def test_the_token_reaches_the_environment_file(token, changed):
    """Seen by what is left to do where it is in the file already."""
    plan = pyinfra(HERE / "serving.py", "--json", HF_TOKEN=token).plan
    hosts = plan[NAMES["vllm-env"]]
    assert set(hosts) == {f"@fake/{name}" for name in changed}


def test_kernel_reboot_never_reports_and_carries_on():
    """The new kernel is installed on both, another runs: one is rebooted, the other's operator is told."""
    run = pyinfra(HERE / "kernels.py", "--json")
    assert run.status == 0, run.said
    assert run.plan[NAMES["kernel-reboot"]] == ["@fake/if-required"]
    done = pyinfra(HERE / "kernels.py", "-y", "--limit", "@fake/never")
    assert done.status == 0, done.said
    assert any("6.17.0-1012-oem" in line and "6.8.0-90-generic" in line for line in done.of("never")), done.said


def test_an_engine_of_the_owner_s_is_left_alone():
    """Whatever docker_source says: no package, source, key or unit of it, only mirrors and a start if it is down."""
    run = pyinfra(HERE / "owners_engine.py", "--dry", "--json")
    assert run.status == 0, run.said
    done = {
        host: sorted(name for name, hosts in run.plan.items() if host in hosts and name.startswith("Docker |"))
        for host in ("@fake/docker-ce", "@fake/moby")
    }
    configured = "Docker | Configure the Docker daemon"
    assert done == {"@fake/docker-ce": [configured], "@fake/moby": [configured, "Docker | Start Docker"]}
    never = {
        NAMES[key] for key in ("docker-packages", "docker-unmasked", "docker-source", "docker-key", "docker-lists")
    }
    assert not never & set(run.plan), "named, even where it would change nothing"
    said = " ".join(run.of("moby"))
    assert "Docker: moby-engine 29.1.0 was installed by others: it is used as it is, and stays at removal." in said
