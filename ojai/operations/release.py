"""Healthy releases: kept when a deploy has ended well, put back when a later one has not.

pyinfra has nothing of the kind: a failed operation leaves the host as it stood at that moment.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai.facts.files import Existing
from ojai.facts.ledger import OwnUnits
from ojai.facts.release import Releases, ReleaseState
from ojai.facts.service import ServerEndpoint
from ojai.operations import Steps
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, forget, note, noted
from ojai.operations.progress import ask, complain, connector_arguments, refuse, say
from ojai.operations.service import wait_until_ready
from ojai.paths import SCHEMA, UNITS
from ojai.releases import FOLDER, PENDING_ROLLBACK, SLOTS, Contents, Release, Released, Serving, Slot, tag, to_json

_RESTORED, _REPLACED = "restored", "replaced"

#: Stands for the host's own time until its shell fills it in.
_WHEN = "@now@"


def _asked(services: Sequence[Serving]) -> tuple[tuple[str, str], ...]:
    return tuple((service.name, service.image) for service in services)


def _now(services: Sequence[Serving], found: Releases) -> tuple[Released, ...]:
    return tuple(Released(service, found.now.get(service.name, Contents())) for service in services)


@operation()
def snapshot(services: Sequence[Serving]) -> Steps:
    """What the host serves now is kept as its healthy release; the one before it is kept as ``previous``.

    To be called once every service is seen to serve. An image that only an older release used is removed,
    if it was pulled for one.
    """
    found = host.get_fact(ReleaseState, services=_asked(services))
    now = _now(services, found)
    healthy, previous = found.kept.get("healthy"), found.kept.get("previous")
    if healthy and healthy.same_as(now) and found.held("healthy"):
        if found.pending:  # a way back that was cut off, and is over
            yield f"rm -f {PENDING_ROLLBACK}"
        else:
            host.noop(f"kept: {healthy.told()}")
        return
    release = Release(kept=_WHEN, services=now, schema=SCHEMA)
    turn = healthy is not None and not healthy.same_as(now)
    lines = [
        "set -eu; umask 022",
        f"mkdir -p {STATE_DIR}; install -d -m 700 -o root -g root {FOLDER}; cd {FOLDER}; rm -rf new",
        "install -d -m 700 -o root -g root new",
    ]
    for released in now:
        service, name = released.serving, shlex.quote(released.serving.name)
        lines += [
            f"install -m 600 {shlex.quote(service.unit_file)} new/{name}.unit",
            f"install -m 600 {shlex.quote(service.env_file)} new/{name}.env",
            f"docker tag {shlex.quote(released.contents.image_id)} {shlex.quote(tag(service.name, 'healthy'))}",
        ]
    lines += [
        f'printf %s {shlex.quote(to_json(release))} | sed "s/{_WHEN}/$(date -u +%FT%TZ)/" > new/release.json',
        "sync new/* new",
    ]
    if turn and healthy:
        lines += [
            f"docker tag {shlex.quote(r.contents.image_id)} {shlex.quote(tag(r.serving.name, 'previous'))} || true"
            for r in healthy.services
        ]
        lines.append("rm -rf previous; mv healthy previous")
        if previous:
            lines += _dropped(previous, (*now, *healthy.services))
    else:
        lines.append("rm -rf healthy")
    lines.append(f"mv new healthy; rm -f {PENDING_ROLLBACK}; sync .")
    yield "\n".join(lines)


def _dropped(release: Release, others: Sequence[Released]) -> list[str]:
    """Shell that lets go of the images of a release that is no longer kept, where no other one has them."""
    images = {r.serving.image for r in others}
    names = {r.serving.name for r in others}
    gone = sorted(map(shlex.quote, {r.serving.image for r in release.services} - images))
    tags = sorted({tag(r.serving.name, "previous") for r in release.services if r.serving.name not in names})
    return [f"! {{ {noted('images', name)}; }} || docker image rm {name} >/dev/null 2>&1 || true" for name in gone] + [
        f"docker image rm {shlex.quote(name)} >/dev/null 2>&1 || true" for name in tags
    ]


def _read(host: Host, services: Sequence[Serving]) -> Releases:
    """The fact, read while an operation runs: what was read before is out of date by now."""
    fact = ReleaseState()
    success, output = ask(host, fact.command(services=_asked(services)), **connector_arguments(host))
    return fact.process(output.stdout_lines) if success else Releases()


def _ours(host: Host) -> tuple[str, ...]:
    """Every unit of ours on this host, now."""
    fact = OwnUnits()
    success, output = ask(host, fact.command(directory=ADDED_DIR), **connector_arguments(host))
    return fact.process(output.stdout_lines) if success else ()


def restoring(release: Release, slot: Slot, units: Sequence[str]) -> str:
    """Shell that makes the host's services those of a kept release. It prints ``restored UNIT`` for each that was
    changed, and ``replaced PATH`` where another environment file was in the way and is kept now.

    ``units``: all units of ours. What the release has not is stopped and goes. A file or image that is already the
    release's stays, and a service of which nothing changed is only started if it is down. Images come first: without
    one of them nothing else is touched. After one that was cut off, every service is started anew.
    """
    mine = {released.serving.unit for released in release.services}
    lines = [
        f"set -eu; again=; ! test -e {PENDING_ROLLBACK} || again=yes",
        f"printf %s {shlex.quote(release.kept)} > {PENDING_ROLLBACK}.new; sync {PENDING_ROLLBACK}.new; "
        f"mv {PENDING_ROLLBACK}.new {PENDING_ROLLBACK}",
    ]
    for number, released in enumerate(release.services):
        service, contents = released.serving, released.contents
        image, image_id = shlex.quote(service.image), shlex.quote(contents.image_id)
        fetch = f"docker pull --quiet {shlex.quote(contents.digest)} >&2" if contents.digest else "false"
        # A name with a digest in it cannot be given to an image; it is pulled by that name.
        name = f"docker pull --quiet {image} >&2" if "@" in service.image else f"docker tag {image_id} {image}"
        lines += [
            f"changed{number}=$again",
            f"if [ \"$(docker image inspect --format '{{{{.Id}}}}' {image} 2>/dev/null)\" != {image_id} ]; then "
            f"docker image inspect {image_id} >/dev/null 2>&1 || {fetch}; {name}; changed{number}=yes; fi",
        ]
    for unit in sorted(set(units) - mine):
        word, place = shlex.quote(unit), f"{UNITS}/{shlex.quote(unit)}"
        lines.append(
            f"if test -e {place}; then systemctl disable --now {word} >/dev/null 2>&1 || true; rm -f {place}; "
            f"echo {_RESTORED} {word}; fi; {forget('units', [unit])}"
        )
    for number, released in enumerate(release.services):
        service = released.serving
        kept, replaced = f"{FOLDER}/{slot}/{shlex.quote(service.name)}", f"{FOLDER}/{shlex.quote(service.name)}.env"
        lines.append(
            f"! test -e {shlex.quote(service.env_file)} || cmp -s {kept}.env {shlex.quote(service.env_file)} || "
            f"{{ install -m 600 {shlex.quote(service.env_file)} {replaced}; echo {_REPLACED} {replaced}; }}"
        )
        for file, suffix, mode in ((service.unit_file, "unit", "644"), (service.env_file, "env", "600")):
            place, new = shlex.quote(file), shlex.quote(f"{file}.ojai-new")
            lines.append(
                f"cmp -s {kept}.{suffix} {place} || {{ mkdir -p {shlex.quote(file.rsplit('/', 1)[0])}; "
                f"install -m {mode} -o root -g root {kept}.{suffix} {new}; sync {new}; mv -fT {new} {place}; "
                f"changed{number}=yes; }}"
            )
    if mine:
        lines.append(note("units", sorted(mine)))
    lines.append("systemctl daemon-reload")
    for number, released in enumerate(release.services):
        word = shlex.quote(released.serving.unit)
        lines += [
            f"systemctl enable --quiet {word}; systemctl reset-failed {word} 2>/dev/null || true",
            f'if [ -n "$changed{number}" ]; then systemctl restart {word}; echo {_RESTORED} {word}; '
            f"elif ! systemctl is-active --quiet {word}; then systemctl start {word}; echo {_RESTORED} {word}; fi",
        ]
    return "\n".join(lines)


def _put_back(state: State, host: Host, release: Release, slot: Slot) -> tuple[bool, bool]:
    """Make the host serve a kept release again. Returns whether it serves, and whether anything had to be changed."""
    success, output = ask(host, restoring(release, slot, _ours(host)), **connector_arguments(host))
    changed = any(line.startswith(_RESTORED) for line in output.stdout_lines)
    for line in output.stdout_lines:
        if line.startswith(_REPLACED):
            say(host, f"the environment file that was there is kept as {line.removeprefix(_REPLACED).strip()}")
    if not success:
        complain(host, f"{release.told()} could not be put back:\n" + "\n".join(output.output_lines[-10:]))
        return False, changed
    for released in release.services:
        service = released.serving
        if not wait_until_ready(
            state, host, service.unit, service.port, service.model, service.timeout, service.address
        ):
            return False, changed
    return True, changed


def _arrived(host: Host) -> None:
    """The host serves the release that it was put back to."""
    ask(host, f"rm -f {PENDING_ROLLBACK}", **connector_arguments(host))


def _serves(host: Host, serving: Serving) -> bool:
    """Whether it does, at this moment."""
    fact = ServerEndpoint()
    command = fact.command(port=serving.port, container=serving.name, address=serving.address)
    success, output = ask(host, command, **connector_arguments(host))
    return success and fact.process(output.stdout_lines).serves(serving.model)


def report_unchanged(state: State, host: Host, services: Sequence[Serving]) -> None:
    """After a step has failed before anything that serves was touched: say so, if the healthy release does serve."""
    healthy = _read(host, services).kept.get("healthy")
    if healthy is None or not all(_serves(host, released.serving) for released in healthy.services):
        roll_back(state, host, services)
        return
    complain(
        host,
        f"{healthy.told()} still serves: nothing of it was touched. What to do: mend the cause named above, then run "
        "the deploy again.",
    )


def roll_back(state: State, host: Host, services: Sequence[Serving]) -> None:
    """After a step of an upgrade has failed: put back the release that was healthy before, and say what serves now.

    ``services``: those that the inventory asks for. The step itself has said what failed.
    """
    if not ask(host, "true", **connector_arguments(host))[0]:
        complain(host, "The host does not answer: nothing can be put back now. The next deploy finishes this one.")
        return
    healthy = _read(host, services).kept.get("healthy")
    if healthy is None:
        complain(
            host,
            "No release has been healthy on this host yet: there is none to go back to. What to do: mend the cause "
            "named above, then run the deploy again.",
        )
        return
    say(host, f"going back to {healthy.told()} …")
    serves, changed = _put_back(state, host, healthy, "healthy")
    if serves:
        _arrived(host)
    if serves and changed:
        complain(
            host,
            f"The upgrade failed and was taken back: {healthy.told()} serves again, as before. What to do: mend the "
            "cause named above, or set the inventory back; then run the deploy again.",
        )
    elif serves:
        complain(
            host,
            f"{healthy.told()} still serves: no unit, environment file or image was changed. What to do: mend the "
            "cause named above, then run the deploy again.",
        )
    else:
        complain(
            host,
            f"{healthy.told()} does not serve either: what changed is not in a release (the machine itself, its "
            "kernel, memory, disk, or another program). What to do: mend the cause named above, then run the deploy.",
        )


def go_back(state: State, host: Host, slot: Slot) -> bool:
    """Make the host serve the release in ``slot``; the two kept ones change places when that is the earlier one."""
    release = _read(host, ()).kept.get(slot)
    if release is None:
        complain(host, f"the release kept as {slot} is gone since this run began")
        return False
    serves, _ = _put_back(state, host, release, slot)
    if not serves:
        complain(host, f"{release.told()} does not serve. What to do: see the cause above.")
        healthy = _read(host, ()).kept.get("healthy")
        if slot == "previous" and healthy:
            say(host, f"going back to {healthy.told()} …")
            if _put_back(state, host, healthy, "healthy")[0]:
                _arrived(host)
                complain(host, f"{healthy.told()} serves again, as before.")
        return False
    if slot == "previous":
        script = f"set -eu; cd {FOLDER}; rm -rf new; mv previous new; ! test -e healthy || mv healthy previous\n"
        for name in sorted({released.serving.name for released in release.services}):
            old, new = shlex.quote(tag(name, "healthy")), shlex.quote(tag(name, "previous"))
            script += f"! docker image inspect {old} >/dev/null 2>&1 || docker tag {old} {new}\n"
        for released in release.services:
            script += f"docker tag {shlex.quote(released.contents.image_id)} "
            script += f"{shlex.quote(tag(released.serving.name, 'healthy'))}\n"
        success, output = ask(host, f"{script}mv new healthy; sync .", **connector_arguments(host))
        if not success:
            complain(host, "it serves, but could not be noted as the healthy release:\n" + output.stderr)
            return False
    _arrived(host)
    say(host, f"{release.told()} serves. The next deploy brings what the inventory asks for: set that back too.")
    return True


@operation()
def restored() -> Steps:
    """The last release that was healthy, and is not what the host has now, serves again. Refuses where none is kept."""
    found = host.get_fact(ReleaseState, services=())
    kept = found.kept
    healthy = kept.get("healthy")
    # One that was cut off goes on to where it was going.
    slot: Slot = next((name for name in SLOTS if name in kept and kept[name].kept == found.pending), "healthy")
    if healthy and not found.pending:
        mine = [released.serving for released in healthy.services]
        now = _now(mine, host.get_fact(ReleaseState, services=_asked(mine)))
        units = host.get_fact(OwnUnits, directory=ADDED_DIR)
        if healthy.same_as(now) and set(units) == {service.unit for service in mine}:
            slot = "previous"
    if slot not in kept:
        there = f"the release on the host is the only one kept ({healthy.told()})" if healthy else "none is kept"
        yield refuse(
            f"rollback: found no release to go back to: {there}; expected: one that was healthy before. A release is "
            "kept whenever a deploy ends with all services healthy. What to do: set the inventory back and deploy."
        )
        return
    yield FunctionCommand(go_back, (slot,), {})


@operation()
def releases_removed() -> Steps:
    """No release is kept any more, and no image is held by one."""
    found = host.get_fact(ReleaseState, services=())
    if host.get_fact(Existing, paths=(FOLDER,)):
        for name in sorted(found.tags):
            yield f"docker image rm --force {shlex.quote(name)} >/dev/null 2>&1 || true"
        yield f"rm -rf {FOLDER}"
    else:
        host.noop("none is kept")
