"""Other people's commands as services: there and back again, with what differs and why."""

import json
from pathlib import Path

import pytest
from resolving import resolve

from ojai.containers import Container, UnreadableError, command_line
from ojai.profiles import Features, load, names
from ojai.settings import parse
from ojai.translation import container_of, translate

DATA = Path(__file__).parent / "data"
GUIDES = {"e4b": {"profile": "gemma-4-e4b"}, "26b": {"profile": "gemma-4-26b-a4b", "tunableop": "tune"}}


def of(service) -> Container:
    return command_line.container(service.command.docker_argv[2:])


def changed(found):
    return {change.what: (change.theirs, change.ours) for change in found.changes}


@pytest.mark.parametrize("gpu", ["gfx1150", "gfx1151"])
@pytest.mark.parametrize("name", names())
def test_our_own_command_is_read_back_as_its_profile_without_a_change(name, gpu):
    found = translate(of(resolve(load(name), accelerator=gpu)), gpu)
    assert found.service == {"profile": name}
    assert (found.changes, found.secrets, found.notes) == ((), (), ())


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guides_script_is_its_profile(guide):
    found = translate(container_of((DATA / f"guide-{guide}.sh").read_text()))
    assert found.service == GUIDES[guide]
    assert found.secrets == ("HF_TOKEN",)
    assert [change for change in found.changes if change.lost] == []
    assert all(change.why for change in found.changes)


def test_the_26b_guides_changes_are_the_written_deviations():
    found = translate(container_of((DATA / "guide-26b.sh").read_text()))
    kept = {what: values for what, values in changed(found).items() if not what.startswith("-v ")}
    assert kept == {
        "-i": ("", None),
        "-t": ("", None),
        "-e HF_TOKEN": ("(secret)", None),
        "image": ("vllm/vllm-openai-rocm:latest", "vllm/vllm-openai-rocm:v0.20.1"),
        "--disable-log-requests": ("", None),
        "--pull": (None, "never"),
        "--env-file /etc/ojai/vllm-gemma4.env": (None, ""),
        "--log-driver": (None, "json-file"),
        "--log-opt max-size": (None, "50m"),
        "--log-opt max-file": (None, "5"),
    }
    (log,) = [change.why for change in found.changes if change.what == "--disable-log-requests"]
    assert "unrecognized arguments" in log


EVERYTHING = {
    "max_model_len": 16384,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 4096,
    "gpu_memory_utilization": 0.5,
    "dtype": "bfloat16",
    "block_size": 64,
    "kv_cache_dtype": "auto",
    "prefix_caching": False,
    "async_scheduling": True,
    "reasoning": True,
    "thinking": True,
    "chat_template": "examples/tool_chat_template_gemma4.jinja",
    "images": 4,
    "audios": 0,
    "vision_tokens": 560,
    "speculative": True,
    "tunableop": "use",
    "safetensors_load_strategy": "eager",
    "engine_args": ["--served-model-name", "gemma", "--enable-lora"],
    "environment": {"VLLM_LOGGING_LEVEL": "WARNING"},
}


@pytest.mark.parametrize(
    "choices", [EVERYTHING, *({name: value} for name, value in EVERYTHING.items() if name not in ("thinking",))]
)
def test_every_choice_is_read_back(choices):
    place = {"name": "chat", "port": 9000, "host": "127.0.0.1", "image": "vllm/vllm-openai-rocm:v0.33.0"}
    service = resolve(load("gemma-4-e4b"), features=Features.model_validate(choices), **place)
    found = translate(of(service))
    same = {name: value for name, value in choices.items() if name not in ("kv_cache_dtype",) or value != "auto"}
    expected = {"profile": "gemma-4-e4b", **place, **same}
    if "kv_cache_dtype" in choices:
        expected["kv_cache_dtype"] = "auto"
    assert found.service == expected
    assert found.changes == ()


