"""The rendered command: names, paths, image, groups, secrets."""

from dataclasses import replace

import pytest
from resolving import resolve

from ojai.engines import explanations
from ojai.engines.vllm.command import directories, image_key
from ojai.profiles import Features, ProfileError, load, names
from ojai.profiles.deviations import load as deviations
from ojai.settings import parse
from ojai.sizes import GIB

E4B = load("gemma-4-e4b")
B26 = load("gemma-4-26b-a4b")
DIGEST = "sha256:" + "0123456789ab" + "c" * 52


def after(argv, flag):
    return [argv[place + 1] for place, token in enumerate(argv) if token == flag]


def test_name_port_and_model_are_the_services():
    service = resolve(E4B, name="chat", port=8080, host="127.0.0.1", model="me/mine")
    command = service.command
    assert after(command.docker_argv, "--name") == ["chat"]
    assert "--env-file=/etc/ojai/chat.env" in command.docker_argv
    assert command.engine_argv[0] == service.model == command.served_model_name == "me/mine"
    assert after(command.engine_argv, "--port") == ["8080"]
    assert (service.name, service.port, service.host) == ("chat", 8080, "127.0.0.1")
    assert command.docker_argv[-len(command.engine_argv) :] == command.engine_argv


@pytest.mark.parametrize("argument", [["--served-model-name", "gemma"], ["--served-model-name=gemma"]])
def test_served_name_follows_the_argument(argument):
    assert resolve(E4B, features=Features(engine_args=argument)).command.served_model_name == "gemma"


def test_a_digest_pins_image_and_tuning_folder():
    service = resolve(B26, image_digest=DIGEST)
    assert service.image == f"vllm/vllm-openai-rocm:v0.20.1@{DIGEST}"
    assert service.image in service.command.docker_argv
    assert "/srv/ojai/tunableop/0123456789ab" in service.command.mounts
    assert service.command.image_directories == ("/srv/ojai/tunableop/0123456789ab",)


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ("vllm/vllm-openai-rocm:v0.20.1", "v0.20.1"),
        ("registry.local:5000/vllm", "latest"),
        ("registry.local:5000/vllm:a_b", "a_b"),
        (f"vllm:v1@{DIGEST}", "0123456789ab"),
    ],
)
def test_image_key(image, key):
    assert image_key(image) == key


def test_the_data_directory_has_the_caches_and_the_image_s_key_is_the_host_s():
    service = resolve(B26, data_directory="/data", image="x:1")
    assert directories(service) == {
        "huggingface": "/data/huggingface",
        "vllm": "/data/vllm",
        "tunableop": "/data/tunableop/1",
        "models": "/data/models",
        "workspace": "/data/workspace",
    }
    assert "type=bind,src=/data/models,dst=/app/models" in after(service.command.docker_argv, "--mount")
    placed = service.on_host({"video": 44, "render": 992}, "abababababab")
    tuned = "type=bind,src=/data/tunableop/abababababab,dst=/root/.cache/tunableop"
    assert tuned in after(placed.command.docker_argv, "--mount")
    assert placed.command.image_directories == ("/data/tunableop/abababababab",)
    assert placed is service.on_host({"render": 992, "video": 44}, "abababababab"), "built anew"
    assert "--group-add=44" not in service.command.docker_argv


def test_the_log_is_rotated_as_the_host_s_settings_say():
    service = parse("mini", {"docker_log_max_size": "7m", "docker_log_max_file": 2}).resolved[0]
    argv = service.command.docker_argv
    assert "--log-driver=json-file" in argv
    assert after(argv, "--log-opt") == ["max-size=7m", "max-file=2"]


def test_groups_are_numbers_on_a_host():
    argv = resolve(E4B, group_ids={"video": 44, "render": 992}).command.docker_argv
    assert [token for token in argv if token.startswith("--group-add")] == ["--group-add=44", "--group-add=992"]
    with pytest.raises(ProfileError, match=r"group_ids: found \{'video': 44\}, expected a number for render"):
        _ = resolve(E4B, group_ids={"video": 44}).command
    none = resolve(E4B, group_ids={}).command.docker_argv
    assert [token for token in none if token.startswith("--group-add")] == ["--group-add=video", "--group-add=render"]


