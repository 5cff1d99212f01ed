"""Healthy releases, kept and put back by this machine's shell, on files under a temporary folder.

docker is a small program that keeps names of images in a folder; systemctl writes down what it is asked.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.context import ctx_host, ctx_state
from real_host import RealHost
from sample import SERVING

from ojai.facts.release import ReleaseState
from ojai.operations import progress, release
from ojai.operations.ledger import forget, note
from ojai.releases import tag

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a release belongs to root")

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
NEXT = replace(SERVING, image="vllm/vllm-openai-rocm:v0.20.1-next")

DOCKER = """\
cd {store}
file() {{ printf %s "$1" | tr /:@ ___; }}
for last; do :; done
case "$*" in
  "image inspect "*) if test -e "$(file "$last")"; then cat "$(file "$last")"
      else grep -qsx "$last" ./* && echo "$last"; fi;;
  "image ls "*) for name in ojai-release_*; do
      test -e "$name" && printf 'tag\\tojai-release:%s\\t%s\\n' "${{name#ojai-release_}}" "$(cat "$name")"; done; :;;
  "image rm "*) rm "$(file "$last")";;
  tag\\ *) if test -e "$(file "$2")"; then cp "$(file "$2")" new; else grep -qsx "$2" ./* || exit 1; echo "$2" > new; fi
      mv new "$(file "$3")";;
  "pull --quiet "*) test ! -e unreachable || exit 1; echo "pulled $3" >> {log};
      cat pulls 2>/dev/null > "$(file "$3")" || echo {old} > "$(file "$3")";;
  "info "*) echo "{store} $(cat store 2>/dev/null)";;
  *) exit 9;;
esac"""


class Machine(RealHost):
    """A host whose /etc and /var/lib/ojai are in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root, self.log, self.answers, self.cut_off = root, root / "log", True, False
        programs, self.store = root / "programs", root / "images"
        for folder in (programs, self.store, root / "etc/systemd/system", root / "etc/ojai"):
            folder.mkdir(parents=True)
        scripts = {
            "docker": DOCKER.format(store=self.store, log=self.log, old=OLD),
            "systemctl": f'echo "$*" >> {self.log}; case "$1" in is-active) ! test -e {root}/down;; esac',
        }
        for name, script in scripts.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        super().__init__({"PATH": f"{programs}:{os.environ['PATH']}"})

    def sh(self, command: str, stdin: str = "") -> Any:
        for place in ("/etc/", "/var/lib/ojai"):
            command = command.replace(place, f"{self.root}{place}")
        return super().sh(command, stdin)

    def run_shell_command(self, command: Any, **arguments: Any) -> Any:
        if not self.answers:
            raise OSError("the connection is lost")
        return super().run_shell_command(command, **arguments)

    def has(self, image: str, image_id: str) -> None:
        (self.store / image.translate(str.maketrans("/:@", "___"))).write_text(image_id + "\n")

    def put(self, name: str, unit: str, env: str = "A=1\n") -> None:
        (self.root / f"etc/systemd/system/{name}.service").write_text(f"# Made by ojai for {name} (any).\n{unit}\n")
        (self.root / f"etc/ojai/{name}.env").write_text(env)

    def unit(self, name: str = "vllm-gemma4") -> str:
        return (self.root / f"etc/systemd/system/{name}.service").read_text().splitlines()[1]

    def asked(self) -> list[str]:
        found = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return found

    def keep(self, *services: Any) -> bool:
        return self.apply(release.snapshot, services=list(services))

    def kept(self) -> Any:
        return self.get_fact(ReleaseState, services=()).kept

    def roll_back(self, *services: Any) -> None:
        with ctx_state.use(self.state), ctx_host.use(self):
            release.roll_back(self.state, self, list(services))

    def report_unchanged(self, *services: Any) -> None:
        with ctx_state.use(self.state), ctx_host.use(self):
            release.report_unchanged(self.state, self, list(services))

    def restore(self) -> bool:
        return self.apply(release.restored)


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(progress.logger, "error", lines.append)
    monkeypatch.setattr(progress.logger, "info", lambda text: None)
    return lines


@pytest.fixture
def serves(monkeypatch):
    """Whether what was put back becomes ready."""
    answer = {"ready": True}

    def wait(state: Any, host: Any, *words: Any) -> bool:
        if host.cut_off:
            raise KeyboardInterrupt
        return answer["ready"]

    monkeypatch.setattr(release, "wait_until_ready", wait)
    return answer


@pytest.fixture
def machine(tmp_path, said, serves):
    """A host that serves, and whose release was kept."""
    found = Machine(tmp_path)
    found.has(SERVING.image, OLD)
    found.put("vllm-gemma4", "old")
    assert found.keep(SERVING)
    return found


def upgrade(machine: Machine) -> None:
    machine.has(NEXT.image, NEW)
    machine.put("vllm-gemma4", "new", "A=2\n")


def test_what_is_kept_is_kept_once(machine):
    assert not machine.keep(SERVING)
    folder = machine.root / "var/lib/ojai/releases"
    assert oct(folder.stat().st_mode)[-3:] == oct((folder / "healthy").stat().st_mode)[-3:] == "700"
    assert oct((folder / "healthy/vllm-gemma4.env").stat().st_mode)[-3:] == "600"
    assert list(machine.kept()) == ["healthy"]


@pytest.mark.parametrize("damage", ["vllm-gemma4.unit", "vllm-gemma4.env", "release.json", None])
def test_a_damaged_release_is_kept_anew_and_not_turned_into_the_previous_one(machine, damage):
    folder = machine.root / "var/lib/ojai/releases/healthy"
    if damage:
        (folder / damage).write_text("")
    else:
        folder.chmod(0o755)
    assert machine.kept() == {}
    assert machine.keep(SERVING)
    assert list(machine.kept()) == ["healthy"]


def test_a_failed_upgrade_is_taken_back(machine, said):
    upgrade(machine)
    machine.roll_back(NEXT)
    assert machine.unit() == "old"
    env = machine.root / "etc/ojai/vllm-gemma4.env"
    assert (env.read_text(), oct(env.stat().st_mode)[-3:]) == ("A=1\n", "600")
    assert "restart vllm-gemma4.service" in machine.asked()
    assert "was rolled back" in "\n".join(said) and "serves again" in "\n".join(said)
    assert not machine.keep(SERVING)


def test_a_moved_tag_is_given_back(machine, said):
    machine.has(SERVING.image, NEW)
    machine.roll_back(SERVING)
    assert machine.get_fact(ReleaseState, services=(("vllm-gemma4", SERVING.image),)).now["vllm-gemma4"].image_id == OLD
    assert "restart vllm-gemma4.service" in machine.asked()


def test_where_nothing_was_changed_nothing_is_restarted(machine, said):
    machine.roll_back(NEXT)
    asked = machine.asked()
    assert "start vllm-gemma4.service" not in asked and "restart vllm-gemma4.service" not in asked
    assert "still serves" in "\n".join(said)


def test_one_that_was_stopped_is_started_and_not_said_to_have_served_on(machine, said):
    (machine.root / "down").touch()
    machine.roll_back(NEXT)
    assert "start vllm-gemma4.service" in machine.asked()
    assert "serves again" in "\n".join(said) and "still serves" not in "\n".join(said)


def test_an_environment_file_that_is_replaced_is_kept(machine):
    """The operator may have changed a key in it since the release was kept."""
    machine.put("vllm-gemma4", "old", "A=rotated\n")
    machine.roll_back(NEXT)
    kept = machine.root / "var/lib/ojai/releases/vllm-gemma4.env"
    assert (kept.read_text(), oct(kept.stat().st_mode)[-3:]) == ("A=rotated\n", "600")


def test_a_failed_pull_touches_nothing(machine, said, monkeypatch):
    machine.put("vllm-gemma4", "old", "A=rotated\n")
    answer = ["health=200", f'models={{"data": [{{"id": "{SERVING.model}"}}]}} 200']
    monkeypatch.setattr(release.ServerEndpoint, "command", lambda *_, **__: "printf '%s\\n' " + shlex.join(answer))
    machine.report_unchanged(NEXT)
    assert (machine.root / "etc/ojai/vllm-gemma4.env").read_text() == "A=rotated\n"
    assert "restart vllm-gemma4.service" not in machine.asked()
    assert "still serves: nothing of it was touched" in "\n".join(said)
    # Where it does not serve, it is put back as after any other failure.
    answer[0] = "health=000"
    machine.report_unchanged(NEXT)
    assert "restart vllm-gemma4.service" in machine.asked()


def test_a_pruned_image_is_pulled_again(machine):
    for file in machine.store.iterdir():
        file.unlink()
    upgrade(machine)
    # A release knows its image's digest when a registry gave it.
    folder = machine.root / "var/lib/ojai/releases/healthy/release.json"
    digest = f"vllm/vllm-openai-rocm@sha256:{'d' * 64}"
    folder.write_text(folder.read_text().replace('"digest":""', f'"digest":"{digest}"'))
    machine.roll_back(NEXT)
    assert f"pulled {digest}" in machine.asked()
    assert machine.unit() == "old"


DIGEST = f"vllm/vllm-openai-rocm@sha256:{'d' * 64}"


def noted(machine: Machine, slot: str, digest: str) -> None:
    file = machine.root / f"var/lib/ojai/releases/{slot}/release.json"
    file.write_text(re.sub(r'"digest":"[^"]*"', f'"digest":"{digest}"', file.read_text()))


def moved(machine: Machine) -> None:
    """Docker keeps images in containerd's store from now on: by other ids, and of those from before it shows none."""
    for file in machine.store.iterdir():
        file.unlink()
    (machine.store / "store").write_text('[["driver-type","io.containerd.snapshotter.v1"]]\n')
    (machine.store / "pulls").write_text(f"sha256:{'d' * 64}\n")
    kept = machine.store / "image/overlay2/imagedb/content/sha256"
    kept.mkdir(parents=True)
    (kept / OLD.removeprefix("sha256:")).touch()


def test_a_host_that_moved_to_the_other_store_says_so_and_pulls_by_digest(machine, said, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(progress.logger, "info", told.append)
    noted(machine, "healthy", DIGEST)
    moved(machine)
    upgrade(machine)
    assert machine.get_fact(ReleaseState, services=()).lost == {OLD: "overlay2"}
    machine.roll_back(NEXT)
    assert f"pulled {DIGEST}" in machine.asked()
    assert machine.unit() == "old" and "serves again" in "\n".join(said)
    assert "is in the store 'overlay2', where Docker does not look any more" in "\n".join(told)
    named = ReleaseState, {"services": (("vllm-gemma4", SERVING.image),)}
    assert machine.get_fact(named[0], **named[1]).now["vllm-gemma4"].image_id == f"sha256:{'d' * 64}"


@pytest.mark.parametrize("in_other_store", [True, False])
def test_a_rollback_to_what_no_registry_gave_is_refused_before_anything_is_done(machine, said, in_other_store):
    upgrade(machine)
    assert machine.keep(NEXT)
    moved(machine)
    machine.has(NEXT.image, NEW)
    if not in_other_store:
        (machine.store / "image/overlay2/imagedb/content/sha256" / OLD.removeprefix("sha256:")).unlink()
    machine.asked()
    with ctx_state.use(machine.state), ctx_host.use(machine):
        (refusal,) = release.restored._inner()
    why = "is in the store 'overlay2'" if in_other_store else "was removed from the host"
    assert "found no image of the release" in str(refusal) and why in str(refusal), str(refusal)
    assert machine.unit() == "new"


def test_a_service_that_took_anothers_place_gives_it_back(machine, said):
    renamed = replace(SERVING, name="chat")
    machine.put("chat", "new")
    (machine.root / "down").touch()
    machine.roll_back(renamed)
    assert "serves again" in "\n".join(said)
    assert not (machine.root / "etc/systemd/system/chat.service").exists()
    asked = machine.asked()
    assert asked.index("disable --now chat.service") < asked.index("start vllm-gemma4.service")


def test_of_two_services_both_go_back(machine):
    second = replace(SERVING, name="second", port=8001)
    machine.put("second", "old second")
    assert machine.keep(SERVING, second)
    machine.asked()
    machine.put("vllm-gemma4", "new")
    machine.put("second", "new second")
    machine.roll_back(SERVING, second)
    assert (machine.unit(), machine.unit("second")) == ("old", "old second")
    assert {"restart vllm-gemma4.service", "restart second.service"} <= set(machine.asked())


def test_without_a_release_it_says_so(tmp_path, said):
    Machine(tmp_path).roll_back(SERVING)
    assert "No release has been healthy on this host yet" in said[0]


def test_a_lost_connection_is_no_missing_release(machine, said):
    machine.answers = False
    machine.roll_back(SERVING)
    assert "does not answer" in said[0] and "No release" not in said[0]


def test_when_the_old_one_does_not_serve_either_it_says_so(machine, serves, said):
    upgrade(machine)
    serves["ready"] = False
    machine.roll_back(NEXT)
    assert "does not serve either" in said[-1]


def test_when_it_cannot_be_put_back_it_says_why(machine, said):
    for file in machine.store.iterdir():
        file.unlink()
    machine.roll_back(SERVING)
    assert "could not be restored" in "\n".join(said)
    assert "serves again" not in "\n".join(said)


@pytest.mark.parametrize("pulled", [True, False])
def test_an_upgrade_keeps_the_one_before_and_drops_the_one_before_that(machine, pulled):
    """Its image goes too, unless it was there before the project came."""
    if pulled:
        machine.sh(note("images", [SERVING.image]))
    upgrade(machine)
    assert machine.keep(NEXT)
    assert list(machine.kept()) == ["healthy", "previous"]
    third = replace(SERVING, image="vllm/vllm-openai-rocm:third")
    machine.has(third.image, "sha256:" + "3" * 64)
    machine.put("vllm-gemma4", "third")
    assert machine.keep(third)
    names = {file.name for file in machine.store.iterdir()}
    assert ("vllm_vllm-openai-rocm_v0.20.1" in names) is not pulled
    assert {"vllm_vllm-openai-rocm_v0.20.1-next", "vllm_vllm-openai-rocm_third"} <= names
    tags = machine.get_fact(ReleaseState, services=()).tags
    assert tags[tag("vllm-gemma4", "previous")] == NEW


def test_rollback_goes_to_the_one_before_and_a_second_one_comes_back(machine):
    upgrade(machine)
    assert machine.keep(NEXT)
    assert machine.restore()
    assert machine.unit() == "old"
    assert machine.get_fact(ReleaseState, services=()).held("healthy")
    assert machine.restore()
    assert machine.unit() == "new"
    assert machine.restore()
    assert machine.unit() == "old"


def test_rollback_after_a_failed_edit_goes_to_the_healthy_one(machine):
    machine.put("vllm-gemma4", "edited")
    assert machine.restore()
    assert machine.unit() == "old"
    assert list(machine.kept()) == ["healthy"]


def test_rollback_away_from_a_service_of_another_name(machine):
    machine.put("chat", "new")
    (machine.root / "down").touch()
    assert machine.restore()
    assert not (machine.root / "etc/systemd/system/chat.service").exists()
    assert "start vllm-gemma4.service" in machine.asked()


def test_a_second_rollback_undoes_the_first_also_when_the_name_has_changed(machine):
    renamed = replace(SERVING, name="chat")
    assert machine.sh(note("units", ["vllm-gemma4.service", "chat.service"])).returncode == 0
    machine.put("chat", "new")
    (machine.root / "etc/systemd/system/vllm-gemma4.service").unlink()
    assert machine.sh(forget("units", ["vllm-gemma4.service"])).returncode == 0
    assert machine.keep(renamed)
    units = machine.root / "etc/systemd/system"
    for name in ("vllm-gemma4", "chat", "vllm-gemma4"):
        assert machine.restore()
        assert [file.name for file in units.iterdir()] == [f"{name}.service"]


def test_a_rollback_that_was_cut_off_goes_on_to_where_it_was_going(machine):
    upgrade(machine)
    assert machine.keep(NEXT)
    before = machine.root / "var/lib/ojai/releases/previous/release.json"
    before.write_text(re.sub(r'"kept":"[^"]*"', '"kept":"2026-01-01T00:00:00Z"', before.read_text()))
    machine.cut_off = True
    with pytest.raises(KeyboardInterrupt):
        machine.restore()
    assert machine.unit() == "old"
    machine.cut_off = False
    machine.asked()
    assert machine.restore()
    # Nobody knows how far the first one came: it is started anew.
    assert machine.unit() == "old" and "restart vllm-gemma4.service" in machine.asked()
    assert machine.kept()["healthy"].services[0].serving == SERVING
    assert machine.restore()
    assert machine.unit() == "new"


def test_a_way_back_that_was_cut_off_is_forgotten_once_a_deploy_has_ended_well(machine):
    going = machine.root / "var/lib/ojai/releases/going"
    going.write_text(machine.kept()["healthy"].kept)
    assert machine.keep(SERVING)
    assert not going.exists() and not machine.keep(SERVING)


def test_how_long_a_start_may_take_makes_no_other_release(machine):
    upgrade(machine)
    assert machine.keep(NEXT)
    assert not machine.keep(replace(NEXT, timeout=NEXT.timeout + 1))
    assert machine.kept()["previous"].services[0].serving == SERVING


def test_without_its_image_nothing_else_is_touched(machine, said):
    renamed = replace(NEXT, name="chat")
    machine.has(NEXT.image, NEW)
    machine.put("chat", "new")
    (machine.root / "etc/systemd/system/vllm-gemma4.service").unlink()
    assert machine.keep(renamed)
    for file in machine.store.iterdir():
        if OLD in file.read_text():
            file.unlink()
    noted(machine, "previous", DIGEST)
    (machine.store / "unreachable").touch()
    with pytest.raises(AssertionError):
        machine.restore()
    assert (machine.root / "etc/systemd/system/chat.service").exists()
    assert "could not be restored" in "\n".join(said) and "serves again, as before" in "\n".join(said)


def test_rollback_that_does_not_serve_fails_and_leaves_the_releases(machine, serves, said):
    upgrade(machine)
    assert machine.keep(NEXT)
    before = machine.kept()
    serves["ready"] = False
    with pytest.raises(AssertionError):
        machine.restore()
    assert "does not serve" in said[-1]
    assert machine.kept() == before
    assert machine.unit() == "new", "what served before was not put back"


@pytest.mark.parametrize("line", range(4, 13))
def test_keeping_that_is_cut_off_loses_no_release(machine, line):
    upgrade(machine)
    with ctx_state.use(machine.state), ctx_host.use(machine):
        (script,) = release.snapshot._inner(services=[NEXT])
    machine.sh("\n".join(script.splitlines()[:line]))
    assert machine.kept(), "neither release is left"
    machine.keep(NEXT)
    assert machine.kept()["healthy"].services[0].serving == NEXT
    assert not machine.keep(NEXT)


def with_gateway(machine: Machine) -> None:
    """The unit of a gateway is there."""
    (machine.root / "etc/systemd/system/ojai-gateway.service").write_text("# Made by ojai.\n")


GUARDED = replace(SERVING, exposure="gateway")
UNITS = "ojai-gateway.service ojai-gateway-renew.timer"


def test_a_failed_upgrade_to_a_gateway_is_open_again(machine, said):
    machine.keep(SERVING)
    with_gateway(machine)
    machine.put("vllm-gemma4", "behind the gateway")
    machine.asked()
    machine.roll_back(GUARDED)
    assert machine.unit() == "old"
    assert f"disable --quiet --now {UNITS}" in machine.asked()


def test_a_failed_upgrade_behind_a_gateway_keeps_it(machine, said):
    machine.keep(GUARDED)
    with_gateway(machine)
    machine.put("vllm-gemma4", "open to all")
    machine.asked()
    machine.roll_back(SERVING)
    assert machine.unit() == "old"
    asked = machine.asked()
    assert f"enable --quiet --now {UNITS}" in asked
    assert not any(line.startswith("disable") for line in asked)


def test_a_gateway_that_did_not_start_before_an_open_release_is_stopped(machine, said):
    machine.keep(SERVING)
    machine.report_unchanged(GUARDED)
    assert not any("ojai-gateway" in line for line in machine.asked()), "there is none"
    with_gateway(machine)
    machine.report_unchanged(GUARDED)
    assert f"disable --quiet --now {UNITS}" in machine.asked()


def test_a_release_from_before_there_was_a_gateway_was_open(machine):
    machine.keep(SERVING)
    file = machine.root / "var/lib/ojai/releases/healthy/release.json"
    file.write_text(file.read_text().replace(',"exposure":"open"', ""))
    assert not machine.kept()["healthy"].guarded
