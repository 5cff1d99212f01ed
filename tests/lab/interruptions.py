"""The places at which a first deploy is cut off, and how each is reached.

A point begins from a snapshot that lies before it, runs the deploy, waits until the deploy says a ``line`` or the
guest meets the condition ``when``, and cuts: kills the controller, pulls the network cable, or cuts the power.
What was really under way is looked at and written down; see ``tests/lab/chaos.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cut = Literal["kill", "network", "power"]

#: Snapshots in the order in which they are made: a stock machine; the kernel installed and not booted; booted;
#: ROCm and Docker there and the service still to come.
STAGES = ("stock", "installed", "booted", "engine")

#: In place of a snapshot: a container, for cuts that need no kernel and no power.
CONTAINER = "container"

#: What each way of cutting is called.
CUTS: dict[Cut, str] = {
    "kill": "controller killed (SIGKILL)",
    "network": "network cut",
    "power": "power cut",
}


@dataclass(frozen=True)
class Point:
    """One place of a deploy, and one way to cut it there.

    ``operation``: the one that must be under way, as the deploy names it. ``line``: what the deploy must have said
    (default: that it starts the operation). ``when``: a condition in shell (as root) that the guest must meet after
    that. ``console``: what the guest's console must have said after the line. ``hold``: processes of the guest,
    by their command lines (a regular expression that does not match itself), that are stopped as soon as they are
    there, where it would be over too soon, and go on after some seconds. ``delay``:
    seconds from there to the cut. ``left``: what the guest must show of it afterwards, a regular expression over
    what :data:`PROBE` says.
    """

    name: str
    start: str
    cut: Cut
    operation: str
    line: str = ""
    when: str = ""
    console: str = ""
    delay: float = 0.0
    hold: str = ""
    left: str = ""

    @property
    def awaited(self) -> str:
        """The words that the deploy must have said."""
        return self.line or f"Starting operation: {self.operation}"


def dpkg_has(status: str, packages: str) -> str:
    """Shell: dpkg has one of ``packages`` (a pattern of its own) in this state."""
    return f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\\n' '{packages}' 2>/dev/null | grep -q '^{status} '"


def process(name: str) -> str:
    """Shell: a process of this name runs."""
    return f"pgrep -x {name} >/dev/null"


def argument(pattern: str) -> str:
    """Shell: a process whose command line has ``pattern`` runs."""
    # The brackets keep the search from finding itself.
    return f"pgrep -f '[{pattern[0]}]{pattern[1:]}' >/dev/null"


#: Shell: dpkg is unpacking, or configuring; not the dpkg that answers a question.
UNPACKS, CONFIGURES = argument("dpkg .*--unpack"), argument("dpkg .*--configure")


#: Shell (as root): what a cut left behind, a line each.
PROBE = r"""
uname -r | sed 's/^/kernel /'
dpkg-query -W -f 'dpkg: ${db:Status-Status} ${Package}\n' | grep -Ev ': (installed|config-files|not-installed) '
find /etc /var/lib/ojai /boot -xdev \( -name '*.ojai-new' -o -name '*.new' \) -printf 'left over: %p, %s bytes\n'
find /etc/apt/keyrings -name 'ojai-*.gpg' -printf 'key: %p, %s bytes\n'
find /var/lib/apt/lists/partial -type f -printf 'apt: partial list, %s bytes\n' | sort | uniq -c | head -n 3
pgrep -a 'apt-get|dpkg|mkinitramfs|curl|ldconfig|dockerd' | cut -c -100 | sed 's/^[0-9]* /at work: /' | sort -u
pgrep -af '[d]ocker (pull|run)' | grep -v 'sh -c' | cut -c -80 | sed 's/^[0-9]* /at work: /' | sort -u
if systemctl -q is-active docker; then docker image ls --format 'image {{.Repository}}:{{.Tag}}'; fi
if test -e /etc/systemd/system/vllm-gemma4.service; then
  echo "unit: $(systemctl is-enabled vllm-gemma4), $(systemctl is-active vllm-gemma4)"
