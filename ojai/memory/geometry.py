"""The shape of a model's attention layers: everything its KV cache depends on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LayerKind = Literal["sliding", "full"]

_Count = Annotated[int, Field(ge=1, strict=True)]


class Geometry(BaseModel):
    """The attention layers of a text decoder, as its configuration file states them.

    Gemma 4 repeats a pattern of sliding-window layers and one full layer. Either `pattern` ("5:1": five
    sliding, then one full, over and over) or `layer_types` (one word a layer) tells which layer is of which kind.

        >>> Geometry(layers=42, pattern="5:1", kv_heads_sliding=2, kv_heads_full=2,
        ...          sliding_window=512, shared_kv_layers=18, max_context=131072).cached_layers
        {'sliding': 20, 'full': 4}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: _Count = Field(description="Decoder layers, shared-KV ones included.")
    pattern: str | None = Field(
        default=None,
        pattern=r"^\d+:\d+$",
        description="Sliding layers : full layers, repeated from the first layer on.",
        examples=["5:1"],
    )
    layer_types: tuple[LayerKind, ...] | None = Field(
        default=None, description="The kind of each layer, where no pattern repeats."
    )
    kv_heads_sliding: _Count = Field(description="KV heads of a sliding layer.")
    kv_heads_full: _Count = Field(description="KV heads of a full layer.")
    head_dim_sliding: _Count = Field(default=256, description="Elements of a head in a sliding layer.")
    head_dim_full: _Count = Field(default=512, description="Elements of a head in a full layer.")
    sliding_window: _Count = Field(description="Tokens a sliding layer looks back on, its own included.")
    shared_kv_layers: int = Field(
        default=0,
        ge=0,
        strict=True,
        description="The last N layers read the cache of an earlier layer and allocate none.",
    )
    max_context: _Count = Field(description="Longest context the model was made for, in tokens.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.pattern is None) == (self.layer_types is None):
            raise ValueError("give either pattern or layer_types, and only one of them")
        if self.layer_types is not None and len(self.layer_types) != self.layers:
            raise ValueError(f"layer_types has {len(self.layer_types)} entries for {self.layers} layers")
        if self.pattern is not None:
            sliding, full = self._ratio()
            if sliding + full == 0 or self.layers % (sliding + full):
                raise ValueError(f"pattern {self.pattern} does not divide {self.layers} layers evenly")
        if self.shared_kv_layers >= self.layers:
            raise ValueError(
                f"shared_kv_layers {self.shared_kv_layers} leaves none of {self.layers} layers with a cache"
            )
        return self

    def _ratio(self) -> tuple[int, int]:
        sliding, _, full = (self.pattern or "0:0").partition(":")
        return int(sliding), int(full)

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """The kind of every layer, first to last."""
        if self.layer_types is not None:
            return self.layer_types
        sliding, full = self._ratio()
        kinds: list[LayerKind] = ["sliding"] * sliding
        kinds += ["full"] * full
        return tuple(kinds) * (self.layers // len(kinds))

    @property
    def cached_layers(self) -> dict[LayerKind, int]:
        """How many layers of each kind hold a cache of their own."""
        own = self.kinds[: self.layers - self.shared_kv_layers]
        counts: dict[LayerKind, int] = {"sliding": own.count("sliding"), "full": own.count("full")}
        return {kind: count for kind, count in counts.items() if count}
