"""What somebody set up by hand: what it is, whether it is in the way, and what adoption does with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ojai import profiles
from ojai.engines import ResolvedService
from ojai.facts.docker import CREATION, Image
from ojai.facts.report import Report
from ojai.facts.report.owner import Container, Folder, Unit, Weights
from ojai.memory import DEFAULT_UTILIZATION, over_reserved
from ojai.paths import SYSCTL_DROP_IN
from ojai.preflight import FailedCheck, packages
from ojai.settings import HostSettings
from ojai.settings.host import channels

#: Cache that is copied for its image instead of being used where it is: another image's results are invalid.
TUNED = "tunableop"

#: Ubuntu's own link to /etc/sysctl.conf.
_SYSCTL_CONF = "/etc/sysctl.d/99-sysctl.conf"


@dataclass(frozen=True)
class Finding:
    """A row of the table.

    + what: what it is
    + in_the_way: the deploy cannot go on beside it
    + plan: what adoption does with it
    + contradiction: why it is left as it is, although it would be taken over: it says otherwise than the inventory
    """

    what: str
    in_the_way: bool
    plan: str
    contradiction: str = ""


@dataclass(frozen=True)
class Taken:
    """What adoption takes over.

    + drop_ins, sources: files that are set aside, since ours say the same
    + containers, units: servers that give way to ours; a container of a unit is among both
    + folders: caches that are used where they are, by name
    + tuned: file of TunableOp's -> key of the image that it belongs to
    """

    drop_ins: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()
    units: tuple[Unit, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    tuned: Mapping[str, str] = field(default_factory=dict)

    def unit_of(self, container: Container) -> str:
        """The unit among them that runs a container, empty without one."""
        units = (unit.name for unit in self.units if unit.active == "active" and _starts(unit, container))
        return next(units, "")


def judge(settings: HostSettings, report: Report) -> tuple[list[Finding], Taken]:
    """Every finding on a host, and what of it adoption takes over."""
    drop_rows, drop_ins = _drop_ins(settings, report)
    source_rows, sources = _sources(settings, report)
    pin_rows = list(_pins(settings, report))
    server_rows, containers, units = _servers(settings, report)
    cache_rows, folders = _caches(settings, report, containers)
    tuned_rows, tuned = _tuned(report, containers)
    findings = [*server_rows, *cache_rows, *tuned_rows, *source_rows, *pin_rows, *drop_rows]
    return findings, Taken(drop_ins, sources, containers, units, folders, tuned)


def findings(settings: HostSettings, report: Report) -> list[Finding]:
    """The rows of the table."""
    return judge(settings, report)[0]


def table(rows: Sequence[Finding]) -> list[str]:
    """The findings as lines of text, with a heading."""
    cells = [("set up by hand", "in the way", "what `adopt: true` does")]
    cells += [
        (
            row.what,
            "yes" if row.in_the_way else "no",
            f"{row.plan} ({row.contradiction})" if row.contradiction else row.plan,
        )
        for row in rows
    ]
    widths = [max(len(cell[column]) for cell in cells) for column in (0, 1)]
    return [f"{what:<{widths[0]}} | {way:<{widths[1]}} | {plan}" for what, way, plan in cells]


def failed(settings: HostSettings, report: Report) -> Iterator[FailedCheck]:
    """Why the host is refused: what is in the way and may not be taken over, or says otherwise than the inventory."""
    elsewhere = () if settings.adopt else _sources(settings, report)[0]  # `packages` refuses them
    for row in findings(settings, report):
        if row in elsewhere:
            continue
        if row.in_the_way and row.contradiction:
            yield FailedCheck("set up by hand", f"{row.what}: {row.contradiction}", "what the inventory says", row.plan)
        elif row.in_the_way and not settings.adopt:
            todo = f"set `adopt: true` in the inventory ({row.plan}; removal gives it back), or remove it yourself"
            yield FailedCheck("set up by hand", row.what, "nothing in the way of this deploy", todo)


def _words(value: object) -> list[str]:
    return str(value).split()


def _drop_ins(settings: HostSettings, report: Report) -> tuple[list[Finding], tuple[str, ...]]:
    files: dict[str, list[tuple[str, str]]] = {}
    for file, key, value in report.owner.sysctl.settings:
        files.setdefault(file, []).append((key, value))
    rows, taken = [], []
    later = {entry[0] for entry in report.owner.sysctl.after(SYSCTL_DROP_IN)}
    for file, entries in files.items():
        said = {key: value for pattern, value in entries for key in settings.sysctl if fnmatchcase(key, pattern)}
        if file == SYSCTL_DROP_IN or not said or not file.startswith("/etc/"):
            continue
        what = f"kernel parameters {file} ({', '.join(f'{key} = {value}' for key, value in sorted(said.items()))})"
        other = {key for key, value in said.items() if _words(value) != _words(settings.sysctl[key])}
        wanted = ", ".join(f"{key} = {settings.sysctl[key]}" for key in sorted(other))
        if other and file in later:
            plan = "remove that line, or set `sysctl` in the inventory to what it should be"
            rows.append(Finding(what, True, plan, f"it is read after ours, which says {wanted}"))
        elif other:
            rows.append(Finding(what, False, "nothing", f"ours says {wanted} and is read after it"))
        elif file in (*report.owner.links, _SYSCTL_CONF):
            rows.append(Finding(what, False, "nothing: it says the same, and is a link to a file of its own"))
        elif {key for key, _ in entries} <= settings.sysctl.keys() and file.startswith("/etc/sysctl.d/"):
            taken.append(file)
            rows.append(Finding(what, False, "replaces it by its own, which says the same"))
        else:
            rows.append(Finding(what, False, "nothing: it says the same, and more"))
    return rows, tuple(taken)


def _sources(settings: HostSettings, report: Report) -> tuple[list[Finding], tuple[str, ...]]:
    foreign = packages.foreign_rocm_sources(settings, report)
    taken = packages.equivalent_files(settings, report)
    rows = []
    for file in dict.fromkeys(source.file for source in foreign):
        mine = [source for source in foreign if source.file == file]
        package = next((f", of the package {source.package}" for source in mine if source.package), "")
        addresses = ", ".join(dict.fromkeys(source.archive[0] for source in mine))
        what = f"apt source {file} ({addresses}{package})"
        if file in taken:
            rows.append(
                Finding(what, True, "sets it aside and writes its own for the same release; keys and pins stay")
            )
        elif all(packages.equivalent(settings, source) for source in mine):
            plan = "move AMD's lines to a file of their own, or delete them"
            rows.append(Finding(what, True, plan, "it names other archives too"))
        else:
            plan = f"remove it, or set rocm_channel to the release that you want: {', '.join(channels())}"
            rows.append(Finding(what, True, plan, f"the inventory says ROCm {settings.rocm_channel}"))
    return rows, taken


def _pins(settings: HostSettings, report: Report) -> Iterator[Finding]:
    names = {*settings.rocm_packages, "rocm-core"}
    for pin in report.owner.pins:
        release = re.match(r"version\s+(\S+)", pin.pin)
        concerns = any(fnmatchcase(name, pattern) for name in names for pattern in pin.package.split())
        forbids = pin.priority < 0 or (release and concerns and pin.priority > 600)
        if forbids and not pin.file.endswith(packages.OUR_PINS):
            what = f"apt pin {pin.file} ({pin.package}: {pin.pin}, priority {pin.priority})"
            yield Finding(
                what, True, "remove that stanza", "it keeps apt from installing the packages of the inventory"
            )


def _is_ours(report: Report, container: Container) -> bool:
    """Whether the unit of its name is ours and made it: not one that somebody started by hand under that name."""
    unit = f"{container.name}.service"
    if unit not in report.owner.ours:
        return False
    if not container.up:
        return container.removes  # what a power cut leaves of ours
    since, created = report.owner.ours[unit], _seconds(container.created)
    return bool(since and created and container.removes and since - 2 <= created <= since + CREATION)


def _seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _serves_engine(container: Container, service: ResolvedService) -> bool:
    """Whether its image is one of the engine's, or it runs the engine."""
    engine = service.engine.name
    able = [name for name in profiles.names() if engine in profiles.served_by(name)]
    repositories = {profiles.load(name, engine=engine).image.partition(":")[0] for name in able}
    name = container.image.partition("@")[0].partition(":")[0]
    program = " ".join((*container.entrypoint, *container.argv[:1]))
    return name in repositories or service.engine.name in name or service.engine.name in program


