"""A deploy that only asks: prints in a line of JSON what a lock is made from (see ojai/cmdline/lock.py)."""

import json
import os
import sys
from dataclasses import asdict

from pyinfra import config, host

from ojai.facts.docker import DockerImage
from ojai.facts.lock import Records, ResolvedPackages, Upstream
from ojai.facts.report.engine import EngineOwner
from ojai.preflight.lock import release_mark, roots
from ojai.preflight.upstream import hidden
from ojai.pyinfra_runs.collect import FRESH, marked
from ojai.releases import digest_of
from ojai.settings.inventory import settings_of
from ojai.settings.lock import models_of, protected
from ojai.weights.program import STATE, record_name

config.SUDO = True  # the login is an ordinary user
settings = settings_of(host)
fresh = set(json.loads(os.environ[FRESH]))

images = {}
for name in {service.image for service in settings.resolved if "@" not in service.image}:
    found = host.get_fact(DockerImage, reference=name)
    images[name] = digest_of(name, found.digests).rpartition("@")[2] if found else ""
records = host.get_fact(Records, state=STATE)
models = {one: records.get(record_name(*one.rsplit("@", 1)), []) for s in settings.resolved for one in models_of(s)}
upstream = host.get_fact(
    Upstream,
    images=tuple(name for name, digest in images.items() if not digest or name in fresh),
    models=tuple((*one.rsplit("@", 1), "") for one, lines in models.items() if "complete" not in lines or one in fresh),
    mirrors=settings.docker_registry_mirrors,
    endpoint=settings.hf_endpoint,
    environment=settings.proxies,
    _stdin=hidden(settings, images),
)
asked = roots(settings, host.get_fact(EngineOwner))
packages = host.get_fact(
    ResolvedPackages,
    families=asked,
    names="^(" + "|".join(name for names in protected().values() for name in names) + ")",
    asked=tuple(name for names in asked.values() for name in names),
    mark=release_mark(settings),
)
answer = {"images": images, "models": models, "upstream": upstream, "packages": asdict(packages), "roots": asked}
sys.stdout.write(marked(host.name, json.dumps(answer)) + "\n")
