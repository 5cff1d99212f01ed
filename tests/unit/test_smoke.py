"""`ojai smoke`: green on a model that can, by form on the stand-in, red on each server that is broken on purpose."""

import json
import xml.etree.ElementTree as ElementTree

import jinja2
import pytest
from click.testing import CliRunner

from ojai.cmdline.smoke import command
from ojai.serving import Server
from ojai.settings import parse
from ojai.smoke import Report, Result, junit
from ojai.smoke.asking import Rules
from ojai.smoke.checks import CHECKS, NAMES, run
from tests.roles import sshd
from tests.unit.test_modelserver_server import MODEL, Process
from tools.contract import tiny_model

WORDS = ["--max-model-len", "9000", "--max-num-seqs", "4", "--reasoning-parser", "gemma4"]
WORDS += ["--enable-auto-tool-choice", "--tool-call-parser", "gemma4"]
SERVICE = {"max_model_len": 9000, "max_num_seqs": 4, "reasoning": True, "images": 4, "audios": 1, "videos": 1}


def process(folder, fault, *words, **variables):
    module = ("tests.unit.knowing_server", fault) if fault is not None else ("ojai.lab.modelserver",)
    return Process(folder, *WORDS, *words, module=module, **{"OJAI_LAB_TOKEN_SECONDS": "0.002", **variables}).until(
        200, 60
    )


def service(**choices):
    return parse("mini", {"services": [{**SERVICE, **choices}]}).resolved[0]


def asked(server, rules=None, only=(), **more):
    found = run(Server("mini", f"http://127.0.0.1:{server.port}", MODEL, **more), rules or Rules(), only)
    return {result.name: result for result in found}


def outcomes(results, outcome):
    return [name for name, result in results.items() if result.outcome == outcome]


@pytest.fixture(scope="module")
def able(tmp_path_factory):
    with process(tmp_path_factory.mktemp("able"), "none") as server:
        yield server


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    with process(tmp_path_factory.mktemp("stand_in"), None) as server:
        yield server


def test_a_model_that_can_passes_every_check_of_its_configuration(able):
    results = asked(able, service=service())
    assert outcomes(results, "failed") == []
    assert outcomes(results, "skipped") == ["needle in 32 K"]
    assert results["needle in 32 K"].came == "the limit is 9000 tokens"
    assert len(results) == len(CHECKS)
    for result in results.values():
        assert result.came and result.expected and (result.asked or result.outcome == "skipped")


def test_what_a_service_is_not_configured_for_is_not_asked(able):
    results = asked(able, service=service(text_only=True, images=None, audios=None, videos=None, reasoning=False))
    assert outcomes(results, "failed") == []
    named = {"image", "several images", "image budgets", "audio", "video", "refuses a bad image", "thinking on"}
    assert named < set(outcomes(results, "skipped"))
    assert results["audio"].came == "the service takes no audio"


def test_a_server_at_a_url_is_asked_for_what_it_shows(able):
    results = asked(able)
    assert outcomes(results, "failed") == []
    assert results["needle at the limit"].outcome == "passed"


def test_the_labs_stand_in_passes_by_its_form(stand_in):
    results = asked(stand_in, Rules(form_only=True), service=service())
    assert outcomes(results, "failed") == []
    assert outcomes(results, "skipped") == ["needle in 32 K"]


def test_the_labs_stand_in_is_no_gemma(stand_in):
    failed = outcomes(asked(stand_in, service=service()), "failed")
    assert {"system role", "image", "needle in 1 K", "multilingual"} <= set(failed)


