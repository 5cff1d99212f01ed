"""JSON files that others write too: what goes in comes out, what others wrote stays, wherever a run is cut off.

Where the two claim the same place, ours wins while it is there. Removal puts theirs back: to the byte, unless others
have changed the file since.
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyinfra.api import FunctionCommand
from real_host import CutOff, RealHost

from ojai.facts.files import File, Place, SharedPlace
from ojai.operations import files, progress
from ojai.operations.files import merged, parted

PLACE = "/etc/docker/daemon.json"

quick = settings(max_examples=40, deadline=None)


class Disk(RealHost):
    """The host's files as a mapping; the operation's commands are understood, not run."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.files = {} if text is None else {PLACE: text}

    def get_fact(self, kind: Any, **words: Any) -> Any:
        if kind is SharedPlace:
            return Place(words["path"])
        text = self.files.get(words["path"])
        return None if text is None else File(text, "root", "root", "644")

    def do(self, command: Any) -> bool:
        if isinstance(command, FunctionCommand):
            return super().do(command)
        if not isinstance(command, str):
            command.src.seek(0)
            self.files[command.dest] = command.src.read().decode()
        elif moved := re.search(r" mv -fT (\S+) (\S+)$", command):
            self.files[moved[2]] = self.files.pop(moved[1])
        elif command.startswith("rm -f "):
            for path in command.split()[2:]:
                self.files.pop(path, None)
        else:
            assert command.startswith("mkdir -p"), command
        return True

    @property
    def content(self) -> Any:
        return json.loads(self.files[PLACE]) if PLACE in self.files else None

    def merge(self, values: dict[str, Any], **words: Any) -> bool:
        return self.apply(files.json_merged, path=PLACE, values=values, **words)

    def part(self) -> bool:
        return self.merge({})


SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), ANYTHING, max_size=3)


