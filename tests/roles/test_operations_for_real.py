"""Operations on files, run by this machine's shell: what a fixture cannot show (atomicity, links, cut-off runs)."""

import grp
import json
import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest
from real_host import CutOff, RealHost

from ojai.operations import apt, files, ledger

USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name
ME = {"user": USER, "group": GROUP}
as_root = pytest.mark.skipif(os.getuid() != 0, reason="the operation gives files to root")


@pytest.fixture
def host():
    return RealHost()


@pytest.fixture(autouse=True)
def notes(tmp_path_factory, monkeypatch):
    """The ledger, in a folder of the test's own."""
    state = tmp_path_factory.mktemp("state")
    for module in (ledger, files):
        monkeypatch.setattr(module, "ADDED_DIR", str(state / "added"))
    monkeypatch.setattr(ledger, "KEPT_DIR", str(state / "kept"))
    return state / "added"


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))[2:]


@pytest.mark.parametrize("name", ["plain.conf", "with blank", "it's", 'a"b', "$HOME", "-n", "é"])
def test_text_file_converges_at_any_name(host, tmp_path, name):
    place = tmp_path / "new folder" / name
    words = dict(path=str(place), text="a\n'b' $c\\\n", mode="640", **ME)
    assert host.apply(files.text_file, **words)
    assert place.read_text() == words["text"]
    assert mode(place) == "640"
    assert list(place.parent.iterdir()) == [place]
    assert not host.apply(files.text_file, **words)
    place.chmod(0o666)
    assert host.apply(files.text_file, **words)
    assert (mode(place), host.steps) == ("640", 1)
    place.write_text("other")
    assert host.apply(files.text_file, **words)
    assert place.read_text() == words["text"]
    assert not host.apply(files.text_file, **words)


def test_text_file_replaces_a_link_and_leaves_what_it_points_to(host, tmp_path):
    target = tmp_path / "theirs"
    target.write_text("theirs")
    place = tmp_path / "ours"
    place.symlink_to(target)
    assert host.apply(files.text_file, path=str(place), text="ours", **ME)
    assert (place.is_symlink(), place.read_text(), target.read_text()) == (False, "ours", "theirs")


def test_text_file_replaces_a_dangling_link(host, tmp_path):
    place = tmp_path / "ours"
    place.symlink_to("/dev/null/nowhere")
    assert host.apply(files.text_file, path=str(place), text="ours", **ME)
    assert (place.is_symlink(), place.read_text()) == (False, "ours")


def test_text_file_keeps_what_the_owner_had_there_until_removal(host, tmp_path):
    """Content, mode and kind; and a file of ours that was edited is not taken for the owner's."""
    place, link = tmp_path / "etc/a.conf", tmp_path / "etc/b.conf"
    place.parent.mkdir()
    place.write_text("the owner's\n")
    place.chmod(0o640)
    link.symlink_to("a.conf")
    for path in (place, link):
        words = {"path": str(path), "text": "# Made by ojai.\nours\n", **ME}
        assert host.apply(files.text_file, **words)
        path.write_text("edited")
        assert host.apply(files.text_file, **words)
        assert not host.apply(files.text_file, **words)
    assert not link.is_symlink()
    place.unlink()
    assert host.apply(ledger.kept_returned)
    assert (place.read_text(), place.stat().st_mode & 0o777) == ("the owner's\n", 0o640)
    assert link.readlink() == Path("a.conf")
    assert not host.apply(ledger.kept_returned)


def test_text_file_of_an_earlier_ojai_is_not_kept(host, tmp_path):
    place = tmp_path / "a.conf"
    place.write_text("# Made by ojai.\nan older one\n")
    assert host.apply(files.text_file, path=str(place), text="# Made by ojai.\nours\n", **ME)
    assert not host.apply(ledger.kept_returned)


@pytest.mark.parametrize("kind", ["file", "link", "nowhere"])
def test_set_aside_loses_nothing(host, tmp_path, kind):
    """Not even what comes back after it was set aside once."""
    place = tmp_path / "rocm.list"
    for text in ("first\n", "second\n"):
        if kind == "file":
            place.write_text(text)
        elif kind == "link":
            (tmp_path / text.strip()).write_text(text)
            place.symlink_to(text.strip())
        for _ in range(2):  # as after an interruption
            assert host.sh(ledger.set_aside(str(place))).returncode == 0
        assert not place.exists() and not place.is_symlink()
    assert host.apply(ledger.kept_returned) == (kind != "nowhere")
    if kind != "nowhere":
        assert place.read_text() == "second\n"
        assert Path(f"{place}.~1~").read_text() == "first\n"
        assert place.is_symlink() == (kind == "link")


