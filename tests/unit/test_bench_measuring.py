"""`ojai bench` against the lab's stand-in, well and spoiled: what is measured, and what is noticed."""

import re
import socket

import pytest
from click.testing import CliRunner
from test_modelserver_server import MODEL, Process, free_port

from ojai.cmdline.bench import command
from ojai.gauge import engine
from ojai.gauge.client import Target, prompt
from ojai.gauge.judging import judge
from ojai.gauge.measuring import measure
from ojai.gauge.result import Run, Settings, Subject, load
from tests.unit.spoiled import Spoiled

#: The stand-in's pace: seconds a token.
PACE = 0.03
SMALL = Settings(prompt_tokens=(128, 512), users=(1, 2), answer_tokens=24, repeats=3, seed=7)
TINY = SMALL.model_copy(update={"prompt_tokens": (128,), "users": (1,), "answer_tokens": 16, "repeats": 2})


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    process = Process(
        tmp_path_factory.mktemp("standin"), "--max-model-len", "2048", OJAI_LAB_TOKEN_SECONDS=str(PACE)
    ).until(200, 60)
    yield process
    process.child.terminate()
    process.child.wait()


@pytest.fixture(scope="module")
def url(standin):
    return f"http://127.0.0.1:{standin.port}"


def run(url, settings=TINY, model=MODEL, timeout=30, context=2048, ceiling=None):
    done = measure(Target(url, model, timeout=timeout), settings, context, lambda text: None)
    subject = Subject(host="here", service="it", url=url, model=model, ceiling=ceiling)
    return judge(
        Run(
            ojai="0", when="2026-11-27T00:00:00+00:00", subject=subject, settings=done.settings, cells=done.cells,
            repeat=done.repeat, failure=done.failure, error=done.error, metrics=done.metrics,
        )
    )  # fmt: skip


def codes(done, rank="failure"):
    return [finding.code for finding in done.findings if finding.rank == rank]


def test_the_figures_are_those_of_the_servers_own_counters(url):
    done = run(url, SMALL)
    assert done.ok, done.findings
    assert [(cell.users, cell.prompt_tokens) for cell in done.cells] == [(1, 128), (1, 512), (2, 128), (2, 512)]
    for cell in done.cells:
        samples = list(cell.samples)
        assert len(samples) == 3 * cell.users
        assert all(one.answer_tokens == 24 for one in samples)
        # The length that was asked for, by the server's own count.
        assert all(abs(one.prompt_tokens - cell.prompt_tokens) <= 3 for one in samples)
        assert cell.counted["generated_tokens"] == 24 * len(samples)
        assert cell.counted["computed_tokens"] == sum(one.prompt_tokens for one in samples)
        assert cell.counted["first_count"] == len(samples)
        # Never faster than the pace; slower only by what this machine does besides.
        assert cell.decode_rate.median <= 1.05 / PACE
        seconds = sum(one.decode for one in samples)
        assert cell.counted["decode_seconds"] == pytest.approx(seconds, rel=0.25)
        assert cell.first.median >= PACE
        assert cell.counted["first_seconds"] <= sum(one.first for one in samples)
        rates = sorted(one.prompt_tokens / one.first for one in samples)
        assert rates[0] <= cell.prompt_rate.median <= rates[-1]
    two = done.cell(2, 128)
    for each in two.rounds:
        assert each.seconds < sum(one.first + one.decode for one in each.samples), "the stand-in answers both at once"


def test_no_prompt_comes_from_the_prefix_cache_and_the_words_are_the_same_each_time(url):
    one, two = run(url), run(url)
    for done in (one, two):
        assert "prompts-cached" not in codes(done)
        assert done.cells[0].counted["cached_tokens"] <= 16 * len(list(done.cells[0].samples))
    assert prompt(3, 9, "a").partition(":")[2] == prompt(3, 9, "b").partition(":")[2] != prompt(4, 9, "a")


def test_the_same_question_again_may_come_from_the_prefix_cache(url):
    done = run(url)
    assert done.repeat.counted["cached_tokens"] > 0
    assert done.ok, done.findings


@pytest.mark.parametrize(
    ("how", "code", "found"),
    [
        ("late", "slow-first-token", "do not depend on its length; by the server's own clock 0."),
        ("cached", "cached-answers", "the server counted 0 tokens for it"),
        ("still", "metrics-stand-still", "32 tokens came, and the server counted none"),
        ("doubled", "counters-disagree", "32 tokens came, and the server counted"),
        ("dead", "no-answer", "status 500: EngineCore encountered an issue."),
        ("silent", "no-answer", "nothing came for 1 s"),
        ("truncated", "truncated", "parts without a finish_reason"),
        ("torn", "truncated", ""),
        ("whole", "not-streamed", "16 tokens within 0.0"),
    ],
)
def test_each_broken_kind_is_named(url, how, code, found):
    with Spoiled(url, how) as spoiled:
        done = run(spoiled.url, timeout=1 if how == "silent" else 30)
    assert codes(done) == [code], done.findings
    finding = next(one for one in done.findings if one.code == code)
    assert found in finding.found
    assert finding.look_at and finding.source


