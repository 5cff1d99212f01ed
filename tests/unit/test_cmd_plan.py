import json
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ojai.cli import main
from ojai.facts.report import Report
from ojai.plan import plan
from ojai.preflight.host import fact_arguments
from ojai.pyinfra_runs.collect import collect_facts, line
from ojai.settings import SettingsError, parse
from ojai.settings.inventory import Entry, within
from ojai.sizes import GIB

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
from ojai.fake import fake_host
fake = [fake_host("mini-01", {"services": [{"profile": "gemma-4-26b-a4b"}]}, gpu_memory="16GiB")]
"""


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def run(*words: str, **environment: str) -> Result:
    done = CliRunner().invoke(main, ["plan", *words], env={"COLUMNS": "100", **environment})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert "Traceback" not in done.output
    return done


def entry(**data: Any) -> Entry:
    return Entry("mini", ("fleet",), data, parse("mini", data))


def report(**facts: Any) -> Report:
    sound: dict[str, Any] = {
        "user": "root",
        "machine": "x86_64",
        "os_id": "ubuntu",
        "os_version": "24.04",
        "gpus": {"0000:c5:00.0": "0x1002:0x150e"},
        "vram_total": 64 * GIB,
        "memory_total": 62 * GIB,
        "disks": {"/var/lib/docker": (900 * GIB, "/"), "/srv/ojai": (900 * GIB, "/")},
    }
    return Report(**sound | facts)


BIG: dict[str, Any] = {"services": [{"profile": "gemma-4-26b-a4b", "max_model_len": 32768}]}


def test_without_a_word_of_the_memory_the_smallest_carve_out_that_is_enough_is_assumed() -> None:
    found = plan(entry(**BIG))
    assert found.gpu_memory is not None and found.gpu_memory.assumed
    assert str(found.gpu_memory) == "64 GiB (assumed: the smallest BIOS carve-out that is enough)"
    assert (found.needed_gpu_bytes, found.enough_carve_out_bytes) == (56 * GIB, 64 * GIB)
    assert found.obstacles == () and found.services[0].budget is not None and found.services[0].budget.fits


def test_a_carve_out_that_is_too_small_is_in_the_way() -> None:
    found = plan(entry(**BIG), gpu_bytes=16 * GIB)
    assert found.gpu_memory is not None and found.gpu_memory.source == "option"
    (only,) = found.obstacles
    assert only.startswith("vllm-gemma4 does not fit: ") and "set 64 GB in the BIOS" in only


def test_the_command_is_the_settings_own() -> None:
    asked = entry(**BIG)
    assert plan(asked).services[0].service is asked.settings.resolved[0]


def test_what_no_carve_out_holds_is_told() -> None:
    found = plan(entry(services=[{"profile": "gemma-4-31b", "gpu_memory_utilization": 0.3}]))
    assert found.gpu_memory is not None and found.gpu_memory.source == "largest"
    assert found.enough_carve_out_bytes is None and "more than the BIOS's 96 GB" in found.obstacles[0]


def test_every_service_has_to_start() -> None:
    two = [
        {"name": "a", "port": 1, "gpu_memory_utilization": 0.5},
        {"name": "b", "port": 2, "gpu_memory_utilization": 0.2, "profile": "gemma-4-e2b", "max_model_len": 8192},
    ]
    found = plan(entry(services=two))
    alone = [plan(entry(services=[one])).needed_gpu_bytes or 0 for one in two]
    assert found.needed_gpu_bytes == max(alone)
    assert alone[1] > alone[0], "the small share decides"


def test_gtt_has_its_limit_whatever_is_assumed() -> None:
    found = plan(entry(memory_regime="gtt", gtt_limit="100GiB"), gpu_bytes=8 * GIB)
    assert found.gpu_memory is not None
    assert (found.gpu_memory.bytes, found.gpu_memory.source) == (100 * GIB, "gtt_limit")
    assert found.enough_carve_out_bytes is None


def test_a_host_s_own_figures_go_before_any_assumption() -> None:
    found = plan(entry(**BIG), gpu_bytes=96 * GIB, report=report(vram_total=16 * GIB))
    assert found.gpu_memory is not None and str(found.gpu_memory) == "16 GiB (as the host reports)"
    (only,) = found.obstacles
    assert only.startswith("preflight: memory for vllm-gemma4: found 16 GiB of GPU memory")
    assert plan(entry(**BIG), report=report()).obstacles == ()


def test_preflight_s_refusals_are_in_the_way() -> None:
    found = plan(entry(), report=report(os_version="22.04", os_name="Ubuntu 22.04", dkms=("loaded",)))
    assert [obstacle.split(":")[1] for obstacle in found.obstacles] == [" operating system", " GPU driver"]


def test_a_driver_that_is_not_up_leaves_the_memory_assumed() -> None:
    found = plan(entry(**BIG), report=report(vram_total=None))
    assert found.gpu_memory is not None and found.gpu_memory.source == "enough"


def test_a_host_that_serves_nothing_needs_nothing() -> None:
    for data in ({"removed": True}, {"services": []}):
        found = plan(entry(**data))
        assert (found.services, found.gpu_memory, found.obstacles) == ((), None, ())
    assert plan(entry(removed=True)).removed


def test_a_choice_that_has_no_budget_is_no_plan() -> None:
    with pytest.raises(SettingsError, match="kv-cache-uncounted: kv_cache_dtype turboquant_k8v4: the memory budget"):
        entry(services=[{"kv_cache_dtype": "turboquant_k8v4"}])


def test_borrowed_memory_is_warned_of_where_hip_may_not_see_it() -> None:
    gtt = {"memory_regime": "gtt", "gtt_limit": "60GiB"}
    (text,) = plan(entry(**gtt)).services[0].warnings
    assert "memory_regime gtt on gfx1150: HIP is reported to see the BIOS carve-out only" in text
    assert plan(entry(accelerator="gfx1151", **gtt)).services[0].warnings == ()
    assert plan(entry()).services[0].warnings == ()


def test_a_limit_is_a_group_or_a_pattern() -> None:
    assert within("mini-01", ["edge"], ()) and within("mini-01", ["edge"], ("x", "edge"))
    assert within("mini-01", [], ("mini-*",)) and not within("mini-01", ["edge"], ("mini",))


def test_a_report_survives_its_line() -> None:
    from ojai.pyinfra_runs.collect import _REPORT, MARK

    sent = report(rocm_trees=("/opt/rocm",), env_names={"/etc/ojai/a.env": ("HF_TOKEN",)}, gfx_versions=(110500,))
    mark, name, text = line("mini", sent).split("\t")
    assert (mark, name) == (MARK, "mini") and _REPORT.validate_json(text) == sent


def test_what_is_asked_of_a_host_covers_its_services() -> None:
    asked = fact_arguments(entry(data_directory="/data", gpu_users=["ada"]).settings)
    assert asked["places"] == ("/var/lib/docker", "/data", "/var/lib/dpkg") and asked["users"] == ("ada", "root")
    assert asked["env_files"] == ("/etc/ojai/vllm-gemma4.env",) and asked["images"] == (
        "vllm/vllm-openai-rocm:v0.20.1",
    )


def test_the_fleet_for_a_person() -> None:
    done = run("inventory/fleet.py")
    assert done.exit_code == 0, done.output
    assert [name for name in ("mini-01", "mini-02", "mini-03", "strix-01") if f"\n{name}  " in f"\n{done.stdout}"] == [
        "mini-01",
        "mini-02",
        "mini-03",
        "strix-01",
    ]
    assert "assumed: the smallest BIOS carve-out that is enough" in done.stdout
    assert "100 GiB (assumed: as gtt_limit allows)" in done.stdout
    assert "--facts asks the host" in done.stdout and "\x1b" not in done.stdout


def test_the_printed_command_is_what_a_shell_would_run() -> None:
    done = run("inventory/fleet.py", "--limit", "mini-03")
    printed = re.findall(r"^docker run (?:.*\\\n)*.*$", done.stdout, flags=re.MULTILINE)
    as_data = json.loads(run("inventory/fleet.py", "--limit", "mini-03", "--json").stdout)
    argvs = [service["command"]["docker_argv"] for service in as_data["hosts"][0]["services"]]
    assert len(argvs) == 2
    assert [shlex.split(text.replace("\\\n", " ")) for text in printed] == argvs


def test_the_fleet_for_a_machine() -> None:
    done = run("inventory/fleet.py", "--json", "--limit", "edge", "--gpu-memory", "16GiB")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["facts"] is False
    small, big = told["hosts"]
    assert (small["name"], small["ready"], big["name"], big["ready"]) == ("mini-01", False, "mini-02", False)
    assert big["gpu_memory"] == {"bytes": 16 * GIB, "source": "option"}
    (service,) = big["services"]
    assert service["unit"] == "vllm-gemma4.service" and service["command"]["model"] == "google/gemma-4-26B-A4B-it"
    assert service["command"]["engine_argv"][0] == "google/gemma-4-26B-A4B-it"
    assert service["budget"]["fits"] is False and service["budget"]["reasons"]
    assert "ssh_user" not in done.stdout, "how a host is reached is no part of the plan"


def test_facts_are_the_host_s_and_nothing_is_changed() -> None:
    done = run("inventory/fake.py", "--facts", "--json", "--limit", "@fake/mini-01")
    assert done.exit_code == 0, done.output
    (host,) = json.loads(done.stdout)["hosts"]
    assert host["gpu_memory"] == {"bytes": 64 * GIB, "source": "host"}
    assert host["services"][0]["budget"]["os_left_bytes"] == 65011712 * 1024


def test_facts_of_a_host_with_too_small_a_carve_out(tmp_path: Path) -> None:
    inventory = tmp_path / "fake.py"
    inventory.write_text(SMALL)
    done = run(str(inventory), "--facts", "--limit", "@fake/mini-01")
    assert done.exit_code == 1
    assert "16 GiB (as the host reports)" in done.stdout
    assert "Blocked by: preflight: memory for vllm-gemma4: found 16 GiB of GPU memory" in done.stdout


def test_only_facts_connect_and_a_host_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        inventory = tmp_path / "closed.py"
        reach = {"ssh_hostname": "127.0.0.1", "ssh_port": port, "ssh_user": "nobody"}
        inventory.write_text(f"closed = [('mini', {reach!r})]\n")
        server.settimeout(0.2)
        assert run(str(inventory)).exit_code == 0
        with pytest.raises(TimeoutError):
            server.accept()
    # Nobody listens any more: the connection is refused.
    done = run(str(inventory), "--facts")
    assert done.exit_code == 1
    assert re.search(rf"Blocked by: host: Could not connect .*port {port}", done.stdout)
    found = collect_facts(str(inventory), ["mini"])["mini"]
    assert found.report is None and "Could not connect" in found.failure


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["inventory/flet.py"], 2, "there is no file inventory/flet.py; did you mean inventory/fleet.py?"),
        (["inventory"], 2, "inventory is a folder"),
        (["inventory/fleet.schema.yaml"], 2, "is read by an inventory: name that, inventory/fleet.schema.py"),
        (["inventory/fleet.py", "--gpu-memory", "lots"], 2, "'lots' is not an amount of memory"),
        (["inventory/fleet.py", "--fact"], 2, "No such option"),
        ([], 2, "Missing argument 'INVENTORY'"),
        (["inventory/fleet.py", "--limit", "nobody"], 2, "found no host that matches --limit"),
    ],
)
def test_what_is_not_understood(words: list[str], status: int, text: str) -> None:
    done = run(*words)
    assert done.exit_code == status and text in done.stderr and done.stdout == ""


def test_a_faulty_inventory_is_one_clean_error(tmp_path: Path) -> None:
    (tmp_path / "fleet.py").write_text((ROOT / "inventory" / "fleet.py").read_text())
    (tmp_path / "fleet.yaml").write_text("hosts:\n  a: {removd: true}\n  b: {kernel_reboot: later}\n")
    done = run(str(tmp_path / "fleet.py"), "--json")
    assert done.exit_code == 2 and done.stdout == ""
    assert f"{tmp_path}/fleet.yaml:2: host a: removd: no such setting; the nearest is removed" in done.stderr
    assert f"{tmp_path}/fleet.yaml:3: host b: kernel_reboot: found 'later'" in done.stderr
    assert "pyinfra error" not in done.stderr and "Loading" not in done.stderr


def test_no_colour_is_wanted_is_no_colour() -> None:
    coloured = run("inventory/fleet.py", "--limit", "mini-01", FORCE_COLOR="1")
    assert re.search(r"\x1b\[[\d;]*3\dm", coloured.stdout)
    plain = run("inventory/fleet.py", "--limit", "mini-01", FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain.stdout)


def test_help_is_for_a_newcomer() -> None:
    done = run("--help")
    assert done.exit_code == 0
    for word in (
        "INVENTORY",
        "--limit",
        "--gpu-memory",
        "--facts",
        "--json",
        "Exit status",
        "ojai plan inventory/ojai.py",
    ):
        assert word in done.stdout


def many(tmp_path: Path) -> str:
    (tmp_path / "fleet.py").write_text((ROOT / "inventory" / "fleet.py").read_text())
    (tmp_path / "fleet.yaml").write_text(
        """
