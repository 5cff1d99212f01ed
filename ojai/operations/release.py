"""Releases: saved when a deploy has ended with every service healthy, restored when a later one fails.

pyinfra has nothing of the kind: a failed operation leaves the host as it was at that moment.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation

from ojai import gateway
from ojai.facts import script
from ojai.facts.files import Existing
from ojai.facts.ledger import OwnUnits
from ojai.facts.release import Releases, ReleaseState
from ojai.facts.service import ServerEndpoint
from ojai.operations import Steps
from ojai.operations.adoption import give_back
from ojai.operations.apt import moved
from ojai.operations.docker import delete_image
from ojai.operations.ledger import ADDED_DIR, STATE_DIR, forget, note, noted
from ojai.operations.progress import ask, complain, connector_arguments, read, refuse, say
from ojai.operations.service import wait_until_ready
from ojai.paths import SCHEMA, UNITS
from ojai.releases import FOLDER, PENDING_ROLLBACK, SLOTS, Contents, Release, Released, Serving, Slot, tag, to_json

#: Replaced by the host's own time.
_WHEN = "@now@"

_FIX = "What to do: fix the failure reported above, then run the deploy again."


def _names_and_images(services: Sequence[Serving]) -> tuple[tuple[str, str], ...]:
    return tuple((service.name, service.image) for service in services)


def _now(services: Sequence[Serving], found: Releases) -> tuple[Released, ...]:
    return tuple(Released(service, found.now.get(service.name, Contents())) for service in services)


@operation()
def snapshot(services: Sequence[Serving]) -> Steps:
    """Save what the host serves as its healthy release, and the one before it as ``previous``.

    Call it after every service has become ready. An image that only an older release used is removed if it was pulled
    for one.

    + services: all services of the host
    """
    found = host.get_fact(ReleaseState, services=_names_and_images(services))
    now = _now(services, found)
    healthy, previous = found.kept.get("healthy"), found.kept.get("previous")
    if healthy and healthy.same_as(now) and found.held("healthy"):
        if found.pending:  # of a rollback that was interrupted after it had succeeded
            yield f"rm -f {PENDING_ROLLBACK}"
        else:
            host.noop(f"saved: {healthy.summary()}")
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
    """Shell that removes the images of a release that is no longer saved, unless another one has them."""
    images = {r.serving.image for r in others}
    names = {r.serving.name for r in others}
    gone = sorted({r.serving.image for r in release.services} - images)
    tags = sorted({tag(r.serving.name, "previous") for r in release.services if r.serving.name not in names})
    return [
        f"! {{ {noted('images', shlex.quote(name))}; }} || {{ {delete_image(name, '')}; }} >/dev/null 2>&1 || true"
        for name in gone
    ] + [f"docker image rm {shlex.quote(name)} >/dev/null 2>&1 || true" for name in tags]


_RESTORE = r"""
set -eu
# After a rollback that was interrupted, nobody knows how far it came: every service is restarted.
restart_all=
[ ! -e "$pending" ] || restart_all=yes
printf %s "$kept" > "$pending.new"
sync "$pending.new"
mv "$pending.new" "$pending"
changed=' '

# unit, image name, image id, digest (may be empty): the name is that image.
restore_image() {
  [ "$(docker image inspect --format '{{.Id}}' "$2" 2>/dev/null)" != "$3" ] || return 0
  image=$3
  docker image inspect "$image" >/dev/null 2>&1 || {
    [ -n "$4" ] || { echo "$2: the host does not have this image any more, and no registry gave it" >&2; exit 1; }
    docker pull --quiet "$4" >&2
    # An image's id depends on the store that Docker keeps it in, its digest does not.
    docker image inspect "$image" >/dev/null 2>&1 || image=$4
  }
  # A name with a digest cannot be given to an image, only pulled.
  case $2 in
    *@*) docker pull --quiet "$2" >&2;;
    *) docker tag "$image" "$2";;
  esac
  changed="$changed$1 "
}

# unit: it is not part of the release.
remove_unit() {
  [ -e "$units/$1" ] || return 0
  systemctl disable --now "$1" >/dev/null 2>&1 || true
  rm -f "$units/$1"
  echo "restored $1"
}

