from typing import Any

import pytest
from pydantic import ValidationError

from ojai.settings import HostSettings, ServiceSettings, SettingsError, channels, parse
from ojai.settings import connection_data as connection_data
from ojai.sizes import GIB

MINE = "gemma-4-e4b"


def faults(data: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse("mini", data)
    assert all(line.startswith("mini: ") for line in str(caught.value).splitlines())
    return list(map(str, caught.value.errors))


def service(**choices: Any) -> dict[str, Any]:
    return {"services": [choices]}


def test_a_host_with_nothing_said_is_the_guides_box() -> None:
    found = parse("mini", {})
    (only,) = found.services
    assert (only.name, only.profile, only.port, only.unit) == ("vllm-gemma4", MINE, 8000, "vllm-gemma4.service")
    assert found.sysctl == {"vm.overcommit_memory": 1}
    assert (found.kernel_package, found.kernel_reboot) == ("linux-oem-6.17", "if-required")
    assert (found.accelerator, found.memory_regime, found.rocm_channel) == ("gfx1150", "carveout", "7.2")
    assert not found.removed and not found.gpu_users


def test_settings_do_not_change() -> None:
    found = parse("mini", {})
    with pytest.raises(ValidationError, match="frozen"):
        found.removed = True  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        found.services[0].port = 1  # type: ignore[misc]


def test_what_is_said_of_a_service_is_over_its_profile_and_nothing_else_changes() -> None:
    plain, other = parse("a", {}), parse("b", service(max_model_len=4096))
    before, after = plain.resolved[0].command, other.resolved[0].command
    assert [word for word in after.docker_argv if word not in before.docker_argv] == ["4096"]
    assert len(after.docker_argv) == len(before.docker_argv)
    assert parse("b", service(port=9000)).services[0].profile == MINE


def test_a_list_of_services_replaces_the_default_one() -> None:
    found = parse("mini", service(name="chat", profile="gemma-4-e2b", port=9001))
    assert [one.name for one in found.services] == ["chat"]
    assert parse("mini", {"services": []}).services == ()


def test_amounts_are_bytes_however_they_are_written() -> None:
    written = {"memory_regime": "gtt", "gtt_limit": "100GiB", "image_bytes": "50 GB"}
    assert parse("mini", written).gtt_limit == 100 * GIB
    assert parse("mini", written).image_bytes == 50 * 10**9
    assert parse("mini", {"image_bytes": 7}).image_bytes == 7


def test_yaml_s_number_for_a_channel_is_its_name() -> None:
    assert parse("mini", {"rocm_channel": 7.2}).rocm_channel == "7.2"


def test_pyinfra_s_data_passes() -> None:
    found = parse("mini", {"ssh_user": "ada", "ssh_port": 22, "_sudo": True, "_retries": 2, "fake_delay": 0})
    assert found == HostSettings()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"kernel_flor": "x"}, "kernel_flor: no such setting; the nearest is kernel_floor"),
        ({"qqq": 1}, "qqq: no such setting; `ojai settings` lists them all"),
        ({"port": 1}, "port: no such setting here; an entry of services has port"),
        ({1: 2}, "1: no such setting; `ojai settings` lists them all"),
        (service(prot=1), "services[0].prot: no such setting; the nearest is port"),
        (service(sysctl={}), "services[0].sysctl: no such setting here; sysctl belongs at the top level"),
        (service(port=70000), "services[0].port: found 70000; expected a whole number from 1 to 65535"),
        (service(port=True), "services[0].port: found true; expected a whole number from 1 to 65535"),
        (service(gpu_memory_utilization=float("nan")), "found nan; expected a number, above 0 and at most 1"),
        (service(dtype="bf16"), "one of auto, half, float16, bfloat16, float, float32; the nearest is bfloat16"),
        (service(profile="gema-4-e4b"), "services[0].profile: no profile 'gema-4-e4b'; did you mean 'gemma-4-e4b'?"),
        (service(allow=["fp8-kw"]), "no refusal 'fp8-kw' to allow; the nearest is fp8-kv"),
        (
            service(speculative={"model": "m", "token": 3}),
            "services[0].speculative.token: no such setting; the nearest",
        ),
        (
            service(speculative={"model": "m", "token": 3}),
            "services[0].speculative.tokens: is missing; expected a whole",
        ),
        (service(speculative="maybe"), "found 'maybe'; expected true or false or a mapping with model and tokens"),
        (service(environment={"A": True}), "services[0].environment.A: found true; true is a YAML boolean"),
        ({"services": ["x"]}, "services[0]: found 'x'; expected a mapping of settings"),
        ({"services": [None]}, "services[0]: found nothing (null); expected a mapping"),
        ({"services": {"a": 1}}, "services: found {'a': 1}; expected a list, each entry a mapping of settings"),
        ({"removed": "maybe"}, "removed: found 'maybe'; expected true or false"),
        ({"image_bytes": True}, "image_bytes: found true; expected an amount of memory or disk such as 64GiB"),
        ({"image_bytes": "4 flops"}, "image_bytes: 'flops' in '4 flops' is not a unit of memory; expected an amount"),
        ({"data_mode": 755}, "data_mode: found 755; expected three or four octal digits; put it in quotes"),
        ({"kernel_floor": "six"}, "kernel_floor: 'six' is not a kernel release"),
        ({"kernel_floor": 6.14}, "found 6.14; expected a kernel release such as 6.14.0-1018; put it in quotes"),
        ({"gpu_users": "ada"}, "gpu_users: found 'ada'; expected a list"),
        ({"gpu_users": ["ada", "A B"]}, "gpu_users[1]: found 'A B'; expected an account of the host"),
        ({"accelerator": "gfx1155"}, "accelerator: unknown accelerator 'gfx1155': did you mean gfx1151?"),
        ({"docker_source": "dockr"}, "found 'dockr'; expected one of auto, ubuntu, docker; the nearest is docker"),
        ({"sysctl": {"vmswap": 1}}, "sysctl.vmswap: found the name 'vmswap'; expected a kernel parameter"),
        ({"sysctl": {"vm.overcommit_memory": 3}}, "sysctl.vm.overcommit_memory: found 3; expected 0, 1 or 2"),
        ({"rocm_key_fingerprint": "CA8B"}, "found 'CA8B'; expected a key's whole fingerprint: 40 hexadecimal digits"),
        (
            {"rocm_mirror": "http://x/"},
            "found 'http://x/'; expected an address with http:// or https://, without a slash",
        ),
        ({"ssh_usr": "a"}, "ssh_usr: pyinfra has no such data; the nearest is ssh_user"),
        ({"ssh_port": "22"}, "ssh_port: found '22'; expected a whole number"),
        ({"_sud": True}, "_sud: pyinfra has no such argument; the nearest is _sudo"),
        ({"fake_dely": 0}, "fake_dely: pyinfra has no such data; the nearest is fake_delay"),
        (
            {"ssh_hostname": "ada@box.example"},
            "ssh_hostname: found 'ada@box.example'; expected a host's name or address alone; write ssh_hostname: "
            "box.example and ssh_user: ada",
        ),
        ({"ssh_hostname": "192.0.2.1:2222"}, "write ssh_hostname: 192.0.2.1 and ssh_port: 2222"),
        ({"ssh_hostname": "[2001:db8::1]"}, "write ssh_hostname: 2001:db8::1"),
        (
            {"ssh_hostname": "ssh://ada@[2001:db8::1]:22/"},
            "write ssh_hostname: 2001:db8::1 and ssh_user: ada and ssh_port: 22",
        ),
        ({"ssh_hostname": " box "}, "write ssh_hostname: box"),
        (service(temperature=0.7), "services[0].temperature: no such setting; `ojai settings` lists them all"),
        ({"gpu_users": ["a;b"]}, "gpu_users[0]: found 'a;b'; expected an account of the host"),
        ({"gpu_users": ["-x"]}, "gpu_users[0]: found '-x'; expected an account of the host"),
    ],
)
def test_a_fault_says_where_what_and_what_instead(data: dict[str, Any], line: str) -> None:
    assert any(line in fault for fault in faults(data)), faults(data)


