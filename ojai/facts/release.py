"""What a host has kept of its healthy releases, and what it has now."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass, field, replace

from pyinfra.api import FactBase

from ojai.facts.docker import DOCKER
from ojai.paths import env_file, unit_file
from ojai.releases import FOLDER, PENDING_ROLLBACK, SLOTS, Contents, Release, Slot, from_json, tag


@dataclass(frozen=True)
class Releases:
    """``kept``: the releases that are whole (every file is what its ``release.json`` says, closed to others).
    ``now``: what the services that were asked about consist of. ``tags``: the image of each tag that holds one.
    ``pending``: the ``kept`` of the release that the host was being put back to when that was cut off, else empty."""

    kept: dict[Slot, Release] = field(default_factory=dict)
    now: dict[str, Contents] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pending: str = ""

    def held(self, slot: Slot) -> bool:
        """Whether every image of a kept release has its tag: without one it may be pruned, and pulled again."""
        services = self.kept[slot].services
        return all(self.tags.get(tag(r.serving.name, slot)) == r.contents.image_id for r in services)


#: Owner and mode that a kept release's folder, the folders' folder and the files of a service may have.
_CLOSED = {"root:700", "root:600"}


class ReleaseState(FactBase[Releases]):
    """:class:`Releases`, with ``now`` for ``services``: pairs of a service's name and its image."""

    @staticmethod
    def default() -> Releases:
        """Nothing is kept, nothing is there."""
        return Releases()

    def command(self, services: tuple[tuple[str, str], ...]) -> str:
        """Sums of the files, never their content: environment files hold secrets."""
        script = (
            f"printf 'going\\t%s\\n' \"$(cat {PENDING_ROLLBACK} 2>/dev/null)\"; "
            f"for slot in {' '.join(SLOTS)}; do cd {FOLDER}/$slot 2>/dev/null || continue; "
            'rights=$(stat -c %U:%a .. . ./*.unit ./*.env 2>/dev/null | sort -u | tr "\\n" " "); '
            'printf "slot\\t%s\\t%s\\t%s\\n" $slot "$rights" "$(base64 -w 0 release.json 2>/dev/null)"; '
            'sha256sum ./*.unit ./*.env 2>/dev/null | sed "s/^/sum\\t$slot\\t/"; cd /; done; '
            f"{DOCKER} image ls --no-trunc "
            "--format 'tag\\t{{.Repository}}:{{.Tag}}\\t{{.ID}}' ojai-release 2>/dev/null; "
        )
        for name, image in services:
            word = shlex.quote(name)
            inspect = DOCKER + " image inspect --format '{{.Id}}{{range .RepoDigests}} {{.}}{{end}}'"
            script += (
                f"printf 'now\\t%s\\t%s\\t%s\\t%s\\n' {word} "
                f'"$(sha256sum {shlex.quote(unit_file(name))} 2>/dev/null)" '
                f'"$(sha256sum {shlex.quote(env_file(name))} 2>/dev/null)" '
                f'"$({inspect} {shlex.quote(image)} 2>/dev/null)"; '
            )
        return f"{script}:"

    def process(self, output: list[str]) -> Releases:
        """Read the answer."""
        found: dict[str, tuple[str, Release | None]] = {}
        sums: dict[tuple[str, str], str] = {}
        now: dict[str, Contents] = {}
        tags: dict[str, str] = {}
        going = ""
        for line in output:
            match line.split("\t"):
                case ["going", since]:
                    going = since
                case ["slot", slot, rights, text]:
                    found[slot] = rights, from_json(base64.b64decode(text))
                case ["sum", slot, rest]:
                    digest, _, file = rest.partition("  ./")
                    sums[slot, file] = digest
                case ["tag", name, image_id]:
                    tags[name] = image_id
                case ["now", name, unit, env, image]:
                    image_id, *digests = image.split() or [""]
                    contents = Contents(image_id=image_id, digest=digests[0] if digests else "")
                    now[name] = replace(contents, unit=unit.split(" ")[0], env=env.split(" ")[0])
        kept: dict[Slot, Release] = {}
        for slot in SLOTS:
            rights, release = found.get(slot, ("", None))
            if release and set(rights.split()) <= _CLOSED and _whole(release, slot, sums):
                kept[slot] = release
        return Releases(kept=kept, now=now, tags=tags, pending=going)


def _whole(release: Release, slot: Slot, sums: dict[tuple[str, str], str]) -> bool:
    expected = {}
    for released in release.services:
        expected[slot, f"{released.serving.name}.unit"] = released.contents.unit
        expected[slot, f"{released.serving.name}.env"] = released.contents.env
    return expected == {key: value for key, value in sums.items() if key[0] == slot}
