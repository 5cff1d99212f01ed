"""The catalogue: which profiles there are, what each must say, and what happens to a bad one."""

import re
import textwrap

import pytest
from resolving import resolve

from ojai.engines.vllm import cli as vllm_cli
from ojai.profiles import Features, ProfileError, load, names
from ojai.profiles.model import Profile

NAMES = {
    "gemma-4-e2b",
    "gemma-4-e4b",
    "gemma-4-12b",
    "gemma-4-26b-a4b",
    "gemma-4-31b",
    "diffusiongemma-26b-a4b",
    "gemma-4-e2b-qat-w4a16",
    "gemma-4-e4b-qat-w4a16",
    "gemma-4-12b-qat-w4a16",
    "gemma-4-31b-qat-w4a16",
    "gemma-4-e2b-qat-mobile",
    "gemma-4-e4b-qat-mobile",
    "gemma-4-26b-a4b-int8",
    "gemma-4-e4b-awq",
}

REFUSED = {
    "gemma-4-26b-a4b-int8": ["quantization-not-on-rocm"],
    "gemma-4-e2b-qat-mobile": ["no-kernel"],
    "gemma-4-e4b-qat-mobile": ["no-kernel"],
    "gemma-4-e4b-awq": ["model-not-given"],
}
"""What is refused as it is; every other profile can be served unchanged."""


def test_the_catalogue_is_complete():
    assert set(names()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_profile_loads_and_its_arguments_are_known_to_vllm(name):
    profile = load(name)
    service = resolve(profile)
    command = service.command
    assert vllm_cli.check(command.engine_argv) == []
    assert [refusal.code for refusal in service.standing] == REFUSED.get(name, [])
    assert command.engine_argv[0] == profile.model
    assert "--max-model-len" in command.engine_argv


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_source_begins_with_a_known_document(name):
    known = r"(guide-e4b|guide-26b|recipe|vllm-\d|vllm#\d|transformers|third-party|derived:|decision:)"
    for fact, source in load(name).sources.items():
        assert re.match(known, source), f"{name}: sources.{fact}: {source}"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_figures_are_plausible(name):
    profile = load(name)
    assert profile.largest_shard_bytes <= max(profile.weights_bytes, 50_000_000_000)
    assert (profile.bytes_read_per_token or 0) <= profile.weights_bytes
    assert profile.default_context <= profile.geometry.max_context
    assert ("diffusion" in name) == (profile.bytes_read_per_token is None) == (profile.assistant is None)


def test_published_figures():
    """Recipe, Available Checkpoints and QAT Mobile; guide-26b §3.3 and Appendix A.3."""
    gigabytes = {name: load(name).weights_bytes / 1e9 for name in NAMES}
    assert {
        name: gigabytes[name] for name in sorted(NAMES) if name not in ("gemma-4-26b-a4b-int8", "gemma-4-e4b-awq")
    } == {
        "diffusiongemma-26b-a4b": 52,
        "gemma-4-12b": 22.8,
        "gemma-4-12b-qat-w4a16": 8.3,
        "gemma-4-26b-a4b": 52,
        "gemma-4-31b": 59.0,
        "gemma-4-31b-qat-w4a16": 19.8,
        "gemma-4-e2b": 9.8,
        "gemma-4-e2b-qat-mobile": 2.7,
        "gemma-4-e2b-qat-w4a16": 7.3,
        "gemma-4-e4b": 15.2,
        "gemma-4-e4b-qat-mobile": 3.7,
        "gemma-4-e4b-qat-w4a16": 9.8,
    }
    assert load("gemma-4-26b-a4b").largest_shard_bytes == 49_907_246_508


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("e2b", 2), ("e4b", 4), ("12b", 4), ("26b-a4b", 4), ("31b", 4)],
)
def test_assistants_of_the_recipe(name, tokens):
    assistant = load(f"gemma-4-{name}").assistant
    proper = {"e2b": "E2B", "e4b": "E4B", "12b": "12B", "26b-a4b": "26B-A4B", "31b": "31B"}[name]
    assert (assistant.model, assistant.tokens) == (f"google/gemma-4-{proper}-it-assistant", tokens)


@pytest.fixture
def folder(tmp_path):
    """A folder of profiles with one good one, `base`, to which a test adds."""

    def write(name, text):
        (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(text))
        return tmp_path

    write(
        "base",
        """
        name: base
        title: A small model
        engine: vllm
        model: example/small
        image: vllm/vllm-openai-rocm:v0.20.1
        docker: {network: host, ipc: host, shm_size: 1G, devices: [/dev/kfd], groups: [video]}
        environment: {HSA_ENABLE_SDMA: "0"}
        mounts: [huggingface]
        features: {max_model_len: 4096, prefix_caching: true}
        geometry:
          {layers: 6, pattern: "5:1", kv_heads_sliding: 1, kv_heads_full: 1, sliding_window: 512, max_context: 8192}
        weights_bytes: 1000
        largest_shard_bytes: 1000
        active_params: 500
        bytes_read_per_token: 1000
        modalities: [text]
        sources:
          model: decision: x
        """.replace("model: decision: x", "model: 'decision: x'").rstrip()
        + "".join(
            f"\n          {fact}: 'decision: x'"
            for fact in (
                *("image", "docker", "environment.HSA_ENABLE_SDMA", "mounts", "features.max_model_len"),
                *("features.prefix_caching", "geometry", "weights_bytes", "largest_shard_bytes", "active_params"),
                *("bytes_read_per_token", "modalities"),
            )
        )
        + "\n",
    )
    return write


