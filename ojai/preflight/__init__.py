"""What makes a host unfit, found before anything on it is changed: a module an area, pure functions of its report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FailedCheck:
    """Why a host is refused: the ``check``, what was ``found``, what was ``expected``, and what to do (``todo``)."""

    check: str
    found: str
    expected: str
    todo: str

    def __str__(self) -> str:
        return f"{self.check}: found {self.found}; expected {self.expected}. What to do: {self.todo}."
