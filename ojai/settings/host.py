"""Every setting of a host, declared once: name, type, default, meaning, example.

Inventory data is parsed here into frozen settings, and everything else (roles, checks, reference page, schema)
is read from them. Unknown keys are refused with the nearest known one; all faults of a host are reported together.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ojai import accelerators, kernels, profiles, resources
from ojai import sizes as sizes
from ojai.engines import vllm
from ojai.engines.vllm import Command
from ojai.memory.budget import DEFAULT_UTILIZATION
from ojai.paths import ServicePaths
from ojai.profiles import Features
from ojai.profiles.features import OneLine
from ojai.schema.errors import Fault, faults_of, nearest, shown
from ojai.schema.errors import Path as FaultPath
from ojai.schema.expected import Choice, Expected, allowed, kinds
from ojai.settings import connection_data as connection_data

Fingerprint = Annotated[
    str,
    Field(pattern=r"^([0-9A-Fa-f]{40}|([0-9A-Fa-f]{4} +){9}[0-9A-Fa-f]{4})$"),
    Expected("a key's whole fingerprint: 40 hexadecimal digits, spaces between groups of four allowed"),
]
Url = Annotated[
    str,
    Field(pattern=r"^https?://[^\s\"']+[^\s\"'/]$"),
    Expected("an address with http:// or https://, without a slash at its end"),
]
UnixName = Annotated[
    str,
    Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$"),
    Expected("a Linux account: small letters, digits, - and _, at most 32, no digit first"),
]
Package = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$"),
    Expected("a Debian package's name: small letters, digits, +, - and ."),
]
AbsolutePath = Annotated[
    str,
    Field(pattern=r"^/[A-Za-z0-9._/-]*[A-Za-z0-9._-]$"),
    Expected("an absolute path of letters, digits, ., _ and -, without a slash at its end"),
]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$"), Expected("sha256: and 64 hexadecimal digits")]
Bytes = Annotated[
    int,
    BeforeValidator(lambda value: sizes.parse_bytes(value) if isinstance(value, str) else value),
    Expected("an amount of memory or disk such as 64GiB, or a number of bytes"),
]
KernelParameter = Annotated[
    str,
    Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_/-]+)+$"),
    Expected("a kernel parameter with its dots, such as vm.swappiness"),
]


class Channel(BaseModel):
    """One ROCm release line: where its packages are and who signs them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: str
    key_path: str
    key_fingerprint: str
    origin: str
    rocm_path: str
    graphics_path: str
    suite: str
    components: str
    tree: str
    source: str


@cache
def channels() -> dict[str, Channel]:
    """ROCm channels by name, from ``ojai/data/rocm-channels.yaml``."""
    return {name: Channel.model_validate(entry) for name, entry in resources.data("rocm-channels").items()}