def party(mark: str, least: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of one party: keys and list entries of its own, and objects and lists that both have."""

    def level(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        entries = st.lists(st.integers(0, 3).map(lambda n: f"{mark}{n}"), unique=True, min_size=least, max_size=3)
        shared = st.fixed_dictionaries({}, optional={"same": st.just("both"), "list": entries, "object": inner})
        own = st.dictionaries(st.integers(0, 2).map(lambda n: f"{mark}{n}"), SCALARS, min_size=least, max_size=2)
        return st.builds(lambda a, b: {**a, **b}, shared, own)

    return level(level(level(st.just({f"{mark}": 1}))))


THEIRS, OURS, SOME_OF_OURS = party("theirs", 1), party("ours", 0), party("ours", 1)


@quick
@given(THEIRS, OURS)
def test_what_goes_in_comes_out(theirs, ours):
    both = merged(theirs, ours)
    assert parted(both, parted(ours, theirs)) == theirs
    assert merged(both, ours) == both


@quick
@given(OBJECTS, OBJECTS)
def test_ours_is_in_it(theirs, ours):
    """At any path, whatever was there."""

    def has(found: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            return isinstance(found, dict) and all(key in found and has(found[key], expected[key]) for key in expected)
        if isinstance(expected, list):
            return isinstance(found, list) and all(item in found for item in expected)
        return type(found) is type(expected) and found == expected

    before = json.dumps([theirs, ours])
    assert has(merged(theirs, ours), ours)
    parted(theirs, ours)
    assert json.dumps([theirs, ours]) == before, "the arguments were changed"


@quick
@given(OBJECTS, OBJECTS, OBJECTS)
def test_a_second_run_changes_nothing(theirs, first, then):
    host = Disk(json.dumps(theirs))
    for values in (first, then):
        host.merge(values)
        assert not host.merge(values)


@quick
@given(THEIRS, OURS, OURS)
def test_only_the_last_values_count(theirs, first, then):
    once, twice = Disk(json.dumps(theirs)), Disk(json.dumps(theirs))
    once.merge(then)
    twice.merge(first)
    twice.merge(then)
    assert twice.content == once.content


@quick
@given(OBJECTS, OBJECTS, OBJECTS, st.sampled_from([None, 2]))
def test_removal_gives_theirs_back_to_the_byte(theirs, first, then, indent):
    """Whatever both claimed, and however it was written."""
    text = json.dumps(theirs, indent=indent, ensure_ascii=False)
    host = Disk(text)
    host.merge(first)
    host.merge(then)
    host.part()
    assert host.files == {PLACE: text}


@quick
@given(THEIRS, OURS, st.sampled_from(["theirs0", "more"]), SCALARS)
def test_removal_keeps_what_others_changed_since(theirs, ours, key, value):
    host = Disk(json.dumps(theirs))
    host.merge(ours)
    host.files[PLACE] = json.dumps({**host.content, key: value})
    host.merge(ours)
    host.part()
    assert host.content == {**theirs, key: value}


def test_the_owner_s_value_comes_back_also_if_it_was_replaced_twice():
    theirs = {"log-driver": "journald", "log-opts": {"tag": "x", "max-size": "10m"}, "dns": "one"}
    host = Disk(json.dumps(theirs))
    host.merge({"log-driver": "json-file", "log-opts": {"max-size": "50m"}, "dns": ["two"]})
    host.merge({"log-driver": "local", "log-opts": {"max-size": "7m"}})
    assert host.content == {"log-driver": "local", "log-opts": {"tag": "x", "max-size": "7m"}, "dns": "one"}
    host.part()
    assert host.content == theirs


def test_a_value_that_the_owner_deleted_since_stays_deleted():
    host = Disk(json.dumps({"log-driver": "journald", "list": ["a"], "x": 1}))
    host.merge({"log-driver": "json-file", "list": ["b"]})
    host.files[PLACE] = json.dumps({"list": ["b"], "x": 1})
    host.part()
    assert host.content == {"x": 1}


def test_a_file_that_has_all_of_it_already_is_not_touched():
    text = '{"list":  ["a", "b"]}'
    host = Disk(text)
    assert not host.merge({"list": ["b", "a"]})
    assert host.files == {PLACE: text}


@pytest.mark.parametrize(
    "text", ['{"a": 1, // why\n"b": 2}', '{"a": 1,}', '{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', "\ufeff{}", "[]"]
)
def test_what_is_not_plain_json_is_refused_and_left(text):
    host = Disk(text)
    with pytest.raises(AssertionError, match=r"found a "):
        host.merge({"a": 1})
    assert host.files == {PLACE: text}


@quick
@given(SOME_OF_OURS.filter(bool))
def test_removal_takes_a_file_that_was_only_ours(ours):
    host = Disk(None)
    host.merge(ours)
    host.part()
    assert host.files == {}


@quick
@given(OBJECTS, OBJECTS, OBJECTS, st.integers(0, 14), st.integers(0, 5))
def test_a_run_that_was_cut_off_is_made_good_by_the_next(theirs, first, then, step, at_removal):
    text = json.dumps(theirs)
    host, whole = Disk(text), Disk(text)
    whole.merge(then)
    host.merge(first)
    try:
        host.merge(then, cut_off_after=step)
    except CutOff:
        host.merge(then)
    assert host.content == whole.content
    try:
        host.merge({}, cut_off_after=at_removal)
    except CutOff:
        host.part()
    assert host.files == {PLACE: text}


def test_its_program_is_asked_before_the_file_is_moved_and_told_after(tmp_path):
    """Also by the next run, if this one was cut off between the two."""
    host = Disk('{"mirrors": ["theirs"]}')
    said: list[str] = []
    host.do = lambda command: (  # type: ignore[method-assign]
        said.append(f"{command} {host.content}") or True
        if isinstance(command, str) and ("check" in command or command == "reload")
        else Disk.do(host, command)
    )
    words = {"check": "check $new", "then": "reload"}
    host.merge({"mirrors": ["ours"]}, **words)
    assert said == [
        f"new={PLACE}.ojai-new; check $new {{'mirrors': ['theirs']}}",
        "reload {'mirrors': ['ours', 'theirs']}",
    ]
    said.clear()
    with pytest.raises(CutOff):
        host.merge({}, then="reload", cut_off_after=3)
    assert said == [] and host.content == {"mirrors": ["theirs"]}
    host.merge({}, then="reload")
    assert said == ["reload {'mirrors': ['theirs']}"]


@pytest.mark.parametrize("text", [None, "{}", '{"dns": ["a"]}'])
@pytest.mark.parametrize("cut_off_after", range(9))
def test_its_program_is_told_that_a_list_of_ours_is_empty_now(text, cut_off_after):
    """dockerd that reads its file again goes on with mirrors that the file no longer names."""
    host = Disk(text)
    asked: list[Any] = ["before"]

    def do(command: Any) -> bool:
        if command == "reload":
            asked[:] = (host.content or {}).get("mirrors", asked)
            return True
        return Disk.do(host, command)

    host.do = do  # type: ignore[method-assign]
    host.merge({"mirrors": ["ours"]}, then="reload")
    assert asked == ["ours"]
    try:
        host.merge({}, then="reload", cut_off_after=cut_off_after)
    except CutOff:
        host.merge({}, then="reload")
    assert asked == []
    assert host.files == ({} if text is None else {PLACE: text})


def test_diff_shows_our_part_and_no_secret(monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(progress.logger, "info", shown.append)
    theirs = {
        "proxies": {"http-proxy": "http://ada:sesame@proxy"},
        "log-driver": {"odd": "sesame"},
        "log-opts": {"splunk-token": "sesame", "max-size": "1m"},
        "registry-mirrors": ["https://bob:sesame@theirs"],
    }
    host = Disk(json.dumps(theirs))
    host.state.config, host.state.is_executing = SimpleNamespace(DIFF=True), False
    ours = {"log-driver": "json-file", "log-opts": {"max-size": "50m"}, "registry-mirrors": ["https://eve:sesame@ours"]}
    assert host.merge(ours)
    text = "\n".join(shown)
    assert "sesame" not in text and "proxies" not in text and "theirs" not in text
    for line in (
        '-        "max-size": "1m"',
        '+        "max-size": "50m"',
        '+        "https://***@ours"',
        '-    "log-driver": "(not shown)"',
    ):
        assert line in text
    shown.clear()
    assert not host.merge(ours)
    assert shown == []


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_is_an_empty_object(text):
    host = Disk(text)
    host.merge({"a": 1})
    assert host.content == {"a": 1}


@pytest.mark.parametrize(
    ("found", "expected"), [(1, True), (0, False), (1.0, 1), ([1], [True]), ({"b": 1}, {"b": True})]
)
def test_one_is_not_true(found, expected):
    """Python says that they are equal; the daemon does not."""
    host = Disk(json.dumps({"a": found}))
    assert host.merge({"a": expected})
    kept = host.content["a"]
    assert json.dumps(kept[:1] if isinstance(kept, list) else kept) == json.dumps(expected)
    assert not host.merge({"a": expected})
