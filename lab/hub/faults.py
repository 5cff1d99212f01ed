"""How the hub misbehaves when it is told to, and what it has sent."""

from __future__ import annotations

import fnmatch
import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path

KINDS = ("drop", "stall", "status", "corrupt", "lie", "size", "hidden", "gone", "gated", "expired", "page", "slow")


@dataclass(frozen=True)
class Fault:
    """One way to misbehave.

    + kind: `drop` the connection after ``after`` bytes, `stall` there for ``seconds``, answer with ``status``,
      `corrupt` one byte of the content, `lie` in the API about the file's checksum or list another `size`, leave a
      file out of the list (`hidden`), list it and not have it (`gone`), want its licence accepted (`gated`), take the
      address at the second server for one that has `expired`, answer with a web `page` as a captive portal does, or
      send ``rate`` bytes a second (`slow`)
    + file: pattern of the files that it concerns; `api` is the API
    + times: how often; None: always
    """

    kind: str
    file: str = "*"
    after: int = 0
    seconds: float = 3600.0
    status: int = 503
    rate: int = 1 << 20
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: found {self.kind!r}; expected one of {', '.join(KINDS)}")


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def put(self, faults: list[Fault]) -> None:
        """Have these, and no others."""
        with self._lock:
            self._faults = list(faults)

    def take(self, file: str, *kinds: str) -> Fault | None:
        """The first fault of these kinds for a file, counted as used."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.kind in kinds and fnmatch.fnmatch(file, fault.file) and fault.times != 0:
                    if fault.times is not None:
                        self._faults[index] = replace(fault, times=fault.times - 1)
                    return fault
        return None


class Counts:
    """Bytes sent and requests answered, by file. Kept in a file, so that a killed hub knows them when it is back."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self.bytes: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.requests: dict[str, int] = {}
        self.tokens_led_astray = 0
        for line in file.read_text().splitlines() if file.exists() else ():
            what, name, number = json.loads(line)
            self._count(what, name, number)

    def _count(self, what: str, name: str, number: int) -> None:
        if what == "token":
            self.tokens_led_astray += number
            return
        counted = {"bytes": self.bytes, "samples": self.samples, "requests": self.requests}[what]
        counted[name] = counted.get(name, 0) + number

    def add(self, what: str, name: str, number: int = 1) -> None:
        """Count more `bytes`, `samples` or `requests` of a file; `token`: one that came to the second address."""
        with self._lock:
            self._count(what, name, number)
            with self._file.open("a") as log:
                log.write(json.dumps([what, name, number]) + "\n")

    def shown(self) -> dict[str, object]:
        """All of it, as JSON has it."""
        with self._lock:
            counted = {"bytes": dict(self.bytes), "samples": dict(self.samples), "requests": dict(self.requests)}
            return {**counted, "tokens_led_astray": self.tokens_led_astray}

    def forget(self) -> None:
        """Count from nothing."""
        with self._lock:
            self.bytes, self.samples, self.requests, self.tokens_led_astray = {}, {}, {}, 0
            self._file.write_text("")