def _refuse_flag_for_number(cls: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """YAML's true is no number, though Python takes it for 1."""
    field = cls.model_fields[str(info.field_name)]
    if isinstance(value, bool) and not kinds(field.annotation) & {bool, Any}:
        raise ValueError(f"found {shown(value)}; expected {allowed(field)}")
    return value


#: Units that hosts have anyway, and that a service must not be named like.
SYSTEM_UNITS = frozenset(
    {"containerd", "cron", "dbus", "docker", "networking", "rsyslog", "ssh", "sshd", "udev", "ufw"}
)


#: Where no data folder may be: its owner and mode are set, and removal takes it away.
SYSTEM_FOLDERS = frozenset({"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "usr"})
SYSTEM_STATE = frozenset({"apt", "containerd", "docker", "dpkg", "ojai", "systemd"})


class Service(ServicePaths, Features):
    """One inference server: a profile, a port, and the choices in which it differs from the profile."""

    name: Annotated[str, Expected("small letters, digits and -, a letter first, at most 63")] = Field(
        "vllm-gemma4",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="Name of the systemd unit and of the container.",
        examples=["vllm-gemma4"],
    )
    engine: Literal["vllm"] = Field("vllm", description="The engine that serves the model.", examples=["vllm"])
    profile: Annotated[str, Choice(profiles.names)] = Field(
        "gemma-4-e4b", description="Name of a file in `profiles/`.", examples=["gemma-4-26b-a4b"]
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port of the API.", examples=[8000])
    host: Annotated[str, Expected("an IP address")] = Field(
        "0.0.0.0",
        description="Address to listen on, as in the guides. `127.0.0.1` keeps it off the network: vLLM's API key "
        "guards only part of its endpoints, so put a proxy in front of it before others can reach it.",
        examples=["127.0.0.1"],
    )
    model: OneLine | None = Field(
        None, description="Model id instead of the profile's.", examples=["google/gemma-4-E4B-it"]
    )
    image: Annotated[str | None, Expected("repository:tag, without a digest")] = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$",
        description="Container image instead of the profile's, `repository:tag`.",
        examples=["vllm/vllm-openai-rocm:v0.20.1"],
    )
    image_digest: Digest | None = Field(
        None, description="Digest that the image must have; pulled by it.", examples=["sha256:" + "0" * 64]
    )
    start_timeout: int = Field(
        1800,
        ge=1,
        le=86400,
        description="Seconds that the model may take to load, compile and answer /health.",
        examples=[600],
    )
    stop_timeout: int = Field(
        120, ge=1, le=3600, description="Seconds to stop in: TunableOp writes its file only at exit.", examples=[300]
    )

    _no_flags = field_validator("*", mode="before")(_refuse_flag_for_number)

    @field_validator("host")
    @classmethod
    def _an_address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value))

    @property
    def own_address(self) -> str:
        """Where the host itself reaches the server, as a URL has it."""
        address = ipaddress.ip_address(self.host)
        if address.is_unspecified:
            return "127.0.0.1"
        return f"[{address}]" if address.version == 6 else str(address)

    @field_validator("name")
    @classmethod
    def _not_a_system_unit(cls, value: str) -> str:
        if value in SYSTEM_UNITS or value.startswith("systemd-"):
            raise ValueError(
                f"{value}.service is a unit of the system, which this one would override; take another name"
            )
        return value

    @field_validator("allow")
    @classmethod
    def _known_codes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        faults = [code for code in value or () if code not in profiles.CODES]
        if faults:
            near = nearest(faults[0], profiles.CODES)
            hint = f"the nearest is {near}; " if near else ""
            raise ValueError(f"there is no refusal {faults[0]!r} to allow; {hint}known: {', '.join(profiles.CODES)}")
        return value

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        profiles.load(value)
        return value

    @property
    def features(self) -> Features:
        """The choices alone, without what makes it a service."""
        return Features.model_validate({name: getattr(self, name) for name in Features.model_fields})


def _default_sysctl() -> dict[str, int | str]:
    return {"vm.overcommit_memory": 1}


class HostSettings(BaseModel):
    """All that a host should be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    removed: bool = Field(False, description="Take away what the roles added to this host.", examples=[True])
    removed_data: bool = Field(
        False,
        description="With `removed`: the data folders (models, caches) too. They can be tens of GB to load again.",
        examples=[True],
    )

    accelerator: Annotated[str, Choice(accelerators.names)] = Field(
        "gfx1150", description="The GPU, by LLVM name.", examples=["gfx1151"]
    )

    kernel_package: Package = Field(
        "linux-oem-24.04d",
        description="Kernel metapackage. It has been the 6.17 line since 2026, though AMD's page still says 6.14.",
        examples=["linux-generic-hwe-24.04"],
    )
    kernel_flavour: Annotated[str, Expected("small letters, digits and -, a letter first")] = Field(
        "oem",
        pattern=r"^[a-z][a-z0-9-]*$",
        description="Flavour of that kernel: what `uname -r` ends with.",
        examples=["generic"],
    )
    kernel_floor: Annotated[str | None, Expected("a kernel release such as 6.14.0-1018")] = Field(
        None,
        description="Oldest kernel accepted, base version and ABI number. Unset: AMD's floor for the flavour.",
        examples=["6.14.0-1018"],
    )
    kernel_reboot: Literal["if-required", "never"] = Field(
        "if-required",
        description="Whether the deploy reboots into the kernel; `never` only reports that it is needed.",
        examples=["never"],
    )
    kernel_reboot_timeout: int = Field(600, ge=30, le=7200, description="Seconds a reboot may take.", examples=[900])
    firmware_known_bad: tuple[Annotated[str, Field(min_length=4)], ...] = Field(
        ("20251125",),
        description="Parts of linux-firmware versions that break ROCm; the deploy refuses a host that has one. "
        "20251125 was recalled by AMD.",
        examples=[["20251125"]],
    )

    gpu_users: tuple[UnixName, ...] = Field(
        (), description="Accounts to put into the groups `video` and `render`.", examples=[["ada"]]
    )

    sysctl: dict[KernelParameter, int | OneLine] = Field(
        default_factory=_default_sysctl,
        description="Kernel parameters. vm.overcommit_memory=1 lets vLLM map a 46.5 GB shard privately.",
        examples=[{"vm.overcommit_memory": 1, "vm.swappiness": 10}],
    )

    memory_regime: Literal["carveout", "gtt"] = Field(
        "carveout",
        description="Where the GPU's memory comes from: the BIOS carve-out (the guides), or GTT with a small carve-out "
        "(AMD's advice).",
        examples=["gtt"],
    )
    gtt_limit: Bytes | None = Field(
        None,
        gt=0,
        description="With `gtt`: most memory the GPU may take, never more than the system has.",
        examples=["100GiB"],
    )

    rocm_channel: Annotated[str, Choice(channels)] = Field("7.2", description="ROCm release line.", examples=["7.2.4"])
    rocm_mirror: Url | None = Field(
        None,
        description="Where the packages come from, instead of AMD's server.",
        examples=["https://mirror.example.net/rocm"],
    )
    rocm_key_fingerprint: Fingerprint | None = Field(
        None,
        description="Fingerprint of the signing key, where a mirror signs with its own.",
        examples=["CA8B B472 7A47 B4D0 9B4E E896 9386 B48A 1A69 3C5C"],
    )
    rocm_packages: tuple[Package, ...] = Field(
        ("rocminfo", "amd-smi-lib"),
        description="ROCm packages on the host. The container has its own ROCm; `rocm` is the whole (about 20 GB).",
        examples=[["rocm"]],
    )
    rocm_migraphx: bool = Field(
        False, description="Install `migraphx` too (the E4B guide's NPU sidecar).", examples=[True]
    )
    rocm_graphics: bool = Field(
        True, description="Add AMD's graphics repository (a newer libdrm-amdgpu).", examples=[False]
    )

    docker_source: Literal["ubuntu", "docker"] = Field(
        "ubuntu",
        description="`docker.io` from Ubuntu's archive, or Docker's own packages from its own.",
        examples=["docker"],
    )
    docker_packages: tuple[Package, ...] | None = Field(
        None,
        description="Packages of the engine. Unset: `docker.io`, or Docker's five.",
        examples=[["docker.io", "docker-cli"]],
    )
    docker_mirror: Url = Field(
        "https://download.docker.com/linux/ubuntu",
        description="Docker's apt archive (with `docker_source: docker`).",
        examples=["https://mirror.example.net/docker"],
    )
    docker_key_fingerprint: Fingerprint = Field(
        "9DC858229FC7DD38854AE2D88D81803C0EBFCD88",
        description="Fingerprint of the key that signs Docker's archive.",
        examples=["9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88"],
    )
    docker_registry_mirrors: tuple[Url, ...] = Field(
        (), description="Mirrors of Docker Hub, for a fleet.", examples=[["https://registry.example.net"]]
    )
    docker_log_max_size: Annotated[str, Expected("a number and k, m or g")] = Field(
        "50m", pattern=r"^[1-9]\d*[kmg]$", description="Size at which a container's log turns.", examples=["10m"]
    )
    docker_log_max_file: int = Field(5, ge=1, le=100, description="Turned logs kept for a container.", examples=[3])

    data_directory: AbsolutePath = Field(
        "/srv/ojai",
        description="Folder of the caches: Hugging Face, vLLM, TunableOp, models, workspace.",
        examples=["/data/ojai"],
    )
    data_owner: UnixName = Field(
        "root", description="Owner of the cache folders. The container writes as root.", examples=["ada"]
    )
    data_group: UnixName = Field("root", description="Group of the cache folders.", examples=["render"])
    data_mode: Annotated[str, Expected("three or four octal digits")] = Field(
        "755", pattern=r"^[0-7]{3,4}$", description="Mode of the cache folders.", examples=["2775"]
    )

    image_bytes: Bytes = Field(
        40 * 1024**3,
        ge=0,
        description="Disk space that the image is taken to need, unpacked, when it is not there yet.",
        examples=["50GiB"],
    )

    services: tuple[Service, ...] = Field(
        default_factory=lambda: (Service(),),
        description="The inference servers of the host.",
        examples=[[{"profile": "gemma-4-26b-a4b", "max_model_len": 32768}]],
    )

    _no_flags = field_validator("*", mode="before")(_refuse_flag_for_number)

    @field_validator("sysctl")
    @classmethod
    def _known_overcommit(cls, value: dict[str, int | str]) -> dict[str, int | str]:
        mode = value.get("vm.overcommit_memory")
        if mode is not None and str(mode) not in ("0", "1", "2"):
            raise ValueError(f"vm.overcommit_memory: found {shown(mode)}; expected 0, 1 or 2")
        return value

    @field_validator("data_directory")
    @classmethod
    def _a_folder_of_its_own(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        # /srv/ojai and /data are folders of their own; /srv, /home/ada and /var/lib are not
        least = {"home": 4, "var": 4}.get(parts[1], 3 if parts[1] in ("media", "mnt", "opt", "srv", "tmp") else 2)
        shallow = len(parts) < least
        taken = parts[1] in SYSTEM_FOLDERS or (parts[1:3] == ("var", "lib") and parts[3:4] and parts[3] in SYSTEM_STATE)
        if ".." in parts or shallow or taken:
            raise ValueError(f"{value} is not a folder of its own; name one, such as /srv/ojai or /mnt/big/ojai")
        return value

    @field_validator("accelerator")
    @classmethod
    def _known_accelerator(cls, value: str) -> str:
        accelerators.load(value)
        return value

    @field_validator("rocm_channel", mode="before")
    @classmethod
    def _known_channel(cls, value: Any) -> str:
        name = str(value)
        if name not in channels():
            raise ValueError(f"there is no ROCm channel {name!r}; known are {', '.join(channels())}")
        return name

    @field_validator("kernel_floor")
    @classmethod
    def _readable_floor(cls, value: str | None) -> str | None:
        if value is not None:
            kernels.parse(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> HostSettings:
        faults = []
        for key in ("name", "port"):
            first: dict[str, int] = {}
            for index, service in enumerate(self.services):
                value = getattr(service, key)
                before = first.setdefault(str(value), index)
                if before != index:
                    faults.append(
                        f"services[{index}].{key}: found {value!r}, as in services[{before}]; expected its own"
                    )
        if self.memory_regime == "gtt" and self.gtt_limit is None:
            faults.append("gtt_limit: memory_regime is gtt, so say how much memory the GPU may take, such as 100GiB")
        if self.memory_regime == "carveout" and self.gtt_limit is not None:
            faults.append(
                "gtt_limit: has no use with memory_regime carveout; leave it out, or set memory_regime to gtt"
            )
        if self.removed_data and not self.removed:
            faults.append("removed_data: means nothing without `removed: true`")
        shares: list[tuple[str, Fraction]] = []
        for index, service in enumerate(self.services):
            try:
                self.command(service)
                # The decimal that a person wrote: 0.45 + 0.55 is 1, not a hair more.
                shares.append((service.name, Fraction(str(self.share(service)))))
            except ValidationError as error:  # a choice that contradicts one of the profile's
                lines = [str(fault) for fault in faults_of(error, Service, {})]
                faults.extend(f"services[{index}] ({service.name}): {line}" for line in lines)
            except ValueError as error:
                faults.extend(f"services[{index}] ({service.name}): {line}" for line in str(error).splitlines())
        total = sum(share for _, share in shares)
        if total > 1:
            said = ", ".join(f"{name} {float(share):g}" for name, share in shares)
            faults.append(
                f"services: together they reserve {float(total):g} of the GPU's memory ({said}); expected 1 at most. "
                "Set gpu_memory_utilization of each"
            )
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @staticmethod
    def share(service: Service) -> float:
        """The share of the GPU's memory that a service reserves (vLLM's own default where none is said)."""
        chosen = profiles.effective(profiles.load(service.profile), service.features)
        return chosen.gpu_memory_utilization or DEFAULT_UTILIZATION

    def command(
        self, service: Service, *, group_ids: Mapping[str, int] | None = None, image_key: str | None = None
    ) -> Command:
        """The command of one of the services; the guides' one, where nothing is overridden.

        ``group_ids``: the host's numbers of the groups that own the GPU. ``image_key``: files TunableOp's results
        under that name instead of the image's tag. Raises ``ProfileError`` when something in it cannot work.
        """
        command = vllm.render(
            profiles.load(service.profile),
            name=service.name,
            features=service.features,
            port=service.port,
            host=service.host,
            image=service.image,
            image_digest=service.image_digest,
            model=service.model,
            base_directory=self.data_directory,
            env_file=service.env_file,
            group_ids=group_ids,
            accelerator=self.accelerator,
        )
        return _filed_under(command, image_key) if image_key else command

    @property
    def channel(self) -> Channel:
        """The ROCm channel, with the host's own mirror and key where it has them."""
        found = channels()[self.rocm_channel]
        return found.model_copy(
            update={
                "mirror": self.rocm_mirror or found.mirror,
                "key_fingerprint": (self.rocm_key_fingerprint or found.key_fingerprint).replace(" ", "").upper(),
            }
        )

    @property
    def floor(self) -> str:
        """The oldest kernel accepted: the setting, else AMD's floor for the flavour."""
        floors: Mapping[str, str] = accelerators.load(self.accelerator).kernel_floors  # type: ignore[assignment]
        return self.kernel_floor or floors.get(self.kernel_flavour) or floors["other"]

    def cache(self, name: str) -> str:
        """Path of one of the cache folders."""
        return str(PurePosixPath(self.data_directory) / name)


