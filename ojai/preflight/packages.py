"""What stands in the way of packages: apt sources, ROCm trees, holds, conflicts."""

from __future__ import annotations

from collections.abc import Iterator

from ojai import kernels, systems
from ojai.facts.report import Report
from ojai.facts.report.apt import Source
from ojai.preflight import FailedCheck
from ojai.preflight.docker import engine_source, package_names
from ojai.settings import HostSettings

#: The only apt source of AMD's on a host that this project manages.
ROCM_SOURCE = "/etc/apt/sources.list.d/ojai-rocm.sources"

#: Docker's, where the owner has none.
DOCKER_SOURCE = "/etc/apt/sources.list.d/ojai-docker.sources"
DOCKER_KEYRING = "/etc/apt/keyrings/ojai-docker.gpg"

#: What a signing key is downloaded and read with.
TOOLS = ("ca-certificates", "curl", "gpg")

#: Priority of our pin.
_OUR_PIN = 600

#: Ends of the names of our files of pins: they say what the inventory and its lock say.
OUR_PINS = ("/ojai-rocm-pin-600", "/ojai-lock")

#: apt, of a package that none of its lists has.
_NOT_FOUND = "Unable to locate package"

#: Package lists older than this (seconds) are read again before anything is installed: they foretell nothing.
_FORETELLS = 86_400


def rocm_packages(settings: HostSettings) -> tuple[str, ...]:
    """AMD's packages."""
    return (*settings.rocm_packages, *(["migraphx"] if settings.rocm_migraphx else []))


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why apt's sources, or the ROCm that is there, will not do."""
    yield from _trees(settings, report)
    yield from _rocm_sources(settings, report)
    yield from _docker_sources(settings, report)
    yield from _readable(settings, report)
    yield from _pins(settings, report)
    yield from _holds(settings, report)
    yield from _needs(settings, report)
    yield from _refusals(settings, report)
    yield from _kernels(settings, report)


def warnings(settings: HostSettings, report: Report) -> Iterator[str]:
    """Breakage that is not ours, and that is left as it is."""
    engine = package_names(settings, report.engine) if report.engine.ours or not report.engine.there else ()
    ours = {*report.apt.ours, settings.kernel_package, *TOOLS, *rocm_packages(settings), *engine}
    for name, needed in report.apt.unmet.items():
        if name not in ours and not ours.intersection(needed):
            yield f"the package {name} lacks {', '.join(needed)}; it is not ojai's, and is left as it is"
    for name in report.apt.broken:
        if name not in ours:
            yield f"dpkg left the package {name} half done; it is not ojai's, and is left as it is"


