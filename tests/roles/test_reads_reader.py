"""Forty attacks on reading ahead, by somebody who had read what it promises and not how it is written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sshd
from test_reads import DEPLOY, Box, drift, tree

pytestmark = sshd.needed

#: What the deploys below begin with. ``fact`` asks; ``note`` is an operation that writes down what its fact found.
HEAD = """
import gevent, os, time
from pathlib import Path
from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Command
from pyinfra.operations import files as stock_files, python, server
from ojai.connection import configure_connection, reads
from ojai.operations import files

configure_connection(host)
place = host.data._place
who = {"user": host.data._uid, "group": host.data._uid}

def fact(command, of=host):
    return of.get_fact(Command, command)

@operation()
def note(path):
    yield f"echo '{fact(f'cat {path}')}' >>'{place}/seen'"

fact("echo one")
fact("echo two")
"""


@pytest.fixture
def box(tmp_path):
    found = Box(tmp_path)
    yield found
    found.sshd.stop()


@pytest.fixture
def place(box):
    return box.host("mini")


def run(box: Box, *words: str) -> None:
    box.run(*words)
    assert box.status == 0, box.said


def look(run: subprocess.Popen[str]) -> None:
    """Until pyinfra asks whether to change what it found."""
    seen = ""
    while "Detected changes" not in seen or "Press enter" not in seen:
        part = os.read(run.stderr.fileno(), 4096).decode()
        assert part, seen
        seen += part


# Drift, and what reads and writes


def test_01_what_drifts_between_two_runs_is_repaired(box, place):
    box.changed()
    assert box.changed() == set()
    for number in (0, 7):
        (place / f"file {number}").write_text("drift\n")
        assert box.changed() == {f"Write {number}"}
        assert (place / f"file {number}").read_text() == f"text {number}\n"


def test_02_what_drifts_while_a_question_stands_or_another_host_is_changed(box, place):
    other = box.host("other")
    box.deploy(f"""{HEAD}
reads.STALE = 1
for number in range(3):
    files.text_file(name=f"First {{number}}", path=f"{{place}}/first {{number}}", text="first\\n", **who)
if host.name == "other":
    server.shell(name="Take long", commands=["sleep 1.5; echo drift >'{place}/last'"])
files.text_file(name="Last", path=f"{{place}}/last", text="last\\n", **who)
""")
    for _ in range(2):
        run(box)
        assert (place / "last").read_text() == "last\n"
    started = box.start()
    look(started)
    (place / "first 1").write_text("drift\n")
    time.sleep(1.2)
    _, said = started.communicate("\n", timeout=60)
    assert started.returncode == 0, said
    assert [(each / "first 1").read_text() for each in (place, other)] == ["first\n"] * 2
    assert (place / "last").read_text() == "last\n"


def test_03_a_fact_after_a_command_sees_what_it_did(box, place):
    (place / "value").write_text("before\n")
    box.deploy(f"""{HEAD}
fact(f"cat '{{place}}/value'")
server.shell(name="Change", commands=[f"echo after >'{{place}}/value'"])
note(name="Note", path=f"'{{place}}/value'")
""")
    for _ in range(3):
        (place / "value").write_text("before\n")
        run(box)
    assert (place / "seen").read_text() == "after\n" * 3


def test_04_a_fact_after_a_file_was_sent_sees_it(box, place):
    box.deploy(f"""{HEAD}
from io import StringIO
fact(f"cat '{{place}}/value'")
stock_files.put(name="Send", src=StringIO("sent\\n"), dest=f"{{place}}/value")
note(name="Note", path=f"'{{place}}/value'")
""")
    for _ in range(3):
        (place / "value").write_text("before\n")
        run(box)
    assert (place / "seen").read_text() == "sent\n" * 3


def test_05_what_reads_and_writes_runs_as_often_as_it_is_run(box, place):
    box.deploy(f"""{HEAD}
both = f"echo x >>'{{place}}/count'; cat '{{place}}/count'"
fact(both)

