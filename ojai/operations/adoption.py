"""Taking over what the owner set up by hand, and giving it back.

A server is recorded under :data:`ojai.paths.ADOPTED` before anything is done to it: a folder for each container and
each unit, which counts once its file ``about`` is there. ``state`` says how far it came: ``kept``, ``stopping``,
``stopped``. Whatever happens between two steps, the next run reads it and goes on. The folder is root's alone: what a
container was made with has the owner's token in it. A secret is never an argument: it goes to Docker by standard input.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from pyinfra import host
from pyinfra.api import Host, State, operation

from ojai.facts import script
from ojai.facts.adoption import AdoptedServers
from ojai.facts.files import Existing, Places
from ojai.facts.ledger import OwnUnits
from ojai.operations import Steps, steps_or_noop
from ojai.operations.ledger import ADDED_DIR, added, note, set_aside, undo
from ojai.operations.progress import OnFailure, ask, complain, connector_arguments, read, with_progress
from ojai.paths import ADOPTED
from ojai.preflight import owner
from ojai.preflight.host import ask as ask_report
from ojai.settings import HostSettings

#: Cache folders that are used where they are, as ``name=path``.
CACHES = "caches"

#: Those of them that were renamed into our folder, as ``old=new``.
MOVED = "moved"

_SHELL = r"""
set -eu
umask 077
containers=$adopted/containers units=$adopted/units
# Of its networks what is its owner's choice, not Docker's answer.
HOST_AND_NETWORKS='"HostConfig":{{json .HostConfig}},"NetworkingConfig":{"EndpointsConfig":{{"{"}}{{$comma := ""}}'\
'{{range $net, $end := .NetworkSettings.Networks}}{{if and (ne $net "host") (ne $net "none")}}{{$comma}}{{json $net}}:'\
'{"IPAMConfig":{{json $end.IPAMConfig}},"Links":{{json $end.Links}},"Aliases":{{json $end.Aliases}},"DriverOpts":'\
'{{json $end.DriverOpts}}}{{$comma = ","}}{{end}}{{end}}{{"}"}}}'
of() { sed -n "s/^$2=//p" "$1/about"; }
# file, text: the whole text is on disk under that name, or what was there before
put() {
  printf '%s\n' "$2" > "$1.new"
  [ "$(cat "$1.new")" = "$2" ]
  sync "$1.new"; mv "$1.new" "$1"; sync "${1%/*}"
}
field() { docker container inspect --format "$2" "$1"; }
exists() { docker container inspect "$1" >/dev/null 2>&1; }
runs() { [ "$(docker container inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }

# container, unit that runs it, its new name, then pairs: file of TunableOp's, where it goes
keep_container() {
  folder=$containers/$1
  exists "$1" || return 0
  id=$(field "$1" '{{.Id}}')
  if [ -f "$folder/about" ] && [ "$(of "$folder" id)" = "$id" ]; then
    # What was recorded is how it was before anything was done to it. The owner may have started it again since.
    if runs "$id"; then
      put "$folder/about" "$(sed 's/^was=.*/was=running/' "$folder/about")"
      if [ "$(cat "$folder/state")" = stopped ]; then put "$folder/state" kept; fi
    fi
    return 0
  fi
  text=$(docker container inspect "$id")
  config=$(field "$id" '{{json .Config}}')
  rest=$(field "$id" "$HOST_AND_NETWORKS")
  about=$(field "$id" 'id={{.Id}}
image={{.Config.Image}}
image_id={{.Image}}
removes={{.HostConfig.AutoRemove}}
was={{if .State.Running}}running{{else}}exited{{end}}
restart={{or .HostConfig.RestartPolicy.Name "no"}}{{with .HostConfig.RestartPolicy.MaximumRetryCount}}:{{.}}{{end}}')
  image=$(field "$id" '{{.Image}}')
  digest=$(docker image inspect --format '{{with .RepoDigests}}{{index . 0}}{{end}}' "$image" 2>/dev/null) || digest=
  docker tag "$image" "ojai-adopted:$1" || true # nothing prunes its image meanwhile
  mkdir -p "$folder"
  about=$(printf '%s\nunit=%s\nrenamed=%s\ndigest=%s' "$about" "$2" "$3" "$digest")
  put "$folder/inspect.json" "$text"
  put "$folder/body.json" "${config%\}},$rest}"
  shift 3
  if [ $# -gt 0 ]; then put "$folder/tuned" "$(printf '%s\t%s\n' "$@")"; fi
  put "$folder/state" kept
  put "$folder/about" "$about"
}

# unit, enabled as systemd names it, active
keep_unit() {
  folder=$units/$1
  # One that is stopped by an earlier run is recorded as it was before that.
  if [ -f "$folder/about" ] && [ "$3" != active ]; then return 0; fi
  mkdir -p "$folder"
  put "$folder/state" kept
  put "$folder/about" "$(printf 'enabled=%s\nwas=%s' "$2" "$3")"
}

stop_unit() {
  put "$units/$1/state" stopping
  systemctl disable --now "$1"
  put "$units/$1/state" stopped
  echo "stopped $1"
}

stop_container() {
  folder=$containers/$1
  # The owner may have started another since, under the same name.
  keep_container "$1" "$(of "$folder" unit)" "$(of "$folder" renamed)"
  id=$(of "$folder" id) renamed=$(of "$folder" renamed)
  put "$folder/state" stopping
  if exists "$id"; then
    if [ "$(of "$folder" removes)" != true ]; then docker update --restart=no "$id" >/dev/null; fi
    if runs "$id"; then docker stop -t 120 "$id" >/dev/null; fi
    if [ "$(of "$folder" removes)" = true ]; then
      left=60; while [ "$left" -gt 0 ] && exists "$id"; do left=$((left - 1)); sleep 1; done
      if exists "$id"; then echo "the container $1 was stopped and is still there" >&2; exit 1; fi
    elif [ -n "$renamed" ] && [ "$(field "$id" '{{.Name}}')" != "/$renamed" ]; then
      docker rename "$id" "$renamed"
    fi
  fi
  copy_tuned "$folder"
  put "$folder/state" stopped
  echo "stopped $1"
}

# Only when it has stopped, which is when TunableOp writes.
copy_tuned() {
  [ -f "$1/tuned" ] || return 0
  tab=$(printf '\t')
  while IFS=$tab read -r from to; do
    # One that is there already is our own server's, and newer.
    if [ -f "$from" ] && [ ! -e "$to" ]; then
      (umask 022; mkdir -p "${to%/*}")
      cp "$from" "$to.new"; chmod 644 "$to.new"; sync "$to.new"; mv "$to.new" "$to"
    fi
  done < "$1/tuned"
}

# container: one as it was recorded
create() {
  folder=$containers/$1
  body=$(cat "$folder/body.json") image=$(of "$folder" image_id)
  if [ "$(docker image inspect --format '{{.Id}}' "$(of "$folder" image)" 2>/dev/null)" != "$image" ]; then
    # Its name is another image by now, or none. Of two members of one name, Docker takes the last.
    if ! docker image inspect "$image" >/dev/null 2>&1; then
      digest=$(of "$folder" digest)
      if [ -z "$digest" ]; then echo "$1: its image is gone, and came from no registry: $image" >&2; return 1; fi
      docker pull --quiet "$digest" >&2
      image=$digest
    fi
    body="${body%\}},\"Image\":\"$image\"}"
  fi
  answer=$(printf '%s' "$body" | curl -q --noproxy '*' --silent --show-error --unix-socket /run/docker.sock \
    --header 'Content-Type: application/json' --data-binary @- --write-out '\n%{http_code}' \
    "http://localhost/containers/create?name=$1")
  case $answer in *201) ;; *) echo "Docker does not create it: $answer" >&2; return 1;; esac
}

# container: it is again as it was recorded. One of its name that is there is the owner's, or of an interrupted run;
# one that a unit runs is started by that.
bring_back() {
  folder=$containers/$1 id=$(of "$containers/$1" id) unit=$(of "$containers/$1" unit)
  if exists "$id"; then
    if [ "$(field "$id" '{{.Name}}')" != "/$1" ]; then docker rename "$id" "$1"; fi
    restart=$(of "$folder" restart)
    if [ "$restart" != no ]; then docker update --restart="$restart" "$id" >/dev/null; fi
  elif [ -z "$unit" ] && ! exists "$1"; then
    create "$1"
  fi
  if [ -z "$unit" ] && [ "$(of "$folder" was)" = running ] && ! runs "$1"; then docker start "$1" >/dev/null; fi
}

start_unit() {
  folder=$units/$1
  if ! systemctl cat "$1" >/dev/null 2>&1; then echo "$1 is gone: somebody has removed it since" >&2; return 0; fi
  case $(of "$folder" enabled) in
    enabled) systemctl enable --quiet "$1";;
    enabled-runtime) systemctl enable --quiet --runtime "$1";;
  esac
  if [ "$(of "$folder" was)" = active ]; then
    systemctl reset-failed "$1" 2>/dev/null || true
    systemctl start "$1"
  fi
}

