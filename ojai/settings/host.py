"""Every setting of a host, declared once: name, type, default, meaning, example.

Inventory data is parsed here into frozen settings with every service resolved, and everything else (roles, checks,
reference page, schema) reads from them. Unknown keys are refused with the nearest known one; all errors of a host are
reported together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from ojai import accelerators, engines, kernels, resources, systems
from ojai.engines import Exposure, ResolvedService
from ojai.memory import over_reserved
from ojai.profiles import Features
from ojai.profiles.features import EnvironmentName, OneLine
from ojai.schema.errors import FieldError, FieldErrors, complete, field_errors, refuse_flag_for_number, shown
from ojai.schema.expected import Choice, Expected
from ojai.settings import connection_data
from ojai.settings.accepted import Note
from ojai.settings.lock import Lock
from ojai.settings.secrets import SecretSource, Source, mapping_of_sources, token_of_environment
from ojai.settings.service import LOG_MAX_FILE, LOG_MAX_SIZE, ServiceSettings
from ojai.settings.types import (
    AbsolutePath,
    Account,
    Amount,
    Fingerprint,
    IpAddress,
    KernelParameter,
    KeyName,
    Memory,
    Network,
    NoProxy,
    Occasion,
    Package,
    ProxyUrl,
    Registry,
    ServerName,
    UnixName,
    Url,
)
from ojai.sizes import GIB, MIB
from ojai.weights.pull import registry_of


class Channel(BaseModel):
    """One ROCm release line: where its packages are and who signs them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: str
    key_path: str
    key_fingerprint: str
    origin: str
    rocm_path: str
    graphics_path: str
    driver_path: str
    suite: str
    components: str
    tree: str
    source: str
    recommended: str | None = None

    @property
    def release(self) -> str:
        """Three numbers, as in the name of its tree under /opt; the folder of a first release has two."""
        numbers = self.rocm_path.rpartition("/")[2].split(".")
        return ".".join([*numbers, "0"][:3])


@cache
def channels() -> dict[str, Channel]:
    """ROCm channels by name, from ``ojai/data/rocm-channels.yaml``."""
    return {name: Channel.model_validate(entry) for name, entry in resources.data("rocm-channels").items()}