@operation()
def twice():
    host.run_shell_command(both)
    yield both

twice(name="Twice")
server.shell(name="Once", commands=[both])
""")
    for _ in range(3):
        (place / "count").unlink(missing_ok=True)
        box.run("--limit", "mini")
        # the fact; `twice` while it is looked at runs only to its first command, with -y not at all
        assert (place / "count").read_text() == "x\n" * 4


def test_06_what_a_program_of_this_machine_copies_there_is_seen(box, place, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "rsync"
    fake.write_text('#!/bin/sh\nfor to; do from=${before:-}; before=$to; done\ncp "$from" "${to#*:}"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    (box.folder / "new").write_text("copied\n")
    box.sshd.data["ssh_known_hosts_file"] = str(tmp_path / "known_hosts")
    target = tmp_path / "value"
    box.deploy(f"""{HEAD}
fact("cat {target}")
stock_files.rsync(name="Copy", src="new", dest="{target}")
note(name="Note", path="{target}")
""")
    box.host("mini", ssh_strict_host_key_checking="no")
    for _ in range(2):
        target.write_text("before\n")
        run(box)
    assert (place / "seen").read_text() == "copied\n" * 2


def test_07_a_function_that_waits_sees_what_the_host_does_itself(box, place):
    box.deploy(f"""{HEAD}
def wait():
    gevent.spawn_later(0.3, Path(f"{{place}}/done").touch)
    until = time.monotonic() + 5
    while not fact(f"ls '{{place}}'/done || true"):
        assert time.monotonic() < until, "never done"
        gevent.sleep(0.1)

python.call(name="Wait", function=wait)
""")
    for _ in range(2):
        (place / "done").unlink(missing_ok=True)
        run(box)


def test_08_a_function_that_changes_another_host_is_seen_there(box, place):
    box.host("other")
    box.deploy(f"""{HEAD}
fact("cat '{place}/value'")
if host.name == "other":
    def change():
        from pyinfra import inventory
        inventory.get_host("mini").run_shell_command("echo after >'{place}/value'")
    python.call(name="Change mini", function=change)
else:
    note(name="Note", path="'{place}/value'")
""")
    box.hosts = dict(reversed(box.hosts.items()))
    for _ in range(2):
        (place / "value").write_text("before\n")
        run(box)
    assert (place / "seen").read_text() == "after\n" * 2


def test_09_a_clock_that_jumps(box, place):
    box.changed()
    (path,) = box.lists
    os.utime(path, (2**33, 2**33))
    box.deploy(f"""
import itertools, time
jumps = itertools.cycle([0, 1e6, -1e6])
real = time.time
time.time = lambda: real() + next(jumps)
{DEPLOY}""")
    (place / "file 4").write_text("drift\n")
    assert box.changed() == {"Write 4"}
    box.count()
    assert box.changed() == set() and box.count() == 1


def test_10_a_file_is_fetched_as_it_is(box, place):
    box.deploy(f"""{HEAD}
fact(f"cat '{{place}}/value'")
stock_files.get(name="Fetch", src=f"{{place}}/value", dest="fetched", force=True)
server.shell(name="Change", commands=[f"echo after >'{{place}}/value'"])
stock_files.get(name="Fetch again", src=f"{{place}}/value", dest="fetched again", force=True)
""")
    for _ in range(2):
        (place / "value").write_text("before\n")
        run(box)
        assert (box.folder / "fetched").read_text() == "before\n"
        assert (box.folder / "fetched again").read_text() == "after\n"


def test_11_after_another_connection_everything_is_asked_again(box, place):
    box.deploy(f"""{HEAD}
fact(f"cat '{{place}}/value'")

@operation(is_idempotent=False)
def again():
    found = fact(f"cat '{{place}}/value'")
    host.disconnect()
    Path(f"{{place}}/value").write_text("after\\n")
    host.connect()
    configure_connection(host)
    yield f"echo {{found}} " + fact(f"cat '{{place}}/value'") + f" >'{{place}}/seen'"

