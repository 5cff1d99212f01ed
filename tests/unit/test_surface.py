"""What differs from the record: read, explained, judged by its kind, accepted; never recorded as if it were meant."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ojai import surface
from ojai.cli import main
from ojai.pyinfra_runs import accepting
from ojai.pyinfra_runs.verification import Verdict, read_junit
from ojai.settings import accepted, inventory, parse
from ojai.settings.accepted import AcceptedError, Note
from ojai.surface import Difference, program

SETTINGS = parse("mini", {"services": [{"profile": "gemma-4-e4b"}]})
FILE = {"perm": "644", "uid": "0", "gid": "0", "sha256": "A"}


def kind(what: str, was: Any = None, now: Any = FILE) -> str:
    return Difference(what, was, now).kind(SETTINGS).name


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("/etc/modprobe.d/own.conf", "boot"),
        ("/etc/default/grub", "boot"),
        ("/etc/systemd/system/docker.service.d/x.conf", "boot"),
        ("/run/systemd/system/vllm-gemma4.service.d/x.conf", "boot"),
        ("/etc/systemd/system/service.d/x.conf", "boot"),
        ("/etc/systemd/system/multi-user.target.wants/own.service", "boot"),
        ("/etc/systemd/system/default.target", "boot"),
        ("/etc/systemd/system/systemd-sysctl.service", "boot"),
        ("/etc/systemd/system-generators/own", "boot"),
        ("/etc/sudoers.d/own", "who"),
        ("/root/.ssh/authorized_keys", "who"),
        ("/home/ada/.ssh/authorized_keys", "who"),
        ("group: docker", "who"),
        ("container: vllm-gemma4 HostConfig.Memory", "runs"),
        ("device: /dev/kfd", "runs"),
        ("unit: docker.service", "runs"),
        ("/usr/bin/docker", "tools"),
        ("/usr/local/bin/docker", "tools"),
        ("/root/.docker/config.json", "tools"),
        ("/etc/ld.so.preload", "tools"),
        ("environment: DOCKER_HOST", "tools"),
        ("/etc/apt/preferences.d/own", "trust"),
        ("/usr/share/keyrings/own.gpg", "trust"),
        ("mount: /srv/ojai/huggingface", "mounts"),
        ("mount: /etc/docker", "mounts"),
        ("mount: /", "mounts"),
        ("/var/lib/ojai/added/packages", "data"),
        ("/srv/ojai/huggingface/hub/models--a--b/blobs/" + 64 * "a", "data"),
        ("/usr/lib/modules/6.17.0-1007-oem/updates/dkms/amdgpu.ko.zst", "boot"),
        ("/var/lib/extensions/own/usr", "boot"),
        ("/etc/credstore/tmpfiles.extra", "boot"),
        ("/etc/machine-id", "boot"),
        ("/etc/default/ssh", "boot"),
        ("/root/.config/systemd/user/own.service", "boot"),
        ("/run/systemd/transient/own.socket", "runs"),
        ("/etc/crypto-policies/back-ends/apt-sequoia.config", "trust"),
        ("/var/lib/dpkg/info/docker.io.postinst", "trust"),
        ("override: /usr/bin/find", "tools"),
        # Somebody's own doing.
        ("override: /usr/bin/crontab", "other"),
        ("/usr/bin/own", "other"),
        ("/usr/lib/modules/6.17.0-1007-oem/updates/dkms/zfs.ko", "other"),
        ("/etc/systemd/system/own.service", "other"),
        ("/etc/systemd/system/own.timer", "other"),
        ("/etc/systemd/system/timers.target.wants/own.timer", "other"),
        ("/etc/systemd/system/snap-core24-1234.mount", "other"),
        ("/etc/systemd/system/multi-user.target.wants/snap-core24-1234.mount", "other"),
        ("/etc/sysctl.d/50-own.conf", "other"),
        ("/etc/cron.d/own", "other"),
        ("/usr/local/bin/own", "other"),
        ("mount: /mnt/usb", "other"),
        ("hold: tzdata", "other"),
        ("/somewhere/else", "other"),
    ],
)
def test_what_a_difference_means_is_told_by_its_kind(what, expected):
    assert kind(what) == expected


@pytest.mark.parametrize("field", ["perm", "uid", "gid", "acl", "xattrs"])
def test_who_may_change_something_is_of_one_kind_whatever_it_is(field):
    assert kind("/etc/sysctl.d", FILE, {**FILE, field: "7"}) == "who"


def test_every_place_is_of_a_kind_and_every_kind_says_what_to_do():
    for place in surface._data()["places"]:
        assert place["kind"] in surface.kinds(), place
        assert place.get("read", "content") in surface._data()["reads"]
        for pattern in place["match"]:
            re.compile(surface._filled(pattern, SETTINGS))
    assert [name for name, one in surface.kinds().items() if not one.red] == ["other"]
    assert all(one.says and one.todo for one in surface.kinds().values())


def test_the_rules_begin_with_a_path_and_have_no_secret_s_hash():
    """AIDE takes no other; a hash of a short secret can be guessed."""
    rules = json.loads(surface.order(SETTINGS))["rules"].splitlines()
    assert rules and all(re.fullmatch(r"/\S* [a-z0-9+]+", rule) for rule in rules), rules
    hashed = [rule.split(" ")[0] for rule in rules if "sha256" in rule]
    for secret in (
        *("/etc/ojai/vllm-gemma4.env", "/etc/ojai/vllm-gemma4.secrets/HF_TOKEN", "/etc/ojai/gateway/keys/a.key"),
        *("/etc/shadow", "/root/.docker/config.json", "/var/lib/ojai/releases/healthy/vllm-gemma4.env"),
        *("/etc/ojai/gateway/server.key",),
    ):
        assert not [rule for rule in hashed if re.match(rule, secret)], secret


def test_a_difference_tells_what_when_and_whose():
    changed = Difference(
        "/etc/x", FILE, {**FILE, "perm": "666", "sha256": "B"}, when="2026-01-01 00:00:00", owner="ada"
    )
    assert str(changed) == "/etc/x: mode 644 -> 666, other content (2026-01-01 00:00:00, ada)"
    assert str(Difference("mount: /mnt", None, "tmpfs")) == "mount: /mnt: is new: tmpfs"
    assert str(Difference("/etc/x", FILE, None)) == "/etc/x: is gone"
    assert str(Difference("group: docker", "1", "1 ada")) == "group: docker: was 1, is 1 ada"


def test_what_was_accepted_is_explained_until_it_changes_again(tmp_path):
    file = tmp_path / "fleet.accepted.yaml"
    one = Difference("/etc/fstab", FILE, {**FILE, "sha256": "B"})
    note = Note(host="mini", what=one.what, state=one.state, why="the disk", by="ada", at="2026-01-01")
    accepted.add(file, [note])
    accepted.add(file, [note.model_copy(update={"why": "the new disk"})])
    (kept,) = accepted.read(file)
    assert kept.why == "the new disk" and "reviewed" in file.read_text()
    settings = SETTINGS.accepting((kept,))
    again = Difference("/etc/fstab", FILE, {**FILE, "sha256": "C"})
    explained = Difference("/etc/x", None, FILE, explained="as in package x")
    assert list(surface.unexplained(SETTINGS, [one])) == [one]
    assert list(surface.unexplained(settings, [one, again, explained])) == [again]
    file.write_text("- host: mini\n")
    with pytest.raises(AcceptedError, match="git checkout"):
        accepted.read(file)
    assert accepted.read(tmp_path / "none") == accepted.read(None) == ()


def answering(monkeypatch: pytest.MonkeyPatch, *differences: Difference) -> None:
    """Hosts that say so, in place of a run of the checks."""
    said = json.dumps(asdict(surface.Report(differences, things=9, cost={})))
    suite = ElementTree.Element("testsuite")
    case = ElementTree.SubElement(suite, "testcase", classname="test_surface", name="test_the_surface_was_recorded")
    ElementTree.SubElement(ElementTree.SubElement(case, "properties"), "property", name="surface", value=said)
    monkeypatch.setattr(
        accepting, "verify", lambda entries, plan: [Verdict(entry.name, suite, state="failed") for entry in entries]
    )


INVENTORY = "hosts = [('mini', {'services': []})]\n"


def test_a_difference_is_accepted_by_its_name_and_noted_beside_the_inventory(tmp_path, monkeypatch):
    answering(monkeypatch, Difference("/etc/fstab", None, FILE), Difference("/etc/x", None, FILE))
    (tmp_path / "fleet.py").write_text(INVENTORY)
    words = ["verify", str(tmp_path / "fleet.py"), "--accept", "/etc/fstab", "--why", "the new disk"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and "accepted in" in done.output, done.output
    (note,) = accepted.read(tmp_path / "fleet.accepted.yaml")
    assert (note.host, note.what, note.why) == ("mini", "/etc/fstab", "the new disk")
    (entry,) = inventory.read(str(tmp_path / "fleet.py"))
    assert entry.settings.accepted == (note,)
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2 and "nothing of this name is unexplained; unexplained are: /etc/x" in again.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--accept", "/etc/x"], "--accept and --why: give both"),
        (["--why", "x"], "--accept and --why: give both"),
        (["--accept", "/etc/x", "--why", "x", "--json"], "--accept: looks at the surface only"),
    ],
)
def test_what_cannot_be_accepted_is_a_usage_error(tmp_path, words, told):
    (tmp_path / "fleet.py").write_text(INVENTORY)
    done = CliRunner().invoke(main, ["verify", str(tmp_path / "fleet.py"), *words])
    assert done.exit_code == 2 and told in done.output, done.output


def test_a_warning_is_told_and_fails_only_where_that_is_asked_for():
    case = (
        '<testcase classname="test_surface" name="test_a" time="0">'
        '<properties><property name="warning" value="/etc/x"/></properties></testcase>'
    )
    document = f"<testsuites><testsuite time='1'>{case}</testsuite></testsuites>"
    (check,) = read_junit("mini", document).checks
    assert (check.outcome, check.message) == ("warned", "/etc/x") and read_junit("mini", document).ok
    strict = read_junit("mini", document, strict=True)
    assert strict.checks[0].outcome == "failed" and not strict.ok


def test_an_answer_that_is_none_is_an_error():
    assert surface.read("sh: python3: not found").error == "sh: python3: not found"
    assert surface.read('{"error": "no record"}').error == "no record"
    assert surface.read("").error == "no answer"


# ---- the program


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The program with a folder of its own, and the state that it finds."""
    for name, file in {"ORDER": "order", "RECORD": "record", "BEFORE": "before", "MADE_BY": "recorded"}.items():
        monkeypatch.setattr(program, name, tmp_path / file)
    (tmp_path / "order").write_text("{}")
    now: dict[str, Any] = {}
    monkeypatch.setattr(program, "whole", lambda order, cost=None: dict(now))
    return now


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program.RECORD.read_text())["state"]
    return found


