"""Write ojai/data/hub-client.yaml: what the hub's client on a host is made of, as it is installed here.

The packages are installed from requirements.txt, by pip, each with the hash that is there.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from ojai.weights.pack import content, digest

#: huggingface-hub and what it needs; without hf-xet, its compiled transport, which is not used (decision 13).
PACKAGES = (
    *("huggingface-hub", "filelock", "fsspec", "packaging", "pyyaml", "requests", "tqdm", "typing-extensions"),
    *("certifi", "charset-normalizer", "idna", "urllib3"),
)
TARGET = Path(__file__).resolve().parents[1] / "ojai" / "data" / "hub-client.yaml"
HEAD = """\
# The hub's client on a host (ojai/weights/pack.py): version of each package, and one SHA-256 over its files.
# Written by `python -m tools.hub_client` from what requirements.txt has installed; not by hand.
"""


def main() -> None:
    """Write the file."""
    lines = [
        f'{name}:\n  version: "{distribution(name).version}"\n  sha256: {digest(content(name))}\n' for name in PACKAGES
    ]
    TARGET.write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
