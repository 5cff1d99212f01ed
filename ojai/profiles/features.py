"""The named choices a service may make.

Every field of :class:`Features` is optional: ``None`` means "as in the profile". The reference
pages are generated from the descriptions here.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ojai.profiles.codes import CODES
from ojai.schema.errors import FieldError, FieldErrors, complete, shown
from ojai.schema.expected import Expected
from ojai.schema.nearest import nearest

VisionTokens = Literal[70, 140, 280, 560, 1120]
"""Tokens an image may be turned into (vLLM's Gemma 4 usage guide: 280 is the model's default)."""


def _text(value: Any) -> Any:
    """YAML reads ``0`` and ``1.5`` as numbers, an environment holds text; a bool is ambiguous, so it is refused."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is a YAML boolean; put the value in quotes, as the container is to see it")
    return str(value) if isinstance(value, int | float) else value


EnvironmentName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Expected("a variable name: letters, digits and _, no digit first"),
]
EnvironmentValue = Annotated[
    str, BeforeValidator(_text), Field(pattern=r"^[^\n\r\x00]*$"), Expected("text on one line")
]
Argument = Annotated[
    str, BeforeValidator(_text), Field(min_length=1, pattern=r"^[^\n\r\x00]+$"), Expected("text on one line")
]


def _no_refusal(code: str) -> str:
    near = nearest(code, CODES)
    hint = f"the nearest is {near}; " if near else ""
    return f"there is no refusal {code!r} to allow; {hint}known: {', '.join(CODES)}"


OneLine = Annotated[str, Field(min_length=1, pattern=r"^[^\n\r\x00]+$"), Expected("text on one line, not empty")]


def _model(value: str) -> str:
    """An id as the hub has them, or a folder of the host, without a slash at its end."""
    path = PurePosixPath(value)
    folder = path.is_absolute() and len(path.parts) > 1 and ".." not in path.parts and not re.search(r"[,\"']", value)
    if not folder and not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", value, re.ASCII):
        raise complete(f"found {shown(value)}; expected {MODEL}")
    return str(path)


MODEL = "an id such as google/gemma-4-E4B-it, or the absolute path of a folder on the host"
ModelName = Annotated[OneLine, AfterValidator(_model), Expected(MODEL)]


