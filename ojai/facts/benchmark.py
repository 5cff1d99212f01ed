"""An engine's own program of measurement, run once on a host beside the service that it measures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase

#: Seconds for one workload.
PATIENCE = 4 * 3600

_ERROR = "ojai-error: "


@dataclass(frozen=True)
class Output:
    """What it printed, and the end of what it complained of."""

    text: str = ""
    errors: str = ""


class Benchmark(FactBase[Output]):
    """The :class:`Output` of ``docker run …`` (``argv``), whose container is gone afterwards. Nothing is changed."""

    @staticmethod
    def default() -> Output:
        """No answer."""
        return Output()

    def command(self, argv: tuple[str, ...]) -> str:
        """The exit status tells nothing: it is 0 when every request failed."""
        gone = f"docker rm --force {shlex.quote(argv[argv.index('--name') + 1])} >/dev/null 2>&1"
        return f"""errors=$(mktemp)
{gone}
timeout {PATIENCE} {shlex.join(argv)} 2>"$errors"
{gone}
echo
{{ grep -m 1 '^Error 0: ' "$errors" || tail -n 3 "$errors"; }} | sed 's/^/{_ERROR}/'
rm -f "$errors"
"""

    def process(self, output: Sequence[str]) -> Output:
        """Tell the two apart."""
        errors = [line.removeprefix(_ERROR) for line in output if line.startswith(_ERROR)]
        return Output("\n".join(line for line in output if not line.startswith(_ERROR)).strip(), " ".join(errors))
