"""Every setting of a host, declared once: name, type, default, meaning, example.

Inventory data is parsed here into frozen settings, and everything else (roles, checks, reference page, schema)
is read from them. Unknown keys are refused with the nearest known one; all faults of a host are reported together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ojai import accelerators, kernels, profiles, units
from ojai.memory.budget import DEFAULT_UTILIZATION
from ojai.profiles import Command, Features

Fingerprint = Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{40}|([0-9A-Fa-f]{4} +){9}[0-9A-Fa-f]{4})$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s\"']+[^\s\"'/]$")]
UnixName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]*[A-Za-z0-9._-]$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Bytes = Annotated[int, BeforeValidator(lambda value: units.parse_bytes(value) if isinstance(value, str) else value)]

#: Data that is pyinfra's own: how a host is reached, and defaults of global arguments.
PYINFRA_DATA = re.compile(r"^(_|ssh_|fake_)")


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
    text = (Path(__file__).parent / "data" / "rocm-channels.yaml").read_text()
    return {name: Channel.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


class Service(Features):
    """One inference server: a profile, a port, and the choices in which it differs from the profile."""

    name: str = Field(
        "vllm-gemma4",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="Name of the systemd unit and of the container.",
        examples=["vllm-gemma4"],
    )
    engine: Literal["vllm"] = Field("vllm", description="The engine that serves the model.")
    profile: str = Field("gemma-4-e4b", description="Name of a file in `profiles/`.", examples=["gemma-4-26b-a4b"])
    port: int = Field(8000, ge=1, le=65535, description="TCP port of the API.", examples=[8000])
    host: str = Field(
        "0.0.0.0",
        pattern=r"^[0-9a-fA-F.:]+$",
        description="Address to listen on, as in the guides. `127.0.0.1` keeps it off the network: vLLM's API key "
        "guards only part of its endpoints, so put a proxy in front of it before others can reach it.",
        examples=["127.0.0.1"],
    )
    model: str | None = Field(None, min_length=1, description="Model id instead of the profile's.")
    image: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$",
        description="Container image instead of the profile's, `repository:tag`.",
        examples=["vllm/vllm-openai-rocm:v0.20.1"],
    )
    image_digest: Digest | None = Field(None, description="Digest that the image must have; pulled by it.")
    start_timeout: int = Field(
        1800, ge=1, le=86400, description="Seconds that the model may take to load, compile and answer /health."
    )
    stop_timeout: int = Field(
        120, ge=1, le=3600, description="Seconds to stop in: TunableOp writes its file only at exit."
    )

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        profiles.load(value)
        return value

    @property
    def features(self) -> Features:
        """The choices alone, without what makes it a service."""
        return Features.model_validate({name: getattr(self, name) for name in Features.model_fields})

    @property
    def unit(self) -> str:
        """Name of its systemd unit."""
        return f"{self.name}.service"

    @property
    def env_file(self) -> str:
        """Where its secrets are on the host."""
        return f"/etc/ojai/{self.name}.env"


def _default_sysctl() -> dict[str, int | str]:
    return {"vm.overcommit_memory": 1}


class HostSettings(BaseModel):
    """All that a host should be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    removed: bool = Field(False, description="Take away what the roles added to this host.")
    removed_data: bool = Field(
        False,
        description="With `removed`: the data folders (models, caches) too. They can be tens of GB to load again.",
    )

    accelerator: str = Field("gfx1150", description="The GPU, by LLVM name.", examples=["gfx1151"])

    kernel_package: Package = Field(
        "linux-oem-24.04d",
        description="Kernel metapackage. It has been the 6.17 line since 2026, though AMD's page still says 6.14.",
    )
    kernel_flavour: str = Field(
        "oem", pattern=r"^[a-z][a-z0-9-]*$", description="Flavour of that kernel: what `uname -r` ends with."
    )
    kernel_floor: str | None = Field(
        None,
        description="Oldest kernel accepted, base version and ABI number. Unset: AMD's floor for the flavour.",
        examples=["6.14.0-1018"],
    )
    kernel_reboot: Literal["if-required", "never"] = Field(
        "if-required", description="Whether the deploy reboots into the kernel; `never` only reports that it is needed."
    )
    kernel_reboot_timeout: int = Field(600, ge=30, le=7200, description="Seconds a reboot may take.")
    firmware_known_bad: tuple[str, ...] = Field(
        ("20251125",),
        description="Parts of linux-firmware versions that break ROCm; the deploy refuses a host that has one. "
        "20251125 was recalled by AMD.",
    )

    gpu_users: tuple[UnixName, ...] = Field(
        (), description="Accounts to put into the groups `video` and `render`.", examples=[["ada"]]
    )

    sysctl: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_/-]+)+$")], int | str] = Field(
        default_factory=_default_sysctl,
        description="Kernel parameters. vm.overcommit_memory=1 lets vLLM map a 46.5 GB shard privately.",
    )

    memory_regime: Literal["carveout", "gtt"] = Field(
        "carveout",
        description="Where the GPU's memory comes from: the BIOS carve-out (the guides), or GTT with a small carve-out "
        "(AMD's advice).",
    )
    gtt_limit: Bytes | None = Field(
        None,
        gt=0,
        description="With `gtt`: most memory the GPU may take, never more than the system has.",
        examples=["100GiB"],
    )

    rocm_channel: str = Field("7.2", description="ROCm release line.", examples=["7.2.4"])
    rocm_mirror: Url | None = Field(None, description="Where the packages come from, instead of AMD's server.")
    rocm_key_fingerprint: Fingerprint | None = Field(
        None, description="Fingerprint of the signing key, where a mirror signs with its own."
    )
    rocm_packages: tuple[Package, ...] = Field(
        ("rocminfo", "amd-smi-lib"),
        description="ROCm packages on the host. The container has its own ROCm; `rocm` is the whole (about 20 GB).",
        examples=[["rocm"]],
    )
    rocm_migraphx: bool = Field(False, description="Install `migraphx` too (the E4B guide's NPU sidecar).")
    rocm_graphics: bool = Field(True, description="Add AMD's graphics repository (a newer libdrm-amdgpu).")

    docker_source: Literal["ubuntu", "docker"] = Field(
        "ubuntu", description="`docker.io` from Ubuntu's archive, or Docker's own packages from its own."
    )
    docker_packages: tuple[Package, ...] | None = Field(
        None,
        description="Packages of the engine. Unset: `docker.io`, or Docker's five.",
        examples=[["docker.io", "docker-cli"]],
    )
    docker_mirror: Url = Field(
        "https://download.docker.com/linux/ubuntu", description="Docker's apt archive (with `docker_source: docker`)."
    )
    docker_key_fingerprint: Fingerprint = Field(
        "9DC858229FC7DD38854AE2D88D81803C0EBFCD88", description="Fingerprint of the key that signs Docker's archive."
    )
    docker_registry_mirrors: tuple[Url, ...] = Field(
        (), description="Mirrors of Docker Hub, for a fleet.", examples=[["https://registry.example.net"]]
    )
    docker_log_max_size: str = Field("50m", pattern=r"^\d+[kmg]$", description="Size at which a container's log turns.")
    docker_log_max_file: int = Field(5, ge=1, le=100, description="Turned logs kept for a container.")

    data_directory: AbsolutePath = Field(
        "/srv/ojai", description="Folder of the caches: Hugging Face, vLLM, TunableOp, models, workspace."
    )
    data_owner: UnixName = Field("root", description="Owner of the cache folders. The container writes as root.")
    data_group: UnixName = Field("root", description="Group of the cache folders.")
    data_mode: str = Field("755", pattern=r"^[0-7]{3,4}$", description="Mode of the cache folders.")

    image_bytes: Bytes = Field(
        40 * 1024**3,
        ge=0,
        description="Disk space that the image is taken to need, unpacked, when it is not there yet.",
    )

    services: tuple[Service, ...] = Field(
        default_factory=lambda: (Service(),), description="The inference servers of the host."
    )

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
        for what, values in (
            ("name", [service.name for service in self.services]),
            ("port", [str(service.port) for service in self.services]),
        ):
            for value in sorted({value for value in values if values.count(value) > 1}):
                faults.append(f"services: two have the {what} {value}; each wants its own")
        if self.memory_regime == "gtt" and self.gtt_limit is None:
            faults.append("gtt_limit: memory_regime is gtt, so say how much memory the GPU may take, such as 100GiB")
        if self.memory_regime == "carveout" and self.gtt_limit is not None:
            faults.append(
                "gtt_limit: has no use with memory_regime carveout; leave it out, or set memory_regime to gtt"
            )
        if self.removed_data and not self.removed:
            faults.append("removed_data: means nothing without `removed: true`")
        shares = {service.name: self.share(service) for service in self.services}
        if sum(shares.values()) > 1:
            said = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            faults.append(
                f"services: together they reserve {sum(shares.values()):g} of the GPU's memory ({said}); wanted: 1 at "
                "most. Set gpu_memory_utilization of each"
            )
        for index, service in enumerate(self.services):
            try:
                self.command(service)
            except profiles.ProfileError as error:
                faults.extend(f"services[{index}] ({service.name}): {line}" for line in str(error).splitlines())
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
        command = profiles.render(
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
        if inside == profiles.MOUNTS["tunableop"]:
            place = str(PurePosixPath(outside).parent / key)
            argv = tuple(word.replace(f"{outside}:{inside}", f"{place}:{inside}") for word in argv)
        mounts[place] = inside
    return command.model_copy(update={"docker_argv": argv, "mounts": mounts})


class SettingsError(ValueError):
    """What is wrong with a host's data; ``faults`` has one line for each fault, key first."""

    def __init__(self, host: str, faults: Iterable[str]) -> None:
        self.host = host
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{host}: {fault}" for fault in self.faults))


def parse(host: str, data: Mapping[str, Any]) -> HostSettings:
    """Settings from a host's inventory data (pyinfra's own keys are passed over).

    Raises :class:`SettingsError` with every fault found: the key, the value, what is allowed.
    """
    ours = {key: value for key, value in data.items() if not PYINFRA_DATA.match(key)}
    try:
        return HostSettings.model_validate(ours)
    except ValidationError as error:
        raise SettingsError(host, [line for fault in error.errors() for line in _lines(fault)]) from None


def _lines(fault: Any) -> list[str]:
    location = ""
    for part in fault["loc"]:
        location += f"[{part}]" if isinstance(part, int) else f".{part}" if location else str(part)
    value = fault["input"]
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}…"
    if fault["type"] == "extra_forbidden":
        model: type[BaseModel] = Service if str(fault["loc"][0]) == "services" else HostSettings
        near = difflib.get_close_matches(str(fault["loc"][-1]), model.model_fields, n=1, cutoff=0.5)
        return [f"{location}: no such setting" + (f"; the nearest is {near[0]}" if near else "")]
    message = fault["msg"].removeprefix("Value error, ")
    if not location:
        return list(message.splitlines())
    lines: list[str] = message.splitlines() or [""]
    allowed = f" ({pattern_meaning(fault)})" if fault["type"] == "string_pattern_mismatch" else ""
    return [f"{location}: found {shown}; {lines[0][0].lower() + lines[0][1:]}{allowed}", *lines[1:]]


def pattern_meaning(fault: Any) -> str:
    """What a setting that failed its pattern is for: its declared meaning, which is easier to read than the pattern."""
    model: type[BaseModel] = Service if str(fault["loc"][0]) == "services" and len(fault["loc"]) > 1 else HostSettings
    for part in reversed(fault["loc"]):
        field = model.model_fields.get(str(part))
        if field and field.description:
            return field.description
    return "see docs/reference/settings.md"
