"""What a container writes outlives it."""

import shlex

FOLDERS = ("huggingface", "vllm", "tunableop", "models", "workspace")


def test_folders_are_real_and_belong_to_whom_they_should(mini):
    settings = mini.settings
    for place in (settings.data_directory, *(f"{settings.data_directory}/{name}" for name in FOLDERS)):
        kind, owner, group, mode = mini.text(f"stat -c '%F:%U:%G:%a' {shlex.quote(place)}").split(":")
        assert kind == "directory", f"{place} is a {kind}"
        assert (owner, group, mode) == (settings.data_owner, settings.data_group, settings.data_mode.lstrip("0")), place


def test_what_the_container_writes_is_on_the_host(services):
    for served in services:
        name = shlex.quote(served.service.name)
        mounts = served.inspect("{{range .Mounts}}{{.Source}}={{.Destination}} {{end}}").split()
        assert mounts, "nothing is mounted"
        for mount in mounts:
            outside, inside = mount.split("=")
            assert outside.startswith(f"{served.mini.settings.data_directory}/"), mount
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
