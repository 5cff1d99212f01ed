"""What llama.cpp's real server says of itself, beside what ojai says of it (`make contract-llamacpp`).

python -m tools.contract.llamacpp --write    # write its flags down anew
python -m tools.contract.llamacpp            # its flags, and a budget beside its log, for models of several shapes

The server is the lab's: Debian's, by Vulkan in software (ojai.lab.llamacpp), in a root file system of its own.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ojai.lab import image
from ojai.lab.llamacpp import image as llamacpp
from ojai.memory import Geometry, GgufDemand, LayerKind
from ojai.sizes import MIB

#: Compiled shaders, in that file system: without them a start takes a minute.
SHADERS = "/var/cache/mesa"

#: The file of the flags.
DATA = Path(__file__).resolve().parents[2] / "ojai/engines/llamacpp/server.json"


def flags(text: str) -> dict[str, tuple[str, int]]:
    """Of the text of `llama-server --help`: each spelling of a flag, its long name, and how many values it takes."""
    found: dict[str, tuple[str, int]] = {}
    for line in text.splitlines():
        if not line.startswith("-") or line.startswith("-----"):
            continue
        # What a flag is for begins in column 40, unless the flag itself reaches there.
        head = line[:40] if line[39:40] == " " and line[40:41].strip() else line
        spellings, value = re.fullmatch(r"((?:-\S+(?:, +|\s+|$))+)(.*)", head.strip()).groups()  # type: ignore[union-attr]
        names = re.findall(r"-[^\s,]+", spellings)
        values = 2 if re.fullmatch(r"[A-Z]+ [A-Z]+", value) else int(bool(value))
        first = next((name for name in names if name.startswith("--")), names[0])
        found |= {name: (name if name.startswith("--no-") else first, values) for name in names}
    return found


#: Context of a slot, slots, `--ubatch-size`, type of the cache.
SETTINGS = ((8192, 1, 512, "f16"), (32768, 1, 512, "f16"), (4000, 2, 1024, "f16"), (8192, 3, 300, "q8_0"))

#: Figures of the log, in MiB: `(device, what, amount)`.
_BUFFER = re.compile(r"(\S+)\s+(model|KV|compute) buffer size =\s+([\d.]+) MiB")


def geometry(name: str) -> Geometry:
    """The attention layers of one of the lab's tiny models, from the file itself."""
    shape = shapes()[name]
    kinds: tuple[LayerKind, LayerKind] = ("sliding", "full")
    period = shape["pattern"] + 1
    return Geometry(
        layers=shape["layers"],
        layer_types=tuple(kinds[layer % period == shape["pattern"]] for layer in range(shape["layers"])),
        kv_heads_sliding=shape["kv_sliding"],
        kv_heads_full=shape["kv_full"],
        head_dim_sliding=shape["head_sliding"],
        head_dim_full=shape["head_full"],
        sliding_window=shape["window"],
        shared_kv_layers=shape["shared"],
        max_context=shape["context"],
    )


def shapes() -> dict[str, dict[str, Any]]:
    """The shapes of `ojai.lab.llamacpp.tiny`, which imports what is not here."""
    tree = ast.parse(llamacpp.TINY.read_text())
    body = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}["Shape"].body
    base = {one.target.id: ast.literal_eval(one.value) for one in body if isinstance(one, ast.AnnAssign)}  # type: ignore[union-attr, arg-type]
    found = next(one for one in tree.body if isinstance(one, ast.AnnAssign) and one.target.id == "SHAPES")  # type: ignore[union-attr]
    calls = zip(found.value.keys, found.value.values, strict=True)  # type: ignore[union-attr]
    return {
        key.value: base | {word.arg: ast.literal_eval(word.value) for word in getattr(value, "keywords", ())}
        for key, value in calls
    }


