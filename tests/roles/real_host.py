"""A host that is this machine's ``sh``: facts and operations run for real, on files under a temporary folder.

No connector and no sudo; what an operation yields is done at once, as pyinfra does it, so that its next fact sees it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

with patch("gevent.monkey.patch_all"):  # see operation_harness
    import pyinfra_cli  # noqa: F401
from pyinfra.api import FileUploadCommand, FunctionCommand, StringCommand
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state
from pyinfra_testing.util import FakeState


class CutOff(Exception):
    """The run was killed here."""


class RealHost:
    """``environment`` is laid over this process's own. ``steps``: commands done by the last operation."""

    #: Whether a command has a process group of its own.
    own_group = False

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.name = "mini"
        self.print_prefix = ""
        self.in_op = True
        self.current_op_global_arguments: dict[str, Any] = {}
        self.environment = {**os.environ, **(environment or {})}
        self.state = FakeState()
        self.state.print_output = False
        self.noop_description: str | None = None
        self.steps = 0
        self.errors: list[str] = []

    def noop(self, description: str) -> None:
        self.noop_description = description

    def sh(self, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", command],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=self.own_group,
        )

    def run_shell_command(self, command: Any, **arguments: Any) -> tuple[bool, CommandOutput]:
        if not isinstance(command, str):
            arguments = {**arguments, **command.connector_arguments}
            command = command.get_raw_value()
        stdin = arguments.get("_stdin") or ""
        # As pyinfra's write_stdin.
        done = self.sh(command, f"{stdin}\n" if stdin and not stdin.endswith("\n") else stdin)
        lines = [OutputLine("stdout", line) for line in done.stdout.splitlines()]
        lines += [OutputLine("stderr", line) for line in done.stderr.splitlines()]
        self.errors += done.stderr.splitlines()
        return done.returncode == 0, CommandOutput(lines)

    def get_fact(self, kind: Any, /, **words: Any) -> Any:
        """As pyinfra: the default when there is no output, an error when the command fails."""
        fact = kind()
        command = fact.command(**words)
        done = self.sh(command if isinstance(command, str) else StringCommand(command).get_raw_value())
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        return fact.process(lines) if lines else fact.default()

    def apply(self, operation: Any, *, cut_off_after: int | None = None, **words: Any) -> bool:
        """Run an operation; whether it did anything. Raises :class:`CutOff` after that many commands."""
        self.steps, self.noop_description, self.errors = 0, None, []
        with ctx_state.use(self.state), ctx_host.use(self):
            for command in operation._inner(**words):
                if self.steps == cut_off_after:
                    raise CutOff
                self.steps += 1
                assert self.do(command), f"{command}: {self.errors}"
        assert self.steps or self.noop_description, "neither a change nor a reason for none"
        return self.steps > 0

    def do(self, command: Any) -> bool:
        if isinstance(command, FunctionCommand):
            return command.function(self.state, self, *command.args, **command.kwargs) is not False
        if isinstance(command, FileUploadCommand):
            command.src.seek(0)
            # As `cp` does it: into a file that is there, whose owner and mode stay.
            with Path(command.dest).open("r+b") as place:
                place.truncate()
                place.write(command.src.read())
            return True
        return self.run_shell_command(command)[0]
