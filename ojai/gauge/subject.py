"""What is measured, from the inventory and from what its host answered."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ojai import accelerators, releases
from ojai.engines import ResolvedService
from ojai.facts.condition import Answered
from ojai.gauge import engine
from ojai.gauge.result import Subject
from ojai.preflight.memory import memory_of
from ojai.profiles import budgets
from ojai.releases import Release
from ojai.settings import lock
from ojai.settings.inventory import Entry
from ojai.weights.program import record_name

#: The process of a journal's line: docker's client runs in the foreground of a unit, one a start of a service.
_PROCESS = re.compile(r"\S*\[(\d+)\]:")

#: Facts of the host (see ojai/facts/condition.py) that a comparison of two boxes wants.
_FACTS = ("load", "gpu", "docker", "boot")


def of(entry: Entry, service: ResolvedService, url: str, answered: Answered | None) -> Subject:
    """A service of a host; without an answer of the host, what the inventory says alone."""
    profile, features = service.profile, service.features
    speed = budgets.decoding(profile, entry.settings.accelerator)
    # A draft model lets one pass over the weights yield several tokens: the ceiling is not one.
    ceiling = speed.ceiling_tok_per_s if speed and not features.speculative else None
    backend, memory = engine.by_log(_log(entry, service, answered)) if answered else ((), ())
    image = digest = fit = None
    facts: dict[str, str] = {}
    commits: dict[str, str] = {}
    packages: dict[str, str] = {}
    if answered:
        facts = dict(_facts(answered))
        recorded = _named(answered, "weights")
        names = {one.model: record_name(one.model, one.revision) for one in service.wanted}
        commits = {model: recorded[name] for model, name in names.items() if name in recorded}
        packages = {name: version for name, version in _named(answered, "packages").items() if _locked(name)}
        image, digest = _image(service, answered)
        host = memory_of(entry.settings, answered.report) if answered.report else None
        fit = service.budget(host).sentence(service.name) if host else None
    return Subject(
        host=entry.name,
        service=service.name,
        url=url,
        model=service.command.served_model_name,
        checkpoint=service.model,
        profile=profile.name,
        quantization=features.quantization or features.dtype or "the checkpoint's own",
        kind="mixture of experts" if profile.moe else "dense",
        engine=service.engine.name,
        backend=backend,
        image=image or service.image,
        image_digest=digest or (service.image.partition("@")[2] or None),
        context=features.max_model_len or profile.geometry.max_context,
        accelerator=entry.settings.accelerator,
        gb_per_s=accelerators.load(entry.settings.accelerator).memory().gb_per_s,
        ceiling=ceiling,
        fit=fit,
        memory=memory,
        facts=facts,
        commits=commits,
        packages=packages,
    )


def _named(answered: Answered, file: str) -> dict[str, str]:
    """Of a file with a name and a value a line."""
    return dict(line.split(" ", 1) for line in answered.files.get(file, "").splitlines() if " " in line)


def _locked(name: str) -> bool:
    return any(lock.is_protected(family, name) for family in lock.protected())


def _log(entry: Entry, service: ResolvedService, answered: Answered) -> list[str]:
    """The lines of the service's own log; of a host with one service, all."""
    if len(entry.settings.services) == 1:
        return list(answered.log)
    found: dict[str, list[str]] = {}
    for line in answered.log:
        if process := _PROCESS.search(line):
            found.setdefault(process[1], []).append(line)
    mine = [lines for lines in found.values() if any(service.model in line for line in lines)]
    return mine[-1] if mine else []


def _facts(answered: Answered) -> Iterator[tuple[str, str]]:
    for fact in answered.facts:
        name, _, text = fact.removeprefix("fact ").partition(" ")
        if name in _FACTS:
            yield name, text.strip()
    if kernel := answered.files.get("uname", "").split():
        yield "kernel", kernel[2] if len(kernel) > 2 else " ".join(kernel)
    if system := re.search(r'^PRETTY_NAME="?([^"\n]+)', answered.files.get("os-release", ""), re.MULTILINE):
        yield "system", system[1]


def _image(service: ResolvedService, answered: Answered) -> tuple[str | None, str | None]:
    """The image that the container runs, and its digest by the host's last healthy release."""
    mark = f"fact container {service.name} "
    line = next((fact for fact in answered.facts if fact.startswith(mark)), "")
    found = re.search(r"\bImage=(\S+)", line)
    image = found[1] if found else None
    release: Release | None = releases.from_json(answered.files.get(f"{releases.FOLDER}/healthy/release.json", ""))
    for one in release.services if release else ():
        if one.serving.name == service.name and one.serving.image == image and one.contents.digest:
            return image, one.contents.digest.partition("@")[2] or one.contents.digest
    return image, image.partition("@")[2] or None if image else None