def test_accounts_are_written_as_a_directory_server_names_them() -> None:
    names = ("ada", "jane.doe", "Ada", "CORP\\ada", "ada@corp.example", "1ada", "_x-1")
    assert parse("mini", {"gpu_users": list(names)}).gpu_users == names


@pytest.mark.parametrize(
    "address", ["box", "box.example", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "my_box", "xn--bcher-kva.example"]
)
def test_an_address_passes(address: str) -> None:
    assert parse("mini", {"ssh_hostname": address}) == parse(address, {}) == HostSettings()


def test_the_name_of_a_host_is_its_address_where_no_other_is_given() -> None:
    with pytest.raises(SettingsError, match=r"ada@box: ssh_hostname: found 'ada@box'.*write ssh_hostname: box and"):
        parse("ada@box", {})
    assert parse("ada@box", {"ssh_hostname": "box"}) == HostSettings()
    assert parse("@fake/box", {}) == HostSettings()


@pytest.mark.parametrize("name", ["@docker/ubuntu", "@podman/x", "@chroot/srv", "@dockerssh/box:ubuntu"])
def test_a_container_is_refused_as_such(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(name, {"docker_identifier": "x"})
    (line,) = str(caught.value).splitlines()
    assert "expected a machine" in line and "docker_key_fingerprint" not in line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (service(text_only=True, images=2), "services[0].text_only: true contradicts images: 2"),
        (service(thinking=True), "thinking"),
        (service(max_num_batched_tokens=2, max_num_seqs=4), "services[0].max_num_batched_tokens: 2 is less than"),
        (service(profile="gemma-4-26b-a4b", max_num_batched_tokens=2), "services[0] (vllm-gemma4): max_num_batched"),
        (service(max_model_len=10**6), "services[0] (vllm-gemma4): context-beyond-model"),
        (service(profile="diffusiongemma-26b-a4b", speculative=True), "services[0] (vllm-gemma4): "),
        (service(environment={"HF_TOKEN": "x"}), "services[0] (vllm-gemma4): secret-in-argv"),
        ({"memory_regime": "gtt"}, "gtt_limit: memory_regime is gtt, so set how much"),
        ({"gtt_limit": "8GiB"}, "gtt_limit: has no use with memory_regime carveout"),
        ({"removed_data": True}, "removed_data: means nothing without"),
    ],
)
def test_a_contradiction_is_refused(data: dict[str, Any], line: str) -> None:
    (only,) = faults(data)
    assert line in only