@pytest.mark.parametrize(
    "choices", [{"text_only": True}, {"tool_calling": False}, {"speculative": {"model": "x/y", "tokens": 2}}]
)
def test_other_values_of_a_choice_are_read_back(choices):
    found = translate(of(resolve(load("gemma-4-e4b"), features=Features.model_validate(choices))))
    if "speculative" in choices:  # refused: the draft model is another's
        (change,) = found.changes
        assert change.lost and "was not made for" in change.why
    else:
        assert (found.service, found.changes) == ({"profile": "gemma-4-e4b", **choices}, ())


OWN = """\
docker run -d --restart=unless-stopped --name my_server -p 127.0.0.1:9000:8000 --gpus all --memory 40g \\
  -e VLLM_ROCM_USE_AITER=1 -e VLLM_LOGGING_LEVEL=WARNING -e OPENAI_API_KEY=sk-one -e HF_TOKEN=hf_two \\
  -v ~/templates:/templates:ro --mount type=bind,src=/big/hf,dst=/root/.cache/huggingface \\
  docker.io/vllm/vllm-openai-rocm:v0.24.0 --model google/gemma-4-26B-A4B-it --api-key sk-three --dtype bfloat16 \\
  --max-num-seqs 8 --kv-cache-dtype fp8 --limit-mm-per-prompt.audio 0 --tool-call-parser pythonic --foo bar \\
  --mm-processor-kwargs '{"max_soft_tokens": 280, "other": 1}' --enable-lora
"""


def test_what_has_no_setting_or_is_refused_is_lost_and_named():
    found = translate(container_of(OWN))
    assert found.service == {
        "profile": "gemma-4-26b-a4b",
        "image": "vllm/vllm-openai-rocm:v0.24.0",
        "host": "127.0.0.1",
        "port": 9000,
        "max_num_seqs": 8,
        "max_model_len": 262144,  # what vLLM does without the flag
        "tool_calling": False,
        "audios": 0,
        "vision_tokens": 280,
        "tunableop": "off",
        "engine_args": ["--enable-lora"],
        "environment": {"VLLM_LOGGING_LEVEL": "WARNING"},
    }
    lost = {change.what: change.why for change in found.changes if change.lost}
    assert set(lost) == {
        "--name", "--gpus all", "--memory", "-e VLLM_ROCM_USE_AITER", "-v /templates", "--kv-cache-dtype",
        "--tool-call-parser", "--foo", "--mm-processor-kwargs",
    }  # fmt: skip
    assert "AITER has no kernels for this GPU" in lost["-e VLLM_ROCM_USE_AITER"]
    assert "gfx1150 has no fp8" in lost["--kv-cache-dtype"]
    assert "does not know it" in lost["--foo"]
    assert "other in it has no setting" in lost["--mm-processor-kwargs"]
    assert found.directories == {"huggingface": "/big/hf"}
    assert found.secrets == ("OPENAI_API_KEY", "HF_TOKEN", "VLLM_API_KEY")


def test_everything_that_was_said_is_ours_changed_or_lost():
    """Nothing of the command is dropped silently: each part is in ours as it was, or among the changes."""
    container = container_of(OWN)
    found = translate(container)
    ours = of(resolve(load(found.service["profile"]), **{k: v for k, v in found.service.items() if k != "profile"}))
    told = changed(found)
    short = {"--env": "-e", "--volume": "-v", "--publish": "-p", "--detach": "-d"}
    for (option, mark), value in container.parts.items():
        name = " ".join(part for part in (short.get(option, option), mark) if part)
        assert name in told or value in found.directories.values() or ours.parts[option, mark] == value, name


def test_the_service_that_is_printed_is_accepted():
    found = translate(container_of(OWN))
    parse("mini", {"services": [dict(found.service)]})


def test_no_secret_is_in_what_is_found():
    text = repr(translate(container_of(OWN)))
    assert not [secret for secret in ("sk-one", "hf_two", "sk-three") if secret in text]