def test_a_deploy_records_what_it_changed_and_nothing_else(host):
    host |= {"fixed": "1", "drifted": "1", "gone": "1"}
    assert program.main(["", "record"]) == 0 and recorded() == host
    host |= {"drifted": "2", "new": "1"}
    assert program.main(["", "before"]) == 0
    host |= {"fixed": "2", "made": "1"}
    del host["gone"]
    program.main(["", "record"])
    assert recorded() == {"fixed": "2", "drifted": "1", "made": "1"}
    assert not program.BEFORE.exists() and program.RECORD.stat().st_mode & 0o777 == 0o600


def test_a_record_that_is_made_again_takes_nothing_in(host):
    host["a"] = "1"
    program.main(["", "record"])
    host |= {"a": "2", "b": "1"}
    program.main(["", "record"])
    assert recorded() == {"a": "1"}


def test_another_order_adds_what_was_never_looked_at_and_keeps_the_rest(host):
    host["a"] = "1"
    program.main(["", "record"])
    program.ORDER.write_text('{"more": 1}')
    host |= {"a": "2", "b": "1"}
    program.main(["", "record"])
    assert recorded() == {"a": "1", "b": "1"}
    assert program.MADE_BY.read_text().strip() == program.order_sum()


def test_what_a_deploy_that_was_cut_off_saw_first_stands(host):
    host["a"] = "1"
    program.main(["", "record"])
    program.main(["", "before"])
    host["a"] = "2"
    program.main(["", "before"])
    program.main(["", "record"])
    assert recorded() == {"a": "2"}