#: A fault, checks that must fail by it (with what came), and the abilities of the service.
FAULTS = {
    "wrong parser": {"tool call": "<|tool_call>", "tool call, streamed": "<|tool_call>"},
    "reasoning leaking": {"thinking on": "<|channel>thought", "thinking, streamed": "<|channel>thought"},
    "reasoning leaking without marks": {"thinking on": "thought", "thinking, streamed": "thought"},
    "no thoughts": {"thinking on": "without thoughts", "thinking, streamed": "without thoughts"},
    "stream truncated": {"streaming": "without a finish reason", "concurrent users": "without a finish reason"},
    "stream without [DONE]": {"streaming": "data: {"},
    "stream at the end only": {"streaming": "2 chunks for"},
    "tool arguments that are no JSON": {
        "tool call": "{city: Lisbon}",
        "tool call, required": "{city: Lisbon}",
        "tool call, streamed": "{city: Lisbon}",
    },
    "answers of another model": {"self-introduction": "gemma-4-E2B-it"},
    "dead engine": {"self-introduction": "HTTP 500"},
    "slow first token": {"streaming": "the first content after 3"},
    "cached answers": {"fresh answers": "twice"},
    "metrics that stand still": {"metrics": "0 prompt and 0 generated", "prefix cache": "0 of"},
    "images ignored": {"image": "0 prompt tokens", "several images": "0 prompt tokens", "image budgets": "70:"},
    "JSON cut off": {"structured output": '{"city": "Lisbon"}'},
    "prompt cut off": {"needle in 8 K": "prompt tokens", "needle at the limit": "prompt tokens"},
    "one after the other": {"concurrent users": "one after the other"},
    "bad image ends the engine": {"refuses a bad image": "HTTP 500"},
}


