"""What becomes of kernel parameters at boot."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase


@dataclass(frozen=True)
class Boot:
    """``settings``: what the files of sysctl.d set, as (file, key, value), in the order in which they are read.
    ``masked``: the service that reads them at boot is masked."""

    settings: tuple[tuple[str, str, str], ...] = ()
    masked: bool = False

    def after(self, path: str) -> tuple[tuple[str, str, str], ...]:
        """Those that are read after the file at ``path``: files are sorted by name, whatever folder they are in."""
        name = path.rsplit("/", 1)[-1]
        return tuple(entry for entry in self.settings if entry[0].rsplit("/", 1)[-1] > name)


class SysctlBoot(FactBase[Boot]):
    """:class:`Boot`."""

    @staticmethod
    def default() -> Boot:
        """Nothing is set."""
        return Boot()

    def command(self) -> str:
        """systemd says itself which files it would read: each begins with its name in a comment."""
        return (
            'echo "service $(systemctl is-enabled systemd-sysctl.service 2>/dev/null)"; '
            "systemd-analyze cat-config sysctl.d 2>/dev/null || true"
        )

    def process(self, output: list[str]) -> Boot:
        """Read the answer."""
        settings = []
        file = ""
        for line in output[1:]:
            if line.startswith("# /") and line.endswith(".conf") and "/sysctl.d/" in line:
                file = line[2:]
            elif "=" in line and not line.lstrip().startswith(("#", ";")):
                key, value = line.split("=", 1)
                settings.append((file, key.strip().lstrip("-").replace("/", "."), value.strip()))
        return Boot(settings=tuple(settings), masked=output[:1] in (["service masked"], ["service masked-runtime"]))