def test_without_aide_before_it_a_deploy_takes_only_its_own_folder_for_its_own(host, monkeypatch):
    host |= {"/etc/a": "1", "/var/lib/ojai/added/packages": "1", "hold: a": "1"}
    program.main(["", "record"])
    host["/etc/a"] = "2"

    def gone(order):
        raise OSError("aide")

    with monkeypatch.context() as without:
        without.setattr(program, "whole", gone)
        without.setattr(program, "live", lambda order: {"hold: a": "1"})
        assert program.main(["", "before"]) == 0
    host |= {"/var/lib/ojai/added/packages": "2", "hold: a": "2"}
    program.main(["", "record"])
    assert recorded() == {"/etc/a": "1", "/var/lib/ojai/added/packages": "2", "hold: a": "2"}


def test_a_container_that_is_not_there_is_no_difference_of_its_limits():
    was = {"container: a HostConfig.Memory": "1", "container: b limit x": "1", "container: b limit y": "1"}
    found = program.compared({"at": 0, "state": was}, {"container: b limit y": "1"}, deep=False)
    assert [one["what"] for one in found] == ["container: b limit x"]


def test_aide_s_line_is_read_without_what_says_nothing():
    file = {"name": "/a", "perm": "100644", "uid": "0", "gid": "0", "size": "0", "acl": "0", "e2fsattrs": "524304"}
    assert program.fields(file) == {"perm": "100644", "uid": "0", "gid": "0", "e2fsattrs": "i"}
    folder = {"name": "/a", "perm": "40755", "uid": "0", "gid": "0", "size": "4096", "mtime": "MQ=="}
    assert program.fields(folder) == {"perm": "40755", "uid": "0", "gid": "0"}