def test_a_good_file_loads(folder, tmp_path):
    assert load("base", tmp_path).model == "example/small"


def test_adding_a_model_is_adding_a_file(folder):
    directory = folder(
        "child",
        """
        extends: base
        name: child
        title: A smaller one
        model: example/smaller
        features: {prefix_caching: null, max_num_seqs: 2}
        sources:
          model: "decision: y"
          features.prefix_caching: "decision: none"
          features.max_num_seqs: "decision: y"
        """,
    )
    child = load("child", directory)
    assert names(directory) == ("base", "child")
    assert (child.model, child.weights_bytes, child.features.max_num_seqs) == ("example/smaller", 1000, 2)
    assert child.features.prefix_caching is None
    assert child.sources["model"] == "decision: y"
    assert child.sources["geometry"] == "decision: x"


BAD = {
    "no source": (
        "extends: base\nname: bad\ntitle: t\nweights_bytes: 5",
        r"bad\.yaml: sources\.weights_bytes: found nothing, expected where weights_bytes is from",
    ),
    "source for nothing": (
        "extends: base\nname: bad\ntitle: t\nsources: {weights_bytes: 'decision: x'}",
        r"bad\.yaml: sources\.weights_bytes: a source for something this file does not state",
    ),
    "empty source": (
        "extends: base\nname: bad\ntitle: t\nweights_bytes: 5\nsources: {weights_bytes: ' '}",
        r"sources\.weights_bytes: found nothing",
    ),
    "wrong type": (
        "extends: base\nname: bad\ntitle: t\nweights_bytes: many\nsources: {weights_bytes: 'decision: x'}",
        r"bad\.yaml: weights_bytes: found 'many'; expected a whole number, above 0",
    ),
    "unknown feature": (
        "extends: base\nname: bad\ntitle: t\nfeatures: {max_num_seq: 3}\n"
        "sources: {features.max_num_seq: 'decision: x'}",
        r"bad\.yaml: features\.max_num_seq: no such setting; the nearest is max_num_seqs",
    ),
    "name": ("extends: base\nname: other\ntitle: t", r"bad\.yaml: name: found 'other', expected 'bad'"),
    "missing": ("name: bad\ntitle: t", r"bad\.yaml: model: is missing; expected text, not empty"),
    "parent": ("extends: nobody\nname: bad\ntitle: t", r"bad\.yaml: extends: found 'nobody', expected a file"),
    "circle": ("extends: bad\nname: bad\ntitle: t", r"extends: is circular: bad -> bad"),
    "not yaml": ("a: [", r"bad\.yaml: not YAML"),
    "not a mapping": ("- a", r"bad\.yaml: found list, expected a mapping"),
    "yaml boolean": (
        "extends: base\nname: bad\ntitle: t\nenvironment: {A: true}\nsources: {environment.A: 'decision: x'}",
        r"bad\.yaml: environment\.A: found true; true is a YAML boolean; put the value in quotes",
    ),
    "context": (
        "extends: base\nname: bad\ntitle: t\nfeatures: {max_model_len: 9000}\n"
        "sources: {features.max_model_len: 'decision: x'}",
        r"bad\.yaml: features\.max_model_len: found 9000, expected at most geometry\.max_context 8192",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_file_key_found_and_wanted(folder, case):
    text, message = BAD[case]
    directory = folder("bad", text)
    with pytest.raises(ProfileError, match=message):
        load("bad", directory)


def test_all_faults_of_a_file_are_told_at_once(folder):
    directory = folder(
        "bad",
        """
        extends: base
        name: bad
        title: t
        weights_bytes: -1
        modalities: [smell]
        sources: {weights_bytes: "decision: x", modalities: "decision: x"}
        """,
    )
    with pytest.raises(ProfileError) as error:
        load("bad", directory)
    assert "weights_bytes: found -1" in str(error.value)
    assert "modalities[0]: found 'smell'; expected one of text, image, audio, video" in str(error.value)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("gemma-4-e4", "gemma-4-e4b"),
        ("gemma-4-26b", "gemma-4-26b-a4b"),
        ("gemma4-e2b", "gemma-4-e2b"),
        ("gemma4-26b", "gemma-4-26b-a4b"),
        ("26B", "gemma-4-26b-a4b"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(asked, near):
    with pytest.raises(ProfileError, match=f"no profile '{asked}'; did you mean '{near}'"):
        load(asked)


def test_a_shared_part_is_no_profile():
    with pytest.raises(ProfileError, match="no profile '_gfx115x'"):
        load("_gfx115x")


def test_profiles_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load("gemma-4-e4b").weights_bytes = 1
    assert Profile.model_config["extra"] == "forbid"


def test_unknown_refusal_codes_are_told_the_nearest():
    Features(allow=("aiter",))
    with pytest.raises(ValueError, match=r"there is no refusal 'fp8-kvcache' to allow; the nearest is fp8-kv;"):
        Features(allow=("fp8-kvcache",))