def _model(container: Container) -> str:
    """The model that it is told to serve: ``serve MODEL``, ``MODEL`` or ``--model MODEL``."""
    text = " ".join(container.words)
    found = re.search(r"--model[ =](\S+)", text) or re.search(r"\bserve ([^-\s]\S*)", text)
    first = next(iter(container.argv), "-")
    return found[1].strip("'\"") if found else "" if first.startswith("-") else first


def _elsewhere(settings: HostSettings, report: Report, container: Container, service: ResolvedService) -> str | None:
    """The host's folder that a container serves, where the service would have other weights or download its own."""
    model = _model(container)
    place = container.folder(model) if model.startswith("/") else None
    repository = service.model_directory.rpartition("/")[2]
    held = any(one.repository == repository and one.state == "complete" for one in report.owner.weights)
    if place is None or held or service.model_directory in report.models:
        return None
    folders = {**_mounted(container, service), **settings.cache_folders}
    cache, _, rest = service.engine.model_directory(service.model).partition("/")
    return None if f"{folders.get(cache)}/{rest}" == place.rstrip("/") else place.rstrip("/")


def _holds_port(container: Container, port: int) -> bool:
    """Whether it has this port of the host, or will at the next start of Docker."""
    return port in container.ports and (container.up or container.restart == "always")