class Dpkg(program.Packages):
    """One package with one file, whose content is ``good``."""

    def __init__(self, path: Path, laid: bool) -> None:
        self.owner = {str(path): "tool"}
        self.conffiles: dict[str, str] = {}
        self.moved = self.was_laid = laid

    def laid(self, path: str, package: str) -> bool:
        return self.was_laid

    def matches(self, path: str, package: str) -> bool:
        return Path(path).read_text() == "good"


@pytest.mark.parametrize(
    ("content", "changed", "laid", "expected"),
    [
        ("good", {"mtime": "2", "ctime": "2"}, False, "as in package tool"),
        ("bad", {"ctime": "2"}, True, ""),
        ("good", {"perm": "100666"}, False, ""),
        ("good", {"perm": "100755"}, True, "package tool, installed since"),
    ],
)
def test_a_package_explains_its_content_and_its_rights_only_as_it_laid_them(tmp_path, content, changed, laid, expected):
    file = tmp_path / "tool"
    file.write_text(content)
    was = {"perm": "100644", "uid": "0", "mtime": "1", "ctime": "1"}
    assert program.explanation(str(file), was, {**was, **changed}, Dpkg(file, laid)) == expected


@pytest.mark.parametrize("laid", [True, False])
def test_a_script_of_a_package_is_explained_by_its_installation_alone(laid, tmp_path):
    path, file = "/var/lib/dpkg/info/tool.postinst", {"perm": "100755", "sha256": "A"}
    none = Dpkg(tmp_path, laid)
    found = {
        program.explanation(path, file, {**file, "sha256": "B"}, none),
        program.explanation(path, None, file, none),
    }
    assert found == {"package tool, installed since" if laid else ""}
    assert bool(program.explanation(path, file, None, none)) == laid