again(name="Again")
""")
    for _ in range(2):
        (place / "value").write_text("before\n")
        run(box)
        assert (place / "seen").read_text() == "before after\n"


# Output and failures: what is asked at once, by a host with read-ahead and one without

QUESTIONS: dict[str, list[object]] = {
    "12 any byte": ["cat '{folder}/bytes'", "cat '{folder}/bytes' >&2; echo out", "printf '\\0\\0\\n\\0'"],
    "13 any end": [
        "printf 'no end'",
        "true",
        "printf '\\n'",
        "printf '\\n\\n\\n'",
        "printf 'a\\r\\nb\\r\\n'",
        "printf 'a\\rb\\n'",
        "printf '  around  \\n\\t\\n'",
        "printf 'a\\fb\\vc\\034d\\205e\\342\\200\\250f\\n'",
        "printf '\\357\\273\\277a'",
    ],
    "14 any size": ["cat '{folder}/long'", "seq 100000", "cat '{folder}/long' >&2; echo out"],
    "15 both streams": [
        "echo a; echo b >&2; echo c",
        "echo only >&2",
        "echo e >&2; exit 1",
        "echo o; echo e >&2; exit 1",
        "for i in 1 2 3; do echo $i; echo e$i >&2; done",
    ],
    "16 frames": [
        "cat '{folder}/frames'",
        "cat '{folder}/frames' >&2; echo x",
        "echo eA==",
        "echo a; echo ojai-answer",
    ],
    "17 words": [
        'echo "it\'s" \'a "b"\'',
        "echo a\necho b",
        "cat <<'E'\n$x `y` \\\nE",
        "cat <<E\n'$HOME'\nE",
        "echo $((1+1)) `echo z`",
        "echo '%s %d %% !! \\\\n'",
        "echo äß€𝄞",
        "# nothing\necho c # end",
        "echo a &&\\\necho b",
        "echo '\t'; echo \"$@\" $#",
        "echo -n -e x",
        "  echo lead",
        "(echo sub)",
        "{ echo group; }",
        "case a in a) echo in;; esac",
        "f() { echo f; }; f",
    ],
    "18 apart": [
        "cd /; pwd",
        "pwd",
        "umask 000; umask",
        "umask",
        "export PATH=/none; unset HOME; echo $PATH",
        "echo $HOME; ls / | wc -l",
        "exec >/dev/null; echo lost",
        "exec 1>&- 2>&-",
        "echo on",
        "set -e; false; echo no",
        "trap 'echo bye' EXIT; echo x",
        "one() { echo mine; }; main() { echo mine; }; one",
        "t=/; echo $t",
        "ulimit -n 20; ulimit -n",
        "ulimit -f 0; echo x",
        "set -f; alias cat=true",
        "exec sh -c 'echo other'",
        'echo "[$t][$1][$0]"',
        "IFS=:; PS4=x; set -x; echo a:b",
    ],
    "19 input": ["cat | wc -c", 'read x; echo "[$x]" $?', "head -n 1", "wc -c </dev/stdin", "test -t 0; echo $?"],
    "20 behind": [
        "(sleep 0.5; echo late) & echo early",
        "(sleep 0.5; echo late >&2) & exit 1",
        "(sleep 9 >/dev/null 2>&1 </dev/null &) ; echo fast",
    ],
    "21 failing": [
        "exit 7",
        "echo a; exit 124",
        "no-such-command",
        "exit 125",
        "/etc/passwd",
        "exit 255",
        "false | true",
        "exit 137",
    ],
    "22 signals": [
        "kill -9 $$",
        "echo a; kill $$",
        "echo a; kill 0; echo b",
        "kill -SEGV $$",
        "kill -PIPE $$",
        "kill -INT $$",
        "echo on",
    ],
    "29 places": [
        ("pwd", {"_chdir": "/"}),
        ("pwd", {"_chdir": "/usr"}),
        "pwd",
        ("echo $E", {"_env": {"E": "1"}}),
        "echo $E",
        ("echo ${BASH_VERSION:+bash}", {"_shell_executable": "bash"}),
        ("echo ${BASH_VERSION:+bash}", {"_shell_executable": "dash"}),
        ("echo $AS", {"_sudo": True}),
        ("echo $AS", {"_sudo": True, "_sudo_user": "a b"}),
        "echo $AS",
        ("echo $AS; pwd", {"_sudo": True, "_chdir": "/usr"}),
        ("echo $AS; pwd", {"_sudo": True, "_sudo_user": "c"}),
        ("exit 3", {"_success_exit_codes": [3]}),
        "exit 3",
        ("cat", {"_stdin": "x"}),
        ("sleep 9", {"_timeout": 1}),
    ],
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Of each of the questions above: what was answered without read-ahead, without a list, and with it."""
    folder = tmp_path_factory.mktemp("asked")
    box = Box(folder)
    (box.sshd.home / "bin/sudo").write_text(
        '#!/bin/sh\nexport AS=root\nwhile :; do case $1 in -u) AS=$2; shift 2 ;; -*) shift ;; *) break ;; esac; done\n'
        'exec "$@"\n'
    )  # fmt: skip
    (folder / "bytes").write_bytes(bytes(range(256)) * 3)
    (folder / "long").write_bytes(b"0123456789abcdef" * (5 << 16))
    (folder / "frames").write_text("ojai-read 0 0 :eA==:\nojai-read 1 0 ::\nojai-read -1 0 :eA==:\n\nojai-read\n")
    box.host("stock", connector="ssh")
    for data in box.hosts.values():
        data["_ignore_errors"] = True
    each = [one for group in QUESTIONS.values() for one in group]
    box.ask(*(
        (one[0].replace("{folder}", str(folder)), one[1]) if isinstance(one, tuple)
        else one.replace("{folder}", str(folder)) for one in each
    ))  # fmt: skip
    found = []
    for _ in range(2):
        box.run()
        found += [box.answers("stock"), box.answers()]
    box.sshd.stop()
    groups = [name for name, group in QUESTIONS.items() for _ in group]
    return list(zip(groups, each, *found, strict=True))


