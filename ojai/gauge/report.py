"""Runs as pages: what was measured, time to the first token and prompts before decoding, memory, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.gauge.comparing import FIGURES, differences, stat, subjects
from ojai.gauge.result import Run, Stat
from ojai.memory import bands
from ojai.report_html import Bar, Bars, Note, Page, Section, State, Table, Value, Zone
from ojai.sizes import format_gib

_STATES: dict[str, State] = {
    "broken": "bad",
    "sub-optimal": "note",
    "healthy": "ok",
    "excellent": "ok",
    "suspicious": "bad",
}
_OUTCOMES: dict[str, State] = {"better": "ok", "worse": "bad", "too few measurements": "note"}


def number(value: float) -> str:
    """A figure with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def shown(found: Stat | None, between: str = " ") -> str:
    """A figure's median and range."""
    if found is None:
        return "not known"
    return f"{number(found.median)}{between}({number(found.low)}-{number(found.high)})"


def about(run: Run) -> list[tuple[str, str]]:
    """What was measured, as the operator's checklist asks: checkpoint, quantisation, kind, backend, fit, context."""
    one = run.subject
    engine = " ".join(part for part in (one.engine, one.engine_version) if part)
    found = [
        ("Checkpoint", one.checkpoint or one.model),
        ("Quantisation", one.quantization),
        ("Kind", one.kind),
        ("Profile", one.profile),
        ("Engine", engine),
        ("Backend, by its log", "; ".join(one.backend)),
        *((f"Commit of {model}", commit) for model, commit in one.commits.items()),
        ("Image", " ".join(part for part in (one.image, one.image_digest) if part)),
        ("Context", f"{one.context:,} tokens" if one.context else None),
        ("Fit", one.fit),
        ("Address", one.url),
        ("Accelerator", f"{one.accelerator}, {one.gb_per_s} GB/s" if one.accelerator else None),
        *((name.capitalize(), text) for name, text in one.facts.items()),
        ("Measured", f"{run.when}, ojai {run.ojai}"),
    ]
    return [(name, text) for name, text in found if text]


def verdict(run: Run) -> Value:
    """The line that a reader wants first."""
    cell = next((one for one in run.cells if one.rounds), None)
    failures = [finding for finding in run.findings if finding.rank == "failure"]
    if cell is None:
        return Value(f"Nothing was measured: {failures[0].found if failures else run.error}", "bad")
    parts = []
    if cell.first:
        parts.append(f"first token after {number(cell.first.median)} s with {cell.prompt_tokens} tokens of prompt")
    if cell.prompt_rate:
        parts.append(f"{number(cell.prompt_rate.median)} prompt tokens/s")
    if cell.decode_rate:
        parts.append(f"{number(cell.decode_rate.median)} tokens/s decoded")
    users = "One user" if cell.users == 1 else f"{cell.users} users, each"
    text = f"{users}: {', '.join(parts) or 'no answer'}."
    if run.verdict:
        text += f" By the guides' bands: {run.verdict}."
    if failures:
        return Value(f"{text} Not as it should be: {', '.join(dict.fromkeys(one.code for one in failures))}.", "bad")
    return Value(text, _STATES.get(run.verdict or "", "ok"))


def page(run: Run) -> Page:
    """One run."""
    return Page(
        title=f"Speed of {run.title}",
        verdict=verdict(run),
        about=tuple(about(run)),
        sections=tuple(_sections(run)),
        foot=f"Made by ojai {run.ojai}. Bars: median, with the range of all measurements. {_how(run)}",
    )


def _how(run: Run) -> str:
    one = run.settings
    return (
        f"Answers of {one.answer_tokens} tokens{'' if one.exact else ' at most'}, {one.repeats} rounds after one that "
        f"does not count, seed {one.seed}; each prompt begins with words that no cache has seen."
    )


def _sections(run: Run) -> Iterator[Section]:
    if run.findings:
        yield Section(
            "What to know",
            tuple(
                Note(
                    title=one.code,
                    text=f"{one.meaning[:1].upper()}{one.meaning[1:]}: {one.found}."
                    + (" Look at:" if one.look_at else ""),
                    points=one.look_at,
                    state="bad" if one.rank == "failure" else _STATES.get(one.code.removeprefix("decode-"), "note"),
                )
                for one in run.findings
            ),
        )
    measured = [cell for cell in run.cells if cell.rounds]
    for figure, _, unit, _ in FIGURES:
        bars = [
            Bar(
                label=f"{cell.users} user{'s' if cell.users > 1 else ''}, {cell.prompt_tokens} tokens",
                value=found.median,
                text=f"{number(found.median)} {unit}",
                low=found.low,
                high=found.high,
            )
            for cell in measured
            if (found := stat(cell, figure)) is not None and (figure != "total_rate" or cell.users > 1)
        ]
        zones = _zones(run) if figure == "decode_rate" else ()
        if bars:
            yield Section(
                _TITLES[figure], (Bars(title=f"{_EXPLAINED[figure]}, {unit}", bars=tuple(bars), zones=zones),)
            )
    if measured:
        yield Section("Against the server's own counters", (_counters(run),))
    if run.subject.memory:
        rows: tuple[tuple[Value | str, ...], ...] = tuple(
            (one.part, format_gib(one.bytes) if one.bytes is not None else "", one.text, one.source)
            for one in run.subject.memory
        )
        yield Section("Memory", (Table(("part", "size", "what the engine says", "source"), rows),))
    if run.sweeps:
        yield Section("vllm bench serve", (_sweeps(run),))
    if skipped := [cell for cell in run.cells if cell.skipped]:
        rows = tuple((f"{cell.users}", f"{cell.prompt_tokens}", cell.skipped) for cell in skipped)
        yield Section("Not measured", (Table(("users", "prompt", "why"), rows),))


