"""`ojai doctor`: excerpts in the form that the programs write them, and what has to be named first."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ojai import releases
from ojai.cli import main
from ojai.cmdline import doctor
from ojai.diagnosis import Diagnosis, catalogue, diagnose, match, read_log
from ojai.doctor import FORMAT, VERSION, Results, case, current, examine, pack, unpack, unreachable, without_secrets
from ojai.facts import condition
from ojai.facts.condition import MASK, Answered, Condition, read
from ojai.facts.readings import Asked
from ojai.facts.report import Report
from ojai.gauge import subject
from ojai.gauge.judging import judge
from ojai.gauge.result import Run, Settings, Subject, place_of, save
from ojai.preflight.host import fact_arguments
from ojai.pyinfra_runs import kept
from ojai.pyinfra_runs.kept import Kept
from ojai.settings import parse
from ojai.settings.inventory import Entry
from ojai.sizes import GIB
from ojai.weights.program import record_name

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "data" / "doctor"
EXCERPTS: list[dict[str, str]] = [
    one
    for name in ("first", "second", "third", "fourth")
    for one in yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))
]
#: As journals, Docker and dmesg write them, each in a form of its own; *-score.md have their first contact.
AS_WRITTEN: list[dict[str, str]] = [
    one
    for name in ("fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    for one in yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))
]
#: Of a real vLLM 0.28.0 that was started wrongly; the files are named by what was wrong.
REAL = sorted((DATA / "real").glob("*.log"))
HEALTHY = sorted((DATA / "healthy").glob("*.log"))


def codes(lines: list[str]) -> list[str]:
    return [one.finding.code for one in diagnose(read_log(lines)) if one.finding.rank != "note"]


def plain(lines: list[str]) -> list[str]:
    return [f"{line}\n" for line in lines]


def journal_json(lines: list[str]) -> list[str]:
    return [
        json.dumps({"__REALTIME_TIMESTAMP": "1", "_BOOT_ID": "a", "PRIORITY": "6", "MESSAGE": line}) for line in lines
    ]


def journal_bytes(lines: list[str]) -> list[str]:
    """As systemd writes what is coloured."""
    return [json.dumps({"_BOOT_ID": "a", "MESSAGE": list(f"\x1b[36m{line}\x1b[0m".encode())}) for line in lines]


def short_iso(lines: list[str]) -> list[str]:
    return [f"2026-11-25T08:00:00+01:00 mini docker[100]: {line}" for line in lines]


def docker_json(lines: list[str]) -> list[str]:
    """As Docker's json-file has it; long lines come in pieces."""
    pieces = [piece for line in lines for piece in (line[:40], line[40:] + "\n")]
    return [json.dumps({"log": piece, "stream": "stderr", "time": "2026-11-25T08:00:00Z"}) for piece in pieces]


@pytest.mark.parametrize("wrap", [plain, journal_json, journal_bytes, short_iso, docker_json])
@pytest.mark.parametrize("excerpt", EXCERPTS, ids=[one["name"] for one in EXCERPTS])
def test_the_cause_is_named_first_in_every_form(excerpt: dict[str, str], wrap: Any) -> None:
    assert codes(wrap(excerpt["log"].splitlines()))[:1] == [excerpt["code"]]


@pytest.mark.parametrize("excerpt", AS_WRITTEN, ids=[one["name"] for one in AS_WRITTEN])
def test_the_cause_is_named_first_in_the_form_in_which_it_was_written(excerpt: dict[str, str]) -> None:
    found = diagnose(read_log(excerpt["log"].splitlines(keepends=True)))
    assert [one.finding.code for one in found][:1] == [excerpt["code"]]


def test_there_are_enough_excerpts_and_each_says_where_its_words_are_from() -> None:
    assert len(EXCERPTS) >= 60 and len(HEALTHY) >= 55
    for every in (EXCERPTS, AS_WRITTEN):
        assert all(one["source"] for one in every)
        assert len({one["name"] for one in every}) == len(every)


@pytest.mark.parametrize("file", REAL, ids=[file.stem for file in REAL])
def test_what_a_real_engine_wrote_when_it_was_started_wrongly(file: Path) -> None:
    assert codes(file.read_text(encoding="utf-8").splitlines())[:1] == [file.stem]


@pytest.mark.parametrize("wrap", [plain, journal_json, docker_json])
@pytest.mark.parametrize("file", HEALTHY, ids=[file.stem for file in HEALTHY])
def test_nothing_is_found_where_nothing_is_wrong(file: Path, wrap: Any) -> None:
    assert codes(wrap(file.read_text(encoding="utf-8").splitlines())) == []


TAKEN = "nginx: [emerg] bind() to 0.0.0.0:8443 failed (98: Address already in use)"
UPSTREAM = (
    "2026/11/28 01:00:00 [error] 7#7: *1 connect() failed (111: Connection refused) while connecting to upstream, "
    'client: 192.0.2.7, server: _, request: "POST /v1/chat/completions HTTP/1.1", upstream: '
    '"http://127.0.0.1:8000/v1/chat/completions", host: "mini:8443"'
)
MISMATCH = (
    'nginx: [emerg] SSL_CTX_use_PrivateKey("/etc/ojai/gateway/server.key") failed (SSL: error:05800074:x509 '
    "certificate routines::key values mismatch)"
)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("Nov 27 08:00:00 mini systemd[1]: codegemma.service: Failed with result 'oom-kill'.", "oom-killer"),
        ("Nov 27 08:00:00 mini systemd[1]: nginx-gemma.service: Failed with result 'oom-kill'.", None),
        ("Nov 27 08:00:00 mini systemd[1]: Dependency failed for vllm-gemma4.service - Gemma 4.", "dependency-failed"),
        ("Nov 27 08:00:00 mini gemma-nginx[7]: OSError: [Errno 98] Address already in use", "port-taken"),
        ("Nov 27 08:00:00 mini nginx[7]: bind() to 0.0.0.0:80 failed (98: Address already in use)", None),
        (f"Nov 27 08:00:00 mini ojai-gateway[7]: {TAKEN}", "port-taken"),
        (f"Nov 27 08:00:00 mini nginx[7]: {UPSTREAM}", None),
        (f"Nov 27 08:00:00 mini ojai-gateway[7]: {UPSTREAM}", "gateway-no-engine"),
        (f"Nov 27 08:00:00 mini nginx[7]: {MISMATCH}", None),
        (f"Nov 27 08:00:00 mini ojai-gateway[7]: {MISMATCH}", "gateway-certificate"),
        ("torch/x.py:3: UserWarning: No module named 'numpy'", None),
        ("ModuleNotFoundError: No module named 'numpy'", "library-missing"),
    ],
)
def test_what_runs_beside_the_service_is_passed_over_and_nothing_else_is(line: str, code: str | None) -> None:
    assert codes([line]) == ([code] if code else [])


