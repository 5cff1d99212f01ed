"""systemd hands on exactly the arguments that a command line was made of.

:func:`systemd_reads` is a second, independent reading of the rules: systemd.syntax(7) for lines and quotes,
systemd.service(5) "Command lines", systemd.unit(5) "Specifiers". Nothing in it is taken from ojai/systemd.py.
"""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ojai import profiles, systemd
from ojai.roles import vllm
from ojai.settings import parse

WHITESPACE = " \t\n\r"


def lines_joined(text: str) -> str:
    """The value of the only setting in ``text``: comments dropped, lines that end in a backslash joined by a blank."""
    joined, open_line = "", False
    for line in text.split("\n"):
        start = line.lstrip(WHITESPACE)
        if start[:1] in ("#", ";") or (not start and not open_line):
            continue
        joined += line[:-1] + " " if line.endswith("\\") else line
        open_line = line.endswith("\\")
    assert not open_line, "the last line goes on"
    return joined.partition("=")[2].strip(WHITESPACE)


def words_of(text: str) -> list[str]:
    """Split at white space, with quotes and C escapes undone."""
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in WHITESPACE:
            at += 1
            continue
        word, quote = "", ""
        while at < len(text) and (quote or text[at] not in WHITESPACE):
            letter = text[at]
            if letter == "\\":
                following = text[at + 1]
                word += {"n": "\n", "t": "\t", "s": " "}.get(following, following)
                assert following in "\\\"'nts", f"\\{following} is no escape"
                at += 2
                continue
            if letter in "\"'" and (not quote or quote == letter):
                quote = "" if quote else letter
            else:
                word += letter
            at += 1
        assert not quote, "a quote is left open"
        words.append(word)
    return words


def expanded(word: str) -> str:
    """``%%`` and ``$$`` are one; any other use of either would be replaced by something."""
    result, at = "", 0
    while at < len(word):
        if word[at] in "%$":
            assert word[at : at + 2] in ("%%", "$$"), f"{word!r} would be expanded"
            at += 1
        result += word[at]
        at += 1
    return result


def systemd_reads(unit_line: str) -> list[str]:
    raw = lines_joined(unit_line)
    # A lone semicolon, as it stands in the file, would begin a second command.
    assert ";" not in raw.split(), "two commands"
    return [expanded(word) for word in words_of(raw)]


ARGUMENTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0")
    | st.sampled_from(list("%$\"'\\#;{}=- \t@:+!|")),
    max_size=12,
)


@settings(deadline=None)
@given(st.lists(ARGUMENTS, max_size=12), st.sampled_from(["    ", "\t", ""]))
@example(["#", ";", "", "-", "--", "a=b", "$", "%", "$$", "%%", "\\", "\\\\", "'", '"', " "], "    ")
@example(["--image", "#comment", "-e", ";", "--limit", '{"image": 4, "video": "50%"}'], "")
@example(["${HOME}", "$HOME", "%h", "%%h", "\\x41", "\\n", "a\\"], "    ")
@example(["é", "\u2028", "\u00a0", "\x85", "\x0b", "\x1b[0m", "🦙"], "    ")
def test_round_trip(arguments, indent):
    argv = ["/usr/bin/docker", *arguments]
    assert systemd_reads("ExecStart=" + systemd.command_line(argv, indent)) == argv


@given(ARGUMENTS)
def test_one_argument(argument):
    text = systemd.quote(argument)
    assert "\n" not in text
    assert systemd_reads(f"ExecStart=/bin/echo {text}")[1:] == [argument]


@pytest.mark.parametrize("letter", ["\n", "\r", "\0"])
def test_what_no_unit_can_hold_is_refused(letter):
    with pytest.raises(ValueError, match="line break or NUL"):
        systemd.quote(f"a{letter}b")


def test_the_reader_is_no_mirror():
    """It finds what a careless writer would get wrong."""
    assert systemd_reads('ExecStart=/bin/a "b c" \\\n# no argument\n  d\\\\e') == ["/bin/a", "b c", "d\\e"]
    for wrong in ("ExecStart=/bin/a %h", "ExecStart=/bin/a $HOME", "ExecStart=/bin/a ; /bin/b", 'ExecStart=/bin/a "b'):
        with pytest.raises(AssertionError):
            systemd_reads(wrong)


def test_an_option_and_its_value_stand_on_one_line():
    text = systemd.command_line(["/usr/bin/docker", "run", "--name", "a", "-e", "X=1", "--rm", "image", "model"])
    assert text.split(" \\\n    ") == ["/usr/bin/docker", "run", "--name a", "-e X=1", "--rm image", "model"]


def units() -> list[tuple[str, str, tuple[str, ...]]]:
    """(name, text of the unit, argv) of a service of each profile, with choices that want quoting."""
    found = []
    for name in profiles.names():
        choices = {
            "profile": name,
            "name": name,
            "allow": sorted(profiles.CODES),
            "environment": {"X": "50% of $HOME #1"},
        }
        host = parse("mini", {"services": [choices]})
        service = host.resolved[0].on_host({"video": 44, "render": 992}, None)
        found.append((name, vllm.render_unit(service), service.command.docker_argv))
    return found


@pytest.mark.parametrize(("name", "text", "argv"), units(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_unit_of_a_profile_runs_its_command(name, text, argv):
    start = text[text.index("ExecStart=") : text.index("\nExecStop=")]
    assert systemd_reads(start) == ["/usr/bin/docker", *argv[1:]]
    assert "X=50% of $HOME #1" in argv


@pytest.mark.parametrize(("name", "text", "argv"), units(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_unit_waits_for_the_disk_of_every_folder_that_is_mounted(name, text, argv):
    (waits,) = re.findall(r"^RequiresMountsFor=(.+)$", text, re.MULTILINE)
    mounted = [word for before, word in pairwise(argv) if before == "--mount"]
    assert mounted and waits.split() == [re.fullmatch("type=bind,src=(.+),dst=.+", word)[1] for word in mounted]


def test_systemd_itself_reads_the_units(tmp_path):
    """It says a line for each setting that it does not know or cannot read; programs that are absent do not count."""
    for name, text, _ in units():
        (tmp_path / f"{name}.service").write_text(text.replace("/usr/bin/docker", "/bin/true"))
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, tmp_path.glob("*.service")))],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line] == []
