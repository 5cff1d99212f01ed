"""Forty cases of a reader who saw the issue, the documentation and the upstream facts only: today's platform.

Each test says what an owner would rightly expect, whether or not it is so. Services are looked at in two runs of
`ojai plan` over made-up hosts, machines in one dry run over made-up reports. Where a situation of Ubuntu can be made
here, the script of the report runs beside changed folders of this machine (see test_first_contact_reader.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_first_contact_reader import (
    APT_ANSWERS,
    APT_ROOT,
    NO_APT,
    Case,
    Seen,
    archive,
    clean_environment,
    daemon_json,
    dry,
    dry_run,
    look,
    of,
    write_inventory,
)

from ojai.facts.release import ReleaseState
from ojai.operations.apt import COMMAND as APT_GET

CLONE = Path(__file__).resolve().parents[2]
ROCM = "vllm/vllm-openai-rocm"
GIB = 2**30
MOE: dict[str, Any] = {"profile": "gemma-4-26b-a4b", "speculative": True, "tool_calling": False}


# --- what `ojai` says -----------------------------------------------------------------------------------------------


class Said(NamedTuple):
    rc: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it, in one line, without a table's breaks."""
        return re.sub(r"\s+", " ", self.out + self.err)


def ojai(*argv: str, cwd: Path = CLONE) -> Said:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ojai", *argv],
        cwd=cwd,
        env=clean_environment(COLUMNS="200"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Said(done.returncode, done.stdout, done.stderr)


class Planned(NamedTuple):
    """What a plan says of a host with one service: its refusals, or its warnings and budget."""

    refused: str = ""
    warned: str = ""
    follows: str = ""
    sequence: int = 0
    allowed: tuple[str, ...] = ()
    services: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self[:3])


#: Hosts of the plan, by name: data of a host.
HOSTS: dict[str, dict[str, Any]] = {}


def serves(name: str, *services: dict[str, Any], **host: Any) -> str:
    HOSTS[name] = {**host, "services": list(services)}
    return name


def tagged(name: str, image: str, *args: str, **service: Any) -> str:
    """A host with a service of an image: a tag of vLLM's own, or a whole name."""
    whole = image if re.search(r"[/@]", image) else f"{ROCM}:{image}"
    return serves(name, {"image": whole, **service, **({"engine_args": list(args)} if args else {})})


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Planned]:
    """Every host: those that are refused by name first, then the plan of the others."""
    folder = tmp_path_factory.mktemp("plans")
    (folder / "all.py").write_text(f"boxes = {list(HOSTS.items())!r}\n")
    first = ojai("plan", "all.py", "--json", cwd=folder)
    found: dict[str, Planned] = {}
    for line in first.err.splitlines():
        if match := re.match(r"(?:Error: )?([a-z0-9]+): (.*)", line.strip()):
            name, fault = match.groups()
            if name in HOSTS:
                found[name] = Planned(refused=f"{found[name].refused} {fault}" if name in found else fault)
    rest = [(name, data) for name, data in HOSTS.items() if name not in found]
    (folder / "rest.py").write_text(f"boxes = {rest!r}\n")
    second = ojai("plan", "rest.py", "--json", "--gpu-memory", "96GiB", cwd=folder)
    assert second.rc in (0, 1), second.text
    said = json.loads(second.out)
    for host in said["hosts"]:
        service = host["services"][0]
        warnings = " ".join([*service["warnings"], *map(str, host["obstacles"])])
        command, budget = service["command"], service["budget"]
        found[host["name"]] = Planned(
            warned=warnings,
            follows=command["follows"],
            sequence=budget["kv_bytes_per_sequence"] if budget else 0,
            allowed=tuple(map(str, command["allowed"])),
            services=tuple(host["services"]),
        )
    assert set(found) == set(HOSTS), set(HOSTS) - set(found)
    return found


Plans = dict[str, Planned]

# --- releases by tag ------------------------------------------------------------------------------------------------

PORT = tagged("port", "registry.example.net:5000/vllm/vllm-openai-rocm:v0.33.0", "--calculate-kv-scales")
MIRROR = tagged("mirror", "registry.example.net:5000/hub/vllm/vllm-openai-rocm:v0.33.0", "--calculate-kv-scales")


def test_01_a_registry_with_a_port_hides_no_release(plans: Plans) -> None:
    """A fleet pulls vLLM's image from its own registry: 5000 is no tag, and v0.33.0 has lost --calculate-kv-scales."""
    for name in (PORT, MIRROR):
        assert "unknown-flag" in plans[name].refused and "0.33.0" in plans[name].refused, plans[name]


NO_TAG = tagged("notag", "registry.example.net:5000/vllm/vllm-openai-rocm")


def test_02_a_port_is_not_taken_for_a_tag(plans: Plans) -> None:
    """`repository:tag` is what the setting asks for; docker would take `latest` here without a word."""
    assert re.search(r"image.*tag", plans[NO_TAG].refused), plans[NO_TAG]


DIGEST = "sha256:" + "ab" * 32
IN_IMAGE = tagged("inimage", f"{ROCM}:v0.33.0@{DIGEST}")
BY_DIGEST = tagged("bydigest", "v0.33.0", "--calculate-kv-scales", image_digest=DIGEST)
BY_DIGEST_FINE = tagged("bydigestfine", "v0.33.0", "--linear-backend", "triton", image_digest=DIGEST)


def test_03_a_digest_beside_the_tag_leaves_the_release_known(plans: Plans) -> None:
    """Pinned by image_digest, the tag still says which vLLM it is; a digest in `image` is sent to image_digest."""
    assert "image_digest" in plans[IN_IMAGE].refused, plans[IN_IMAGE]
    assert "unknown-flag" in plans[BY_DIGEST].refused, plans[BY_DIGEST]
    assert not plans[BY_DIGEST_FINE].refused and "0.33.0" in plans[BY_DIGEST_FINE].follows, plans[BY_DIGEST_FINE]


BUILDS = {
    tagged(f"build{number}", tag, "--no-such-flag"): tag
    for number, tag in enumerate(["v0.28.0-rocm723", "v0.28.0_rocm7.2.3", "0.28.0", "v0.28.0.post1"])
}


def test_04_a_build_of_a_release_is_that_release(plans: Plans) -> None:
    """ROCm builds (vLLM says `0.26.0+rocm723`, a tag has - or _ for +) and post releases are the release."""
    for name, tag in BUILDS.items():
        assert "unknown-flag" in plans[name].refused and "0.28.0" in plans[name].refused, (tag, plans[name])


BEFORE = {
    tagged(f"before{number}", tag, "--no-such-flag"): tag
    for number, tag in enumerate(["v0.33.0rc2", "v0.33.0.dev88", "v0.33.0-rc.1"])
}


def test_05_a_release_candidate_is_not_the_release(plans: Plans) -> None:
    """An rc came before the release and has no contract of its own: a flag that is not known is said, not refused."""
    for name, tag in BEFORE.items():
        assert not plans[name].refused and "--no-such-flag" in plans[name].warned, (tag, plans[name])