def test_a_variant_of_a_model_takes_the_nearest_profile_and_says_so():
    found = translate(container_of("docker run vllm/vllm-openai-rocm:v0.20.1 me/gemma-4-E4B-it-mine --dtype float16\n"))
    assert (found.service["profile"], found.service["model"]) == ("gemma-4-e4b", "me/gemma-4-E4B-it-mine")
    assert "the nearest by its name" in found.notes[0]
    assert any("not the profile's" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("docker run nginx:1\n", "whose command names no model"),
        ("docker run vllm/vllm-openai-rocm:v0.20.1 --port 1\n", "whose command names no model"),
        ("docker run vllm/vllm-openai-rocm:v0.20.1 Qwen/Qwen3-8B\n", "which no profile is for"),
        ("docker run vllm/x:1 a/b\ndocker run vllm/x:1 c/d\n", "in lines 1, 2; expected one that serves a model"),
    ],
)
def test_what_is_no_server_of_ours_is_refused(text, words):
    with pytest.raises(UnreadableError) as error:
        translate(container_of(text))
    assert words in str(error.value) and "What to do: " in str(error.value)


def test_the_one_command_that_serves_is_found_among_others():
    text = f"docker run --rm --entrypoint bash vllm/vllm-openai-rocm:v0.20.1 -c 'rocminfo'\n{OWN}"
    assert translate(container_of(text)).service["profile"] == "gemma-4-26b-a4b"


@pytest.mark.parametrize(
    "command",
    [
        "--entrypoint vllm image:1 serve google/gemma-4-E4B-it",
        "rocm/vllm:1 vllm serve google/gemma-4-E4B-it",
        "rocm/vllm:1 bash -c 'exec vllm serve google/gemma-4-E4B-it --port 8000'",
        "rocm/vllm:1 python3 -m vllm.entrypoints.openai.api_server --model google/gemma-4-E4B-it",
        "rocm/vllm:1 --model=google/gemma-4-E4B-it",
    ],
)
def test_the_program_is_found_however_it_is_started(command):
    assert translate(container_of(f"docker run {command}\n")).service["profile"] == "gemma-4-e4b"


@pytest.mark.parametrize(
    ("words", "what", "why"),
    [
        ("--host myhost", "--host", "expected an IP address"),
        ("--port 99999", "--port", "65535"),
        ("--max-model-len 999999", "--max-model-len", "was made for at most 131072 tokens"),
        ("--max-model-len auto", "--max-model-len", "'auto' has no setting"),
        ("--limit-mm-per-prompt image=4,audio=1", "--limit-mm-per-prompt", "is not a JSON object"),
        ("--config /etc/vllm.yaml", "--config", "cannot be checked"),
        ("--disable-log-requests", None, ""),  # a deviation that is written: nothing is lost by it
    ],
)
def test_a_value_that_a_service_cannot_have_is_lost_with_the_reason(words, what, why):
    command = f"docker run --network host vllm/vllm-openai-rocm:v0.20.1 google/gemma-4-E4B-it {words}\n"
    lost = {change.what: change.why for change in translate(container_of(command)).changes if change.lost}
    assert (list(lost), why in "".join(lost.values())) == ([what] if what else [], True), lost


def test_a_named_volume_and_an_environment_file_are_told():
    command = "docker run -v hf:/root/.cache/huggingface --env-file my.env vllm/v:1 google/gemma-4-E4B-it\n"
    found = translate(container_of(command))
    assert found.directories == {}
    assert changed(found)["-v /root/.cache/huggingface"] == ("hf", "/srv/ojai/huggingface")
    assert changed(found)["--env-file my.env"] == ("", None)


def test_an_inspection_keeps_the_image_that_runs():
    digest = "sha256:" + "0" * 64
    config = {
        "Image": "vllm/vllm-openai-rocm:latest",
        "Env": [],
        "Cmd": ["google/gemma-4-26B-A4B-it"],
        "Entrypoint": ["vllm", "serve"],
    }
    found = translate(
        container_of(
            json.dumps(
                [
                    {"Name": "/vllm-gemma4", "Image": "sha256:a", "Config": config, "HostConfig": {}},
                    {"Id": "sha256:a", "RepoDigests": [f"vllm/vllm-openai-rocm@{digest}"], "Config": {}},
                ]
            )
        )
    )
    assert (found.service["image"], found.service["image_digest"]) == ("vllm/vllm-openai-rocm:latest", digest)