def _servers(settings: HostSettings, report: Report) -> tuple[list[Finding], tuple[Container, ...], tuple[Unit, ...]]:
    rows: list[Finding] = []
    containers: list[Container] = []
    units: list[Unit] = []
    beside: dict[str, tuple[str, Sequence[str]]] = {}
    strangers = [one for one in report.owner.containers if not _is_ours(report, one)]
    for container in strangers:
        named = next((one for one in settings.resolved if one.name == container.name), None)
        holding = next((one for one in settings.resolved if _holds_port(container, one.port)), None)
        service = holding or named
        what = _container_words(container)
        if service is None:
            engines = [one for one in settings.resolved if _serves_engine(container, one)]
            if engines and (container.up or container.restart == "always"):
                beside[container.name] = (what, container.words)
            continue
        model = _model(container)
        if not _serves_engine(container, service):
            plan = f"stop or rename it yourself, or give {service.name} another name and port"
            rows.append(Finding(what, True, plan, f"it is no server of {service.engine.name}"))
        elif container.up and model and model != service.model and not model.startswith("/"):
            plan = f"stop it yourself, or set the service's profile or model to {model}"
            rows.append(Finding(what, True, plan, f"it serves {model}; the inventory says {service.model}"))
        elif container.up and (place := _elsewhere(settings, report, container, service)):
            folder, _, name = place.rpartition("/")
            plan = (
                f"set the service's model to {service.engine.mounts['models']}/{name} and cache_folders.models to "
                f"{folder}, or stop the container yourself: {service.model} is downloaded then"
            )
            rows.append(Finding(what, True, plan, f"it serves the folder {place}; the inventory says {service.model}"))
        else:
            containers.append(container)
            rows.append(Finding(what, True, _container_plan(container, service)))
    for unit in report.owner.units:
        if unit.enabled not in ("enabled", "enabled-runtime") and unit.active not in ("active", "activating"):
            continue
        starts = [one for one in strangers if _starts(unit, one)]
        service = next((one for one in settings.resolved if _unit_wants(unit, one)), None)
        if not service and not any(one in containers for one in starts):
            if not starts and re.search(r"\bvllm serve\b|\bvllm\.entrypoints\b|/vllm-openai", unit.words):
                beside[unit.name] = (f"unit {unit.name} ({unit.path})", unit.words.split())
            continue
        what = f"unit {unit.name} ({unit.enabled}, {unit.active}; {unit.path})"
        if unit.account:
            plan = f"as {unit.account}: `systemctl --user disable --now {unit.name}`"
            rows.append(
                Finding(what, True, plan, f"it is a unit of {unit.account}'s own systemd, which ojai leaves alone")
            )
        elif starts and not any(one in containers for one in starts) and any(one.up for one in starts):
            rows.append(
                Finding(what, True, "disable it yourself", f"it starts {starts[0].name}, which is left as it is")
            )
        else:
            units.append(unit)
            rows.append(Finding(what, True, "disables and stops it just before its own server starts"))
    rows += _beside(settings, beside)
    return rows, tuple(containers), tuple(units)


def _beside(settings: HostSettings, others: Mapping[str, tuple[str, Sequence[str]]]) -> Iterator[Finding]:
    """Servers that stay, by name: row and command. Theirs and ours share one GPU."""
    shares = {one.name: one.share for one in settings.resolved}
    for name, (_, words) in others.items():
        given = re.findall(r"--gpu[-_]memory[-_]utilization[ =]+['\"]?(\d*\.?\d+)", " ".join(words))
        shares[name] = float(given[-1]) if given else DEFAULT_UTILIZATION
    reason = over_reserved(shares) if settings.resolved else None
    for name, (what, _) in others.items():
        if reason:
            plan = f"stop {name} and keep it from starting at boot, or lower gpu_memory_utilization of each"
            yield Finding(what, True, plan, reason.partition("; expected")[0])
        else:
            yield Finding(what, False, "nothing: it has another name and port, and its share of GPU memory is free")