_TITLES = {
    "first": "Time to first token",
    "prompt_rate": "Prompts",
    "decode_rate": "Decoding",
    "total_rate": "Users together",
}
_EXPLAINED = {
    "first": "From the question to the first part of the answer",
    "prompt_rate": "Tokens of a prompt up to the first part of the answer",
    "decode_rate": "Tokens of one user's answer after the first",
    "total_rate": "Tokens of all answers, with the time for their prompts",
}


def _zones(run: Run) -> tuple[Zone, ...]:
    """The guides' bands on the scale of decoding, as far as the figures reach."""
    if run.subject.ceiling is None:
        return ()
    table = bands()
    found = []
    for band in table.bands:
        start, end = table.span(band.verdict, run.subject.ceiling)
        reach = f"{number(start)} to {number(end)}" if end is not None else f"above {number(start)}"
        found.append(Zone(f"{band.verdict}, {reach}", start, end, _STATES[band.verdict]))
    return tuple(found)


def _counters(run: Run) -> Table:
    rows: list[tuple[Value | str, ...]] = []
    for cell in run.cells:
        if not cell.rounds:
            continue
        counted = cell.counted or {}
        came = sum(one.answer_tokens for one in cell.samples)
        prompt = cell.server_rate("computed_tokens", "prefill_seconds")
        decode = cell.server_rate("decode_steps", "decode_seconds")
        rows.append(
            (
                f"{cell.users}",
                f"{cell.prompt_tokens}",
                f"{number(cell.prompt_rate.median)}" if cell.prompt_rate else "",
                f"{number(prompt)}" if prompt else "",
                f"{number(cell.decode_rate.median)}" if cell.decode_rate else "",
                f"{number(decode)}" if decode else "",
                f"{came}",
                f"{counted['generated_tokens']:.0f}" if "generated_tokens" in counted else "",
                f"{counted['cached_tokens']:.0f}" if "cached_tokens" in counted else "",
            )
        )
    head = ("users", "prompt", "prompt/s", "server's", "decode/s", "server's", "tokens", "counted", "from cache")
    return Table(head, tuple(rows), caption=run.metrics or "The server's prompt rate has neither network nor queue.")


def _sweeps(run: Run) -> Table:
    rows: list[tuple[Value | str, ...]] = []
    for one in run.sweeps:
        figures = one.figures
        rows.append(
            (
                one.name,
                f"{one.input_tokens} + {one.output_tokens}",
                Value(f"{one.completed} of {one.prompts}", "plain" if one.ok else "bad"),
                *(number(figures[name]) if name in figures else "" for name in _SWEPT),
                one.error,
            )
        )
    return Table(("sweep", "tokens", "answered", *_SWEPT.values(), ""), tuple(rows))


_SWEPT = {
    "median_ttft_ms": "first token, ms",
    "median_tpot_ms": "a token, ms",
    "output_throughput": "answers, tokens/s",
    "total_token_throughput": "all, tokens/s",
}


def comparison(first: Run, second: Run) -> Page:
    """Two runs side by side."""
    found = list(differences(first, second))
    outcomes = {outcome: sum(one.outcome == outcome for one in found) for outcome in ("better", "worse")}
    same = len(found) - sum(outcomes.values())
    state: State = "bad" if outcomes["worse"] else "ok" if outcomes["better"] else "plain"
    rows = tuple(
        (
            f"{one.users}",
            f"{one.prompt_tokens}",
            one.name,
            f"{shown(one.first)} {one.unit}",
            f"{shown(one.second)} {one.unit}",
            f"{one.change:+.0%}",
            Value(one.outcome, _OUTCOMES.get(one.outcome, "plain")),
        )
        for one in found
    )
    differ = tuple(subjects(first, second))
    names = (f"A: {first.title}", f"B: {second.title}")
    bars = []
    for figure, name, unit, _ in FIGURES:
        both = [(cell, second.cell(cell.users, cell.prompt_tokens)) for cell in first.cells if cell.rounds]
        row = [
            Bar(
                f"{mark}: {cell.users} user{'s' if cell.users > 1 else ''}, {cell.prompt_tokens} tokens",
                found_stat.median,
                f"{number(found_stat.median)} {unit}",
                found_stat.low,
                found_stat.high,
                state,
            )
            for cell, other in both
            if other is not None
            for mark, where, state in (("A", cell, _PLAIN), ("B", other, _OTHER))
            if (found_stat := stat(where, figure)) is not None
        ]
        if row:
            bars.append(Bars(f"{name}, {unit}", tuple(row)))
    return Page(
        title=f"{names[0]} and {names[1]}",
        verdict=Value(
            f"B against A: {outcomes['better']} figures better, {outcomes['worse']} worse, {same} within the spread.",
            state,
        ),
        about=(("A", f"{first.title}, {first.when}"), ("B", f"{second.title}, {second.when}")),
        sections=(
            Section("Figures", (Table(("users", "prompt", "figure", "A", "B", "B against A", ""), rows),)),
            Section("Side by side", tuple(bars)),
            Section("What else differs", (Table(("what", "A", "B"), differ),) if differ else (), _SAME[: not differ]),
        ),
        foot=f"Made by ojai {second.ojai}. Better or worse: the ranges of the measurements do not overlap.",
    )


_PLAIN: State = "plain"
_OTHER: State = "note"
_SAME = ("Nothing that is known of the two.",)
