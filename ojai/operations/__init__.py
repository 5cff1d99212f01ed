"""The operations that pyinfra lacks or gets wrong (each module says which), with a fixture for each code path."""

from collections.abc import Generator, Iterable

from pyinfra import host

from ojai.pyinfra_internals import PyinfraCommand

#: What an operation yields: shell as text, or a command object of pyinfra's.
Step = PyinfraCommand | str
Steps = Generator[Step, None, None]


def steps_or_noop(steps: Iterable[Step], reason: str) -> Steps:
    """``steps``; if there are none, the operation changes nothing for this ``reason``."""
    none = True
    for step in steps:
        none = False
        yield step
    if none:
        host.noop(reason)