fi
"""


KERNEL = "Kernel | Install the kernel metapackage"
REBOOT = "Kernel | Reboot into the newest kernel, if required"
KEY = "ROCm | Install AMD's signing key"
LISTS = "ROCm | Update the package lists"
ENGINE = "Docker | Install Docker Engine"
IMAGE = "vLLM | vllm-gemma4: pull the image"
UNIT = "vLLM | vllm-gemma4: write the systemd unit"
RUN = "vLLM | vllm-gemma4: start the service"
WAIT = "vLLM | vllm-gemma4: wait until it is healthy"
KEEP = "vLLM | Save the healthy release for rollback"
WANTS = "/etc/systemd/system/multi-user.target.wants/vllm-gemma4.service"

POINTS = (
    Point(
        "kernel: dpkg unpacks it",
        start="stock",
        cut="power",
        operation=KERNEL,
        when=f"{dpkg_has('half-installed', 'linux-image-6*')} && {UNPACKS}",
        left="half-installed linux-image-6",
    ),
    Point(
        "kernel: apt is at work and nobody listens",
        start="stock",
        cut="network",
        operation=KERNEL,
        when=f"{dpkg_has('half-[a-z]*', 'linux-image-6*')} && {{ {UNPACKS} || {CONFIGURES}; }}",
        left="half-(installed|configured) linux-image-6|at work: .*(apt-get|dpkg) ",
    ),
    Point(
        "kernel: dpkg configures it",
        start="stock",
        cut="kill",
        operation=KERNEL,
        when=f"{dpkg_has('half-configured', 'linux-image-6*')} && {CONFIGURES}",
        left="half-configured linux-image-6",
    ),
    Point(
        "kernel: its initramfs is made",
        start="stock",
        cut="power",
        operation=KERNEL,
        when=process("mkinitramfs"),
        delay=4,
        left="half-configured linux-image",
    ),
    Point(
        "kernel: GRUB's menu is written",
        start="stock",
        cut="power",
        operation=KERNEL,
        when="test -e /boot/grub/grub.cfg.new",
        left="half-configured linux-image",
    ),
    Point(
        "kernel: installed, not yet booted",
        start="installed",
        cut="kill",
        operation="Kernel | Set the TTM page limit",
        left="kernel .*cloud",
    ),
    Point(
        "reboot: the machine goes down",
        start="installed",
        cut="power",
        operation=REBOOT,
        line="rebooting from",
        console="Stopped|System Shutdown",
    ),
    Point(
        "ROCm: the key is fetched",
        start=CONTAINER,
        cut="kill",
        operation=KEY,
        hold="[c]url --fail",
        left="at work: .*curl ",
    ),
    Point(
        "groups: the named users are put into them",
        start=CONTAINER,
        cut="kill",
        operation="Groups | Add users to the GPU groups",
    ),
    Point(
        "ROCm: the source is written",
        start=CONTAINER,
        cut="kill",
        operation="ROCm | Add the ROCm apt source",
        when="test -e /etc/apt/sources.list.d/ojai-rocm.sources.ojai-new",
        left="ojai-new",
    ),
    Point(
        "ROCm: apt-get update",
        start="booted",
        cut="power",
        operation=LISTS,
        when=argument("apt-get .*update"),
        delay=3,
    ),
    Point(
        "ROCm: apt-get update has just ended",
        start="booted",
        cut="power",
        operation="ROCm | Install ROCm packages",
    ),
    Point(
        "ROCm: the pin is written",
        start=CONTAINER,
        cut="kill",
        operation="ROCm | Pin AMD's packages above Ubuntu's",
    ),
    Point(
        "ROCm: apt-get update (killed)",
        start=CONTAINER,
        cut="kill",
        operation=LISTS,
        when=argument("apt-get .*update"),
    ),
    Point(
        "ROCm: its packages are installed",
        start=CONTAINER,
        cut="kill",
        operation="ROCm | Install ROCm packages",
        hold="[d]pkg .*--(unpack|configure)",
        left="dpkg: |at work: .*(apt-get|dpkg) ",
    ),
    Point(
        "ROCm: the tree is linked",
        start=CONTAINER,
        cut="kill",
        operation="ROCm | Point /opt/rocm to the release",
    ),
    Point(
        "ROCm: the loader's drop-in is written",
        start=CONTAINER,
        cut="kill",
        operation="ROCm | Add ROCm libraries to the loader path",
        when="test -e /etc/ld.so.conf.d/ojai-rocm.conf.ojai-new",
    ),
    Point(
        "ROCm: the loader's cache is made anew",
        start=CONTAINER,
        cut="kill",
        operation="ROCm | Refresh the loader cache",
    ),
    Point(
        "Docker: its settings are written",
        start=CONTAINER,
        cut="kill",
        operation="Docker | Configure the Docker daemon",
        when="test -e /etc/docker/daemon.json.ojai-new",
    ),
    Point(
        "Docker: dpkg unpacks it",
        start=CONTAINER,
        cut="kill",
        operation=ENGINE,
        when=f"{dpkg_has('half-installed', 'docker.io')} && {UNPACKS}",
        left="(half-installed|unpacked) docker|at work: .*(apt-get|dpkg) ",
    ),
    Point(
        "Docker: dpkg configures it",
        start=CONTAINER,
        cut="kill",
        operation=ENGINE,
        when=f"{dpkg_has('half-configured', 'docker.io')} && {CONFIGURES}",
        left="half-configured docker|at work: .*(apt-get|dpkg) ",
    ),
    Point(
        "Docker: dpkg unpacks it (power)",
        start="booted",
        cut="power",
        operation=ENGINE,
        when=f"{dpkg_has('half-installed', 'docker.io')} && {UNPACKS}",
        left="half-installed docker.io",
    ),
    Point(
        "Docker: it is seen to run",
        start=CONTAINER,
        cut="kill",
        operation="Docker | Start Docker",
    ),
    Point(
        "caches: the folders are made",
        start="engine",
        cut="kill",
        operation="Caches | Create cache directories",
    ),
    Point(
        "image: it is pulled (killed)",
        start="engine",
        cut="kill",
        operation=IMAGE,
        line="Pulling fs layer",
    ),
    Point(
        "image: it is pulled (network)",
        start="engine",
        cut="network",
        operation=IMAGE,
        line="Pulling fs layer",
    ),
    Point(
        "image: it is unpacked",
        start="engine",
        cut="power",
        operation=IMAGE,
        when="compgen -G '/var/lib/docker/overlay2/*/diff/usr' >/dev/null",
    ),
    Point(
        "service: the environment file is written",
        start="engine",
        cut="kill",
        operation="vLLM | vllm-gemma4: write the environment file",
        when="test -e /etc/ojai/vllm-gemma4.env.ojai-new",
    ),
    Point(
        "service: the unit is written",
        start="engine",
        cut="kill",
        operation=UNIT,
        when="test -e /etc/systemd/system/vllm-gemma4.service.ojai-new",
    ),
    Point(
        "service: the unit is there, not started",
        start="engine",
        cut="kill",
        operation=RUN,
        left="unit: disabled",
    ),
    Point(
        "service: systemd knows it, not started",
        start="engine",
        cut="kill",
        operation=RUN,
        when=f"test -e {WANTS}",
        left="unit: enabled",
    ),
    Point(
        "service: it is waited for (killed)",
        start="engine",
        cut="kill",
        operation=WAIT,
        line="waiting for /health",
        delay=1,
        left="unit: enabled",
    ),
    Point(
        "service: it is waited for (network)",
        start="engine",
        cut="network",
        operation=WAIT,
        line="waiting for /health",
        delay=1,
        left="unit: enabled",
    ),
    Point(
        "service: it is waited for (power)",
        start="engine",
        cut="power",
        operation=WAIT,
        line="waiting for /health",
        delay=1,
        left="unit: enabled",
    ),
    Point(
        "service: the healthy release is kept",
        start="engine",
        cut="kill",
        operation=KEEP,
        left="unit: enabled",
    ),
)


def named(name: str) -> Point:
    """The point of this name."""
    return next(point for point in POINTS if point.name == name)