CANDIDATE = tagged("candidate", "v0.28.0rc1", profile="gemma-4-12b")


def test_06_a_candidate_of_the_release_with_the_fix_is_not_called_sound(plans: Plans) -> None:
    """Gemma 4 starts again with 0.28.0; an rc of it may be from before the fix: refused, or said."""
    assert re.search(r"transformers|rc1|0\.27", plans[CANDIDATE].refused + plans[CANDIDATE].warned, re.I), plans[
        CANDIDATE
    ]


AMDS = {
    tagged(f"amds{number}", image): image
    for number, image in enumerate(
        [
            "rocm/vllm:rocm7.2.1_ubuntu24.04_py3.12_pytorch_2.9_vllm_0.23.0",
            "rocm/vllm-dev:nightly_0616_rc1",
            "rocm/vllm:rocm6.4.1_vllm_0.10.1_20250909",
        ]
    )
}


def test_07_amds_own_tags_are_not_read_as_a_release_of_vllm(plans: Plans) -> None:
    """AMD's tags begin with ROCm's version: 7.2.1 is no vLLM; what is said of it is that it is not judged."""
    for name, image in AMDS.items():
        plan = plans[name]
        assert not plan.refused, (image, plan)
        assert "not judged" in plan.warned and not re.search(r"vLLM (7\.2|24\.04)", plan.text), (image, plan)


MOVING = {
    tagged(f"moving{number}", tag, "--no-such-flag"): tag
    for number, tag in enumerate(
        ["latest", "nightly", "nightly-0a1b2c3d4e5f", "ghcr.io/me/vllm:2026.11.27", "ghcr.io/me/vllm:gfx1150", "gemma4"]
    )
}


def test_08_tags_without_a_release_are_said_to_be_unjudged(plans: Plans) -> None:
    """latest, nightlies by commit, a date, a per-model tag, a private one: passed, and the owner is told."""
    for name, tag in MOVING.items():
        plan = plans[name]
        assert not plan.refused and "not judged" in plan.warned, (tag, plan)
        assert "0.33.0" in plan.follows and "estimate" in plan.follows, (tag, plan)


OLD = tagged("old", "v0.19.0")
OLD_12B = tagged("old12b", "v0.20.0", profile="gemma-4-12b")


def test_09_older_than_the_oldest_is_not_passed_in_silence(plans: Plans) -> None:
    """No contract is older than 0.20.1: a release before it is refused, or it is said that nothing judges it."""
    for name in (OLD, OLD_12B):
        assert re.search(r"0\.19\.0|0\.20\.0", plans[name].refused + plans[name].warned), plans[name]
    assert "engine-too-old" in plans[OLD_12B].refused, plans[OLD_12B]


NEW = tagged("new", "v0.35.1", "--brand-new-flag", "3")


def test_10_newer_than_the_newest_says_what_it_does_not_know(plans: Plans) -> None:
    """Next month's image: judged by 0.33.0, the unknown flag named and not refused, the budget with whose planner."""
    plan = plans[NEW]
    assert not plan.refused and "--brand-new-flag" in plan.warned and "0.33.0" in plan.warned, plan
    assert "0.33.0" in plan.follows and "0.35.1" in plan.follows, plan


SHORT = tagged("short", "v0.28")
DEBUG = tagged("debug", "v0.28.0-debug-mine")


def test_11_a_tag_of_two_numbers_is_answered(plans: Plans) -> None:
    """`v0.28`, as other projects tag: taken for 0.28.x or said to be unjudged, never passed without a word of it."""
    plan = plans[SHORT]
    assert not plan.refused and ("0.28" in plan.follows or "not judged" in plan.warned), plan
    assert not plans[DEBUG].refused and "0.28.0" in plans[DEBUG].follows, plans[DEBUG]


UNDERSCORE = tagged("underscore", "v0.33.0", "--max_num_partial_prefills=2")
UNDERSCORE_24 = tagged("underscore24", "v0.24.0", "--max_num_partial_prefills=2")
DISABLED = tagged("disabled", "v0.33.0", "--disable-log-requests")


# New names of 0.33.0 for what has a choice: the upstream facts name them among those an owner wants.
ASSISTANT = "google/gemma-4-26B-A4B-it-assistant"
NEW_NAMES = {
    tagged("share", "v0.33.0", "--device-memory-utilization", "0.5"): "gpu_memory_utilization|named-choice",
    tagged("spec", "v0.28.0", "--spec-model", ASSISTANT, "--spec-tokens", "4", **{**MOE, "speculative": False}): (
        "speculative"
    ),
    tagged("specother", "v0.33.0", "--spec-model=google/gemma-4-E4B-it-assistant", **{**MOE, "speculative": False}): (
        "speculative|assistant-mismatch"
    ),
    tagged("abbreviated", "v0.33.0", "--max-model-le", "4096"): "max_model_len|max-model-len",
}


def test_12_a_flag_is_one_in_every_spelling(plans: Plans) -> None:
    """vLLM takes --max_num_partial_prefills=2 for the same flag: there in 0.24.0, gone in 0.33.0."""
    assert "unknown-flag" in plans[UNDERSCORE].refused, plans[UNDERSCORE]
    assert not plans[UNDERSCORE_24].refused, plans[UNDERSCORE_24]
    # docs/guide/changes-to-the-guides.md: "0.33.0 has the flag again".
    assert not plans[DISABLED].refused, plans[DISABLED]
    passed = {name for name, word in NEW_NAMES.items() if not re.search(word, plans[name].refused + plans[name].warned)}
    assert not passed, {name: plans[name].services[0]["command"]["engine_argv"] for name in passed}


# --- known-bad windows ----------------------------------------------------------------------------------------------

BORDERS = {
    tag: tagged("moe" + tag.translate({46: None, 45: None}), tag, **MOE)
    for tag in ["v0.20.1", "v0.21.0", "v0.24.0", "v0.25.0", "v0.27.1", "v0.27.1-rocm724", "v0.29.0", "v0.33.0"]
}


def test_13_the_window_of_the_mixture_and_its_assistant_has_borders(plans: Plans) -> None:
    """Too early below 0.21, fails at start from 0.25.0 to at least 0.27, runs in 0.33.0; 0.24.0 is outside of both."""
    codes = {tag: plans[name].refused.partition("): ")[2].partition(":")[0] for tag, name in BORDERS.items()}
    assert codes["v0.20.1"] == "speculative-too-early" and codes["v0.21.0"] != "speculative-too-early", codes
    assert {tag for tag, code in codes.items() if code == "speculative-moe"} == {
        "v0.25.0",
        "v0.27.1",
        "v0.27.1-rocm724",
    }, codes
    assert codes["v0.24.0"] == codes["v0.29.0"] == codes["v0.33.0"] == "", codes


