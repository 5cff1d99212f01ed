"""The inference server serves the model that the inventory names, as it names it, and comes back by itself."""

import json
import re
import shlex
import time

import pytest


def _get(served, path):
    health = served.service.engine.api.health
    # A server that hangs would be waited for by every check that talks to it.
    if path != health:
        assert _get(served, health)[-1] == "200", "not healthy"
    return served.mini.run(
        f"curl -q --noproxy '*' -s -m {5 if path == health else 20} -w '\\n%{{http_code}}' {served.url}{path}"
    ).stdout.rsplit("\n", 1)


def _locked(served):
    names = served.mini.text(f"sed -n 's/^\\([A-Za-z_0-9]*\\)=.*/\\1/p' /etc/ojai/{served.service.name}.env").split()
    return served.service.engine.key_variable in names or served.service.key_file is not None


def _healthy_within(served, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _get(served, served.service.engine.api.health)[-1] == "200":
            return True
        time.sleep(3)
    return False


def test_it_is_healthy(services):
    for served in services:
        assert _get(served, served.service.engine.api.health)[-1] == "200"


def test_it_names_the_model(services):
    for served in services:
        body, status = _get(served, served.service.engine.api.models)
        if _locked(served):
            assert status == "401"
        else:
            assert [model["id"] for model in json.loads(body)["data"]] == [served.model]


def test_it_answers_a_chat(services):
    for served in services:
        if _locked(served):
            pytest.skip("an API key guards /v1")
        assert _get(served, served.service.engine.api.health)[-1] == "200", "not healthy"
        request = {"model": served.model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
        done = served.mini.text(
            f"curl -q --noproxy '*' -s -m 120 -H 'content-type: application/json' "
            f"-d {shlex.quote(json.dumps(request))} {served.url}/v1/chat/completions"
        )
        answer = json.loads(done)
        message = answer["choices"][0]["message"]
        assert message["content"] or message.get("reasoning_content"), done
        assert answer["usage"]["completion_tokens"] > 0, done


def test_its_metrics_are_those_of_its_engine(services):
    expected = {
        "vllm": ("vllm:num_requests_running", "vllm:time_to_first_token_seconds", "vllm:kv_cache_usage_perc"),
        "llamacpp": ("llamacpp:requests_processing", "llamacpp:prompt_tokens_total"),
    }
    for served in services:
        body, status = _get(served, served.service.engine.api.metrics)
        if status == "401":
            pytest.skip("an API key guards them")
        for name in expected[served.service.engine.name]:
            assert name in body


@pytest.mark.silicon
def test_it_computes_on_the_gpu(mini):
    """By the log of its last start: llama.cpp can serve from the CPU, and software can pass for a GPU."""
    served = [service for service in mini.settings.resolved if service.engine.name == "llamacpp"]
    if not served:
        pytest.skip("llama.cpp serves nothing here")
    for service in served:
        log = mini.text(f"timeout 60 docker logs {shlex.quote(service.name)} 2>&1 | head -n 5000")
        device = re.findall(r"using device (\S+) \((.*?)\)", log)
        assert device and "llvmpipe" not in device[-1][1], device or "its log names no device"
        layers = re.findall(r"offloaded (\d+)/(\d+) layers to GPU", log)
        assert layers and layers[-1][0] == layers[-1][1], layers or "its log tells of no layers"


def test_unit_runs_at_boot_and_nothing_overrides_it(services):
    for served in services:
        shown = served.mini.text(
            f"systemctl show {served.service.unit} "
            "-p ActiveState,SubState,UnitFileState,NeedDaemonReload,DropInPaths,Restart,FragmentPath"
        )
        values = dict(line.split("=", 1) for line in shown.splitlines())
        assert (values["ActiveState"], values["SubState"]) == ("active", "running")
        assert values["UnitFileState"] == "enabled"
        assert values["NeedDaemonReload"] == "no", "the unit was edited and not reloaded"
        assert values["DropInPaths"] == "", f"overridden by {values['DropInPaths']}"
        assert values["FragmentPath"] == f"/etc/systemd/system/{served.service.unit}"
        # A dead engine makes the server exit with status 0, which on-failure would leave down.
        assert values["Restart"] == "always"


def test_server_has_read_its_files(services):
    for served in services:
        unit = served.service.unit
        since = served.mini.text(f'date -d "$(systemctl show {unit} -p ExecMainStartTimestamp --value)" +%s')
        for file in (f"/etc/systemd/system/{unit}", served.service.env_file):
            changed = served.mini.text(f"stat -c %Y {file}")
            assert int(changed) <= int(since) + 1, f"{file} was changed after the server was started"


def test_container_runs_what_the_inventory_asks_for(services):
    for served in services:
        command = served.service.command
        config = json.loads(served.inspect("{{json .Config}}"))
        assert config["Image"] == served.service.image
        assert config["Cmd"] == list(command.engine_argv)
        assert config["Tty"] is False
        missing = {f"{name}={value}" for name, value in command.environment.items()} - set(config["Env"])
        assert not missing
        running = served.inspect("{{.Image}}")
        assert running == served.mini.text(
            f"timeout 20 docker image inspect --format '{{{{.Id}}}}' {served.service.image}"
        )


def test_container_has_the_rights_of_the_guides_command(services):
    for served in services:
        host = json.loads(served.inspect("{{json .HostConfig}}"))
        if served.service.hardened:
            continue
        assert host["NetworkMode"] == "host" and host["Privileged"] is False
        devices = [device["PathOnHost"] for device in host["Devices"]]
        if served.service.engine.name == "vllm":
            assert host["IpcMode"] == "host" and devices == ["/dev/kfd", "/dev/dri"]
            assert host["CapAdd"] in (["SYS_PTRACE"], ["CAP_SYS_PTRACE"])
            # docker itself adds label=disable to --ipc=host
            assert "seccomp=unconfined" in host["SecurityOpt"]
        else:
            assert (host["IpcMode"], devices, host["CapAdd"] or []) == ("private", ["/dev/dri"], [])
            assert not host["SecurityOpt"]
        numbers = served.mini.text("getent group video render | cut -d: -f3").split()
        assert host["GroupAdd"] == numbers


def test_a_hardened_container_has_no_more_rights_than_it_needs(services):
    for served in services:
        host = json.loads(served.inspect("{{json .HostConfig}}"))
        if not served.service.hardened:
            continue
        shown = "awk '$1 == \"drm_render_minor\" && $2 > 0 {print $2}' /sys/class/kfd/kfd/topology/nodes/*/properties"
        own = [f"/dev/dri/renderD{minor}" for minor in served.mini.run(shown).stdout.split()]
        own = own or served.mini.text("ls /dev/dri/renderD*").split()
        devices = [device["PathOnHost"] for device in host["Devices"]]
        computing = ["/dev/kfd"] if served.service.engine.name == "vllm" else []
        assert devices[:-1] == computing and devices[-1] in own, devices
        assert (host["NetworkMode"], host["IpcMode"], host["ReadonlyRootfs"]) == ("host", "private", True)
        assert (host["CapAdd"] or [], host["CapDrop"]) == ([], ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges"] and host["Privileged"] is False
        # A kernel without the controllers has no limits, which Docker says and goes on.
        controllers = served.mini.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split()
        if "pids" in controllers:
            assert host["PidsLimit"] == 4096
        if "memory" in controllers:
            assert 0 < host["Memory"] < 1024 * int(served.mini.text("awk '/^MemTotal:/ {print $2}' /proc/meminfo"))
        name = shlex.quote(served.service.name)
        status = served.mini.text(f"cat /proc/$(docker container inspect -f '{{{{.State.Pid}}}}' {name})/status")
        found = dict(line.split(":", 1) for line in status.splitlines())
        assert (found["NoNewPrivs"].strip(), found["Seccomp"].strip()) == ("1", "2")
        assert {int(found[kind], 16) for kind in ("CapEff", "CapPrm", "CapBnd")} == {0}
        assert served.mini.run(f"timeout 20 docker exec {name} touch /root/x").rc != 0, "the image can be changed"


def test_the_group_can_open_the_gpu_inside_the_container(services):
    for served in services:
        name = shlex.quote(served.service.name)
        nodes = served.mini.text("ls /dev/dri/renderD*").split()
        if served.service.hardened:
            nodes = [device["PathOnHost"] for device in json.loads(served.inspect("{{json .HostConfig.Devices}}"))][-1:]
        # Nobody, with only the groups that --group-add gives: root would get in whatever the groups are.
        for device in (*(["/dev/kfd"] if served.service.engine.name == "vllm" else []), *nodes):
            done = served.mini.run(f"timeout 20 docker exec --user 65534:65534 {name} sh -c 'exec 3<>{device}'")
            assert done.rc == 0, f"{device}: {done.stderr.strip()}"


def test_secrets_are_closed_and_stand_nowhere_else(services):
    for served in services:
        file = served.mini.host.file(f"/etc/ojai/{served.service.name}.env")
        assert file.is_file and (file.user, file.group, file.mode) == ("root", "root", 0o600)
        around = served.mini.host.file("/etc/ojai")
        assert around.user == "root" and not around.mode & 0o022, "/etc/ojai can be changed by others than root"
        values = [
            line.split("=", 1)[1]
            for line in file.content_string.splitlines()
            if "=" in line and line.split("=", 1)[0] in ("HF_TOKEN", "VLLM_API_KEY", "LLAMA_API_KEY")
        ]
        if served.service.key_file:
            values.append(served.mini.text(f"cat {shlex.quote(served.service.key_file)}").strip())
        elsewhere = served.mini.text("ps axww -o args") + served.mini.text(f"systemctl cat {served.service.unit}")
        for value in values:
            # `in` on the value itself would print it when it fails.
            assert not (value and elsewhere.find(value) >= 0), "a secret stands in a process list or the unit"


def test_forbidden_variables_are_absent(services):
    for served in services:
        # Of the unit first: a server that such a variable ends has no container that could be asked.
        unit = served.mini.text(f"systemctl cat {served.service.unit}")
        names = re.findall(r"(?:-e|--env)[ =](\w+)=", unit)
        shown = served.mini.run(
            f"timeout 20 docker container inspect -f '{{{{json .Config.Env}}}}' {shlex.quote(served.service.name)}"
        )
        names += [entry.split("=", 1)[0] for entry in json.loads(shown.stdout or "[]")] if shown.rc == 0 else []
        if not set(served.service.features.allow or ()) & {"aiter"}:
            assert [name for name in names if name.startswith("VLLM_ROCM_USE_AITER")] == []
        assert [name for name in names if name in ("PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")] == []


def test_no_unit_of_ours_is_left_over(mini):
    expected = {service.unit for service in mini.settings.services}
    # By the first line of each file; a copy under another name is somebody else's.
    heads = mini.run("grep -Hsm 1 '' /etc/systemd/system/*.service").stdout
    ours = re.findall(r"^[^:]*/([^/:]+)\.service:# Made by ojai for \1 ", heads, re.MULTILINE)
    assert {f"{name}.service" for name in ours} == expected


@pytest.mark.disruptive
def test_it_comes_back_when_its_container_is_killed(services):
    for served in services:
        name = shlex.quote(served.service.name)
        before = served.inspect("{{.Id}}")
        served.mini.text(f"docker kill {name}")
        end = time.monotonic() + 60
        while time.monotonic() < end and served.mini.run(f"timeout 20 docker container inspect {name}").rc != 0:
            time.sleep(1)
        assert _healthy_within(served, served.service.start_timeout)
        assert served.inspect("{{.Id}}") != before
        # This try shall not count against the unit's start limit.
        served.mini.run(f"systemctl reset-failed {served.service.unit}")


@pytest.mark.disruptive
def test_it_comes_back_when_its_engine_dies(services):
    for served in services:
        if served.service.engine.name != "vllm":
            continue  # the server is the engine
        before = served.inspect("{{.Id}}")
        engine = served.mini.run(f"timeout 20 docker top {shlex.quote(served.service.name)} -eo pid,comm").stdout
        pids = [line.split()[0] for line in engine.splitlines() if "EngineCor" in line]
        assert pids, engine
        served.mini.text(f"kill -9 {pids[0]}")
        end = time.monotonic() + 60
        name = shlex.quote(served.service.name)
        while time.monotonic() < end:
            shown = served.mini.run(f"timeout 20 docker container inspect --format '{{{{.Id}}}}' {name}")
            if shown.rc == 0 and shown.stdout.strip() != before:
                break
            time.sleep(1)
        assert _healthy_within(served, served.service.start_timeout)
        assert served.inspect("{{.Id}}") != before, "the server did not leave with its engine"
        served.mini.run(f"systemctl reset-failed {served.service.unit}")


@pytest.mark.disruptive
def test_it_comes_back_after_a_reboot(mini, services):
    before = mini.text("cat /proc/sys/kernel/random/boot_id")
    # Detached, so that the command itself still returns.
    mini.text("systemd-run --on-active=1 systemctl reboot")
    end = time.monotonic() + mini.settings.kernel_reboot_timeout
    while time.monotonic() < end:
        time.sleep(5)
        try:
            shown = mini.run("cat /proc/sys/kernel/random/boot_id")
        except RuntimeError:
            continue
        if shown.rc == 0 and shown.stdout.strip() not in ("", before):
            break
    assert mini.text("cat /proc/sys/kernel/random/boot_id") != before
    assert mini.text("uname -r").endswith(mini.settings.kernel_flavour)
    for served in services:
        assert _healthy_within(served, served.service.start_timeout), "not serving after the boot"