class Speculative(BaseModel):
    """A draft model and how many tokens it guesses at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName = Field(
        description="The assistant (draft) model; it has to be the one made for the served model.",
        examples=["google/gemma-4-E4B-it-assistant"],
    )
    tokens: int = Field(ge=1, le=16, description="Tokens drafted in one step.", examples=[4])


class Features(BaseModel):
    """Choices with names; each left out means "as in the profile"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_model_len: int | None = Field(
        None, ge=1, description="Longest context of one request, in tokens.", examples=[32768]
    )
    max_num_seqs: int | None = Field(None, ge=1, description="Most requests decoded at once.", examples=[4])
    max_num_batched_tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens in one step of the scheduler. It also sets how much cache the sliding-window "
        "layers need, so it is part of the memory budget.",
        examples=[8192],
    )
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the GPU's memory that the engine may take, from above 0 to 1.",
        examples=[0.85],
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = Field(
        None, description="Number format of weights and activations.", examples=["bfloat16"]
    )
    block_size: int | None = Field(
        None,
        ge=16,
        multiple_of=16,
        description="Tokens in one block of the KV cache: a multiple of 16, which vLLM's Triton attention needs.",
        examples=[32],
    )
    kv_cache_dtype: OneLine | None = Field(
        None,
        description="Number format of the KV cache; `auto` follows the model. The fp8 kinds are refused where "
        "the GPU has no fp8.",
        examples=["auto"],
    )
    quantization: OneLine | None = Field(
        None,
        description="Quantisation to apply or to expect; `none` leaves the argument out, for checkpoints that "
        "name their own.",
        examples=["int8_per_channel_weight_only"],
    )
    prefix_caching: bool | None = Field(
        None, description="Reuse the cache of prompts that begin alike.", examples=[True]
    )
    async_scheduling: bool | None = Field(
        None, description="Schedule the next step while the GPU still computes this one.", examples=[True]
    )
    reasoning: bool | None = Field(
        None,
        description="Split the model's thinking from its answer, into the field `reasoning`.",
        examples=[True],
    )
    thinking: bool | None = Field(
        None,
        description="Whether the model thinks where a request does not specify it. Needs `reasoning: true`, or the "
        "thoughts become part of the answer.",
        examples=[True],
    )
    tool_calling: bool | None = Field(
        None, description="Let the model call tools, and parse its calls.", examples=[True]
    )
    chat_template: OneLine | None = Field(
        None,
        description="A chat template in place of the model's own: a path in the container.",
        examples=["examples/tool_chat_template_gemma4.jinja"],
    )
    images: int | None = Field(None, ge=0, description="Most images in one request.", examples=[4])
    audios: int | None = Field(None, ge=0, description="Most audio clips in one request.", examples=[1])
    videos: int | None = Field(None, ge=0, description="Most videos in one request.", examples=[1])
    text_only: bool | None = Field(
        None,
        description="No images, audio or video: the memory for their encoders is saved.",
        examples=[True],
    )
    vision_tokens: VisionTokens | None = Field(
        None,
        description="Tokens an image becomes, unless a request specifies it: 70 for captions, 280 for "
        "general questions, 560 for documents, 1120 for small print.",
        examples=[560],
    )
    speculative: bool | Speculative | None = Field(
        None,
        description="Guess ahead with the small assistant model: true takes the profile's, with its "
        "recommended count; or name `model` and `tokens`.",
        examples=[True, {"model": "google/gemma-4-E4B-it-assistant", "tokens": 4}],
    )
    tunableop: Literal["off", "tune", "use"] | None = Field(
        None,
        description="PyTorch TunableOp: `tune` measures matrix kernels and writes the fastest at exit, `use` reads "
        "what was written before, `off` disables it.",
        examples=["tune"],
    )
    safetensors_load_strategy: OneLine | None = Field(
        None, description="How weight files are read.", examples=["prefetch"]
    )
    engine_args: tuple[Argument, ...] | None = Field(
        None,
        description="Last resort: further arguments of `vllm serve`, added as they are and checked like the rest.",
        examples=[["--enable-chunked-prefill"]],
    )
    environment: dict[EnvironmentName, EnvironmentValue] | None = Field(
        None,
        description="Further environment variables of the container. No secrets: those go in the service's "
        "environment file on the host.",
        examples=[{"VLLM_LOGGING_LEVEL": "WARNING"}],
    )
    allow: tuple[str, ...] | None = Field(
        None,
        description="Codes of refusals to override, at your own risk; they are recorded in the unit.",
        examples=[["fp8-kv"]],
    )

    @field_validator("allow")
    @classmethod
    def _known_codes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [(index, code) for index, code in enumerate(value or ()) if code not in CODES]
        if unknown:
            raise FieldErrors(*(FieldError((index,), _no_refusal(code)) for index, code in unknown))
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> Features:
        found: dict[str, str] = {}
        media = [f"{name}: {getattr(self, name)}" for name in ("images", "audios", "videos") if getattr(self, name)]
        if self.vision_tokens and not media:
            media = [f"vision_tokens: {self.vision_tokens}"]
        if self.text_only and media:
            found["text_only"] = f"true contradicts {', '.join(media)}; keep one of them"
        if self.images == 0 and self.videos == 0 and self.vision_tokens:
            found["vision_tokens"] = f"{self.vision_tokens} has no use with images: 0 and videos: 0; leave it out"
        if self.thinking and self.reasoning is False:
            found["thinking"] = "true needs reasoning: true (without it the thoughts are part of the answer)"
        if self.max_num_batched_tokens and self.max_num_seqs and self.max_num_batched_tokens < self.max_num_seqs:
            found["max_num_batched_tokens"] = (
                f"{self.max_num_batched_tokens} is less than max_num_seqs: {self.max_num_seqs}; "
                "each running request needs at least one token a step"
            )
        if found:
            raise FieldErrors(*(FieldError((name,), text, contradiction=True) for name, text in found.items()))
        return self

    def over(self, base: Features) -> Features:
        """These choices laid over ``base`` (a profile's), which they override.

        ``environment`` is merged key by key, ``engine_args`` and ``allow`` are added at the end.
        A choice that contradicts one of the base replaces it: ``text_only`` ends the base's image limits,
        an image limit ends the base's ``text_only``.
        """
        mine = {name: value for name in Features.model_fields if (value := getattr(self, name)) is not None}
        under = {name: value for name in Features.model_fields if (value := getattr(base, name)) is not None}
        if mine.get("text_only"):
            for name in ("images", "audios", "videos", "vision_tokens"):
                under.pop(name, None)
        elif mine.get("vision_tokens") or any(mine.get(name) for name in ("images", "audios", "videos")):
            under.pop("text_only", None)
        if mine.get("reasoning") is False:
            under.pop("thinking", None)
        for name in ("engine_args", "allow"):
            if name in mine and name in under:
                mine[name] = (*under[name], *mine[name])
        if "environment" in mine and "environment" in under:
            mine["environment"] = {**under["environment"], **mine["environment"]}
        return Features.model_validate({**under, **mine})
