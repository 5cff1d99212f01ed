"""What pyinfra works out anew for every operation, fact and host, worked out once. The results are the same.

Of a run's processor time, half went into ``inspect.stack``, which looks for the source of every frame; a fifth into the
types of the global arguments, a tenth into the list of connectors. docs/benchmarks/method.md has the profile.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

import pyinfra
from pyinfra.api import State

from ojai.pyinfra_internals import PYINFRA_INSTALL_DIR, HostData, api_module


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


def _remembering(look: Callable[[HostData, str], Any]) -> Callable[[HostData, str], Any]:
    """Every operation and fact looks for 32 global arguments in the data of the host, which has none or one of them.

    What is not there is looked for once: only data that a deploy sets can come later, and that is looked at.
    """

    @functools.wraps(look)
    def wrapped(self: HostData, key: str) -> Any:
        absent = self.__dict__.setdefault("absent", set())
        if key in absent and key not in self.override_datas:
            raise AttributeError(f"Host `{self.host}` has no data `{key}`")
        try:
            return look(self, key)
        except AttributeError:
            absent.add(key)
            raise

    return wrapped


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
    HostData.__getattr__ = _remembering(HostData.__getattr__)  # type: ignore[method-assign]
