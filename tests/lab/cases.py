"""The cases of ``tests.lab.run``, read from the YAML files in ``cases/``.

A file has its ``cases`` and may ``define`` texts: ``{{NAME}}`` in a case, or in a later definition, is replaced by the
text of that name. Names are in capitals, so Docker's own ``{{.Name}}`` and ``{{end}}`` are left alone. Operations are
given by their keys in tests/operations.yaml.
"""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ojai.lab.image import ENGINES
from tests.operation_names import NAMES

FOLDER = Path(__file__).with_name("cases")

#: The files in ``cases/drift``, in the order in which the deploy applies the roles.
ROLES = (
    *(
        "preflight",
        "network",
        "versions",
        "power",
        "kernel",
        "groups",
        "sysctl",
        "rocm",
        "docker",
        "caches",
        "firewall",
        "gateway",
        "ledger",
        "weights",
    ),
    *("vllm", "surface", "harmless", "reader"),
)

#: In place of a regular expression: the dry run that ``ojai verify`` does must name the first operation.
DRY_RUN = "dry-run"


class CaseError(Exception):
    """A file of cases is wrong; the message names the file and the case."""


def _name_of(key: str) -> str:
    if key not in NAMES:
        raise ValueError(f"no operation has the key {key!r} in tests/operations.yaml")
    return NAMES[key]


Operation = Annotated[str, AfterValidator(_name_of)]
_strict = ConfigDict(extra="forbid")


def pending(operation: str) -> str:
    """The check that names an operation as pending, as a regular expression."""
    return rf"drift: .* would.*{re.escape(operation)}"


@dataclass(frozen=True, config=_strict)
class DriftCase:
    """One thing broken on a provisioned host.

    ``inject``: shell, as root. ``detected_by``: a regular expression that a failed check of ``ojai verify`` must match,
    as ``area: check: message``, or :data:`DRY_RUN`. ``operations``: those that the deploy must report as changed,
    consequences included; ``may``: those that it may report too (whether something comes up by itself in time varies).

    With ``refused`` (a regular expression over the deploy's output) the deploy must end with an error instead and
    change nothing; ``why`` says why remediation would be wrong, ``undo`` is what a person would then run.
    ``operations`` has the one that refuses, or none when preflight does.

    ``stays``: the deploy must leave it as it is, and change nothing; verify must name it until ``undo`` is run.
    ``harmless``: somebody's own doing. Verify must stay green, and the deploy change nothing; with ``detected_by``, a
    warning must name it.

    ``hidden``: operations that the dry run names too but that change nothing when their turn comes, because an earlier
    role has fixed what they share. ``own_docker``: on a host with Docker from its own archive. ``boots``: the host is
    rebooted after ``inject``, then ``then`` is run. ``undo_boots``: it is rebooted after ``undo``. ``alone``: never in
    a batch with others. ``sample``: part of `make test`.
    """

    name: str
    role: str
    inject: str
    detected_by: str = ""
    operations: tuple[Operation, ...] = ()
    may: tuple[Operation, ...] = ()
    refused: str = ""
    why: str = ""
    undo: str = ""
    boots: bool = False
    then: str = ""
    undo_boots: bool = False
    hidden: tuple[Operation, ...] = ()
    own_docker: bool = False
    alone: bool = False
    sample: bool = False
    stays: bool = False
    harmless: bool = False

    @property
    def detection(self) -> str:
        """The regular expression that a failed check must match."""
        return pending(self.operations[0]) if self.detected_by == DRY_RUN else self.detected_by

    @property
    def solitary(self) -> bool:
        """Whether it must be run by itself."""
        return self.alone or self.boots

    @property
    def preflight(self) -> bool:
        """Whether preflight refuses it, before any operation."""
        return bool(self.refused) and not self.operations

    @property
    def left(self) -> bool:
        """Whether the deploy is to do nothing about it."""
        return self.stays or self.harmless


Cut = Literal["kill", "network", "power"]