def test_a_plain_proxy_is_no_fault_and_hidden_counters_are_a_note(url):
    with Spoiled(url, "") as plain:
        assert run(plain.url).ok
    with Spoiled(url, "hidden") as hidden:
        done = run(hidden.url)
    assert done.ok and "no-metrics" in codes(done, "note")
    assert done.metrics == "/metrics answers 404"


def test_nothing_listens_and_a_wrong_model():
    done = run(f"http://127.0.0.1:{free_port()}")
    assert codes(done) == ["unreachable"] and not done.cells


def test_a_wrong_model_is_refused(url):
    done = run(url, model="google/nosuch")
    assert codes(done) == ["refused"]
    assert "status 404" in done.findings[0].found and "does not exist" in done.findings[0].found


def test_lengths_beyond_the_context_are_skipped_and_said_so(url):
    settings = TINY.model_copy(update={"prompt_tokens": (128, 4096)})
    done = run(url, settings)
    assert done.ok and "more than the served context of 2048" in done.cells[1].skipped
    unknown = run(url, settings, context=None)
    assert unknown.ok and "the server refuses it: status 400" in unknown.cells[1].skipped
    none = run(url, TINY.model_copy(update={"prompt_tokens": (4096,)}))
    assert codes(none) == ["refused"] and "no length of prompt could be measured" in none.error


@pytest.mark.parametrize(
    ("of_the_ceiling", "verdict", "ok"),
    [(0.2, "broken", False), (0.47, "sub-optimal", True), (0.7, "healthy", True), (2, "suspicious", False)],
)
def test_decoding_is_judged_by_the_guides_bands(url, of_the_ceiling, verdict, ok):
    first = run(url)
    speed = first.cell(1).decode_rate.median
    done = judge(
        first.model_copy(update={"subject": first.subject.model_copy(update={"ceiling": speed / of_the_ceiling})})
    )
    assert (done.verdict, done.ok) == (verdict, ok)
    finding = next(one for one in done.findings if one.code == f"decode-{verdict}")
    assert f"{speed:.1f} tokens/s" in finding.found
    if verdict != "healthy":
        assert finding.look_at


def test_what_the_server_says_of_itself(url):
    said = engine.by_api(Target(url, MODEL))
    assert said == {"engine": "vLLM", "engine_version": "0.20.1", "checkpoint": MODEL, "context": 2048}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert engine.by_api(Target(f"http://127.0.0.1:{closed.getsockname()[1]}", MODEL)) == {}


def bench(*words):
    return CliRunner().invoke(command, words)


FAST = ("--prompt-tokens", "128", "--users", "1", "--repeats", "2", "--answer-tokens", "16")


def test_the_command_keeps_what_it_measured_and_writes_a_page(url, tmp_path):
    page = tmp_path / "page.html"
    done = bench("--url", url, "--model", MODEL, *FAST, "--results", str(tmp_path / "kept"), "--html", str(page))
    assert done.exit_code == 0, done.output
    kept = load(tmp_path / "kept")
    assert kept.ok and kept.subject.context == 2048 and kept.subject.engine_version == "0.20.1"
    assert str(next((tmp_path / "kept").rglob("*.json"))) in done.output
    # The operator's checklist: first token and prompts before decoding.
    head = next(line for line in done.output.splitlines() if "decode, each user" in line)
    assert re.split(r"  +", head.strip()) == ["first token", "prompt", "decode, each user", "all users"]
    text = page.read_text()
    order = [text.index(f"<h2>{title}</h2>") for title in ("Time to first token", "Prompts", "Decoding")]
    assert order == sorted(order)


def test_the_command_fails_with_what_to_look_at(url, tmp_path):
    with Spoiled(url, "truncated") as spoiled:
        done = bench("--url", spoiled.url, "--model", MODEL, *FAST, "--results", str(tmp_path))
    assert done.exit_code == 1
    assert "truncated" in done.output and "look at a proxy in between" in done.output
    # A failed run is kept too.
    assert not load(tmp_path).ok


def test_a_key_is_sent_and_never_kept(tmp_path, monkeypatch):
    process = Process(
        tmp_path, "--max-model-len", "2048", VLLM_API_KEY="hunter2", OJAI_LAB_TOKEN_SECONDS=str(PACE)
    ).until(200, 60)
    try:
        url = f"http://127.0.0.1:{process.port}"
        words = ("--url", url, "--model", MODEL, *FAST, "--results", str(tmp_path / "kept"), "--json")
        assert bench(*words).exit_code == 1
        monkeypatch.setenv("BENCH_KEY", "hunter2")
        done = bench(*words, "--key-env", "BENCH_KEY")
        assert done.exit_code == 0, done.output
        assert "hunter2" not in done.output
        assert not [path for path in (tmp_path / "kept").rglob("*.json") if "hunter2" in path.read_text()]
    finally:
        process.child.terminate()
        process.child.wait()
