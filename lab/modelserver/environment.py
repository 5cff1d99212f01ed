"""Where the stand-in looks on the machine, and its rehearsal switches (documented in the package)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CRASH_POINTS = ("", "start", "loading")


@dataclass(frozen=True)
class Environment:
    """The process's environment, read once."""

    variables: Mapping[str, str]
    root: Path
    load_seconds: float
    token_seconds: float
    crash_at: str
    never_healthy: bool
    build: str

    @property
    def kfd(self) -> Path:
        """The compute device of the amdgpu driver."""
        return self.root / "dev/kfd"

    @property
    def dri(self) -> Path:
        """The folder of the render nodes."""
        return self.root / "dev/dri"

    @property
    def product_sku(self) -> Path:
        """Where the lab's VM says how large the carve-out is."""
        return self.root / "sys/class/dmi/id/product_sku"

    @property
    def pages_limit(self) -> Path:
        """TTM's cap on graphics memory outside the carve-out, in 4 KiB pages."""
        return self.root / "sys/module/ttm/parameters/pages_limit"

    @property
    def hub(self) -> Path:
        """Hugging Face's hub cache."""
        if hub := self.variables.get("HF_HUB_CACHE"):
            return Path(hub)
        home = self.variables.get("HF_HOME")
        return (Path(home) if home else Path("~/.cache/huggingface").expanduser()) / "hub"

    def flag(self, name: str) -> bool:
        """Whether a variable is set to 1 or true, as vLLM and PyTorch read their switches."""
        return self.variables.get(name, "").strip().lower() in ("1", "true")


def read(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the environment; ValueError names the variable that makes no sense."""
    source = dict(os.environ if variables is None else variables)

    def seconds(name: str, default: float) -> float:
        text = source.get(name, "")
        try:
            value = float(text) if text else default
        except ValueError:
            value = -1.0
        if not 0 <= value < 86400:
            raise ValueError(f"{name}={text!r}: expected a number of seconds from 0 to 86400")
        return value

    crash_at = source.get("OJAI_LAB_CRASH_AT", "")
    if crash_at not in CRASH_POINTS:
        raise ValueError(f"OJAI_LAB_CRASH_AT={crash_at!r}: expected one of start, loading")
    return Environment(
        variables=source,
        root=Path(source.get("OJAI_LAB_ROOT", "/")),
        load_seconds=seconds("OJAI_LAB_LOAD_SECONDS", 5.0),
        token_seconds=seconds("OJAI_LAB_TOKEN_SECONDS", 0.01),
        crash_at=crash_at,
        never_healthy=source.get("OJAI_LAB_NEVER_HEALTHY", "") == "1",
        build=source.get("OJAI_LAB_BUILD", "v0.20.1"),
    )
