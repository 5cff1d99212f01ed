"""What somebody set up by hand, judged: whether it is in the way, what adoption takes over, what contradicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ojai.facts.report import Report
from ojai.facts.report.apt import Source
from ojai.facts.report.owner import Container, Folder, Owner, Pin, Unit, Weights
from ojai.facts.sysctl import CONF, Boot
from ojai.paths import SYSCTL_DROP_IN
from ojai.preflight import owner
from ojai.preflight.host import fact_arguments, failed_checks, in_force
from ojai.settings import HostSettings, parse
from tests.unit.test_preflight import GOOD, NOW

ID, IMAGE_ID = "c" * 64, "sha256:" + "1" * 64
HOME = "/home/ada/.cache/huggingface"
REPOSITORY = "models--google--gemma-4-E4B-it"
MOUNTS = {
    "/root/.cache/huggingface": HOME,
    "/root/.cache/vllm": "/home/ada/.cache/vllm",
    "/root/.cache/tunableop": "/home/ada/.cache/tunableop",
}
SERVER = Container(
    id=ID,
    name="vllm-gemma4",
    image="vllm/vllm-openai-rocm:v0.20.1",
    image_id=IMAGE_ID,
    argv=("google/gemma-4-E4B-it", "--host", "0.0.0.0", "--port", "8000"),
    entrypoint=("vllm", "serve"),
    network="host",
    removes=True,
    status="running",
    created="2026-11-27T04:57:17.51816043Z",
    mounts=MOUNTS,
)
FOLDERS = (
    Folder("ada", "huggingface", HOME, HOME, "ada"),
    Folder("ada", "vllm", "/home/ada/.cache/vllm", "/home/ada/.cache/vllm", "ada"),
    Folder("ada", "models", "/home/ada/models", "/home/ada/models", "ada"),
)
BESIDE = ("google/gemma-4-E4B-it", "--port", "8001")
ROCM = "/etc/apt/sources.list.d/rocm.list"
AMDGPU = "/etc/apt/sources.list.d/amdgpu.list"
DROP_IN = "/etc/sysctl.d/99-rocm-vllm.conf"
HAND_MADE = Owner(
    sysctl=Boot((("/usr/lib/sysctl.d/50-x.conf", "kernel.pid_max", "1"), (DROP_IN, "vm.overcommit_memory", "1"))),
    folders=FOLDERS,
    weights=(Weights(HOME, REPOSITORY, "complete"),),
    tokens=(HOME,),
    tuned=("/home/ada/.cache/tunableop/gemma4_gfx11500.csv",),
    containers=(SERVER,),
    images={IMAGE_ID: ("vllm/vllm-openai-rocm@sha256:" + "ab" * 32,)},
)


def amd(file: str, path: str, entry: int = 1) -> Source:
    return Source(file, entry, f"https://repo.radeon.com/{path}", "noble", ("main",), ("amd64",))


SOURCES = (
    amd(ROCM, "rocm/apt/7.2"),
    amd(ROCM, "graphics/7.2/ubuntu", 2),
    amd(AMDGPU, "amdgpu/30.30/ubuntu"),
)


def settings(**data: Any) -> HostSettings:
    return parse("mini", data)


def report(sources: tuple[Source, ...] = SOURCES, **changes: Any) -> Report:
    return replace(GOOD, apt=replace(GOOD.apt, sources=sources), owner=replace(HAND_MADE, **changes))


def refused(found: Report, **data: Any) -> list[str]:
    return [str(failed) for failed in failed_checks(settings(**data), found, now=NOW)]


def contradictions(found: Report, **data: Any) -> list[str]:
    rows = owner.findings(settings(adopt=True, **data), found)
    return [row.contradiction for row in rows if row.contradiction and row.in_the_way]


def test_the_guides_machine_is_named_whole_and_refused_without_adopt():
    rows = {row.what.split(" (")[0]: row for row in owner.findings(settings(), report())}
    in_the_way = {what for what, row in rows.items() if row.in_the_way}
    assert in_the_way == {"container vllm-gemma4", f"apt source {ROCM}", f"apt source {AMDGPU}"}
    assert set(rows) - in_the_way == {
        f"cache {HOME}",
        "cache /home/ada/.cache/vllm",
        "tuning results /home/ada/.cache/tunableop/gemma4_gfx11500.csv",
        f"kernel parameters {DROP_IN}",
    }
    assert not any(row.contradiction for row in rows.values())
    found = refused(report())
    assert [line.partition(":")[0] for line in found] == ["ROCm apt sources", "set up by hand"]
    assert all("adopt: true" in line for line in found)


def test_with_adopt_all_of_it_is_taken_over():
    assert refused(report(), adopt=True) == []
    taken = owner.judge(settings(adopt=True), report())[1]
    assert taken.drop_ins == (DROP_IN,)
    assert taken.sources == (AMDGPU, ROCM)
    assert taken.containers == (SERVER,)
    assert taken.folders == {"huggingface": HOME, "vllm": "/home/ada/.cache/vllm"}
    assert taken.tuned == {"/home/ada/.cache/tunableop/gemma4_gfx11500.csv": "ab" * 6}


def test_caches_are_used_where_the_container_has_them():
    placed = in_force(settings(adopt=True), report())
    assert placed.adopted_caches == {"huggingface": HOME, "vllm": "/home/ada/.cache/vllm"}
    (service,) = placed.resolved
    assert service.model_directory == f"{HOME}/hub/{REPOSITORY}"
    assert service.command.mounts[HOME] == "/root/.cache/huggingface"
    assert placed.own_caches == ["/srv/ojai/tunableop", "/srv/ojai/models", "/srv/ojai/workspace"]
    assert service.model_directory in fact_arguments(placed)["models"]
    # A later run, whose inventory has dropped `adopt`, goes by the record.
    later = in_force(settings(), replace(GOOD, owner=Owner(adopted=placed.adopted_caches)))
    assert later.caches == placed.caches
    # What the inventory names itself wins.
    named = in_force(settings(adopt=True, cache_folders={"huggingface": "/data/hf"}), report())
    assert named.caches["huggingface"] == "/data/hf" and named.adopted_caches == {}


def test_without_a_container_the_home_that_has_the_weights_is_used():
    taken = owner.judge(settings(adopt=True), report(containers=()))[1]
    assert taken.folders == {"huggingface": HOME, "vllm": "/home/ada/.cache/vllm", "models": "/home/ada/models"}
    assert owner.judge(settings(adopt=True), report(containers=(), weights=()))[1].folders == {}


def test_a_download_that_was_cut_off_goes_on_where_it_is():
    half = (Weights(HOME, REPOSITORY, "partial"),)
    for containers in ((), (SERVER,)):
        rows, taken = owner.judge(settings(adopt=True), report(containers=containers, weights=half))
        assert taken.folders["huggingface"] == HOME
        assert any(HOME in row.what and "downloads the rest of the weights into it" in row.plan for row in rows)
    # What is whole goes before it.
    bob = "/home/bob/.cache/huggingface"
    whole = (*half, Weights(bob, REPOSITORY, "complete"))
    taken = owner.judge(settings(adopt=True), report(containers=(), folders=SECOND, weights=whole))[1]
    assert taken.folders["huggingface"] == bob


def test_a_folder_named_hub_may_be_the_right_one():
    named, hub = {"cache_folders": {"huggingface": "/data/hub"}}, "/data/hub"
    there = (Folder("", "huggingface", hub, hub, "ada"),)
    assert contradictions(report(folders=there, weights=(Weights(hub, REPOSITORY, "complete"),)), **named) == []
    assert contradictions(report(folders=there, weights=()), **named) == []


def test_the_hubs_own_variable_moves_the_cache():
    server = replace(SERVER, environment={"HF_HOME": "/models/hf"}, mounts={"/models": "/data/models"})
    taken = owner.judge(settings(adopt=True), report(containers=(server,)))[1]
    assert taken.folders == {"huggingface": "/data/models/hf"}


LOCAL = replace(
    SERVER,
    argv=("/app/models/gemma-4-E4B-it", "--served-model-name", "google/gemma-4-E4B-it", "--port", "8000"),
    mounts={**MOUNTS, "/app/models": "/home/ada/models"},
)


def test_a_folder_that_the_service_names_too_is_used_where_it_is():
    data = {"adopt": True, "services": [{"model": "/app/models/gemma-4-E4B-it"}]}
    for mounts in (LOCAL.mounts, {"/app/models": "/home/ada/models"}):
        found = report(containers=(replace(LOCAL, mounts=mounts),), weights=())
        assert refused(found, **data) == []
        placed = in_force(settings(**data), found)
        (service,) = placed.resolved
        assert service.model_directory == "/home/ada/models/gemma-4-E4B-it"
        assert service.command.mounts["/home/ada/models"] == "/app/models"
        assert any("cache /home/ada/models (" in row.what for row in owner.findings(settings(**data), found))
    # Its weights in the hub's cache are used, if they are there.
    assert contradictions(report(containers=(LOCAL,))) == []


def test_weights_of_our_own_are_not_changed_for_others():
    ours = replace(report(containers=()), models=(f"/srv/ojai/huggingface/hub/{REPOSITORY}",))
    assert owner.judge(settings(adopt=True), ours)[1].folders == {}


SECOND = (
    *FOLDERS,
    Folder("bob", "huggingface", "/home/bob/.cache/huggingface", "/home/bob/.cache/huggingface", "bob"),
)
LATER = "/etc/sysctl.d/99-zzz.conf"

LOCAL_FOLDER = "it serves the folder {}; the inventory says google/gemma-4-E4B-it"

CONTRADICTIONS: dict[str, tuple[Report, dict[str, Any], str]] = {
    "another ROCm release": (
        report((amd(ROCM, "rocm/apt/6.4"),)),
        {},
        "the inventory says ROCm 7.2",
    ),
    "AMD's archive of whatever is newest": (
        report((amd(ROCM, "rocm/apt/latest"),)),
        {},
        "the inventory says ROCm 7.2",
    ),
    "a file with other archives": (
        report((*SOURCES, Source(ROCM, 3, "https://example.net/debian", "noble"))),
        {},
        "it names other archives too",
    ),
    "a pin that forbids": (
        report(pins=(Pin("/etc/apt/preferences.d/no-amd", "*", "release o=repo.radeon.com", -1),)),
        {},
        "it keeps apt from installing the packages of the inventory",
    ),
    "overcommit says otherwise, later": (
        report(sysctl=Boot(((LATER, "vm.overcommit_memory", "2"),))),
        {},
        "it is read after ours, which says vm.overcommit_memory = 1",
    ),
    "two homes with the weights": (
        report(
            containers=(),
            folders=SECOND,
            weights=(*HAND_MADE.weights, Weights("/home/bob/.cache/huggingface", REPOSITORY, "complete")),
        ),
        {},
        "more than one account has them",
    ),
    "a cache moved in part": (
        report(weights=(Weights(HOME, REPOSITORY, "broken"),)),
        {},
        "it was moved in part: its snapshot has links into nowhere",
    ),
    "a cache moved in part, no container": (
        report(containers=(), weights=(Weights(HOME, REPOSITORY, "broken"),)),
        {},
        "it was moved in part: its snapshot has links into nowhere",
    ),
    "a disk that is not mounted": (
        report(
            containers=(replace(SERVER, mounts={"/root/.cache/huggingface": "/mnt/big/hf"}),), unmounted=("/mnt/big",)
        ),
        {},
        "/mnt/big is not mounted now",
    ),
    "a link to a disk that is not there": (
        report(containers=(), weights=(), folders=(Folder("ada", "huggingface", HOME, "/mnt/big/hf", ""),)),
        {},
        "it leads to /mnt/big/hf, where nothing is",
    ),
    "the inventory's own cache is not mounted": (
        report(folders=(Folder("", "huggingface", "/mnt/big/hf", "/mnt/big/hf", "root"),), unmounted=("/mnt/big",)),
        {"cache_folders": {"huggingface": "/mnt/big/hf"}},
        "/mnt/big is not mounted",
    ),
    "the inventory's own cache is not there": (
        report(folders=(Folder("", "huggingface", "/data/hf", "/data/hf", ""),)),
        {"cache_folders": {"huggingface": "/data/hf"}},
        "no such folder",
    ),
    "one level too deep": (
        report(folders=(*FOLDERS, Folder("", "huggingface", f"{HOME}/hub", f"{HOME}/hub", "ada"))),
        {"cache_folders": {"huggingface": f"{HOME}/hub"}},
        f"it has no weights, but {HOME}/hub has",
    ),
    "one level too high": (
        report(folders=(*FOLDERS, Folder("", "huggingface", "/home/ada/.cache", "/home/ada/.cache", "ada"))),
        {"cache_folders": {"huggingface": "/home/ada/.cache"}},
        f"it has no weights, but {HOME}/hub has",
    ),
    "another server's share of the GPU": (
        report(containers=(replace(SERVER, name="mine", argv=(*BESIDE, "--gpu-memory-utilization", "0.9")),)),
        {},
        "together they reserve 1.75 of the GPU's memory (vllm-gemma4 0.85, mine 0.9)",
    ),
    "another server, its share by default, in a shell": (
        report(
            containers=(
                replace(SERVER, name="mine", entrypoint=("bash", "-c"), argv=(f"exec vllm serve {' '.join(BESIDE)}",)),
            )
        ),
        {},
        "together they reserve 1.77 of the GPU's memory (vllm-gemma4 0.85, mine 0.92)",
    ),
    "a unit's share, without a container": (
        report(
            (),
            containers=(),
            units=(Unit("mine.service", "enabled", "active", words="/opt/bin/vllm serve m --port 8001"),),
        ),
        {},
        "together they reserve 1.77 of the GPU's memory (vllm-gemma4 0.85, mine.service 0.92)",
    ),
    "a unit of an account's own systemd": (
        report(
            units=(
                Unit("vllm-gemma4.service", "enabled", "active", words="docker start -a vllm-gemma4", account="ada"),
            )
        ),
        {},
        "it is a unit of ada's own systemd, which ojai leaves alone",
    ),
    "another model on the port, in a shell": (
        report(containers=(replace(SERVER, entrypoint=(), argv=("sh", "-c", "vllm serve Qwen/Q --port 8000")),)),
        {},
        "it serves Qwen/Q; the inventory says google/gemma-4-E4B-it",
    ),
    "a folder of its own": (
        report(containers=(LOCAL,), weights=()),
        {},
        LOCAL_FOLDER.format("/home/ada/models/gemma-4-E4B-it"),
    ),
    "a folder of its own at another place": (
        report(containers=(replace(LOCAL, argv=("/m", "--port", "8000"), mounts={"/m": "/data/llm/e4b"}),), weights=()),
        {},
        LOCAL_FOLDER.format("/data/llm/e4b"),
    ),
    "another model on the port": (
        report(containers=(replace(SERVER, argv=("Qwen/Qwen3-8B", "--port", "8000")),)),
        {},
        "it serves Qwen/Qwen3-8B; the inventory says google/gemma-4-E4B-it",
    ),
    "another program on the port": (
        report(
            containers=(
                replace(
                    SERVER, name="web", image="nginx:1", entrypoint=("nginx",), argv=(), published=(8000,), network="b"
                ),
            )
        ),
        {},
        "it is no server of vllm",
    ),
    "another program of that name, not running": (
        report(containers=(replace(SERVER, image="busybox", entrypoint=(), argv=("sh",), status="exited"),)),
        {},
        "it is no server of vllm",
    ),
}


@pytest.mark.parametrize(("found", "data", "why"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_what_contradicts_the_inventory_is_named_refused_and_left(found, data, why):
    assert set(contradictions(found, **data)) == {why}
    lines = [line for line in refused(found, adopt=True, **data) if line.startswith("set up by hand")]
    assert lines and all(why in line and "What to do: " in line for line in lines)
    taken = owner.judge(settings(adopt=True, **data), found)[1]
    assert not (taken.containers and "serve" in why)
    assert not (ROCM in taken.sources and ("ROCm" in why or "archives" in why))


def test_pins_of_our_own_are_nobody_elses():
    files = ("ojai-lock", "ojai-rocm-pin-600", "somebodys")
    pins = tuple(Pin(f"/etc/apt/preferences.d/{name}", "rocm-core", "version 7.2.0.70200-43", 999) for name in files)
    (found,) = [line for line in refused(report(pins=pins)) if "apt pin" in line]
    assert "/preferences.d/somebodys " in found


def test_another_ones_drop_in_that_ours_overrides_or_shares_is_left():
    boot = Boot(
        (
            ("/etc/sysctl.d/10-mine.conf", "vm.overcommit_memory", "2"),
            ("/etc/sysctl.d/20-mine.conf", "vm.overcommit_memory", "1"),
            ("/etc/sysctl.d/20-mine.conf", "vm.swappiness", "10"),
            ("/usr/lib/sysctl.d/30.conf", "vm.overcommit_memory", "1"),
            ("/etc/sysctl.d/99-zz-ojai.conf", "vm.overcommit_memory", "1"),
        )
    )
    rows, taken = owner.judge(settings(adopt=True), report((), sysctl=boot))
    assert taken.drop_ins == ()
    assert [row.plan for row in rows if row.what.startswith("kernel")] == [
        "nothing",
        "nothing: it says the same, and more",
    ]


def test_a_server_beside_ours_whose_share_is_free_stays():
    beside = replace(SERVER, name="mine", argv=(*BESIDE, "--gpu_memory_utilization=0.15"))
    found = report((), containers=(beside,))
    rows, taken = owner.judge(settings(adopt=True), found)
    assert taken.containers == () and refused(found) == []
    assert any("its share of GPU memory is free" in row.plan for row in rows)
    asleep = replace(found, owner=replace(found.owner, containers=(replace(beside, status="exited", argv=BESIDE),)))
    assert refused(asleep) == []


def test_ubuntus_link_to_sysctl_conf_is_left():
    link = "/etc/sysctl.d/99-sysctl.conf"
    boot = Boot(((link, "vm.overcommit_memory", "1"), (DROP_IN, "vm.overcommit_memory", "1")))
    assert owner.judge(settings(adopt=True), report((), sysctl=boot, links=(link,)))[1].drop_ins == (DROP_IN,)


def test_another_value_in_sysctl_conf_is_in_the_way_of_who_runs_sysctl_system():
    """A boot reads it before ours, through Ubuntu's link; `sysctl --system`, which packages run, after all files."""
    link, key = "/etc/sysctl.d/99-sysctl.conf", "vm.overcommit_memory"
    ours = SYSCTL_DROP_IN
    boot = Boot(((link, key, "0"), (ours, key, "1"), (CONF, key, "0")))
    found = report((), sysctl=boot, links=(link,))
    for adopt in (False, True):
        (line,) = [line for line in refused(found, adopt=adopt) if key in line]
        assert "/etc/sysctl.conf" in line and "remove that line" in line
    same = Boot(((link, key, "1"), (ours, key, "1"), (CONF, key, "1")))
    assert refused(report((), sysctl=same, links=(link,)), adopt=True) == []