def _unit_wants(unit: Unit, service: ResolvedService) -> bool:
    """Whether a unit's command has the name of the service's container, or its port where it listens."""
    port = rf"(--port[ =]|-p ?(\S*:)?|--publish[ =](\S*:)?){service.port}(?!\d)"
    return bool(unit.names(service.name) or (service.engine.name in unit.words and re.search(port, unit.words)))


def _starts(unit: Unit, container: Container) -> bool:
    """Whether a unit's command has the name of a container, or the folder of its compose project."""
    if unit.names(container.name):
        return True
    folder = container.labels.get("com.docker.compose.project.working_dir", "")
    return bool(folder) and (unit.folder == folder or folder in unit.words)


def _container_words(container: Container) -> str:
    details = [container.image, f"port {container.ports[0]}" if container.ports else "no port", container.status]
    details += ["--rm"] if container.removes else []
    details += [f"restart {container.restart}"] if container.restart != "no" else []
    details += [f"compose {container.compose}"] if container.compose else []
    return f"container {container.name} ({', '.join(details)})"


def _container_plan(container: Container, service: ResolvedService) -> str:
    if container.removes:
        return f"keeps its configuration, and stops it just before {service.name} starts"
    renamed = f", and renames it to {renamed_to(container.name)}" if container.name == service.name else ""
    return f"stops it just before {service.name} starts{renamed}"


def renamed_to(name: str) -> str:
    """The name of a container of the owner's while a service has its own."""
    return f"{name}-before-ojai"


def _unmounted(report: Report, path: str) -> str | None:
    """The mount point of fstab that ``path`` is under, where nothing is mounted now."""
    points = [point for point in report.owner.unmounted if point != "/" and PurePosixPath(path).is_relative_to(point)]
    return max(points, key=len, default=None)


def _caches(
    settings: HostSettings, report: Report, containers: Sequence[Container]
) -> tuple[list[Finding], dict[str, str]]:
    """Caches that are used where they are: what a server that is taken over has mounted, else a home's with weights."""
    rows = [*_named_caches(settings, report)]
    if all(_cache(service) in settings.cache_folders for service in settings.resolved):
        return rows, {}
    # Weights of our own are there already: nobody else's are asked for.
    if all(service.model_directory in report.models for service in settings.resolved):
        return rows, {}
    service = settings.resolved[0]
    mounted = next((found for one in containers if (found := _mounted(one, service))), {})
    if mounted:
        rows += _used(settings, report, mounted, "as its container has it")
        return rows, {} if any(row.contradiction for row in rows) else mounted
    wanted = {service.model_directory.rpartition("/")[2] for service in settings.resolved}
    having = [one for one in report.owner.weights if one.repository in wanted]
    # What is complete goes before a download that was cut off.
    having = [one for one in having if one.state != "partial"] or having
    homes = _homes_with(report, having)
    if len(homes) > 1:
        for account, folders in homes.items():
            what = f"weights in {folders['huggingface']} ({account}: {_names(having, folders['huggingface'])})"
            plan = "name the one to use in the inventory, such as `cache_folders: {huggingface: …}`"
            rows.append(Finding(what, settings.adopt, plan, "more than one account has them"))
        return rows, {}
    for account, folders in homes.items():
        rows += _used(settings, report, folders, f"of {account}")
        return rows, {} if any(row.contradiction for row in rows) else folders
    # A link into nowhere: the disk with the weights may not be mounted now.
    for folder in report.owner.folders:
        if folder.account and folder.name == "huggingface" and not folder.owner:
            plan = "mount it, or remove the link"
            rows.append(
                Finding(f"cache {folder.path}", settings.adopt, plan, f"it leads to {folder.real}, where nothing is")
            )
    return rows, {}


def _named_caches(settings: HostSettings, report: Report) -> Iterator[Finding]:
    """Caches that the inventory names, where something is wrong with them."""
    for folder in report.owner.folders:
        if folder.account or settings.cache_folders.get(folder.name) != folder.path:
            continue
        point = _unmounted(report, folder.real)
        if point or not folder.owner:
            why = f"{point} is not mounted" if point else "no such folder"
            plan = "mount it" if point else f"create it, or correct cache_folders.{folder.name}"
            yield Finding(f"cache {folder.path}", True, plan, why)
    named = settings.cache_folders.get("huggingface", "")
    held = [one.folder for one in report.owner.weights]
    # A level above or below the one that was meant.
    meant = [named.removesuffix("/hub"), f"{named}/huggingface"]
    near = next((folder for folder in held for each in meant if _same_place(report, folder, each)), None)
    if named and near and not any(_same_place(report, folder, named) for folder in held):
        plan = f"set cache_folders.huggingface to {near}"
        yield Finding(f"cache {named}", True, plan, f"it has no weights, but {near}/hub has")


