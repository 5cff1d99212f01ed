"""What registry and hub say to a host beforehand: how much is to be fetched, how long that takes, what is newer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ojai.engines import ResolvedService, Wanted
from ojai.facts.lock import Upstream
from ojai.facts.report import Report
from ojai.settings import HostSettings
from ojai.settings.lock import models_of
from ojai.settings.secrets import LOOKING, SecretError, Source
from ojai.weights.program import amount, duration, folder_name, is_commit, record_name, wanted
from ojai.weights.pull import registry_of

#: Seconds for one answer and for all, while somebody waits for a plan; and in every run with a lock.
TIMEOUT, PATIENCE, LOCKED_TIMEOUT, LOCKED_PATIENCE = 5, 25, 3, 4

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Fetch:
    """Something that is to be fetched.

    + what: the image, or the model
    + service: whose model it is
    + size: bytes to fetch; None where nobody could say
    + there: bytes that are there of it
    + exact: whether registry or hub have said so; else ``trouble`` is why not, and the size is the profile's
    + rate: bytes a second of the line; None where it was never measured
    + measured: the day of that; empty: now
    """

    what: str
    service: str = ""
    size: int | None = None
    there: int = 0
    exact: bool = True
    trouble: str = ""
    rate: float | None = None
    measured: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it takes."""
        return self.size / self.rate if self.size is not None and self.rate else None

    def __str__(self) -> str:
        verb, of = ("fetch", f" of {self.what}") if self.service else ("pull", "")
        head = f"{self.service or self.what}: "
        if self.size is None:
            unknown = f"how large it is, the registry does not say ({self.trouble})"
            return f"{head}to be pulled; {unknown if self.trouble else 'how large it is, the registry says then'}"
        begun = f", {amount(self.there)} are there" if self.there else ""
        took = ""
        if self.seconds and self.rate:
            when = f"measured {self.measured or 'now'}"
            took = f"; about {duration(self.seconds)} at {amount(self.rate)}/s ({when})"
        unsure = f"; the size is the profile's ({self.trouble})" if self.trouble else ""
        return f"{head}{'' if self.exact else 'about '}{amount(self.size)}{of} to {verb}{begun}{took}{unsure}"


def read_by(service: ResolvedService, paths: Iterable[str]) -> list[str]:
    """Those of a model's files that the service's engine reads."""
    return wanted(paths, service.engine.files(service))


class Hidden:
    """Standard input of a fact, as lines. pyinfra's log says the arguments of facts; of these, not the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self) -> Iterator[str]:
        return iter(self.readlines())

    def readlines(self) -> list[str]:
        """All of it, as pyinfra reads a file."""
        return [self._text]


def hidden(settings: HostSettings, images: Iterable[str]) -> Hidden:
    """What the program gets on its standard input. A secret that cannot be had is left out."""
    asked: dict[str, Source] = {image: source for image in images if (source := settings.login(image))}
    logins: dict[str, Any] = {}
    for image, source in asked.items():
        with suppress(SecretError):
            logins[registry_of(image)] = source.login() or {}
    tokens: dict[str, str] = {}
    for service in settings.resolved:
        if source := settings.secrets_of(service.name).get("HF_TOKEN"):
            with suppress(SecretError):
                tokens |= {one.model: token for one in service.wanted if (token := source.read())}
    return Hidden(json.dumps({"logins": logins, "tokens": tokens, "authorities": _authorities(settings)}))


def _authorities(settings: HostSettings) -> str:
    """The certificates of the owner's own authorities, which the host does not trust before the first deploy."""
    found: list[str] = []
    for name in settings.ca_certificates:
        with suppress(OSError, UnicodeDecodeError):
            found += _CERTIFICATE.findall(Path(name).expanduser().read_text())
    return "\n".join(found)


def _missing(settings: HostSettings, report: Report) -> Iterator[tuple[ResolvedService, Wanted, str]]:
    """The models that are not known to be on the host, each with its folder in the cache."""
    seen: set[tuple[str, str]] = set()
    for service in settings.resolved:
        for one in service.wanted:
            folder = f"{service.folders['huggingface']}/hub/{folder_name(one.model)}"
            there = service.model_directory if one.model == service.model else folder
            # What is there is taken as it is, unless it has to be a certain commit.
            taken = there in report.models and not is_commit(one.revision)
            known = record_name(*astuple(one)) in report.fetched
            if not (taken or known or (folder, one.revision or "") in seen):
                seen.add((folder, one.revision or ""))
                yield service, one, folder