@pytest.mark.parametrize("case", QUESTIONS)
def test_any_answer_is_that_of_stock(asked, case):
    for group, question, stock, cold, again, warm in asked:
        if group == case:
            assert stock == again == cold == warm, question


# Failures


def test_23_what_hangs_and_is_asked_no_more_holds_nobody_up(box, place):
    box.ask("echo one", f"test ! -e '{place}/hang' || {{ trap '' TERM; sleep 60; }}", "echo two")
    run(box)
    box.ask("echo one", "echo two", "echo three")
    (place / "hang").touch()
    started = time.monotonic()
    run(box)
    assert box.answers() == ["one", "two", "three"] and time.monotonic() - started < 30


def test_24_a_connection_that_ends_among_the_answers(box, place):
    (box.sshd.home / "bin/hangup").write_text(f"""#!/bin/sh
rm '{place}/fatal' || exit 0
p=$$
until case $(cat /proc/$p/comm) in sshd*) true ;; *) false ;; esac; do p=$(awk '{{print $4}}' /proc/$p/stat); done
kill -9 "$p"
sleep 5
""")
    (box.sshd.home / "bin/hangup").chmod(0o755)
    box.ask("echo one", "hangup 2>/dev/null", "head -c 300000 /dev/zero | tr '\\0' y")
    run(box)
    expected = box.answers()
    (place / "fatal").touch()
    box.run()
    assert box.status == 1 and "Traceback" not in box.said and "mini" in box.said
    run(box)
    assert box.answers() == expected