def _names(weights: Sequence[Weights], folder: str) -> str:
    found = [one.repository.removeprefix("models--").replace("--", "/") for one in weights if one.folder == folder]
    return ", ".join(found)


def _mounted(container: Container, service: ResolvedService) -> dict[str, str]:
    """The host's folders of the caches that a container has mounted; the hub's variable can move one."""
    places = {**service.engine.mounts}
    if home := container.environment.get("HF_HOME"):
        places["huggingface"] = home
    found = {name: container.folder(inside) for name, inside in places.items() if name != TUNED}
    folders = {name: path for name, path in found.items() if path}
    return folders if _cache(service) in folders else {}


def _cache(service: ResolvedService) -> str:
    """The cache that its weights are in."""
    return service.engine.model_directory(service.model).partition("/")[0]


def _homes_with(report: Report, having: Sequence[Weights]) -> dict[str, dict[str, str]]:
    """Account -> its folders by name, for the accounts that have the weights; folders that are one count once."""
    homes: dict[str, dict[str, str]] = {}
    seen = set()
    for folder in _accounts(report):
        if (
            folder.name == "huggingface"
            and any(one.folder == folder.path for one in having)
            and folder.real not in seen
        ):
            seen.add(folder.real)
            homes[folder.account] = {
                other.name: other.real
                for other in _accounts(report)
                if other.account == folder.account and other.name != TUNED and other.owner
            }
    return homes


def _accounts(report: Report) -> list[Folder]:
    return [folder for folder in report.owner.folders if folder.account]


def _used(settings: HostSettings, report: Report, folders: Mapping[str, str], whose: str) -> Iterator[Finding]:
    """A row for each cache that is used where it is, or why that cannot be."""
    wanted = {service.model_directory.rpartition("/")[2] for service in settings.resolved}
    for name, path in folders.items():
        if name in settings.cache_folders:
            continue
        held = {one.repository: one.state for one in report.owner.weights if _same_place(report, one.folder, path)}
        states = [state for repository, state in held.items() if repository in wanted]
        token = ", token" if any(_same_place(report, one, path) for one in report.owner.tokens) else ""
        weights = (
            f", weights {states[0]}" if states else ", without the weights wanted" if name == "huggingface" else ""
        )
        what = f"cache {path} ({whose}{weights}{token})"
        point = _unmounted(report, path)
        if point:
            yield Finding(what, settings.adopt, f"mount {point}", f"{point} is not mounted now")
        elif "broken" in states:
            plan = "complete the move of its blobs, or delete that model's folder"
            yield Finding(what, settings.adopt, plan, "it was moved in part: its snapshot has links into nowhere")
        else:
            rest = " and downloads the rest of the weights into it" if "partial" in states else ""
            plan = f"uses it where it is{rest}; owner and mode stay, and removal leaves it"
            if settings.move_adopted_caches:
                place = f"{settings.data_directory}/{name}"
                plan = f"renames it to {place}{rest}, and leaves a link; removal renames it back"
            yield Finding(what, False, plan)


def _same_place(report: Report, one: str, other: str) -> bool:
    real = {folder.path: folder.real for folder in report.owner.folders}
    return real.get(one, one) == real.get(other, other)


def _tuned(report: Report, containers: Sequence[Container]) -> tuple[list[Finding], dict[str, str]]:
    """TunableOp's files: those of a server that is taken over belong to its image; of others nobody knows."""
    rows, taken = [], {}
    for file in report.owner.tuned:
        folder = file.rpartition("/")[0]
        owner = next((one for one in containers if folder in one.mounts.values() or _within(folder, one)), None)
        if owner:
            taken[file] = Image(owner.image_id, report.owner.images.get(owner.image_id, ())).key
            rows.append(Finding(f"tuning results {file}", False, f"copies them for their image ({taken[file]})"))
        elif containers:
            rows.append(
                Finding(f"tuning results {file}", False, "nothing", "no container says which image they are of")
            )
    return rows, taken


def _within(folder: str, container: Container) -> bool:
    return any(PurePosixPath(folder).is_relative_to(source) for source in container.mounts.values())