def test_a_unit_of_the_owners_gives_way_with_the_container_that_it_runs():
    unit = Unit(
        "gemma.service", "enabled", "active", "", "/etc/systemd/system/gemma.service", "docker run --name vllm-gemma4"
    )
    asleep = replace(unit, name="old.service", enabled="disabled", active="inactive")
    other = replace(unit, name="web.service", words="docker run -p 8000:80 --name web nginx")
    found = report(units=(unit, asleep, other))
    taken = owner.judge(settings(adopt=True), found)[1]
    assert taken.units == (unit,) and taken.containers == (SERVER,)
    assert taken.unit_of(SERVER) == "gemma.service"
    assert any("unit gemma.service" in line for line in refused(found))
    assert refused(found, adopt=True) == []


def test_ours_is_not_the_owners_unless_its_unit_did_not_make_it():
    started = 1795755437  # 2026-11-27T04:57:17Z
    ours = report((), ours={"vllm-gemma4.service": started - 1})
    assert owner.judge(settings(adopt=True), ours)[1].containers == ()
    assert refused(ours) == []
    # The owner started one by hand, under the same name, when ours was down.
    for since in (started - 100_000, started + 60, None):
        found = report((), ours={"vllm-gemma4.service": since})
        assert owner.judge(settings(adopt=True), found)[1].containers == (SERVER,), since
        assert any("container vllm-gemma4" in line for line in refused(found))
    # What a power cut leaves of ours does not run.
    left = report((), containers=(replace(SERVER, status="exited"),), ours={"vllm-gemma4.service": None})
    assert owner.judge(settings(adopt=True), left)[1].containers == ()


