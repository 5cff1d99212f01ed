"""The settings of one service: what it serves, where, and the choices in which it differs from its profile."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, field_validator

from ojai import engines, profiles
from ojai.engines import Exposure, ResolvedService
from ojai.paths import ServicePaths
from ojai.profiles import EngineName, Features, Profile, ProfileError
from ojai.profiles.features import EnvironmentName, ModelName
from ojai.schema.errors import complete, refuse_flag_for_number
from ojai.schema.expected import Choice, Expected
from ojai.settings.secrets import SecretSource, mapping_of_sources
from ojai.settings.types import AbsolutePath, Digest, IpAddress, ServerName

#: Units that hosts have anyway, and that a service must not be named like.
SYSTEM_UNITS = frozenset(
    {"containerd", "cron", "dbus", "docker", "networking", "rsyslog", "ssh", "sshd", "udev", "ufw"}
)


#: How a container's log is rotated unless the host's settings say otherwise.
LOG_MAX_SIZE = "50m"
LOG_MAX_FILE = 5


class ServiceSettings(ServicePaths, Features):
    """One inference server: a profile, a port, and the choices in which it differs from the profile."""

    name: Annotated[str, Expected("small letters, digits and -, a letter first, at most 63")] = Field(
        "vllm-gemma4",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="Name of the systemd unit and of the container.",
        examples=["vllm-gemma4"],
    )
    engine: EngineName = Field(
        "vllm",
        description="The engine that serves the model: `vllm`, or `llamacpp` (by Vulkan, 4 bits a weight).",
        examples=["vllm"],
    )
    profile: Annotated[str, Choice(profiles.names)] = Field(
        "gemma-4-e4b", description="Name of a file in `profiles/`.", examples=["gemma-4-26b-a4b"]
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port of the API.", examples=[8000])
    host: IpAddress | None = Field(
        None,
        description="Address to listen on. Unset: every address with `exposure: open`, as in the guides, else "
        "`127.0.0.1`. vLLM's own API key protects only part of its endpoints.",
        examples=["127.0.0.1"],
    )
    media_domains: tuple[ServerName, ...] = Field(
        (),
        description="Hosts from which the engine may fetch pictures and recordings that a request names by address. "
        "None: no host, and a request has to bring them itself; with `exposure: open` any host, as in the guides.",
        examples=[["images.example.net"]],
    )
    model: ModelName | None = Field(
        None,
        description="Model id instead of the profile's, or a folder of the host such as one on a USB disk: a "
        "variant of the same model, since limits, parsers and memory budget stay the profile's.",
        examples=["google/gemma-4-E4B-it"],
    )
    revision: Annotated[str | None, Expected("a commit, tag or branch of the model")] = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Commit (or tag, or branch) of the model to serve. Unset: `main`. What a tag or branch stood for "
        "when it was first fetched is recorded on the host and served from then on.",
        examples=["0123456789abcdef0123456789abcdef01234567"],
    )
    image: Annotated[str | None, Expected("repository:tag; its digest goes into image_digest")] = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$",
        description="Container image instead of the profile's, `repository:tag`.",
        examples=["vllm/vllm-openai-rocm:v0.20.1"],
    )
    image_digest: Digest | None = Field(
        None, description="Digest that the image must have; pulled by it.", examples=["sha256:" + "0" * 64]
    )
    secrets: dict[EnvironmentName, SecretSource] = Field(
        default_factory=dict,
        description="Secret variables of the service, each with where the deploy reads it: `env`, `file` (mode 0600) "
        "or `command` on the machine that runs it. Beside those of the host; of one name, this one.",
        examples=[{"HF_TOKEN": {"command": ["pass", "show", "hf/token"]}}],
    )
    hardened: bool = Field(
        False,
        description="Run the engine with fewer rights than the guides give it: a read-only container without "
        "capabilities, with Docker's filter of system calls, the GPU's own nodes, and limits. Not tried on the GPU "
        "yet; see the page on hardening.",
        examples=[True],
    )
    start_timeout: int = Field(
        1800,
        ge=1,
        le=86400,
        description="Seconds that the model may take to load, compile and answer /health.",
        examples=[600],
    )
    moe_configs: AbsolutePath | None = Field(
        None,
        description="A folder on the host with tuned MoE kernels of your own, for a mixture of experts. Its files have "
        "the names that the image asks for (`E=…,N=…,device_name=….json`): `ojai doctor` shows one that is missing.",
        examples=["/srv/moe-configs"],
    )
    stop_timeout: int = Field(
        120, ge=1, le=3600, description="Seconds to stop in: TunableOp writes its file only at exit.", examples=[300]
    )

    _no_flags = field_validator("*", mode="before")(refuse_flag_for_number)
    _no_secret = field_validator("secrets", mode="before")(mapping_of_sources)

    @field_validator("name")
    @classmethod
    def _not_a_system_unit(cls, value: str) -> str:
        if value in SYSTEM_UNITS or value.startswith("systemd-"):
            raise complete(
                f"{value}.service is a unit of the system, which this one would override; choose another name"
            )
        return value

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        try:
            profiles.load(value)
        except ProfileError as error:
            raise complete(str(error)) from None
        return value

    @property
    def features(self) -> Features:
        """The choices alone, without what makes it a service."""
        return Features.model_validate({name: getattr(self, name) for name in Features.model_fields})

    def resolve(
        self,
        *,
        accelerator: str,
        data_directory: str,
        elsewhere: Mapping[str, str] = MappingProxyType({}),
        exposure: Exposure = "open",
        secrets: Mapping[str, object] = MappingProxyType({}),
        log_max_size: str = LOG_MAX_SIZE,
        log_max_file: int = LOG_MAX_FILE,
        proxies: Mapping[str, str] = MappingProxyType({}),
        profile: Profile | None = None,
    ) -> ResolvedService:
        """The service with its profile's facts and choices; what cannot work is in its ``refusals``.

        ``elsewhere``: caches that are not in ``data_directory``, by name. ``secrets``: those of the host. ``profile``:
        in place of the one that it names. Raises ``ProfileError`` or ``ValidationError`` where a choice contradicts one
        of the profile's, and ``ValueError`` where one does not go with the host's exposure or with its rights.
        """
        if self.host and exposure != "open" and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(
                f"host: found {self.host}; expected an address of the host's own with `exposure: {exposure}`. What to "
                "do: leave it out, or set `exposure: open`"
            )
        variable = engines.get(self.engine).key_variable
        if exposure == "gateway" and variable in {**secrets, **self.secrets}:
            raise ValueError(
                f"secrets: found {variable}; expected none with `exposure: gateway`, which asks clients for keys of "
                "its own. What to do: name it in gateway_key_sources, or set another `exposure`"
            )
        if both := sorted({**secrets, **self.secrets}.keys() & (self.environment or {}).keys()):
            raise ValueError(
                f"secrets: found {', '.join(both)}, which `environment` has too, and that one would win; expected each "
                "in one of them. What to do: take it out of `environment`"
            )
        if self.hardened and self.port < 1024:
            raise ValueError(
                f"port: found {self.port}; expected 1024 or more with `hardened: true`, which takes away the "
                "capability to open a lower one. What to do: name another port; the gateway may have a low one"
            )
        profile = profile or profiles.load(self.profile, engine=self.engine)
        # Another image than the profile's does not have the profile's digest.
        digest = self.image_digest or (profile.image_digest if self.image is None else None)
        return ResolvedService(
            engine=engines.get(self.engine),
            profile=profile,
            features=profiles.effective(profile, self.features),
            accelerator=accelerator,
            folders=engines.cache_folders(data_directory, elsewhere),
            log_max_size=log_max_size,
            log_max_file=log_max_file,
            proxies=proxies,
            image=(self.image or profile.image) + (f"@{digest}" if digest else ""),
            model=self.model or profile.model,
            model_named=self.model is not None,
            revision=self.revision or (profile.revision if self.model is None else None),
            exposure=exposure,
            media_domains=self.media_domains,
            moe_configs=self.moe_configs,
            hardened=self.hardened,
            secrets=tuple(sorted({**secrets, **self.secrets})),
            host=self.host or ("0.0.0.0" if exposure == "open" else "127.0.0.1"),
            **{name: getattr(self, name) for name in ("name", "port", "start_timeout", "stop_timeout")},
        )