ROUND = tagged("round", "v0.26.0", **MOE, environment={"VLLM_USE_V2_MODEL_RUNNER": "1"})
NOT_ROUND = tagged("notround", "v0.26.0", **MOE, environment={"VLLM_USE_V2_MODEL_RUNNER": "0"})
DENSE = tagged("dense", "v0.26.0", profile="gemma-4-31b", speculative=True)


def test_14_the_way_round_that_a_refusal_names_is_taken(plans: Plans) -> None:
    """The message says to set VLLM_USE_V2_MODEL_RUNNER=1; who does so is not asked for `allow` besides."""
    assert not plans[ROUND].refused, plans[ROUND]
    assert "speculative-moe" in plans[NOT_ROUND].refused, plans[NOT_ROUND]
    assert "speculative-moe" not in plans[DENSE].refused, plans[DENSE]


TOOLS = tagged("tools", "v0.24.0", profile="gemma-4-12b", speculative=True, tool_calling=True)
NO_TOOLS = tagged("notools", "v0.24.0", profile="gemma-4-12b", speculative=True, tool_calling=False)
TOOLS_28 = tagged("tools28", "v0.28.0", profile="gemma-4-12b", speculative=True, tool_calling=True)
TOOLS_RAW = tagged(
    "toolsraw",
    "v0.24.0",
    profile="gemma-4-12b",
    tool_calling=True,
    speculative={"tokens": 2, "model": "google/gemma-4-12B-it-assistant"},
)


def test_15_drafting_breaks_tool_calls_in_one_release_only(plans: Plans) -> None:
    """0.24.0 writes <pad> into tool calls while it drafts: refused with both, not with one, and not in 0.28.0."""
    assert "speculative-tools" in plans[TOOLS].refused and "speculative-tools" in plans[TOOLS_RAW].refused, plans[TOOLS]
    assert not plans[NO_TOOLS].refused and not plans[TOOLS_28].refused, (plans[NO_TOOLS], plans[TOOLS_28])


STARTS = {
    tag: tagged("start" + tag.translate({46: None, 45: None}), tag, profile="gemma-4-e2b")
    for tag in ["v0.26.0", "v0.27.0", "v0.27.1", "v0.27.1-rocm724", "v0.28.0"]
}


def test_16_images_that_do_not_start_gemma_4_are_refused_for_every_model(plans: Plans) -> None:
    """0.27.x with Transformers 5.15 stops for E2B as for 12B, without any drafting; 0.26.0 and 0.28.0 do not."""
    bad = {tag for tag, name in STARTS.items() if "transformers-too-new" in plans[name].refused}
    assert bad == {"v0.27.0", "v0.27.1", "v0.27.1-rocm724"}, bad


THINKS = {
    tag: tagged(
        "think" + tag.translate({46: None}),
        tag,
        profile="gemma-4-31b",
        speculative=True,
        reasoning=True,
        tool_calling=False,
    )
    for tag in ["v0.21.0", "v0.22.0", "v0.23.0"]
}
THINKS_ALONE = tagged("thinkalone", "v0.22.0", profile="gemma-4-31b", reasoning=True)


def test_17_reasoning_cut_short_by_drafting_is_told(plans: Plans) -> None:
    """0.21 to 0.22.0: reasoning ends early with speculation (vllm#42781); said or refused there, and there only."""
    told = {
        tag for tag, name in THINKS.items() if re.search(r"reasoning|42781", plans[name].refused + plans[name].warned)
    }
    assert told == {"v0.21.0", "v0.22.0"}, told
    assert "42781" not in plans[THINKS_ALONE].text, plans[THINKS_ALONE]


FP8 = {
    tag: tagged("fp8" + tag.translate({46: None}), tag, kv_cache_dtype="fp8")
    for tag in ["v0.24.0", "v0.33.0", "latest"]
}
FP8_E5M2 = tagged("fp8e5m2", "v0.24.0", kv_cache_dtype="fp8_e5m2")
FP8_RAW = tagged("fp8raw", "v0.24.0", "--kv-cache-dtype", "fp8")


def test_18_fp8_is_refused_where_the_release_has_none_and_warned_of_where_it_has(plans: Plans) -> None:
    """0.33.0 takes fp8 on RDNA but converts, slower than bf16 (vllm#56992): a warning, never a refusal for ever."""
    assert "fp8-kv" in plans[FP8["v0.24.0"]].refused and "fp8-kv" in plans[FP8_E5M2].refused, plans[FP8["v0.24.0"]]
    assert plans[FP8_RAW].refused, plans[FP8_RAW]
    assert not plans[FP8["v0.33.0"]].refused and "slow" in plans[FP8["v0.33.0"]].warned, plans[FP8["v0.33.0"]]
    assert not plans[FP8["latest"]].refused, plans[FP8["latest"]]


QUANT = {
    (tag, kind): tagged(kind + tag.translate({46: None}), tag, quantization=kind)
    for tag, kind in [
        ("v0.33.0", "gguf"),
        ("v0.33.0", "bitsandbytes"),
        ("v0.24.0", "bitsandbytes"),
        ("v0.24.0", "gguf"),
        ("v0.20.1", "gguf"),
        ("v0.20.1", "online"),
        ("v0.33.0", "torchao"),
    ]
}


def test_19_a_quantisation_is_judged_by_the_release(plans: Plans) -> None:
    """gguf left with 0.24.0, bitsandbytes with a later one, `online` came: the lists of ROCm differ by release."""
    refused = {key for key, name in QUANT.items() if plans[name].refused}
    assert refused == {("v0.33.0", "gguf"), ("v0.33.0", "bitsandbytes"), ("v0.24.0", "gguf"), ("v0.20.1", "online")}, {
        key: plans[name].refused for key, name in QUANT.items()
    }


INT8 = tagged("int8kv", "v0.24.0", kv_cache_dtype="int8_per_token_head")
INT8_OK = tagged("int8kvok", "v0.24.0", kv_cache_dtype="int8_per_token_head", allow=["int8-kv-recall"])
AUTO_24 = tagged("auto24", "v0.24.0")
INT4_OLD = tagged("int4kvold", "v0.24.0", kv_cache_dtype="int4_per_token_head")
INT4 = tagged("int4kv", "v0.33.0", kv_cache_dtype="int4_per_token_head", allow=["int8-kv-recall"])
AUTO_33 = tagged("auto33", "v0.33.0")
TURBO = tagged("turbokv", "v0.33.0", kv_cache_dtype="turboquant_3bit")


def test_20_one_answer_to_a_cache_type(plans: Plans) -> None:
    """Forgetful int8 is refused; overridden, it is counted, smaller than bf16; int4 is new after 0.24.0."""
    assert "int8-kv-recall" in plans[INT8].refused and "32" in plans[INT8].refused, plans[INT8]
    assert "int8-kv-recall" in "".join(plans[INT8_OK].allowed) and "32K" in "".join(plans[INT8_OK].allowed)
    assert plans[AUTO_24].sequence / 2 < plans[INT8_OK].sequence < plans[AUTO_24].sequence, plans[INT8_OK]
    assert plans[INT4_OLD].refused and not plans[INT4].refused, (plans[INT4_OLD], plans[INT4])
    assert plans[AUTO_33].sequence / 4 < plans[INT4].sequence < plans[AUTO_33].sequence / 2, plans[INT4]
    assert plans[TURBO].refused and "Traceback" not in plans[TURBO].refused, plans[TURBO]


