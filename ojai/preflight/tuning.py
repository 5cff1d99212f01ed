"""What becomes of the tuning files of services: they belong to one image and one GPU."""

from __future__ import annotations

from collections.abc import Iterator

from ojai.facts.report import Report
from ojai.settings import HostSettings


def remarks(settings: HostSettings, report: Report) -> Iterator[str]:
    """Which services get an image that is new on the host, for which there can be no file yet."""
    for service in settings.resolved:
        kept = [file for file in report.tunings if file.startswith(f"{service.folders['tunableop']}/")]
        if service.features.tunableop == "use" and kept and service.image not in report.images:
            yield (
                f"{service.name}: its image is new on this host, so its tuning file is stale ({kept[-1]} is of another "
                "image). It serves without one, with the kernels that the libraries choose, until `ojai tune` makes it"
            )
