"""What the lab says when it cannot go on: one message for a person, exit status 1, no traceback."""

from __future__ import annotations

import click


class LabError(click.ClickException):
    """A lab step failed. The message says what was found, what was expected and what to do."""


class LabDownError(LabError):
    """The lab is asked about but is not up."""
