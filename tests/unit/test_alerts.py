"""Every alert rule by `promtool test rules`: a case in which it fires, and one in which it is quiet."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ojai import counters, diagnosis, resources, watch
from ojai.facts.report.watch import WatchReport
from ojai.lab import image, packages
from ojai.lab.modelserver.metrics import Metrics
from ojai.settings import parse

DOCUMENT = yaml.safe_load(watch.alerts())
RULES = {rule["alert"]: rule for group in DOCUMENT["groups"] for rule in group["rules"]}

#: Of one service, and of one host.
ENGINE = '{job="engine",host="mini",service="vllm-gemma4"}'
NODE = '{job="node",host="mini"'
FLOOR = f'ojai_decode_floor_tokens_per_second{NODE},service="vllm-gemma4"}}'
CHIP = f'node_hwmon_chip_names{NODE},chip="0000:c5:00_0",chip_name='
HOT = f'node_hwmon_temp_celsius{NODE},chip="0000:c5:00_0",sensor="temp1"}}'
DISK = f'{NODE},fstype="ext4",mountpoint="/"}}'
DAY = 86400


def decoding(rate: float, users: int) -> dict[str, str]:
    """Half a minute of tokens in each half minute, for that many users."""
    return {
        f"vllm:inter_token_latency_seconds_count{ENGINE}": f"0+{rate * 30 * users}x60",
        f"vllm:inter_token_latency_seconds_sum{ENGINE}": f"0+{30 * users}x60",
        f"vllm:num_requests_running{ENGINE}": f"{users}x60",
        FLOOR: "5x60",
    }


class Case(NamedTuple):
    """Series, their samples every 30 s, when it fires; when it does not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    minutes: int = 30


CASES = {
    "EngineDown": Case({f"up{ENGINE}": "1x10 0x50"}, {f"up{ENGINE}": "1x50 0 0 1x8"}),
    "KvCacheFull": Case(
        {f"vllm:kv_cache_usage_perc{ENGINE}": "0.99x60"}, {f"vllm:kv_cache_usage_perc{ENGINE}": "0.99x50 0.5x10"}
    ),
    "QueueGrowing": Case(
        {f"vllm:num_requests_waiting{ENGINE}": "1+1x60"}, {f"vllm:num_requests_waiting{ENGINE}": "30-0.5x60"}
    ),
    # The same speed for each of three at once is as it should be.
    "DecodeSlow": Case(decoding(4, 1), decoding(4, 3)),
    "MemoryPressure": Case(
        {f"node_memory_MemAvailable_bytes{NODE}}}": "4x60", f"node_memory_MemTotal_bytes{NODE}}}": "100x60"},
        {
            f"node_memory_MemAvailable_bytes{NODE}}}": "6x60",
            f"node_memory_MemTotal_bytes{NODE}}}": "100x60",
            f"node_pressure_memory_waiting_seconds_total{NODE}}}": "0+3x60",
        },
    ),
    "ProcessKilledForMemory": Case(
        {f"node_vmstat_oom_kill{NODE}}}": "0x50 1x10"}, {f"node_vmstat_oom_kill{NODE}}}": "3x60"}
    ),
    "DiskFull": Case(
        {f"node_filesystem_avail_bytes{DISK}": "5x60", f"node_filesystem_size_bytes{DISK}": "100x60"},
        {f"node_filesystem_avail_bytes{DISK}": "9x60", f"node_filesystem_size_bytes{DISK}": "100x60"},
    ),
    # Another chip may be as hot as that.
    "GpuHot": Case({HOT: "97x60", f'{CHIP}"amdgpu"}}': "1x60"}, {HOT: "97x60", f'{CHIP}"nvme"}}': "1x60"}),
    "Throttled": Case(
        {f'ojai_gpu_throttle_residency_total{NODE},limit="thm_gfx"}}': "0+10x60"},
        {f'ojai_gpu_throttle_residency_total{NODE},limit="fppt"}}': "0+10x60"},
    ),
    "ExporterDown": Case({f"up{NODE}}}": "1x10 0x50"}, {f"up{NODE}}}": "1x55 0x5"}),
    "TextsOld": Case(
        {f'node_textfile_mtime_seconds{NODE},file="/x/ojai.prom"}}': "0x60"},
        {f'node_textfile_mtime_seconds{NODE},file="/x/ojai.prom"}}': "1200x60"},
    ),
    "Drift": Case({f"ojai_drift{NODE}}}": "1x60"}, {f"ojai_drift{NODE}}}": "0x60"}),
    "VerifyFailed": Case(
        {f'ojai_verify_checks{NODE},outcome="failed"}}': "2x60"},
        {f'ojai_verify_checks{NODE},outcome="failed"}}': "0x60"},
    ),
    "CertificateEnds": Case(
        {f'ojai_certificate_end_timestamp_seconds{NODE},file="/x.crt"}}': f"{13 * DAY}x60"},
        {f'ojai_certificate_end_timestamp_seconds{NODE},file="/x.crt"}}': f"{15 * DAY}x60"},
    ),
    "ClientKeyEnds": Case(
        {f'ojai_key_end_timestamp_seconds{NODE},key="laptop"}}': "7200x60"},
        {f'ojai_key_end_timestamp_seconds{NODE},key="laptop"}}': "36000x60"},
    ),
    "SigningKeyEnds": Case(
        {f'ojai_key_end_timestamp_seconds{NODE},key="ojai-rocm.gpg"}}': f"{20 * DAY}x60"},
        {f'ojai_key_end_timestamp_seconds{NODE},key="ojai-rocm.gpg"}}': f"{40 * DAY}x60"},
    ),
    "TuningMissing": Case(
        {f'ojai_tunableop{NODE},service="vllm-gemma4",state="missing"}}': "1x240"},
        {f'ojai_tunableop{NODE},service="vllm-gemma4",state="kept"}}': "1x240"},
        minutes=90,
    ),
}