@pytest.mark.parametrize("form_only", [False, True], ids=["content", "form"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_server_fails_by_its_fault(tmp_path, fault, form_only):
    expected = FAULTS[fault]
    if form_only and fault == "no thoughts":
        pytest.skip("random words never think: that thoughts come is a matter of content")
    pace = {"OJAI_LAB_TOKEN_SECONDS": "0.02"} if fault == "one after the other" else {}
    only = () if fault == "dead engine" else (*expected, "system role")
    with process(tmp_path, fault, **pace) as server:
        rules = Rules(form_only=form_only, first_token=2, timeout=60)
        results = asked(server, rules, only, service=service())
    assert outcomes(results, "failed") == list(filter(expected.__contains__, NAMES))
    for name, came in expected.items():
        assert came in results[name].came
        assert results[name].expected not in ("", results[name].came)


def test_after_a_dead_engine_nothing_more_is_asked(tmp_path):
    with process(tmp_path, "dead engine") as server:
        results = asked(server, service=service())
    assert results["model listed"].outcome == "passed"
    rest = [result for name, result in results.items() if name not in ("model listed", "self-introduction")]
    assert len(rest) == len(CHECKS) - 2
    assert all(
        one.outcome == "skipped" and "not asked: the server does not answer (HTTP 500" in one.came for one in rest
    )


def test_an_engine_that_hangs_is_waited_for_once(tmp_path):
    with process(tmp_path, "engine that hangs") as server:
        results = asked(server, Rules(timeout=1), service=service())
        server.child.kill()
    assert outcomes(results, "failed") == ["self-introduction"]
    assert results["self-introduction"].came == "no answer within 1 s"


def test_a_server_of_another_model_is_not_asked_on(tmp_path):
    with process(tmp_path, "none", "--served-model-name", "google/gemma-4-E2B-it") as server:
        results = asked(server, service=service())
    assert outcomes(results, "failed") == ["model listed", "self-introduction"]
    assert results["model listed"].came == "models google/gemma-4-E2B-it"


def test_a_cache_that_the_inventory_promises_must_work(tmp_path):
    with process(tmp_path, "none", "--no-enable-prefix-caching") as server:
        assert outcomes(asked(server, only=("prefix cache",), service=service()), "failed") == ["prefix cache"]
        assert outcomes(asked(server, only=("prefix cache",)), "skipped") == ["prefix cache"]


def test_a_server_that_is_not_there(tmp_path):
    results = list(run(Server("mini", "http://127.0.0.1:9", MODEL), Rules()))
    assert results[0].outcome == "failed" and "refused" in results[0].came
    assert {result.outcome for result in results[1:]} == {"skipped"}


def invoke(*words):
    return CliRunner().invoke(command, words)


def test_the_table_json_and_junit_say_the_same(able, tmp_path):
    url, file = f"http://127.0.0.1:{able.port}", tmp_path / "smoke.xml"
    words = ["--url", url, "--model", MODEL, "--only", "streaming", "--only", "image"]
    done = invoke(*words, "--junit", str(file))
    assert done.exit_code == 0
    assert f"{url} ({MODEL}): ok 2 passed, 0 failed, 0 skipped" in done.output
    assert "streaming  passed" in done.output
    suite = next(ElementTree.parse(file).iter("testsuite"))
    assert [case.get("name") for case in suite.iter("testcase")] == ["streaming", "image"]
    assert suite.get("failures") == "0" and "expected: A picture" in suite.findall(".//system-out")[1].text
    found = json.loads(invoke(*words, "--json").output)
    assert found["ok"] and [one["name"] for one in found["servers"][0]["results"]] == ["streaming", "image"]


def test_a_failure_shows_what_was_asked_what_came_and_what_was_expected(stand_in, tmp_path):
    file = tmp_path / "smoke.xml"
    url = f"http://127.0.0.1:{stand_in.port}"
    done = invoke("--url", url, "--model", MODEL, "--only", "system role", "--junit", str(file))
    assert done.exit_code == 1
    for line in (
        "  asked: system: Whatever you are asked",
        "  came: This is the ojai lab",
        "  expected: the word LIMA-",
    ):
        assert line in done.output
    assert next(ElementTree.parse(file).iter("failure")).get("message").startswith("found This is the ojai lab")


def test_a_host_that_cannot_be_asked_is_no_success(tmp_path):
    inventory = tmp_path / "fleet.py"
    inventory.write_text("hosts = [('a', {'services': []})]\n")
    file = tmp_path / "smoke.xml"
    done = invoke(str(inventory), "--junit", str(file))
    assert done.exit_code == 1 and "NOT ASKED a: the inventory names no service here" in done.output
    assert next(ElementTree.parse(file).iter("error")).get("message").startswith("a: the inventory")
    assert json.loads(invoke(str(inventory), "--json").stdout)["servers"][0]["error"].startswith("a: the inventory")


@sshd.needed
def test_a_service_on_loopback_of_its_host_is_asked_through_ssh(stand_in, tmp_path):
    daemon = sshd.Sshd(tmp_path)
    inventory = tmp_path / "fleet.py"
    data = {"services": [{**SERVICE, "port": stand_in.port, "host": "127.0.0.1"}], **daemon.data}
    inventory.write_text(f"hosts = [('mini', {data!r})]\n")
    try:
        done = invoke(str(inventory), "--form-only", "--only", "streaming", "--only", "audio", "--only", "metrics")
    finally:
        daemon.stop()
    assert done.exit_code == 0, done.output
    assert f"mini vllm-gemma4 ({MODEL}): ok 3 passed, 0 failed, 0 skipped" in done.output


def test_a_check_that_there_is_none_of():
    done = invoke("--url", "http://127.0.0.1:9", "--model", MODEL, "--only", "streamin")
    assert done.exit_code == 2 and "--only streamin: there is no such check; did you mean streaming?" in done.output


def test_the_tiny_models_template_is_of_gemma_4s_form():
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(tiny_model.TEMPLATE)
    call = {"function": {"name": "look", "arguments": {"x": 1}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "7"},
    ]
    words = {"messages": messages, "bos_token": "<bos>", "add_generation_prompt": True}
    assert template.render(**words) == (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nLook.<turn|>\n"
        '<|turn>model\n<|tool_call>call:look{"x": 1}<tool_call|><turn|>\n'
        "<|turn>user\n<|tool_response>7<tool_response|><turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )
    thinking = template.render(**words, enable_thinking=True)
    assert thinking.startswith("<bos><|turn>system\n<|think|>Be brief.") and thinking.endswith("<|turn>model\n")


def test_what_a_model_says_can_always_be_written_as_xml():
    odd = "\x00\x1b[31m\ud800\ufffe ok\U0001f600"
    text = junit([Report("mini", "m", (Result("image", "failed", 1, odd, odd, odd),))])
    assert "ok\U0001f600" in next(ElementTree.fromstring(text).iter("failure")).get("message")
