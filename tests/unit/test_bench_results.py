"""Runs of `ojai bench` as data: kept and read, judged, compared, shown."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ojai import counters, report_html, resources
from ojai.cmdline.bench import command
from ojai.gauge import engine, report
from ojai.gauge.comparing import differences, subjects
from ojai.gauge.judging import finding, judge
from ojai.gauge.result import (
    Cell,
    Memory,
    Repeat,
    ResultError,
    Round,
    Run,
    Sample,
    Settings,
    Stat,
    Subject,
    Sweep,
    load,
    save,
)
from ojai.memory import bands
from ojai.sizes import GIB
from tests.unit.browsing import in_a_browser

DATA = Path(__file__).parent / "data" / "bench"


def sample(first=0.5, rate=8.0, prompt=128, answer=33, **more):
    decode = (answer - 1) / rate
    return Sample(
        first=first, decode=decode, chunks=answer, prompt_tokens=prompt, cached_tokens=0, answer_tokens=answer, **more
    )


def cell(*samples, users=1, prompt=128, counted=()):
    """A cell whose server counted just what came, but for ``counted``."""
    answers = sum(one.answer_tokens for one in samples)
    own = {
        "generated_tokens": answers,
        "computed_tokens": sum(one.prompt_tokens for one in samples),
        "cached_tokens": 0,
        "prefill_seconds": sum(one.first for one in samples),
        "decode_seconds": sum(one.decode for one in samples),
        "decode_steps": answers - len(samples),
    }
    rounds = tuple(Round(seconds=one.first + one.decode, samples=(one,)) for one in samples)
    return Cell(prompt_tokens=prompt, users=users, rounds=rounds, counted={**own, **dict(counted)})


def run(*cells, when="2026-11-27T10:00:00+00:00", sweeps=(), host="mini", **subject):
    lengths = tuple(dict.fromkeys(one.prompt_tokens for one in cells))
    about = {"host": host, "service": "vllm-gemma4", "url": "http://127.0.0.1:8000", "model": "m", **subject}
    return Run(
        ojai="1.2.3",
        when=when,
        subject=Subject(**about),
        settings=Settings(prompt_tokens=lengths, users=(1,), answer_tokens=33, repeats=3, seed=1),
        cells=cells,
        sweeps=sweeps,
    )


def codes(done):
    return [one.code for one in judge(done).findings]


GOOD = cell(sample(0.50), sample(0.52), sample(0.48))


def test_a_run_is_kept_by_host_service_and_time_and_read_again(tmp_path):
    first = judge(run(GOOD, ceiling=9.0, memory=(Memory(part="weights", bytes=GIB, text="t", source="log"),)))
    path = save(first, tmp_path)
    assert path == tmp_path / "mini/vllm-gemma4/20261127T100000Z.json"
    assert load(path) == first
    later = save(run(GOOD, when="2026-11-28T10:00:00+00:00", host="@local/../x"), tmp_path)
    assert later.parent.parent.parent == tmp_path
    assert load(tmp_path).when.startswith("2026-11-28")


def test_what_is_no_result_is_named(tmp_path):
    file = tmp_path / "x.json"
    for text in ("{", "{}", '{"format": "ojai-bench", "version": 2, "new": 1}', "[]"):
        file.write_text(text)
        with pytest.raises(ResultError, match=r"x\.json: found no result of `ojai bench`"):
            load(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="found no result in this folder"):
        load(tmp_path / "empty")


def test_a_run_that_is_well_has_no_failure():
    done = judge(run(GOOD, ceiling=9.0))
    assert done.ok and done.verdict == "excellent" and [one.code for one in done.findings] == ["decode-excellent"]
    assert judge(run(GOOD)).verdict is None


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ([cell(sample(), sample(), counted={"cached_tokens": 120})], "prompts-cached"),
        ([cell(sample(), sample(), counted={"generated_tokens": 99})], "counters-disagree"),
        ([cell(sample(), sample(), counted={"decode_seconds": 4.0})], "counters-disagree"),
        ([cell(sample(), sample(), counted={"generated_tokens": 0})], "metrics-stand-still"),
        # 1 s for 128 tokens and 8 s for 1024 is no delay; 4 s and 4.3 s is one.
        ([cell(sample(4.0)), cell(sample(4.3, prompt=1024), prompt=1024)], "slow-first-token"),
        ([cell(sample(16.0), sample(16.0))], "prompt-not-batched"),
        ([cell(sample(0.5), sample(0.9), sample(0.5))], "wide-spread"),
        ([cell(sample(rate=8), sample(rate=8), sample(failure="truncated", error="x"))], "truncated"),
    ],
)
def test_each_fault_is_named_alone(cells, code):
    assert codes(run(*cells)) == [code]


def test_a_long_prompt_is_no_delay():
    assert codes(run(cell(sample(1.0)), cell(sample(8.0, prompt=1024), prompt=1024))) == []


def test_one_long_prompt_without_counters_is_no_delay():
    one = cell(sample(13.0, prompt=4096), prompt=4096).model_copy(update={"counted": None})
    assert "slow-first-token" not in codes(run(one).model_copy(update={"metrics": "none"}))
    assert codes(run(cell(sample(4.0), counted={"prefill_seconds": 0.5}))) == ["slow-first-token"]


def test_the_same_question_again():
    def again(second, generated):
        return codes(run(GOOD).model_copy(update={"repeat": Repeat(first=long, second=second, counted=generated)}))

    long, answer = sample(8.0, prompt=4096), 33
    assert again(sample(0.1, prompt=4096), {"generated_tokens": answer}) == [], "a prefix cache"
    assert again(sample(0.1, rate=800, prompt=4096), {"generated_tokens": 0}) == ["cached-answers"]
    assert again(sample(0.1, rate=800, prompt=4096), None) == ["cached-answers"]


def test_without_one_user_alone_there_is_no_verdict_but_a_line():
    done = judge(run(cell(sample(), sample(), users=4), ceiling=9.0))
    assert done.verdict is None and done.ok
    assert report.verdict(done).text.startswith("4 users, each: first token after 0.5 s")


def test_an_inventory_without_a_service_is_no_success(tmp_path, monkeypatch):
    inventory = tmp_path / "inventory.py"
    inventory.write_text('hosts = [("@local", {"services": []})]\n')
    monkeypatch.setattr("ojai.cmdline.bench.collect_conditions", lambda *asked: ({}, {"@local": "no sudo"}))
    done = CliRunner().invoke(command, [str(inventory)])
    assert done.exit_code == 1
    assert "the inventory names no service here" in done.output and "no sudo" in done.output


def test_a_sweep_that_lost_requests_is_a_failure_though_its_program_ended_well():
    fine = Sweep(name="balanced", input_tokens=1000, output_tokens=1000, prompts=4, completed=4, failed=0)
    lost = fine.model_copy(update={"completed": 0, "failed": 4, "error": "Error 0: Not Found"})
    skipped = fine.model_copy(update={"prompts": 0, "completed": 0, "error": "not run: too long"})
    assert codes(run(GOOD, sweeps=(fine, skipped))) == []
    done = judge(run(GOOD, sweeps=(lost,)))
    assert not done.ok
    assert done.findings[0].found == "balanced: 4 of 4 requests failed, 0 completed: Error 0: Not Found"


def test_every_finding_can_be_made_and_every_bound_has_a_source():
    document = resources.data("bench-findings")
    assert set(document["bounds"]) - {"sources"} == set(document["bounds"]["sources"])
    for entry in document["findings"]:
        assert finding(entry["code"], "x").meaning
    known = {entry["code"] for entry in document["findings"]}
    assert {f"decode-{band.verdict}" for band in bands().bands} <= known
    assert set(Sample.model_fields["failure"].annotation.__args__[0].__args__) <= known


def test_a_difference_is_one_when_the_ranges_do_not_overlap():
    slow = run(cell(*(sample(one, 8.0) for one in (0.50, 0.52, 0.48))))
    fast = run(cell(*(sample(one, 8.1) for one in (0.30, 0.31, 0.32))))
    outcomes = {one.name: one.outcome for one in differences(slow, fast)}
    assert outcomes["first token"] == "better" and outcomes["prompt"] == "better"
    assert {one.name: one.outcome for one in differences(fast, slow)}["first token"] == "worse"
    assert {one.outcome for one in differences(slow, slow)} == {"within the spread"}
    once = run(cell(sample(0.3)))
    assert {one.name: one.outcome for one in differences(slow, once)}["first token"] == "too few measurements"
    wide = run(cell(*(sample(one) for one in (0.2, 0.3, 0.6))))
    assert {one.name: one.outcome for one in differences(slow, wide)}["first token"] == "within the spread"


def test_what_else_differs_is_named():
    one = run(GOOD, image_digest="sha256:1", profile="gemma-4-e4b", facts={"kernel": "6.17.0"}, commits={"m": "1a"})
    two = run(GOOD, image_digest="sha256:2", profile="gemma-4-e4b", facts={"kernel": "6.17.5"}, commits={"m": "2b"})
    two = two.model_copy(
        update={"subject": two.subject.model_copy(update={"host": "other", "packages": {"runc": "1"}})}
    )
    assert subjects(one, two) == [
        ("image digest", "sha256:1", "sha256:2"),
        ("kernel", "6.17.0", "6.17.5"),
        ("m", "1a", "2b"),
        ("runc", "not known", "1"),
    ]


def test_the_command_compares_two_files(tmp_path):
    first = save(run(GOOD, host="a"), tmp_path)
    second = save(run(cell(*(sample(one) for one in (0.30, 0.31, 0.32))), host="b"), tmp_path)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(command, ["--compare", str(first), str(second.parent), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert "B against A: " in done.output and "better" in done.output
    assert "<h2>Side by side</h2>" in page.read_text()
    told = CliRunner().invoke(command, ["--compare", str(first), str(second), "--json"])
    figures = {one["name"]: one for one in json.loads(told.output)["figures"]}
    assert figures["first token"]["outcome"] == "better"
    assert figures["first token"]["change"] == pytest.approx(0.31 / 0.50 - 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "found neither; give INVENTORY, or --url and --model"),
        (["--url", "http://127.0.0.1:1"], "--url: give --model too"),
        (["--url", "http://127.0.0.1:1", "--model", "m", "--sweep", "all"], "--sweep is for the hosts of an INVENTORY"),
        (["--compare", ".", ".", "--url", "x"], "--compare: takes two results"),
        (["--compare", __file__, __file__], "found no result of `ojai bench`"),
        (["--engine-log", __file__, "@local"], "--engine-log is for --url"),
    ],
)
def test_usage_errors(words, message):
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


@pytest.mark.parametrize("case", sorted(DATA.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_engines_say_in_their_logs(case):
    recorded = yaml.safe_load(case.read_text())
    backends, memory = engine.by_log(recorded["log"].splitlines())
    assert list(backends) == recorded["backends"]
    assert [[one.part, one.bytes] for one in memory] == recorded["memory"]


def test_counters_of_both_engines_and_of_none():
    text = (
        'vllm:generation_tokens_total{engine="0",model_name="a} 1"} 5.0\nvllm:generation_tokens_total{engine="1"} 2\n'
    )
    assert counters.read(f"# TYPE x counter\n{text}") == ("vLLM", {"generated_tokens": 7.0})
    name, found = counters.read("llamacpp:tokens_predicted_total 848\nllamacpp:tokens_predicted_seconds_total 1.5\n")
    assert (name, found) == ("llama.cpp", {"generated_tokens": 848.0, "decode_seconds": 1.5, "decode_steps": 848.0})
    assert counters.read("go_goroutines 3\nnonsense\nx NaN?\n") is None


def full_run():
    cells = [
        cell(*(sample(0.5 + 0.02 * n) for n in range(5))),
        cell(*(sample(3.1 + 0.05 * n, 7.6, 1024) for n in range(5)), prompt=1024),
        cell(*(sample(0.9 + 0.1 * n, 6.5) for n in range(5)), users=2),
    ]
    sweep = Sweep(
        name="balanced", input_tokens=1000, output_tokens=1000, prompts=4, completed=3, failed=1, error="Error 0: <b>",
        figures={"median_ttft_ms": 4000.0, "output_throughput": 21.5},
    )  # fmt: skip
    memory = (
        Memory(part="weights", bytes=15 * GIB, text="Model loading took 15.2 GiB", source="the engine's log"),
        Memory(part="reserved KV cache", text="GPU KV cache size: 62,337 tokens", source="the engine's log"),
    )
    return judge(
        run(
            *cells, sweeps=(sweep,), ceiling=9.0, checkpoint="google/gemma-4-E4B-it", quantization="bfloat16",
            kind="dense", engine="vLLM", backend=("Using TRITON_ATTN backend",), context=131072, memory=memory,
        )
    )  # fmt: skip


def test_the_page_has_what_the_checklist_asks_first_token_before_decoding():
    text = report_html.render(report.page(full_run()))
    for asked in ("google/gemma-4-E4B-it", "bfloat16", "dense", "Using TRITON_ATTN backend", "131,072 tokens"):
        assert asked in text
    titles = ["What to know", "Time to first token", "Prompts", "Decoding", "Memory", "vllm bench serve"]
    places = [text.index(f"<h2>{title}</h2>") for title in titles]
    assert places == sorted(places)
    assert "Error 0: &lt;b&gt;" in text and "<b>" not in text
    assert "http://" not in text.replace("http://127.0.0.1:8000", ""), "self-contained"
    assert "<script" not in text and "src=" not in text


def test_text_between_backquotes_is_code_and_nothing_else_is_markup():
    table = report_html.Table(("a",), (("<i>", report_html.Value("b", "bad")),))
    note = report_html.Note("t", "see `x < y`, and a lone ` here", state="bad")
    section = report_html.Section("s", (table, note))
    page = report_html.Page("t", report_html.Value("v"), (section,))
    text = report_html.render(page)
    assert "see <code>x &lt; y</code>, and a lone ` here" in text
    assert "<td>&lt;i&gt;</td>" in text and '<td class="bad">b</td>' in text


def test_bars_share_one_scale_that_holds_ranges_and_zones():
    bars = report_html.Bars("t", (report_html.Bar("a", 5, "5", 4, 8), report_html.Bar("b", 1, "1")))
    assert bars.place(8) < 100 and bars.place(5) == pytest.approx(bars.place(1) * 5)
    assert bars.place(None) == 100 and report_html.Bars("t", ()).place(0) == 0


@pytest.mark.parametrize("width", [1280, 480])
def test_the_page_in_a_browser(width, tmp_path):
    """Nothing is wider than the window but tables, which scroll by themselves; bars are as long as their figures."""
    found = in_a_browser(
        report_html.render(report.page(full_run())),
        """const out = {width: innerWidth, page: document.documentElement.scrollWidth, bars: [], order: []};
        for (const svg of document.querySelectorAll(".bars svg")) {
          const whole = svg.getBoundingClientRect(), bar = svg.querySelector(".bar").getBoundingClientRect();
          const row = svg.parentElement, label = row.querySelector(".label").getBoundingClientRect();
          const value = row.querySelector(".value").textContent;
          out.bars.push([value, bar.width / whole.width, whole.width, label.top, whole.top]);
        }
        for (const title of document.querySelectorAll("h2")) out.order.push(title.textContent);
        return out;""",
        width,
        tmp_path,
    )
    assert found["width"] == pytest.approx(width, abs=20)
    assert found["page"] <= found["width"], "the page scrolls sideways"
    first = [float(text.split()[0]) for text, *_ in found["bars"][:3]]
    assert [share / found["bars"][0][1] for _, share, *_ in found["bars"][:3]] == pytest.approx(
        [value / first[0] for value in first], rel=0.02
    )
    assert all(length > 150 for _, _, length, *_ in found["bars"])
    beside = [top == pytest.approx(bar, abs=8) for *_, top, bar in found["bars"]]
    assert all(beside) if width > 700 else not any(beside), (
        "labels are beside the bars, or above them where it is narrow"
    )


def test_statistics():
    assert Stat.of([]) is None
    found = Stat.of([3.0, 1.0, 2.0])
    assert (found.median, found.low, found.high, found.count, found.spread) == (2.0, 1.0, 3.0, 3, 1.0)
