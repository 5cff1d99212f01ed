"""Loading: devices, variables, memory, the mapping; and the KV cache against vLLM's own planner's figures."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojai import memory, profiles
from ojai.lab.hub.repository import write_safetensors
from ojai.lab.modelserver import arguments, environment, kvcache, loading, models, tunableop
from ojai.lab.modelserver.logs import LoadError

CONTRACT = arguments.load_contract()
REPOSITORY = Path(__file__).resolve().parents[2]
E4B, MOE, SMALL = "google/gemma-4-E4B-it", "google/gemma-4-26B-A4B-it", "google/gemma-4-E2B-it-qat-mobile-ct"
GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """A folder that stands for a machine's /, with the devices and a 64 GiB carve-out."""
    root = tmp_path / "root"
    for name in ("dev/dri", "sys/class/dmi/id", "sys/module/ttm/parameters"):
        (root / name).mkdir(parents=True)
    for name in ("dev/kfd", "dev/dri/renderD128"):
        (root / name).touch()
    set_carveout(root, 64 * GIB)
    # Downloaded already, and small: whether this machine's kernel maps 50 GB is not what most tests are about.
    for name in (E4B, MOE):
        folder = root / f"hf/hub/models--{name.replace('/', '--')}/snapshots/0123abc"
        folder.mkdir(parents=True)
        for file in models.find(name).files:
            (folder / file).write_bytes(b"\0" * 4096)
    return root


def set_carveout(root, size):
    (root / "sys/class/dmi/id/product_sku").write_text(f"carveout={size}\n")


def load(root, *words, **variables):
    """Load in this process and return what was loaded; the mappings are let go."""
    settings = {
        "OJAI_LAB_ROOT": str(root),
        "OJAI_LAB_LOAD_SECONDS": "0",
        "HF_HOME": str(root / "hf"),
        **variables,
    }
    kept = []
    try:
        return loading.load(arguments.command(["serve", *words], CONTRACT), environment.read(settings), kept)
    finally:
        for mapping in kept:
            mapping.close()


def refused(root, *words, **variables):
    with pytest.raises(LoadError) as error:
        load(root, *words, **variables)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "length", "block", "size"),
    [
        ("google/gemma-4-E4B-it", 131072, 16, 2_505_310_208),
        ("google/gemma-4-E2B-it", 131072, 16, 912_654_336),
        ("google/gemma-4-31B-it", 32768, 16, 10_247_208_960),
        ("google/gemma-4-26B-A4B-it", 32768, 32, 2_565_079_040),
    ],
)
def test_bytes_a_sequence_as_vllms_planner_printed_them(name, length, block, size):
    geometry = models.find(name).geometry
    assert kvcache.plan(geometry, length, block, 8192, 2).bytes_per_sequence == size


def test_the_26b_guides_cache_holds_62337_tokens():
    plan = kvcache.plan(models.find(MOE).geometry, 32768, 32, 8192, 2)
    assert plan.capacity_tokens(4_880_000_000, 32768) == 62_337


def test_it_loads(machine, capsys):
    loaded = load(machine, E4B, "--max-model-len", "131072", "--gpu-memory-utilization", "0.85")
    # 0.85 x 64 GiB - 15.2 GB - 2 GB, with the 2048-token batches of a device below 70 GiB
    assert loaded.kv_tokens == 2_396_847
    assert (loaded.max_model_len, loaded.max_num_seqs) == (131072, 256)
    output = capsys.readouterr().out
    assert "GPU KV cache size: 2,396,847 tokens" in output
    assert "Forcing TRITON_ATTN" in output
    assert "in place of a download" not in output


def test_a_large_device_batches_more(machine):
    set_carveout(machine, 96 * GIB)
    assert load(machine, E4B).max_num_seqs == 1024
    assert load(machine, E4B, "--max-num-seqs", "4").max_num_seqs == 4


def test_files_that_are_absent_are_made(machine, capsys):
    load(machine, SMALL)
    file = machine / "hf/hub" / f"models--{SMALL.replace('/', '--')}" / "snapshots/ojai-lab-stand-in/model.safetensors"
    assert file.stat().st_size == 2_700_000_000
    assert file.stat().st_blocks * 512 < 1_000_000, "the file is sparse"
    assert "in place of a download" in capsys.readouterr().out
    load(machine, SMALL, HF_HUB_OFFLINE="1")
    assert "in place of a download" not in capsys.readouterr().out


