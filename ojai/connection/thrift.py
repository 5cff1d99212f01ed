"""What pyinfra works out anew for every operation, fact and host, worked out once. The results are the same.

Of a run's processor time, half went into ``inspect.stack``, which looks for the source of every frame; a fifth into the
types of the global arguments, a tenth into the list of connectors. docs/benchmarks/method.md has the profile.
"""

from __future__ import annotations

import sys
from functools import cache
from types import FrameType

import pyinfra
from pyinfra.api import State

from ojai.pyinfra_internals import PYINFRA_INSTALL_DIR, api_module


def order(state: State) -> list[int]:
    """Where an operation stands: the numbers of the lines that lead to it from the deploy file, pyinfra's left out.

    As ``get_operation_order_from_stack``, which it replaces.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    file, start = state.current_deploy_filename, 0
    if file:
        found = (at for at, one in enumerate(frames) if one.f_code.co_filename == file)
        start = next(found, len(frames))
    own = [one.f_lineno for one in frames[start:] if not one.f_code.co_filename.startswith(PYINFRA_INSTALL_DIR)]
    return [state.current_op_file_number, *own] if pyinfra.is_cli else own


def install() -> None:
    """Put these in place of pyinfra's own; once is enough."""
    connectors, arguments = api_module("connectors"), api_module("arguments")
    if hasattr(connectors.get_all_connectors, "__wrapped__"):
        return
    all_connectors = api_module("inventory").get_all_connectors = cache(connectors.get_all_connectors)
    connectors.get_all_connectors = all_connectors
    all_arguments = api_module("facts").all_global_arguments = cache(arguments.all_global_arguments)
    arguments.all_global_arguments = all_arguments
    api_module("operation").get_operation_order_from_stack = order
