"""Fetch models into a Hugging Face cache, and verify them. Runs on the host, from the file that ``pack`` makes.

The request is JSON in the one argument; what is secret (token, proxies) is JSON on standard input. The result is a line
of JSON on standard output that begins with :data:`RESULT`, a failure one that begins with :data:`FAILURE`. While it
works, a line for a person is in the file ``status``.

A record in the folder ``state`` says which commit of a model the host has, and which files were verified: what is
recorded and still there is never asked for again, and is never read again either.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

#: Where the records are.
STATE = "/var/lib/ojai/weights"

#: In that folder: commits, and names of branches, that were not there before we fetched them, a line each.
OURS = "ours"

#: What the line to the hub or the registry gave last: bytes a second, and when that was, in seconds since 1970.
LINE = f"{STATE}/line"

#: Bytes, below which nothing is learned of a line.
ENOUGH = 5_000_000

RESULT, FAILURE = "ojai-fetched\t", "ojai-fetch-failed\t"

#: First line of a record, with the version of its format.
RECORD = "ojai-weights\t1"

#: How the client is set up, before it is imported. Xet is off: it is a compiled part for one Python, it keeps a second
#: copy of what it fetches, and what it was fetching is not resumed by the file.
SETTINGS = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_ETAG_TIMEOUT": "20",
}

#: The authorities that the host trusts, its owner's among them; without that file, those that the client brings.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

BLOCK = 1 << 22

#: Bytes that the client reads before it writes them. What was read of a piece is lost when the connection is: with the
#: client's own 10 MB, a line that is cut off more often would never get on.
PIECE = 1 << 20

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_COPIES = "copies in the place of the cache's links, which say what is in each file,"

#: What may go away by itself, and is tried again.
TRANSIENT = frozenset({"hub-dead", "hub-down", "hub-busy", "cut-off"})


class FetchError(Exception):
    """What went wrong: its ``code`` in data/fetch-errors.yaml, and the words that its text has a place for."""

    def __init__(self, code: str, wait: float = 0, **words: str) -> None:
        super().__init__(code)
        self.code, self.wait, self.words = code, wait, words


@dataclass(frozen=True)
class File:
    """A file of a commit. ``hash``: the hub's own, SHA-256 for one in LFS and git's blob id for another."""

    path: str
    size: int
    hash: str


class Patterns(Protocol):
    """Which files of a model are wanted, as fnmatch's patterns of their paths.

    + allow: beside weights; one without a wildcard has to be there
    + weights: forms of weights; only the first that there is
    + ignore: never
    """

    @property
    def allow(self) -> Sequence[str]:  # noqa: D102
        ...

    @property
    def weights(self) -> Sequence[str]:  # noqa: D102
        ...

    @property
    def ignore(self) -> Sequence[str]:  # noqa: D102
        ...


@dataclass(frozen=True)
class Files:
    """The `Patterns` of a request."""

    allow: list[str]
    weights: list[str]
    ignore: list[str]


@dataclass(frozen=True)
class Request:
    """What is asked for (see the operation that sends it)."""

    services: list[dict[str, Any]]
    state: Path
    status: Path
    endpoint: str
    reserve: int
    patience: int
    timeout: int
    workers: int
    token: str | None
    local_only: bool = False


def record_name(model: str, asked: str | None) -> str:
    """The name of a model's record."""
    return f"{folder_name(model)}@{quote(asked or 'main', safe='')}"


def is_commit(revision: str | None) -> bool:
    """Whether it is one, and not a branch or a tag."""
    return bool(_COMMIT.fullmatch(revision or ""))


def folder_name(model: str) -> str:
    """As the client names a model's folder."""
    return f"models--{model.replace('/', '--')}"


def _recorded(file: Path) -> tuple[str, dict[str, File], bool] | None:
    """Commit and files of a record, and whether it is whole."""
    lines = file.read_text().splitlines() if file.exists() else []
    if lines[:1] != [RECORD]:
        return None
    commit, files = "", {}
    for line in lines:
        key, *words = line.split("\t")
        if key == "commit":
            commit = words[0]
        elif key == "file" and len(words) == 3:  # the last line of a part may be cut short
            files[words[2]] = File(words[2], int(words[0]), words[1])
    return commit, files, lines[-1] == "complete"