DENIED = (
    "Error response from daemon: pull access denied for a/b, repository does not exist or may require 'docker login'"
)
LAUNCH = "torch.AcceleratorError: HIP error: unspecified launch failure"


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        # moby's daemon/internal/distribution/errors.go: DENIED, UNAUTHORIZED; MANIFEST_UNKNOWN, NAME_UNKNOWN.
        ([f"docker: {DENIED}: denied: requested access to the resource is denied"], "registry-denied"),
        (["Unable to find image 'vllm/x:v1' locally", f"docker: {DENIED}"], "registry-denied"),
        (["Error response from daemon: unauthorized: authentication required"], "registry-denied"),
        (["manifest for vllm/x:v1 not found: manifest unknown: manifest unknown"], "image-missing"),
        (["repository r.lan/x not found: name unknown: repository name not known to registry"], "image-missing"),
        # containerd's resolver, which Docker 29 uses: the same two.
        (
            [
                'failed to resolve reference "docker.io/vllm/x:v1": pull access denied, repository does not exist or '
                "may require authorization: server message: insufficient_scope: authorization failed"
            ],
            "registry-denied",
        ),
        (['failed to resolve reference "docker.io/vllm/x:v1": docker.io/vllm/x:v1: not found'], "image-missing"),
        # ROCm's HIP gives its one launch failure after an illegal instruction too; a hang is what the kernel tells.
        ([LAUNCH, "Search for `hipErrorLaunchFailure' in https://rocm.docs.amd.com/"], "hip-error"),
        ([LAUNCH, "[8.1] amdgpu 0000:c5:00.0: amdgpu: GPU reset begin!. Source:  1"], "gpu-hang"),
        (["Callback: Queue 0x7f1 aborting with error : HSA_STATUS_ERROR_EXCEPTION: code: 0x1016"], "hip-error"),
        (["HW Exception by GPU node-1 (Agent handle: 0x55d0b0) reason :GPU Hang"], "gpu-hang"),
    ],
)
def test_causes_that_look_alike_are_told_apart(lines: list[str], first: str) -> None:
    assert codes(lines)[:1] == [first]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (
            [
                "radv/amdgpu: Not enough memory for command submission.",
                "llama_model_load: error loading model: vk::Queue::submit: ErrorDeviceLost",
            ],
            ["gpu-memory-weights", "gpu-hang"],
        ),
        (["llama_prepare_model_devices: invalid value for main_gpu: 0 (available devices: 0)"], ["gpu-not-visible"]),
        (["/lib64/libggml-base.so.0(ggml_abort+0x11f) [0x7f62e4d46aef]"], ["aborted"]),
        (
            [
                "amdxdna: module verification failed: signature and/or required key missing - tainting kernel",
                "amdxdna 0000:c4:00.1: [drm] *ERROR* amdxdna_drm_open: SVA bind device failed, ret -19",
            ],
            ["npu-iommu-off"],
        ),
    ],
)
def test_as_owners_of_such_boxes_have_seen_it(lines: list[str], found: list[str]) -> None:
    """The words of ggml-org/llama.cpp, kyuz0/amd-strix-halo-toolboxes and ROCm/FastFlowLM#403."""
    assert codes(lines) == found


def test_the_evidence_is_the_line_and_its_number() -> None:
    (found,) = diagnose(read_log(["fine\n", "OSError: [Errno 98] Address already in use\n", "fine\n"]))
    assert [(line.number, line.text) for line in found.evidence] == [(2, "OSError: [Errno 98] Address already in use")]
    many = diagnose(read_log([f"[{n}] amdgpu 0000:c5:00.0: amdgpu: GPU reset begin!" for n in range(9)]))
    assert [line.number for line in many[0].evidence] == [1, 2, 9]


def test_a_cause_that_the_engine_came_up_after_is_past_and_comes_later() -> None:
    oom = "torch.OutOfMemoryError: HIP out of memory."
    lines = ["OSError: [Errno 98] Address already in use", "INFO:     Application startup complete.", oom]
    found = diagnose(read_log(lines))
    assert [(one.finding.code, one.past) for one in found] == [("gpu-memory-weights", False), ("port-taken", True)]
    assert diagnose(read_log(lines[:2]))[0].past
    refused = [
        "ValidationError: 1 validation error for ModelConfig",
        "  Value error, User-specified max_model_len (999)",
    ]
    refused[1] += " is greater than the derived max_model_len (max_position_embeddings=131072)"
    assert codes([*refused, lines[1]]) == ["context-beyond-model", "setting-refused"]


def test_a_journal_as_json_says_which_program_spoke() -> None:
    def entry(who: str, message: str) -> str:
        return json.dumps({"_HOSTNAME": "mini", "SYSLOG_IDENTIFIER": who, "_PID": "7", "MESSAGE": message})

    taken = "OSError: [Errno 98] Address already in use"
    assert codes([entry("jellyfin", taken)]) == []
    assert codes([entry("docker", taken)]) == ["port-taken"]
    assert codes([entry("kernel", "You have booted with nomodeset.")]) == ["driver-off"]
    (found,) = diagnose(read_log([entry("docker", taken)]))
    assert found.evidence[0].text == f"mini docker[7]: {taken}"