# --- the budget and whose planner it follows ------------------------------------------------------------------------

SIZES = {
    tag: tagged(
        "size" + tag.translate({46: None}), tag, profile="gemma-4-31b", max_model_len=32768, max_num_batched_tokens=2048
    )
    for tag in ["v0.20.1", "v0.23.0", "v0.24.0", "v0.25.1", "v0.26.0", "v0.28.0", "v0.31.0", "v0.33.0"]
}


def test_21_a_sequence_takes_more_from_0_26_0_on_and_not_before(plans: Plans) -> None:
    """docs/guide/daily.md says so: the border lies between 0.25.1 and 0.26.0, also where nobody compared."""
    size = {tag: plans[name].sequence for tag, name in SIZES.items()}
    assert size["v0.20.1"] == size["v0.23.0"] == size["v0.24.0"] == size["v0.25.1"] < size["v0.26.0"], size
    assert size["v0.26.0"] == size["v0.28.0"] == size["v0.31.0"] == size["v0.33.0"], size


def test_22_the_budget_says_whose_planner_and_whether_it_is_the_images(plans: Plans) -> None:
    """A release between two is not claimed to be compared: the older one's name, and the image's own."""
    follows = {tag: plans[name].follows for tag, name in SIZES.items()}
    assert "0.20.1" in follows["v0.20.1"] and "image's" in follows["v0.20.1"], follows
    assert "0.33.0" in follows["v0.33.0"] and "image's" in follows["v0.33.0"], follows
    for tag, nearest in {"v0.23.0": "0.20.1", "v0.31.0": "0.28.0", "v0.25.1": "0.20.1"}.items():
        words = re.findall(r"\d+\.\d+\.\d+", follows[tag])
        assert words == [nearest, tag.removeprefix("v")] and "not compared" in follows[tag], (tag, follows[tag])


TWO = serves(
    "two",
    {"name": "old", "image": f"{ROCM}:v0.20.1", "profile": "gemma-4-e2b", "gpu_memory_utilization": 0.3, "port": 8001},
    {"name": "new", "image": f"{ROCM}:v0.33.0", "profile": "gemma-4-e2b", "gpu_memory_utilization": 0.3, "port": 8002},
)


def test_23_two_services_of_one_host_follow_each_its_own(plans: Plans) -> None:
    """An old and a new image side by side, the same model: each budget names its own planner, and they differ."""
    old, new = plans[TWO].services
    assert "0.20.1" in old["command"]["follows"] and "0.33.0" in new["command"]["follows"], plans[TWO]
    assert old["budget"]["kv_bytes_per_sequence"] < new["budget"]["kv_bytes_per_sequence"], plans[TWO]


def test_24_a_cache_type_that_the_image_cannot_plan_or_lacks_is_a_sentence(tmp_path: Path) -> None:
    """A scaled cache with the default image (0.20.1): which release cannot, never a traceback that hides a fleet."""
    service = {"kv_cache_dtype": "int8_per_token_head", "image": f"{ROCM}:v0.20.1"}
    (tmp_path / "i.py").write_text(f"x = [('a', {{'services': [{service!r}]}}), 'b']\n")
    plan = ojai("plan", "i.py", cwd=tmp_path)
    assert "Traceback" not in plan.text and "int8_per_token_head" in plan.text, plan.text[-300:]
    write_inventory(tmp_path, {"scaled": Case(data={"services": [service]})})
    assert "Traceback" not in (said := dry(tmp_path)), said[-600:]
    # 0.20.1 knows no int4 at all, which the budget should say, as it says of fp8 what a deploy refuses.
    budget = ojai("budget", "gemma-4-e4b", "--kv-cache-dtype", "int4_per_token_head")
    assert "Traceback" not in budget.text and "0.20.1" in budget.text, budget.text


def test_25_budget_says_whose_planner_in_text_and_in_json() -> None:
    """ "Must show": in both forms; the QAT profile is counted as its own 0.28.0, the guides' E4B as 0.20.1."""
    for profile, release in {"gemma-4-e4b": "0.20.1", "gemma-4-31b-qat-w4a16": "0.28.0"}.items():
        text, data = ojai("budget", profile), json.loads(ojai("budget", profile, "--json").out)
        assert f"vLLM {release}'s planner" in text.text and release in data["follows"], (text.text, data)


# --- GPUs and ROCm --------------------------------------------------------------------------------------------------


def test_26_krackan_is_told_the_truth_wherever_it_is_named(tmp_path: Path) -> None:
    """An owner of a Radeon 860M writes gfx1152: no image has code for it, llama.cpp has; not "did you mean gfx1150"."""
    (tmp_path / "i.py").write_text('x = [("a", {"accelerator": "gfx1152"}), ("b", {"accelerator": "gfx1153"})]\n')
    plan = ojai("plan", "i.py", cwd=tmp_path)
    others = [
        ojai("budget", "gemma-4-e4b", "--accelerator", "gfx1152"),
        ojai("profiles", "gemma-4-e4b", "--accelerator", "gfx1153"),
    ]
    for said in (plan, *others):
        assert said.rc == 2 and "llama.cpp" in said.text and "Traceback" not in said.text, said
    assert all(re.search(rf"\b{name}: [^\n]*llama", plan.err) for name in "ab"), plan.err
    unknown = ojai("budget", "gemma-4-e4b", "--accelerator", "gfx1103")
    assert unknown.rc == 2 and "llama.cpp" not in unknown.text and "gfx1150" in unknown.text, unknown


def test_27_channels_and_what_is_said_of_those_that_are_not_there(tmp_path: Path) -> None:
    """7.2.2 to 7.2.4 can be had; 7.2 without quotes is meant; 7.2.5, 7.14 and 10.2 are refused with those there are."""
    channels = ["7.2", "7.2.1", "7.2.2", "7.2.3", "7.2.4", 7.2]
    good = [(f"g{n}", {"rocm_channel": channel}) for n, channel in enumerate(channels)]
    bad = [(f"b{n}", {"rocm_channel": channel}) for n, channel in enumerate(["7.2.5", "7.14", "10.2", "latest"])]
    (tmp_path / "good.py").write_text(f"x = {good!r}\n")
    (tmp_path / "bad.py").write_text(f"x = {bad!r}\n")
    fine, wrong = ojai("plan", "good.py", cwd=tmp_path), ojai("plan", "bad.py", cwd=tmp_path)
    assert fine.rc == 0, fine.err
    assert wrong.rc == 2 and "Traceback" not in wrong.err
    for name, _ in bad:
        assert re.search(rf"\b{name}: rocm_channel.*7\.2\.4", wrong.err), wrong.err
    assert "recommended" in ojai("settings", "rocm_channel").text