def test_tuning_results_of_an_unknown_image_are_left():
    server = replace(SERVER, mounts={"/root/.cache/huggingface": HOME})
    rows, taken = owner.judge(settings(adopt=True), report(containers=(server,)))
    assert taken.tuned == {}
    assert "no container says which image they are of" in [row.contradiction for row in rows]


def test_a_bare_host_has_no_table():
    assert owner.findings(settings(adopt=True), GOOD) == []
    assert refused(GOOD, adopt=True) == refused(GOOD) == []


def test_the_table_is_aligned_and_says_what_adoption_does():
    lines = owner.table(owner.findings(settings(), report()))
    assert {line.index("|") for line in lines} == {lines[0].index("|")}
    assert any("stops it just before vllm-gemma4 starts" in line for line in lines)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"hugginface": "/a/b"}, "cache_folders.hugginface: there is no such cache; known are huggingface, vllm"),
        ({"vllm": "/etc/vllm"}, "/etc/vllm is not a folder of its own"),
        ({"vllm": "/data"}, "/data is not a folder of its own"),
        ({"vllm": "/srv/ojai/x"}, "vllm is inside data_directory (/srv/ojai)"),
    ],
)
def test_cache_folders_that_cannot_be(folders, words):
    with pytest.raises(ValueError, match="cache_folders") as caught:
        settings(cache_folders=folders)
    assert words in str(caught.value)


def test_cache_folders_may_be_roots_own():
    found = settings(cache_folders={"huggingface": "/root/.cache/huggingface", "tunableop": "/data/tuned"})
    (service,) = found.resolved
    assert service.folders["huggingface"] == "/root/.cache/huggingface"
    assert found.own_caches == ["/srv/ojai/vllm", "/srv/ojai/models", "/srv/ojai/workspace"]