@dataclass
class Progress:
    """What is there and what is to come, in bytes, told in a file each second."""

    status: Path
    doing: str = "asking the hub"
    total: int = 0
    done: Callable[[], int] = lambda: 0
    _began: tuple[float, int] = (0.0, 0)
    _stop: threading.Event = field(default_factory=threading.Event)

    def begin(self, doing: str, total: int, done: Callable[[], int]) -> None:
        """Tell of something else from now on."""
        self.doing, self.total, self.done = doing, total, done
        self._began = time.monotonic(), done()

    def line(self) -> str:
        """One line for a person."""
        if not self.total:
            return self.doing
        now = self.done()
        since, before = self._began
        passed = time.monotonic() - since
        rate = (now - before) / passed if passed > 0 else 0.0
        left = f"{duration((self.total - now) / rate)} left" if rate > 0 else "nothing comes"
        return f"{self.doing}: {amount(now)} of {amount(self.total)}, {amount(rate)}/s, {left}"

    def __enter__(self) -> Progress:
        self.status.parent.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.status.unlink(missing_ok=True)

    def _tell(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                fresh = self.status.with_name(f"{self.status.name}.new")
                fresh.write_text(f"{self.line()}\n")
                fresh.replace(self.status)
            self._stop.wait(1)


def amount(size: float) -> str:
    """Bytes for a person."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size:.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def trust() -> None:
    """Have the client trust whom the host trusts."""
    if AUTHORITIES.exists():
        os.environ.setdefault("REQUESTS_CA_BUNDLE", str(AUTHORITIES))


def measured_line(fetched: int, seconds: float, place: Path = Path(LINE)) -> None:
    """Keep what the line gave, if that was enough to tell."""
    if fetched < ENOUGH or seconds <= 0:
        return
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = place.with_name(f"{place.name}.new")
    fresh.write_text(f"{fetched / seconds:.0f} {time.time():.0f}\n")
    fresh.replace(place)


class Record:
    """What is recorded of one model: its commit, and the files that were verified. ``whole``: all of them."""

    def __init__(self, state: Path, model: str, asked: str | None) -> None:
        self.model, self.asked = model, asked or "main"
        self.file = state / record_name(model, asked)
        self.part = state / f"{record_name(model, asked)}.part"
        self.commit, self.files, self.whole = "", {}, False  # type: str, dict[str, File], bool
        found = [read for file in (self.part, self.file) if (read := _recorded(file))]  # the whole one counts
        if not any(whole for *_, whole in found) and _COMMIT.fullmatch(self.asked):
            # A commit may be recorded under the name of a branch that it was.
            others = (_recorded(file) for file in sorted(state.glob(f"{folder_name(model)}@*")))
            found += [one for one in others if one and one[0] == self.asked and one[2]][:1]
        if found:
            self.commit, self.files, self.whole = found[-1]

    def begin(self, commit: str) -> None:
        """The files of this commit are verified from now on; those that are already, stay."""
        if self.commit != commit:
            self.commit, self.files = commit, {}
        self.whole = False
        self._write(self.part, [])

    def add(self, file: File) -> None:
        """One more is verified."""
        self.files[file.path] = file
        self._write(self.part, [])

    def complete(self) -> None:
        """That was all: on disk when this returns."""
        self.whole = True
        self._write(self.file, ["complete"])
        self.part.unlink(missing_ok=True)

    def _write(self, file: Path, end: list[str]) -> None:
        lines = [RECORD, f"model\t{self.model}", f"asked\t{self.asked}", f"commit\t{self.commit}"]
        lines += [f"file\t{one.size}\t{one.hash}\t{one.path}" for _, one in sorted(self.files.items())]
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.new")
        with fresh.open("w") as sink:
            sink.write("\n".join([*lines, *end]) + "\n")
            sink.flush()
            os.fsync(sink.fileno())
        fresh.replace(file)
        sync(file.parent)


def sync(path: Path) -> None:
    """Have a file or folder on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def wanted(paths: Iterable[str], files: Patterns) -> list[str]:
    """Those of the files that the engine reads: of the weights, those of the first form that is there."""
    kept = [path for path in paths if not _any(path, files.ignore)]
    first = next((form for form in files.weights if any(fnmatch.fnmatch(path, form) for path in kept)), None)
    forms = [*files.allow, *([first] if first else [])]
    return [path for path in kept if _any(path, forms)]


def named(files: Patterns) -> list[str]:
    """The files that are wanted by their names: all of them have to be there."""
    return [form for form in (*files.allow, *files.weights) if not re.search(r"[*?[]", form)]


def _any(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def measured(path: Path, expected: str, tell: Callable[[int], None]) -> bool:
    """Whether a file has this hash; ``tell``: how many bytes were read."""
    if _SHA256.fullmatch(expected):
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            digest.update(block)
            tell(len(block))
    return digest.hexdigest() == expected


class Model:
    """One model in one cache."""

    def __init__(
        self, request: Request, progress: Progress, cache: Path, model: str, asked: str | None, files: Files
    ) -> None:
        self.request, self.progress, self.cache, self.name, self.asked = request, progress, cache, model, asked
        self.files = files
        self.hub = cache / "hub"
        self.folder = self.hub / folder_name(model)
        self.record = Record(request.state, model, asked)
        self.fetched = 0
        self.there = 0
        self._lock = threading.Lock()

    def place(self, path: str) -> Path:
        """Where a file of the commit is."""
        return self.folder / "snapshots" / self.record.commit / path

    def on_disk(self, file: File) -> int:
        """How much of it is there."""
        for place in (self.place(file.path), self.folder / "blobs" / file.hash):
            with suppress(OSError):
                return place.stat().st_size
        with suppress(OSError):
            return (self.folder / "blobs" / f"{file.hash}.incomplete").stat().st_size
        return 0

    def has(self, file: File) -> bool:
        """Whether it is there as it was recorded."""
        try:
            return self.place(file.path).stat().st_size == file.size
        except OSError:
            return False

    def ensure(self) -> None:
        """Have it, verified."""
        if self.record.whole and all(self.has(file) for file in self.record.files.values()):
            self.there = sum(file.size for file in self.record.files.values())
            if not self.record.file.exists():
                self.record.complete()
            return
        files = self._listed()
        self.there = sum(map(self.on_disk, files))
        missing = [file for file in files if not self.has(file)]
        self._room(missing)
        if missing:
            if not (self.folder / "snapshots" / self.record.commit).exists():
                self._note("snapshots", self.record.commit)
            self.progress.begin(
                f"fetching {self.name}", sum(f.size for f in files), lambda: sum(map(self.on_disk, files))
            )
            began, before = time.monotonic(), self.fetched
            # The largest first: what comes last should not leave one connection alone with it.
            queue = sorted(missing, key=lambda file: file.size, reverse=True)
            with ThreadPoolExecutor(self.request.workers) as pool:
                work = [pool.submit(self._fetch, file) for file in queue]
                try:
                    for one in work:
                        one.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            measured_line(self.fetched - before, time.monotonic() - began, self.request.state / "line")
        self._verify(files)
        self.record.files = {file.path: file for file in files}
        for folder in {self.place(file.path).parent for file in files} | {self.folder / "blobs"}:
            if folder.is_dir():
                sync(folder)
        self._name_branch()
        self.record.complete()

    def _note(self, kind: str, name: str) -> None:
        """Record what is about to be made: that, and nothing else, may be taken away again."""
        file = self.request.state / OURS
        line = f"{self.folder}\t{kind}\t{name}\n"
        known = file.read_text() if file.exists() else ""
        if line not in known:
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with file.open("a") as sink:
                sink.write(line)
                sink.flush()
                os.fsync(sink.fileno())
            sync(file.parent)

    def _name_branch(self) -> None:
        """Have the cache know the commit by its branch's name too, as the client does, unless it knows another one."""
        branch = self.folder / "refs" / self.record.asked
        if not _COMMIT.fullmatch(self.record.asked) and not branch.exists():
            branch.parent.mkdir(parents=True, exist_ok=True)
            self._note("refs", self.record.asked)
            branch.write_text(self.record.commit)
        # A listing of the whole repository that a newer client left: offline, it would miss files that nobody reads.
        listing = self.folder / "trees" / f"{self.record.commit}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            if any(not self.place(path).exists() for path in json.loads(listing.read_text())["files"]):
                listing.unlink()

    def _listed(self) -> list[File]:
        """The files of the commit; the record begins with it."""
        commit = self.record.commit
        if self.asked and _COMMIT.fullmatch(self.asked):
            commit = self.asked
        if self.request.local_only and self.record.whole and self.record.commit == commit:
            lost = next(path for path, file in self.record.files.items() if not self.has(file))
            raise self._local_only(f"no whole {lost}")
        if (not commit and self.asked is None) or self.request.local_only:
            cached = self._cached_commit(commit)
            if cached and (files := self._cached_files(cached)):
                self.record.begin(cached)
                return files
            if self.request.local_only:
                raise self._local_only(_COPIES if cached else "")
            commit = cached
        info = self._asked_of_hub(commit or self.asked)
        self.record.begin(info.sha)
        listed = {one.rfilename: one for one in info.siblings or ()}
        files = []
        for path in wanted(listed, self.files):
            one = listed[path]
            files.append(File(path, one.size or 0, one.lfs.sha256 if one.lfs else one.blob_id))
        if absent := [name for name in named(self.files) if name not in listed]:
            raise FetchError("no-weights", forms=", ".join(absent))
        if not any(_any(file.path, self.files.weights) for file in files):
            raise FetchError("no-weights", forms=", ".join(self.files.weights))
        return files

    def _cached_commit(self, commit: str) -> str:
        """This commit, or else the one that the cache has as the branch, if that is whole."""
        try:
            commit = commit or (self.folder / "refs" / self.record.asked).read_text().strip()
        except OSError:
            return ""
        place = self.folder / "snapshots" / commit
        if _COMMIT.fullmatch(commit) and (exact := named(self.files)):
            return commit if all((place / name).exists() for name in exact) else ""
        if not _COMMIT.fullmatch(commit) or not (place / "config.json").exists():
            return ""
        names = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
        needed = {"config.json"}
        for index in place.glob("*.index.json"):
            with suppress(ValueError, OSError, AttributeError, TypeError):
                needed |= set(json.loads(index.read_text())["weight_map"].values())
        shards = {name for name in names if "-of-" in name}
        if shards and not any(name.endswith(".index.json") for name in names):
            return ""
        whole = all((place / name).exists() for name in names | needed) and any("token" in name for name in names)
        return commit if whole and any(_any(name, self.files.weights) for name in names) else ""

    def _cached_files(self, commit: str) -> list[File]:
        """Its files, where the cache itself says their hashes: in the names of the blobs that links lead to."""
        place = self.folder / "snapshots" / commit
        blobs = (self.folder / "blobs").resolve()
        names = [path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()]
        files = []
        for name in wanted(sorted(names), self.files):
            blob = (place / name).resolve()
            if blob.parent != blobs or not (_SHA256.fullmatch(blob.name) or _COMMIT.fullmatch(blob.name)):
                return []
            files.append(File(name, blob.stat().st_size, blob.name))
        return files

    def _local_only(self, why: str = "") -> FetchError:
        return FetchError("local-only", why=why or "not every file of it, whole,", place=str(self.folder))

    def _asked_of_hub(self, revision: str | None) -> Any:
        from huggingface_hub import HfApi

        def ask() -> Any:
            api = HfApi(endpoint=self.request.endpoint, token=self.request.token or False)
            return api.model_info(self.name, revision=revision, files_metadata=True, timeout=self.request.timeout)

        return self._patiently(ask, lambda: 0)

    def _room(self, missing: list[File]) -> None:
        place = self.cache
        while not place.is_dir():
            place = place.parent
        needed = sum(file.size - self.on_disk(file) for file in missing)
        free = shutil.disk_usage(place).free
        if missing and free < needed + self.request.reserve:
            raise FetchError("disk", free=amount(free), needed=amount(needed + self.request.reserve), place=str(place))

    def _fetch(self, file: File) -> None:
        """One file, from where it was cut off."""
        from huggingface_hub import hf_hub_download

        if self.request.local_only:
            raise self._local_only()

        def download() -> None:
            part = self.folder / "blobs" / f"{file.hash}.incomplete"
            if part.exists() and part.stat().st_size > file.size:
                part.unlink()  # of something else; the hub would refuse to go on from there
            before = self.on_disk(file)
            try:
                hf_hub_download(
                    self.name,
                    file.path,
                    revision=self.record.commit,
                    cache_dir=self.hub,
                    endpoint=self.request.endpoint,
                    token=self.request.token or False,
                    etag_timeout=self.request.timeout,
                )
            finally:
                with self._lock:
                    self.fetched += max(self.on_disk(file) - before, 0)

        if self.place(file.path).exists():
            self._forget(file)  # cut short: the client would take it as it is
        for _ in range(2):
            self._patiently(download, lambda: self.on_disk(file))
            if self.has(file):
                return
            self._forget(file)
        raise FetchError("size", file=file.path, size=str(file.size))

    def _patiently(self, do: Callable[[], Any], done: Callable[[], int]) -> Any:
        """Try again what may go away by itself, as long as something comes; if nothing does, ``patience`` times.

        Where the client itself has waited longer than that many timeouts, not once more.
        """
        tries, last = 0, time.monotonic()
        while True:
            before = done()
            try:
                return do()
            except Exception as error:
                found = failure(error, self.request)
                found.words.setdefault("model", self.name)
                tries, last = (1, time.monotonic()) if done() > before else (tries + 1, last)
                silent = time.monotonic() - last > self.request.patience * self.request.timeout
                if found.code not in TRANSIENT or tries > self.request.patience or silent:
                    raise found from error
                time.sleep(max(min(2.0**tries / 2, 30.0), min(found.wait, 120.0)))

    def _forget(self, file: File) -> None:
        """Take away what is not what the hub has."""
        place = self.place(file.path)
        for path in (place.resolve(), place, self.folder / "blobs" / f"{file.hash}.incomplete"):
            path.unlink(missing_ok=True)

    def _verify(self, files: list[File]) -> None:
        """Every file by the hub's own hash; a wrong one is fetched once more."""
        left = [file for file in files if self.record.files.get(file.path) != file]
        read = 0

        def tell(size: int) -> None:
            nonlocal read
            read += size

        self.progress.begin(f"verifying {self.name}", sum(file.size for file in left), lambda: read)
        for file in left:
            for again in (False, True):
                if again:
                    self._fetch(file)
                if measured(self.place(file.path), file.hash, tell):
                    break
                self._forget(file)
            else:
                raise FetchError("checksum", model=self.name, file=file.path)
            sync(self.place(file.path))
            self.record.add(file)


def failure(error: BaseException, request: Request) -> FetchError:
    """The code of what the client, or the system, has raised."""
    from huggingface_hub import errors
    from requests import exceptions

    if isinstance(error, FetchError):
        return error
    chain, said = list(_causes(error)), reason(error)
    for one in chain:
        response = getattr(one, "response", None)
        if isinstance(one, errors.GatedRepoError):
            code = "gated" if request.token else "token-missing"
            return FetchError("token-kind" if "fine-grained" in str(one) else code)
        if isinstance(one, errors.RevisionNotFoundError):
            return FetchError("revision")
        if response is not None and "Invalid credentials" in (response.headers.get("X-Error-Message") or ""):
            return FetchError("token-wrong")
        if isinstance(one, errors.RepositoryNotFoundError):
            return FetchError("model-unknown" if request.token else "model-unknown-no-token")
        if isinstance(one, errors.EntryNotFoundError) and response is not None:
            return FetchError("file-gone", said=said)
        if isinstance(one, errors.FileMetadataError):
            return FetchError("not-a-hub")
        if isinstance(one, exceptions.JSONDecodeError):
            return FetchError("not-a-hub")
        if isinstance(one, exceptions.HTTPError) and response is not None:
            return _of_status(response, said, request.endpoint)
        if isinstance(one, exceptions.ProxyError | exceptions.InvalidProxyURL):
            return FetchError("proxy", said=said)
        if isinstance(one, exceptions.SSLError):
            return FetchError("certificate", said=said)
        if isinstance(one, exceptions.ChunkedEncodingError):
            return FetchError("cut-off", said=said)
        if isinstance(one, exceptions.ConnectionError | exceptions.Timeout):
            return FetchError("hub-dead", said=said)
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return FetchError("cut-off", said="it ended too early")
    if isinstance(error, OSError):
        return FetchError("disk-full" if error.errno == 28 else "cache", said=said)
    return FetchError("unknown", said=f"{type(error).__name__}: {said}")


def _of_status(response: Any, said: str, endpoint: str) -> FetchError:
    status: int = response.status_code
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        return FetchError("hub-busy", wait=float(wait) if wait.isdigit() else 0.0)
    if status == 407:
        return FetchError("proxy", said=said)
    if status == 403 and urlsplit(response.url).netloc != urlsplit(endpoint).netloc:  # asked for anew, it is another
        return FetchError("cut-off", said="the address that the hub gave for it has expired")
    if status == 416:  # more is there than the file has: it is of another
        return FetchError("cut-off", said=said)
    if status >= 500:
        return FetchError("hub-down", status=str(status))
    if status == 401:  # the hub does not say whether there is such a model
        return FetchError("model-unknown-no-token")
    return FetchError("refused", status=str(status), said=response.headers.get("X-Error-Message") or response.reason)


def reason(error: BaseException) -> str:
    """What was the matter in the end, without the way that it came: no address, which can hold a password."""
    inner: Any = error
    while True:
        first = inner.args[0] if inner.args else None
        found = (getattr(inner, "reason", None), first, inner.__cause__, inner.__context__)
        deeper = next((one for one in found if isinstance(one, BaseException)), None)
        if deeper is None:
            break
        inner = deeper
    said = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return " ".join(re.sub(r"\S+://\S+", "(an address)", str(said)).split())[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def run(request: Request) -> list[dict[str, Any]]:
    """Fetch what every service needs; a line of the report for each model of each."""
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = PIECE
    trust()
    found: list[dict[str, Any]] = []
    with Progress(request.status) as progress:
        for service in request.services:
            files = Files(**service["files"])
            for one in service["models"]:
                began = time.monotonic()
                model = Model(request, progress, Path(service["cache"]), one["model"], one["revision"], files)
                try:
                    model.ensure()
                except Exception as error:
                    raised = failure(error, request)
                    raised.words.setdefault("model", model.name)
                    raised.words |= {"service": service["name"], "revision": model.asked or "main"}
                    raise raised from error
                there = model.record.files.values()
                found.append(
                    {
                        "service": service["name"],
                        "model": model.name,
                        "asked": model.asked or "main",
                        "revision": model.record.commit,
                        "files": len(there),
                        "bytes": sum(file.size for file in there),
                        "bytes_before": model.there,
                        "bytes_fetched": model.fetched,
                        "seconds": round(time.monotonic() - began, 1),
                    }
                )
    return found


def read_request(argument: str, secret: str) -> Request:
    """The request. Raises :class:`FetchError` for a token that cannot be one."""
    asked, hidden = json.loads(argument), json.loads(secret or "{}")
    token = hidden.get("token")
    for file in dict.fromkeys(service["env_file"] for service in asked["services"]):
        token = token or _token_in(Path(file))
    if token is not None and not re.fullmatch(r"[\w.~+/-]+", token, re.ASCII):
        raise FetchError("token-form", token_found=_form(token))
    os.environ.update({"HF_HUB_DOWNLOAD_TIMEOUT": str(asked["timeout"]), **SETTINGS, **hidden.get("environment", {})})
    asked["state"], asked["status"] = Path(asked["state"]), Path(asked["status"])
    return Request(**asked, token=token)


def _token_in(file: Path) -> str | None:
    """The token of a service's environment file, as Docker reads it: quotes and blanks belong to it."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    values = [line.partition("=")[2] for line in lines if line.startswith("HF_TOKEN=")]
    return values[-1] if values and values[-1] else None


def _form(token: str) -> str:
    if token.split() != [token]:
        return "white space in it"
    return "quotes around it" if token[0] in "'\"" else "a character that no token has"


def main() -> int:
    """One run at a time; another one's status is shown meanwhile, as it is in the same file."""
    lock = Path("/run/lock/ojai-fetch") if os.geteuid() == 0 else Path(f"/tmp/ojai-fetch-{os.geteuid()}")
    try:
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            request = read_request(sys.argv[1], sys.stdin.read())
            found = run(request)
    except FetchError as error:
        print(FAILURE + json.dumps({"code": error.code, "words": error.words}), flush=True)
        return 1
    print(RESULT + json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