# --- machines -------------------------------------------------------------------------------------------------------

BOXES: dict[str, Callable[[Path], Case]] = {}


def box(name: str) -> Callable[[Callable[[Path], Case]], Callable[[Path], Case]]:
    def keep(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
        BOXES[name] = make
        return make

    return keep


def add(name: str, case: Case) -> str:
    BOXES[name] = lambda folder: case
    return name


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Case]]:
    return dry_run(tmp_path_factory.mktemp("platform"), BOXES)


Look = Callable[[str], Seen]


@pytest.fixture
def seen(fleet: tuple[str, dict[str, Case]]) -> Look:
    text, made = fleet

    def look_at(name: str) -> Seen:
        if name not in made:
            pytest.skip("this machine lets nobody make a mount namespace")
        found = of(name, text)._replace(lines=made[name].lines)
        assert found.text, f"nothing is said of {name}"
        return found

    return look_at


def engine(
    package: str = "docker.io",
    version: str = "29.1.3-0ubuntu3~24.04.2",
    store: str = "containerd",
    room: int = 900,
    root: str = "/var/lib/docker",
    mount: str = "/",
) -> list[str]:
    """The lines of an engine that runs."""
    containerd = "containerd.io" if package == "docker-ce" else "containerd"
    client = "docker-ce-cli" if package == "docker-ce" else package
    short = re.sub(r"^\d+:|-.*", "", version)
    status = (
        [["driver-type", "io.containerd.snapshotter.v1"]]
        if store == "containerd"
        else [["Backing Filesystem", "extfs"]]
    )
    driver = "overlayfs" if store == "containerd" else "overlay2"
    place = "/var/lib/containerd" if store == "containerd" else root
    server = {
        "version": short,
        "root": root,
        "driver": driver,
        "status": status,
        "security": ["name=apparmor", "name=cgroupns"],
    }
    return [
        f"program\tdocker /usr/bin/docker /usr/bin/docker {client}",
        f"program\tclient /usr/bin/docker /usr/bin/docker {client}",
        f"program\tdockerd /usr/bin/dockerd /usr/bin/dockerd {package}",
        f"program\tcontainerd /usr/bin/containerd /usr/bin/containerd {containerd}",
        f"engine\t{package} {version}",
        f"apt_package\tinstall ok installed\t{package}\t{version}",
        "docker_unit\tdocker.service loaded active enabled",
        "docker_unit\tdocker.socket loaded active enabled",
        "docker_unit\tcontainerd.service loaded active enabled",
        f"docker_client\tDocker version {short}, build 1234567",
        "docker_server\t" + json.dumps(server, separators=(",", ":")),
        "docker_answers\tyes",
        f"image_store\t{store} {place}",
        f"room\t{place} {room * GIB} {mount}",
    ]


CE = {"package": "docker-ce", "version": "5:29.10.0-1~ubuntu.24.04~noble"}

add(
    "krackan",
    Case(
        without=["pci", "mem_info", "gfx", "kfd_node"],
        lines=[
            "pci\t0000:c4:00.0 0x1002:0x1114",
            "pci_driver\t0000:c4:00.0 amdgpu",
            "gfx\t0",
            "gfx\t110502",
            "kfd_node\t110502 128",
        ],
    ),
)
add(
    "krackantwo",
    Case(
        without=["pci", "mem_info", "gfx", "kfd_node"],
        lines=[
            "pci\t0000:c4:00.0 0x1002:0x1902",
            "pci_driver\t0000:c4:00.0 amdgpu",
            "gfx\t0",
            "gfx\t110503",
            "kfd_node\t110503 128",
        ],
    ),
)


def test_28_a_krackan_box_is_refused_by_its_name(seen: Look) -> None:
    """The box's inventory says nothing of the GPU (gfx1150 is the default): its owner learns that it is a gfx1152."""
    for name, gfx in {"krackan": "gfx1152", "krackantwo": "gfx1153"}.items():
        found = seen(name)
        assert found.refused and gfx in found.text and "llama.cpp" in found.text, found.text


add("nosaves", Case(lines=["kfd_saves\t110500 no"]))
add("saves", Case(lines=["kfd_saves\t110500 yes"]))
add(
    "saveslatermainline",
    Case(
        data={"kernel_package": "linux-generic-hwe-24.04", "kernel_flavour": "generic"},
        booted=False,
        without=["kernel\t"],
        lines=[
            "kernel\t7.0.0-14-generic",
            "boot_kernel\t7.0.0-14-generic",
            "kfd_saves\t110500 no",
            "gfx\t0",
            "gfx\t110500",
            "kfd_node\t110500 128",
            "gpu_devices\t/dev/kfd /dev/dri/renderD128 ",
            "pci_driver\t0000:c5:00.0 amdgpu",
        ],
        answers={"/boot/vmlinuz-*": ["7.0.0-14-generic", "7.0.0-14-generic"]},
    ),
)


def test_29_the_kernel_shows_by_cwsr_size_whether_it_has_the_fix(seen: Look) -> None:
    """A version above the floor proves nothing where KFD does not show the sizes: said, and not of a sound one."""
    for name in ("nosaves", "saveslatermainline"):
        assert re.search(r"cwsr_size|ctl_stack_size", seen(name).text), seen(name).text
    assert "cwsr_size" not in seen("saves").text and not seen("saves").refused, seen("saves").text


HALO = {"accelerator": "gfx1151"}
HALO_LINES = ["gfx\t0", "gfx\t110501", "kfd_node\t110501 128", "kfd_saves\t110501 yes"]
NODES = ["gfx\t", "kfd_node", "kfd_saves"]


def halo(name: str, *lines: str, **data: Any) -> None:
    answers = [
        "kernel\t6.17.0-1012-oem",
        "gpu_devices\t/dev/kfd /dev/dri/renderD128 ",
        "pci_driver\t0000:c5:00.0 amdgpu",
    ]
    vmlinuz = {"/boot/vmlinuz-*": ["6.17.0-1012-oem", "6.17.0-1012-oem"]}
    add(
        name,
        Case(
            data={**HALO, **data},
            booted=False,
            without=["kernel\t"],
            lines=[*answers, *HALO_LINES, *lines],
            answers=vmlinuz,
        ),
    )


STOCK = "firmware\tlinux-firmware 20240318.git3b128b60-0ubuntu2.21"
NAMED = "firmware\tlinux-firmware 20251125-1"
halo("mesbad", STOCK, "mes\t0x00000083")
halo("mesgood", STOCK, "mes\t0x00000080")
halo("meswide", STOCK, "mes\t0x04000083")
halo("mesallowed", STOCK, "mes\t0x00000083", firmware_known_bad=[])
halo("mesnamed", NAMED, "mes\t0x00000080")
halo("mesunread", NAMED)
halo("mesmine", STOCK, "mes\t0x0000007f", firmware_known_bad=["0x7f"])
halo("mesupper", STOCK, "mes\t0x0000007f", firmware_known_bad=["0x7F"])