def _filed_under(command: Command, key: str) -> Command:
    """``command`` with the last part of TunableOp's folder replaced by ``key``."""
    mounts: dict[str, str] = {}
    argv = command.docker_argv
    for outside, inside in command.mounts.items():
        place = outside
        if inside == vllm.MOUNTS["tunableop"]:
            place = str(PurePosixPath(outside).parent / key)
            argv = tuple(word.replace(f"{outside}:{inside}", f"{place}:{inside}") for word in argv)
        mounts[place] = inside
    return command.model_copy(update={"docker_argv": argv, "mounts": mounts})


class SettingsError(ValueError):
    """What is wrong with a host's data: ``found`` has each fault with its place, ``faults`` the same as lines."""

    def __init__(self, host: str, found: Iterable[Fault]) -> None:
        self.host = host
        self.found = tuple(found)
        self.faults = tuple(str(fault) for fault in self.found)
        super().__init__("\n".join(f"{host}: {fault}" for fault in self.faults))


def parse(host: str, data: Mapping[str, Any]) -> HostSettings:
    """Settings from a host's inventory data, of which pyinfra's own keys are only checked.

    Raises :class:`SettingsError` with every fault found: the key, the value, what is allowed.
    """
    ours = {str(key): value for key, value in data.items() if not connection_data.OWN.match(str(key))}
    found = list(connection_data.faults(data))
    try:
        settings = HostSettings.model_validate(ours)
    except ValidationError as error:
        first = faults_of(error, HostSettings, ours)
        found += first
        # A fault without a place is the host's as a whole: its contradictions have been looked for.
        if all(fault["loc"] for fault in error.errors()):
            found += _contradictions_beside(first, ours)
    if found:
        raise SettingsError(host, found)
    return settings


