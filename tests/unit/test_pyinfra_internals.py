"""What ojai uses of pyinfra's and paramiko's insides is there, and is named in one module only."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from pyinfra.api import Config, Inventory, State, operation
from pyinfra.api.operation import OperationMeta

from ojai import pyinfra_internals

ROOT = Path(__file__).resolve().parents[2]

#: Where pyinfra's documentation sends the authors of deploys, facts and operations.
PUBLIC = ("pyinfra", "pyinfra.api", "pyinfra.api.deploy", "pyinfra.api.exceptions")


@pytest.mark.parametrize("name", pyinfra_internals.__all__)
def test_it_is_there(name):
    assert getattr(pyinfra_internals, name) is not None


def test_its_command_line_has_what_is_called_and_replaced():
    """In a process of its own, which it patches."""
    code = (
        "from ojai.pyinfra_internals import *\nfrom ojai import pyinfra_internals as ours\n"
        "assert ours.parse_cli_arg('[1]') == [1]\nassert len(ours.make_inventory('a,b')) == 2\n"
        "cli = ours.cli_module()\n"
        "for found in (cli.getpass, cli._do_confirm, ours.util.getpass, ours.ssh_util.getpass):\n"
        "    assert callable(found)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_hosts_runs_and_operations_have_the_attributes_that_are_read():
    state = State(Inventory((["@local"], {})), Config())
    (host,) = state.inventory
    for owner, names in {
        host: "print_prefix connector connector_data current_op_global_arguments connected run_shell_command",
        state: "failed_hosts active_hosts activated_hosts ops op_meta meta current_stage is_executing initialised "
        "callback_handlers should_check_for_changes print_output check_for_changes",
        state.meta[host]: "ops_change",
    }.items():
        for name in names.split():
            assert hasattr(owner, name), f"{type(owner).__name__}.{name}"
    for name in ("is_complete", "did_change", "did_error", "stderr_lines", "stdout_lines"):
        assert hasattr(OperationMeta, name), name

    @operation()
    def nothing():
        yield from ()

    assert callable(nothing._inner)


def test_the_callbacks_that_the_recap_overrides_are_called_so():
    from ojai.connection.recap import Recap

    for name in ("host_connect_error", "operation_host_start", "operation_host_error"):
        theirs = list(inspect.signature(getattr(pyinfra_internals.BaseStateCallback, name)).parameters)
        assert list(inspect.signature(getattr(Recap, name)).parameters) == ["self", *theirs], name


def test_no_other_module_imports_them():
    found = []
    for folder in ("ojai", "roles"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "pyinfra_internals.py" or "ojai/lab" in str(path):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found += [
                    f"{path.relative_to(ROOT)}: {name}"
                    for name in names
                    if name.split(".")[0] in ("pyinfra", "pyinfra_cli", "paramiko")
                    and name not in PUBLIC
                    and not name.startswith(("pyinfra.operations", "pyinfra.facts"))
                ]
    assert found == []


def test_a_release_without_one_fails_with_a_sentence(tmp_path):
    code = "import pyinfra.api.arguments as moved\ndel moved.CONNECTOR_ARGUMENT_KEYS\nimport ojai.pyinfra_internals"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: ojai needs pyinfra 3.10: cannot import name 'CONNECTOR_ARGUMENT_KEYS'" in done.stderr