def test_30_firmware_is_judged_by_what_is_loaded(seen: Look) -> None:
    """Noble's package is named 2024… whatever is in it: MES 0x83 is bad, a bad name with a good MES is not."""
    bad = {name for name in ("mesbad", "meswide", "mesunread", "mesmine", "mesupper") if seen(name).refused}
    assert bad == {"mesbad", "meswide", "mesunread", "mesmine", "mesupper"}, bad
    for name in ("mesgood", "mesallowed", "mesnamed"):
        assert not seen(name).refused, seen(name).text
    assert "0x83" in seen("mesbad").text and "firmware" in seen("mesbad").text.lower(), seen("mesbad").text


add("gttfifty", Case(data={"memory_regime": "gtt", "gtt_limit": "60GiB"}))
halo("gtthalo", memory_regime="gtt", gtt_limit="60GiB")
add("gttidle", Case(data={"memory_regime": "gtt", "gtt_limit": "60GiB", "services": []}))


def test_31_gtt_is_warned_of_on_gfx1150_before_anything_is_changed(seen: Look, tmp_path: Path) -> None:
    """HIP is reported to see the carve-out only (ROCm#6050): said by the plan and by the deploy, not of gfx1151."""
    words = re.compile(r"carve-out only|6050|sees? (only )?the carve-out")
    assert words.search(seen("gttfifty").text) and not seen("gttfifty").refused, seen("gttfifty").text
    assert not words.search(seen("gtthalo").text), seen("gtthalo").text
    (tmp_path / "i.py").write_text('x = [("a", {"memory_regime": "gtt", "gtt_limit": "60GiB"})]\n')
    assert words.search(ojai("plan", "i.py", cwd=tmp_path).text)


# --- systems --------------------------------------------------------------------------------------------------------

SYSTEMS = {
    "mint": ("linuxmint", "22.2", "Linux Mint 22.2", "ubuntu debian", "noble"),
    "pop": ("pop", "24.04", "Pop!_OS 24.04 LTS", "ubuntu debian", "noble"),
    "neon": ("neon", "24.04", "KDE neon User Edition", "ubuntu debian", "noble"),
    "lmde": ("linuxmint", "7", "LMDE 7 (gigi)", "debian", ""),
    "raspbian": ("raspbian", "13", "Raspbian GNU/Linux 13 (trixie)", "debian", ""),
    "bookworm": ("debian", "12", "Debian GNU/Linux 12 (bookworm)", "", ""),
    "forky": ("debian", "", "Debian GNU/Linux forky/sid", "", ""),
    "lts26": ("ubuntu", "26.04", "Ubuntu 26.04.1 LTS", "debian", "resolute"),
    "lts22": ("ubuntu", "22.04", "Ubuntu 22.04.5 LTS", "debian", "jammy"),
    "interim25": ("ubuntu", "25.10", "Ubuntu 25.10", "debian", "questing"),
    "interim26": ("ubuntu", "26.10", "Ubuntu 26.10", "debian", "stonking"),
    "lts28": ("ubuntu", "28.04", "Ubuntu 28.04 LTS", "debian", "zany"),
    "core": ("ubuntu-core", "24", "Ubuntu Core 24", "", ""),
    "fedora": ("fedora", "43", "Fedora Linux 43 (Server Edition)", "", ""),
    "cachy": ("cachyos", "", "CachyOS", "arch", ""),
    "rhel": ("rhel", "9.7", "Red Hat Enterprise Linux 9.7", "fedora", ""),
    "nothing": ("", "", "", "", ""),
    "kubuntu": ("ubuntu", "24.04", "Ubuntu 24.04.4 LTS", "debian", "noble"),
}
for _name, (_id, _version, _title, _like, _base) in SYSTEMS.items():
    add(
        _name,
        Case(
            without=["os_"],
            lines=[
                f"os_id\t{_id}",
                f"os_version\t{_version}",
                f"os_name\t{_title}",
                f"os_like\t{_like}",
                f"os_base\t{_base}",
            ],
        ),
    )


def test_32_every_other_system_is_refused_with_what_to_do(seen: Look) -> None:
    """Derivatives say 24.04 and noble of themselves, testing has no version: none passes, each is told the way."""
    for name, (_, _, title, _, _) in SYSTEMS.items():
        found = seen(name)
        if name == "kubuntu":
            assert not found.refused, found.text
            continue
        assert found.refused and "24.04" in found.text and title in found.text, (name, found.text)
        assert not re.search(r"\bNone\b|Traceback|\(\)|  ,", found.text), (name, found.text)
    assert "do-release-upgrade" in seen("lts22").text and "do-release-upgrade" not in seen("interim25").text
    assert "ROCm" in seen("lts26").text and "derivative" in seen("pop").text, seen("pop").text
    assert "Debian" in seen("lmde").text.replace("LMDE", ""), seen("lmde").text


RELEASES = {
    "osquoted": "NAME='Ubuntu'\nID=\"ubuntu\"\nVERSION_ID='24.04'\nPRETTY_NAME='Ubuntu 24.04.4 LTS'\n"
    "ID_LIKE=debian\nUBUNTU_CODENAME=noble\n",
    "osempty": "",
    "osmint": 'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\nPRETTY_NAME="Linux Mint 22"\n'
    "UBUNTU_CODENAME=noble\n",
    "oscrlf": 'ID=ubuntu\r\nVERSION_ID="24.04"\r\nPRETTY_NAME="Ubuntu 24.04.4 LTS"\r\n',
}


def os_release(text: str | None) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        prepare = NO_APT + "rm -f /etc/os-release\n"
        if text is not None:
            (folder / "os-release").write_text(text, newline="")
            prepare += f"cp {folder}/os-release /etc/os-release\n"
        return Case(
            without=["os_"], lines=look(folder, prepare, ("os_id", "os_version", "os_name", "os_like", "os_base"))
        )

    return make


for _name, _text in RELEASES.items():
    BOXES[_name] = os_release(_text)
BOXES["osmissing"] = os_release(None)


def test_33_os_release_as_a_file(seen: Look) -> None:
    """Single quotes and double ones are read alike; an empty or a missing file refuses the host and no more."""
    assert not seen("osquoted").refused, seen("osquoted").text
    for name in ("osempty", "osmissing", "osmint"):
        assert seen(name).refused and "24.04" in seen(name).text, seen(name).text
    assert "Linux Mint 22" in seen("osmint").text, seen("osmint").text
    assert "\r" not in seen("oscrlf").text and "Traceback" not in seen("oscrlf").all


# --- Docker ---------------------------------------------------------------------------------------------------------

