"""What is wrong with a run, and what to look at: the run against its own counters, against sense, and the guides."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from ojai import resources
from ojai.gauge.result import Cell, Finding, Repeat, Run, Sample
from ojai.memory import bands


@cache
def _data() -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """The bounds, and the findings by code."""
    document = resources.data("bench-findings")
    bounds = {name: float(value) for name, value in document["bounds"].items() if name != "sources"}
    return bounds, {entry["code"]: entry for entry in document["findings"]}


def finding(code: str, found: str) -> Finding:
    """The finding of this code, with what was found."""
    entry = _data()[1][code]
    return Finding(found=found, **{**entry, "look_at": tuple(entry["look_at"])})


def judge(run: Run) -> Run:
    """The run with its verdict and findings, failures first."""
    verdict = _verdict(run)
    found = list(_findings(run, verdict))
    found.sort(key=lambda one: one.rank != "failure")
    return run.model_copy(update={"verdict": verdict, "findings": tuple(found)})


def _verdict(run: Run) -> str | None:
    """The band of one user's decoding with the shortest prompt; None where the ceiling is not known."""
    cell = run.cell(1)
    rate = cell.decode_rate if cell else None
    if rate is None or run.subject.ceiling is None:
        return None
    return bands().rate(rate.median, run.subject.ceiling).verdict


def _findings(run: Run, verdict: str | None) -> Iterator[Finding]:
    if run.failure:
        yield finding(run.failure, run.error)
        return
    measured = [cell for cell in run.cells if cell.rounds]
    yield from _failed(measured)
    yield from _counted(run, measured)
    if run.repeat:
        yield from _repeated(run.repeat)
    yield from _sense(measured)
    if verdict and (cell := run.cell(1)) and (rate := cell.decode_rate) and run.subject.ceiling:
        found = (
            f"{rate.median:.1f} tokens/s with one user and a prompt of {cell.prompt_tokens} tokens, where the memory "
            f"could feed {run.subject.ceiling:.1f}"
        )
        yield finding(f"decode-{verdict}", found)
    for sweep in run.sweeps:
        if sweep.prompts and not sweep.ok:
            yield finding(
                "sweep-failed",
                f"{sweep.name}: {sweep.failed} of {sweep.prompts} requests failed, {sweep.completed} completed"
                + (f": {sweep.error}" if sweep.error else ""),
            )


def _failed(cells: list[Cell]) -> Iterator[Finding]:
    """One finding for each way in which questions failed."""
    found: dict[str, list[tuple[Cell, Sample]]] = {}
    total = 0
    for cell in cells:
        for one in (sample for each in cell.rounds for sample in each.samples):
            total += 1
            if one.failure:
                found.setdefault(one.failure, []).append((cell, one))
    for failure, failed in found.items():
        cell, one = failed[0]
        yield finding(
            failure,
            f"{len(failed)} of {total} questions; the first with {_users(cell)} and a prompt of {cell.prompt_tokens} "
            f"tokens: {one.error}",
        )


def _counted(run: Run, cells: list[Cell]) -> Iterator[Finding]:
    """The client's figures against the server's own."""
    if run.metrics:
        yield finding("no-metrics", run.metrics)
        return
    known = [cell for cell in cells if cell.counted is not None and any(True for _ in cell.samples)]
    answered = sum(one.answer_tokens for cell in known for one in cell.samples)
    if not answered:
        return
    counted = sum((cell.counted or {}).get("generated_tokens", 0.0) for cell in known)
    if not counted:
        yield finding("metrics-stand-still", f"{answered} tokens came, and the server counted none")
        return
    bounds = _data()[0]
    off = counted / answered - 1
    # What a broken stream did not deliver, the server may well have computed.
    broken = any(one.failure for cell in known for each in cell.rounds for one in each.samples)
    if abs(off) > bounds["tokens_differ"] and not broken:
        yield finding(
            "counters-disagree", f"{answered} tokens came, and the server counted {counted:.0f} ({off:+.0%}) meanwhile"
        )
    cached, prompts = 0.0, 0.0
    for cell in known:
        samples = list(cell.samples)
        prompts += sum(one.prompt_tokens for one in samples)
        counted_here = (cell.counted or {}).get("cached_tokens", 0.0)
        cached += max(counted_here, sum(one.cached_tokens for one in samples))
    if prompts and cached / prompts > bounds["cached_share"]:
        yield finding("prompts-cached", f"{cached:.0f} of {prompts:.0f} tokens of prompts came from the cache")
    for cell in known:
        client, server = _pooled(cell), cell.server_rate("decode_steps", "decode_seconds")
        if cell.users == 1 and client and server and abs(off) <= bounds["tokens_differ"] and not _at_once(cell):
            differs = client / server - 1
            if abs(differs) > bounds["rates_differ"]:
                yield finding(
                    "counters-disagree",
                    f"decoding at {client:.1f} tokens/s by the client's clock and {server:.1f} by the server's "
                    f"({differs:+.0%}), with one user and a prompt of {cell.prompt_tokens} tokens",
                )
                break


