"""The weights, fetched as a step of their own: resumed, verified, and pinned to a commit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import gevent
from pyinfra import host
from pyinfra.api import FileUploadCommand, FunctionCommand, Host, State, operation
from pyinfra.api.exceptions import DeployError
from pyinfra.facts.files import Sha256File

from ojai.engines import ResolvedService
from ojai.facts.weights import FetchedModels
from ojai.operations import Steps
from ojai.operations.files import beginning, ending
from ojai.operations.ledger import STATE_DIR
from ojai.operations.progress import HEARTBEAT, OnFailure, ask, complain, connector_arguments, refuse, say
from ojai.weights import errors
from ojai.weights.pack import PackError
from ojai.weights.program import FAILURE, RESULT, STATE, record_name

#: The program on the host, with the hub's client in it.
CLIENT = f"{STATE_DIR}/hub-client.pyz"

#: Where it says how far it is.
STATUS = "/run/ojai-fetch"

#: Bytes that are left free beside what is fetched.
RESERVE = 1 << 30

#: Seconds without a byte after which a connection is given up, and tries without a byte before the step fails. With
#: the pauses between them a hub may be away for about a minute.
TIMEOUT, PATIENCE = 30, 5

#: Files that are fetched at once.
WORKERS = 4

#: Told what was there and what was fetched: an entry for each model of each service.
Report = Callable[[list[dict[str, Any]]], None]

#: Seconds between two states of a line that moves.
MOVES = 2.0

#: In the place of a commit while pyinfra only looks: it is known once it is fetched.
TO_COME = "the-commit-that-is-fetched"

#: Where Hugging Face's own library looks for a token, in its order.
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def secrets() -> dict[str, str]:
    """HF_TOKEN from the controller's environment, if it is set there: never from inventory data or an argument.

    Raises ``DeployError``, without the value, for one that is not a token: Docker would hand quotes to the server, and
    a second line would be a second variable in the file.
    """
    name = next((name for name in TOKENS if os.environ.get(name, "").strip()), None)
    if name is None:
        return {}
    token = os.environ[name].strip()
    if not re.fullmatch(r"[\w.~+/-]+", token, re.ASCII):
        found = "a line break or blank" if token.split() != [token] else "a quote, an = or another character"
        raise DeployError(
            f"{name} in your environment: found {found} in it; expected a token, such as hf_ with letters and digits. "
            "What to do: set it again (the value is not shown here)."
        )
    return {"HF_TOKEN": token}


def records(service: ResolvedService) -> dict[str, str]:
    """The models that are fetched for a service, and the name of each one's record."""
    return {one.model: record_name(one.model, one.revision) for one in service.wanted}


def revisions(service: ResolvedService) -> dict[str, str]:
    """The commit that this host has of each model of a service."""
    named = records(service)
    found = host.get_fact(FetchedModels, cache=service.folders["huggingface"], records=tuple(named.values()))
    return {model: found[record].commit if record in found else TO_COME for model, record in named.items()}


@operation()
def client(pack: Callable[[], bytes]) -> Steps:
    """Install the program that fetches: the hub's own client in one file, carried from here. It needs no index.

    + pack: gives the file, or raises :class:`PackError`
    """
    try:
        data = pack()
    except PackError as error:
        yield refuse(str(error))
        return
    if host.get_fact(Sha256File, path=CLIENT) == hashlib.sha256(data).hexdigest():
        host.noop("it is the one of this ojai")
        return
    yield beginning(CLIENT, "root", "root", "644")
    yield FileUploadCommand(io.BytesIO(data), f"{CLIENT}.ojai-new")
    yield ending(CLIENT, "root", "root", "644")


@operation()
def fetched(
    services: Sequence[ResolvedService],
    endpoint: str | None,
    on_failure: OnFailure | None = None,
    report: Report | None = None,
) -> Steps:
    """Have the models of all services in the cache: only what the engine reads, verified, at a commit that is recorded.

    What is complete is not asked for again. What an earlier run began is continued.

    + services: the services; a model that two of them have is fetched once
    + endpoint: the hub; None: huggingface.co
    + on_failure: called if one cannot be fetched
    + report: called at the end with what there is now; then the program is also run where all is there
    """
    missing = []
    for service in services:
        named = records(service)
        found = host.get_fact(FetchedModels, cache=service.folders["huggingface"], records=tuple(named.values()))
        if report or not all(record in found and found[record].whole for record in named.values()):
            missing.append(service)
    if not missing:
        host.noop("all of them are there")
        return
    words = [request(missing, endpoint)]
    kwargs = {"on_failure": on_failure, "report": report}
    yield FunctionCommand(fetch, words, {name: given for name, given in kwargs.items() if given})


def request(services: Sequence[ResolvedService], endpoint: str | None) -> str:
    """What the program is asked for. There is no secret in it."""
    files = services[0].engine.files
    return json.dumps(
        {
            "services": [
                {
                    "name": service.name,
                    "cache": service.folders["huggingface"],
                    "env_file": service.env_file,
                    "models": [{"model": one.model, "revision": one.revision} for one in service.wanted],
                }
                for service in services
            ],
            "state": STATE,
            "status": STATUS,
            "endpoint": endpoint or "https://huggingface.co",
            "allow": files.allow,
            "fallback": files.weights,
            "ignore": files.ignore,
            "reserve": RESERVE,
            "patience": PATIENCE,
            "timeout": TIMEOUT,
            "workers": WORKERS,
        }
    )


def one_line(state: State) -> bool:
    """Whether a line can move: on a terminal, with one host. Those of several hosts would write over each other."""
    return sys.stderr.isatty() and len(state.inventory) == 1


def fetch(
    state: State,
    host: Host,
    asked: str,
    on_failure: OnFailure | None = None,
    report: Report | None = None,
) -> bool:
    """Run the program on the host, and tell how far it is, in a line that moves or every :data:`HEARTBEAT` seconds."""
    arguments = connector_arguments(host)
    hidden = json.dumps({"token": secrets().get("HF_TOKEN")})
    # -I: no variable and no folder of the host's own changes which modules are loaded.
    command = f"python3 -I {CLIENT} {shlex.quote(asked)}"
    work = gevent.spawn(ask, host, command, **{**arguments, "_stdin": hidden})
    moving = one_line(state)
    while not work.ready():
        work.join(timeout=MOVES if moving else HEARTBEAT)
        if not work.ready():
            _, said = ask(host, f"cat {STATUS} 2>/dev/null", **arguments)
            for line in said.stdout_lines:
                if moving:
                    click.echo(f"\r\x1b[2K{host.print_prefix}{line}", nl=False, err=True)
                else:
                    say(host, line)
    if moving:
        click.echo(err=True)
    success, output = work.get()
    for line in output.stdout_lines:
        if line.startswith(RESULT):
            results = json.loads(line.removeprefix(RESULT))
            for one in results:
                say(host, errors.sentence(one))
            if report:
                report(results)
            return True
        if line.startswith(FAILURE):
            failed = json.loads(line.removeprefix(FAILURE))
            complain(host, errors.text(failed["code"], failed["words"], json.loads(asked)["endpoint"]))
    if success or not any(line.startswith(FAILURE) for line in output.stdout_lines):
        complain(host, "the program that fetches ended without a word:\n" + "\n".join(output.output_lines[-15:]))
    if on_failure:
        on_failure(state, host)
    return False
