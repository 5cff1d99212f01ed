"""What is on the host is what the lock beside the inventory says; and what it is moved by."""

import shlex

import pytest

from ojai.facts.report.engine import EngineOwner
from ojai.preflight.lock import versions
from ojai.settings.lock import models_of, protected
from ojai.weights.program import STATE, record_name


def _lock(mini):
    if mini.settings.lock is None:
        pytest.skip("there is no lock beside the inventory")
    return mini.settings.lock


def _engine(mini):
    owner = EngineOwner()
    return owner.process(mini.run(owner.command()).stdout.splitlines())


def test_packages_are_those_of_the_lock(mini):
    _lock(mini)
    wanted = versions(mini.settings, _engine(mini))
    shown = mini.run(f"dpkg-query -W -f '${{Package}} ${{Version}}\\n' {shlex.join(wanted)}").stdout if wanted else ""
    found = dict(line.split(" ", 1) for line in shown.splitlines() if not line.endswith(" "))
    other = [
        f"{name} {found[name]}, {wanted[name]} expected"
        for name in wanted
        if found.get(name, "") not in ("", wanted[name])
    ]
    assert not other, "; ".join(other)


def test_images_are_those_of_the_lock(mini, services):
    lock, other = _lock(mini), []
    for served in services:
        name, _, digest = served.service.image.partition("@")
        if name in lock.images and lock.images[name].digest == digest:
            running = served.inspect("{{.Image}}")
            found = mini.text(f"docker image inspect --format '{{{{json .RepoDigests}}}}' {shlex.quote(running)}")
            if digest not in found:
                other.append(f"{served.service.name}: {found}, {digest} expected")
    assert not other, "; ".join(other)


def test_models_are_those_of_the_lock(mini, services):
    lock, other = _lock(mini), []
    for served in services:
        for one in models_of(served.service):
            model = lock.models[one]
            file = f"{STATE}/{record_name(one.rpartition('@')[0], model.commit)}"
            lines = [line.split("\t") for line in mini.run(f"cat {shlex.quote(file)}").stdout.splitlines()]
            found = {line[3]: (int(line[1]), line[2]) for line in lines if line[0] == "file"}
            wanted = {path: (file.size, file.hash) for path, file in model.files.items()}
            wrong = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
            if wrong:
                other.append(f"{one}: {', '.join(wrong[:5])}")
    assert not other, f"files that differ from the lock: {'; '.join(other)}"


def test_unattended_upgrades_leave_these_packages_alone(mini):
    kept = [name for family, names in protected().items() if family != "docker" or _engine(mini).ours for name in names]
    shown = mini.text("apt-config dump Unattended-Upgrade::Package-Blacklist")
    missing = [name for name in kept if f'"{name}";' not in shown]
    assert not missing, f"not excluded: {' '.join(missing)}"
