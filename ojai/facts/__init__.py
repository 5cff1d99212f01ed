"""What a host reports about itself: pyinfra facts, one shell command each."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase


def script(text: str, *arguments: str, **variables: str) -> str:
    """``text`` (shell) with ``arguments`` as its positional parameters and ``variables`` set, all of them quoted."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    if arguments:
        lines.append(f"set -- {shlex.join(arguments)}")
    return "\n".join([*lines, text.strip()])


class Lines(FactBase[tuple[str, ...]]):
    """A fact whose answer is the lines that its command prints."""

    @staticmethod
    def default() -> tuple[str, ...]:
        """None."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """The lines that are not empty."""
        return tuple(line for line in output if line)


class Yes(FactBase[bool]):
    """A fact that is true if its command prints ``yes`` and nothing else."""

    @staticmethod
    def default() -> bool:
        """No."""
        return False

    def process(self, output: list[str]) -> bool:
        """Whether it is ``yes``."""
        return output == ["yes"]
