"""What may be pruned: of hostile cases, nothing of the owner's, and nothing that anything uses."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ojai.facts import prune_program
from ojai.facts.prune import Commit, Kept, PulledImage, SomeContainer
from ojai.operations import prune
from ojai.settings import parse
from ojai.settings.lock import Lock, profile_hash

IMAGE, MODEL = "vllm/vllm-openai-rocm", "google/gemma-4-E4B-it"
FOLDER = "/srv/ojai/huggingface/hub/models--google--gemma-4-E4B-it"
OLD, NEW = "1" * 40, "2" * 40
DIGESTS = [f"sha256:{letter * 64}" for letter in "ab"]
PAST = PulledImage(f"{IMAGE}:v0.19.0", "sha256:1", 20, (f"{IMAGE}:v0.19.0",), (f"{IMAGE}@{DIGESTS[0]}",))
GONE = Commit(FOLDER, OLD, {"b1": 1000, "b2": 24}, refs=("main",))
#: An image and a commit of the past, beside those that are served.
KEPT = Kept(
    images=(PAST, PulledImage(f"{IMAGE}:v0.20.1", "sha256:2", 20, (f"{IMAGE}:v0.20.1",), (f"{IMAGE}@{DIGESTS[1]}",))),
    containers=(SomeContainer("vllm-gemma4", "sha256:2", ("/srv/ojai/huggingface",)),),
    models=(GONE, Commit(FOLDER, NEW, {"b3": 7})),
    records={"models--google--gemma-4-E4B-it@main": NEW},
    texts=(f"ExecStart=/usr/bin/docker run {IMAGE}:v0.20.1 {MODEL} --revision {NEW}",),
)
SETTINGS = parse("mini", {})


def left(found: Kept, settings=SETTINGS) -> list[str]:
    return [one.what for one in prune.unused(settings, found)]


def test_what_was_replaced_is_unused_and_what_serves_is_not():
    assert left(KEPT) == [f"{IMAGE}:v0.19.0", f"{MODEL} at {OLD[:12]}"]
    assert [one.size for one in prune.unused(SETTINGS, KEPT)] == [20, 1024]


def image(**changes) -> Kept:
    return replace(KEPT, images=(replace(PAST, **changes), *KEPT.images[1:]))


def model(**changes) -> Kept:
    return replace(KEPT, models=(replace(GONE, **changes), *KEPT.models[1:]))


def beside(*more: SomeContainer) -> Kept:
    return replace(KEPT, containers=(*KEPT.containers, *more))


HELD_IMAGES = {
    "a container of the owner's that is stopped": beside(SomeContainer("ada", "sha256:1")),
    "a name that the owner gave it": image(RepoTags=(f"{IMAGE}:v0.19.0", "ada/mine:1")),
    "the owner's name in a private registry": image(RepoTags=("registry.lan/vllm:1",)),
    "a digest of another repository": image(RepoDigests=(f"ada/mine@{DIGESTS[0]}",)),
    "a saved release": image(RepoTags=(f"{IMAGE}:v0.19.0", "ojai-release:vllm-gemma4-previous")),
    "a unit of the owner's that starts it": replace(KEPT, texts=(*KEPT.texts, f"ExecStart=docker run {IMAGE}:v0.19.0")),
    "Docker that does not answer": replace(KEPT, containers=None),
    "a tag that is served by another digest's image": image(name=f"{IMAGE}:v0.20.1", RepoTags=(f"{IMAGE}:v0.20.1",)),
}


@pytest.mark.parametrize("found", HELD_IMAGES.values(), ids=HELD_IMAGES)
def test_an_image_that_something_uses_stays(found):
    assert f"{IMAGE}:v0.19.0" not in left(found) and not any(IMAGE in one for one in left(found))


HELD_MODELS = {
    "a file of the owner's in its folder": model(foreign=("adapter.safetensors",)),
    "a process that has it open": model(open=("b1",)),
    "a branch that another program wrote": model(their_refs=("dev",)),
    "a container of the owner's with the cache": beside(SomeContainer("ada", "sha256:9", ("/srv/ojai/huggingface",))),
    "a container of the owner's with all of /srv": beside(SomeContainer("ada", "sha256:9", ("/srv",))),
    "a container of the owner's with just this": beside(SomeContainer("ada", "sha256:9", (f"{FOLDER}/snapshots/x",))),
    "a saved release that names it": replace(KEPT, texts=(*KEPT.texts, f"--revision {OLD}")),
    "a unit that names the model and no commit": replace(KEPT, texts=(*KEPT.texts, f"ExecStart=serve {MODEL}")),
    "a model of which no record is left": replace(KEPT, records={}),
    "a cache elsewhere than ours": model(folder=FOLDER.replace("/srv/ojai", "/home/ada")),
    "Docker that does not answer": replace(KEPT, containers=None),
}


@pytest.mark.parametrize("found", HELD_MODELS.values(), ids=HELD_MODELS)
def test_a_commit_that_something_uses_stays(found):
    assert not any(MODEL in one for one in left(found))


def test_caches_of_the_owner_s_are_never_looked_into():
    adopted = SETTINGS.using({"huggingface": "/srv/ojai/huggingface-of-ada"})
    found = model(folder=FOLDER.replace("/huggingface/", "/huggingface-of-ada/"))
    assert not any(MODEL in one for one in left(found, adopted))


def test_what_the_lock_names_stays_though_the_host_has_moved_on():
    lock = Lock.model_validate(
        {
            "ojai": "0.9.0",
            "images": {
                f"{IMAGE}:v0.20.1": {"digest": DIGESTS[0], "engine": "vllm 0.20.1", "contract": "0" * 64},
            },
            "models": {f"{MODEL}@main": {"commit": OLD, "files": {"config.json": {"size": 1, "hash": "0" * 40}}}},
            "profiles": {"gemma-4-e4b": profile_hash("gemma-4-e4b")},
        }
    )
    found = left(KEPT, SETTINGS.locked(lock))
    assert f"{IMAGE}:v0.19.0" not in found and f"{MODEL} at {OLD[:12]}" not in found


def test_an_image_under_a_locked_tag_goes_once_the_digest_has_moved():
    """The same tag, pulled by an earlier digest."""
    first = PulledImage(f"{IMAGE}:v0.20.1@{DIGESTS[0]}", "sha256:1", 20, (), (f"{IMAGE}@{DIGESTS[0]}",))
    unit = f"docker run {IMAGE}:v0.20.1@{DIGESTS[1]} {MODEL} --revision {NEW}"
    settings = parse("mini", {"services": [{"image_digest": DIGESTS[1]}]})
    found = replace(KEPT, images=(first, *KEPT.images[1:]), texts=(unit,))
    assert left(found, settings)[0] == first.name
    assert first.name not in left(replace(found, texts=(unit, unit.replace(DIGESTS[1], DIGESTS[0]))), settings)


# The host's side, on a real folder.


@pytest.fixture
def host(tmp_path, monkeypatch) -> Path:
    """A cache with two commits that share a file, and the ledger of a host."""
    state, folder = tmp_path / "state", tmp_path / "hub" / "models--x--y"
    blobs = {"shared": b"1234", "old": b"12", "new": b"123"}
    (folder / "blobs").mkdir(parents=True)
    for name, content in blobs.items():
        (folder / "blobs" / name).write_bytes(content)
    for commit, mine in ((OLD, "old"), (NEW, "new")):
        place = folder / "snapshots" / commit
        (place / "sub").mkdir(parents=True)
        (place / "config.json").symlink_to("../../blobs/shared")
        (place / "sub" / "model.safetensors").symlink_to(f"../../../blobs/{mine}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(OLD)
    (state / "weights").mkdir(parents=True)
    (state / "weights" / "ours").write_text(f"{folder}\tsnapshots\t{OLD}\n{folder}\trefs\tmain\n")
    (state / "weights" / "models--x--y@main").write_text(f"ojai-weights\t1\ncommit\t{OLD}\ncomplete\n")
    return tmp_path


def asked(host: Path) -> list[dict]:
    return list(prune_program.models(host / "state"))


def test_only_what_was_noted_is_told_with_what_is_its_alone(host):
    (found,) = asked(host)
    assert found["commit"] == OLD and found["blobs"] == {"old": 2} and found["foreign"] == found["open"] == []
    assert (found["refs"], found["their_refs"]) == (["main"], [])
    assert prune_program.records(host / "state") == {"models--x--y@main": OLD}


def test_a_file_of_somebody_else_s_is_seen_and_so_is_an_open_one_and_a_branch(host):
    folder = host / "hub" / "models--x--y"
    (folder / "snapshots" / OLD / "mine.bin").write_text("of the owner's")
    (folder / "refs" / "dev").write_text(OLD)
    with (folder / "snapshots" / OLD / "sub" / "model.safetensors").open("rb"):
        (found,) = asked(host)
    assert found["foreign"] == ["mine.bin"] and found["open"] == ["old"] and found["their_refs"] == ["dev"]
    (folder / "snapshots" / OLD / "mine.bin").unlink()
    (folder / "snapshots" / OLD / "mine.bin").symlink_to("/etc/hostname")
    assert asked(host)[0]["foreign"] == ["mine.bin"]


def test_a_folder_that_is_a_link_elsewhere_is_left_alone(host):
    folder = host / "hub" / "models--x--y"
    folder.rename(host / "elsewhere")
    folder.symlink_to(host / "elsewhere")
    assert asked(host) == []


def test_removal_takes_the_commit_and_leaves_the_other_whole(host):
    folder, state = host / "hub" / "models--x--y", host / "state"
    (found,) = asked(host)
    shell = prune._remove(Commit(**found), ["models--x--y@main"]).replace("/var/lib/ojai", str(state))
    subprocess.run(["sh", "-ec", shell], check=True)
    assert sorted(one.name for one in (folder / "blobs").iterdir()) == ["new", "shared"]
    assert (folder / "snapshots" / NEW / "config.json").read_bytes() == b"1234"
    assert not (folder / "snapshots" / OLD).exists() and not (folder / "refs" / "main").exists()
    assert (state / "weights" / "ours").read_text() == "" and not (state / "weights" / "models--x--y@main").exists()
    subprocess.run(["sh", "-ec", shell], check=True)  # again, as after a run that was cut off


def test_images_are_those_of_the_ledger_and_containers_all_of_them(host, monkeypatch):
    state = host / "state"
    (state / "added").mkdir()
    (state / "added" / "images").write_text("x/y:1\nx/gone:1\n")
    (state / "images").write_text("x/y:1 sha256:1\nx/gone:1 sha256:2\n")
    has = {"Id": "sha256:1", "Size": 5, "RepoTags": ["x/y:1"], "RepoDigests": None}

    def docker(*words: str):
        if words[:2] == ("image", "inspect"):
            return [has] if words[-1] == "x/y:1" else None
        if words[1] == "ls":
            return ["1", "2"]
        return [{"Name": "/ada", "Image": "sha256:1", "Mounts": [{"Source": "/srv"}]}, {"Name": "/b", "Image": "2"}]

    monkeypatch.setattr(prune_program, "docker", docker)
    assert [one["name"] for one in prune_program.images(state)] == ["x/y:1"]
    (state / "images").write_text("x/y:1 sha256:before\n")
    assert prune_program.images(state) == [], "the owner has pulled that tag since"
    assert prune_program.containers() == [
        {"name": "ada", "image": "sha256:1", "mounts": ["/srv"]},
        {"name": "b", "image": "2", "mounts": []},
    ]
    monkeypatch.setattr(prune_program, "docker", lambda *_: None)
    assert prune_program.containers() is None


def test_a_program_without_docker_says_so_in_json(host, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    prune_program.main(host / "state", host)
    found = json.loads(capsys.readouterr().out)
    assert found["containers"] is None and found["models"][0]["commit"] == OLD
