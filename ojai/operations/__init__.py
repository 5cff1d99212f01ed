"""The operations that pyinfra lacks or gets wrong (each module says which), with a fixture for each code path."""

from collections.abc import Generator

from ojai.pyinfra_internals import PyinfraCommand

#: What an operation yields: shell as text, or a command object of pyinfra's.
Steps = Generator[PyinfraCommand | str, None, None]