# every server: as it was recorded
bring_all_back() {
  for each in "$containers"/*/about; do
    if [ -f "$each" ]; then each=${each%/about}; bring_back "${each##*/}"; put "$each/state" kept; fi
  done
  for each in "$units"/*/about; do
    if [ -f "$each" ]; then each=${each%/about}; start_unit "${each##*/}"; put "$each/state" kept; fi
  done
}
"""


def _shell(calls: Iterable[Sequence[str]]) -> str:
    return script("\n".join([_SHELL, *map(shlex.join, calls)]), adopted=ADOPTED)


def taken(settings: HostSettings) -> owner.Taken:
    """What is there to take over, as the host was when the run began; nothing without the setting `adopt`."""
    _, report = ask_report(host.get_fact, settings) if settings.adopt else (settings, None)
    return owner.judge(settings, report)[1] if report else owner.Taken()


@operation()
def kept(
    containers: Sequence[tuple[str, str, str, str]],
    units: Sequence[tuple[str, str, str]],
    folders: Mapping[str, str],
    tuned: Mapping[str, str],
) -> Steps:
    """Record the owner's servers and caches before anything is changed.

    + containers: that are to give way: name, id, the unit that runs it, its name while a service of ours has its own
    + units: that are to give way: name, whether it is enabled and active, as systemd names it
    + folders: caches that are used where they are, by name
    + tuned: file of TunableOp's -> where it is to be copied
    """
    new = [entry for name, path in folders.items() if (entry := f"{name}={path}") not in added(CACHES)]
    have = host.get_fact(AdoptedServers, folder=ADOPTED)
    known = {(server.kind, server.name, server.id) for server in have if server.state == "kept"}
    pairs = [word for pair in tuned.items() for word in pair]
    calls = [
        ("keep_container", name, unit, renamed, *pairs)
        for name, identity, unit, renamed in containers
        if ("container", name, identity) not in known
    ]
    calls += [("keep_unit", *unit) for unit in units if ("unit", unit[0], "") not in known]
    steps = [*([note(CACHES, new)] if new else []), *([_shell(calls)] if calls else [])]
    yield from steps_or_noop(steps, "recorded" if have or folders else "there is nothing to take over")


#: old path, new path. The two change places in one step (`renameat2`, RENAME_EXCHANGE; on x86-64 its number is 316):
#: a program or a power cut finds the folder or the link, and across file systems it fails instead of copying.
_EXCHANGE = (
    "exchange() { perl -e '"
    r'syscall(316, -100, $ARGV[0], -100, $ARGV[1], 2) == 0 or die "$ARGV[0]: cannot be renamed to $ARGV[1]: $!\n"'
    '\' "$1" "$2" && sync; }'
)


def _moved(old: str, new: str) -> str:
    """Shell that renames a folder and leaves a link."""
    there, here = shlex.quote(new), shlex.quote(old)
    link = f"{{ test -L {there} || ! test -d {there} || rmdir {there}; }} && ln -sfn {there} {there}"
    return (
        f"{_EXCHANGE}; test -L {here} || {{ {link} && {{ exchange {here} {there} || {{ rm {there}; exit 1; }}; }}; }}"
    )


def _moved_back(entry: str) -> str:
    """Shell that renames a folder back over our link. What somebody has put there instead stays, and so does ours."""
    old, _, new = entry.partition("=")
    here, there = shlex.quote(old), shlex.quote(new)
    exchanged = f'[ "$(readlink {here})" != {there} ] || ! test -d {there} || exchange {here} {there}'
    return f"{_EXCHANGE}; {{ {exchanged}; }} && {{ ! test -L {there} || rm {there}; }}"


@operation()
def caches_moved(folders: Mapping[str, str], data_directory: str) -> Steps:
    """Rename the owner's caches into our folder, with a link where each was.

    + folders: caches that were adopted, by name
    + data_directory: where they go, under their names
    """
    places = host.get_fact(Places, paths=tuple(folders.values())) if folders else {}
    steps = []
    for name, old in folders.items():
        if old in places and places[old].kind == "directory":
            new = f"{data_directory}/{name}"
            steps += [note(MOVED, [f"{old}={new}"]), _moved(old, new)]
    yield from steps_or_noop(steps, "each is in its place")


@operation()
def caches_moved_back() -> Steps:
    """Rename the owner's caches back."""
    yield from steps_or_noop(undo(MOVED, _moved_back), "none was moved")


