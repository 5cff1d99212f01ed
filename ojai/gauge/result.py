"""A run of `ojai bench` as it is kept: what was measured, of what, with what, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ojai.gauge.client import Failure

#: The form of a file; a reader refuses a newer one.
VERSION = 1


class ResultError(ValueError):
    """A file that is no result of `ojai bench`; the message says what it is."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stat(_Frozen):
    """The middle of several measurements, and their range."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Stat | None:
        """The statistic of some values; None where there are none."""
        if not values:
            return None
        return cls(median=median(values), low=min(values), high=max(values), count=len(values))

    @property
    def spread(self) -> float:
        """The range as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


class Sample(_Frozen):
    """One question. Seconds; ``decode``: from the first part of the answer to the last."""

    first: float
    decode: float
    chunks: int
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    failure: Failure | None = None
    error: str = ""

    @property
    def decode_rate(self) -> float | None:
        """Tokens a second after the first one; None where they came in one piece."""
        return (self.answer_tokens - 1) / self.decode if self.decode > 0 and self.answer_tokens > 1 else None

    @property
    def prompt_rate(self) -> float | None:
        """Tokens of the prompt that were computed, a second until the first part of the answer."""
        computed = self.prompt_tokens - self.cached_tokens
        return computed / self.first if self.first > 0 and computed > 0 else None


class Round(_Frozen):
    """Questions asked at the same time, one a user, and how long all of them took."""

    seconds: float
    samples: tuple[Sample, ...]


class Cell(_Frozen):
    """Rounds with one length of prompt and one number of users.

    ``counted``: what the server counted in the meantime, by the names in `ojai/data/server-counters.yaml`.
    ``skipped``: why there are no rounds.
    """

    prompt_tokens: int
    users: int
    rounds: tuple[Round, ...] = ()
    counted: dict[str, float] | None = None
    skipped: str = ""

    @property
    def samples(self) -> Iterator[Sample]:
        """Every question that was answered."""
        return (one for each in self.rounds for one in each.samples if one.failure is None)

    def _stat(self, value: Callable[[Sample], float | None]) -> Stat | None:
        return Stat.of([found for one in self.samples if (found := value(one)) is not None])

    @property
    def first(self) -> Stat | None:
        """Seconds to the first part of the answer."""
        return self._stat(lambda one: one.first)

    @property
    def prompt_rate(self) -> Stat | None:
        """Tokens of a prompt a second."""
        return self._stat(lambda one: one.prompt_rate)

    @property
    def decode_rate(self) -> Stat | None:
        """Tokens of an answer a second, for each user."""
        return self._stat(lambda one: one.decode_rate)

    @property
    def total_rate(self) -> Stat | None:
        """Tokens of all answers a second, for all users together and with their prompts' time."""
        rates = []
        for each in self.rounds:
            if each.seconds > 0 and not any(one.failure for one in each.samples):
                rates.append(sum(one.answer_tokens for one in each.samples) / each.seconds)
        return Stat.of(rates)

    def server_rate(self, tokens: str, seconds: str) -> float | None:
        """Tokens a second by the server's own counters."""
        counted = self.counted or {}
        time = counted.get(seconds, 0.0)
        amount = counted.get(tokens, 0.0)
        return amount / time if time > 0 and amount > 0 else None


class Repeat(_Frozen):
    """The same question twice: a prefix cache may shorten the second prompt, but never the answer's decoding."""

    first: Sample
    second: Sample
    counted: dict[str, float] | None = None


class Memory(_Frozen):
    """One part of the memory: what it is for, how much, and who says so."""

    part: Literal["weights", "runtime", "reserved KV cache", "offload"]
    bytes: int | None = None
    text: str
    source: str


class Subject(_Frozen):
    """What was measured. What is not known is left out."""

    host: str
    service: str
    url: str
    model: str
    checkpoint: str | None = None
    profile: str | None = None
    quantization: str | None = None
    kind: Literal["dense", "mixture of experts"] | None = None
    engine: str | None = None
    engine_version: str | None = None
    backend: tuple[str, ...] = ()
    image: str | None = None
    image_digest: str | None = None
    context: int | None = None
    accelerator: str | None = None
    gb_per_s: float | None = None
    ceiling: float | None = Field(None, description="Tokens a second that the memory can feed.")
    fit: str | None = None
    memory: tuple[Memory, ...] = ()
    facts: dict[str, str] = {}
    commits: dict[str, str] = Field({}, description="The commit of each model that is fetched for it.")
    packages: dict[str, str] = Field({}, description="Versions of what a lock names: kernel, Docker, ROCm, firmware.")


