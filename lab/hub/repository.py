"""What the hub has: models with their commits, and files that are generated once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOTE = "Made by the ojai lab: random bytes, no model."
DEFAULT_SIZE = 1 << 20
"""Bytes of each weight file, unless the hub is started with another size."""
BLOCK = 1 << 20
TOKENIZER = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"lab": 0}, "unk_token": "lab"}}
CHAT_TEMPLATE = "{{ messages[-1]['content'] }}"

#: What every model's repository has beside its weights; the last ones are not for a server.
SMALL: dict[str, str] = {
    "config.json": json.dumps({"architectures": ["Gemma4ForConditionalGeneration"], "ojai_lab": NOTE}, indent=2),
    "generation_config.json": json.dumps({"temperature": 1.0, "top_k": 64, "top_p": 0.95}),
    "processor_config.json": json.dumps({"processor_class": "Gemma4Processor"}),
    "tokenizer_config.json": json.dumps({"tokenizer_class": "GemmaTokenizer"}),
    "chat_template.jinja": CHAT_TEMPLATE,
    ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    "README.md": f"---\nlicense: other\n---\n{NOTE}\n",
}
#: Kept in LFS, as in the real repositories, though they are small here.
LARGE: dict[str, str] = {"tokenizer.json": json.dumps(TOKENIZER)}
#: What a server has no use for.
UNUSED: dict[str, int] = {"original/consolidated.safetensors": 4096, "onnx/model.onnx": 4096, "model.gguf": 4096}


@dataclass(frozen=True)
class File:
    """One file of a commit. ``sha256`` is None for one that git itself keeps."""

    path: Path
    size: int
    blob_id: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """What the hub names it by."""
        return self.sha256 or self.blob_id


@dataclass
class Repository:
    """A model: its commits, the oldest first. ``gated``: only for accounts that have accepted its licence."""

    name: str
    gated: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The commit that the branch has now."""
        return list(self.commits)[-1]

    def commit(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        if revision == "main":
            return self.head
        return revision if revision in self.commits else None


def git_blob(content: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def write_safetensors(path: Path, size: int, stands_for: int, seed: str) -> str:
    """Write a file of safetensors form with one tensor of ``size`` random bytes; return its SHA-256."""
    header = json.dumps(
        {
            "__metadata__": {"format": "pt", "ojai_lab": NOTE, "ojai_lab_bytes": str(stands_for)},
            "lab.weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    source, digest = random.Random(seed), hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as sink:
        for part in (struct.pack("<Q", len(header)), header):
            sink.write(part)
            digest.update(part)
        left = size
        while left:
            block = source.randbytes(min(left, BLOCK))
            sink.write(block)
            digest.update(block)
            left -= len(block)
    fresh.replace(path)
    return digest.hexdigest()


class Store:
    """All models, generated under ``folder`` when first asked for. ``weights``: name -> file -> its real size."""

    def __init__(self, folder: Path, weights: dict[str, dict[str, int]], size: int, gated: frozenset[str]) -> None:
        self.folder, self.weights, self.size, self.gated = folder, weights, size, gated
        self._made: dict[str, Repository] = {}

    def find(self, name: str) -> Repository | None:
        """The model of this name, with one commit at least.

        Files in ``given/NAME/COMMIT`` are a model too, as they are.
        """
        if name not in self._made and (place := self.folder / "given" / name).is_dir():
            self._made[name] = Repository(name, name in self.gated)
            for commit in sorted(place.iterdir()):
                files = {path.name: path for path in sorted(commit.iterdir())}
                self._made[name].commits[commit.name] = {
                    file: self._file(path, hashlib.sha256(path.read_bytes()).hexdigest())
                    for file, path in files.items()
                }
        if name not in self._made and name in self.weights:
            self._made[name] = Repository(name, name in self.gated)
            # What was committed before this process was started is there too.
            number = self.folder / name / "commits"
            for _ in range(int(number.read_text()) if number.exists() else 1):
                self.add_commit(name)
        return self._made.get(name)

    def add_commit(self, name: str) -> str:
        """Move the branch of a model on: its weights change. Return the new commit."""
        repository = self._made.get(name) or self.find(name)
        if repository is None:
            raise KeyError(name)
        number = len(repository.commits)
        place = self.folder / name / str(number)
        files: dict[str, File] = {}
        for file, text in {**SMALL, **LARGE}.items():
            files[file] = self._text(place / file, text, lfs=file in LARGE)
        for file, stands_for in self.weights[name].items():
            files[file] = self._weights(place / file, self.size, stands_for, f"{name} {number} {file}")
        for file, size in UNUSED.items():
            files[file] = self._weights(place / file, size, size, f"{name} {file}")
        if len(self.weights[name]) > 1:
            index = {"metadata": {}, "weight_map": {f"lab.{file}": file for file in self.weights[name]}}
            files["model.safetensors.index.json"] = self._text(
                place / "model.safetensors.index.json", json.dumps(index), lfs=False
            )
        listing = json.dumps({file: entry.etag for file, entry in sorted(files.items())})
        commit = hashlib.sha1(f"{name} {number} {listing}".encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = dict(sorted(files.items()))
        (self.folder / name / "commits").write_text(str(len(repository.commits)))
        return commit

    def _text(self, path: Path, text: str, lfs: bool) -> File:
        content = text.encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return self._file(path, hashlib.sha256(content).hexdigest()) if lfs else _plain(path, content)

    def _weights(self, path: Path, size: int, stands_for: int, seed: str) -> File:
        kept = path.with_name(f"{path.name}.sha256-{size}")
        if not (path.exists() and kept.exists()):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(write_safetensors(path, size, stands_for, seed))
        return self._file(path, kept.read_text())

    @staticmethod
    def _file(path: Path, sha256: str) -> File:
        size = path.stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return File(path, size, git_blob(pointer.encode()), sha256)


def _plain(path: Path, content: bytes) -> File:
    return File(path, len(content), git_blob(content), None)


def siblings(files: dict[str, File]) -> list[dict[str, Any]]:
    """The files as the API lists them with `blobs=true`."""
    found: list[dict[str, Any]] = []
    for name, file in files.items():
        entry: dict[str, Any] = {"rfilename": name, "size": file.size, "blobId": file.blob_id}
        if file.sha256:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
        found.append(entry)
    return found


def tree(files: dict[str, File]) -> list[dict[str, Any]]:
    """The files as the API's tree lists them."""
    found: list[dict[str, Any]] = []
    for name, file in files.items():
        entry: dict[str, Any] = {"type": "file", "path": name, "size": file.size, "oid": file.blob_id}
        if file.sha256:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
        found.append(entry)
    return found