def test_what_another_cause_explains_comes_after_it() -> None:
    boot, off = "kernel: Linux version 6.17.0-1012-oem", "kernel: You have booted with nomodeset."
    gone = 'docker: error gathering device information while adding custom device "/dev/kfd": no such file or directory'
    start = "systemd[1]: Started vllm-gemma4.service - vLLM."
    assert codes([boot, off, start, gone]) == ["driver-off", "device-missing"]
    assert codes([boot, off, boot, start, gone]) == ["device-missing", "driver-off"]  # the boot after it had another
    assert codes([gone]) == ["device-missing"]
    known = {finding.code for name in ("failures", "symptoms", "failures-installing") for finding in catalogue(name)}
    named = [finding for finding in catalogue() + catalogue("failures-installing") if finding.follows]
    assert named and all(set(finding.follows) <= known - {finding.code} for finding in named)


def test_a_host_that_came_up_after_a_cause_is_well() -> None:
    done = run(
        "--log",
        "-",
        "--json",
        stdin="OSError: [Errno 98] Address already in use\nINFO:     Application startup complete.",
    )
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["ok"] and [one["past"] for one in found["findings"]] == [True]


def test_the_last_start_s_cause_comes_first_then_that_of_the_start_before() -> None:
    start = "systemd[1]: Started vllm.service - Gemma 4 by vLLM: google/gemma-4-E4B-it on port 8000."
    flag = "vllm: error: unrecognized arguments: --disable-log-requests"
    lines = [start, flag, start, flag, start, "KeyError: 'invalid tool call parser: gemma (chose from", start]
    assert codes(lines) == ["tool-parser-unknown", "flag-disable-log-requests"]


def test_an_error_that_no_pattern_fits_is_of_the_kind_of_the_place_where_it_was_raised() -> None:
    frame = '(EngineCore pid=1) ERROR 11-26 20:00:20 [core.py:1136]   File "/usr/lib/python3/{}.py", line 7, in x'
    error = "(EngineCore pid=1) ERROR 11-26 20:00:20 [core.py:1136] ValueError: frobnication failed"
    begin = "(EngineCore pid=1) ERROR 11-26 20:00:20 [core.py:1136] Traceback (most recent call last):"
    quantising, unknown = frame.format("vllm/model_executor/layers/quantization/x"), frame.format("other")
    (found,) = diagnose(read_log([begin, quantising, unknown, error]))
    assert (found.finding.code, found.finding.rank) == ("quantization-unsupported", "general")
    assert [line.text for line in found.evidence] == [error]
    assert codes([begin, quantising, begin, unknown, error]) == ["error-unknown"]
    exact = "torch.OutOfMemoryError: HIP out of memory."
    assert codes([begin, quantising, error, exact]) == ["gpu-memory-weights", "quantization-unsupported"]


@pytest.mark.parametrize("teller", ["level=info msg=", "level=warning msg=", "INFO 11-26 ", "WARNING 11-26 "])
def test_what_a_program_tells_or_warns_of_is_no_cause(teller: str) -> None:
    said = "permission denied while trying to connect to the docker API"
    assert match(said) is not None and match(f"{teller}{said}") is None


def test_what_persons_and_other_programs_do_is_no_symptom() -> None:
    said = "Out of memory: Killed process 7 (x)"
    assert match(f"mini kernel: {said}") is not None
    for teller in ("sudo[7]: ada : (command continued)", "sudo[7]: ada : COMMAND=", "snapd[900]:", "sshd-session[1]:"):
        assert match(f"2026-11-26T20:00:20 mini {teller} {said}") is None


def test_an_unknown_error_is_shown_where_the_engine_ended_and_nowhere_else() -> None:
    unknown = "(EngineCore pid=1) ERROR 11-26 20:00:20 [core.py:1136] vllm.new.StrangeError: frobnication failed"
    end = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above."
    up = "(APIServer pid=1) INFO:     Application startup complete."
    assert codes([unknown, end]) == ["error-unknown", "engine-failed"]
    assert codes([up, unknown]) == []
    assert codes([up, unknown, end]) == ["error-unknown", "engine-failed"]


def test_every_symptom_says_what_to_do_and_where_it_is_known_from() -> None:
    for name in ("failures", "symptoms", "failures-installing"):
        for finding in catalogue(name):
            assert finding.cause and finding.fix and finding.source and finding.code
    own = [(finding.code, finding.rank) for finding in (*catalogue("symptoms"), *catalogue("failures"))]
    assert len(own) == len(set(own))


#: The guides' symptoms (E4B: troubleshooting and its table of speeds; 26B: appendix A.1 and A.3), and their codes.
GUIDES = {
    "E4B Aborted (core dumped) on first request": "aborted",
    "E4B throughput below 5 tokens/s": "slow",
    "E4B random kernel panic under sustained load": "kernel-panic",
    "E4B gfx1150 not in supported_archs": "no-kernel-for-gpu",
    "E4B amdgpu version file missing": "log-harmless",
    "E4B image inference much slower than text": "images-slow",
    "E4B OOM at 128 K context": "gpu-memory-weights",
    "E4B multi-turn quality decays": "thinking-replayed",
    "E4B invalid tool call parser: gemma": "tool-parser-unknown",
    "E4B expandable_segments not supported": "expandable-segments",
    "E4B 40-second startup every restart": "compiled-each-start",
    "E4B running on CPU fallback": "cpu-fallback",
    "E4B hipBLASLt not engaging": "hipblaslt-off",
    "26B Using TRITON_ATTN backend": "log-harmless",
    "26B Using TRITON Unquantized MoE backend": "log-harmless",
    "26B rms_norm native": "log-harmless",
    "26B MoE config not found": "moe-config-missing",
    "26B GELU tanh approximation unstable": "log-harmless",
    "26B sparse_attn_indexer not present": "log-harmless",
    "26B NIXL is not available": "log-harmless",
    "26B auto-prefetch is disabled": "prefetch-off",
    "26B casting bfloat16 to float16": "dtype-cast",
    "26B asynchronous scheduling is enabled": "log-harmless",
    "26B speculative_config=None": "log-harmless",
    "26B unable to mmap": "mmap-refused",
    "26B HIP out of memory": "gpu-memory-weights",
    "26B AITER does not support": "aiter-forced",
    "26B unrecognized --speculative-model": "flag-speculative-model",
    "26B no available memory for the cache blocks": "kv-cache-none",
    "26B docker run requires at least 1 argument": "docker-command-cut",
    "26B MoE backend does not support the deployment configuration": "backend-forced",
    "26B OS left with too little memory": "oom-killer",
    "26B KV cache too small for the context": "kv-cache-short",
}