add("cebyhand", Case(lines=engine(**CE)))
add(
    "cebyhandold",
    Case(
        data={"docker_source": "ubuntu"},
        lines=engine(package="docker-ce", version="5:27.5.1-1~ubuntu.24.04~noble", store="docker"),
    ),
)
add(
    "ceafterubuntu",
    Case(lines=[*engine(**CE), "apt_package\tdeinstall ok config-files\tdocker.io\t26.1.3-0ubuntu1~24.04.1"]),
)


def test_34_an_engine_installed_by_hand_is_kept_and_named(seen: Look) -> None:
    """docker-ce by Docker's own page, docker.io's conffiles left behind or not: used, named, nothing installed."""
    for name in ("cebyhand", "cebyhandold", "ceafterubuntu"):
        found = seen(name)
        assert not found.refused and "docker-ce" in found.text, found.text
        installs = [line for line in found.all.splitlines() if re.search(rf"Docker \|.*Install.*{name}", line)]
        assert not installs, installs


SNAP = [
    "docker_snap\tenabled",
    "program\tdocker /snap/bin/docker /usr/bin/snap snapd",
    "docker_client\tDocker version 28.4.0, build d8eb465",
]
add("snap", Case(lines=SNAP))
add("snapandce", Case(lines=[*engine(**CE), "docker_snap\tdisabled"]))
add(
    "rootless",
    Case(
        lines=[
            line.replace('"name=cgroupns"', '"name=rootless"').replace(
                "/var/lib/docker", "/home/ada/.local/share/docker"
            )
            for line in engine(**CE, store="docker")
        ]
    ),
)
add(
    "podman",
    Case(
        lines=["program\tdocker /usr/bin/docker /usr/bin/docker podman-docker", "docker_client\tpodman version 4.9.3"]
    ),
)
add("both", Case(lines=[*engine(**CE), "engine\tdocker.io 29.1.3-0ubuntu3~24.04.2"]))


def test_35_engines_that_cannot_be_used_are_refused_with_what_to_do(seen: Look) -> None:
    """Snap, rootless, podman's shim: named with the way out; a disabled snap beside docker-ce is harmless."""
    assert seen("snap").refused and "snap remove" in seen("snap").text, seen("snap").text
    assert seen("rootless").refused and "rootless" in seen("rootless").text, seen("rootless").text
    assert seen("podman").refused and re.search(r"(remove|purge).*podman-docker", seen("podman").text), seen(
        "podman"
    ).text
    assert not seen("snapandce").refused, seen("snapandce").text
    assert "Traceback" not in seen("both").all


def half_done(state: str, **what: str) -> Case:
    """An engine whose package dpkg has not finished: it is not `installed`, and its daemon does not answer."""
    gone = ("docker_server", "docker_answers", "engine", "apt_package", "image_store")
    lines = [line for line in engine(**what) if not line.startswith(gone)]  # type: ignore[arg-type]
    package, version = what.get("package", "docker.io"), what.get("version", "29.1.3-0ubuntu3~24.04.2")
    return Case(lines=[*lines, f"apt_package\tinstall {state}\t{package}\t{version}", f"apt_broken\t{package}"])


add("half", half_done("reinstreq half-installed"))
add("halfconfigured", half_done("ok half-configured"))
add("halfce", half_done("ok half-configured", **CE))


def test_36_a_half_installed_engine_is_named(seen: Look) -> None:
    """A power cut while dpkg unpacked it, or a postinst that failed: apt of the deploy would stumble over it; named."""
    for name, package in {"halfce": "docker-ce", "half": "docker.io", "halfconfigured": "docker.io"}.items():
        assert re.search(package, seen(name).text), (name, seen(name).text)


add("roomy", Case(without=["disk\t/var/lib/docker"], lines=engine(store="docker", room=50, mount="/var")))
add("narrow", Case(lines=engine(room=50, mount="/var")))
add("wide", Case(lines=engine(room=100, mount="/var")))
add("narrowelsewhere", Case(lines=[*engine(room=900), f"room\t/var/lib/docker {3 * GIB} /mnt/small"]))
add("had", Case(lines=[*engine(room=10, mount="/var"), f"image\t{ROCM}:v0.20.1"]))
add("moved", Case(lines=[*engine(), "unseen_images\t7"]))


def test_37_room_is_asked_where_the_layers_lie(seen: Look) -> None:
    """50 GiB do for overlay2, not for containerd; /var/lib/docker may then be small; an image had needs none."""
    assert not seen("roomy").refused and not seen("wide").refused, seen("roomy").text + seen("wide").text
    assert seen("narrow").refused and "containerd" in seen("narrow").text, seen("narrow").text
    assert not seen("narrowelsewhere").refused, seen("narrowelsewhere").text
    assert not seen("had").refused, seen("had").text
    assert (
        "7" in seen("moved").text
        and re.search(r"data root|/var/lib/docker", seen("moved").text)
        and not seen("moved").refused
    ), seen("moved").text


PLAIN = {"docker_registry_mirrors": ["http://registry.example.net:5000"]}
NOBLE_28 = {"package": "docker.io", "version": "28.2.2-0ubuntu1~24.04.1"}
add("http28", Case(data=PLAIN, lines=engine(**NOBLE_28)))
add("http285", Case(data=PLAIN, lines=engine(**{**CE, "version": "5:28.5.0-1~ubuntu.24.04~noble"})))
add("http29", Case(data=PLAIN, lines=engine()))
add("http2810", Case(data=PLAIN, lines=engine(version="28.10.1-0ubuntu1")))
add("httpoverlay", Case(data=PLAIN, lines=engine(**NOBLE_28, store="docker")))
add(
    "httpinsecure",
    Case(
        data=PLAIN, lines=[*engine(**NOBLE_28), daemon_json(b'{"insecure-registries": ["registry.example.net:5000"]}')]
    ),
)
add(
    "httpinsecureother",
    Case(data=PLAIN, lines=[*engine(**NOBLE_28), daemon_json(b'{"insecure-registries": ["other.example.net:5000"]}')]),
)
# moby's isSecureIndex (registry/config.go): by `host:port` as it is written, then by the networks that are listed.
LISTED = {
    "httpcidr": ("http://10.0.0.5:5000", ["10.0.0.0/8"]),
    "httpnoport": ("http://registry.example.net:5000", ["registry.example.net"]),
    "httpport80": ("http://registry.example.net", ["registry.example.net"]),
}
for _name, (_url, _list) in LISTED.items():
    _daemon = daemon_json(json.dumps({"insecure-registries": _list}).encode())
    add(_name, Case(data={"docker_registry_mirrors": [_url]}, lines=[*engine(**NOBLE_28), _daemon]))
_words = ["docker_word\t/usr/bin/dockerd", "docker_word\t--insecure-registry=registry.example.net:5000"]
add("httpword", Case(data=PLAIN, lines=[*engine(**NOBLE_28), *_words]))
add("https28", Case(data={"docker_registry_mirrors": ["https://registry.example.net"]}, lines=engine(**NOBLE_28)))