@pytest.mark.parametrize("url", ["https://ada:x@mirror.lan", "https://mirror.lan?a=b", "https://mirror.lan#a"])
def test_a_registry_mirror_with_which_docker_does_not_start_is_refused(url: str) -> None:
    (only,) = faults({"docker_registry_mirrors": [url]})
    assert "docker_registry_mirrors" in only and "Docker does not start with a mirror that has a user" in only
    assert parse("mini", {"docker_registry_mirrors": ["https://mirror.lan:5000/hub"]}).docker_registry_mirrors


def pair(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"services": [{"name": "a", "port": 1, **first}, {"name": "b", "port": 2, **second}]}


def test_two_services_may_not_share_a_name_or_a_port() -> None:
    half = {"gpu_memory_utilization": 0.4}
    found = faults(pair({**half}, {**half, "name": "a", "port": 1}))
    assert found == [
        "services[1].name: found 'a', as in services[0]; expected its own",
        "services[1].port: found 1, as in services[0]; expected its own",
    ]


def test_services_may_not_reserve_more_memory_than_there_is() -> None:
    (only,) = faults(pair({"gpu_memory_utilization": 0.6}, {"gpu_memory_utilization": 0.5}))
    assert only.startswith("services: together they reserve 1.1 of the GPU's memory (a 0.6, b 0.5); expected 1 at most")
    (default,) = faults(pair({}, {}))
    assert "a 0.85, b 0.85" in default
    for shares in ((0.45, 0.55), (0.3, 0.7), (0.1, 0.2)):
        parse("mini", pair(*({"gpu_memory_utilization": share} for share in shares)))


def test_ten_tenths_are_one() -> None:
    tenth = [{"name": f"s{n}", "port": 8000 + n, "gpu_memory_utilization": 0.1} for n in range(10)]
    assert len(parse("mini", {"services": tenth}).services) == 10


def test_contradictions_are_told_beside_faults() -> None:
    found = faults(
        {
            "kernel_flor": 1,
            "removed_data": True,
            "services": [
                {"name": "a", "port": 1, "gpu_memory_utilization": 0.4},
                {"por": 5, "text_only": True, "images": 2},
                {"name": "a", "port": 1, "gpu_memory_utilization": 0.4},
                {"name": "c", "port": 3, "max_model_len": 10**7, "gpu_memory_utilization": 0.1},
            ],
        }
    )
    places = sorted(fault.partition(": ")[0] for fault in found)
    assert places == [
        "kernel_flor",
        "removed_data",
        "services[1].por",
        "services[1].text_only",
        "services[2].name",
        "services[2].port",
        "services[3] (c)",
    ]


