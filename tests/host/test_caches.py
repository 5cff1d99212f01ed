"""What a container writes outlives it."""

import shlex

import pytest

FOLDERS = ("huggingface", "vllm", "tunableop", "models", "workspace")


def test_folders_are_real_and_belong_to_whom_they_should(mini):
    settings = mini.settings
    ours = [f"{settings.data_directory}/{name}" for name in FOLDERS if name not in mini.elsewhere]
    for place in (settings.data_directory, *ours):
        kind, owner, group, mode = mini.text(f"stat -c '%F:%U:%G:%a' {shlex.quote(place)}").split(":")
        assert kind == "directory", f"{place} is a {kind}"
        assert (owner, group, mode) == (settings.data_owner, settings.data_group, settings.data_mode.lstrip("0")), place


def test_caches_that_are_used_where_they_are_are_there_and_not_doubled(mini):
    for name, place in mini.elsewhere.items():
        assert mini.run(f"test -d {shlex.quote(place)}").rc == 0, f"{place} ({name}) is not there: is its disk mounted?"
        ours = f"{mini.settings.data_directory}/{name}"
        other = mini.text(
            f"[ {shlex.quote(ours)} -ef {shlex.quote(place)} ] || ls -A {shlex.quote(ours)} 2>/dev/null || true"
        )
        assert other == "", f"{ours} is in use beside {place}"  # unless it was moved there, and the place is a link


def test_what_the_container_writes_is_on_the_host(services):
    for served in services:
        name = shlex.quote(served.service.name)
        # A model's own folder, such as one on a USB disk, is mounted read-only, wherever it is.
        mounts = served.inspect("{{range .Mounts}}{{if .RW}}{{.Source}}={{.Destination}} {{end}}{{end}}").split()
        assert mounts, "nothing is mounted"
        for mount in mounts:
            outside, inside = mount.split("=")
            places = (served.mini.settings.data_directory, *served.mini.elsewhere.values())
            assert any(outside == place or outside.startswith(f"{place}/") for place in places), mount
            probe = f".ojai-{served.service.port}"
            served.mini.text(f"timeout 20 docker exec {name} touch {inside}/{probe}")
            assert served.mini.run(f"rm {outside}/{probe}").rc == 0, f"{inside} is not {outside}"


def test_tuning_results_are_filed_under_the_image(services):
    for served in services:
        for mount in served.inspect("{{range .Mounts}}{{.Source}}={{.Destination}} {{end}}").split():
            outside, inside = mount.split("=")
            if inside == "/root/.cache/tunableop":
                image = served.inspect("{{.Image}}")
                digests = served.mini.text(
                    f"timeout 20 docker image inspect --format '{{{{json .RepoDigests}}}} {{{{.Id}}}}' {image}"
                )
                assert outside.rsplit("/", 1)[1] in digests, f"{outside} is not named for {digests}"


def test_a_tuning_file_is_of_its_service_s_image(services):
    """One of another image is none: PyTorch reads only what the same build has written."""
    told = []
    for served in services:
        variables = served.inspect("{{range .Config.Env}}{{println .}}{{end}}").split()
        if not {"PYTORCH_TUNABLEOP_ENABLED=1", "PYTORCH_TUNABLEOP_TUNING=0"} <= set(variables):
            continue
        (name,) = [one.rpartition("/")[2] for one in variables if one.startswith("PYTORCH_TUNABLEOP_FILENAME=")]
        name = name.replace(".csv", "0.csv")
        mounts = served.inspect("{{range .Mounts}}{{.Source}}={{.Destination}} {{end}}").split()
        (place,) = [one.partition("=")[0] for one in mounts if one.endswith("=/root/.cache/tunableop")]
        if served.mini.run(f"test -s {shlex.quote(f'{place}/{name}')}").succeeded:
            text = served.mini.text(f"head -n 20 {shlex.quote(f'{place}/{name}')}")
            assert "Validator,PT_VERSION," in text, f"{place}/{name} is no file of TunableOp's"
            continue
        others = served.mini.run(f"ls {shlex.quote(place.rpartition('/')[0])}/*/{shlex.quote(name)}").stdout.split()
        stale = f": {', '.join(others)} is of another image, stale" if others else ""
        told.append(f"{served.service.name} uses none of {place} yet{stale}; `ojai tune` makes one")
    if told:
        pytest.skip("; ".join(told))
