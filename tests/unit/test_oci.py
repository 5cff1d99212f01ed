"""The stand-in's image: what stays of Debian, archives that do not change, the cache, the push."""

import io
import sys
import tarfile
from pathlib import Path

import pytest

from ojai.lab import oci
from ojai.lab.errors import LabError


def program(folder, name, text):
    """Put a Python program on a folder that a test puts in front of PATH."""
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(0o755)


@pytest.mark.parametrize(
    "name",
    [
        "bin", "lib64", "tmp", "usr/bin/dash", "usr/bin/python3.13", "etc/os-release", "var/tmp",
        "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "usr/lib/python3.13/json/decoder.py", "usr/lib/python3.13/__pycache__/argparse.cpython-313.pyc",
        "usr/lib/python3.13/lib-dynload/_json.cpython-313-x86_64-linux-gnu.so", "opt/ojai-lab/modelserver/api.py",
        "usr/local/bin/vllm", "usr/lib/os-release",
    ],
)  # fmt: skip
def test_what_stays(name):
    assert oci.keep(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "dev/null", "etc/shadow", "etc/apt/sources.list", "usr/share/doc/bash/copyright", "usr/bin/dpkg",
        "usr/bin/perl", "usr/lib/x86_64-linux-gnu/libcrypto.so.3", "usr/lib/x86_64-linux-gnu/perl/5.40",
        "usr/lib/python3.13/test/test_json.py", "usr/lib/python3.13/turtle.py", "var/lib/dpkg/status",
        "usr/lib/python3.13/__pycache__/turtle.cpython-313.pyc", "usr/lib/python3/dist-packages/x.py",
        "usr/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so", "root/.bashrc", "home/x",
    ],
)  # fmt: skip
def test_what_goes(name):
    assert not oci.keep(name)


def whole(path, names, mtime):
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.mtime, member.uname = mtime, "builder"
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = 3
                archive.addfile(member, io.BytesIO(b"abc"))
        device = tarfile.TarInfo("./usr/bin/device")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)


def test_layers_do_not_depend_on_order_or_dates(tmp_path):
    names = ["./usr/bin/", "./usr/bin/dash", "./usr/bin/cat", "./etc/shadow"]
    whole(tmp_path / "one.tar", names, 1)
    whole(tmp_path / "two.tar", list(reversed(names)), 2)
    for name in ("one", "two"):
        oci.write_layer(tmp_path / f"{name}.tar", tmp_path / f"{name}.layer", oci.keep)
    assert (tmp_path / "one.layer").read_bytes() == (tmp_path / "two.layer").read_bytes()
    with tarfile.open(tmp_path / "one.layer") as layer:
        assert layer.getnames() == ["usr/bin", "usr/bin/cat", "usr/bin/dash"]
        assert {member.mtime for member in layer} == {oci.EPOCH}


def test_accounts_have_the_groups_that_docker_run_names(tmp_path):
    whole(tmp_path / "whole.tar", ["usr/bin/dash"], 1)
    oci.write_layer(tmp_path / "whole.tar", tmp_path / "layer.tar", oci.keep)
    oci._accounts_layer(tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as layer:
        groups = [line.split(b":")[0] for line in layer.extractfile("etc/group")]
        assert {b"video", b"render", b"root"} <= set(groups)
        assert "usr/bin/dash" in layer.getnames()


def test_the_server_is_staged_whole(tmp_path):
    oci._stage(tmp_path)
    server = tmp_path / "opt/ojai-lab/modelserver"
    sources = {path.name for path in Path(oci.SOURCE).glob("*.py")}
    assert "server.py" in sources
    assert {path.name for path in server.iterdir()} == sources | {"models.json", "vllm-0.20.1.json"}
    assert (tmp_path / "usr/local/bin/vllm").stat().st_mode & 0o777 == 0o755


def test_the_hash_follows_the_inputs(tmp_path, monkeypatch):
    before = oci.inputs_hash()
    assert before == oci.inputs_hash()
    source = tmp_path / "modelserver"
    source.mkdir()
    for path in oci.SOURCE.glob("*.*"):
        (source / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(oci, "SOURCE", source)
    assert oci.inputs_hash() == before, "where the sources are does not count"
    with (source / "server.py").open("a") as file:
        file.write("#")
    assert oci.inputs_hash() != before


def test_a_layout_that_is_there_is_taken(tmp_path, monkeypatch):
    layout = tmp_path / f"modelserver-{oci.inputs_hash()}"
    layout.mkdir()
    (layout / "index.json").write_text("{}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert oci.build(tmp_path) == layout


def test_without_its_programs_it_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="not installed: mmdebstrap, umoci, skopeo"):
        oci.build(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    programs, cache = tmp_path / "bin", tmp_path / "cache"
    programs.mkdir()
    program(programs, "mmdebstrap", "raise SystemExit('no network')")
    for name in ("umoci", "skopeo"):
        program(programs, name, "")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(LabError, match="no network"):
        oci.build(cache)
    assert list(cache.iterdir()) == []


FAKE_SKOPEO = """
import pathlib, sys
words = sys.argv[1:]
target = words[-1]
if not target.startswith("docker://127.0.0.1:5000/vllm/vllm-openai-rocm:") or "--dest-tls-verify=false" not in words:
    raise SystemExit(f"wrong: {words}")
layout, _, tag = words[-2].rpartition(":")
if not layout.startswith("oci:/") or not target.endswith(":" + tag):
    raise SystemExit(f"wrong: {words}")
pathlib.Path(words[words.index("--digestfile") + 1]).write_text("sha256:" + tag + "\\n")
"""


def test_push_copies_every_tag_and_returns_the_digests(tmp_path, monkeypatch):
    program(tmp_path, "skopeo", FAKE_SKOPEO)
    monkeypatch.setenv("PATH", str(tmp_path))
    pushed = oci.push(Path("/somewhere/layout"), "127.0.0.1:5000")
    assert pushed == {tag: f"sha256:{tag}" for tag in ("v0.20.1", "latest", "v0.20.1-next", "broken")}
    with pytest.raises(LabError, match=r"pushing docker://elsewhere:1/.*\n.*wrong"):
        oci.push(Path("/somewhere/layout"), "elsewhere:1")