HOOK = {"webhook": {"env": "HOOK"}}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"watch": False}, "watch"),
        ({"watch_port": 9095}, "watch_port"),
        ({"watch": "fleet", "gateway_metrics_from": ["192.0.2.1"], "watch_secrets": HOOK}, "watch_secrets"),
        ({"watch": "fleet"}, "gateway_metrics_from"),
        ({"watch": "fleet", "exposure": "open", "gateway_metrics_from": ["192.0.2.1"]}, "exposure"),
        ({"watch": "box", "watch_mail": {"to": "a@example.net"}}, "watch_mail"),
        ({"watch": "box", "watch_secrets": {"mail_password": {"env": "P"}}}, "watch_secrets"),
        ({"watch": "box", "watch_secrets": {"webhook": "https://hooks.example.net/SECRET"}}, "watch_secrets.webhook"),
        (
            {
                "watch": "box",
                "services": [
                    {"gpu_memory_utilization": 0.4},
                    {"name": "host", "port": 8001, "gpu_memory_utilization": 0.4},
                ],
            },
            "watch",
        ),
    ],
)
def test_watching_is_refused_where_it_cannot_be(data, place) -> None:
    (found,) = faults(data)
    assert found.partition(": ")[0] == place and "SECRET" not in found


def test_a_faulty_value_is_not_told_twice_as_a_contradiction() -> None:
    assert faults({"memory_regime": "gtt", "gtt_limit": "much"}) != []
    assert len(faults({"memory_regime": "gtt", "gtt_limit": "much"})) == 1
    assert len(faults({"memory_regime": "gt", "gtt_limit": "8GiB"})) == 1
    assert len(faults({"removed": "maybe", "removed_data": True})) == 1
    assert len(faults({"accelerator": "gfx1", "services": [{"allow": ["fp8-kv"], "kv_cache_dtype": "fp8"}]})) == 1


def test_a_long_value_is_cut() -> None:
    (only,) = faults({"accelerator": ["x" * 500]})
    assert len(only) < 250 and "…" in only


def test_a_password_is_not_shown() -> None:
    found = faults({"ssh_password": 123456789, "_sudo_passwrd": "x"})
    assert not any("123456789" in fault for fault in found)


def test_a_helper_of_a_group_data_file_is_no_fault() -> None:
    assert not list(connection_data.errors("mini", {"_HOME": "/x", "_releases": []}))


def test_every_service_has_its_own_secrets_file() -> None:
    assert ServiceSettings(name="chat").env_file == "/etc/ojai/chat.env"


def test_a_mirror_with_its_own_key_replaces_amd_s() -> None:
    own = "AAAA AAAA AAAA AAAA AAAA aaaa AAAA AAAA AAAA AAAA"
    found = parse("mini", {"rocm_mirror": "https://mirror.example.net", "rocm_key_fingerprint": own})
    assert found.channel.mirror == "https://mirror.example.net"
    assert found.channel.key_fingerprint == "A" * 40
    assert parse("mini", {}).channel.key_fingerprint != "A" * 40


def test_own_data_is_passed_on_unchecked() -> None:
    own = {"site": "berlin", "kernel_flor": 1, "nested": {"list": [1, {"a": None}]}}
    assert parse("mini", {"vars": own}).vars == own
    (only,) = faults({"vars": ["site"]})
    assert only.startswith("vars: found ['site']; expected a mapping of your own names")


def test_a_renamed_setting_is_refused_with_its_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"kernel_version_min": "kernel_floor", "services.context": "services.max_model_len"}
    monkeypatch.setattr("ojai.settings.host.RENAMED", table)
    found = faults({"kernel_version_min": "6.14", "services": [{"context": 4096}], "context": 1})
    assert found[:2] == [
        "services[0].context: was renamed; write max_model_len",
        "kernel_version_min: was renamed; write kernel_floor",
    ]
    assert found[2].startswith("context: no such setting"), "only where it was a setting"


def test_every_new_name_of_a_renamed_setting_exists_and_no_old_one_does() -> None:
    from ojai.settings.host import RENAMED

    for old, new in RENAMED.items():
        for name, known in ((old, False), (new, True)):
            section, _, field = name.rpartition(".")
            assert (field in (ServiceSettings if section else HostSettings).model_fields) is known


def test_gpu_memory_without_a_unit_is_refused_with_what_was_meant() -> None:
    (only,) = faults({"memory_regime": "gtt", "gtt_limit": 100})
    assert "100 bytes is too small for a machine's memory; did you mean 100GiB?" in only


