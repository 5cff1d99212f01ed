"""Lines as the engine, Docker and Hugging Face write them, and the cause that must be named."""

from __future__ import annotations

import re

import pytest

from ojai.diagnosis import catalogue, explain

#: a line of the journal -> words of the cause that it must be explained by
LINES = {
    "RuntimeError: unable to mmap 46450000000 bytes from file </root/.cache/…/model-00001.safetensors>: Cannot "
    "allocate memory (12)": "refused the private mapping",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.27 GiB. GPU 0 has a total capacity of 16.00 GiB": (
        "do not fit the GPU"
    ),
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`": "nothing of",
    "RuntimeError: ROCm AITER does not support gfx1150": "AITER",
    "vllm: error: unrecognized arguments: --speculative-model google/gemma-4-e2b": "replaced by --speculative-config",
    "vllm: error: unrecognized arguments: --disable-log-requests": "no longer knows --disable-log-requests",
    "vllm: error: unrecognized arguments: --no-such-flag": "does not know a flag",
    'KeyError: "invalid tool call parser: gemma (chose from { gemma4,hermes })"': "no tool-call parser",
    "OSError: [Errno 98] Address already in use": "another program has the port",
    "RuntimeError: No HIP GPUs are available": "sees no GPU",
    "docker: 'docker run' requires at least 1 argument": "cut the docker command short",
    "docker: Error response from daemon: No such image: vllm/vllm-openai-rocm:v0.20.1": "not on the host",
    "docker: Error response from daemon: Unable to find group render: no matching entries in group file": (
        "--group-add names"
    ),
    "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6)": "refused the download",
    "OSError: [Errno 28] No space left on device": "disk is full",
    "UserWarning: expandable_segments not supported on this platform": "HIP ignores",
}
HEALTHY = """\
INFO 11-21 05:00:00 [api_server.py:100] vLLM API server version 0.20.1
INFO 11-21 05:00:01 [utils.py:200] non-default args: {'model': 'google/gemma-4-E4B-it', 'max_model_len': 131072}
INFO 11-21 05:00:20 [gpu_model_runner.py:300] Model loading took 14.9 GiB memory and 18.2 seconds
INFO 11-21 05:00:40 [kv_cache_utils.py:400] GPU KV cache size: 2,396,847 tokens
INFO:     Application startup complete.
INFO:     127.0.0.1:40000 - "GET /health HTTP/1.1" 200 OK
INFO:     127.0.0.1:40001 - "GET /v1/models HTTP/1.1" 401 Unauthorized""".splitlines()


@pytest.mark.parametrize(("line", "words"), LINES.items(), ids=list(LINES.values()))
def test_a_line_is_explained(line, words):
    found = explain([*HEALTHY, line, "Traceback follows"])
    assert found, "no cause was found"
    assert words in found[0].cause


def test_every_entry_has_a_line():
    """An entry without one may have a pattern that nothing ever matches."""
    assert {finding.cause for line in LINES for finding in explain([line])[:1]} == {f.cause for f in catalogue()}


def test_a_healthy_start_has_no_cause():
    assert explain(HEALTHY) == []
    assert explain([]) == []


def test_the_first_cause_is_the_most_specific():
    lines = [line for line in LINES if "unrecognized" in line]
    causes = [finding.cause for finding in explain(lines)]
    assert len(causes) == 3
    assert "does not know a flag" in causes[-1]


def test_a_cause_is_named_once_and_there_are_three_at_most():
    line = next(iter(LINES))
    assert len(explain([line] * 5)) == 1
    assert len(explain(LINES)) == 3


def test_a_pattern_stays_within_its_line():
    assert explain(["AITER is off", "this flag is not supported"]) == []


@pytest.mark.parametrize("finding", catalogue(), ids=lambda finding: finding.pattern)
def test_entries_say_cause_fix_and_source(finding):
    re.compile(finding.pattern)
    for text in (finding.cause, finding.fix, finding.source):
        assert text.strip() == text and len(text) > 5
        assert not text.endswith(".")
