"""ROCm from AMD's apt repository, without installer script or DKMS driver.

Owns the signing key, one source, one pin, the packages, and the loader path.
"""

from pyinfra.api.deploy import deploy
from pyinfra.operations import server

from ojai.operations import adoption, apt, files, ledger
from ojai.preflight.lock import arguments
from ojai.preflight.packages import ROCM_SOURCE, TOOLS, rocm_packages
from ojai.settings import HostSettings

KEYRING = "/etc/apt/keyrings/ojai-rocm.gpg"
PIN = "/etc/apt/preferences.d/ojai-rocm-pin-600"
LOADER = "/etc/ld.so.conf.d/ojai-rocm.conf"


def source_text(settings: HostSettings) -> str:
    """The deb822 source, a stanza for each of AMD's repositories.

    amdgpu/7.2/ubuntu, which some guides add, does not exist: the driver is part of the kernel.
    """
    channel = settings.channel
    paths = [channel.rocm_path, *([channel.graphics_path] if settings.rocm_graphics else [])]
    stanzas = [
        f"Types: deb\nURIs: {channel.mirror}/{path}\nSuites: {channel.suite}\nComponents: {channel.components}\n"
        f"Architectures: amd64\nSigned-By: {KEYRING}\n"
        for path in paths
    ]
    return f"# Made by ojai: ROCm {settings.rocm_channel}.\n" + "\n".join(stanzas)


def _archive(settings: HostSettings) -> None:
    """Have apt know AMD's archive."""
    channel = settings.channel
    apt.packages(name="Install curl, gpg and CA certificates", names=list(TOOLS))
    apt.keyring(
        name="Install AMD's signing key",
        path=KEYRING,
        url=f"{channel.mirror}/{channel.key_path}",
        fingerprint=channel.key_fingerprint,
        _env=settings.proxies,
    )
    if settings.adopt:
        # Two entries of one archive with two keys, and apt reads no source at all.
        adoption.aside(name="Set aside AMD's other apt sources", paths=list(adoption.taken(settings).sources))
    files.text_file(name="Add the ROCm apt source", path=ROCM_SOURCE, text=source_text(settings))
    files.text_file(
        name="Pin AMD's packages above Ubuntu's",
        path=PIN,
        # From AMD's page: without it, ROCm packages of Ubuntu's universe can be mixed in.
        text=f"# Made by ojai.\nPackage: *\nPin: release o={channel.origin}\nPin-Priority: 600\n",
    )
    apt.lists_updated(name="Update the package lists", inputs=[ROCM_SOURCE, PIN, KEYRING])


@deploy("ROCm")
def apply(*, settings: HostSettings) -> None:
    """Add the source from AMD's page, verify its key, and install the packages that a Docker host needs."""
    channel = settings.channel
    if not settings.local_only:
        _archive(settings)
    apt.packages(
        name="Install ROCm packages",
        names=list(rocm_packages(settings)),
        origin=f"{channel.mirror}/{channel.rocm_path}",
        **arguments(settings, settings.families[2]),
    )
    apt.alternative(name="Point /opt/rocm to the release", group="rocm", link="/opt/rocm")
    files.text_file(
        name="Add ROCm libraries to the loader path",
        path=LOADER,
        text=f"# Made by ojai.\n{channel.tree}/lib\n{channel.tree}/lib64\n",
    )
    files.derived_file(
        name="Refresh the loader cache",
        output="/etc/ld.so.cache",
        inputs=[LOADER],
        command="ldconfig",
        # A newer cache can still be truncated, or made without the drop-in. With an empty cache `ldconfig -p` succeeds
        # and prints nothing.
        sound=f"ldconfig -p | grep -qF '=> /' && for lib in {channel.tree}/lib/*.so.*; do "
        '[ ! -e "$lib" ] || ldconfig -p | grep -qF "=> ${lib%/*}/"; done',
    )


@deploy("ROCm: removal")
def remove(*, settings: HostSettings) -> None:
    """Remove the packages, then loader path, pin, source and key."""
    apt.packages_removed(name="Remove ROCm packages", names=[*settings.rocm_packages, "migraphx"])
    gone = files.absent(name="Remove source, pin, key and loader path", paths=[LOADER, PIN, ROCM_SOURCE, KEYRING])
    server.shell(name="Refresh the loader cache", commands=["ldconfig"], _if=gone.did_change)
    ledger.kept_returned(name="Put back the owner's apt sources", under="/etc/apt/")  # they need their lists
    apt.lists_removed(name="Remove the package lists", uris=[settings.channel.mirror])
    apt.packages_returned(name="Restore replaced packages")
    apt.packages_removed(name="Remove curl, gpg and CA certificates", names=list(TOOLS))
