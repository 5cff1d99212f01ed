"""`make fresh`: the README's commands in bare Debian roots, where nothing is installed that the project may rely on.

Each root is built by mmdebstrap with git, make and Python alone, gets a clone of HEAD, and runs the targets in a mount
and process namespace of its own: what they leave running ends with them. What this machine's own clients need to reach
their registries (certificates, proxies, settings of pip and apt) is handed in.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ojai.lab import image, packages
from ojai.lab.errors import LabError
from ojai.lab.shell import as_root, run, step

PROJECT = Path(__file__).parent.parent
PLACE = PROJECT / ".fresh"
"""Roots and logs. A root in which a target failed is kept until the next run."""
INCLUDE = ("git", "make", "python3")
HANDED_IN = (
    Path("/etc/resolv.conf"),
    Path("/etc/hosts"),
    Path("/etc/pip.conf"),
    Path("/etc/xdg/pip"),
    Path("/usr/local/share/ca-certificates"),
)
"""Where this machine says how its registries are reached. ca-certificates takes the last up when it is installed."""
APT_SETTING = re.compile(r"Acquire::(https?|Check-|Retries)", re.IGNORECASE)
VARIABLE = re.compile(r"PIP_|.*_proxy$", re.IGNORECASE)
ENTER = Path(__file__).with_name("enter.sh")


def remove(release: str) -> None:
    """Remove a release's root, if there is one."""
    run(as_root(["rm", "-rf", "--one-file-system", str(PLACE / release)]), what=f"removing the root of {release}")


def build(release: str) -> None:
    """Build a bare root of a Debian release, with a clone of HEAD in /root/ojai."""
    remove(release)
    root = PLACE / release
    settings = run(["apt-config", "dump"], what="reading this machine's settings of apt").splitlines()
    argv = [
        packages.find("mmdebstrap") or "mmdebstrap",
        "--variant=apt",
        f"--include={','.join(INCLUDE)}",
        *(f"--aptopt={line}" for line in settings if APT_SETTING.match(line)),
        release,
        str(root),
    ]
    image.build(argv, {}, what=f"building a root of {release}", log=PLACE / f"{release}.log")
    home = Path(os.environ.get("HOME", "/root"))
    for source in (*HANDED_IN, home / ".config" / "pip"):
        if source.exists():
            inside = Path("/root", source.relative_to(home)) if source.is_relative_to(home) else source
            target = root / inside.relative_to("/")
            run(as_root(["mkdir", "-p", str(target.parent)]), what=f"making {target.parent}")
            run(as_root(["cp", "-RLT", str(source), str(target)]), what=f"copying {source}")
    # A bundle, because git refuses to read another user's repository.
    bundle = PLACE / "head.bundle"
    run(["git", "-C", PROJECT, "bundle", "create", "-q", bundle, "HEAD"], what="bundling HEAD")
    run(as_root(["git", "clone", "-q", str(bundle), str(root / "root" / "ojai")]), what="cloning HEAD")


def make(release: str, target: str) -> None:
    """Make a target in a root; raise LabError with its last lines if it fails."""
    home = {"PATH": f"/usr/bin:/bin:{packages.SBIN}", "HOME": "/root", "LANG": "C.UTF-8"}
    given = {name: value for name, value in os.environ.items() if VARIABLE.match(name)}
    log = PLACE / f"{release}-{target}.log"
    log.unlink(missing_ok=True)
    words = [f"{name}={value}" for name, value in {**given, **home}.items()]
    # If this program is killed, all that runs in the root ends too.
    namespaces = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    run(
        as_root(["env", "-i", *words, *namespaces, str(ENTER), str(PLACE / release), target]),
        what=f"make {target} on a bare {release}",
        log=log,
    )


@click.command()
@click.option("--release", "releases", multiple=True, required=True, help="Debian release, by its codename.")
@click.argument("targets", nargs=-1, required=True)
def main(releases: tuple[str, ...], targets: tuple[str, ...]) -> None:
    """Make TARGETS, one after the other, in a bare root of each release. Exit status 1 if any failed."""
    PLACE.mkdir(exist_ok=True)
    table = Table("root", "target", "minutes", "result", title="Bare roots", title_justify="left")
    good = True
    for release in releases:
        works = True
        for target in ("build", *targets):
            if not works:
                table.add_row(release, target, "", "not run")
                continue
            started = time.monotonic()
            try:
                with step(f"{release}: {target}"):
                    build(release) if target == "build" else make(release, target)
            except LabError as failed:
                works = good = False
                click.echo(failed.message, err=True)
            table.add_row(release, target, f"{(time.monotonic() - started) / 60:.1f}", "passed" if works else "failed")
        if works:
            remove(release)
    Console().print(table)
    sys.exit(not good)


if __name__ == "__main__":
    main()