LINES = {
    "fact unit-edited vllm-gemma4.service": "unit-edited",
    "gfx1150 not in supported_archs": "no-kernel-for-gpu",
    'error="amdgpu version file missing: /sys/module/amdgpu/version stat"': "log-harmless",
    "INFO IrOpPriorityConfig(rms_norm=['native'])": "log-harmless",
    "WARNING GELU tanh approximation unstable with torch.compile": "log-harmless",
    "sparse_attn_indexer not present": "log-harmless",
    "INFO Asynchronous scheduling is enabled.": "log-harmless",
    "WARNING Casting torch.bfloat16 to torch.float16.": "dtype-cast",
    "Aborted (core dumped)": "aborted",
    "vllm.service: Main process exited, code=exited, status=139/n/a": "aborted",
    "ValueError: NvFp4 MoE backend 'X' does not support the deployment configuration since kernel": "backend-forced",
    "fact decode vllm-gemma4 1.2 tokens/s a request verdict=broken": "slow",
    "fact unit vllm-gemma4.service LoadState=masked ActiveState=inactive": "unit-masked",
    "fact unit vllm-gemma4.service LoadState=not-found ActiveState=inactive": "unit-missing",
    "fact unit vllm.service LoadState=loaded ActiveState=failed SubState=failed Result=timeout": "too-slow-to-start",
    "fact unit vllm-gemma4.service LoadState=loaded ActiveState=inactive SubState=dead": "unit-down",
    "fact unit vllm-gemma4.service LoadState=loaded ActiveState=activating SubState=auto-restart": "restarting",
    "fact container vllm-gemma4 Status=exited ExitCode=137 OOMKilled=true": "oom-killer",
    "fact container vllm-gemma4 Status=paused ExitCode=0": "container-paused",
    "fact docker missing": "docker-missing",
    "fact docker down": "docker-down",
    "fact disk /var full": "disk-full",
    "fact inodes / full": "disk-full",
    "fact readonly /": "filesystem-broken",
    "fact device /dev/kfd missing": "device-missing",
    "fact system emergency": "emergency-mode",
    "fact pstore /sys/fs/pstore/dmesg-efi-1": "kernel-panic",
    "fact previous-boot unclean": "boot-unclean",
    "fact boot root=/dev/sda nomodeset quiet": "driver-off",
    "fact boot root=/dev/sda amd_iommu=off": "npu-iommu-off",
    "fact health vllm-gemma4 503": "not-healthy",
    'fact probe vllm-gemma4 {"content": "<pad><pad>"} status=200': "wrong-text",
    'fact probe vllm-gemma4 {"content": "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"} status=200': "wrong-text",
    "fact unit-failed srv-models.mount": "mount-failed",
    "fact metrics vllm-gemma4 preemptions=1200": "preempted",
}
WELL = (
    "fact health vllm-gemma4 200",
    "fact docker 29.1.3",
    "fact disk / 63953 MiB free",
    "fact system running",
    "fact boot root=/dev/sda quiet splash",
    "fact container vllm-gemma4 Status=running ExitCode=0 OOMKilled=false",
    "fact unit vllm-gemma4.service LoadState=loaded ActiveState=active SubState=running Result=success NRestarts=0",
    'fact probe vllm-gemma4 {"content": "The Rhine, the Nile and the Amazon."} status=200 seconds=3.1',
    "fact metrics vllm-gemma4 preemptions=0 running=1",
    "fact decode vllm-gemma4 6.9 tokens/s a request verdict=healthy",
)


def test_all_33_symptoms_of_the_guides_are_known() -> None:
    known = {finding.code for name in ("failures", "symptoms") for finding in catalogue(name)}
    assert len(GUIDES) == 33
    assert set(GUIDES.values()) <= known


@pytest.mark.parametrize(("line", "code"), LINES.items())
def test_a_line_means(line: str, code: str) -> None:
    found = match(line)
    assert found is not None and found.code == code


@pytest.mark.parametrize("line", WELL)
def test_a_fact_of_a_sound_host_means_nothing(line: str) -> None:
    assert match(line) is None


def test_a_log_of_any_bytes_is_read() -> None:
    for text in ("{", '{"MESSAGE": null}', '{"MESSAGE": [300]}', '{"log": 1}', "[]", '{"log": "cut off'):
        assert codes([text]) == []
    assert codes(["{" + "x" * 100_000 + "}"]) == []


# --- the command


