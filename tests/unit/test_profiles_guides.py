"""The two guides' commands, token by token, but for the written deviations."""

import re
import shlex
from pathlib import Path

import pytest
from resolving import resolve

from ojai.profiles import Features, load
from ojai.profiles import deviations as written

GUIDES = {"e4b": "gemma-4-e4b", "26b": "gemma-4-26b-a4b"}
GROUPS = {"video": 44, "render": 992}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def unit(guide):
    """The service on a host that has fetched its model, and what is the host's in it."""
    profile = load(GUIDES[guide])
    host = {**GROUPS, "model": profile.model, "revision": COMMIT}
    return resolve(profile).on_host(GROUPS, None, {profile.model: COMMIT}), host


def listing(guide):
    """The commands before `docker run`, and its tokens; $IMAGE and $MODEL filled in, $HOME left as it is."""
    script = (Path(__file__).parent / "data" / f"guide-{guide}.sh").read_text().replace("\\\n", " ")
    values, before, docker = {}, [], None
    for line in script.splitlines():
        line = re.sub(r"\$(IMAGE|MODEL)\b", lambda name: values[name[1]], line)
        tokens = shlex.split(line, comments=True)
        if not tokens or tokens[0] == "set":
            continue
        if assignment := re.fullmatch(r"(\w+)=(.*)", tokens[0]):
            values[assignment[1]] = assignment[2]
        elif tokens[:2] == ["docker", "run"]:
            docker = tokens
        else:
            before.append(tokens)
    assert docker
    return before, docker


@pytest.mark.parametrize("guide", GUIDES)
def test_the_listing_is_read_whole(guide):
    _, docker = listing(guide)
    assert docker[:4] == ["docker", "run", "--rm", "-it"]
    assert docker[-2:] == ["--port", "8000"]
    assert {"$HOME/models:/app/models", "HF_TOKEN=${HF_TOKEN:-}", "seccomp=unconfined"} <= set(docker)
    assert len(docker) == {"e4b": 55, "26b": 77}[guide]


@pytest.mark.parametrize("on_host", [False, True], ids=["names", "unit"])
@pytest.mark.parametrize("guide", GUIDES)
def test_our_command_is_the_guides_but_for_the_written_deviations(guide, on_host):
    _, docker = listing(guide)
    service, host = unit(guide) if on_host else (resolve(load(GUIDES[guide])), None)
    assert list(service.command.docker_argv) == written.apply(docker, guide, written.load(), host)


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_before_docker_run_are_written_as_done_elsewhere(guide):
    before, _ = listing(guide)
    assert before == written.commands(guide, written.load())


@pytest.mark.parametrize("guide", GUIDES)
def test_no_deviation_can_be_left_out(guide):
    """Each entry is used: without it the commands differ (so a superfluous one would be found here)."""
    _, docker = listing(guide)
    service, host = unit(guide)
    ours = list(service.command.docker_argv)
    for deviation in written.load():
        if guide in deviation.guides and not all(change.command for change in deviation.changes):
            others = [other for other in written.load() if other != deviation]
            assert written.apply(docker, guide, others, host) != ours, deviation.id


def test_a_deviation_that_does_not_apply_is_an_error():
    stray = written.Deviation(
        id="stray", guides=("e4b",), changes=(written.Change(guide=("--privileged",)),), reason="r", source="s"
    )
    with pytest.raises(written.DeviationError, match=r"stray: found '--privileged' 0 times"):
        written.apply(listing("e4b")[1], "e4b", [stray])


def test_a_twofold_match_is_an_error():
    twice = written.Deviation(id="e", guides=("e4b",), changes=(written.Change(guide=("-e",)),), reason="r", source="s")
    with pytest.raises(written.DeviationError, match=r"'-e' 8 times"):
        written.apply(listing("e4b")[1], "e4b", [twice])


@pytest.mark.parametrize(
    "change",
    [{"guide": ["a"], "here": ["a"]}, {"here": ["a"]}, {"command": ["a"], "guide": ["b"]}, {}],
)
def test_a_change_that_changes_nothing_or_goes_nowhere_is_refused(change):
    with pytest.raises(ValueError, match=r"nothing changes|need before|stands alone"):
        written.Change.model_validate(change)


def test_ids_are_unique():
    ids = [deviation.id for deviation in written.load()]
    assert len(ids) == len(set(ids))


def test_the_26b_guides_own_command_is_refused_for_its_log_flag():
    """The guide's script cannot have run on 0.20.1: issue 3 wants it shown."""
    from ojai.engines.vllm import cli as vllm_cli

    _, docker = listing("26b")
    engine = docker[docker.index("google/gemma-4-26B-A4B-it") :]
    assert any("--disable-log-requests" in fault for fault in vllm_cli.check(engine))
    engine.remove("--disable-log-requests")
    assert vllm_cli.check(engine) == []


def test_a_service_that_says_nothing_gets_the_guides_command():
    profile = load("gemma-4-e4b")
    assert resolve(profile, features=Features()) == resolve(profile)