@operation()
def aside(paths: Sequence[str]) -> Steps:
    """Take files of the owner's out of the way until removal.

    + paths: the files
    """
    there = host.get_fact(Existing, paths=tuple(paths)) if paths else []
    yield from steps_or_noop(map(set_aside, there), "nothing is to be set aside")


@operation()
def up_again() -> Steps:
    """Start the owner's servers that a boot, or a restart of Docker, has ended before their time."""
    missing = [server for server in host.get_fact(AdoptedServers, folder=ADOPTED) if server.missing]
    calls = [("bring_back" if one.kind == "container" else "start_unit", one.name) for one in missing]
    yield from steps_or_noop([_shell(calls)] if calls else [], "none of them was ended")


@operation()
def stopped(on_failure: OnFailure | None = None) -> Steps:
    """Stop the owner's servers that were recorded: the last step before ours start. Units first.

    + on_failure: called if one cannot be stopped
    """
    left = [server for server in host.get_fact(AdoptedServers, folder=ADOPTED) if server.state != "stopped"]
    calls = [(f"stop_{one.kind}", one.name) for one in sorted(left, key=lambda one: one.kind, reverse=True)]
    steps = [with_progress(_shell(calls), "stopping the server that was set up by hand", on_failure=on_failure)]
    yield from steps_or_noop(steps if calls else [], "none of them runs")


