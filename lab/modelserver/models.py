"""The models that the stand-in can pretend to load: their files' sizes and their attention geometry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import VERSION
from .kvcache import Geometry
from .logs import LoadError


@dataclass(frozen=True)
class Model:
    """One checkpoint. Sizes in bytes; `geometry` is None for a local folder, of which only sizes are known."""

    name: str
    weights_bytes: int
    files: dict[str, int]
    geometry: Geometry | None
    experts: int = 0
    expert_width: int = 0
    folder: Path | None = None


def table() -> dict[str, Any]:
    """Return the table of known models as it is in models.json."""
    text = (Path(__file__).resolve().parent / "models.json").read_text(encoding="utf-8")
    models: dict[str, Any] = json.loads(text)["models"]
    return models


def find(name: str) -> Model:
    """Return a known model, or one described by a local folder's safetensors files; else LoadError."""
    known = table()
    if name in known:
        entry = known[name]
        base = known[entry["like"]] if "like" in entry else entry
        if "unsupported" in base:
            raise LoadError(
                f"ValueError: Model architectures ['{base['unsupported']}'] are not supported for now. "
                f"(vLLM {VERSION}'s registry of models does not have it; a newer release does.)"
            )
        return Model(
            name=name,
            weights_bytes=entry["weights_bytes"],
            files=dict(entry["files"]),
            geometry=Geometry(**base["geometry"]),
            experts=base.get("experts", 0),
            expert_width=base.get("expert_width", 0),
        )
    folder = Path(name)
    if folder.is_absolute() or name.startswith("."):
        files = {path.name: path.stat().st_size for path in sorted(folder.glob("*.safetensors"))}
        if not files:
            raise LoadError(f"ValueError: no *.safetensors file found in {name}")
        return Model(name, sum(files.values()), files, None, folder=folder)
    raise LoadError(
        f"OSError: {name} is not a model that the ojai lab's stand-in knows. "
        f"Known: {', '.join(known)}; or give the path of a folder with safetensors files."
    )
