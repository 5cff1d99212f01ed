"""What a saved release knows of its images: by which name, and which digest, a registry gives them again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ojai.releases import Contents, Release, Released, Serving, digest_of, from_json, repository, to_json

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
IMAGE = "vllm/vllm-openai-rocm:v0.20.1"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (IMAGE, "vllm/vllm-openai-rocm"),
        ("docker.io/vllm/vllm-openai-rocm:v1", "vllm/vllm-openai-rocm"),
        (f"index.docker.io/library/vllm@{ONE}", "vllm"),
        (f"registry.lan:5000/vllm/rocm:v1@{ONE}", "registry.lan:5000/vllm/rocm"),
        ("registry.lan:5000/vllm", "registry.lan:5000/vllm"),
        ("vllm", "vllm"),
    ],
)
def test_the_repository_of_a_name(image, name):
    assert repository(image) == name


@pytest.mark.parametrize(
    ("digests", "chosen"),
    [
        ((f"ojai-release@{ONE}", f"vllm/vllm-openai-rocm@{ONE}"), f"vllm/vllm-openai-rocm@{ONE}"),
        ((f"a/mirror@{ONE}", f"vllm/vllm-openai-rocm@{ONE}"), f"vllm/vllm-openai-rocm@{ONE}"),
        ((f"a/mirror@{ONE}", f"ojai-release@{ONE}"), f"a/mirror@{ONE}"),
        ((f"ojai-release@{ONE}",), ""),
        ((), ""),
    ],
)
def test_the_digest_is_that_of_the_service_s_own_repository(digests, chosen):
    assert digest_of(IMAGE, digests) == chosen


@pytest.mark.parametrize(
    ("noted", "read"),
    [
        (f"ojai-release@{TWO}", f"vllm/vllm-openai-rocm@{TWO}"),
        (f"vllm/vllm-openai-rocm@{TWO}", f"vllm/vllm-openai-rocm@{TWO}"),
        ("", ""),
    ],
)
def test_a_digest_that_an_earlier_ojai_noted_under_its_own_tag_is_read_as_the_service_s(noted, read):
    serving = Serving("gemma", IMAGE, "m", 8000, "127.0.0.1", 60)
    contents = Contents("u", "e", TWO, noted)
    found = from_json(to_json(Release("now", (Released(serving, contents),), 2)))
    assert found == Release("now", (Released(serving, replace(contents, digest=read)),), 2)