def test_25_an_answer_cut_short_is_asked_for_again(box):
    (box.sshd.home / "bin/sh").write_text('#!/bin/sh\n[ $# -gt 0 ] && exec /bin/sh "$@"\n/bin/sh | head -c 100\n')
    (box.sshd.home / "bin/sh").chmod(0o755)
    expected = [f"{number} of a few" for number in range(20)]
    box.ask(*(f"echo '{each}'" for each in expected))
    for _ in range(2):
        box.count()
        run(box)
        assert box.answers() == expected
    assert 10 < box.count() <= 21


@pytest.mark.parametrize("tool", ["base64 without -w", "a timeout that says how to use it", "mktemp that fails"])
def test_26_a_host_with_other_tools_is_asked_one_by_one(box, tool):
    fake = box.sshd.home / "bin" / next(each for each in ("base64", "timeout", "mktemp") if each in tool)
    fake.write_text("#!/bin/sh\necho 'invalid option' >&2\nexit 1\n")
    fake.chmod(0o755)
    box.ask("echo one", "echo two", "echo three", "true")
    for _ in range(2):
        run(box)
        assert box.answers()[:3] == ["one", "two", "three"]


@pytest.mark.parametrize("bashrc", ["trap '' XFSZ; ulimit -f 1\n", "ulimit -f 1\n", "export TMPDIR=/nowhere\n"])
def test_27_a_host_without_room_is_asked_one_by_one(tmp_path, bashrc):
    box = Box(tmp_path, bashrc=bashrc)
    try:
        expected = ["x" * 5000, "\n".join(map(str, range(1, 2001))), "end"]
        box.ask("echo begin", f"echo {expected[0]}; true", "seq 2000; true", "echo end")
        for _ in range(2):
            run(box)
            assert box.answers()[1:] == expected
    finally:
        box.sshd.stop()


# Users and shells


def test_28_sudo_with_a_password(box, place):
    (box.sshd.home / "bin/sudo").write_text(f"""#!/bin/sh
echo x >>'{place}/tries'
[ "$("$SUDO_ASKPASS")" = 'a "b" $c' ] || {{ echo 'sudo: no password was provided' >&2; exit 1; }}
while :; do case $1 in -u) shift 2 ;; -*) shift ;; *) break ;; esac; done
export AS=root
exec "$@"
""")
    box.hosts["mini"].update(_sudo=True, _sudo_password='a "b" $c')
    box.ask(*(f"echo $AS {number}" for number in range(20)))
    for _ in range(2):
        box.count()
        run(box)
        assert box.answers() == [f"root {number}" for number in range(20)]
    assert box.count() <= 4
    tried = {}
    for connector in ("ssh", "fast"):
        box.hosts["mini"].update(_sudo_password="wrong", connector=connector)
        (place / "tries").unlink()
        box.run()
        assert box.status == 1
        tried[connector] = (place / "tries").read_text()
    assert tried["fast"] == tried["ssh"]
    assert all("$c" not in path.read_text() for path in box.lists)