def test_offline_without_the_files(machine):
    message = refused(machine, SMALL, HF_HUB_OFFLINE="1")
    assert message.startswith("huggingface_hub.errors.LocalEntryNotFoundError")


def test_a_revision_is_the_one_that_is_in_the_cache_and_no_other(machine):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = machine / "hf/hub" / f"models--{E4B.replace('/', '--')}"
    missing = refused(machine, E4B, "--revision", commit, HF_HUB_OFFLINE="1")
    assert missing.startswith("huggingface_hub.errors.LocalEntryNotFoundError")
    write_safetensors(repository / "snapshots" / commit / "model.safetensors", 4096, 8192, "seed")
    assert load(machine, E4B, "--revision", commit, HF_HUB_OFFLINE="1").max_model_len == 131072
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    assert load(machine, E4B, "--revision", "main", HF_HUB_OFFLINE="1").max_model_len == 131072


def test_a_file_of_the_labs_hub_is_mapped_as_large_as_the_one_it_stands_for(machine, tmp_path):
    file, other = tmp_path / "model.safetensors", tmp_path / "other.safetensors"
    write_safetensors(file, 4096, 1 << 24, "seed")
    other.write_bytes(b"\0" * 4096)
    for path, size in ((file, 1 << 24), (other, 4096)):
        with loading.map_private(path) as mapping:
            assert len(mapping) == size


def test_a_carve_out_too_small_gives_the_guides_message(machine):
    set_carveout(machine, 16 * GIB)
    assert refused(machine, MOE) == (
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 968.00 MiB. GPU 0 has a total capacity of "
        "16.00 GiB of which 296.00 MiB is free."
    )
    shutil.rmtree(machine / "hf")
    assert "HIP out of memory" in refused(machine, MOE)
    assert not (machine / "hf").exists(), "refused before any file is looked for"