def run(*words: str, stdin: str | None = None) -> Result:
    done = CliRunner().invoke(main, ["doctor", *words], input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def test_a_log_from_standard_input_as_json() -> None:
    done = run("--log", "-", "--json", stdin="OSError: [Errno 98] Address already in use\n")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and not found["ok"]
    (finding,) = found["findings"]
    assert finding["code"] == "port-taken" and finding["cause"] and finding["fix"]
    assert finding["evidence"] == [{"line": 1, "text": "OSError: [Errno 98] Address already in use"}]


def test_a_healthy_log_ends_with_status_0_and_its_notes_are_apart() -> None:
    done = run("--log", str(DATA / "healthy" / "journal-26b.log"), "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["ok"] and found["findings"] == []
    assert [note["code"] for note in found["notes"]] == ["prefetch-off", "moe-config-missing"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to look at"),
        (("inventory/fake.py", "--log", "-"), "INVENTORY and --log"),
        (("--log", "-", "--bundle", "x"), "give INVENTORY"),
        (("--from", __file__), "cannot be read as a bundle"),
    ],
)
def test_usage(words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = run(*words, stdin="")
    assert done.exit_code == 2 and said in done.output


def test_an_inventory_a_bundle_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    inventory = tmp_path / "hosts.py"
    inventory.write_text(
        "from ojai.fake import fake_host\n"
        '_name, _data = fake_host("mini-01", {"services": [{"profile": "gemma-4-26b-a4b"}]}, gpu_memory="16GiB")\n'
        '_report = _data["fake_responses"]["ojai-host-report"]\n'
        '_log = "doctor-log\\t2026-11-26T20:00:00 mini kernel: Out of memory: Killed process 1 (VLLM::EngineCor)"\n'
        '_report += ["fact docker down", "fact health vllm-gemma4 000", _log, "doctor-file\\tuname\\tLinux mini"]\n'
        "fake = [(_name, _data)]\n"
    )
    done = run(str(inventory), "--json", "--bundle", str(tmp_path / "b.json"))
    (host,) = json.loads(done.stdout)["hosts"]
    assert done.exit_code == 1 and not host["ok"]
    found = [finding["code"] for finding in host["findings"]]
    assert found[:2] == ["docker-down", "oom-killer"] and found[-1] == "not-healthy"
    assert "preflight" in found, "16 GiB are too little for this model"
    assert (tmp_path / "b.json").stat().st_mode & 0o777 == 0o600, "it has what only root may read on the host"
    bundle = json.loads((tmp_path / "b.json").read_text())
    assert (bundle["format"], bundle["version"]) == (FORMAT, VERSION)
    assert bundle["hosts"][0]["answer"]["files"] == {"uname": "Linux mini"}
    again = run("--from", str(tmp_path / "b.json"), "--json")
    assert json.loads(again.stdout)["hosts"] == [host]
    shown = run("--from", str(tmp_path / "b.json")).output
    assert (
        "docker-down: the Docker daemon does not run" in shown and "What to do: check `journalctl -u docker`" in shown
    )
    bundle["version"] = VERSION + 1
    (tmp_path / "new.json").write_text(json.dumps(bundle))
    assert "use ojai" in run("--from", str(tmp_path / "new.json")).output


def test_a_host_that_gives_no_answer() -> None:
    found = unreachable("mini", {"ssh_hostname": "192.0.2.7"}, "Could not resolve hostname")
    assert found.finding.code == "unreachable" and "ssh_hostname (192.0.2.7)" in found.finding.fix
    (none,) = examine(case("mini", {}, 0.0, None, "/bin/sh: 1: sudo: not found"))
    assert none.finding.code == "no-root" and "_sudo: False" in none.finding.fix
    (again,) = examine(case("mini", {}, 0.0, None, "Permission denied (publickey)"))
    assert again.finding.code == "unreachable" and "ssh_user" in again.finding.fix


def sound(**facts: Any) -> Report:
    return Report(
        **{
            "user": "root",
            "machine": "x86_64",
            "os_id": "ubuntu",
            "os_version": "24.04",
            "gpus": {"0000:c5:00.0": "0x1002:0x150e"},
            "vram_total": 64 * GIB,
            "memory_total": 62 * GIB,
            "disks": {"/var/lib/docker": (900 * GIB, "/"), "/srv/ojai": (900 * GIB, "/")},
            **facts,
        }
    )


def ranks(found: list[Diagnosis]) -> list[str]:
    return [one.finding.code for one in found]


def test_preflights_own_judgement_and_what_the_inventory_allows_are_among_it() -> None:
    service = {
        "profile": "gemma-4-12b",
        "image": "vllm/vllm-openai-rocm:v0.27.1",
        "allow": ["transformers-too-new"],
    }
    data = {"services": [service]}
    found = examine(case("mini", data, 0.0, Answered(facts=("fact docker 29.1.3",), report=sound(machine="arm64")), ""))
    assert ranks(found) == ["preflight", "transformers-too-new"]
    assert found[0].finding.fix == "use a machine with an AMD Ryzen processor" and found[1].finding.rank == "note"


@pytest.mark.parametrize(("seconds", "code"), [(1000, "slow"), (30, None)])
def test_the_servers_own_clock_says_whether_it_is_slow(seconds: int, code: str | None) -> None:
    fact = f"fact metrics vllm-gemma4 token_seconds={seconds} token_intervals=300 running=0"
    data = {"services": [{"profile": "gemma-4-e4b", "name": "vllm-gemma4"}]}
    found = ranks(examine(case("mini", data, 0.0, Answered(facts=(fact,)), "")))
    assert found == ([code] if code else [])


# --- secrets, planted where they are found in the wild; each has the word of its place

SECRETS = {
    "environment file": "planted-env-file-1",
    "option": "planted-option-2",
    "journal, Python's notation": "planted-python-3",
    "bearer": "plantedbearer4",
    "URL": "planted-url-5",
    "token by its form": "hf_plantedForm6planted",
    "variable": "planted-variable-7",
    "argv as JSON": "planted-argv-8",
    "proxy in daemon.json": "planted-proxy-9",
}
PLANTED = f"""\
docker[1]: the token of the file again: {SECRETS["environment file"]}, in the midst
docker run --api-key {SECRETS["option"]} --port 8000
non-default args: {{'api_key': ['{SECRETS["journal, Python's notation"]}'], 'port': 8000}}
curl -H 'Authorization: Bearer {SECRETS["bearer"]}'
pulling from https://ada:{SECRETS["URL"]}@registry.example.net/v2/
login with {SECRETS["token by its form"]}
HF_TOKEN={SECRETS["variable"]} vllm serve
["serve","--api-key","{SECRETS["argv as JSON"]}","--port"]
{{"proxies": {{"https-proxy": "http://ada:{SECRETS["proxy in daemon.json"]}@proxy.example.net:3128"}}}}
"""


@pytest.fixture
def ill_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Answered, str]]:
    """This machine, with stand-ins for the programs that would read the secrets."""
    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setattr(condition, "STATE", str(weights))
    record = weights / record_name("google/gemma-4-E4B-it", None)
    record.write_text("ojai-weights\t1\ncommit\t1a2b\nfile\t7\tc0ffee\tconfig.json\ncomplete\n")
    (weights / f"{record_name('google/other', None)}.part").write_text("ojai-weights\t1\ncommit\t3c4d\n")
    (tmp_path / "planted").write_text(PLANTED)
    env_file = tmp_path / "service.env"
    env_file.write_text(f"VLLM_API_KEY='{SECRETS['environment file']}'\nPLAIN=visible\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {
        "journalctl": f"sed 's/^/2026-11-26T20:00:00 mini /' {tmp_path}/planted",
        "systemctl": "echo LoadState=loaded; echo ActiveState=failed; echo Result=oom-kill",
        "docker": f'[ "$1" != version ] || exit 1; cat {tmp_path}/planted',
        "curl": "exit 7",
        "dmesg": "exit 1",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    settings = parse("mini", {"services": [{"profile": "gemma-4-e4b"}]})
    asked = Asked(
        "vllm", "vllm.service", "http://127.0.0.1:9", "/health", "/metrics", "/v1/models", "gemma", str(env_file), ()
    )
    command = Condition().command(services=(asked,), report=fact_arguments(settings))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, env=environment)
    yield read(done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize(
    ("saved", "edited"),
    [("ExecStart=docker run x\n", False), ("ExecStart=docker run\n", True), (None, False)],
    ids=["as it was saved", "edited since", "no release yet"],
)
def test_a_unit_is_compared_with_the_last_healthy_release(
    saved: str | None, edited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition.releases, "FOLDER", str(tmp_path))
    settings = parse("mini", {"services": [{"profile": "gemma-4-e4b"}]})
    (service,) = settings.resolved
    (tmp_path / service.unit).write_text("ExecStart=docker run x\n")
    if saved is not None:
        contents = releases.Contents(unit=hashlib.sha256(saved.encode()).hexdigest())
        release = releases.Release("2026-11-27T20:00:00", (releases.Released(releases.serving_of(service), contents),))
        (tmp_path / "healthy").mkdir()
        (tmp_path / "healthy/release.json").write_text(releases.to_json(release))
    asked = Asked(service.name, service.unit, "http://127.0.0.1:9", "/health", "/metrics", "/v1/models", "m", "-", ())
    command = Condition().command(services=(asked,), report=fact_arguments(settings))
    command = command.replace("/etc/systemd/system", str(tmp_path))
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert (f"fact unit-edited {service.unit}" in done.stdout.splitlines()) == edited


def test_the_gateway_is_asked_about_where_there_is_one(ill_host: tuple[Answered, str], tmp_path: Path) -> None:
    assert not any("ojai-gateway" in fact for fact in ill_host[0].facts)
    (tmp_path / "ojai-gateway.service").touch()
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho LoadState=loaded; echo ActiveState=failed\n")
    (tmp_path / "journalctl").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    for name in ("systemctl", "journalctl"):
        (tmp_path / name).chmod(0o755)
    settings = parse("mini", {"services": []})
    command = Condition().command(services=(), report=fact_arguments(settings))
    command = command.replace("/etc/systemd/system", str(tmp_path))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, env=environment)
    found = examine(case("mini", {}, 0.0, read(done.stdout.splitlines()), ""))
    assert "gateway-down" in ranks(found)
    assert "_SYSTEMD_UNIT=ojai-gateway.service _TRANSPORT=stdout" in (tmp_path / "asked").read_text()


