"""The unit of an inference server, which depends on what the host answers: group numbers, the image's digest."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from pyinfra import host
from pyinfra.api import operation

from ojai import accelerators
from ojai.engines import ResolvedService
from ojai.facts.docker import DockerImage
from ojai.facts.files import Places, SecretFiles
from ojai.facts.groups import Groups
from ojai.facts.hardening import HostBounds
from ojai.facts.ledger import Added, OwnUnits
from ojai.facts.service import SystemdUnit
from ojai.operations import Steps, steps_or_noop
from ojai.operations.files import text_file
from ojai.operations.ledger import ADDED_DIR, forget, note
from ojai.operations.weights import revisions
from ojai.paths import UNITS, env_file, secrets_folder


def on_this_host(service: ResolvedService) -> ResolvedService:
    """The service with this host's group numbers, its image's key, its models' commits, and a hardened one's bounds:
    all looked up here, never written down."""
    groups = service.profile.docker.groups
    numbers = {name: group.gid for name, group in host.get_fact(Groups, names=groups).items()}
    found = host.get_fact(DockerImage, reference=service.image)
    if len(numbers) < len(set(groups)):
        numbers = {}  # a group was removed, and is created again before this operation's turn
    key, commits = found.key if found else None, revisions(service)
    if not service.hardened:
        return service.on_host(numbers, key, commits)
    bounds = host.get_fact(HostBounds)
    version = accelerators.load(service.accelerator).gfx_target_version
    return service.on_host(numbers, key, commits, bounds.render_nodes.get(version), bounds.memory_total)


def argv(service: ResolvedService) -> tuple[str, ...]:
    """What the service's container runs on this host, after its image."""
    return on_this_host(service).command.engine_argv


@operation()
def unit(service: ResolvedService, render_unit: Callable[[ResolvedService], str]) -> Steps:
    """The unit file of ``service`` has the text that ``render_unit`` gives for it on this host.

    The folders that belong to its image are created with it. The unit's name is noted for removal.
    """
    service = on_this_host(service)
    # Worked out first, so that --diff shows it: while it only looks, pyinfra stops at the first step.
    changes = list(text_file._inner(path=service.unit_file, text=render_unit(service)))
    if service.unit not in host.get_fact(Added, directory=ADDED_DIR, kind="units"):
        yield note("units", [service.unit])
    for directory in service.command.image_directories:
        if directory not in host.get_fact(Places, paths=(directory,)):
            yield f"install -d -m 755 {shlex.quote(directory)}"
    yield from changes


@operation()
def stopped(keep: Sequence[str]) -> Steps:
    """Units that an earlier run made and the inventory no longer names are stopped, so that their ports and memory are
    free. They stay until :func:`removed`: should what replaces them fail, they are started again."""
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
        secret = shlex.join([env_file(stem), secrets_folder(stem)])
        yield f"rm -rf {UNITS}/{shlex.quote(name)} {UNITS}/{shlex.quote(name)}.d {secret}"
    if old:
        yield "systemctl daemon-reload"
        yield f"systemctl reset-failed {shlex.join(old)} 2>/dev/null || true"
        yield forget("units", old)
        # One of the owner's that is kept is put back at removal, when nothing of ours is there.
        yield forget("files", [f"{UNITS}/{name}" for name in old])
    else:
        host.noop("no unit is left over")


@operation()
def secrets_removed(keep: Sequence[str]) -> Steps:
    """Secrets in files of their own that the inventory no longer names are gone, with their folder.

    + keep: the files that stay
    """
    gone = [path for path in host.get_fact(SecretFiles) if path not in keep]
    steps = [
        f"rm -f {shlex.quote(path)}; rmdir {shlex.quote(path.rpartition('/')[0])} 2>/dev/null || true" for path in gone
    ]
    yield from steps_or_noop(steps, "none is left over")
