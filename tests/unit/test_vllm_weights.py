"""Which models a service reads, and how it is told to start from what was fetched."""

import fnmatch

import pytest
from resolving import resolve

from ojai.engines import Wanted, get
from ojai.engines.vllm import cli as vllm_cli
from ojai.profiles import Features, load, names

COMMIT = "0123456789abcdef0123456789abcdef01234567"
E4B = load("gemma-4-e4b")


def placed(features=None, image="x/vllm-openai-rocm:v0.28.0", **service):
    found = resolve(E4B, features=features, image=image, **service)
    return found.on_host(None, None, {one.model: COMMIT for one in found.wanted})


@pytest.mark.parametrize("name", names())
def test_every_profile_starts_offline_from_its_commit_by_flags_that_vllm_knows(name):
    profile = load(name)
    found = resolve(profile, **({} if profile.model_given else {"model": "x/y"}))
    placed = found.on_host(None, None, {one.model: COMMIT for one in found.wanted})
    assert found.wanted[0] == Wanted(found.model, None)
    words = placed.command.engine_argv
    assert words[words.index("--revision") + 1] == COMMIT and placed.command.served_model_name == found.model
    assert placed.command.environment["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in found.command.environment and "--revision" not in found.command.engine_argv
    for release in ("0.20.1", "0.24.0", "0.28.0", "0.33.0"):
        assert vllm_cli.check(["m", "--revision", COMMIT, "--served-model-name", "m"], vllm_cli.load(release)) == []


def test_the_assistant_is_fetched_and_pinned_too():
    found = placed(Features(speculative=True))
    assert found.wanted == (Wanted(E4B.model, None), Wanted(E4B.assistant.model, None))
    assert (
        f'"revision": "{COMMIT}"'
        in found.command.engine_argv[found.command.engine_argv.index("--speculative-config") + 1]
    )


def test_a_model_in_a_folder_is_not_fetched():
    found = placed(model="/app/models/mine")
    assert found.wanted == () and found.revisions is None
    assert "HF_HUB_OFFLINE" not in found.command.environment


@pytest.mark.parametrize("words", [["--revision", "v1"], ["--revision=v1"]])
def test_a_revision_of_the_owners_own_is_what_is_fetched_and_is_said_once(words):
    found = placed(Features(engine_args=words))
    assert found.wanted == (Wanted(E4B.model, "v1"),)
    assert COMMIT not in found.command.engine_argv and found.command.environment["HF_HUB_OFFLINE"] == "1"
    assert sum(word.startswith("--revision") for word in found.command.engine_argv) == 1


def test_a_name_of_the_owners_own_stays():
    found = placed(Features(engine_args=["--served-model-name", "mine"]))
    assert found.command.served_model_name == "mine"
    assert found.command.engine_argv.count("--served-model-name") == 1


@pytest.mark.parametrize("words", [["--tokenizer", "a/b"], ["--lora_modules=x=a/b"], ["--hf-config-path", "a/b"]])
def test_another_repository_that_the_owner_names_keeps_the_hub_in_reach(words):
    found = placed(Features(engine_args=words))
    assert "HF_HUB_OFFLINE" not in found.command.environment and COMMIT in found.command.engine_argv


def test_what_is_fetched_is_what_the_engine_reads():
    files = get("vllm").files(None)
    read = ["config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", "model.safetensors.index.json"]
    left = ["README.md", ".gitattributes", "original/params.json", "model.gguf", "onnx/config.json", "picture.png"]

    def kept(path):
        ignored = any(fnmatch.fnmatch(path, pattern) for pattern in files.ignore)
        return not ignored and any(fnmatch.fnmatch(path, pattern) for pattern in files.allow)

    assert [path for path in read if not kept(path)] == [] and [path for path in left if kept(path)] == []
