"""What moves only when a deploy moves it: kernel, firmware, ROCm, Docker. Owns a drop-in of apt's, and a file of pins.

Security updates of everything else go on as the owner has them.
"""

from pyinfra import host
from pyinfra.api.deploy import deploy

from ojai.facts.report.engine import EngineOwner
from ojai.operations import files
from ojai.preflight.lock import versions
from ojai.settings import HostSettings
from ojai.settings.lock import protected

DROP_IN = "/etc/apt/apt.conf.d/52ojai-unattended-upgrades"
PINS = "/etc/apt/preferences.d/ojai-lock"

_WHY = """\
# Made by ojai: unattended-upgrades leaves these to the deploy. A list of apt's adds to those of other files.
"""


def drop_in_text(families: list[str]) -> str:
    """What unattended-upgrades passes over: regular expressions that match the beginning of a name."""
    names = [name for family in families for name in protected()[family]]
    # apt's own syntax takes a backslash as it is.
    return "\n".join([f"{_WHY}Unattended-Upgrade::Package-Blacklist {{", *(f'  "{name}";' for name in names), "};", ""])


def pins_text(found: dict[str, str]) -> str:
    """A pin for each locked package. 999: preferred to all others, and never a reason to downgrade."""
    stanzas = [
        f"Package: {name}\nPin: version {version}\nPin-Priority: 999\n" for name, version in sorted(found.items())
    ]
    return "# Made by ojai: the versions of the lock.\n" + "\n".join(stanzas)


@deploy("Versions")
def apply(*, settings: HostSettings) -> None:
    """Protect what the deploy installs from unattended upgrades, and pin what is locked.

    Docker only where its packages are ours.
    """
    engine = host.get_fact(EngineOwner)
    files.text_file(
        name="Exclude kernel, ROCm and Docker from unattended upgrades",
        path=DROP_IN,
        text=drop_in_text([family for family in protected() if family != "docker" or engine.ours]),
    )
    if found := versions(settings, engine):
        files.text_file(name="Pin the locked package versions", path=PINS, text=pins_text(found))
    else:
        files.absent(name="Remove the pins of locked packages", paths=[PINS])


@deploy("Versions: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove both."""
    files.absent(name="Remove the drop-in and the pins", paths=[DROP_IN, PINS])