def test_what_to_do_names_the_unit_of_the_only_service() -> None:
    facts = ["fact unit vllm-gemma4.service LoadState=loaded ActiveState=failed SubState=failed"]
    one = {"services": [{"profile": "gemma-4-e4b"}]}
    two = {"services": [*one["services"], {"profile": "gemma-4-e2b", "name": "small", "port": 8001}]}
    said = [
        [each.finding.fix for each in examine(case("mini", data, 0.0, Answered(facts=tuple(facts)), ""))]
        for data in (one, two)
    ]
    assert any("systemctl start vllm-gemma4`" in text for text in said[0]) and "UNIT" not in " ".join(said[0])
    assert any("systemctl start UNIT`" in text for text in said[1])


def test_no_secret_leaves_the_host(ill_host: tuple[Answered, str]) -> None:
    answered, said = ill_host
    assert len(answered.log) >= 9 and "in the midst" in said and "registry.example.net" in said, "all was read"
    assert [place for place, secret in SECRETS.items() if secret in said] == []
    assert "plantedForm6" not in said


def test_a_host_without_docker_and_with_a_dead_server_is_read_all_the_same(ill_host: tuple[Answered, str]) -> None:
    answered, _ = ill_host
    assert "fact docker down" in answered.facts and answered.report is not None
    unit = next(fact for fact in answered.facts if fact.startswith("fact unit vllm.service"))
    assert "ActiveState=failed" in unit and "Result=oom-kill" in unit
    assert "oom-killer" in ranks(examine(case("mini", {}, 0.0, answered, "")))


def test_a_bundle_and_a_result_of_bench_name_the_commit_of_the_weights(ill_host: tuple[Answered, str]) -> None:
    answered, _ = ill_host
    assert answered.files["weights"] == "models--google--gemma-4-E4B-it@main 1a2b"
    answered = replace(
        answered, files=answered.files | {"packages": "linux-firmware 1.2-3\nrocminfo 1.0\ndockerfilter 2\nrunc 1.3"}
    )
    data = {"services": [{"profile": "gemma-4-e4b"}]}
    settings = parse("mini", data)
    about = subject.of(Entry("mini", (), data, settings), settings.resolved[0], "http://127.0.0.1:8000", answered)
    assert about.commits == {"google/gemma-4-E4B-it": "1a2b"}
    assert about.packages == {"linux-firmware": "1.2-3", "rocminfo": "1.0", "runc": "1.3"}


