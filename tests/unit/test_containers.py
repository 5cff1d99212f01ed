"""Other people's `docker run` lines, scripts, inspections: read as a shell and docker read them, without secrets."""

import json
import subprocess

import pytest

from ojai.containers import UnreadableError, command_line, inspection, is_secret, script

HEAD = "docker run --rm --name x"

SCRIPTS = {
    "continued lines": "docker run \\\n  --rm \\\n\\\n -e A=1 \\\nimage:1 model \\\n --flag\necho done\n",
    "quotes": "docker run -e 'A=b c' -e \"B=it's $ME\" -e C=a\\ b image:1 'm' --json '{\"a\": \"$ME\"}'\n",
    "a default": 'docker run -e A="${A:-b c}" -e B=${B-} -e C=${ME:+yes} image:1 "${M:-google/x}" ${NONE:-}\n',
    "unquoted words are split": "OPTIONS='--rm --name y'\ndocker run $OPTIONS image:1 m\n",
    "an array": 'ARGS=(--dtype "b c"\n  --max 8)\ndocker run image:1 m "${ARGS[@]}"\n',
    "variables of variables": 'V=v0.20.1\nexport IMAGE="repo/name:$V" # it\ndocker run "$IMAGE" m --x a#b # end\n',
    "a pipe": "docker run image:1 m --x 1 2>&1 | tee log\n",
    "a redirection": "docker run image:1 m --x 8000>log\n",
    "after another command": "set -e; docker run image:1 m; echo done\n",
    "sudo with a variable": "A=1 docker run image:1 m && echo done\n",
    "in quotes over lines": "docker run image:1 m --x '{\n \"a\": 1}'\necho done\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_read_as_bash_reads_it(name, monkeypatch):
    text = f"ME=ada\n{SCRIPTS[name]}"
    shell = "docker() { printf '%s\\0' \"$@\" >&3; }\ntee() { cat >/dev/null; }\ncd /tmp\n" + text
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&1 >/dev/null\n{shell}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/bin"},
    )
    words = done.stdout.split("\0")[1:-1]
    (found,) = script.read(text).values()
    assert found == command_line.container(words)


def test_what_only_that_machine_knows_is_kept_as_it_is_written():
    text = (
        'docker run --group-add $(getent group "render" | cut -d: -f3) --group-add=`id -g ada` '
        '-v "$HOME/m:/app/models" -v ${HOME}/hf:/hf -v "$(dirname "$0")/w:/w" image:1 m\n'
    )
    (found,) = script.read(text).values()
    assert found.values("--group-add") == ['$(getent group "render" | cut -d: -f3)', "$(id -g ada)"]
    assert [mount.source for mount in found.mounts.values()] == ["$HOME/m", "${HOME}/hf", '$(dirname "$0")/w']


@pytest.mark.parametrize("text", ["ExecStart=-/usr/bin/docker run --rm image:1 m\n", "ID=$(docker run -d image:1 m)\n"])
def test_a_unit_and_a_substitution_have_commands_too(text):
    (found,) = script.read(text).values()
    assert (found.image, found.argv) == ("image:1", ("m",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing here\n", "found no docker run; expected its line"),
        ("we `docker run` it, and docker run does the rest\n", "found no docker run"),
        (f"{HEAD}\n", "line 1: docker run: found no image"),
        (f"{HEAD} \\\n# a comment\n image:1 m\n", "found no image; expected one after the options"),
        (f"{HEAD} 'image:1\n", "docker run: found ' without its other half; expected quotes in pairs"),
        (f"{HEAD} --no-such-thing image:1\n", "option --no-such-thing not recognized"),
        (f"{HEAD} --host name image:1\n", "option --host not recognized"),
        (f"{HEAD} image:1 $MODEL\n", "line 1: docker run: found no value for $MODEL; expected it above"),
        (f"{HEAD} image:1 m --port $(port)\n", r"found '$(port)', which only a shell knows"),
    ],
)
def test_what_cannot_be_read_is_said(text, words):
    with pytest.raises(UnreadableError) as error:
        script.read(text)
    assert words in str(error.value) and "What to do: " in str(error.value) and "\n" not in str(error.value)


def test_of_secrets_only_the_names_are_kept():
    text = (
        "HF_TOKEN=hf_one\ndocker run -e HF_TOKEN -e HF_TOKEN=$HF_TOKEN -e MY_API_KEY=two -e P=http://u:three@proxy "
        "-e TOKENIZERS_PARALLELISM=false --log-opt splunk-token=four --label my-secret=five image:1 m\n"
    )
    (found,) = script.read(text).values()
    assert set(found.secrets) == {"HF_TOKEN", "MY_API_KEY", "P"}
    assert found.environment == {"TOKENIZERS_PARALLELISM": "false"}
    for secret in ("hf_one", "two", "three"):
        assert secret not in repr(found)
    assert not {"four", "five"} & set(found.parts.values())


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY", "aws_secret", "DB_PASSWORD"])
def test_secrets_are_known_by_their_names(name):
    assert is_secret(name) and not is_secret(f"{name}_PATH")