def _trees(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    release = settings.channel.release
    # The packages of a tree that ojai installed are replaced, and the tree with them.
    other = [
        tree for tree in report.rocm_trees if tree != f"/opt/rocm-{release}" and "rocm-core" not in report.apt.ours
    ]
    if len(report.rocm_trees) > 1 or other:
        yield FailedCheck(
            "ROCm trees",
            ", ".join(f"{tree} (a folder, no link)" if tree == "/opt/rocm" else tree for tree in report.rocm_trees),
            f"one tree under /opt at most, /opt/rocm-{release}, with /opt/rocm as a link to it",
            "remove the others, or move them away; two HIP runtimes side by side end in false out-of-memory errors",
        )


def foreign_rocm_sources(settings: HostSettings, report: Report) -> tuple[Source, ...]:
    """AMD's sources, or those of a mirror, that ojai did not write."""
    ours = {address for address, _ in _archives(settings)}
    return tuple(
        source
        for source in report.apt.sources
        if source.file != ROCM_SOURCE and (source.kind == "rocm" or source.archive[0] in ours)
    )


def _archives(settings: HostSettings) -> list[tuple[str, str]]:
    channel = settings.channel
    mirror = channel.mirror.partition("://")[2].rstrip("/")
    return [(f"{mirror}/{path}", channel.suite) for path in (channel.rocm_path, channel.graphics_path)]


def equivalent(settings: HostSettings, source: Source) -> bool:
    """Whether a source of AMD's is for the release and suite of the inventory, whatever its key and its mirror.

    So is the archive of that release's driver, which AMD's installer adds and no APU needs.
    """
    channel = settings.channel
    paths = (channel.rocm_path, channel.graphics_path, f"amdgpu/{settings.rocm_channel}/ubuntu", channel.driver_path)
    address, suite = source.archive
    return suite == channel.suite and any(address.endswith(f"/{path}") for path in paths)


def equivalent_files(settings: HostSettings, report: Report) -> tuple[str, ...]:
    """Files that have nothing in force but :func:`equivalent` sources: ours says the same."""
    theirs = {source for source in foreign_rocm_sources(settings, report) if equivalent(settings, source)}
    others = {source.file for source in report.apt.sources if source not in theirs}
    return tuple(sorted({source.file for source in theirs} - others))


def _rocm_sources(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    foreign = foreign_rocm_sources(settings, report)
    if foreign and not settings.adopt:  # adoption judges each of them
        same = {source.file for source in foreign} <= set(equivalent_files(settings, report))
        removes = "`amdgpu-install --uninstall` removes its own"
        yield FailedCheck(
            "ROCm apt sources",
            _shown(foreign),
            f"only this project's {ROCM_SOURCE}",
            "set `adopt: true`: they are of the same release, and are set aside until removal"
            if same
            else f"remove or disable those files ({removes}), or set another rocm_channel; two sources mix releases",
        )


def _shown(sources: tuple[Source, ...]) -> str:
    return "; ".join(
        f"{source}{f', of the package {source.package}' if source.package else ''}" for source in dict.fromkeys(sources)
    )


def foreign_docker_sources(settings: HostSettings, report: Report) -> tuple[Source, ...]:
    """Sources of packages in Docker's archive, or in a mirror of it, that ojai did not write."""
    ours = settings.docker_mirror.partition("://")[2].rstrip("/")
    return tuple(
        source
        for source in report.apt.sources
        if source.file != DOCKER_SOURCE
        and source.architectures != ("source",)
        and (source.kind == "docker" or source.archive[0] == ours)
    )


def usable_docker_source(settings: HostSettings, report: Report) -> Source | None:
    """The owner's own source of Docker's archive, if it does what ours would do: then ours is not written."""
    for source in foreign_docker_sources(settings, report):
        if not _docker_faults(settings, source):
            return source
    return None


def _docker_faults(settings: HostSettings, source: Source) -> list[str]:
    """What keeps a source of Docker's archive from doing what ours would do."""
    suite, key = systems.reference().docker_suite, settings.docker_key_fingerprint.replace(" ", "").upper()
    faults = []
    if source.archive[1] != suite:
        faults.append(f"its suite is {source.suite}, not {suite}")
    if "stable" not in source.components:
        faults.append("it is without the component stable")
    if source.architectures and "amd64" not in source.architectures:
        faults.append(f"it is of {', '.join(source.architectures)}, not amd64")
    if key not in source.keys:
        faults.append(f"its key is {', '.join(source.keys) or 'absent, expired or unreadable'}, not {key}")
    return faults


def _docker_sources(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    foreign = foreign_docker_sources(settings, report)
    if engine_source(settings, report.engine) != "docker" or not report.engine.ours:
        return
    if not foreign or usable_docker_source(settings, report):
        return
    todo = "correct that file, or disable it and let ojai write its own"
    yield FailedCheck(
        "Docker apt sources",
        "; ".join(f"{source}: {' and '.join(_docker_faults(settings, source))}" for source in foreign),
        "none, or one that can be used as it is",
        "`sudo apt install gpg`, without which its key cannot be read" if report.apt.no_gpg else todo,
    )


def _readable(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """No package can be installed while one source cannot be read. Ours are written anew, or removed."""
    broken = [
        f"{file}: {why}" for file, why in report.apt.unreadable.items() if file not in (ROCM_SOURCE, DOCKER_SOURCE)
    ]
    conflict = report.apt.conflict
    needed = engine_source(settings, report.engine) == "docker" and report.engine.ours
    removed = not needed or usable_docker_source(settings, report)
    if not broken and conflict and not report.apt.unreadable and not (DOCKER_KEYRING in conflict and removed):
        broken = [conflict]
    if broken:
        yield FailedCheck(
            "apt sources",
            f"apt saying {'; '.join(broken)}",
            "sources that apt can read",
            "correct them until `sudo apt-get update` succeeds",
        )


def _pins(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Pins of others that prefer another version. Before ours is there, only those that name a package are known."""
    # It gives Ubuntu's archive and AMD's, which share a suite, the same priority, above that of our pin.
    if report.apt.default_release and not report.apt.candidates and rocm_packages(settings):
        yield FailedCheck(
            "apt pins",
            f'APT::Default-Release "{report.apt.default_release}", with which apt passes over pins below 990',
            "none, so that AMD's packages are preferred to Ubuntu's of the same name",
            "remove that line from /etc/apt/apt.conf or /etc/apt/apt.conf.d (`apt-config dump | grep Default-Release`)",
        )
    for name in rocm_packages(settings):
        offered, candidate = report.apt.offers.get(name), report.apt.candidates.get(name)
        pins = [
            file
            for file, found in report.apt.pins.items()
            if not file.endswith(OUR_PINS) and any(_prefers_another(one, name) for one in found)
        ]
        wrong = candidate not in (offered, report.apt.installed.get(name)) if candidate else bool(pins)
        if wrong:
            by = ", ".join(pins) or "a pin that does not name it"
            yield FailedCheck(
                "apt pins",
                f"{name} {candidate or 'of another archive'} preferred by {by}",
                f"AMD's {offered or name}",
                "remove that pin, or take the package out of rocm_packages",
            )


def _prefers_another(stanza: str, name: str) -> bool:
    """Whether a pin names a package, and prefers it from elsewhere than AMD's archive to what our pin prefers."""
    fields = {key.strip().lower(): value.strip() for key, _, value in (one.partition(":") for one in stanza.split(";"))}
    priority = fields.get("pin-priority", "")
    named = name in fields.get("package", "").split()
    return named and "radeon" not in fields.get("pin", "") and priority.isdigit() and int(priority) > _OUR_PIN


def _of_channel(settings: HostSettings, name: str, report: Report) -> bool:
    """Whether the installed version of a package of AMD's is what its archive has, or of its release."""
    version = report.apt.installed[name]
    offered = report.apt.offers.get(name)
    major, minor, patch = settings.channel.release.split(".")
    return version == offered if offered else f".{major}{int(minor):02}{int(patch):02}-" in version


def _holds(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """A hold stays. It is in the way only of what would have to be installed or changed."""
    rocm = rocm_packages(settings)
    for name in report.apt.held:
        version = report.apt.installed.get(name)
        if not report.engine.ours and name in package_names(settings, report.engine):
            continue
        if version and (name not in rocm or _of_channel(settings, name, report)):
            continue
        yield FailedCheck(
            "packages on hold",
            f"{name} {version}" if version else f"{name}, which is not installed",
            f"that of ROCm {settings.rocm_channel}" if name in rocm else "none on hold that has to be installed",
            f"`sudo apt-mark unhold {name}`, or take it out of the inventory",
        )


def _needs(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What AMD's packages would replace, and others need by its version, while AMD's own version is not known."""
    rocm = rocm_packages(settings)
    for name in rocm:
        if name not in report.apt.installed or name in report.apt.offers or _of_channel(settings, name, report):
            continue
        for other, needed in report.apt.needs.items():
            relations = [one for one in needed if one.split(" ")[0].split(":")[0] == name]
            if relations and other not in rocm:
                yield FailedCheck(
                    "packages that need another ROCm",
                    f"{other}, which depends on {', '.join(relations)}",
                    f"none that depends on a version of {name} other than AMD's",
                    f"remove {other} if nobody needs it, or take {name} out of rocm_packages",
                )


def _docker_is_known(settings: HostSettings, report: Report) -> bool:
    """Whether apt has a source of Docker's archive, the owner's or ours."""
    ours = any(source.file == DOCKER_SOURCE for source in report.apt.sources)
    return ours or bool(foreign_docker_sources(settings, report))


def _refusals(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """What apt says to the installation of what is missing, removing nothing."""
    stale = report.apt.lists_age is None or report.apt.lists_age > _FORETELLS
    # The host is asked about Ubuntu's before it is known that it has Docker's.
    kept = settings.docker_source == "auto" and engine_source(settings, report.engine) == "docker"
    for what, refusal in report.apt.refusals.items():
        # No package is installed for an engine of the owner's; what containerd excludes is told with the engine.
        told = report.engine.containerd.package if report.engine.containerd else ""
        another = what == "Docker" and (not report.engine.ours or refusal.removes == (told,) or kept)
        # The deploy completes what it left half done itself.
        own = not report.apt.ours.isdisjoint(report.apt.broken)
        # Docker's own archive is added before its packages are installed.
        unknown = [why for why in refusal.why if why.endswith(" has no installation candidate") or _NOT_FOUND in why]
        archive = engine_source(settings, report.engine)
        added = what == "Docker" and archive == "docker" and not _docker_is_known(settings, report)
        if unknown and added:
            continue
        if another or ((stale or own) and not refusal.removes and not (refusal.lacks and not own)):
            continue
        names = " ".join(refusal.removes)
        yield FailedCheck(
            "apt",
            f"what is missing for {what} cannot be installed: "
            + (f"it excludes {names}" if names else "; ".join([*refusal.lacks, *refusal.why])),
            "packages that can be installed without removing one",
            f"remove {names} yourself if nobody needs it, or choose other packages"
            if names
            else "`apt-cache policy NAME` on the host: enable the component that has it (`sudo add-apt-repository "
            "universe`), or remove the pin that keeps apt from it"
            if unknown
            else "mend that, until `sudo apt-get check` and `sudo apt-get update` succeed",
        )


def _kernels(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """A metapackage that brings a kernel of another flavour, as a transitional one does."""
    found, flavour = report.apt.kernels, settings.kernel_flavour
    if found and not kernels.newest(found, flavour):
        own = systems.reference()
        others = sorted({release.rpartition("-")[2] for release in found})
        yield FailedCheck(
            "kernel package",
            f"{settings.kernel_package}, which brings {', '.join(found)}",
            f"one that brings a kernel of the flavour {flavour}",
            f"set kernel_package, {own.kernel_package} for the flavour {own.kernel_flavour}, or set kernel_flavour to "
            f"{' or '.join(others)}",
        )