def test_the_ttm_limit_counts_where_it_is_larger(machine):
    set_carveout(machine, GIB // 2)
    assert "0.50 GiB" in refused(machine, E4B)
    (machine / "sys/module/ttm/parameters/pages_limit").write_text(str(48 * 262_144))
    assert load(machine, E4B).kv_tokens


def test_no_room_for_the_cache(machine):
    set_carveout(machine, 20 * GIB)
    message = refused(machine, E4B, "--gpu-memory-utilization", "0.8")
    assert message.startswith("ValueError: No available memory for the cache blocks.")


def test_room_for_less_than_one_sequence(machine):
    message = refused(machine, MOE, "--kv-cache-memory-bytes", "3G", "--max-model-len", "262144")
    assert message.startswith("ValueError: To serve at least one request with the models's max seq len (262144)")
    estimate = int(message.partition("estimated maximum model length is ")[2].partition(".")[0])
    assert 0 < estimate < 262144
    assert load(machine, MOE, "--kv-cache-memory-bytes", "3G", "--max-model-len", str(estimate))


def test_automatic_length_is_the_longest_that_fits(machine):
    loaded = load(machine, MOE, "--kv-cache-memory-bytes", "3G", "--max-model-len", "auto")
    assert 0 < loaded.max_model_len < 262144
    assert load(machine, E4B, "--max-model-len", "auto").max_model_len == 131072


def test_a_length_beyond_the_model(machine):
    message = refused(machine, E4B, "--max-model-len", "262144")
    assert "max_position_embeddings=131072" in message


def test_eight_bit_cache_holds_twice_as_much(machine):
    plain = load(machine, E4B).kv_tokens
    assert load(machine, E4B, "--kv-cache-dtype", "fp8").kv_tokens == pytest.approx(2 * plain, rel=0.001)


def test_the_12b_has_no_architecture_in_0_20_1(machine):
    message = refused(machine, "google/gemma-4-12B-it")
    assert message.startswith("ValueError: Model architectures ['Gemma4UnifiedForConditionalGeneration'] are not")


def profile_of(model):
    known = {
        profile.model: profile for profile in map(profiles.load, profiles.names()) if not profile.features.quantization
    }
    return known.get(model)


@pytest.mark.parametrize("name", sorted(models.table()))
def test_sizes_and_geometry_agree_with_the_profiles(name):
    """Two rooms of the house say the same of a model; what is planned is what the lab then refuses or loads."""
    profile = profile_of(name)
    if profile is None:
        pytest.skip("no profile of this model")
    entry = models.table()[name]
    assert profile.weights_bytes == entry["weights_bytes"]
    assert profile.largest_shard_bytes == max(entry["files"].values())
    ours = models.table()[entry.get("like", name)]["geometry"]
    theirs = profile.geometry
    assert (theirs.layers, theirs.pattern) == (ours["layers"], f"{ours['sliding_per_full']}:1")
    assert (theirs.kv_heads_sliding, theirs.kv_heads_full) == (ours["sliding_kv_heads"], ours["full_kv_heads"])
    assert (theirs.shared_kv_layers, theirs.sliding_window) == (ours["shared_layers"], ours["window"])
    assert theirs.max_context == ours["max_context"]


@given(
    name=st.sampled_from(["E2B", "E4B", "12B", "26B-A4B", "31B"]),
    length=st.integers(1, 131_072),
    block=st.sampled_from([16, 32, 64]),
    batched=st.integers(1, 16_384),
    available=st.integers(0, 2**36),
)
def test_the_planner_agrees_with_the_products(name, length, block, batched, available):
    ours = kvcache.Geometry(**models.table()[f"google/gemma-4-{name}-it"]["geometry"])
    theirs = memory.Geometry(
        layers=ours.layers,
        pattern=f"{ours.sliding_per_full}:1",
        kv_heads_sliding=ours.sliding_kv_heads,
        kv_heads_full=ours.full_kv_heads,
        sliding_window=ours.window,
        shared_kv_layers=ours.shared_layers,
        max_context=ours.max_context,
    )
    mine = kvcache.plan(ours, length, block, batched, 2)
    product = memory.plan(theirs, length, block_size=block, max_num_batched_tokens=batched)
    assert mine.bytes_per_sequence == product.bytes_per_sequence
    assert mine.capacity_tokens(available, length) == product.tokens(available)


def test_memory_that_is_not_known_is_said_and_not_made_up(machine, capsys):
    (machine / "sys/class/dmi/id/product_sku").write_text("Default string\n")
    assert load(machine, MOE).kv_tokens is None
    output = capsys.readouterr().out
    assert "does not say carveout=" in output
    assert "KV cache size" not in output


@pytest.mark.parametrize("missing", ["dev/kfd", "dev/dri/renderD128"])
def test_without_a_device(machine, missing):
    (machine / missing).unlink()
    assert refused(machine, E4B) == "RuntimeError: No HIP GPUs are available"


@pytest.mark.parametrize("model", [E4B, MOE])
@pytest.mark.parametrize("variable", loading.AITER)
def test_aiter_kills_it(machine, model, variable):
    message = refused(machine, model, **{variable: "1"})
    assert message.startswith("ValueError: Unquantized MoE backend ROCm AITER does not support")
    assert "current device rocm" in message
    assert load(machine, model, "--max-model-len", "8192", **{variable: "0"})


@pytest.mark.parametrize("variable", ["PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"])
def test_expandable_segments_only_warn(machine, capsys, variable):
    assert load(machine, E4B, **{variable: "expandable_segments:True"})
    assert "UserWarning: expandable_segments not supported on this platform" in capsys.readouterr().out


def test_the_moe_tuning_file_is_used_where_it_is(machine, tmp_path, capsys):
    words = (MOE, "--max-model-len", "8192")
    load(machine, *words, VLLM_TUNED_CONFIG_FOLDER=str(tmp_path))
    assert "Using default MoE config" in capsys.readouterr().out
    file = tmp_path / "E=128,N=704,device_name=AMD_Radeon_890M.json"
    file.write_text("{}")
    load(machine, *words, VLLM_TUNED_CONFIG_FOLDER=str(tmp_path))
    assert f"Using configuration from {file} for MoE layer." in capsys.readouterr().out
    file.write_text("{bad")
    assert "JSONDecodeError" in refused(machine, *words, VLLM_TUNED_CONFIG_FOLDER=str(tmp_path))


def test_a_model_that_is_not_known_and_a_folder_that_is(machine, tmp_path):
    assert "Known: google/gemma-4-E2B-it" in refused(machine, "someone/else")
    assert "no *.safetensors file" in refused(machine, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 4096)
    loaded = load(machine, str(tmp_path), "--max-model-len", "4096")
    assert (loaded.max_model_len, loaded.kv_tokens) == (4096, None)


def test_the_kernel_refuses_the_mapping(machine):
    """For real: a process whose address space is limited cannot map the 49.9 GB shard."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "ojai.lab.modelserver", "serve", MOE, "--max-model-len", "8192", "--port", "0"],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={
            **os.environ,
            "OJAI_LAB_ROOT": str(machine),
            "HF_HOME": str(machine / "empty"),
            "OJAI_LAB_LOAD_SECONDS": "0",
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 * GIB, 8 * GIB)),
        timeout=20,
    )
    assert done.returncode == 1
    assert "RuntimeError: unable to mmap 49907246508 bytes from file <" in done.stderr
    assert "model-00001-of-00002.safetensors>: Cannot allocate memory (12)" in done.stderr
    assert "RuntimeError: Engine core initialization failed." in done.stderr
    assert "Traceback" not in done.stderr


def test_switches_that_make_no_sense():
    with pytest.raises(ValueError, match="OJAI_LAB_CRASH_AT='later'"):
        environment.read({"OJAI_LAB_CRASH_AT": "later"})
    with pytest.raises(ValueError, match="OJAI_LAB_LOAD_SECONDS='soon'"):
        environment.read({"OJAI_LAB_LOAD_SECONDS": "soon"})
    with pytest.raises(ValueError, match="OJAI_LAB_TOKEN_SECONDS='-1'"):
        environment.read({"OJAI_LAB_TOKEN_SECONDS": "-1"})


def test_crash_while_loading(machine):
    assert "OJAI_LAB_CRASH_AT=loading" in refused(machine, E4B, OJAI_LAB_CRASH_AT="loading")


def tunable(folder, **variables):
    return environment.read(
        {
            "PYTORCH_TUNABLEOP_ENABLED": "1",
            "PYTORCH_TUNABLEOP_FILENAME": str(folder / "gemma4_gfx1150.csv"),
            **variables,
        }
    )


def test_tuning_results_are_written_with_the_ordinal_and_read_back(tmp_path):
    tunableop.write_at_exit(tunable(tmp_path))
    file = tmp_path / "gemma4_gfx11500.csv"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_text().startswith("Validator,PT_VERSION,")
    off = tunable(tmp_path, PYTORCH_TUNABLEOP_TUNING="0")
    assert tunableop.read(off) == 1
    before = file.stat().st_mtime_ns
    tunableop.write_at_exit(off)
    assert file.stat().st_mtime_ns == before, "nothing is written with tuning off"


def test_tuning_results_of_another_build_are_not_used(tmp_path, capsys):
    tunableop.write_at_exit(tunable(tmp_path, OJAI_LAB_BUILD="v0.20.1-next"))
    assert tunableop.read(tunable(tmp_path, PYTORCH_TUNABLEOP_TUNING="0")) == 0
    assert "validator check failed" in capsys.readouterr().out


def test_tuning_results_without_a_folder_are_lost_and_that_is_said(tmp_path, capsys):
    tunableop.write_at_exit(tunable(tmp_path / "absent"))
    assert "could not write" in capsys.readouterr().out
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("given", "used"),
    [("a%d.csv", "a0.csv"), ("a", "a0"), ("", "tunableop_results0.csv"), ("x.y/b.c.csv", "x.y/b.c0.csv")],
)
def test_names_of_the_results_file(given, used):
    assert str(tunableop.results_file(environment.read({"PYTORCH_TUNABLEOP_FILENAME": given}))) == used


def test_tunableop_is_off_by_default(tmp_path):
    plain = environment.read({"PYTORCH_TUNABLEOP_FILENAME": str(tmp_path / "x.csv")})
    tunableop.write_at_exit(plain)
    assert not list(tmp_path.iterdir())
