"""The rendered command: names, paths, image, groups, secrets."""

import pytest

from ojai.engines.vllm import RefusedError, directories, image_key, reasons, render
from ojai.profiles import Features, ProfileError, load, names
from ojai.profiles.deviations import load as deviations

E4B = load("gemma-4-e4b")
B26 = load("gemma-4-26b-a4b")
DIGEST = "sha256:" + "0123456789ab" + "c" * 52


def after(argv, flag):
    return [argv[place + 1] for place, token in enumerate(argv) if token == flag]


def test_name_port_and_model_are_the_services():
    command = render(E4B, name="chat", port=8080, host="127.0.0.1", model="me/mine")
    assert after(command.docker_argv, "--name") == ["chat"]
    assert "--env-file=/etc/ojai/chat.env" in command.docker_argv
    assert command.engine_argv[0] == command.model == command.served_model_name == "me/mine"
    assert after(command.engine_argv, "--port") == ["8080"]
    assert (command.name, command.port, command.host) == ("chat", 8080, "127.0.0.1")
    assert command.docker_argv[-len(command.engine_argv) :] == command.engine_argv


@pytest.mark.parametrize("argument", [["--served-model-name", "gemma"], ["--served-model-name=gemma"]])
def test_served_name_follows_the_argument(argument):
    assert render(E4B, features=Features(engine_args=argument)).served_model_name == "gemma"


def test_a_digest_pins_image_and_tuning_folder():
    command = render(B26, image_digest=DIGEST)
    assert command.image == f"vllm/vllm-openai-rocm:v0.20.1@{DIGEST}"
    assert command.image in command.docker_argv
    assert "/srv/ojai/tunableop/0123456789ab" in command.mounts


@pytest.mark.parametrize(
    ("image", "digest", "key"),
    [
        ("vllm/vllm-openai-rocm:v0.20.1", None, "v0.20.1"),
        ("registry.local:5000/vllm", None, "latest"),
        ("registry.local:5000/vllm:a_b", None, "a_b"),
        ("vllm:v1", DIGEST, "0123456789ab"),
        (f"vllm:v1@{DIGEST}", None, "0123456789ab"),
    ],
)
def test_image_key(image, digest, key):
    assert image_key(image, digest) == key


def test_directories_are_settings():
    places = directories("/data", image="x:1", given={"models": "/mnt/models", "tunableop": "/mnt/tune"})
    assert places == {
        "huggingface": "/data/huggingface",
        "vllm": "/data/vllm",
        "tunableop": "/mnt/tune/1",
        "models": "/mnt/models",
        "workspace": "/data/workspace",
    }
    command = render(E4B, base_directory="/data", given_directories={"models": "/mnt/models"})
    assert "/mnt/models:/app/models" in after(command.docker_argv, "-v")
    with pytest.raises(ProfileError, match="directories: found 'cache', expected one of huggingface"):
        directories(image="x:1", given={"cache": "/x"})


def test_groups_are_numbers_on_a_host():
    argv = render(E4B, group_ids={"video": 44, "render": 992}).docker_argv
    assert [token for token in argv if token.startswith("--group-add")] == ["--group-add=44", "--group-add=992"]
    with pytest.raises(ProfileError, match=r"group_ids: found \{'video': 44\}, expected a number for render"):
        render(E4B, group_ids={"video": 44})
    with pytest.raises(ProfileError, match="expected a number for video, render"):
        render(E4B, group_ids={})


def test_strix_halo_is_data():
    command = render(B26, accelerator="gfx1151")
    assert command.environment["HSA_OVERRIDE_GFX_VERSION"] == "11.5.1"
    assert command.environment["PYTORCH_TUNABLEOP_FILENAME"].endswith("gemma4_gfx1151.csv")


@pytest.mark.parametrize("name", names())
def test_nothing_rendered_needs_a_shell_a_terminal_or_a_secret(name):
    command = render(load(name), model="someone/else", features=Features(allow=("quantization-not-on-rocm",)))
    text = " ".join(command.docker_argv)
    assert command.docker_argv[:3] == ("docker", "run", "--pull=never")
    assert not {"-it", "-i", "-t", "-d"} & set(command.docker_argv)
    assert "HF_TOKEN" not in text
    assert not set("$`{}#\n") & set(text)


@pytest.mark.parametrize("name", names())
def test_everything_rendered_has_a_reason(name):
    profile = load(name)
    command = render(profile, model="someone/else", features=Features(allow=("quantization-not-on-rocm",)))
    parts = list(reasons.parts(command))
    assert [token for part, _ in parts for token in part] == list(command.docker_argv)
    bare = {("docker", "run"), (command.image,), (command.model,)}
    assert {part for part, reason in parts if reason is None} == bare


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
    one = render(E4B, image="x/y:v0.24.0", features=everything)
    other = render(B26, features=Features(prefix_caching=False, async_scheduling=False))
    used = {part[0].partition("=")[0] for command in (one, other) for part, _ in reasons.parts(command)}
    used |= set(one.environment) | set(other.environment)
    written = {name for group in reasons.load().values() for name in group}
    assert written - used == set()
    assert deviations()


def test_a_profile_digest_does_not_follow_to_another_image():
    pinned = E4B.model_copy(update={"image_digest": DIGEST})
    assert render(pinned).image.endswith(DIGEST)
    assert render(pinned, image="vllm/vllm-openai-rocm:v0.24.0").image == "vllm/vllm-openai-rocm:v0.24.0"


def test_what_is_allowed_is_recorded():
    choice = Features(kv_cache_dtype="fp8")
    with pytest.raises(RefusedError, match="fp8-kv"):
        render(E4B, features=choice)
    command = render(E4B, features=Features(kv_cache_dtype="fp8", allow=("fp8-kv",)))
    assert [refusal.code for refusal in command.allowed] == ["fp8-kv"]
    assert after(command.engine_argv, "--kv-cache-dtype") == ["fp8"]
    assert render(E4B, features=Features(allow=("fp8-kv",))).allowed == ()
