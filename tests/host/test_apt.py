"""dpkg and apt are in order, and the packages of the inventory are as they were installed."""

import shlex

from ojai.settings import HostSettings


def _names(mini) -> list[str]:
    """The packages that the inventory asks for, of which apt knows."""
    settings: HostSettings = mini.settings
    # Left open by `auto`: that of Docker's own archive only where ojai installed it.
    noted = mini.run("grep -qsx docker-ce /var/lib/ojai/added/packages").rc == 0
    theirs = noted if settings.docker_source == "auto" else settings.docker_source == "docker"
    docker = settings.docker_packages or (("docker-ce",) if theirs else ("docker.io",))
    return [settings.kernel_package, *settings.rocm_packages, *docker]


def _ours(mini) -> set[str]:
    """Packages that are the deploy's business: what others broke is told by preflight, and left alone."""
    noted = mini.run("cat /var/lib/ojai/added/packages /var/lib/ojai/added/dependencies").stdout.split()
    return {*_names(mini), *noted}


def test_dpkg_left_nothing_half_done(mini):
    states = mini.text("dpkg-query -W -f '${db:Status-Status} ${Package}\\n'").splitlines()
    done = ("installed", "config-files", "not-installed")
    ours = _ours(mini)
    left = [line for line in states if not line.startswith(done)]
    assert [line for line in left if line.startswith("triggers-") or line.split()[1] in ours] == []


def test_packages_have_what_they_need(mini):
    done = mini.run("LC_ALL=C apt-get -q check")
    ours, wants, package = _ours(mini), [], ""
    # apt tells them on one or the other, by its version; the package is named before the first of its dependencies.
    for line in f"{done.stdout}\n{done.stderr}".splitlines():
        before, depends, needed = line.partition("Depends: ")
        package = before.partition(" : ")[0].strip() or package
        if depends and ours & {package, needed.split()[0]}:
            wants.append(line.strip())
    told = "Depends: " in done.stdout + done.stderr
    assert (done.rc == 0 or told) and not wants, "; ".join(wants) or done.stderr


def test_no_hold_is_in_the_way(mini):
    """A hold is its owner's, and stays where what is installed will do (of ROCm, test_rocm.py says whether it does)."""
    held = sorted(set(mini.text("apt-mark showhold").split()) & set(_names(mini)))
    missing = [
        name for name in held if mini.run(f"dpkg-query -W -f '${{db:Status-Status}}' {name}").stdout != "installed"
    ]
    assert not missing, f"on hold, and not installed: {' '.join(missing)}"


def test_packages_are_as_they_were_installed(mini):
    # `c` marks configuration, which may be changed; documentation may be left out by dpkg's own settings.
    shown = mini.run(f"dpkg --verify {shlex.join(_names(mini))}").stdout.splitlines()
    assert [line for line in shown if " c /" not in line and " /usr/share/" not in line] == []
