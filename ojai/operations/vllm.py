"""The unit of an inference server, which depends on what the host answers: group numbers, the image's digest."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from pyinfra import host
from pyinfra.api import operation

from ojai.engines.vllm import MOUNTS, Command
from ojai.facts.docker import DockerImage
from ojai.facts.files import Places
from ojai.facts.groups import Groups
from ojai.facts.ledger import Added, OwnUnits
from ojai.facts.service import SystemdUnit
from ojai.operations import Steps
from ojai.operations.files import text_file
from ojai.operations.ledger import ADDED_DIR, forget, note
from ojai.paths import UNITS, env_file

#: Where the container has TunableOp's results: on the host a folder an image, since another image invalidates them.
TUNABLEOP = MOUNTS["tunableop"]

#: From the host's group numbers and the key of its image to the command.
BuildCommand = Callable[[dict[str, int], str | None], Command]


def current_command(build_command: BuildCommand, groups: Sequence[str], image: str) -> Command:
    """The command as this host has it now: numbers looked up here, never written down."""
    numbers = {name: group.gid for name, group in host.get_fact(Groups, names=tuple(groups)).items()}
    found = host.get_fact(DockerImage, reference=image)
    if len(numbers) < len(set(groups)):
        numbers = {}  # a group was removed, and is made again before this operation's turn
    return build_command(numbers, found.key if found else None)


@operation()
def unit(
    path: str, groups: Sequence[str], image: str, build_command: BuildCommand, render_unit: Callable[[Command], str]
) -> Steps:
    """The unit file at ``path`` has ``render_unit``'s text for the command that ``build_command`` gives on this host.

    The folder for TunableOp's results of this image is made with it. The unit's name is noted for removal.
    """
    command = current_command(build_command, groups, image)
    name = path.rsplit("/", 1)[-1]
    # Worked out first, so that --diff shows it: while it only looks, pyinfra stops at the first step.
    changes = list(text_file._inner(path=path, text=render_unit(command)))
    if name not in host.get_fact(Added, directory=ADDED_DIR, kind="units"):
        yield note("units", [name])
    for outside, inside in command.mounts.items():
        if inside == TUNABLEOP and outside not in host.get_fact(Places, paths=(outside,)):
            yield f"install -d -m 755 {shlex.quote(outside)}"
    yield from changes


@operation()
def stopped(keep: Sequence[str]) -> Steps:
    """Units that an earlier run made and the inventory no longer names are stopped, so that their ports and memory are
    free. They stay until :func:`retired`: should what replaces them fail, they are started again."""
    old = [name for name in host.get_fact(OwnUnits, directory=ADDED_DIR) if name not in keep]
    up = [name for name in old if host.get_fact(SystemdUnit, unit=name).active not in ("inactive", "failed")]
    for name in up:
        yield f"systemctl stop {shlex.quote(name)}"
    if not up:
        host.noop("none of them runs")


@operation()
def removed(keep: Sequence[str]) -> Steps:
    """Units that an earlier run made and the inventory no longer names are stopped and gone; ``keep`` stay."""
    old = [name for name in host.get_fact(OwnUnits, directory=ADDED_DIR) if name not in keep]
    for name in old:
        stem = name.removesuffix(".service")
        yield f"! systemctl cat {shlex.quote(name)} >/dev/null 2>&1 || systemctl disable --now {shlex.quote(name)}"
        yield f"rm -rf {UNITS}/{shlex.quote(name)} {UNITS}/{shlex.quote(name)}.d {shlex.quote(env_file(stem))}"
    if old:
        yield "systemctl daemon-reload"
        yield f"systemctl reset-failed {shlex.join(old)} 2>/dev/null || true"
        yield forget("units", old)
    else:
        host.noop("no unit is left over")