class Settings(_Frozen):
    """How it was measured."""

    prompt_tokens: tuple[int, ...]
    users: tuple[int, ...]
    answer_tokens: int
    repeats: int
    seed: int
    exact: bool = Field(True, description="Whether the server takes `ignore_eos`, so that answers are of one length.")


class Sweep(_Frozen):
    """One run of `vllm bench serve`: how it was called, and its own figures."""

    name: str
    input_tokens: int
    output_tokens: int
    prompts: int
    completed: int
    failed: int
    figures: dict[str, float] = {}
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether all requests were answered: the program's exit status is 0 when none was."""
        return not self.error and self.failed == 0 and self.completed == self.prompts


class Finding(_Frozen):
    """Something about a run. ``rank``: a failure makes `ojai bench` end with status 1, a note does not."""

    code: str
    rank: Literal["failure", "note"]
    found: str
    meaning: str
    look_at: tuple[str, ...]
    source: str


class Run(_Frozen):
    """A whole run of one service."""

    format: Literal["ojai-bench"] = "ojai-bench"
    version: int = Field(VERSION, ge=1, le=VERSION)
    ojai: str
    when: str
    subject: Subject
    settings: Settings
    cells: tuple[Cell, ...] = ()
    repeat: Repeat | None = None
    sweeps: tuple[Sweep, ...] = ()
    failure: Failure | None = Field(None, description="Why nothing was measured.")
    error: str = ""
    metrics: str = Field("", description="Why the server's own counters are not known; empty where they are.")
    verdict: str | None = Field(None, description="The guides' band of the decode speed of one user.")
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing in it is a failure."""
        return all(finding.rank != "failure" for finding in self.findings)

    @property
    def title(self) -> str:
        """The service and its host."""
        return f"{self.subject.service} on {self.subject.host}"

    def cell(self, users: int, prompt_tokens: int | None = None) -> Cell | None:
        """The first measured cell of so many users, and of this length of prompt where one is given."""
        for one in self.cells:
            if one.rounds and one.users == users and prompt_tokens in (None, one.prompt_tokens):
                return one
        return None


def folder_beside(inventory: str | None) -> Path:
    """Where results are kept if nothing else is said: `bench` beside the inventory, or here."""
    return (Path(inventory).parent if inventory and Path(inventory).is_file() else Path.cwd()) / "bench"


def place_of(folder: Path, host: str, service: str) -> Path:
    """The folder with the results of a service."""
    return folder / _file_name(host) / _file_name(service)


def save(run: Run, folder: Path) -> Path:
    """Write a run to ``FOLDER/HOST/SERVICE/TIME.json`` and return that path."""
    place = place_of(folder, run.subject.host, run.subject.service)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{re.sub(r'[^0-9TZ]', '', run.when.replace('+00:00', 'Z'))}.json"
    path.write_text(f"{run.model_dump_json(indent=1)}\n", encoding="utf-8")
    return path


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip(".-") or "unnamed"


def load(path: Path) -> Run:
    """Read a run; of a folder, the newest in it. Raises :class:`ResultError`."""
    if path.is_dir():
        found = sorted(path.rglob("*.json"), key=lambda one: (one.name, str(one)))
        if not found:
            raise ResultError(f"{path}: found no result in this folder; expected files that `ojai bench` wrote")
        path = found[-1]
    try:
        text = path.read_text(encoding="utf-8")
        run = Run.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ResultError(
            f"{path}: found no result of `ojai bench` ({place or 'the file'}: {first['msg']}); expected a file that it "
            f"wrote, of version {VERSION}"
        ) from None
    if not {"format", "version"} <= run.model_fields_set:
        raise ResultError(f"{path}: found no format and version; expected a file that `ojai bench` wrote")
    return run