def test_38_a_mirror_without_tls_is_refused_only_where_docker_would_not_ask_it(seen: Look) -> None:
    """Older than 28.5 with containerd's store; 28.10 is newer; one in insecure-registries is asked by http."""
    names = ("http28", "http285", "http29", "http2810", "httpoverlay", "httpinsecure", "httpinsecureother", "https28")
    assert {name for name in names if seen(name).refused} == {"http28", "httpinsecureother"}, {
        n: seen(n).text for n in names
    }
    assert "insecure-registries" in seen("http28").text, seen("http28").text
    wrong = {name: seen(name).refused for name in [*LISTED, "httpword"] if seen(name).refused != (name == "httpnoport")}
    assert not wrong, wrong


def kept(image: str, digests: Sequence[str]) -> str:
    fact = ReleaseState().process(
        [f"now\tvllm-gemma4\taa  unit\tbb  env\t{image}\t{' '.join(['sha256:' + '1' * 64, *digests])}"]
    )
    return fact.now["vllm-gemma4"].digest


def test_39_a_release_keeps_the_digest_of_its_own_repository() -> None:
    """Docker 29 lists every name of the image, ours first: the way back asks the repository that it came from."""
    a, b = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    ours = f"ojai-release@{a}"
    assert kept(f"{ROCM}:v0.28.0", [ours, f"{ROCM}@{a}"]) == f"{ROCM}@{a}"
    assert kept(f"{ROCM}:v0.28.0", [f"aaa/copy@{b}", ours, f"{ROCM}@{a}"]) == f"{ROCM}@{a}"
    ported = "registry.example.net:5000/vllm/vllm-openai-rocm"
    assert kept(f"{ported}:v0.28.0", [ours, f"{ported}@{a}", f"{ROCM}@{a}"]) == f"{ported}@{a}"
    # docker.io/NAME is NAME: Docker answers with the short name.
    assert kept(f"docker.io/{ROCM}:v0.28.0", [ours, f"{ROCM}@{a}"]).endswith(f"{ROCM}@{a}")
    assert kept("mine:v1", [ours]) == ""


# --- Ubuntu's habits ------------------------------------------------------------------------------------------------


def habits(prepare: str = "", sources: str = "", phased: str = "") -> Callable[[Path], Case]:
    """An archive of Ubuntu's, and what Ubuntu lays around it."""

    def make(folder: Path) -> Case:
        top = archive(folder)
        if phased:
            index = next(top.glob("dists/noble/*/binary-amd64/Packages"))
            for index in top.glob("dists/noble/*/binary-amd64/Packages"):
                index.write_text(
                    re.sub(r"(?m)^(Package: .*)$", rf"\1\nPhased-Update-Percentage: {phased}", index.read_text())
                )
            words = ["Origin=Ubuntu", "Suite=noble", "Codename=noble", "Components=main universe"]
            options = [word for one in words for word in ("-o", f"APT::FTPArchive::Release::{one}")]
            (top / "dists/noble/Release").unlink()
            release = subprocess.check_output(["apt-ftparchive", *options, "release", "dists/noble"], cwd=top)
            (top / "dists/noble/Release").write_bytes(release)
        (folder / "ubuntu.sources").write_text(sources.format(top=top))
        listed = (
            f"cp {folder}/ubuntu.sources /etc/apt/sources.list.d/ubuntu.sources\n"
            if sources
            else f"echo 'deb [trusted=yes] file:{top} noble main universe' > /etc/apt/sources.list\n"
        )
        return Case(lines=look(folder, APT_ROOT + listed + "apt-get -q update\n" + prepare, APT_ANSWERS))

    return make


DEB822 = (
    "# Ubuntu sources have moved to this file.\n\nTypes: deb deb-src\nEnabled: no\nURIs: file:/nowhere\n"
    "Suites: noble-proposed\nComponents: main\n\n"
    "Types: deb\nURIs: file:{top}\nSuites: noble\nComponents: main\n universe\nTrusted: yes\n"
    "Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
)
PHASES = "printf '{}' > /etc/apt/apt.conf.d/99phased"
POLICY = 'APT::Get::Phase-Policy "true";\\nAPT::Get::Never-Include-Phased-Updates "true";\\n'
ADVERTISING = r"""
stub apt-get <<'END'
#!/bin/sh
case " $* " in *" -s "*|*simulate*|*dry-run*)
  echo "Get more security updates through Ubuntu Pro with 'esm-apps' enabled:"
  echo "  docker.io containerd runc"
  echo "Learn more about Ubuntu Pro at https://ubuntu.com/pro"
  echo "The following upgrades have been deferred due to phasing:"
  echo "  linux-oem-6.17"
esac
exec /usr/bin/apt-get "$@"
END
"""
BOXES["plainapt"] = habits()
BOXES["deb822"] = habits(sources=DEB822)
BOXES["phased"] = habits(phased="0", prepare=PHASES.format(POLICY))
BOXES["advertised"] = habits(ADVERTISING)


@box("sysctlconf")
def _(folder: Path) -> Case:
    prepare = (
        "printf '#vm.overcommit_memory=0\\n-vm.overcommit_memory = 2\\n' > /etc/sysctl.conf\nmkdir -p /etc/sysctl.d\n"
    )
    link = "ln -sf ../sysctl.conf /etc/sysctl.d/99-sysctl.conf\n"
    lines = look(folder, NO_APT + prepare + link, ())
    return Case(lines=[line for line in lines if "sysctl" in line])


@box("sysctlcomment")
def _(folder: Path) -> Case:
    prepare = "printf '#vm.overcommit_memory=2\\n ; vm.overcommit_memory=2\\nvm.overcommit_memory=1\\n' "
    prepare += "> /etc/sysctl.conf\nmkdir -p /etc/sysctl.d\n"
    link = "ln -sf ../sysctl.conf /etc/sysctl.d/99-sysctl.conf\n"
    lines = look(folder, NO_APT + prepare + link, ())
    return Case(lines=[line for line in lines if "sysctl" in line])


def test_40_ubuntus_habits_do_no_harm(seen: Look) -> None:
    """deb822, phasing, advertisements and commented lines pass; another value in /etc/sysctl.conf does not."""
    for name in ("plainapt", "deb822", "phased", "advertised", "sysctlcomment"):
        assert not seen(name).refused, (name, seen(name).text)
    stable = [line for line in seen("plainapt").lines if not re.search(r"lists_age|file:", line)]
    assert stable == [line for line in seen("advertised").lines if not re.search(r"lists_age|file:", line)]
    # unattended-upgrades may hold the lock, and needrestart may ask or restart what serves.
    assert "DPkg::Lock::Timeout" in APT_GET and "NEEDRESTART_SUSPEND=1" in APT_GET and "noninteractive" in APT_GET
    assert seen("sysctlconf").refused and "/etc/sysctl.conf" in seen("sysctlconf").text, seen("sysctlconf").text