def prometheus_program() -> Path:
    """Debian's, unpacked in the lab's cache: installed, it would listen on every address."""
    cache, name = image.cache_root(), "prometheus"
    top = cache / name
    with image.locked(cache, name):
        if not (top / "usr/bin/prometheus").exists():
            with image.fresh(cache, name) as new:
                packages.unpack("prometheus", new)
    return top / "usr/bin/prometheus"


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    """The program that reads and tests rules, with these words."""
    argv = [prometheus_program().with_name("promtool"), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def outcome_of(folder, cases: dict[str, tuple[dict[str, str], int, int]]) -> subprocess.CompletedProcess[str]:
    """What promtool says of cases: name -> series, minutes, and how many alerts fire by then."""
    tests = [
        {
            "interval": "30s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                    "eval_time": f"{minutes}m",
                    "exp_samples": [{"labels": "{}", "value": count}] if count else [],
                }
            ],
        }
        for alert, (series, minutes, count) in cases.items()
    ]
    document = {
        "rule_files": [str(resources.FILES.resolve() / "alerts.yml")],
        "evaluation_interval": "30s",
        "tests": tests,
    }
    file = folder / "tests.yml"
    file.write_text(json.dumps(document))
    return promtool("test", "rules", file)


def test_every_alert_has_both_cases() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("which", ["fires", "quiet"])
def test_each_alert(tmp_path, which) -> None:
    cases = {name: (getattr(case, which), case.minutes, int(which == "fires")) for name, case in CASES.items()}
    done = outcome_of(tmp_path, cases)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_that_is_wrong_is_found(tmp_path) -> None:
    case = CASES["EngineDown"]
    assert outcome_of(tmp_path, {"EngineDown": (case.quiet, case.minutes, 1)}).returncode == 1


def test_memory_pressure_is_also_what_programs_wait_for(tmp_path) -> None:
    waits = {f"node_pressure_memory_waiting_seconds_total{NODE}}}": "0+9x60"}
    assert outcome_of(tmp_path, {"MemoryPressure": (waits, 30, 1)}).returncode == 0


def test_each_alert_names_a_cause_that_doctor_knows() -> None:
    known = {one.code for name in ("failures", "failures-installing", "symptoms") for one in diagnosis.catalogue(name)}
    for name, rule in RULES.items():
        assert rule["annotations"]["doctor"] in known, name


def test_the_guide_lists_every_alert() -> None:
    page = (Path(__file__).parents[2] / "docs/guide/watch.md").read_text()
    listed = {name for row in re.findall(r"^\| ([A-Z][A-Za-z, ]+) \|", page, re.MULTILINE) for name in row.split(", ")}
    assert listed >= RULES.keys()


def test_the_engines_metrics_are_those_that_are_counted() -> None:
    """In the rules and in the dashboard, by the names that the lab's server has too."""
    text = watch.alerts() + (resources.FILES / "dashboards/ojai.json").read_text()
    named = set(re.findall(r"vllm:[a-z_]+", text))
    server = Metrics("m", 8192).text()
    assert named and named <= {*counters.names("vllm").values(), *re.findall(r"vllm:[a-z_]+", server)}


@pytest.mark.parametrize("alerts_to", [True, False])
def test_prometheus_takes_the_configuration(tmp_path, alerts_to) -> None:
    settings = parse(
        "mini",
        {
            "watch": "box",
            "services": [
                {"gpu_memory_utilization": 0.4},
                {"name": "second", "port": 8001, "gpu_memory_utilization": 0.4},
            ],
        },
    )
    own = watch.parts(settings, WatchReport())
    written = watch.files(settings, "mini", own)
    for path in (watch.ALERTS, watch.TARGETS):
        (tmp_path / path.rpartition("/")[2]).write_text(written[path])
    text = watch.prometheus(watch.TARGETS, watch.ALERTS, alerts_to).replace(watch.FOLDER, str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(text)
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