def test_a_bundle_has_no_secret_of_the_inventory() -> None:
    data = {
        "services": [
            {
                "profile": "gemma-4-e4b",
                "environment": {"MY_TOKEN": SECRETS["variable"], "PROXY": f"http://ada:{SECRETS['URL']}@proxy:1"},
                "engine_args": ["--api-key", SECRETS["option"], "--seed", "7"],
            }
        ],
        "ssh_password": SECRETS["bearer"],
        "_sudo_password": SECRETS["bearer"],
    }
    answered = Answered(log=("x " + SECRETS["token by its form"],), files={"y": f"Bearer {SECRETS['bearer']}"})
    text = pack([case("mini", data, 0.0, answered, "")], "now")
    assert [place for place, secret in SECRETS.items() if secret in text] == []
    assert '"--seed"' in text and "gemma-4-e4b" in text


def measured(when: str, error: str, url: str = "http://127.0.0.1:8000") -> Run:
    settings = Settings(prompt_tokens=(128,), users=(1,), answer_tokens=16, repeats=1, seed=1)
    subject = Subject(host="mini-01", service="vllm-gemma4", url=url, model="google/gemma-4-E4B-it")
    return judge(Run(ojai="1", when=when, subject=subject, settings=settings, failure="no-answer", error=error))


def test_a_bundle_has_no_secret_that_a_check_or_a_server_repeated(tmp_path: Path) -> None:
    said = (
        f"asked with Authorization: Bearer {SECRETS['bearer']}",
        f"started with --api-key {SECRETS['option']} --port 8000",
        f"HTTP 500: no route to https://ada:{SECRETS['URL']}@proxy.example.net:3128",
        f"the log has {SECRETS['token by its form']}",
        f"the login's password is {SECRETS['variable']}, the service's token {SECRETS['environment file']}",
    )
    checks = [Kept("verify", "vllm", f"check {place}", "failed", text, 5.0, "1") for place, text in enumerate(said)]
    checks += [
        Kept("smoke", "vllm-gemma4", f"check {place}", "failed", text, 5.0, "1") for place, text in enumerate(said)
    ]
    runs = tuple(measured("2026-11-27T00:00:00+00:00", text) for text in said)
    data = {
        "services": [{"profile": "gemma-4-e4b", "environment": {"MY_TOKEN": SECRETS["environment file"]}}],
        "ssh_password": SECRETS["variable"],
    }
    text = pack([case("mini-01", data, 10.0, Answered(), "", Results(tuple(checks), runs))], "now")
    assert [place for place, secret in SECRETS.items() if secret in text] == []
    assert text.count("(removed)") >= 3 * len(said) and text.count("--port 8000") >= 3, "the rest of it is there"
    (tmp_path / "b.json").write_text(text)
    assert len(unpack(tmp_path / "b.json")[0].results.checks) == 2 * len(said)
    short = case(
        "mini-01", {"ssh_password": "fail", "_sudo_password": ""}, 10.0, Answered(), "", Results(tuple(checks))
    )
    assert [one.outcome for one in short.results.checks] == ["failed"] * 2 * len(said)


