"""The weights, fetched as a step of their own: resumed, verified, and pinned to a commit."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gevent
from pyinfra import host
from pyinfra.api import FileUploadCommand, FunctionCommand, Host, State, operation
from pyinfra.facts.files import Sha256File

from ojai.engines import ResolvedService
from ojai.facts.weights import FetchedModels
from ojai.operations import Steps
from ojai.operations.files import beginning, ending
from ojai.operations.progress import OnFailure, ask, complain, connector_arguments, follow, refuse, say
from ojai.settings.secrets import Source
from ojai.weights import CLIENT, errors
from ojai.weights.pack import PackError
from ojai.weights.program import FAILURE, RESULT, STATE, record_name

#: Where it says how far it is.
STATUS = "/run/ojai-fetch"

#: Bytes that are left free beside what is fetched.
RESERVE = 1 << 30

#: Seconds without a byte after which a connection is given up, and tries without a byte before the step fails. With
#: the pauses between them, and the tries of the client itself, a hub may be away for about three minutes.
TIMEOUT, PATIENCE = 30, 5

#: Files that are fetched at once.
WORKERS = 4

#: Told what was there and what was fetched: an entry for each model of each service.
Report = Callable[[list[dict[str, Any]]], None]

#: In the place of a commit while pyinfra only looks: it is known once it is fetched.
TO_COME = "the-commit-that-is-fetched"


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
    tokens: Mapping[str, Source | None] | None = None,
    environment: Mapping[str, str] | None = None,
    local_only: bool = False,
    on_failure: OnFailure | None = None,
    report: Report | None = None,
) -> Steps:
    """Have the models of all services in the cache: only what the engine reads, verified, at a commit that is recorded.

    What is complete is not asked for again. What an earlier run began is continued.

    + services: the services; a model that two of them have is fetched once
    + endpoint: the hub; None: huggingface.co
    + tokens: where the hub's token of a service is read on this machine; None: its environment file on the host
    + environment: proxies
    + local_only: ask no hub; what is in the cache is verified and recorded, and anything else is a failure
    + on_failure: called if one cannot be fetched
    + report: called with what there is now, for the services of each token; then the program is also run where all
      is there
    """
    missing: dict[Source | None, list[ResolvedService]] = {}
    for service in services:
        named = records(service)
        found = host.get_fact(FetchedModels, cache=service.folders["huggingface"], records=tuple(named.values()))
        if report or not all(record in found and found[record].whole for record in named.values()):
            missing.setdefault((tokens or {}).get(service.name), []).append(service)
    if not missing:
        host.noop("all of them are there")
        return
    for token, wanting in missing.items():
        kwargs = {"token": token, "environment": environment, "on_failure": on_failure, "report": report}
        given = {name: value for name, value in kwargs.items() if value}
        yield FunctionCommand(fetch, [request(wanting, endpoint, local_only)], given)


def request(services: Sequence[ResolvedService], endpoint: str | None, local_only: bool = False) -> str:
    """What the program is asked for. There is no secret in it."""
    return json.dumps(
        {
            "services": [
                {
                    "name": service.name,
                    "cache": service.folders["huggingface"],
                    "env_file": service.env_file,
                    "models": [{"model": one.model, "revision": one.revision} for one in service.wanted],
                    "files": asdict(service.engine.files(service)),
                }
                for service in services
            ],
            "state": STATE,
            "status": STATUS,
            "endpoint": endpoint or "https://huggingface.co",
            "local_only": local_only,
            "reserve": RESERVE,
            "patience": PATIENCE,
            "timeout": TIMEOUT,
            "workers": WORKERS,
        }
    )


def fetch(
    state: State,
    host: Host,
    asked: str,
    token: Source | None = None,
    environment: Mapping[str, str] | None = None,
    on_failure: OnFailure | None = None,
    report: Report | None = None,
) -> bool:
    """Run the program on the host, and tell how far it is."""
    arguments = connector_arguments(host)
    hidden = json.dumps({"token": token and token.read(), "environment": dict(environment or {})})
    # -I: no variable and no folder of the host's own changes which modules are loaded.
    command = f"python3 -I {CLIENT} {shlex.quote(asked)}"
    work = gevent.spawn(ask, host, command, **{**arguments, "_stdin": hidden})
    follow(host, work, STATUS, **arguments)
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