@pytest.mark.parametrize(
    ("number", "meant"),
    [
        (26214400, "100GiB (this is a number of pages of 4096 bytes)"),
        ("27648000", "105GiB (this is a number of pages of 4096 bytes)"),
        (126976, "124GiB (this is a number of MiB)"),
        ("64", "64GiB"),
    ],
)
def test_a_number_of_pages_or_of_mib_is_refused_with_an_amount_that_can_be_typed(number: object, meant: str) -> None:
    (only,) = faults({"memory_regime": "gtt", "gtt_limit": number})
    assert f"did you mean {meant}?" in only
    parse("mini", {"memory_regime": "gtt", "gtt_limit": meant.partition(" ")[0]})


def test_errors_have_their_path_as_data() -> None:
    with pytest.raises(SettingsError) as caught:
        parse("mini", {"services": [{"text_only": True, "images": 1}, {"name": "b", "port": 1, "allow": ["x", "y"]}]})
    assert [error.path for error in caught.value.errors] == [
        ("services", 0, "text_only"),
        ("services", 1, "allow", 0),
        ("services", 1, "allow", 1),
    ]


def test_contradictions_of_one_service_are_all_reported() -> None:
    both = {"text_only": True, "images": 2, "max_num_batched_tokens": 2, "max_num_seqs": 4}
    assert len(faults(service(**both))) == 2


def test_a_service_is_resolved_once_with_all_that_others_read() -> None:
    found = parse("mini", {"data_directory": "/data/ojai", **service(name="chat", host="::1", max_model_len=4096)})
    (only,) = found.resolved
    assert only is found.resolved[0] and only.command is only.command
    assert (only.unit_file, only.env_file) == ("/etc/systemd/system/chat.service", "/etc/ojai/chat.env")
    assert (only.address, only.port, only.model) == ("[::1]", 8000, "google/gemma-4-E4B-it")
    assert only.model_directory == "/data/ojai/huggingface/hub/models--google--gemma-4-E4B-it"
    assert only.features.max_model_len == 4096 and only.features.tool_calling == only.profile.features.tool_calling
    assert only.demand.max_model_len == 4096
    assert only.warnings == [] and only.title == only.profile.title


def test_another_model_on_a_profile_is_named_and_warned_of() -> None:
    (only,) = parse("mini", service(model="Qwen/Qwen3-8B")).resolved
    assert only.title.startswith("Qwen/Qwen3-8B as ")
    (warning,) = only.warnings
    assert "model Qwen/Qwen3-8B is not the profile's (google/gemma-4-E4B-it)" in warning
    given = parse("mini", service(profile="gemma-4-e4b-awq", model="someone/awq")).resolved[0]
    assert given.warnings == [], "its profile has no model of its own"


def test_an_image_whose_tag_moves_is_warned_of() -> None:
    moves, unjudged = parse("mini", service(image="vllm/vllm-openai-rocm:latest")).resolved[0].warnings
    assert "the tag latest moves" in moves and "image_digest" in moves
    assert "its tag names no release of vLLM" in unjudged
    pinned = service(image="vllm/vllm-openai-rocm:latest", image_digest="sha256:" + "0" * 64)
    assert len(parse("mini", pinned).resolved[0].warnings) == 1, "it does not move, and is as little judged"


def test_the_whole_rocm_line_is_there_and_its_last_is_recommended() -> None:
    assert {"7.2", "7.2.1", "7.2.2", "7.2.3", "7.2.4"} <= set(channels())
    assert [name for name, channel in channels().items() if channel.recommended] == ["7.2.4"]
    description = HostSettings.model_fields["rocm_channel"].description or ""
    assert "7.2.4, the last of its line, is recommended" in description
    for name, channel in channels().items():
        assert channel.rocm_path == f"rocm/apt/{name}" and channel.graphics_path == f"graphics/{name}/ubuntu"
    assert parse("mini", {}).rocm_channel == "7.2", "a host of the guides is not upgraded unasked"


def test_texts_say_what_a_thing_is() -> None:
    described = {name: field.description or "" for name, field in HostSettings.model_fields.items()}
    assert "does not drive the NPU" in described["rocm_migraphx"] and "GPUs" in described["rocm_migraphx"]
    assert "compatibility matrix" in described["kernel_package"]


def test_bad_firmware_is_the_accelerator_s_unless_named() -> None:
    assert parse("mini", {}).bad_firmware == ("0x83", "20251125")
    assert parse("mini", {"firmware_known_bad": []}).bad_firmware == ()
