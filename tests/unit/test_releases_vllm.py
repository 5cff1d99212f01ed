"""Which release an image is judged by, and what is said where none is."""

import pytest
from resolving import resolve

from ojai.engines.vllm import cli, releases
from ojai.profiles import CODES, Features, load

REPOSITORY = "vllm/vllm-openai-rocm"


def service(release: str, name: str = "gemma-4-e4b", **choices: object):
    return resolve(load(name), features=Features(**choices), image=f"{REPOSITORY}:{release}")


@pytest.mark.parametrize(
    ("image", "version", "contract", "exact"),
    [
        (f"{REPOSITORY}:v0.20.1", "0.20.1", "0.20.1", True),
        (f"{REPOSITORY}:v0.33.0", "0.33.0", "0.33.0", True),
        (f"{REPOSITORY}:v0.20.1-next", "0.20.1", "0.20.1", True),
        (f"mirror.example:5000/{REPOSITORY}:v0.28.0@sha256:{'0' * 64}", "0.28.0", "0.28.0", True),
        (f"{REPOSITORY}:v0.30.0", "0.30.0", "0.28.0", False),
        (f"{REPOSITORY}:v0.23.0", "0.23.0", "0.20.1", False),
        (f"{REPOSITORY}:v0.40.0", "0.40.0", "0.33.0", False),
        (f"{REPOSITORY}:v0.19.0", "0.19.0", "0.20.1", False),
        (f"{REPOSITORY}:latest", None, "0.33.0", False),
        (f"{REPOSITORY}:nightly", None, "0.33.0", False),
        (f"{REPOSITORY}:v0.21.0rc1", None, "0.33.0", False),
        ("registry.example/team/gemma:v0.24.0", None, "0.33.0", False),
    ],
)
def test_the_tag_says_which_contract(image: str, version: str | None, contract: str, exact: bool) -> None:
    found = releases.of(image)
    assert (found.version, found.contract.vllm, found.exact) == (version, contract, exact)


def test_there_are_four_contracts_each_from_its_own_release() -> None:
    assert {"0.20.1", "0.24.0", "0.28.0", "0.33.0"} <= set(cli.RELEASES)
    for release in cli.RELEASES:
        contract = cli.load(release)
        assert contract.vllm == release and f"released vllm {release} package" in contract.source
        assert contract.arguments and contract.rocm_quantization_methods and contract.kv_cache_dtypes


@pytest.mark.parametrize(
    ("choices", "release"),
    [
        ({"engine_args": ["--linear-backend", "auto"]}, "v0.33.0"),
        ({"kv_cache_dtype": "int4_per_token_head"}, "v0.33.0"),
        ({"kv_cache_dtype": "fp8"}, "v0.33.0"),
        ({"quantization": "online"}, "v0.33.0"),
        ({"quantization": "online"}, "v0.24.0"),
        ({"quantization": "fp8"}, "v0.33.0"),
        ({"speculative": True}, "v0.33.0"),
        ({"speculative": True, "tool_calling": False}, "v0.24.0"),
    ],
)
def test_what_the_release_can_do_is_not_refused(choices: dict[str, object], release: str) -> None:
    assert service(release, **choices).standing == []


def test_the_same_choices_are_refused_for_the_guides_release() -> None:
    assert [one.code for one in service("v0.20.1", engine_args=["--linear-backend", "auto"]).standing] == [
        "unknown-flag"
    ]
    assert [one.code for one in service("v0.20.1", quantization="online").standing] == ["quantization-not-on-rocm"]
    cache = service("v0.20.1", kv_cache_dtype="int4_per_token_head").standing
    assert [one.code for one in cache] == ["kv-cache-uncounted", "unknown-flag"]


def test_a_flag_that_came_back_is_not_refused() -> None:
    assert service("v0.33.0", engine_args=["--disable-log-requests"]).standing == []
    assert [one.code for one in service("v0.28.0", engine_args=["--disable-log-requests"]).standing] == ["unknown-flag"]