def test_a_reader_never_sees_half_a_file(host, tmp_path):
    place = tmp_path / "conf"
    words = dict(path=str(place), text="new\n", mode="600", **ME)
    place.write_text("old\n")
    for step in range(3):
        with pytest.raises(CutOff):
            host.apply(files.text_file, cut_off_after=step, **words)
        assert place.read_text() == "old\n"
        for other in tmp_path.iterdir():
            assert other == place or mode(other) == "600", "readable by others while it is written"
    assert host.apply(files.text_file, **words)
    assert (place.read_text(), list(tmp_path.iterdir())) == ("new\n", [place])


@as_root
def test_secret_file_keeps_the_operators_lines(host, tmp_path):
    place = tmp_path / "etc" / "a.env"
    words = {"path": str(place), "header": "# yours\n"}
    assert host.apply(files.secret_file, values={}, **words)
    assert (place.read_text(), mode(place)) == ("# yours\n", "600")
    place.write_text("# yours\n\nVLLM_API_KEY='k k'\nHF_TOKEN=old")
    assert host.apply(files.secret_file, values={"HF_TOKEN": "new"}, **words)
    assert sorted(place.read_text().splitlines()) == ["", "# yours", "HF_TOKEN=new", "VLLM_API_KEY='k k'"]
    assert not host.apply(files.secret_file, values={"HF_TOKEN": "new"}, **words)
    assert not host.apply(files.secret_file, values={}, **words)


@as_root
def test_secret_file_keeps_bytes_that_are_no_text(host, tmp_path):
    place = tmp_path / "a.env"
    place.write_bytes(b"# caf\xe9 \x0c\xe2\x80\xa8 x\nA=1\n")
    assert host.apply(files.secret_file, path=str(place), header="", values={"HF_TOKEN": "hf_x"})
    assert place.read_bytes() == b"# caf\xe9 \x0c\xe2\x80\xa8 x\nA=1\nHF_TOKEN=hf_x\n"
    assert not host.apply(files.secret_file, path=str(place), header="", values={"HF_TOKEN": "hf_x"})


def test_absent_takes_links_not_their_targets(host, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "x").write_text("x")
    link, file, gone = tmp_path / "a link", tmp_path / "-f", tmp_path / "gone"
    link.symlink_to(target)
    file.write_text("")
    assert host.apply(files.absent, paths=[str(link), str(file), str(gone)], recursive=True)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "x").exists()
    assert not host.apply(files.absent, paths=[str(link), str(file)])


def test_folders_converge_and_keep_their_content(host, tmp_path):
    outer, inner = tmp_path / "a b", tmp_path / "a b" / "c"
    words = dict(paths=[str(outer), str(inner)], mode="750", **ME)
    assert host.apply(files.folders, **words)
    (inner / "x").write_text("x")
    (inner / "x").chmod(0o600)
    assert not host.apply(files.folders, **words)
    inner.chmod(0o777)
    assert host.apply(files.folders, **words)
    assert (mode(outer), mode(inner), mode(inner / "x")) == ("750", "750", "600")


