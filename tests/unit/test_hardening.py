"""What a hardened service's command has and has not, and what cannot go with it."""

from __future__ import annotations

import json

import pytest
from resolving import resolve

from ojai.engines import explanations, hardening
from ojai.memory import container_limit
from ojai.profiles import load, names
from ojai.settings import SettingsError, parse
from ojai.sizes import GIB, MIB
from tools.profile_table import TRIED


def _argv(**service):
    """Of the command on a host with two GPUs, of which the second is ours, and 62 GiB."""
    found = parse("mini", {"services": [{"hardened": True, "allow": [], **service}]}).resolved[0]
    return found.on_host({"video": 44, "render": 992}, None, None, "renderD129", 62 * GIB).command.docker_argv


def test_it_is_off_unless_it_is_asked_for():
    plain = parse("mini", {}).resolved[0]
    assert not plain.hardened
    assert plain.on_host({}, None, None, "renderD129", 62 * GIB).command.docker_argv == plain.command.docker_argv


@pytest.mark.parametrize("profile", ["gemma-4-e4b", "gemma-4-26b-a4b"])
def test_what_the_guides_give_is_gone(profile):
    argv = _argv(profile=profile)
    words = " ".join(argv)
    for gone in ("seccomp=unconfined", "SYS_PTRACE", "--cap-add", "--ipc=host", "--device=/dev/dri "):
        assert gone not in words
    assert [word for word in argv if word.startswith("--device=")] == [
        "--device=/dev/kfd",
        "--device=/dev/dri/renderD129",
    ]
    for there in ("--cap-drop=ALL", "--read-only", "--ipc=private", "--pids-limit=4096"):
        assert argv.count(there) == 1
    assert "--security-opt no-new-privileges" in words
    # What does not concern rights is as in the guides.
    assert {"--network=host", "--group-add=992"} <= set(argv) and "--shm-size=" in words


def test_what_it_writes_beside_the_caches_is_in_memory_and_compiled_code_can_be_loaded_from_there():
    argv = _argv()
    places = dict(argv[at + 1].split(":") for at, word in enumerate(argv) if word == "--tmpfs")
    assert set(places) == {"/tmp", "/root/.cache", "/root/.config", "/root/.triton"}
    for place, text in places.items():
        words = text.split(",")
        assert {"nosuid", "nodev"} <= set(words) and any(word.startswith("size=") for word in words)
        assert ("exec" in words) == (place != "/root/.config")


def test_a_limit_of_memory_needs_a_host_whose_memory_is_known():
    service = parse("mini", {"services": [{"hardened": True}]}).resolved[0]
    assert not [word for word in service.command.docker_argv if word.startswith("--memory")]
    assert "--memory=60416m" in _argv()


@pytest.mark.parametrize(
    ("total", "limit"),
    [(62 * GIB, 59 * GIB), (62 * GIB + 100 * MIB, 59 * GIB), (3 * GIB, 3 * 512 * MIB), (0, 0)],
)
def test_the_host_keeps_what_it_needs(total, limit):
    assert container_limit(total) == limit


def test_each_word_of_it_is_explained():
    for name in names():
        placed = resolve(load(name), hardened=True).on_host(
            {"video": 44, "render": 992}, None, None, "renderD128", 62 * GIB
        )
        for part, why in explanations.parts(placed):
            assert why or not part[0].startswith("-"), part
    whys = {" ".join(part): why for part, why in explanations.parts(placed)}
    assert "seccomp=unconfined" not in whys["--security-opt no-new-privileges"]


def test_each_measure_says_what_is_lacking_how_that_was_found_and_where_it_is_from():
    known = hardening.load()
    assert len({measure.id for measure in known}) == len(known)
    assert all(measure.taken or not measure.add for measure in known)


def test_each_was_tried_with_a_real_engine_which_serves():
    found = json.loads(TRIED.read_text())
    assert found.keys() == {"guides", "guides, again", "all", *(one.id for one in hardening.load() if one.taken)}
    assert all(one["starts"] and one["answers"] for one in found.values())
    before, after = found["guides"]["may"], found["all"]["may"]
    for what, result in {
        "set_mempolicy": "EPERM",
        "port 81": "EACCES",
        "write /usr": "EROFS",
        "write /tmp": "ok",
        "open /dev/kfd": "ok",
        "open /dev/dri/card0": "ENOENT",
        "NoNewPrivs": "1",
        "CapEff": "0" * 16,
    }.items():
        assert after[what] == result and (before[what] != result or result == "ok"), what


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"services": [{"hardened": True, "port": 443}]}, "port: found 443; expected 1024 or more"),
        ({"services": [{"hardened": True}], "data_owner": "ada"}, "data_owner: found ada; a hardened service has no"),
    ],
)
def test_what_it_could_not_do_is_refused(data, text):
    with pytest.raises(SettingsError) as error:
        parse("mini", {"exposure": "open", **data})
    assert text in str(error.value)