# service, environment file: a copy is kept of one that is not the release's.
keep_environment() {
  [ -e "$2" ] || return 0
  cmp -s "$folder/$slot/$1.env" "$2" || { install -m 600 "$2" "$folder/$1.env"; echo "replaced $folder/$1.env"; }
}

# unit, file of the release, its place, mode
restore_file() {
  ! cmp -s "$folder/$slot/$2" "$3" || return 0
  mkdir -p "${3%/*}"
  install -m "$4" -o root -g root "$folder/$slot/$2" "$3.ojai-new"
  sync "$3.ojai-new"
  mv -fT "$3.ojai-new" "$3"
  changed="$changed$1 "
}

# enable or disable: the gateway is there as the release had it.
gateway() {
  [ -e "$units/%GATEWAY%" ] || return 0
  case $1-$(systemctl is-active %GATEWAY%) in enable-active | disable-inactive) return 0;; esac
  systemctl reset-failed %GATEWAY% 2>/dev/null || true
  systemctl "$1" --quiet --now %GATEWAY% %TIMER%
  echo "restored %GATEWAY%"
}

# unit
start() {
  systemctl enable --quiet "$1"
  systemctl reset-failed "$1" 2>/dev/null || true
  case "$restart_all$changed" in
    yes* | *" $1 "*) systemctl restart "$1"; echo "restored $1";;
    *) systemctl is-active --quiet "$1" || { systemctl start "$1"; echo "restored $1"; };;
  esac
}
""".replace("%GATEWAY%", gateway.UNIT).replace("%TIMER%", gateway.RENEWAL_TIMER)


def restoring(release: Release, slot: Slot, units: Sequence[str]) -> str:
    """Shell that makes the host's services those of a saved release.

    It prints ``restored UNIT`` for each service that was changed, and ``replaced PATH`` for an environment file that
    was not the release's and is kept there. Images come first: if one is missing, nothing else is touched. Files and
    images that are the release's already stay, and a service without a change is only started if it is down.

    + release, slot: the release, and where it is saved
    + units: all units of ours; those that are not in the release are stopped and removed
    """
    mine = {released.serving.unit for released in release.services}
    calls: list[Sequence[str]] = [
        ("restore_image", r.serving.unit, r.serving.image, r.contents.image_id, r.contents.digest)
        for r in release.services
    ]
    lines = [*map(shlex.join, calls)]
    for unit in sorted(set(units) - mine):
        lines += [shlex.join(["remove_unit", unit]), forget("units", [unit])]
    for service in (released.serving for released in release.services):
        calls = [
            ("keep_environment", service.name, service.env_file),
            ("restore_file", service.unit, f"{service.name}.unit", service.unit_file, "644"),
            ("restore_file", service.unit, f"{service.name}.env", service.env_file, "600"),
        ]
        lines += map(shlex.join, calls)
    if mine:
        lines.append(note("units", sorted(mine)))
    lines.append("systemctl daemon-reload")
    lines += [shlex.join(["start", released.serving.unit]) for released in release.services]
    lines.append(f"gateway {'enable' if release.guarded else 'disable'}")
    variables = {"folder": FOLDER, "slot": slot, "pending": PENDING_ROLLBACK, "kept": release.kept, "units": UNITS}
    return script("\n".join([_RESTORE, *lines]), **variables)


def _missing(release: Release, lost: Mapping[str, str]) -> str:
    """Which images of a release the host does not show, and why: a sentence, empty without any."""
    names: dict[str, list[str]] = {}
    for released in release.services:
        if released.contents.image_id in lost:
            names.setdefault(lost[released.contents.image_id], []).append(released.serving.image)
    parts = [
        f"{', '.join(dict.fromkeys(images))} is in the store {store!r}, where Docker does not look any more since it "
        f"keeps images in {'containerd' if store == 'overlay2' else 'Docker'}'s store"
        if store
        else f"{', '.join(dict.fromkeys(images))} was removed from the host"
        for store, images in names.items()
    ]
    return "; ".join(parts)


def _restore(state: State, host: Host, found: Releases, slot: Slot) -> tuple[bool, bool]:
    """Make the host serve a saved release again. Returns whether it serves, and whether anything was changed."""
    release = found.kept[slot]
    missing = _missing(release, found.lost)
    if missing:
        say(host, f"{missing}: pulled again by its digest …")
    units = read(host, OwnUnits(), directory=ADDED_DIR)
    success, output = ask(host, restoring(release, slot, units), **connector_arguments(host))
    changed = any(line.startswith("restored ") for line in output.stdout_lines)
    for line in output.stdout_lines:
        if line.startswith("replaced "):
            say(host, f"the previous environment file is kept as {line.removeprefix('replaced ').strip()}")
    if not success:
        why = f" ({missing})" if missing else ""
        complain(host, f"{release.summary()} could not be restored{why}:\n" + "\n".join(output.output_lines[-10:]))
        return False, changed
    for released in release.services:
        service = released.serving
        if not wait_until_ready(
            state,
            host,
            service.unit,
            service.port,
            service.model,
            service.timeout,
            service.address,
            service.health,
            service.models,
        ):
            return False, changed
    return True, changed


def _completed(host: Host) -> None:
    """The rollback is no longer pending."""
    ask(host, f"rm -f {PENDING_ROLLBACK}", **connector_arguments(host))


def _serves(host: Host, serving: Serving) -> bool:
    """Whether it serves at this moment."""
    where = {name: getattr(serving, name) for name in ("port", "address", "health", "models")}
    endpoint = read(host, ServerEndpoint(), container=serving.name, **where)
    return endpoint.serves(serving.model)


def _saved(host: Host, services: Sequence[Serving] = ()) -> Releases:
    """The saved releases, read while an operation runs: what was read before is out of date by now."""
    return read(host, ReleaseState(), services=_names_and_images(services))


def report_unchanged(state: State, host: Host, services: Sequence[Serving]) -> None:
    """After a step has failed before anything that serves was touched: say so, if the healthy release does serve."""
    healthy = _saved(host, services).kept.get("healthy")
    if healthy is None or not all(_serves(host, released.serving) for released in healthy.services):
        roll_back(state, host, services)
        return
    _say_moved(host)
    if not healthy.guarded:  # the gateway was to come before it
        stop = f"systemctl disable --quiet --now {gateway.UNIT} {gateway.RENEWAL_TIMER} 2>/dev/null"
        ask(host, f"! test -e {UNITS}/{gateway.UNIT} || {stop} || true", **connector_arguments(host))
    complain(host, f"{healthy.summary()} still serves: nothing of it was touched. {_FIX}")


def _say_moved(host: Host) -> None:
    """Packages are no part of a release: how those that this run replaced would be put back."""
    if before := moved.get(host.name):
        words = shlex.join(f"{name}={version}" for name, version in sorted(before.items()))
        complain(
            host,
            f"Packages that this run replaced stay as they are. They can be put back, on the host, by: sudo apt-get "
            f"install --allow-downgrades {words}",
        )


def roll_back(state: State, host: Host, services: Sequence[Serving]) -> None:
    """After a step of an upgrade has failed: restore the release that was healthy before, and say what serves now.

    The step itself has reported what failed.

    + services: those that the inventory asks for
    """
    if not ask(host, "true", **connector_arguments(host))[0]:
        complain(
            host, "The host does not answer, so nothing can be rolled back now. The next deploy completes this one."
        )
        return
    _say_moved(host)
    found = _saved(host, services)
    healthy = found.kept.get("healthy")
    if healthy is None:
        if not give_back(state, host):
            complain(host, f"No release has been healthy on this host yet, so there is none to roll back to. {_FIX}")
        return
    say(host, f"rolling back to {healthy.summary()} …")
    serves, changed = _restore(state, host, found, "healthy")
    if serves:
        _completed(host)
    if serves and changed:
        complain(
            host,
            f"The upgrade failed and was rolled back: {healthy.summary()} serves again, as before. What to do: fix the "
            "failure reported above, or revert the inventory; then run the deploy again.",
        )
    elif serves:
        complain(host, f"{healthy.summary()} still serves: no unit, environment file or image was changed. {_FIX}")
    else:
        complain(
            host,
            f"{healthy.summary()} does not serve either, so the cause is not part of a release (the machine itself, "
            f"its kernel, memory, disk, or another program). {_FIX}",
        )


def restore(state: State, host: Host, slot: Slot) -> bool:
    """Make the host serve the release in ``slot``. If that is ``previous``, the two saved releases change places."""
    found = _saved(host)
    release = found.kept.get(slot)
    if release is None:
        complain(host, f"the release saved as {slot} is gone since this run began")
        return False
    serves, _ = _restore(state, host, found, slot)
    if not serves:
        complain(host, f"{release.summary()} does not serve; the failure is reported above.")
        found = _saved(host)
        healthy = found.kept.get("healthy")
        if slot == "previous" and healthy:
            say(host, f"rolling back to {healthy.summary()} …")
            if _restore(state, host, found, "healthy")[0]:
                _completed(host)
                complain(host, f"{healthy.summary()} serves again, as before.")
        return False
    if slot == "previous" and not _swap(host, release):
        return False
    _completed(host)
    say(host, f"{release.summary()} serves. The next deploy applies the inventory again: revert that too.")
    return True


def _swap(host: Host, release: Release) -> bool:
    """Save ``release``, which is ``previous``, as the healthy one, and the other way round."""
    lines = [f"set -eu; cd {FOLDER}; rm -rf new; mv previous new; ! test -e healthy || mv healthy previous"]
    for name in sorted({released.serving.name for released in release.services}):
        old, new = shlex.quote(tag(name, "healthy")), shlex.quote(tag(name, "previous"))
        lines.append(f"! docker image inspect {old} >/dev/null 2>&1 || docker tag {old} {new}")
    for released in release.services:
        # By its name, which is the release's image now: the store may have given it another id.
        lines.append(shlex.join(["docker", "tag", released.serving.image, tag(released.serving.name, "healthy")]))
    lines.append("mv new healthy; sync .")
    success, output = ask(host, "\n".join(lines), **connector_arguments(host))
    if not success:
        complain(host, "it serves, but could not be saved as the healthy release:\n" + output.stderr)
    return success


@operation()
def restored() -> Steps:
    """Roll back to the last healthy release that is not what the host has now. Refused without one."""
    found = host.get_fact(ReleaseState, services=())
    kept = found.kept
    healthy = kept.get("healthy")
    # A rollback that was interrupted is completed.
    slot: Slot = next((name for name in SLOTS if name in kept and kept[name].kept == found.pending), "healthy")
    if healthy and not found.pending:
        mine = [released.serving for released in healthy.services]
        now = _now(mine, host.get_fact(ReleaseState, services=_names_and_images(mine)))
        units = host.get_fact(OwnUnits, directory=ADDED_DIR)
        if healthy.same_as(now) and set(units) == {service.unit for service in mine}:
            slot = "previous"
    if slot not in kept:
        there = f"the release on the host is the only one ({healthy.summary()})" if healthy else "none is saved"
        yield refuse(
            f"rollback: found no release to roll back to: {there}; expected: one that was healthy before. A release is "
            "saved whenever a deploy ends with all services healthy. What to do: revert the inventory and deploy."
        )
        return
    nowhere = [r for r in kept[slot].services if r.contents.image_id in found.lost and not r.contents.digest]
    if nowhere:
        yield refuse(
            f"rollback: found no image of {kept[slot].summary()}: {_missing(kept[slot], found.lost)}; expected: one "
            "that Docker has, or that a registry gave. What to do: put its settings into the inventory and deploy."
        )
        return
    yield FunctionCommand(restore, (slot,), {})


@operation()
def releases_removed() -> Steps:
    """Delete all saved releases and the tags that hold their images."""
    found = host.get_fact(ReleaseState, services=())
    if host.get_fact(Existing, paths=(FOLDER,)):
        for name in sorted(found.tags):
            yield f"docker image rm --force {shlex.quote(name)} >/dev/null 2>&1 || true"
        yield f"rm -rf {FOLDER}"
    else:
        host.noop("none is saved")