@pytest.mark.parametrize("release", ["v0.30.0", "v0.23.0", "latest", "nightly", "v0.34.0"])
def test_what_has_no_contract_is_said_and_not_refused(release: str) -> None:
    found = service(release, engine_args=["--no-such-flag", "--swap-space", "4"])
    assert found.standing == []
    (said,) = [text for text in found.warnings if text.startswith("image ") and "known here" in text]
    assert "--no-such-flag" in said and "--swap-space" in said
    assert ("names no release" in said) is (release in ("latest", "nightly"))
    plain = [text for text in service(release).warnings if "known here" in text]
    assert len(plain) == 1 and "by its flags" not in plain[0]


@pytest.mark.parametrize("release", cli.RELEASES)
def test_a_release_with_a_contract_is_judged_without_a_word(release: str) -> None:
    assert [text for text in service(f"v{release}").warnings if "known here" in text] == []


def test_fp8_is_said_to_be_slow_where_it_works() -> None:
    (said,) = service("v0.33.0", kv_cache_dtype="fp8").warnings
    assert said.startswith("fp8-kv-slow: ") and "slower in decode" in said and "vllm#56992" in said
    (said,) = service("v0.33.0", kv_cache_dtype="int8_per_token_head").warnings
    assert "is not known" in said


def test_the_way_round_takes_the_refusal_away() -> None:
    environment = {"VLLM_USE_V2_MODEL_RUNNER": "1"}
    assert service("v0.25.1", "gemma-4-26b-a4b", speculative=True, environment=environment).standing == []
    assert service("v0.29.0", "gemma-4-26b-a4b", speculative=True).standing == []
    assert service("v0.25.1", speculative=True).standing == [], "a dense model is not concerned"


def test_old_images_are_said_to_have_no_kernel_for_4_bits() -> None:
    old = service("v0.20.1", "gemma-4-e4b-qat-w4a16")
    assert any(text.startswith("w4a16-generic: ") and "generic Triton" in text for text in old.warnings)
    assert resolve(load("gemma-4-e4b-qat-w4a16")).warnings == []


@pytest.mark.parametrize("release", ["v0.20.1", "v0.33.0", "latest"])
def test_a_cache_that_cannot_be_counted_is_refused_and_no_code_allows_it(release: str) -> None:
    found = service(release, kv_cache_dtype="turboquant_k8v4", allow=tuple(CODES))
    assert [one.code for one in found.standing] == ["kv-cache-uncounted"]
    assert "kv-cache-uncounted" not in CODES


def test_every_window_is_whole() -> None:
    codes = [window.code for window in releases.windows()]
    assert len(codes) == len(set(codes))
    for window in releases.windows():
        assert (window.code in CODES) is (window.effect == "refuse")
        if window.since and window.before:
            assert releases.numbers(window.since) < releases.numbers(window.before)


def test_no_profile_names_an_image_in_a_bad_window() -> None:
    from ojai.profiles import names

    for name in names():
        found = resolve(load(name))
        assert {one.code for one in found.standing} <= {"quantization-not-on-rocm", "no-kernel", "model-not-given"}, (
            name
        )
        assert not [text for text in found.warnings if "known here" in text], name


def test_the_budget_says_whose_planner_it_follows() -> None:
    assert service("v0.20.1").follows == "follows vLLM 0.20.1's planner, which is the image's"
    assert service("v0.33.0").follows == "follows vLLM 0.33.0's planner, which is the image's"
    assert "follows vLLM 0.28.0's planner" in service("v0.30.0").follows and "v0.30.0" in service("v0.30.0").follows
    assert "names no release" in service("latest").follows


def test_newer_planners_ask_for_more() -> None:
    needs = {
        release: service(release, max_num_batched_tokens=8192).demand.plan(64 << 30).bytes_per_sequence
        for release in ("v0.20.1", "v0.24.0", "v0.28.0", "v0.33.0")
    }
    assert needs["v0.20.1"] == needs["v0.24.0"] == 2_505_310_208
    assert needs["v0.28.0"] == needs["v0.33.0"] == 2_840_854_528
    off = service("v0.33.0", max_num_batched_tokens=8192, async_scheduling=False)
    assert off.demand.plan(64 << 30).bytes_per_sequence == 2_505_310_208
