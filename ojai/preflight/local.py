"""Whether a host has all that it is to serve, where nothing may be fetched or the owner brings the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from ojai.facts.report import Report
from ojai.facts.report.engine import Engine
from ojai.preflight import FailedCheck, docker, packages
from ojai.settings import HostSettings
from ojai.weights.program import record_name


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What is missing."""
    for service in settings.resolved:
        # A folder that was adopted is known once the host has answered, so nobody asked what is in it.
        unasked = not service.brought and "models" in settings.adopted_caches
        fetched = any(one.model == service.model for one in service.wanted)
        folder, named = service.model_directory, service.profile.files
        there = folder in report.models or (bool(named) and folder in report.space.weights)
        if not fetched and not unasked and not there:
            yield FailedCheck(
                "model",
                f"no whole model in {folder}",
                f"{' and '.join(named) or 'its config.json, tokenizer and every weight file (safetensors)'} there",
                "mount the disk that has it, copy the whole folder, or correct `model`",
            )
    if not settings.local_only:
        return
    for image in sorted({service.image for service in settings.resolved} - set(report.images)):
        yield FailedCheck(
            "local_only: image",
            f"no image {image}",
            "every image on the host, since nothing is fetched",
            _ways(image, report.engine),
        )
    for service in (one for one in settings.resolved if not one.brought):
        unknown = [one.model for one in service.wanted if record_name(*astuple(one)) not in report.fetched]
        if unknown and service.model_directory not in report.models:
            yield FailedCheck(
                "local_only: model",
                f"no {service.model} in {service.model_directory}",
                "every model on the host, since nothing is fetched",
                "copy that folder from a host that has it, or name one with `model: /path`; or set local_only: false",
            )
    wanted = [settings.kernel_package, *packages.rocm_packages(settings)]
    wanted += docker.package_names(settings, report.engine) if report.engine.ours else []
    missing = [name for name in wanted if name not in report.apt.installed]
    if missing:
        yield FailedCheck(
            "local_only: packages",
            f"not installed: {', '.join(missing)}",
            "every package on the host, since nothing is fetched",
            "install them from a medium or a mirror of yours, or deploy once with local_only: false",
        )


def _ways(image: str, engine: Engine) -> str:
    """How an image gets onto a host that fetches nothing.

    Only containerd's store keeps a digest in an archive, and only under a name with a tag: saved by its digest, an
    image is loaded without a name.
    """
    tag, _, digest = image.partition("@")
    if not digest:
        return f"`docker save {image}` on a host that has it, `docker load` here; or set local_only: false"
    if engine.server and engine.server.containerd_store:
        return (
            f"on a host that has it, whose Docker keeps images in containerd's store too: `docker tag {image} {tag}` "
            f"and `docker save {tag}`; `docker load` here; or set local_only: false"
        )
    return (
        "deploy once with local_only: false, from a registry that the host reaches (`docker_registry_mirrors`): with "
        "this host's image store, `docker load` forgets an image's digest"
    )