def test_folders_follow_no_link(host, tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir(mode=0o700)
    link.symlink_to(target)
    with pytest.raises(AssertionError):
        host.apply(files.folders, paths=[str(link), str(tmp_path / "new")], mode="755", **ME)
    assert (mode(target), (tmp_path / "new").exists()) == ("700", False)


def test_note_and_forget_are_lists_of_words(host, notes):
    for _ in range(2):
        assert host.do(ledger.note("units", ["a.service", "-n", "b c"]))
    assert (notes / "units").read_text().splitlines() == ["a.service", "-n", "b c"]
    assert host.do(ledger.forget("units", ["-n", "a.service", "never there"]))
    assert (notes / "units").read_text().splitlines() == ["b c"]
    assert host.do(ledger.forget("units", ["b c"]))
    assert (notes / "units").read_text() == ""
    assert host.do(ledger.forget("no such list", ["b c"]))


OURS = {"log-driver": "json-file", "log-opts": {"max-size": "50m"}, "registry-mirrors": ["https://m.example.net"]}
THEIRS = {"data-root": "/big", "log-opts": {"labels": "a"}, "registry-mirrors": ["https://theirs.example.net"]}


@as_root
def test_json_merged_then_parted_gives_theirs_back(host, tmp_path, notes):
    place = tmp_path / "daemon.json"
    place.write_text(json.dumps(THEIRS))
    assert host.apply(files.json_merged, path=str(place), values=OURS)
    assert json.loads(place.read_text())["registry-mirrors"] == ["https://m.example.net", "https://theirs.example.net"]
    assert not host.apply(files.json_merged, path=str(place), values=OURS)
    assert host.apply(files.json_merged, path=str(place), values={})
    assert place.read_text() == json.dumps(THEIRS)
    assert not host.apply(files.json_merged, path=str(place), values={})
    assert list(notes.iterdir()) == []


@as_root
def test_json_merged_refuses_what_is_no_json_and_says_where(host, tmp_path, notes):
    place = tmp_path / "daemon.json"
    place.write_text('{"data-root": "/big",}')
    with pytest.raises(AssertionError):
        host.apply(files.json_merged, path=str(place), values=OURS)
    assert place.read_text() == '{"data-root": "/big",}'


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two fresh keys: ``{name: (fingerprint, armoured file, binary file)}``, and both in one file."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    found = {}
    for name in ("ours", "other"):
        subprocess.run([*gpg, "--quick-gen-key", name, "ed25519", "sign", "never"], check=True, capture_output=True)
        listing = subprocess.run([*gpg, "--with-colons", "-k", name], check=True, capture_output=True, text=True).stdout
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        subprocess.run([*gpg, "--quick-add-key", fingerprint, "cv25519", "encr", "never"], check=True)
        for suffix, how in (("asc", ["--armor"]), ("gpg", [])):
            subprocess.run([*gpg, *how, "--output", str(home / f"{name}.{suffix}"), "--export", name], check=True)
        found[name] = (fingerprint, home / f"{name}.asc", home / f"{name}.gpg")
    both = home / "both.gpg"
    subprocess.run([*gpg, "--output", str(both), "--export"], check=True)
    yield {**found, "both": both}
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@as_root
@pytest.mark.parametrize("form", [1, 2], ids=["armoured", "binary"])
def test_keyring_takes_the_key_that_was_asked_for(host, tmp_path, keys, form):
    place = tmp_path / "keyrings" / "a.gpg"
    fingerprint, url = keys["ours"][0], keys["ours"][form].as_uri()
    assert host.apply(apt.keyring, path=str(place), url=url, fingerprint=fingerprint)
    assert mode(place) == "644"
    assert place.read_bytes() == keys["ours"][2].read_bytes()
    assert not host.apply(apt.keyring, path=str(place), url=url, fingerprint=fingerprint.lower())
    place.write_bytes(keys["both"].read_bytes())
    assert host.apply(apt.keyring, path=str(place), url=url, fingerprint=fingerprint)
    assert place.read_bytes() == keys["ours"][2].read_bytes()


@as_root
@pytest.mark.parametrize("what", ["other", "both", "no key", "not there"])
def test_keyring_installs_nothing_else(host, tmp_path, keys, what):
    place, expected = tmp_path / "a.gpg", keys["ours"][0]
    file = {"other": keys["other"][1], "both": keys["both"]}.get(what, tmp_path / "file")
    if what == "no key":
        file.write_text("<html>not found</html>")
    with pytest.raises(AssertionError):
        host.apply(apt.keyring, path=str(place), url=file.as_uri(), fingerprint=expected)
    said = " ".join(host.errors)
    assert not place.exists()
    if what == "not there":
        assert f"could not be downloaded from {file.as_uri()}" in said
    else:
        found = {"other": keys["other"][0], "no key": "no key"}.get(what, expected)
        assert f"found {found}" in said and f"expected {expected}" in said
        assert "Nothing was installed" in said


@as_root
def test_a_secret_is_written_once(host, tmp_path):
    """Before: pyinfra's newline at the end was not counted, and each run wrote it again."""
    place = tmp_path / "secrets" / "TOKEN"
    assert host.apply(files.secret_text, path=str(place), text="one")
    assert (place.read_text(), mode(place), mode(place.parent)) == ("one\n", "600", "700")
    assert not host.apply(files.secret_text, path=str(place), text="one")
    assert host.apply(files.secret_text, path=str(place), text="two")
    assert place.read_text() == "two\n"
    assert not host.apply(files.secret_text, path=str(place), text=None)