defaults: {ssh_user: ojai}
hosts:
  mini-[01:48]: {}
  mini-07: {services: []}
  big-[1:2]: {services: [{profile: gemma-4-26b-a4b, image: "vllm/vllm-openai-rocm:latest"}]}
"""
    )
    return str(tmp_path / "fleet.py")


def test_many_hosts_are_a_line_each(tmp_path: Path) -> None:
    done = run(many(tmp_path), "--gpu-memory", "32GiB")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert len(lines) < 65, done.stdout
    rows = [line.split() for line in lines if re.match(r"(mini|big)-\d", line)]
    assert len(rows) == 50
    assert rows[0] == ["mini-01", "gemma-4-e4b:8000", "32", "GiB", "*", "22", "GiB", "yes"]
    assert rows[6] == ["mini-07", "nothing", "yes"]
    assert rows[-1][0] == "big-2" and rows[-1][-1] == "no"
    assert "50 hosts, 2 blocked. --details shows commands and budgets." in done.stdout
    assert "Blocked by: vllm-gemma4 does not fit" in done.stdout and "(big-1, big-2)" in done.stdout
    assert "docker run" not in done.stdout
    details = run(many(tmp_path), "--gpu-memory", "32GiB", "--details")
    assert details.stdout.startswith(done.stdout.rstrip()) and details.stdout.count("docker run") == 49


def test_a_tag_that_moves_and_a_foreign_model_get_a_sentence(tmp_path: Path) -> None:
    assert "Warning: image vllm/vllm-openai-rocm:latest: the tag latest moves" in run(many(tmp_path)).stdout
    inventory = tmp_path / "one.py"
    inventory.write_text("one = [('mini', {'services': [{'model': 'Qwen/Qwen3-8B'}]})]\n")
    done = run(str(inventory))
    assert done.exit_code == 0
    assert "vllm-gemma4.service, Qwen/Qwen3-8B as " in done.stdout
    assert "Warning: model Qwen/Qwen3-8B is not the profile's (google/gemma-4-E4B-it)" in done.stdout
    (host,) = json.loads(run(str(inventory), "--json").stdout)["hosts"]
    assert len(host["services"][0]["warnings"]) == 1


def test_gpu_memory_without_a_unit_is_refused_with_what_was_meant() -> None:
    done = run("inventory/fleet.py", "--gpu-memory", "64")
    assert done.exit_code == 2 and "did you mean 64GiB?" in done.stderr