@pytest.mark.parametrize("words", [("--bundle", "b.json"), ()])
def test_a_bundle_has_the_last_results_of_verify_smoke_and_bench(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    inventory = tmp_path / "hosts.py"
    inventory.write_text(
        "from ojai.fake import fake_host\n"
        'fake = [fake_host(name, {"services": [{"profile": "gemma-4-e4b"}]}, gpu_memory="64GiB") for name in "ab"]\n'
    )
    for name in ("@fake/a", "@fake/b"):
        kept.keep_results(str(inventory), name, "verify", [("docker", "it answers", "passed", "")])
    kept.keep_results(str(inventory), "@fake/a", "smoke", [("vllm-gemma4", "tool call", "failed", "no call")])
    for when in ("2026-11-26T00:00:00+00:00", "2026-11-27T00:00:00+00:00"):
        run_ = measured(when, "HTTP 500")
        save(
            run_.model_copy(update={"subject": run_.subject.model_copy(update={"host": "@fake/a"})}), tmp_path / "bench"
        )
    spoilt = place_of(tmp_path / "bench", "@fake/b", "vllm-gemma4")
    spoilt.mkdir(parents=True)
    (spoilt / "1.json").write_text("{")
    done = run("hosts.py", *words)
    assert "@fake/b: passed over: " in done.stderr and "found no result of `ojai bench`" in done.stderr
    assert ("@fake/b: no result of `ojai smoke`, `ojai bench` is here; run them first" in done.stderr) is bool(words)
    assert "@fake/a: no result" not in done.stderr
    if words:
        first, second = unpack(Path("b.json"))
        assert [(one.by, one.name, one.outcome) for one in first.results.checks] == [
            ("verify", "it answers", "passed"),
            ("smoke", "tool call", "failed"),
        ]
        assert [one.when for one in first.results.bench] == ["2026-11-27T00:00:00+00:00"], "the newest alone"
        assert [one.by for one in second.results.checks] == ["verify"] and second.results.bench == ()


def test_only_results_of_what_runs_now_count() -> None:
    def found(*facts: str) -> list[str]:
        checks = (
            Kept("verify", "docker", "it answers", "passed", "", 4000.0, "1"),
            Kept("smoke", "vllm-gemma4", "tool call", "failed", "no call", 6000.0, "1"),
        )
        results = Results(checks, (measured("1970-01-01T01:50:00+00:00", "HTTP 500"),))
        return list(current(case("mini", {}, 10_000.0, Answered(facts=facts), "", results)))

    both = found("fact uptime 6100.5")
    assert both[:2] == ["result verify docker passed it answers", "result smoke vllm-gemma4 failed tool call: no call"]
    assert both[2:] == [
        "result bench vllm-gemma4 failed verdict=None",
        "result bench vllm-gemma4 failure no-answer: HTTP 500",
    ]
    started = "fact container vllm-gemma4 Status=running Image=x StartedAt=1970-01-01T01:35:00.123456789Z"
    assert found("fact uptime 6100.5", started) == both[1:], "the service began anew after verify"
    assert found("fact uptime 10.0") == [] and found() == [] and found("fact uptime soon") == []
    assert found("fact uptime 6100.5", "fact container x StartedAt=1970-99-99") == []


def test_failed_results_are_notes_and_a_bundle_of_version_1_has_none(tmp_path: Path) -> None:
    checks = (
        Kept("smoke", "vllm-gemma4", "tool call", "failed", "no call", 6000.0, "1"),
        Kept("smoke", "vllm-gemma4", "streaming", "passed", "it failed to fail ", 6000.0, "1"),
    )
    answered = Answered(facts=("fact uptime 6100.5", "fact docker 29.1.3"))
    text = pack([case("mini", {}, 10_000.0, answered, "", Results(checks))], "now")
    file = tmp_path / "b.json"
    file.write_text(text)
    done = run("--from", str(file), "--json")
    (note,) = json.loads(done.stdout)["hosts"][0]["notes"]
    assert (done.exit_code, note["code"]) == (0, "smoke-failed")
    assert [one["text"] for one in note["evidence"]] == ["result smoke vllm-gemma4 failed tool call: no call"]
    old = json.loads(text)
    old["version"] = 1
    del old["hosts"][0]["results"]
    file.write_text(json.dumps(old))
    assert unpack(file)[0].results == Results() and run("--from", str(file)).exit_code == 0
    old["version"], old["hosts"][0]["results"] = 2, {"checks": [{"by": "nobody"}]}
    file.write_text(json.dumps(old))
    assert "cannot be read as a bundle" in run("--from", str(file)).output


def test_what_is_no_secret_stays() -> None:
    said = "max_model_len=32768, eos tokens 5, monkey business, https://huggingface.co/google@main"
    done = subprocess.run(["/bin/sh", "-c", MASK], input=f"{said}\n", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said
    assert without_secrets({"a": [said, 7, None], "tokens": "8"}) == {"a": [said, 7, None], "tokens": "8"}


# --- --fix


@pytest.fixture
def deploys(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The runs of pyinfra, which are not made."""
    called: list[list[str]] = []

    def run(argv: list[str], check: bool, **given: object) -> subprocess.CompletedProcess[str]:
        # It would ask whether to go on without a host that fails, once for each.
        assert ("--yes" in argv) != (given == {"input": "\n", "text": True})
        called.append(argv[4:])
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(doctor.subprocess, "run", run)
    return called


def ill(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, list[str]]) -> Path:
    """Two hosts that say these facts, one dictionary after the other."""
    said = iter(answers)

    def asked(inventory: str, limit: object, bundle: object) -> dict[str, list[Diagnosis]]:
        return {
            name: examine(case(name, {}, 0.0, Answered(facts=tuple(facts)), "")) for name, facts in next(said).items()
        }

    monkeypatch.setattr(doctor, "_asked", asked)
    return ROOT / "inventory" / "fake.py"


MISSING, PORT = "fact unit vllm.service LoadState=not-found", "fact x OSError: [Errno 98] Address already in use"


def test_fix_shows_first_and_deploys_to_the_hosts_that_it_mends_something_of(
    monkeypatch: pytest.MonkeyPatch, deploys: list[list[str]]
) -> None:
    inventory = ill(monkeypatch, {"a": [MISSING], "b": [PORT], "c": []}, {"a": [], "b": [], "c": []})
    done = run(str(inventory), "--fix", "--yes", "--deploy", str(ROOT / "deploy.py"))
    common = [str(inventory), str(ROOT / "deploy.py"), "--limit", "a"]
    assert deploys == [[*common, "--dry", "--diff"], [*common, "--yes"]]
    assert done.exit_code == 0 and "b: only its owner can mend port-taken: stop it" in done.output
    assert "What the deploy will change on a:" in done.output and done.output.endswith("c: nothing is wrong\n")


def test_fix_asks_and_no_is_no(monkeypatch: pytest.MonkeyPatch, deploys: list[list[str]]) -> None:
    inventory = ill(monkeypatch, {"a": [MISSING]})
    done = CliRunner().invoke(main, ["doctor", str(inventory), "--fix"], input="n\n")
    assert done.exit_code == 1 and "Run the deploy on a? [y/N]" in done.output
    assert len(deploys) == 1 and "--dry" in deploys[0]


def test_fix_deploys_nothing_where_only_the_owner_can_mend(
    monkeypatch: pytest.MonkeyPatch, deploys: list[list[str]]
) -> None:
    inventory = ill(monkeypatch, {"b": [PORT]})
    done = run(str(inventory), "--fix", "--yes")
    assert (done.exit_code, deploys) == (1, []) and done.output.endswith("The deploy would mend nothing.\n")


def test_fix_writes_an_edited_unit_afresh_whatever_it_asks_for(
    monkeypatch: pytest.MonkeyPatch, deploys: list[list[str]]
) -> None:
    inventory = ill(monkeypatch, {"a": [PORT, "fact unit-edited vllm-gemma4.service"]}, {"a": []})
    done = run(str(inventory), "--fix", "--yes")
    assert (done.exit_code, len(deploys)) == (0, 2) and "only its owner" not in done.output


def test_fix_starts_what_is_down_for_no_reason_that_is_seen(
    monkeypatch: pytest.MonkeyPatch, deploys: list[list[str]]
) -> None:
    inventory = ill(monkeypatch, {"a": ["fact unit vllm.service LoadState=loaded ActiveState=inactive"]}, {"a": []})
    assert run(str(inventory), "--fix", "--yes").exit_code == 0 and len(deploys) == 2


@pytest.mark.parametrize(
    "words", [("--log", "-", "--fix"), ("inventory/fake.py", "--yes"), ("inventory/fake.py", "--fix", "--json")]
)
def test_fix_is_for_hosts_that_are_asked(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = run(*words, stdin="")
    assert done.exit_code == 2 and "--fix: give INVENTORY" in done.output
