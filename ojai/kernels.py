"""Kernel releases of Debian and Ubuntu, compared by base version, ABI number and flavour."""

from __future__ import annotations

import re
from dataclasses import dataclass

# 6.17.0-1012-oem | 6.17.0-19-generic | 6.18.4 | 6.12.57+deb13-amd64 | 6.1.0-41-cloud-amd64
_RELEASE = re.compile(
    r"(?P<base>\d+(?:\.\d+)+)(?:\+[\w.~]+)?(?:-(?P<abi>\d+(?:\.\d+)*))?(?:[+~][\w.~]+)?(?:-(?P<flavour>[a-z][\w-]*))?"
)


@dataclass(frozen=True)
class KernelVersion:
    """One ``uname -r``: ``base`` and ``abi`` as numbers, ``flavour`` as text (empty for a mainline build)."""

    text: str
    base: tuple[int, ...]
    abi: tuple[int, ...]
    flavour: str

    @property
    def order(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What releases are compared by: 6.17.0-1018 is newer than 6.17.0-1005, which a base version alone hides."""
        return self.base, self.abi


def parse(text: str) -> KernelVersion:
    """Read a release, or a floor such as ``6.14.0-1018``. Raises ValueError with the text that was found."""
    match = _RELEASE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a kernel release; expected one such as 6.17.0-1012-oem or 6.18.4")
    abi = match["abi"]
    return KernelVersion(
        text=text.strip(),
        base=tuple(map(int, match["base"].split("."))),
        abi=tuple(map(int, abi.split("."))) if abi else (),
        flavour=match["flavour"] or "",
    )


def newest(releases: tuple[str, ...], flavour: str) -> KernelVersion | None:
    """The newest of ``releases`` that is of this flavour; None when none is. What cannot be read is passed over."""
    found = []
    for text in releases:
        try:
            release = parse(text)
        except ValueError:
            continue
        if release.flavour == flavour:
            found.append(release)
    return max(found, key=lambda release: release.order, default=None)