def _pooled(cell: Cell) -> float | None:
    """The mean rate of decoding, as counters that only add up give it."""
    seconds = sum(one.decode for one in cell.samples)
    return sum(one.answer_tokens - 1 for one in cell.samples) / seconds if seconds > 0 else None


def _at_once(cell: Cell) -> bool:
    """Whether answers came in one piece: in one part, or in parts that the server had computed long before."""
    bounds = _data()[0]
    samples = [one for one in cell.samples if one.answer_tokens >= bounds["one_piece_tokens"]]
    server = cell.server_rate("decode_steps", "decode_seconds")

    def one_piece(one: Sample) -> bool:
        if one.chunks == 1 or one.decode <= 0:
            return True
        own = (one.answer_tokens - 1) / server if server else one.first * bounds["one_piece_share_of_first"]
        return one.decode * bounds["one_piece_faster"] < own

    return bool(samples) and sum(map(one_piece, samples)) * 2 > len(samples)


def _repeated(repeat: Repeat) -> Iterator[Finding]:
    """Whether the second answer to one question was computed."""
    first, second = repeat.first, repeat.second
    if first.failure or second.failure:
        return
    bounds = _data()[0]
    counted = (repeat.counted or {}).get("generated_tokens")
    whole = (first.first + first.decode, second.first + second.decode)
    faster = bounds["repeat_faster"]
    uncounted = counted is not None and 0 <= counted < second.answer_tokens * bounds["repeat_counted"]
    if whole[1] * faster < whole[0] and (uncounted or second.decode * faster < first.decode):
        said = f"; the server counted {counted:.0f} tokens for it" if uncounted else ""
        yield finding(
            "cached-answers",
            f"the same question again took {whole[1]:.3f} s after {whole[0]:.3f} s for {second.answer_tokens} "
            f"tokens{said}",
        )


def _sense(cells: list[Cell]) -> Iterator[Finding]:
    """What cannot be so on a server that is well, whatever its machine."""
    bounds = _data()[0]
    alone = [cell for cell in cells if cell.users == 1 and any(True for _ in cell.samples)]
    if alone and all(_at_once(cell) for cell in alone):
        one = next(alone[0].samples)
        yield finding(
            "not-streamed",
            f"{one.answer_tokens} tokens within {one.decode:.4f} s, {one.first:.2f} s after the question",
        )
        return
    yield from _delayed(alone)
    for cell in alone:
        prompt, decode = cell.prompt_rate, cell.decode_rate
        server = cell.server_rate("computed_tokens", "prefill_seconds")
        rate = server or (prompt.median if prompt else None)
        if cell is alone[-1] and rate and decode and rate < bounds["unbatched_ratio"] * decode.median:
            yield finding(
                "prompt-not-batched",
                f"{rate:.1f} tokens/s of the prompt and {decode.median:.1f} of the answer, with {cell.prompt_tokens} "
                "tokens of prompt",
            )
    spreads = [
        (stat.spread, name, cell, stat)
        for cell in alone  # several users may well wait for each other
        for name, stat in (("time to the first token", cell.first), ("decoding", cell.decode_rate))
        if stat and stat.count > 2
    ]
    widest = max(spreads, key=lambda one: one[0], default=None)
    if widest and widest[0] > bounds["spread"]:
        _, name, where, stat = widest
        yield finding(
            "wide-spread",
            f"above all {name} with {_users(where)} and a prompt of {where.prompt_tokens} tokens: {stat.low:.3g} to "
            f"{stat.high:.3g}, median {stat.median:.3g}",
        )


def _delayed(alone: list[Cell]) -> Iterator[Finding]:
    """The part of the time to the first token that a prompt of no length would have, of all lengths together."""
    bounds = _data()[0]
    points = [
        (sum(one.prompt_tokens for one in cell.samples) / cell.first.count, cell.first.median)
        for cell in alone
        if cell.first
    ]
    decode = next((cell.decode_rate.median for cell in alone if cell.decode_rate), None)
    if not points or not decode:
        return
    (short, soon), (long, late) = min(points), max(points)
    a_token = max(0.0, (late - soon) / (long - short)) if long > short else 0.0
    server = alone[0].server_rate("computed_tokens", "prefill_seconds")
    if len(points) == 1:
        if server is None:
            return  # a long prompt and a delay look the same
        a_token = 1 / server
    fixed = soon - short * a_token
    if fixed > bounds["fixed_delay_seconds"] and fixed > bounds["fixed_delay_tokens"] / decode:
        counted = alone[0].counted or {}
        own = ""
        if counted.get("first_count"):
            own = f"; by the server's own clock {counted['first_seconds'] / counted['first_count']:.2f} s"
        yield finding(
            "slow-first-token",
            f"{soon:.2f} s to the first token with a prompt of {short:.0f} tokens, of which {fixed:.2f} s do not "
            f"depend on its length{own}",
        )


def _users(cell: Cell) -> str:
    return f"{cell.users} user{'s' if cell.users > 1 else ''}"