def test_a_container_s_programs_that_are_not_its_image_s(tmp_path, monkeypatch):
    for path in (
        *("usr/bin/own", "opt/site-packages/own.pth", "usr/lib/aiter/jit/made.py", "usr/lib/__pycache__/own.py"),
        *("usr/share/own", "root/.cache/own.py", "tmp/own.py"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("1")
    line = f"1 2 0:77 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir={tmp_path},workdir=/w\n"
    monkeypatch.setattr(program, "text", lambda path: line)
    found = dict(program.changed_programs(7))
    assert set(found) == {"/usr/bin/own", "/opt/site-packages/own.pth"}
    assert found["/usr/bin/own"].startswith("1 bytes of ")


def test_who_may_join_a_group_and_where_accounts_come_from(monkeypatch):
    texts = {
        "/etc/gshadow": "docker:$6$a$b::\nrender:!:ada:\nsudo:*::\nown:$6$a$b::\n",
        "/etc/nsswitch.conf": "passwd:  extra  files\nhosts: files dns\n",
    }
    monkeypatch.setattr(program, "text", lambda path: texts.get(str(path), ""))
    assert dict(program.accounts({"groups": ["docker", "render", "sudo"], "accounts": []})) == {
        "group: docker, joined": "by a password",
        "group: render, administrators": "ada",
        "account: all, passwd of nsswitch.conf": "extra files",
    }


def test_a_blob_is_explained_by_the_hash_that_it_is_named_by(tmp_path):
    name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file = tmp_path / "blobs" / name
    file.parent.mkdir()
    none = Dpkg(tmp_path, laid=False)
    was = {"perm": "100644", "ctime": "1"}
    file.write_text("abc")
    assert program.explanation(str(file), was, {**was, "ctime": "2"}, none)
    file.write_text("abd")
    assert not program.explanation(str(file), was, {**was, "ctime": "2"}, none)


def test_a_program_before_those_of_the_packages_is_seen(tmp_path, monkeypatch):
    (tmp_path / "sh").touch(0o755)
    order = {"tools": ["sh"], "client_files": [str(tmp_path / "config.json")]}
    (tmp_path / "config.json").write_text('{"auths": {"r": {"auth": "S3CRET"}}, "currentContext": "far"}')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = dict(program.tools(order))
    assert found["tool: sh"] == str(tmp_path / "sh") and "S3CRET" not in str(found)
    assert found[f"docker client: {tmp_path}/config.json currentContext"] == '"far"'
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "tool: sh" not in dict(program.tools(order))


def test_an_access_list_is_told_as_rights():
    word = "POSIX,dXNlcjo6cnd4CnVzZXI6YWRhOnJ3eApncm91cDo6ci14Cm1hc2s6OnJ3eApvdGhlcjo6ci14Cg==,0"
    assert program.readable({"perm": "40755", "acl": word}) == {"perm": "755", "acl": "user:ada:rwx mask::rwx"}
    plain = "POSIX,dXNlcjo6cnd4Cmdyb3VwOjpyLXgKb3RoZXI6OnIteAo=,0"
    assert program.readable({"perm": "40755", "acl": plain}) == {"perm": "755"}


def test_the_data_names_each_thing_once():
    text = (Path(surface.__file__).parents[1] / "data" / "surface.yaml").read_text()
    found = [one for place in yaml.safe_load(text)["places"] for one in place["match"]]
    assert len(found) == len(set(found))
