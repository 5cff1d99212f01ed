"""What a failed upgrade would go back to is what serves now, whole, and closed to others."""

import hashlib
import json

KEPT = "/var/lib/ojai/releases/healthy"


def test_the_healthy_release_is_kept_and_is_what_serves(services):
    for served in services:
        name = served.service.name
        release = json.loads(served.mini.text(f"cat {KEPT}/release.json"))
        kept = {entry["serving"]["name"]: entry for entry in release["services"]}
        assert name in kept, f"{KEPT} has {', '.join(kept)} and not {name}"
        for file, copy in ((f"/etc/systemd/system/{name}.service", "unit"), (f"/etc/ojai/{name}.env", "env")):
            text = served.mini.host.file(f"{KEPT}/{name}.{copy}").content
            assert hashlib.sha256(text).hexdigest() == kept[name]["contents"][copy], f"{KEPT}/{name}.{copy} was edited"
            # Compared by sums: a failed comparison of the texts would show secrets.
            same = hashlib.sha256(text).digest() == hashlib.sha256(served.mini.host.file(file).content).digest()
            assert same, f"{file} is not the one that was kept when it was last healthy"
        assert kept[name]["contents"]["image_id"] == served.inspect("{{.Image}}")


def test_the_images_of_kept_releases_are_held(services):
    for served in services:
        tag = f"ojai-release:{served.service.name}-healthy"
        held = served.mini.run(f"timeout 20 docker image inspect --format '{{{{.Id}}}}' {tag}").stdout.strip()
        left = served.mini.run(
            "info=$(timeout 20 docker info --format '{{.DockerRootDir}} {{json .DriverStatus}}'); "
            'case $info in *io.containerd.snapshotter*) ls "${info%% *}"/image/*/imagedb/content/sha256;; esac'
        ).stdout
        why = "; Docker keeps images in containerd's store now, and shows none of those from before" if left else ""
        assert held == served.inspect("{{.Image}}"), f"{tag} holds {held or 'nothing'}{why}"


def test_kept_secrets_are_closed(services):
    for served in services:
        for place in ("/var/lib/ojai/releases", KEPT):
            assert served.mini.text(f"stat -c %U:%a {place}") == "root:700", place
        assert served.mini.text(f"stat -c %U:%a {KEPT}/{served.service.name}.env") == "root:600"
