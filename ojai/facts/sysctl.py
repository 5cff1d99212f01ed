"""Kernel parameters at boot."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase

#: What `sysctl --system` reads last.
CONF = "/etc/sysctl.conf"
#: Prints all files, each after its name in a comment.
FILES = (
    "systemd-analyze cat-config sysctl.d 2>/dev/null || true; "
    f"[ ! -f {CONF} ] || {{ printf '\\n# %s\\n' {CONF}; cat {CONF}; }}"
)


@dataclass(frozen=True)
class Boot:
    """What the next boot sets, and `sysctl --system`.

    + settings: (file, key, value) of all sysctl.d files, in the order in which they are read, and of /etc/sysctl.conf:
      a boot reads it only through a link in sysctl.d, as Ubuntu's 99-sysctl.conf, but `sysctl --system` after all
    + masked: the service that reads them is masked
    """

    settings: tuple[tuple[str, str, str], ...] = ()
    masked: bool = False

    def after(self, path: str) -> tuple[tuple[str, str, str], ...]:
        """Settings that are read after the file at ``path``: files are sorted by name, whatever folder they are in."""
        name = path.rsplit("/", 1)[-1]
        return tuple(entry for entry in self.settings if entry[0].rsplit("/", 1)[-1] > name)


class SysctlBoot(FactBase[Boot]):
    """The kernel parameters of the next boot: :class:`Boot`."""

    @staticmethod
    def default() -> Boot:
        """No setting."""
        return Boot()

    def command(self) -> str:
        """systemd prints the files that it would read; each begins with its name in a comment."""
        return f'echo "service $(systemctl is-enabled systemd-sysctl.service 2>/dev/null)"; {FILES}'

    def process(self, output: list[str]) -> Boot:
        """Read the files."""
        settings = []
        file = ""
        for line in output[1:]:
            if line == f"# {CONF}" or (line.startswith("# /") and line.endswith(".conf") and "/sysctl.d/" in line):
                file = line[2:]
            elif "=" in line and not line.lstrip().startswith(("#", ";")):
                key, value = line.split("=", 1)
                settings.append((file, key.strip().lstrip("-").replace("/", "."), value.strip()))
        return Boot(settings=tuple(settings), masked=output[:1] in (["service masked"], ["service masked-runtime"]))
