"""The measuring itself: a warm-up, then rounds of questions for each length of prompt and number of users."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier

import httpx2

from ojai import counters
from ojai.gauge.client import Answer, Failure, Target, ask, prompt
from ojai.gauge.result import Cell, Repeat, Round, Sample, Settings

#: Seconds that the server's counters may take to hold still after the last answer.
_SETTLED = 2.0

#: Tokens that the turn markers of a prompt and its first words may take, and that a context must have room for.
_MARGIN = 64


@dataclass(frozen=True)
class Measured:
    """What came of it. ``failure``: why nothing was measured; ``metrics``: why the server's counters are not known."""

    settings: Settings
    cells: tuple[Cell, ...] = ()
    repeat: Repeat | None = None
    failure: Failure | None = None
    error: str = ""
    metrics: str = ""


class _Gauge:
    """A server under measurement."""

    def __init__(self, target: Target, settings: Settings, tell: Callable[[str], None]) -> None:
        self.target = target
        self.settings = settings
        self.tell = tell
        # No cache has seen this before, though all else of a prompt is the same in each run.
        self._nonce = secrets.token_hex(4)
        self._asked = 0
        self._words_a_token = 1.0
        self._overhead = 0
        self.metrics = ""

    def question(self, tokens: int) -> str:
        """A question of about so many tokens that the server has not seen."""
        self._asked += 1
        words = round((tokens - self._overhead) * self._words_a_token)
        return prompt(self.settings.seed + self._asked, words, f"{self._nonce} {self._asked}")

    def warm_up(self) -> Answer:
        """Ask twice, since the first answer pays for what is compiled on demand, and learn how long a word is.

        A server that knows only OpenAI's own fields is asked with those alone.
        """
        few, many = 32, 160
        with self.target.client() as client:
            for exact in (self.settings.exact, False):
                self.settings = self.settings.model_copy(update={"exact": exact})
                small = ask(self.target, client, prompt(0, few, f"{self._nonce} a"), 8, exact)
                if small.failure != "refused":
                    break
            if small.failure:
                return small
            large = ask(self.target, client, prompt(0, many, f"{self._nonce} b"), 8, exact)
        if not large.failure and large.prompt_tokens > small.prompt_tokens:
            self._words_a_token = (many - few) / (large.prompt_tokens - small.prompt_tokens)
            self._overhead = max(0, round(small.prompt_tokens - few / self._words_a_token))
        return large

    def counted(self) -> dict[str, float] | None:
        """What the server has counted so far, once it holds still; None where it does not say."""
        last: dict[str, float] | None = None
        end = time.monotonic() + _SETTLED
        while True:
            found = self._read()
            if found is None or (found == last and not found.get("running")) or time.monotonic() > end:
                return found
            last = found
            time.sleep(0.1)

    def _read(self) -> dict[str, float] | None:
        try:
            with self.target.client() as client:
                response = client.get("/metrics", timeout=10)
        except httpx2.HTTPError as error:
            self.metrics = f"/metrics: {error or type(error).__name__}"
            return None
        if response.status_code != 200:
            self.metrics = f"/metrics answers {response.status_code}"
            return None
        found = counters.read(response.text)
        if found is None:
            self.metrics = "/metrics has no counter of an engine that is known here"
            return None
        return found[1]

    def round(self, users: int, tokens: int) -> Round:
        """Questions of so many users, all at the same time."""
        texts = [self.question(tokens) for _ in range(users)]
        together = Barrier(users + 1)

        def one(text: str) -> tuple[Answer, float]:
            with self.target.client() as client:
                together.wait()
                answer = ask(self.target, client, text, self.settings.answer_tokens, self.settings.exact)
                return answer, time.perf_counter()

        with ThreadPoolExecutor(max_workers=users) as pool:
            waiting = [pool.submit(one, text) for text in texts]
            together.wait()
            started = time.perf_counter()
            answers = [future.result() for future in waiting]
        ended = max(end for _, end in answers)
        return Round(seconds=ended - started, samples=tuple(sample(answer) for answer, _ in answers))

    def cell(self, users: int, tokens: int) -> Cell:
        """All rounds of one length and one number of users, after one that does not count."""
        warm = self.round(users, tokens).samples[0]
        if warm.failure == "refused":
            return Cell(prompt_tokens=tokens, users=users, skipped=f"the server refuses it: {warm.error}")
        before = self.counted()
        rounds = []
        for _ in range(self.settings.repeats):
            rounds.append(self.round(users, tokens))
            if all(one.failure for one in rounds[-1].samples):
                break  # it will not get better, and each may take a whole time-out
        after = self.counted()
        counted = None if before is None or after is None else counters.difference(before, after)
        return Cell(prompt_tokens=tokens, users=users, rounds=tuple(rounds), counted=counted)

    def repeat(self, tokens: int) -> Repeat:
        """The same question twice."""
        text = self.question(tokens)
        with self.target.client() as client:
            first = ask(self.target, client, text, self.settings.answer_tokens, self.settings.exact)
            before = self.counted()
            second = ask(self.target, client, text, self.settings.answer_tokens, self.settings.exact)
        after = self.counted()
        counted = None if before is None or after is None else counters.difference(before, after)
        return Repeat(first=sample(first), second=sample(second), counted=counted)


def sample(answer: Answer) -> Sample:
    """An answer without its text."""
    return Sample(
        first=answer.first,
        decode=answer.last - answer.first,
        chunks=answer.chunks,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        answer_tokens=answer.answer_tokens,
        failure=answer.failure,
        error=answer.error,
    )


def measure(target: Target, settings: Settings, context: int | None, tell: Callable[[str], None]) -> Measured:
    """Measure a server.

    ``context``: the longest that it serves, where that is known: longer prompts are skipped. ``tell`` is told what is
    about to be measured.
    """
    gauge = _Gauge(target, settings, tell)
    tell("warm-up")
    warm = gauge.warm_up()
    if warm.failure:
        return Measured(settings, failure=warm.failure, error=warm.error)
    gauge.counted()
    cells = []
    for users in settings.users:
        for tokens in settings.prompt_tokens:
            needed = tokens + settings.answer_tokens + _MARGIN
            if context is not None and needed > context:
                skipped = f"{needed} tokens with the answer are more than the served context of {context}"
                cells.append(Cell(prompt_tokens=tokens, users=users, skipped=skipped))
                continue
            tell(f"{users} user{'s' if users > 1 else ''}, prompts of {tokens} tokens")
            cells.append(gauge.cell(users, tokens))
    measured = [cell for cell in cells if cell.rounds]
    repeat = None
    if measured and any(True for _ in measured[0].samples):
        tell("the same question twice")
        repeat = gauge.repeat(measured[0].prompt_tokens)
    done = Measured(gauge.settings, tuple(cells), repeat, metrics=gauge.metrics)
    if not measured:
        reasons = "; ".join(dict.fromkeys(cell.skipped for cell in cells))
        return replace(done, failure="refused", error=f"no length of prompt could be measured: {reasons}")
    return done
