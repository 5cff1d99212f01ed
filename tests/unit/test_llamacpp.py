"""llama.cpp as an engine: command, secrets, budget. The real server: tests/lab, `make contract-llamacpp`."""

from __future__ import annotations

from typing import Any

import pytest

from ojai import engines, profiles
from ojai.engines import endpoints
from ojai.engines.llamacpp import cli
from ojai.memory import GgufDemand, HostMemory, fit_together
from ojai.settings import parse
from ojai.sizes import GIB

COMMIT = "c" * 40
NAMES = [name for name in profiles.names() if "llamacpp" in profiles.served_by(name)]


def service(**choices: Any) -> Any:
    data = {"name": "llama", "engine": "llamacpp", **choices}
    return parse("mini", {"exposure": "loopback", "services": [data]}).resolved[0]


def after(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


@pytest.mark.parametrize("name", NAMES)
def test_its_command_names_the_gpu_the_file_and_the_address(name):
    found = service(profile=name)
    argv = found.command.engine_argv
    assert cli.check(argv) == []
    assert (
        after(argv, "--device") == "Vulkan0" and after(argv, "--gpu-layers") == "99" and after(argv, "--fit") == "off"
    )
    assert (after(argv, "--host"), after(argv, "--port")) == ("127.0.0.1", "8000")
    assert after(argv, "--model").endswith(f"/snapshots/{found.profile.revision}/{found.profile.files[0]}")
    assert after(argv, "--mmproj").endswith("/mmproj-F16.gguf") and after(argv, "--alias") == found.profile.model
    docker = found.command.docker_argv
    assert "--device=/dev/dri" in docker and "--device=/dev/kfd" not in docker
    assert not [word for word in docker if "HSA_" in word or "--cap-add" in word or "HF_TOKEN" in word]
    assert "@sha256:" in found.image and found.standing == []


def test_on_a_host_it_has_the_commit_that_was_fetched_and_the_numbers_of_the_groups():
    found = service().on_host({"video": 44, "render": 992}, None, {"unsloth/gemma-4-E4B-it-GGUF": COMMIT})
    assert f"/snapshots/{COMMIT}/" in after(found.command.engine_argv, "--model")
    assert {"--group-add=44", "--group-add=992"} < set(found.command.docker_argv)


def test_slots_share_the_context_and_text_alone_needs_no_projector():
    argv = service(max_num_seqs=3, max_model_len=4096, text_only=True).command.engine_argv
    assert (after(argv, "--ctx-size"), after(argv, "--parallel")) == ("12288", "3") and "--mmproj" not in argv


def test_a_folder_of_the_owners_is_served_read_only():
    found = service(model="/mnt/usb/gemma")
    assert after(found.command.engine_argv, "--model") == "/mnt/usb/gemma/gemma-4-E4B-it-Q4_K_M.gguf"
    assert "type=bind,src=/mnt/usb/gemma,dst=/mnt/usb/gemma,readonly" in found.command.docker_argv
    assert found.wanted == () and found.brought


def test_the_files_that_are_fetched_are_those_that_are_served():
    found = service()
    assert [(one.model, one.revision) for one in found.wanted] == [(found.profile.model, found.profile.revision)]
    assert found.engine.files(found) == engines.Files(
        allow=("mmproj-F16.gguf",), weights=("gemma-4-E4B-it-Q4_K_M.gguf",), ignore=()
    )


def test_a_key_is_a_file_that_the_container_alone_is_given():
    found = service(secrets={"LLAMA_API_KEY": {"env": "A"}, "HF_TOKEN": {"env": "B"}})
    assert found.key_file == "/etc/ojai/llama.secrets/LLAMA_API_KEY"
    mounts = [word for word in found.command.docker_argv if "secrets" in word and word.startswith("type=bind")]
    assert mounts == [f"type=bind,src={found.key_file},dst=/run/secrets/ojai/LLAMA_API_KEY,readonly"]
    assert after(found.command.engine_argv, "--api-key-file") == "/run/secrets/ojai/LLAMA_API_KEY"
    assert "--api-key-file" not in service().command.engine_argv


def test_a_hardened_one_has_the_render_node_alone():
    found = service(hardened=True).on_host({"video": 44, "render": 992}, None, None, "renderD129", 32 * GIB)
    devices = [word for word in found.command.docker_argv if word.startswith("--device=")]
    assert devices == ["--device=/dev/dri/renderD129"] and "--read-only" in found.command.docker_argv


def test_the_gateway_passes_on_what_is_offered_and_says_why_not_the_rest():
    offered = {one.path for one in engines.get("llamacpp").offered}
    assert {"/v1/chat/completions", "/v1/models", "/health"} <= offered
    for path in ("/slots", "/props", "/lora-adapters", "/tools", "/completion"):
        assert path not in offered and endpoints.closed("llamacpp")[path]


def demand(name: str = "gemma-4-26b-a4b", **choices: Any) -> GgufDemand:
    found = service(profile=name, **choices).demand
    assert isinstance(found, GgufDemand)
    return found


def test_the_cache_by_hand():
    """26B-A4B: 5 full layers of 2 heads of 512, 25 sliding ones of 8 heads of 256; K and V of 2 bytes."""
    found = demand(max_model_len=32768)
    assert found.cells("full") == 32768 and found.cells("sliding") == 1024 + 512
    assert found.slot_bytes == 32768 * 5 * 2 * 512 * 4 + 1536 * 25 * 8 * 256 * 4
    assert demand(max_model_len=32768, max_num_seqs=4).available_bytes(0) == 4 * found.slot_bytes
    assert demand(max_model_len=32768, kv_cache_dtype="q8_0").slot_bytes == found.slot_bytes * 34 // 64


def test_layers_that_share_a_cache_have_none_and_short_contexts_are_padded():
    """E4B: of 42 layers the last 18 have none."""
    found = demand("gemma-4-e4b", max_model_len=300)
    assert found.cells("full") == found.cells("sliding") == 512
    assert found.slot_bytes == 512 * 24 * 2 * 4 * 256 + 512 * 4 * 2 * 4 * 256


def test_both_heaps_count_and_the_os_keeps_what_it_needs():
    found = demand()
    small, large = (HostMemory(gpu_bytes=8 * GIB, os_bytes=size * GIB) for size in (16, 56))
    assert not service(profile="gemma-4-26b-a4b").budget(small).fits
    result = service(profile="gemma-4-26b-a4b").budget(large)
    assert result.fits and result.os_left_bytes == 56 * GIB - found.from_os(large) < 56 * GIB
    assert found.from_os(large) == found.requested_bytes(0) - 8 * GIB + found.host_bytes
    refused = service(profile="gemma-4-26b-a4b").budget(small)
    assert "that Vulkan can have" in refused.reasons[0] and refused.suggestion


def test_the_longest_context_fits_and_one_more_does_not():
    found = demand("gemma-4-31b")
    longest = found.longest_context(24 * GIB)
    assert found.model_copy(update={"max_model_len": longest}).fits_gpu(24 * GIB)
    assert not found.model_copy(update={"max_model_len": longest + 256}).fits_gpu(24 * GIB)
    assert found.fits_gpu(found.needed_gpu_bytes()) and not found.fits_gpu(found.needed_gpu_bytes() - GIB)


def test_beside_vllm_the_shares_are_added():
    vllm = parse("mini", {"services": [{"gpu_memory_utilization": 0.5}]}).resolved[0].demand
    both = {"vllm": vllm, "llama": demand()}
    assert fit_together(both, HostMemory(gpu_bytes=64 * GIB)) == ()
    assert "together they reserve" in fit_together(both, HostMemory(gpu_bytes=36 * GIB))[0]


def test_another_engine_is_one_line_and_leaves_the_rest():
    one = parse("mini", {"services": [{"engine": "vllm"}]}).resolved[0]
    assert one.command == parse("mini", {"services": [{}]}).resolved[0].command
    assert {one.model, service().model} == {"google/gemma-4-E4B-it", "unsloth/gemma-4-E4B-it-GGUF"}


def test_the_folder_of_shaders_is_made_where_llama_cpp_serves_alone():
    of_vllm, of_both = (parse("mini", {"services": [{"engine": name}]}).own_caches for name in engines.NAMES)
    assert "/srv/ojai/mesa" not in of_vllm and "/srv/ojai/mesa" in of_both
    assert "/srv/ojai/mesa" in parse("mini", {"services": [{}]}).every_own_cache