#: Settings that belong together: where one is faulty, what the other would contradict cannot be said.
TOGETHER = (("memory_regime", "gtt_limit"), ("removed", "removed_data"))


def _contradictions_beside(found: Iterable[Fault], data: Mapping[str, Any]) -> list[Fault]:
    """Contradictions among the values that are not faulty: pydantic looks for none once any value is.

    First within each service without its faulty keys, then over the host without its faulty services.
    """
    faults = list(found)
    entries = data.get("services")
    entries = list(entries) if isinstance(entries, list | tuple) else []
    more: list[Fault] = []
    for index, entry in enumerate(entries):
        bad = {fault.path[2] for fault in faults if fault.path[:2] == ("services", index) and len(fault.path) > 2}
        if bad and isinstance(entry, Mapping):
            rest = {key: value for key, value in entry.items() if key not in bad}
            place: FaultPath = ("services", index)
            more += [
                Fault((*place, *fault.path), fault.text, True, fault.who) for fault in _contradictions(Service, rest)
            ]
    faulty = {fault.path[1] for fault in [*faults, *more] if fault.path[:1] == ("services",) and len(fault.path) > 1}
    kept = [index for index in range(len(entries)) if index not in faulty]
    absent = {fault.path[0] for fault in faults if fault.path}
    absent |= {key for pair in TOGETHER if absent & set(pair) for key in pair}
    rest = {key: value for key, value in data.items() if key not in absent}
    rest["services"] = [entries[index] for index in kept]
    for fault in _contradictions(HostSettings, rest):
        if len(fault.path) > 1:
            if "accelerator" in absent:
                continue
            at = kept[int(fault.path[1])]
            again = re.sub(r"\bservices\[(\d+)\]", lambda number: f"services[{kept[int(number[1])]}]", fault.text)
            fault = Fault(("services", at, *fault.path[2:]), again, True, fault.who)
        more.append(fault)
    return more


def _contradictions(model: type[BaseModel], data: Mapping[str, Any]) -> list[Fault]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return [fault for fault in faults_of(error, model, data) if fault.contradiction]
    return []
