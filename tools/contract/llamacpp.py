"""What llama.cpp's real server says of itself, beside what ojai says of it (`make contract-llamacpp`).

python -m tools.contract.llamacpp --write    # write its flags down anew
python -m tools.contract.llamacpp            # its flags, and a budget beside its log, for models of several shapes

The server is the lab's: Debian's, by Vulkan in software (ojai.lab.llamacpp), in a root file system of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

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