#: Where no data folder may be: its owner and mode are set, and removal takes it away.
SYSTEM_FOLDERS = frozenset({"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "usr"})
SYSTEM_STATE = frozenset({"apt", "containerd", "docker", "dpkg", "ojai", "systemd"})


def _default_sysctl() -> dict[str, int | str]:
    return {"vm.overcommit_memory": 1}


class HostSettings(BaseModel):
    """All that a host should be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    removed: bool = Field(False, description="Remove what the roles added to this host.", examples=[True])
    removed_data: bool = Field(
        False,
        description="With `removed`: the data folders (models, caches) too. They can be tens of GB to download again.",
        examples=[True],
    )

    adopt: bool = Field(
        False,
        description="Take over what somebody set up by hand on this host: the server, AMD's apt sources, sysctl "
        "drop-ins, caches. Removal gives it back. See the guide's page on adoption.",
        examples=[True],
    )

    move_adopted_caches: bool = Field(
        False,
        description="With `adopt`: rename the owner's caches into `data_directory`, and leave a link where each was, "
        "instead of using them where they are. Only on one file system: nothing is copied.",
        examples=[True],
    )

    accelerator: Annotated[str, Choice(accelerators.names)] = Field(
        accelerators.DEFAULT, description="The GPU, by LLVM name.", examples=["gfx1151"]
    )

    connector: Literal["fast", "ssh"] = Field(
        "fast",
        description="`fast` asks in one command for what a run only reads; `ssh` asks one by one, as pyinfra does.",
        examples=["ssh"],
    )

    headless: bool = Field(
        False,
        description="Never sleep, and run no desktop: masks the sleep targets and boots into `multi-user.target`. "
        "`false` gives back what was there.",
        examples=[True],
    )

    kernel_package: Package = Field(
        systems.reference().kernel_package,
        description="Kernel metapackage. AMD's compatibility matrix names the OEM kernel 6.17 for Ubuntu 24.04. The "
        "rolling name `linux-oem-24.04d` moves on to the next HWE kernel.",
        examples=["linux-generic-hwe-24.04"],
    )
    kernel_flavour: Annotated[str, Expected("small letters, digits and -, a letter first")] = Field(
        systems.reference().kernel_flavour,
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
        description="Whether the deploy reboots into the kernel; `never` only reports that a reboot is needed, and "
        "goes on if the GPU's driver is up without it.",
        examples=["never"],
    )
    kernel_reboot_timeout: int = Field(600, ge=30, le=7200, description="Seconds a reboot may take.", examples=[900])
    firmware_known_bad: tuple[Annotated[str, Field(min_length=4)], ...] | None = Field(
        None,
        description="Firmware that breaks ROCm; the deploy refuses a host that has one. 0x…: a version of the GPU's "
        "scheduler (MES), as it is loaded. Other words: parts of a package's version, which count where the loaded one "
        "cannot be read. Unset: what is known of the accelerator. `[]`: none.",
        examples=[["0x83", "20251125"]],
    )

    gpu_users: tuple[Account, ...] = Field(
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
    gtt_limit: Memory | None = Field(
        None,
        description="With `gtt`: most memory the GPU may take, never more than the system has. With a unit: a bare "
        "number of pages or MiB, as ttm.pages_limit and amdgpu.gttsize count, is refused.",
        examples=["100GiB"],
    )

    rocm_channel: Annotated[str, Choice(channels)] = Field(
        "7.2",
        description="ROCm release. 7.2 is the guides'; 7.2.4, the last of its line, is recommended for a new host.",
        examples=["7.2.4"],
    )
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
        False,
        description="Install `migraphx` too: a compiler for GPUs. The E4B guide names it for an NPU sidecar, but it "
        "does not drive the NPU.",
        examples=[True],
    )
    rocm_graphics: bool = Field(
        True, description="Add AMD's graphics repository (a newer libdrm-amdgpu).", examples=[False]
    )

    docker_source: Literal["auto", "ubuntu", "docker"] = Field(
        "auto",
        description="Where the engine is from: Ubuntu's archive (`docker.io`), or Docker's own (`docker-ce` and more). "
        "`auto` keeps what is there, and installs Ubuntu's where there is none. An engine that ojai did not install is "
        "used as it is, whatever is set here.",
        examples=["docker"],
    )
    docker_packages: tuple[Package, ...] | None = Field(
        None,
        description="Packages of the engine, where ojai installs it. Unset: `docker.io`, or Docker's five.",
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
    registry_credentials: dict[Registry, SecretSource] = Field(
        default_factory=dict,
        description="Logins to registries, each `user:password`, with where the deploy reads them: `env`, `file` (mode "
        "0600) or `command` on the machine that runs it. They are handed to the daemon with the request and kept "
        "nowhere. A registry without one is pulled from with root's own login on the host, if there is one.",
        examples=[{"registry.example.net": {"env": "REGISTRY_LOGIN"}}],
    )
    docker_log_max_size: Annotated[str, Expected("a number and k, m or g")] = Field(
        LOG_MAX_SIZE,
        pattern=r"^[1-9]\d*[kmg]$",
        description="Size at which a service's log is rotated.",
        examples=["10m"],
    )
    docker_log_max_file: int = Field(
        LOG_MAX_FILE, ge=1, le=100, description="Rotated logs kept for each service.", examples=[3]
    )

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

    cache_folders: dict[str, AbsolutePath] = Field(
        default_factory=dict,
        description="Caches that are used where they are, by name (huggingface, vllm, tunableop, models, workspace), "
        "instead of a folder in `data_directory`. Their owner and mode stay, and they are never removed.",
        examples=[{"huggingface": "/home/ada/.cache/huggingface"}],
    )

    hf_endpoint: Url | None = Field(
        None,
        description="Where models are fetched from, instead of huggingface.co: a mirror that speaks the hub's "
        "protocol. It gets the token.",
        examples=["https://hub.example.net"],
    )

    http_proxy: ProxyUrl | None = Field(
        None,
        description="Proxy for http:// of apt, the Docker daemon, the fetching of models and the containers.",
        examples=["http://proxy.example.net:3128"],
    )
    https_proxy: ProxyUrl | None = Field(
        None, description="The same for https://.", examples=["http://proxy.example.net:3128"]
    )
    no_proxy: tuple[NoProxy, ...] = Field(
        (),
        description="What is reached without the proxies, beside the host itself.",
        examples=[["registry.example.net", ".example.net"]],
    )
    ca_certificates: tuple[OneLine, ...] = Field(
        (),
        description="Files on this machine with certificates of your own authorities (PEM), such as that of a proxy or "
        "a private registry. The host trusts them too, and Docker at once for registries of your own.",
        examples=[["~/company-ca.pem"]],
    )
    local_only: bool = Field(
        False,
        description="Fetch nothing: packages, images and models have to be on the host already, and preflight names "
        "what is not. For a machine that may not reach the internet.",
        examples=[True],
    )

    exposure: Exposure = Field(
        "gateway",
        description="Who reaches the services. `gateway`: they listen on this host alone, and nginx in front of them "
        "asks for a key, over TLS. `loopback`: they listen on this host alone. `open`: they listen on every address, "
        "without a key and without TLS, as in the guides.",
        examples=["open"],
    )
    gateway_address: IpAddress = Field(
        "0.0.0.0", description="Address that the gateway listens on.", examples=["192.0.2.10"]
    )
    gateway_port: int = Field(8443, ge=1, le=65535, description="TCP port of the gateway.", examples=[443])
    gateway_url: Url | None = Field(
        None,
        description="Where clients reach the gateway, if it is not the host's own name and that port: behind a "
        "forwarded port, say. `ojai open` prints it.",
        examples=["https://ai.example.net"],
    )
    gateway_keys: tuple[KeyName, ...] = Field(
        ("default",),
        description="Names of the keys. The host makes the key of a new name; the key of a name that is taken out is "
        "valid no more. `ojai open --show-key` prints them.",
        examples=[["laptop", "ci"]],
    )
    gateway_key_sources: dict[KeyName, SecretSource] = Field(
        default_factory=dict,
        description="Keys of `gateway_keys` that the host does not make: where the deploy reads each. The host gets "
        "its sum alone.",
        examples=[{"laptop": {"command": ["pass", "show", "ai/laptop"]}}],
    )
    gateway_keys_renewed: dict[KeyName, Occasion] = Field(
        default_factory=dict,
        description="The host makes a key of `gateway_keys` anew when its text here changes.",
        examples=[{"default": "2026-12-01"}],
    )
    gateway_key_overlap: int = Field(
        24,
        ge=0,
        le=8760,
        description="Hours for which the old key stays valid after it was replaced; 0 ends it at once.",
        examples=[2],
    )
    gateway_names: tuple[ServerName, ...] = Field(
        (),
        description="Names and addresses that clients use, beside the inventory's and the host's own, for the "
        "certificate that the host makes.",
        examples=[["ai.example.net"]],
    )
    gateway_certificate: AbsolutePath | None = Field(
        None,
        description="A certificate of your own on the host, with its chain, instead of one that the host makes.",
        examples=["/etc/letsencrypt/live/ai.example.net/fullchain.pem"],
    )
    gateway_certificate_key: AbsolutePath | None = Field(
        None,
        description="Its private key on the host.",
        examples=["/etc/letsencrypt/live/ai.example.net/privkey.pem"],
    )
    gateway_metrics_from: tuple[Network, ...] = Field(
        (), description="Addresses that may read /metrics, with a key.", examples=[["192.0.2.20", "198.51.100.0/24"]]
    )
    gateway_requests: int = Field(
        20,
        ge=1,
        le=10000,
        description="Requests a second of one client (a key at an address), with four times as many at once.",
        examples=[5],
    )
    gateway_streams: int = Field(100, ge=1, le=2000, description="Requests of one client at a time.", examples=[8])
    gateway_body: Amount = Field(
        64 * MIB, description="Largest request: pictures and recordings are in it.", examples=["20MiB"]
    )

    service_secrets: dict[EnvironmentName, SecretSource] = Field(
        default_factory=dict,
        description="Secret variables of every service of the host, each with where the deploy reads it: `env`, `file` "
        "(mode 0600) or `command` on the machine that runs it. No text of a secret may be in the inventory.",
        examples=[{"HF_TOKEN": {"file": "~/.config/ojai/hf"}}],
    )
    firewall_networks: tuple[Network, ...] = Field(
        (),
        description="Networks that reach the ports of the services and of the gateway; everybody else is held off by a "
        "table of nftables, in which nothing else is. None: no such table, and whoever reaches the host reaches them.",
        examples=[["192.0.2.0/24", "2001:db8::/64"]],
    )

    watch: Literal["none", "fleet", "box"] = Field(
        "none",
        description="Whether the host is watched. `box`: Prometheus, node exporter and alert rules on the host, all on "
        "loopback. `fleet`: node exporter alone, which a Prometheus elsewhere reads through the gateway (`ojai open "
        "--prometheus`). `none` installs nothing: the memory is the model's, and nobody is told without a receiver.",
        examples=["box"],
    )
    watch_port: int = Field(
        9090, ge=1, le=65535, description="With `box`: port of Prometheus on loopback.", examples=[9095]
    )
    watch_retention: Annotated[str, Expected("a number and d, w or y")] = Field(
        "15d", pattern=r"^[1-9]\d{0,3}[dwy]$", description="With `box`: how long samples are kept.", examples=["30d"]
    )
    watch_retention_size: Amount = Field(
        GIB, description="With `box`: most disk that samples take; the oldest go first.", examples=["5GiB"]
    )
    watch_mail: dict[Literal["to", "from", "server", "user"], OneLine] = Field(
        default_factory=dict,
        description="With `box`: alerts are mailed `to` an address, `from` another, by `server` (HOST:PORT, STARTTLS), "
        "as `user` if that asks for one.",
        examples=[{"to": "ada@example.net", "from": "mini@example.net", "server": "smtp.example.net:587"}],
    )
    watch_secrets: dict[Literal["webhook", "mail_password"], SecretSource] = Field(
        default_factory=dict,
        description="With `box`: `webhook` is the address that alerts are sent to, as Alertmanager's JSON; "
        "`mail_password` belongs to `watch_mail`. Each with where the deploy reads it. Without `webhook` and "
        "`watch_mail`, alerts are shown by Prometheus, and no Alertmanager is installed.",
        examples=[{"webhook": {"env": "ALERTS_URL"}}],
    )

    image_bytes: Amount = Field(
        40 * GIB,
        description="Disk space that the image is assumed to need, unpacked, when it is not on the host yet: where "
        "Docker keeps its images (its data root; or containerd's root, with half as much again: that store keeps the "
        "compressed layers too).",
        examples=["50GiB"],
    )

    vars: Annotated[dict[str, Any], Expected("a mapping of your own names to any values of JSON")] = Field(
        default_factory=dict,
        description="Your own data, for roles of your own: not checked, and read as `host.data.vars`.",
        examples=[{"site": "berlin", "backup": {"keep": 7}}],
    )

    services: tuple[ServiceSettings, ...] = Field(
        default_factory=lambda: (ServiceSettings(),),
        description="The inference servers of the host.",
        examples=[[{"profile": "gemma-4-26b-a4b", "max_model_len": 32768}]],
    )

    _resolved: tuple[ResolvedService, ...] = PrivateAttr(())
    _adopted_caches: dict[str, str] = PrivateAttr(default_factory=dict)
    _lock: Lock | None = PrivateAttr(None)
    _accepted: tuple[Note, ...] = PrivateAttr(())

    _no_flags = field_validator("*", mode="before")(refuse_flag_for_number)
    _no_secret = field_validator(
        "registry_credentials", "gateway_key_sources", "service_secrets", "watch_secrets", mode="before"
    )(mapping_of_sources)

    @field_validator("vars")
    @classmethod
    def _as_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            kind = str(error).removeprefix("Object of type ").partition(" is not")[0]
            raise complete(f"found a value of type {kind}; expected what JSON has; put a date in quotes") from None
        return value

    @field_validator("docker_registry_mirrors", mode="before")
    @classmethod
    def _a_mirror_that_docker_takes(cls, value: Any) -> Any:
        # dockerd: "username/password not allowed in URI", "query or fragment at end of the URI".
        for url in filter(lambda one: isinstance(one, str), value if isinstance(value, list | tuple) else ()):
            parts = urlsplit(url)
            if "@" in parts.netloc or parts.query or parts.fragment:
                raise complete("Docker does not start with a mirror that has a user, a query or a fragment")
        return value

    @field_validator("sysctl")
    @classmethod
    def _known_overcommit(cls, value: dict[str, int | str]) -> dict[str, int | str]:
        mode = value.get("vm.overcommit_memory")
        if mode is not None and str(mode) not in ("0", "1", "2"):
            raise FieldErrors(FieldError(("vm.overcommit_memory",), f"found {shown(mode)}; expected 0, 1 or 2"))
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
            raise complete(f"{value} is not a folder of its own; name one, such as /srv/ojai or /mnt/big/ojai")
        return str(PurePosixPath(value))

    @field_validator("cache_folders")
    @classmethod
    def _known_caches(cls, value: dict[str, str]) -> dict[str, str]:
        errors = []
        for name, path in value.items():
            parts = PurePosixPath(path).parts
            if name not in engines.cache_names():
                known = ", ".join(engines.cache_names())
                errors.append(FieldError((name,), f"there is no such cache; known are {known}"))
            elif ".." in parts or len(parts) < 3 or parts[1] in SYSTEM_FOLDERS - {"root"}:
                errors.append(FieldError((name,), f"{path} is not a folder of its own; name one, such as /data/{name}"))
        if errors:
            raise FieldErrors(*errors)
        return {name: str(PurePosixPath(path)) for name, path in value.items()}

    @field_validator("accelerator")
    @classmethod
    def _known_accelerator(cls, value: str) -> str:
        try:
            return accelerators.load(value).name
        except accelerators.UnknownAcceleratorError as error:
            raise complete(str(error)) from None

    @field_validator("rocm_channel", mode="before")
    @classmethod
    def _known_channel(cls, value: Any) -> str:
        name = str(value)
        if name not in channels():
            raise complete(f"there is no ROCm channel {name!r}; known are {', '.join(channels())}")
        return name

    @field_validator("kernel_floor")
    @classmethod
    def _readable_floor(cls, value: str | None) -> str | None:
        if value is not None:
            kernels.parse(value)
        return value

    @model_validator(mode="after")
    def _resolve(self) -> HostSettings:
        wrong = {}
        if self.memory_regime == "gtt" and self.gtt_limit is None:
            wrong["gtt_limit"] = "memory_regime is gtt, so set how much memory the GPU may take, such as 100GiB"
        if self.memory_regime == "carveout" and self.gtt_limit is not None:
            wrong["gtt_limit"] = "has no use with memory_regime carveout; leave it out, or set memory_regime to gtt"
        if (self.gateway_certificate is None) != (self.gateway_certificate_key is None):
            absent = "gateway_certificate" if self.gateway_certificate is None else "gateway_certificate_key"
            wrong[absent] = "a certificate and its key go together: name both files, or neither"
        if self.exposure == "gateway" and self.gateway_port in {service.port for service in self.services}:
            wrong["gateway_port"] = f"found {self.gateway_port}, which a service has; expected its own"
        if self.exposure == "gateway" and not self.gateway_keys:
            wrong["gateway_keys"] = "found none, so nobody could ask; expected names, or another `exposure`"
        if len(set(self.gateway_keys)) < len(self.gateway_keys):
            wrong["gateway_keys"] = f"found {', '.join(self.gateway_keys)}; expected each name once"
        for name in ("gateway_key_sources", "gateway_keys_renewed"):
            if unknown := sorted(set(getattr(self, name)) - set(self.gateway_keys)):
                wrong[name] = f"found {', '.join(unknown)}; expected names of gateway_keys"
        if both := sorted(set(self.gateway_key_sources) & set(self.gateway_keys_renewed)):
            wrong["gateway_keys_renewed"] = f"found {', '.join(both)}, which the host does not make; change its secret"
        if self.data_owner != "root" and any(service.hardened for service in self.services):
            wrong["data_owner"] = (
                f"found {self.data_owner}; a hardened service has no capability to write to the files of others, so "
                "set root, or leave hardened out"
            )
        wrong |= self._watch_contradictions()
        if self.removed_data and not self.removed:
            wrong["removed_data"] = "means nothing without `removed: true`"
        if self.move_adopted_caches and not self.adopt:
            wrong["move_adopted_caches"] = "means nothing without `adopt: true`"
        for name, path in self.cache_folders.items():
            if PurePosixPath(path).is_relative_to(self.data_directory):
                wrong["cache_folders"] = (
                    f"{name} is inside data_directory ({self.data_directory}), whose folders are ojai's: leave it out, "
                    "or name a folder elsewhere"
                )
        self._resolved, found = self._services()
        found = [*(FieldError((name,), text, contradiction=True) for name, text in wrong.items()), *found]
        if found:
            raise FieldErrors(*found)
        return self

    def _watch_contradictions(self) -> dict[str, str]:
        wrong = {}
        box_only = [
            name
            for name, field in HostSettings.model_fields.items()
            if name.startswith("watch_") and getattr(self, name) != field.get_default(call_default_factory=True)
        ]
        if self.watch != "box" and box_only:
            wrong[box_only[0]] = f"has no use with `watch: {self.watch}`; leave it out, or set `watch: box`"
        if self.watch == "fleet" and (self.exposure != "gateway" or not self.gateway_metrics_from):
            name = "exposure" if self.exposure != "gateway" else "gateway_metrics_from"
            wrong[name] = (
                "`watch: fleet` is read through the gateway, by the addresses of gateway_metrics_from; set both, or "
                "another `watch`"
            )
        if self.watch != "none" and "host" in {service.name for service in self.services[1:]}:
            wrong["watch"] = (
                "the gateway needs the path /host for the host's own metrics; give that service another name"
            )
        if self.watch_mail and not {"to", "from", "server"} <= self.watch_mail.keys():
            wrong["watch_mail"] = f"found {', '.join(self.watch_mail)}; expected `to`, `from` and `server`"
        if ("mail_password" in self.watch_secrets) != ("user" in self.watch_mail):
            wrong["watch_secrets"] = "`mail_password` and `user` of watch_mail go together: name both, or neither"
        return wrong

    def _services(self) -> tuple[tuple[ResolvedService, ...], list[FieldError]]:
        found, errors = resolve_services(
            dict(enumerate(self.services)),
            accelerator=self.accelerator,
            data_directory=self.data_directory,
            elsewhere=self.cache_folders,
            exposure=self.exposure,
            secrets=self.service_secrets,
            log_max_size=self.docker_log_max_size,
            log_max_file=self.docker_log_max_file,
            proxies=self.proxies,
        )
        return tuple(map(self._lock.applied, found)) if self._lock else found, errors

    def locked(self, lock: Lock) -> HostSettings:
        """These settings with what a lock says. Raises ``LockError`` where it lacks something of a service."""
        found = self.model_copy()
        found._lock = lock
        found._resolved, _ = found._services()
        return found

    def using(self, folders: Mapping[str, str]) -> HostSettings:
        """These settings with caches that were adopted on the host (name -> folder); the inventory's own win."""
        if not folders.keys() - self.cache_folders.keys():
            return self
        found = self.model_copy(update={"cache_folders": {**folders, **self.cache_folders}})
        found._resolved, _ = found._services()
        new = {name: path for name, path in folders.items() if name not in self.cache_folders}
        found._adopted_caches = {**self._adopted_caches, **new}
        return found

    @property
    def adopted_caches(self) -> dict[str, str]:
        """Those of ``cache_folders`` that are not the inventory's, but were adopted on the host."""
        return self._adopted_caches

    @property
    def lock(self) -> Lock | None:
        """The lock beside the inventory."""
        return self._lock

    def accepting(self, notes: tuple[Note, ...]) -> HostSettings:
        """These settings with what was accepted on the host."""
        found = self.model_copy()
        found._accepted = notes
        return found

    @property
    def accepted(self) -> tuple[Note, ...]:
        """What differs on the host from what its deploys made, and is meant."""
        return self._accepted

    @property
    def families(self) -> tuple[str, str, str]:
        """The families of packages that the host has, as a lock names them."""
        return f"kernel {self.kernel_package}", "docker", f"rocm {self.rocm_channel}"

    @property
    def resolved(self) -> tuple[ResolvedService, ...]:
        """The services, each resolved once."""
        return self._resolved

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

    def secrets_of(self, service: str) -> dict[str, Source]:
        """The secret variables of a service, with where each is read. A token of this environment comes last."""
        own = next((one.secrets for one in self.services if one.name == service), {})
        return {**token_of_environment(), **self.service_secrets, **own}

    @property
    def proxies(self) -> dict[str, str]:
        """The variables that name the proxies; empty without one."""
        found = {"http_proxy": self.http_proxy, "https_proxy": self.https_proxy}
        named = {name: value for name, value in found.items() if value}
        return {**named, "no_proxy": ",".join(("localhost", "127.0.0.1", *self.no_proxy))} if named else {}

    def login(self, image: str) -> Source | None:
        """Where the login to an image's registry is read."""
        return self.registry_credentials.get(registry_of(image))

    @property
    def bad_firmware(self) -> tuple[str, ...]:
        """Firmware that the host must not have: the setting, else what is known of the accelerator."""
        known = accelerators.load(self.accelerator).firmware_known_bad
        return known if self.firmware_known_bad is None else self.firmware_known_bad

    @property
    def floor(self) -> str:
        """The oldest kernel accepted: the setting, else AMD's floor for the flavour."""
        floors: Mapping[str, str] = accelerators.load(self.accelerator).kernel_floors  # type: ignore[assignment]
        return self.kernel_floor or floors.get(self.kernel_flavour) or floors["other"]

    @property
    def caches(self) -> dict[str, str]:
        """The folders that outlive a container, by name."""
        return engines.cache_folders(self.data_directory, self.cache_folders)

    @property
    def every_own_cache(self) -> list[str]:
        """Those that are this project's, of every engine: removed with `removed_data`."""
        return [path for name, path in self.caches.items() if name not in self.cache_folders]

    @property
    def own_caches(self) -> list[str]:
        """Those of them that are created and given an owner: vLLM's, and those of the engines of the services."""
        serving = [engines.get("vllm"), *(service.engine for service in self.resolved)]
        names = {self.caches[name] for engine in serving for name in engine.mounts}
        return [path for path in self.every_own_cache if path in names]


def resolve_services(
    services: Mapping[int, ServiceSettings], **host: Any
) -> tuple[tuple[ResolvedService, ...], list[FieldError]]:
    """The services of a host by their position, resolved; and what is wrong with one of them or with all together.

    ``host``: what they take from the host's settings (:meth:`ServiceSettings.resolve`).
    """
    resolved: list[ResolvedService] = []
    errors: list[FieldError] = []
    for key in ("name", "port"):
        first: dict[object, int] = {}
        for index, service in services.items():
            value = getattr(service, key)
            before = first.setdefault(value, index)
            if before != index:
                text = f"found {value!r}, as in services[{before}]; expected its own"
                errors.append(FieldError(("services", index, key), text, contradiction=True))
    for index, service in services.items():
        texts: list[str]
        try:
            found = service.resolve(**host)
        except ValidationError as error:  # a choice that contradicts one of the profile's
            texts = [str(one) for one in field_errors(error, Features, {})]
        except ValueError as error:
            texts = [str(error)]
        else:
            texts = [str(refusal) for refusal in found.standing]
            resolved.append(found)
        errors += [FieldError(("services", index), text, True, service.name) for text in texts]
    shares = {found.name: found.share for found in resolved}
    if reserved := over_reserved(shares):
        errors.append(FieldError(("services",), reserved, contradiction=True))
    return tuple(resolved), errors


class SettingsError(ValueError):
    """What is wrong with a host's data: ``errors`` has each error with its path."""

    def __init__(self, host: str, errors: Iterable[FieldError]) -> None:
        self.host = host
        self.errors = tuple(errors)
        super().__init__("\n".join(f"{host}: {error}" for error in self.errors))


#: Settings that were renamed: the old name to the new one, each with ``services.`` before it in a service.
RENAMED: dict[str, str] = {}


def parse(host: str, data: Mapping[str, Any]) -> HostSettings:
    """Settings from a host's inventory data; pyinfra's own keys in it are only checked.

    Raises :class:`SettingsError` with every error found: the key, the value, what is expected.
    """
    if inside := re.match(r"@(docker|podman|dockerssh|podmanssh|chroot)/", host):
        text = f"found {inside[0]}…; expected a machine: its kernel and its GPU are the host's; name the host instead"
        raise SettingsError(host, [FieldError((), text)])
    ours = {str(key): value for key, value in data.items() if not connection_data.OWN.match(str(key))}
    errors = list(connection_data.errors(host, data))
    try:
        settings = HostSettings.model_validate(ours)
    except ValidationError as error:
        found = field_errors(error, HostSettings, ours, renamed=RENAMED)
        errors += found
        # pydantic runs a model's own validator, which finds contradictions, only where every value is right.
        if all(one["loc"] for one in error.errors()):
            errors += _contradictions_beside(found, ours)
    if errors:
        raise SettingsError(host, errors)
    return settings


#: Settings that belong together: where one has an error, contradictions of the other are not looked for.
TOGETHER = (
    ("memory_regime", "gtt_limit"),
    ("removed", "removed_data"),
    ("gateway_certificate", "gateway_certificate_key"),
    ("exposure", "gateway_port"),
    ("watch", "exposure"),
    ("watch", "watch_mail"),
    ("watch_mail", "watch_secrets"),
)


def _contradictions_beside(found: Iterable[FieldError], data: Mapping[str, Any]) -> Iterator[FieldError]:
    """Contradictions among the values that are right, beside those that are ``found`` wrong.

    Those within each service without its wrong values, then those of the host and between its sound services.
    """
    wrong: dict[Any, set[Any]] = {}
    for error in found:
        if error.path[:1] == ("services",) and len(error.path) > 1:
            wrong.setdefault(error.path[1], set()).add(error.path[2] if len(error.path) > 2 else None)
    entries = data.get("services")
    services: dict[int, ServiceSettings] = {}
    for index, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
        if index not in wrong:
            services[index] = ServiceSettings.model_validate(entry)
        elif None not in wrong[index]:
            rest = {key: value for key, value in entry.items() if key not in wrong[index]}
            yield from (one.under(("services", index)) for one in _contradictions(ServiceSettings, rest))
    absent = {error.path[0] for error in found if error.path} | {"services"}
    absent |= {key for pair in TOGETHER if absent & set(pair) for key in pair}
    rest = {key: value for key, value in data.items() if key not in absent}
    yield from _contradictions(HostSettings, {**rest, "services": []})
    defaults = HostSettings.model_fields
    where = {name: rest.get(name, defaults[name].default) for name in ("accelerator", "data_directory", "exposure")}
    for error in resolve_services(services, **where)[1]:
        # What cannot work depends on the accelerator, which is not known then.
        if "accelerator" not in absent or not error.label:
            yield error


def _contradictions(model: type[BaseModel], data: Mapping[str, Any]) -> list[FieldError]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return [one for one in field_errors(error, model, data) if one.contradiction]
    return []
