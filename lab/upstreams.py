"""The stand-ins for what is outside: an apt archive (repo.radeon.com), a registry (Docker Hub), a hub of models
(huggingface.co). On loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from ojai.lab import archive, image, oci, packages, state, vm
from ojai.lab.errors import LabError
from ojai.lab.shell import step, tail
from ojai.lab.state import Process, Records, ServiceRecord

START_SECONDS = 20

REGISTRY_CONFIG = """\
version: 0.1
log:
  level: info
  accesslog:
    disabled: false
storage:
  filesystem:
    rootdirectory: {storage}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
"""


def answers(url: str) -> bool:
    """Tell whether a URL answers with a success."""
    try:
        # This machine's own: never by a proxy.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=3):
            return True
    except (urllib.error.URLError, OSError):
        return False


def launch(argv: Sequence[str | Path], log: Path) -> Process:
    """Start a service in the background and return its process."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            cwd="/",
        )
    return Process.of(child.pid)


def wait_for(what: str, process: Process, url: str, log: Path) -> None:
    """Wait until a service's URL answers; stop it and raise LabError with its last lines if it does not."""
    end = time.monotonic() + START_SECONDS
    while not answers(url):
        if not process.alive or time.monotonic() > end:
            process.stop()
            raise LabError(f"the lab's {what} did not start:\n{tail(log.read_text(errors='replace'), 10)}")
        time.sleep(0.1)


def _port(record: ServiceRecord | None) -> int:
    """Return the port to use: the one that guests already know, when there is one."""
    if record is None:
        return vm.free_port()
    if not vm.port_is_free(record.port):
        raise LabError(
            f"port {record.port} of 127.0.0.1, which the lab's guests know a stand-in by, is taken by another "
            "program. End that program, or start afresh: `ojai lab down --destroy` and `ojai lab up`"
        )
    return record.port


def start_archive(records: Records) -> Records:
    """Start the apt archive unless it runs already."""
    top, fingerprint = archive.cached()
    record = records.rocm
    if record and record.process and record.process.alive and records.rocm_fingerprint == fingerprint:
        return records
    if record and record.process:
        record.process.stop()
    port = _port(record)
    log = state.folder() / "logs" / "archive.log"
    process = launch([sys.executable, Path(__file__).with_name("serve.py"), top, str(port)], log)
    service = ServiceRecord(port=port, process=process)
    records = records.model_copy(update={"rocm": service, "rocm_fingerprint": fingerprint})
    state.write(records)
    wait_for("apt archive", process, f"http://127.0.0.1:{port}/{archive.KEY_PATH}", log)
    return records


def registry_program() -> Path:
    """Return Debian's docker-registry, unpacked in the cache: installed, it would listen on every interface."""
    cache, name = image.cache_root(), "docker-registry"
    program = cache / name / "usr" / "bin" / "docker-registry"
    with image.locked(cache, name):
        if not program.exists():
            with step("fetching the registry program"), image.fresh(cache, name) as top:
                packages.unpack("docker-registry", top)
    return program


def start_registry(records: Records) -> Records:
    """Start the registry unless it runs already."""
    record = records.registry
    if record and record.process and record.process.alive:
        return records
    port = _port(record)
    place = state.folder() / "registry"
    place.mkdir(parents=True, exist_ok=True)
    config = place / "config.yml"
    config.write_text(REGISTRY_CONFIG.format(storage=json.dumps(str(place / "storage")), port=port))
    log = state.folder() / "logs" / "registry.log"
    process = launch([registry_program(), "serve", config], log)
    records = records.model_copy(update={"registry": ServiceRecord(port=port, process=process)})
    state.write(records)
    wait_for("registry", process, f"http://127.0.0.1:{port}/v2/", log)
    return records


def start_hub(records: Records) -> Records:
    """Start the hub of models unless it runs already; its second address, which files come from, has the next record.

    ``OJAI_LAB_HUB_SIZE``: bytes of each weight file.
    """
    record = records.hub
    if record and record.process and record.process.alive:
        return records
    port, second = _port(record), _port(records.hub_files)
    log = state.folder() / "logs" / "hub.log"
    argv: list[str | Path] = [sys.executable, "-m", "ojai.lab.hub", state.folder() / "hub", str(port), str(second)]
    size = os.environ.get("OJAI_LAB_HUB_SIZE")
    process = launch([*argv, *(["--size", size] if size else [])], log)
    service = {"hub": ServiceRecord(port=port, process=process), "hub_files": ServiceRecord(port=second)}
    records = records.model_copy(update=service)
    state.write(records)
    wait_for("hub", process, f"http://127.0.0.1:{port}/lab/counts", log)
    return records


def start(records: Records) -> Records:
    """Start those that do not run."""
    return start_hub(start_registry(start_archive(records)))


def push_images(records: Records) -> Records:
    """Build the model server's image if it has changed, and put it into the registry."""
    registry = records.registry
    if registry is None:
        raise LabError("the registry is not running")
    layout = oci.build(image.cache_root())
    mark = hashlib.sha256((layout / "index.json").read_bytes()).hexdigest()
    kept = state.folder() / "registry" / "pushed"
    if records.images and kept.exists() and kept.read_text() == mark:
        return records
    with step("putting the stand-in image into the registry"):
        images = oci.push(layout, f"127.0.0.1:{registry.port}")
    kept.write_text(mark)
    return records.model_copy(update={"images": dict(images)})


def stop(records: Records) -> Records:
    """Stop the services; their ports stay written down."""
    changes: dict[str, ServiceRecord] = {}
    for name, record in (("rocm", records.rocm), ("registry", records.registry), ("hub", records.hub)):
        if record is not None:
            if record.process:
                record.process.stop()
            changes[name] = record.model_copy(update={"process": None})
    return records.model_copy(update=changes)