def expected(name: str, size: int, setting: tuple[int, int, int, str]) -> GgufDemand:
    """What ojai says that this model takes, whose file has ``size`` bytes."""
    context, slots, batch, kind = setting
    asked = {
        "weights_bytes": size,
        "geometry": geometry(name),
        "max_model_len": context,
        "width": shapes()[name]["width"],
    }
    more = {"max_num_seqs": slots, "max_num_batched_tokens": batch, "kv_cache_type": kind}
    return GgufDemand.model_validate(asked | more)


def logged(root: Path, name: str, setting: tuple[int, int, int, str]) -> dict[str, float]:
    """What the real server's log says of the same, in bytes: `model`, `KV` and `compute`."""
    context, slots, batch, kind = setting
    words = ["chroot", str(root), "/usr/bin/llama-server", "--model", f"/models/{name}-Q4_K_M.gguf", "--threads", "1"]
    words += ["--device", "Vulkan0", "--gpu-layers", "99", "--fit", "off", "--flash-attn", "on", "--no-warmup"]
    words += ["--ctx-size", str(context * slots), "--parallel", str(slots), "--ubatch-size", str(batch)]
    words += ["--cache-type-k", kind, "--cache-type-v", kind, "--log-verbosity", "4", "--port", "18811"]
    chosen = (*llamacpp.ENVIRONMENT, f"MESA_SHADER_CACHE_DIR={SHADERS}")
    variables = dict(one.split("=", 1) for one in chosen if not one.startswith("LLAMA_"))
    found: dict[str, float] = {"model": 0, "KV": 0, "compute": 0}
    tied = shapes()[name]["tied"]
    log = ""
    with subprocess.Popen(
        words, env=os.environ | variables, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    ) as server:
        for line in server.stdout or ():
            log += line
            # Of a matrix that is both, the CPU reads the embedding in the file's own pages: not beside them.
            if (match := _BUFFER.search(line)) and (match[1] == "Vulkan0" or match[2] != "model" or not tied):
                found[match[2]] += float(match[3]) * MIB
            if "listening on" in line:
                server.terminate()
                break
        server.wait(timeout=60)
    if not all(found.values()):
        raise SystemExit(f"{name}: the server said:\n{log[-3000:]}")
    return found


def compared(root: Path) -> Iterator[tuple[str, tuple[int, int, int, str], str, float, float]]:
    """Model, setting, part, and its bytes by ojai and by the log. Of computation only where the width says it all."""
    for name, shape in shapes().items():
        size = (root / "models" / f"{name}-Q4_K_M.gguf").stat().st_size
        for setting in SETTINGS:
            ours, theirs = expected(name, size, setting), logged(root, name, setting)
            yield name, setting, "weights", ours.weights_bytes, theirs["model"]
            yield name, setting, "cache", ours.available_bytes(0), theirs["KV"]
            if setting[3] == "f16" and not (shape["experts"] or shape["per_layer"]):
                yield name, setting, "computation", ours.compute_bytes, theirs["compute"]


def main(words: list[str]) -> int:
    """Write the flags, or compare; 1 where something is more than 2 % off."""
    folder = llamacpp.build(image.cache_root())
    done = subprocess.run(
        ["chroot", folder / "root", "/usr/bin/llama-server", "--help"], capture_output=True, text=True
    )
    found = dict(sorted(flags(done.stdout or done.stderr).items()))
    known = json.loads(DATA.read_text())
    if words == ["--write"]:
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
        head = f' "build": {known["build"]},\n "source": {json.dumps(known["source"])}'
        DATA.write_text(f'{{\n{head},\n "flags": {{\n{rows}\n }}\n}}\n')
        return 0
    status = 0
    if found != {name: tuple(value) for name, value in known["flags"].items()}:
        print(f"{DATA.name} is not what the server says: --write")
        status = 1
    for name, setting, part, ours, theirs in compared(folder / "root"):
        off = ours / theirs - 1
        print(f"{name:6} {setting!s:26} {part:12} {ours:12,.0f} {theirs:12,.0f} {off:+.2%}")
        status |= abs(off) > 0.02
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