@operation()
def returned() -> Steps:
    """Give back the owner's servers as they were recorded, once ours are gone, and forget them."""
    have = host.get_fact(AdoptedServers, folder=ADOPTED)
    if not have:
        host.noop("no server was adopted")
        return
    yield _shell([("bring_all_back",)])
    tags = [f"ojai-adopted:{server.name}" for server in have if server.kind == "container"]
    yield "; ".join(
        [f"docker image rm {shlex.quote(tag)} >/dev/null 2>&1 || true" for tag in tags] + [f"rm -rf {ADOPTED}"]
    )


def give_back(state: State, host: Host) -> bool:
    """After ours did not become healthy: start the owner's servers again, and say so. False if none was adopted."""
    servers = read(host, AdoptedServers(), folder=ADOPTED)
    if not servers:
        return False
    names = ", ".join(server.name for server in servers)
    if all(server.state == "kept" and not server.missing for server in servers):
        complain(host, f"Nothing was done to the server that was there before ({names}).")
        return True
    units = read(host, OwnUnits(), directory=ADDED_DIR)
    # Enabled, ours would take the port at the next boot. The next deploy enables it again.
    ours = [f"systemctl disable --now {shlex.quote(unit)} || true" for unit in units]
    success, output = ask(host, "\n".join([*ours, _shell([("bring_all_back",)])]), **connector_arguments(host))
    if success:
        complain(host, f"The server that was there before is started again, as it was: {names}.")
    else:
        complain(
            host,
            f"The server that was there before ({names}) could not be started again:\n"
            + "\n".join(output.output_lines[-10:])
            + f"\nIts configuration is in {ADOPTED} on the host, for root.",
        )
    return True