@pytest.mark.parametrize("shell", ["fish", "dash", "csh", "tcsh", "zsh", "nologin"])
def test_30_any_login_shell(tmp_path, shell):
    found = subprocess.run(["sh", "-c", f"PATH=$PATH:/usr/sbin command -v {shell}"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no {shell} here")
    call = f"""if [ -z "$INNER" ]; then export INNER=1; exec {found.stdout.strip()} -c "$BASH_EXECUTION_STRING"; fi\n"""
    box = Box(tmp_path, bashrc=call)
    try:
        box.host("stock", connector="ssh")
        box.ask("echo one", "echo \"it's\" '$x'", "cat <<'E'\n`a`\nE", "exit 0", "echo $((2 + 2))")
        for _ in range(2):
            box.count()
            box.run("--limit", "stock")
            alone = box.count()
            status, said = box.status, box.said
            box.run("--limit", "mini")
            assert box.status == status == (shell == "nologin"), said + box.said
            if shell != "nologin":
                assert box.answers() == box.answers("stock")
        assert shell == "nologin" or box.count() < alone
    finally:
        box.sshd.stop()


def test_31_a_login_that_greets(tmp_path):
    greeting = "Welcome!\\nojai-read 0 0 :eA==:\\n\\0\\377 no end of line"
    box = Box(tmp_path, bashrc=f"printf '{greeting}'; printf '{greeting}' >&2; cd /; set -u; exec 3>&1\n")
    try:
        box.ask("echo one", "true", "printf two", "pwd")
        for _ in range(2):
            box.count()
            run(box)
            assert box.answers()[0::2] == ["one", "two"] and not box.answers()[1]
        assert box.count() == 1
    finally:
        box.sshd.stop()


# The list


def test_32_a_changed_deploy(box, place):
    box.ask("echo one", f"cat '{place}/gone'", "echo two")
    (place / "gone").touch()
    run(box)
    (place / "gone").unlink()
    box.ask("echo zero", "echo two", "echo one", "echo four")
    for at_most in (4, 1):
        box.count()
        run(box)
        assert box.answers() == ["zero", "two", "one", "four"]
        assert box.count() <= at_most
    (path,) = box.lists
    assert "gone" not in path.read_text()


def test_33_a_damaged_list(box):
    here = [None] * 6
    box.ask("echo one", "echo two")
    run(box)
    (path,) = box.lists
    good = path.read_bytes()
    for damage in (
        b"\0" * 9,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"reads": 3}',
        b'{"version": 9}',
        {"reads": [["echo one", [[], {}, None, None, None, None]]]},
        {"reads": [["echo one", here], ["echo \ud800", here]]},
        {"reads": [["echo one", here], ["echo \0 x", here], ["(", here], [3, here]]},
        {"reads": [["echo one", here], *([f"echo {'x' * 40_000} {number}", here] for number in range(500))]},
    ):
        path.write_bytes(damage if isinstance(damage, bytes) else json.dumps(damage).encode())
        run(box)
        assert box.answers() == ["one", "two"] and path.read_bytes() == good, str(damage)[:99]


def test_34_a_list_of_others_or_none_at_all(box, place, tmp_path):
    box.ask("echo one", "echo two")
    run(box)
    (path,) = box.lists
    planted = path.read_text().replace("echo two", f"touch '{place}/planted'")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(planted)
    elsewhere.chmod(0o600)
    for damage in (
        lambda: path.symlink_to(elsewhere),
        lambda: os.mkfifo(path, 0o600),
        lambda: (path.write_text(planted), path.chmod(0o620)),
        lambda: (path.write_text(planted), path.chmod(0o602)),
        lambda: path.mkdir(),
    ):
        path.unlink()
        damage()
        run(box)
        assert box.answers() == ["one", "two"] and not (place / "planted").exists()
    assert elsewhere.read_text() == planted


def test_35_a_cache_folder_that_cannot_be(box, tmp_path):
    (tmp_path / "file").touch()
    box.cache = tmp_path / "file"
    box.ask("echo one", "echo two")
    run(box)
    assert box.answers() == ["one", "two"]
    box.cache = Path("relative")
    box.deploy(f"""
import os, pwd
def unknown(uid):
    raise KeyError(uid)
os.environ.pop("HOME")
pwd.getpwuid = unknown
{(box.folder / "deploy.py").read_text()}""")
    run(box)
    assert box.answers() == ["one", "two"] and not (box.folder / "relative").exists()


def test_36_no_secret_and_no_answer_is_kept(box):
    (box.sshd.home / "answer").write_text("the answer\n")
    box.deploy(f"""{HEAD}
from pyinfra.api import FactBase, HiddenValue, StringCommand
class Hidden(FactBase):
    def command(self, word):
        return StringCommand("echo", word)
assert host.get_fact(Hidden, word=HiddenValue("hush1")) == "hush1"
assert host.get_fact(Command, "echo $W", _env={{"W": "hush2"}}) == "hush2"
assert host.get_fact(Command, "cat", _stdin="hush3") == "hush3"
assert fact("cat $HOME/answer") == "the answer"
""")
    box.hosts["mini"].update(_sudo=True, _sudo_password="hush4")
    for _ in range(2):
        run(box)
    (path,) = box.lists
    kept = path.read_text()
    assert "$HOME/answer" in kept and "hush" not in kept and "the answer" not in kept
    assert (path.stat().st_mode & 0o7777, path.parent.stat().st_mode & 0o7777) == (0o600, 0o700)


def test_37_four_runs_at_once(box):
    box.ask(*(f"echo {number}" for number in range(30)))
    started = [box.start("-y") for _ in range(4)]
    for each in started:
        _, said = each.communicate(timeout=120)
        assert each.returncode == 0, said
        assert box.answers() == [str(number) for number in range(30)]
    assert len(box.lists) == 1
    box.count()
    run(box)
    assert box.count() == 1


# Runs


def test_38_many_hosts_of_any_name(box, place):
    for name in ("a/b", "../../up", "n" * 300, "grüß gott"):
        box.host(str(len(box.hosts)))
        box.hosts[name] = box.hosts.pop(str(len(box.hosts) - 1))
    # answers that differ a host, for the same words
    for data in box.hosts.values():
        (Path(data["_place"]) / "id").write_text(data["_place"] + "\n")
        data["_chdir"] = data["_place"]
    box.deploy(f"""{HEAD}
assert fact("cat id") == place
files.text_file(name="File", path=f"{{place}}/file", text=f"{{fact('cat id')}}\\n", **who)
""")
    expected = {data["_place"] for data in box.hosts.values()}
    for words in (["--dry"], [], ["--serial"], ["--limit", "mini"], ["--parallel", "1"]):
        run(box, *words)
    assert {(Path(each) / "file").read_text().strip() for each in expected} == expected
    assert len(box.lists) == 5 and {path.parent for path in box.lists} == {box.cache / "ojai/reads"}
    box.count()
    run(box)
    assert box.count() == 5


def test_39_another_machine_of_the_same_name_and_another_deploy(box, tmp_path):
    (tmp_path / "second").mkdir()
    second = sshd.Sshd(tmp_path / "second")
    try:
        box.ask("echo $HOME", "echo two")
        run(box)
        box.hosts["mini"].update(second.data)
        run(box)
        assert box.answers() == [str(second.home), "two"]
        (box.folder / "other.py").write_text(HEAD)
        subprocess.run(
            [sys.executable, "-m", "pyinfra", "-y", "hosts.py", "other.py"], cwd=box.folder, check=True,
            env={**os.environ, "XDG_CACHE_HOME": str(box.cache)}, capture_output=True,
        )  # fmt: skip
        assert len(box.lists) == 3
        first, box.sshd = box.sshd, second
        box.count()
        run(box)
        warm, box.sshd = box.count(), first
        assert warm == 1
    finally:
        second.stop()


def test_40_the_same_as_stock_operation_by_operation_in_few_commands(box, place):
    stock = box.host("stock", connector="ssh")
    dice = random.Random(40)
    run(box)
    for _ in range(4):
        drift(dice, [place, stock])
        found = box.run()
        assert all(set(counts) <= {0, 2} for counts in found.values()), box.said
        assert tree(place) == tree(stock)
    del box.hosts["stock"]
    (path,) = box.lists
    run(box)
    distinct = len(json.loads(path.read_text())["reads"])
    box.count()
    for other in (["fact", "server.Hostname"], ["exec", "--", "true"]):
        subprocess.run(
            [sys.executable, "-m", "pyinfra", "-y", "hosts.py", *other], cwd=box.folder, check=True,
            env={**os.environ, "XDG_CACHE_HOME": str(box.cache)}, capture_output=True,
        )  # fmt: skip
    started = box.start()
    started.communicate("", timeout=60)
    box.deploy(DEPLOY + 'server.shell(name="Fail", commands=["false"])\n')
    box.run()
    assert box.status == 1
    box.deploy(DEPLOY)
    box.count()
    run(box)
    assert box.count() <= 2
    path.unlink()
    run(box)
    assert box.count() <= 1 + distinct