CONTAINER = {
    "Name": "/vllm-gemma4",
    "Image": "sha256:abc",
    "Config": {
        "Image": "vllm/vllm-openai-rocm:v0.20.1",
        "Env": ["HF_TOKEN=hf_one", "HSA_ENABLE_SDMA=0", "PATH=/bin", "SAFETENSORS_FAST_GPU=1"],
        "Cmd": ["google/gemma-4-E4B-it", "--port", "8000"],
        "Entrypoint": ["vllm", "serve"],
        "Labels": {"com.docker.compose.project": "gemma", "org.opencontainers.image.title": "vllm"},
        "Tty": True,
        "OpenStdin": False,
        "User": "",
        "WorkingDir": "/app",
    },
    "HostConfig": {
        "AutoRemove": True,
        "Binds": ["/home/ada/models:/app/models"],
        "CapAdd": ["CAP_SYS_PTRACE"],
        "Devices": [{"PathOnHost": "/dev/kfd", "PathInContainer": "/dev/kfd", "CgroupPermissions": "rwm"}],
        "GroupAdd": ["video"],
        "IpcMode": "host",
        "LogConfig": {"Type": "json-file", "Config": {}},
        "Memory": 1073741824,
        "Mounts": [{"Type": "volume", "Source": "v", "Target": "/data", "ReadOnly": True}],
        "NetworkMode": "bridge",
        "PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9000"}]},
        "RestartPolicy": {"Name": "unless-stopped"},
        "SecurityOpt": ["seccomp=unconfined", "label=disable"],
        "ShmSize": 17179869184,
        "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
        "NanoCpus": 0,
    },
}
IMAGE = {
    "Id": "sha256:abc",
    "RepoDigests": ["vllm/vllm-openai-rocm@sha256:" + "0" * 64],
    "Config": {
        "Env": ["PATH=/bin", "SAFETENSORS_FAST_GPU=1"],
        "Entrypoint": ["vllm", "serve"],
        "WorkingDir": "/app",
        "Labels": {"org.opencontainers.image.title": "vllm"},
    },
}


def test_an_inspection_is_the_command_that_would_start_it():
    found = inspection.read(json.dumps([CONTAINER, IMAGE]))
    words = (
        "-e HF_TOKEN=x -e HSA_ENABLE_SDMA=0 -e PATH=/bin -e SAFETENSORS_FAST_GPU=1 --name vllm-gemma4 --rm -t "
        "--cap-add SYS_PTRACE --device=/dev/kfd --group-add video --ipc host --shm-size 16G --ulimit memlock=-1 "
        "--security-opt seccomp=unconfined -v /home/ada/models:/app/models --mount source=v,target=/data,readonly "
        "-p 127.0.0.1:9000:8000 --restart unless-stopped --label com.docker.compose.project=gemma "
        "vllm/vllm-openai-rocm:v0.20.1 google/gemma-4-E4B-it --port 8000"
    )
    command = command_line.container(words.split())
    assert found.parts == {**command.parts, ("HostConfig.Memory", ""): "1073741824"}
    assert (found.image, found.argv) == (command.image, command.argv)
    assert found.image_digest == "sha256:" + "0" * 64 and found.entrypoint is None
    assert found.of_image == {"PATH", "SAFETENSORS_FAST_GPU"}
    assert found.published(8000) == ("127.0.0.1", 9000)
    assert found.secrets == ("HF_TOKEN",) and "hf_one" not in repr(found)


def test_without_the_image_it_is_said_what_is_not_known():
    found = inspection.read(json.dumps(CONTAINER))
    assert set(found.environment) == {"HSA_ENABLE_SDMA", "SAFETENSORS_FAST_GPU"}
    assert "PATH: taken for the image's own" in found.notes[0]
    assert "docker inspect CONTAINER IMAGE" in found.notes[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a"', "found broken JSON (line 1"),
        ("[]", "found 0 containers"),
        ("[1]", "found 0 containers"),
        (json.dumps([IMAGE]), "found 0 containers"),
        (json.dumps([CONTAINER, CONTAINER]), "found 2 containers; expected one"),
    ],
)
def test_another_inspection_is_refused(text, words):
    with pytest.raises(UnreadableError) as error:
        inspection.read(text)
    assert words in str(error.value) and "What to do: " in str(error.value)