def test_strix_halo_is_data():
    command = resolve(B26, accelerator="gfx1151").command
    assert command.environment["HSA_OVERRIDE_GFX_VERSION"] == "11.5.1"
    assert command.environment["PYTORCH_TUNABLEOP_FILENAME"].endswith("gemma4_gfx1151.csv")


@pytest.mark.parametrize("name", names())
def test_nothing_rendered_needs_a_shell_a_terminal_or_a_secret(name):
    command = resolve(load(name), model="someone/else").command
    text = " ".join(command.docker_argv)
    assert command.docker_argv[:3] == ("docker", "run", "--pull=never")
    assert not {"-it", "-i", "-t", "-d"} & set(command.docker_argv)
    assert "HF_TOKEN" not in text
    assert not set("$`{}#\n") & set(text)


@pytest.mark.parametrize("name", names())
def test_everything_rendered_has_a_reason(name):
    profile = load(name)
    service = resolve(profile, model="someone/else")
    parts = list(explanations.parts(service))
    assert [token for part, _ in parts for token in part] == list(service.command.docker_argv)
    bare = {("docker", "run"), (service.image,), (service.model,)}
    assert {part for part, why in parts if not why} == bare


def test_no_reason_is_for_nothing():
    everything = Features(
        max_num_seqs=4,
        max_num_batched_tokens=2048,
        block_size=32,
        kv_cache_dtype="auto",
        quantization="awq",
        async_scheduling=True,
        reasoning=True,
        thinking=True,
        chat_template="t",
        images=1,
        vision_tokens=280,
        speculative=True,
        tunableop="tune",
        engine_args=["--generation-config", "vllm", "--enable-chunked-prefill"],
    )
    one = resolve(E4B, image="x/y:v0.24.0", features=everything)
    other = resolve(B26, features=Features(prefix_caching=False, async_scheduling=False))
    # Behind the gateway, as a host has it unless it is told otherwise.
    data = {"services": [{"hardened": True, "moe_configs": "/srv/moe", "secrets": {"HF_TOKEN": {"env": "A"}}}]}
    hard = parse("mini", data).resolved[0].on_host({"video": 44, "render": 992}, None, None, "renderD128", GIB)
    other = replace(other.on_host(None, None, {other.model: "0" * 40}), exposure="gateway")
    llama = {
        "engine": "llamacpp",
        "chat_template": "t",
        "prefix_caching": False,
        "kv_cache_dtype": "q8_0",
        "vision_tokens": 280,
        "reasoning": True,
        "thinking": False,
        "secrets": {"LLAMA_API_KEY": {"env": "A"}},
    }
    gguf = parse("mini", {"exposure": "loopback", "services": [llama]}).resolved[0]
    every = (one, other, hard, gguf)
    used = {part[0].partition("=")[0] for service in every for part, _ in explanations.parts(service)}
    used |= {" ".join(part) for part, _ in explanations.parts(hard)} | set(hard.command.environment)
    used |= {name for service in every for name in service.command.environment}
    written = {name for group in explanations.load().values() for name in group}
    assert written - used == set()
    assert deviations()


def test_a_profile_digest_does_not_follow_to_another_image():
    pinned = E4B.model_copy(update={"image_digest": DIGEST})
    assert resolve(pinned).image.endswith(DIGEST)
    assert resolve(pinned, image="vllm/vllm-openai-rocm:v0.24.0").image == "vllm/vllm-openai-rocm:v0.24.0"


def test_what_is_allowed_is_recorded():
    refused = resolve(E4B, features=Features(kv_cache_dtype="fp8"))
    assert [refusal.code for refusal in refused.standing] == ["fp8-kv"] and refused.allowed == []
    service = resolve(E4B, features=Features(kv_cache_dtype="fp8", allow=("fp8-kv",)))
    assert [refusal.code for refusal in service.allowed] == ["fp8-kv"] and service.standing == []
    assert after(service.command.engine_argv, "--kv-cache-dtype") == ["fp8"]
    assert resolve(E4B, features=Features(allow=("fp8-kv",))).allowed == []
