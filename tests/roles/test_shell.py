"""shellcheck over the shell that facts and operations send to a host. `make lint` has it over the scripts."""

import inspect
import subprocess
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from sample import SERVING
from test_facts import facts
from test_operations import FOLDERS

from ojai.facts.readings import Asked
from ojai.facts.report import HostReport
from ojai.operations.release import restoring
from ojai.releases import Contents, Release, Released

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
#: Rules that are wrong here. SC1091: a file to be sourced is the host's, not this machine's. SC2041, SC2043: a loop's
#: words are put in from a list, which may hold one. SC2016: apt's formats have $(…) of their own.
EXCLUDED = "SC1091,SC2016,SC2041,SC2043"
SAMPLES = {str: "/etc/it's a b.sources", int: 8000, bool: True}
#: Arguments of facts that are shell themselves, or a command line.
GIVEN = {"sound": "true", "argv": ("docker", "run", "--name", SAMPLES[str], SAMPLES[str])}
SAMPLES[Asked] = Asked(*[SAMPLES[str]] * 8, counts=(SAMPLES[str],))


def sample(kind):
    """A value of an annotated type; its words are those that bad quoting breaks at."""
    if typing.get_origin(kind) is types.UnionType:
        return sample(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (dict, Mapping):
        return {sample(typing.get_args(kind)[0]): sample(typing.get_args(kind)[1])}
    if typing.get_origin(kind) is tuple:
        return (sample(typing.get_args(kind)[0]),) * 2
    return SAMPLES[kind]


def arguments(kind):
    hints = typing.get_type_hints(kind().command)
    return {
        # A fact that asks for the report in the same command is given the report's own arguments.
        name: GIVEN.get(name) or (arguments(HostReport) if name == "report" else sample(hints[name]))
        for name in inspect.signature(kind().command).parameters
    }


def of_fact(kind):
    return kind().command(**arguments(kind))


def of_fixture(file):
    """The shell among a fixture's recorded commands: alone, with a standard input, or first argument of a function."""
    for command in yaml.safe_load(file.read_text()).get("commands") or []:
        match command:
            case str(text) | {"command": text} | ["run", [text, _], *_] | ["pull_image", [_, text], *_]:
                yield text
            case [
                "upload"
                | "_say_newer"
                | "_say_skipped"
                | "wait_for_lock"
                | "reboot"
                | "restore"
                | "wait_until_ready"
                | "start"
                | "_refuse"
                | "_wait"
                | "fetch",
                *_,
            ]:
                pass
            case other:
                raise ValueError(f"{file}: is there shell in {other}?")


@pytest.fixture
def complaints(tmp_path):
    """``complaints(text, …)``: what shellcheck says of these, each a program of its own."""

    def ask(*texts):
        files = [tmp_path / f"{number}.sh" for number in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        argv = [SHELLCHECK, "--shell=sh", "--norc", f"--exclude={EXCLUDED}", *files]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return ask


@pytest.mark.parametrize("name", sorted(facts()))
def test_fact(complaints, name):
    assert not complaints(of_fact(facts()[name]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_operation(complaints, folder):
    texts = {text for file in folder.glob("*.yaml") for text in of_fixture(file)}
    assert not texts or not complaints(*texts)


def test_rollback(complaints):
    found = Release("now", (Released(replace(SERVING, image="it's/a b"), Contents(image_id="sha256:1")),))
    assert not complaints(restoring(found, "healthy", ["chat.service", "it's.service"]))


def test_shellcheck_is_asked(complaints):
    assert "SC2086" in complaints("rm $1")