def asked(get_fact: Callable[..., Any], settings: HostSettings, report: Report) -> Report:
    """The report with what registry and hub say to the host; nothing where nothing may be asked.

    What is missing is asked for with logins, by a command of its own. What the lock has is asked for in every run: by
    a fact without a secret, which costs no command more (see ojai/connection/reads.py).
    """
    if settings.local_only or os.environ.get(LOOKING) or report.python == "none":
        return report
    surroundings = {
        "mirrors": settings.docker_registry_mirrors,
        "endpoint": settings.hf_endpoint,
        "environment": settings.proxies,
    }
    images = tuple(sorted({service.image for service in settings.resolved} - set(report.images)))
    models = tuple((one.model, one.revision or "main", folder) for _, one, folder in _missing(settings, report))
    upstream: dict[str, Any] = {}
    if images or models:
        upstream = get_fact(
            Upstream,
            images=images,
            models=models,
            **surroundings,
            sizes=True,
            timeout=TIMEOUT,
            patience=PATIENCE,
            _stdin=hidden(settings, images),
        )
    newer: dict[str, Any] = {}
    if settings.lock:
        tags = {service.image.partition("@")[0] for service in settings.resolved} & settings.lock.images.keys()
        names = {one for service in settings.resolved for one in models_of(service)}
        newer = get_fact(
            Upstream,
            images=tuple(sorted(tag for tag in tags if not settings.login(tag))),
            models=tuple((*one.rsplit("@", 1), "") for one in sorted(names) if not is_commit(one.rpartition("@")[2])),
            **surroundings,
            brief=True,
            timeout=LOCKED_TIMEOUT,
            patience=LOCKED_PATIENCE,
            hidden=False,
        )
    return replace(report, upstream=upstream, newer=newer)


def fetches(settings: HostSettings, report: Report) -> list[Fetch]:
    """What is to be fetched."""
    images, models = (report.upstream.get(kind) or {} for kind in ("images", "models"))
    measured = [one["rate"] for one in (*images.values(), *models.values()) if one.get("rate")]
    rate, day = (measured[0], "") if measured else (None, "")
    if report.line and not measured:
        rate, day = report.line[0], datetime.fromtimestamp(report.line[1], UTC).strftime("%Y-%m-%d")

    def fetch(answer: dict[str, Any], **words: Any) -> Fetch:
        own = answer.get("rate")
        trouble = answer.get("error", "")
        return Fetch(**words, trouble=trouble, rate=own or rate, measured="" if own else day)

    found = [
        fetch(images.get(image, {}), what=image, size=images.get(image, {}).get("bytes"))
        for image in sorted({service.image for service in settings.resolved} - set(report.images))
    ]
    for service, one, _ in _missing(settings, report):
        answer = models.get(f"{one.model}@{one.revision or 'main'}", {})
        if "files" in answer:
            listed = [answer["files"][path] for path in read_by(service, sorted(answer["files"]))]
            there = sum(min(have, size) for size, _, have in listed)
            size, exact = sum(size for size, *_ in listed) - there, True
        elif one.model == service.model and service.model_directory not in report.models:
            there, exact = report.space.weights.get(service.model_directory, 0), False
            size = max(service.profile.weights_bytes - there, 0)
        else:
            continue
        if size:
            found.append(fetch(answer, what=one.model, service=service.name, size=size, there=there, exact=exact))
    return found


def sentences(settings: HostSettings, report: Report) -> Iterator[str]:
    """A line for each, and one for all."""
    found = fetches(settings, report)
    yield from map(str, found)
    times = [one.seconds for one in found]
    if len(found) > 1 and all(times):
        size = sum(one.size or 0 for one in found)
        yield f"in all {amount(size)} to fetch; about {duration(sum(filter(None, times)))}"


def newer(settings: HostSettings, report: Report) -> Iterator[str]:
    """What registry and hub have instead of what is locked."""
    if not settings.lock:
        return
    images, models = (report.newer.get(kind) or {} for kind in ("images", "models"))
    for name, answer in images.items():
        locked, now = settings.lock.images[name].digest, answer.get("digest")
        if now and now != locked:
            yield f"the registry: {name} {now[:19]} (locked: {locked[:19]})"
    for name, answer in models.items():
        locked, now = settings.lock.models[name].commit, answer.get("commit")
        if now and now != locked:
            yield f"the hub: {name} {now[:12]} (locked: {locked[:12]})"
