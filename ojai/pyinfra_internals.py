"""Every name of pyinfra's and paramiko's insides that ojai uses: what their documentation does not promise.

Import these from here, nowhere else (tests/unit/test_pyinfra_internals.py), so that a release that moves one fails in
one place. pyinfra's command line patches the process that imports it (gevent); its names are imported when called.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

import pyinfra
from pyinfra.api import Config, State

try:
    from paramiko import SFTPError, SSHConfig, SSHException, Transport
    from pyinfra.api import facts, operations
    from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, all_global_arguments, pop_global_arguments
    from pyinfra.api.command import PyinfraCommand
    from pyinfra.api.host import HostData
    from pyinfra.api.state import BaseStateCallback, StateStage
    from pyinfra.api.util import PYINFRA_INSTALL_DIR, get_file_io
    from pyinfra.connectors import ssh_util, util
    from pyinfra.connectors.fake import FakeConnector
    from pyinfra.connectors.local import LocalConnector
    from pyinfra.connectors.ssh import SSHConnector
    from pyinfra.connectors.sshuserclient import client as ssh_client
    from pyinfra.connectors.util import (
        CommandOutput,
        OutputLine,
        clear_askpass_cache,
        extract_control_arguments,
        make_unix_command_for_host,
        remove_any_sudo_askpass_file,
    )
    from pyinfra.context import ctx_config, ctx_host, ctx_state
except ImportError as error:  # pragma: no cover
    raise ImportError(f"ojai needs pyinfra 3.10: {error}. What to do: install the release that ojai names.") from error

__all__ = [
    "CONNECTOR_ARGUMENT_KEYS",
    "PYINFRA_INSTALL_DIR",
    "BaseStateCallback",
    "CommandOutput",
    "FakeConnector",
    "HostData",
    "LocalConnector",
    "OutputLine",
    "PyinfraCommand",
    "SFTPError",
    "SSHConfig",
    "SSHConnector",
    "SSHException",
    "StateStage",
    "Transport",
    "all_global_arguments",
    "api_module",
    "clear_askpass_cache",
    "cli_module",
    "cli_prints",
    "cli_util",
    "ctx_config",
    "ctx_host",
    "ctx_state",
    "extract_control_arguments",
    "facts",
    "get_file_io",
    "given_inventory",
    "inventory_groups",
    "make_inventory",
    "make_unix_command_for_host",
    "operations",
    "parse_cli_arg",
    "pop_global_arguments",
    "remove_any_sudo_askpass_file",
    "spinner",
    "ssh_client",
    "ssh_util",
    "util",
]


def api_module(name: str) -> Any:
    """A module of its API, of which functions are replaced; ``pyinfra.api.operation`` as a name is the decorator."""
    return importlib.import_module(f"pyinfra.api.{name}")


def spinner() -> Any:
    """The module that draws its spinner."""
    return importlib.import_module("pyinfra.progress")


def make_inventory(*args: Any, **kwargs: Any) -> Any:
    """pyinfra's inventory from a file, as its command line reads it."""
    if not ctx_state.isset():  # type: ignore[no-untyped-call]
        ctx_state.set(State())  # type: ignore[no-untyped-call]
        ctx_config.set(Config())  # type: ignore[no-untyped-call]
    return importlib.import_module("pyinfra_cli.inventory").make_inventory(*args, **kwargs)


@cache
def given_inventory() -> str:
    """The inventory of pyinfra's command line; empty outside of it.

    Read again from the arguments: a deploy file runs in a greenlet, where click's context is not known.
    """
    if not pyinfra.is_cli:
        return ""
    command = importlib.import_module("pyinfra_cli.cli").cli
    return str(command.make_context("pyinfra", sys.argv[1:], resilient_parsing=True).params.get("inventory") or "")


def inventory_groups(file: str) -> dict[str, Any]:
    """The groups of an inventory file, as its command line reads them."""
    groups: dict[str, Any] = importlib.import_module("pyinfra_cli.inventory")._get_groups_from_filename(file)
    return groups


def parse_cli_arg(arg: str) -> Any:
    """A value of ``--data``, as its command line reads it."""
    return importlib.import_module("pyinfra_cli.util").parse_cli_arg(arg)


def cli_module() -> Any:
    """The module of its command line, which asks for passwords."""
    return importlib.import_module("pyinfra_cli.cli")


def cli_util() -> Any:
    """The module of its command line that runs a deploy file for each host."""
    return importlib.import_module("pyinfra_cli.util")


def cli_prints() -> Any:
    """The module of its command line that prints what facts found."""
    return importlib.import_module("pyinfra_cli.prints")
