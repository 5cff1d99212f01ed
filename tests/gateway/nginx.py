"""A real nginx with the gateway's own configuration, on loopback, in front of whatever listens on a port."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ojai import gateway
from ojai.lab import image, packages
from ojai.settings import parse

#: Keys of the tests, by name.
KEYS = {"laptop": "ojai-" + "a" * 43, "ci": "ojai-" + "b" * 43}
REVOKED = "ojai-" + "c" * 43


def program() -> Path:
    """Debian's nginx with its modules, unpacked in the lab's cache: installed, it would listen on port 80."""
    cache, name = image.cache_root(), "nginx"
    top = cache / name
    with image.locked(cache, name):
        if not (top / "usr/sbin/nginx").exists():
            with image.fresh(cache, name) as new:
                for package in gateway.PACKAGES:
                    packages.unpack(package, new)
    return top


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Gateway:
    """One that runs. ``folder`` has its configuration, keys, certificate and logs."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def log(self) -> str:
        return (self.folder / "access.log").read_text()

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """The keys that are valid; nginx reads them at once."""
        for file in (self.folder / "keys").glob("*.map"):
            file.unlink()
        for name, key in keys.items():
            total = hashlib.sha256(key.encode()).hexdigest()
            (self.folder / "keys" / f"{name}.map").write_text(f'"{total}" "{name}";\n')

    def reload(self) -> None:
        """As the unit does; back when the workers of before are gone."""
        old = self.workers()
        self.process.send_signal(1)
        end = time.monotonic() + 20
        while self.workers() & old and time.monotonic() < end:
            time.sleep(0.1)

    def workers(self) -> set[str]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return set(children.split())


def certificate(folder: Path, *names: str) -> None:
    """A local authority and a certificate, by the program that a host runs."""
    text = gateway.renewal_script().replace(gateway.FOLDER, str(folder))
    script = folder / "renew"
    script.write_text(text)
    subprocess.run(["sh", script, "make", *names], check=True, capture_output=True)


@contextmanager
def running(folder: Path, engine: int, **data: object) -> Iterator[Gateway]:
    """The gateway of a host with one service on the port ``engine``, with other settings as ``data`` has them."""
    top, port = program(), free_port()
    services = data.pop("services", [{"port": engine}])
    settings = parse("mini", {"gateway_port": port, "gateway_address": "127.0.0.1", "services": services, **data})
    for name in ("keys", "cache"):
        (folder / name).mkdir()
    text = gateway.configuration(settings)
    places = {
        gateway.FOLDER: str(folder),
        gateway.CACHE: str(folder / "cache"),
        "/run/ojai-gateway": str(folder),
        "/usr/lib/nginx/modules": str(top / "usr/lib/nginx/modules"),
        "syslog:server=unix:/dev/log,nohostname,tag=ojai_gateway": str(folder / "access.log"),
    }
    for place, here in places.items():
        assert place in text, f"{place} is not in the configuration"
        text = text.replace(place, here)
    # The folders of tests are closed to other accounts.
    text = text.replace("user www-data;\n", "user root;\n" if os.geteuid() == 0 else "")
    (folder / "nginx.conf").write_text(text)
    (folder / "key.js").write_text(gateway.key_script())
    certificate(folder, "gateway.test")
    log = (folder / "error.log").open("wb")
    argv = [str(top / "usr/sbin/nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    found = Gateway(folder, port, subprocess.Popen(["true"]))
    found.process.wait()
    found.set_keys(KEYS)
    found.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if found.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((folder / "error.log").read_text()) from None
                time.sleep(0.1)
        yield found
    finally:
        found.process.terminate()
        found.process.wait(20)
        log.close()