@dataclass(frozen=True, config=_strict)
class Interruption:
    """One place at which a first deploy is cut off, and how.

    ``start``: the snapshot of the virtual machine to start from (``tests.lab.interruptions.STAGES``), or ``container``
    for a cut that needs neither a kernel nor a power supply of its own. ``operation``: the one that must be under way.
    The cut comes ``delay`` seconds after all of these: the deploy has printed ``line`` (default: that it starts the
    operation); the guest meets ``when``, a condition in shell, as root; the guest's console shows ``console``, a
    regular expression. ``hold``: processes of the guest, by command line (a regular expression that does not match
    itself), that are stopped for some seconds as soon as they appear, where the moment would be too short.
    ``left``: what the guest must show afterwards, a regular expression over the lines of ``tests.lab.cutting.PROBE``.
    """

    name: str
    start: Literal["container", "stock", "installed", "booted", "engine"]
    cut: Cut
    operation: Operation
    line: str = ""
    when: str = ""
    console: str = ""
    delay: float = 0.0
    hold: str = ""
    left: str = ""

    @property
    def awaited(self) -> str:
        """What the deploy must have printed."""
        return self.line or f"Starting operation: {self.operation}"


@dataclass(frozen=True, config=_strict)
class Upgrade:
    """An upgrade that fails.

    ``services`` and ``data``: what the inventory asks for instead. ``says``: a regular expression over the deploy's
    output. ``before`` and ``after``: shell on the guest, as root. ``also``: operations that the old inventory must
    change back afterwards, since the new one asked for them and they are part of no release. ``machine_only``: a
    container cannot hold it, for want of a kernel and of graphics memory.
    """

    name: str
    services: tuple[dict[str, Any], ...]
    says: str
    before: str = ""
    after: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    also: tuple[Operation, ...] = ()
    machine_only: bool = False


@dataclass(frozen=True, config=_strict)
class GuestCase:
    """A guest that the steps of ``tests.lab.guests`` are run on.

    ``suite``: the system (default: the name); ``engine``: its Docker, as for ``ojai lab up --engine``. ``unmet``:
    checks (``area: name``) that its virtual machine cannot meet, and ``why``.
    """

    name: str
    suite: str = ""
    engine: str = ENGINES[0]
    unmet: tuple[str, ...] = ()
    why: str = ""

    @property
    def system(self) -> str:
        """The suite."""
        return self.suite or self.name


Case = TypeVar("Case", DriftCase, Interruption, Upgrade, GuestCase)


def load(kind: type[Case], path: Path) -> tuple[Case, ...]:
    """The cases of a file; :class:`CaseError` where one is not as ``kind`` has it."""
    document = yaml.safe_load(path.read_text())
    unknown = document.keys() - {"role", "define", "cases"}
    if unknown:
        raise CaseError(f"{path.name}: unknown key {', '.join(sorted(unknown))}")
    defined: dict[str, str] = {}
    try:
        for name, text in document.get("define", {}).items():
            defined[name] = _filled(text, defined)
    except KeyError as missing:
        raise CaseError(f"{path.name}: define: {missing} is not defined") from None
    given = {"role": document["role"]} if "role" in document else {}
    cases: dict[str, Case] = {}
    for number, entry in enumerate(document["cases"], 1):
        where = f"{path.name}: case {entry.get('name', number)!r}"
        try:
            case = TypeAdapter(kind).validate_python({**given, **_filled(entry, defined)})
        except KeyError as missing:
            raise CaseError(f"{where}: {missing} is not defined") from None
        except ValidationError as error:
            told = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise CaseError(f"{where}: {'; '.join(told)}") from None
        if case.name in cases:
            raise CaseError(f"{where}: there are two of this name")
        cases[case.name] = case
    return tuple(cases.values())


def _filled(value: Any, defined: dict[str, str]) -> Any:
    """``value`` with every ``{{NAME}}`` in its texts replaced; KeyError for a name that is not defined."""
    if isinstance(value, str):
        return re.sub(r"\{\{([A-Z_]+)\}\}", lambda found: defined[found[1]], value)
    if isinstance(value, list):
        return [_filled(entry, defined) for entry in value]
    if isinstance(value, dict):
        return {key: _filled(entry, defined) for key, entry in value.items()}
    return value


DRIFT = tuple(case for role in ROLES for case in load(DriftCase, FOLDER / "drift" / f"{role}.yaml"))
INTERRUPTIONS = load(Interruption, FOLDER / "interruptions.yaml")
UPGRADES = load(Upgrade, FOLDER / "upgrades.yaml")
GUESTS = load(GuestCase, FOLDER / "guests.yaml")

#: One a role, independent of one another and quick: what `make test` runs.
SAMPLE = tuple(case for case in DRIFT if case.sample)


def named(cases: tuple[Case, ...], name: str) -> Case:
    """The case of this name."""
    return next(case for case in cases if case.name == name)
