"""What the engine lacks under each measure of `hardened`: a real vLLM on a CPU, in Docker, in a container of the lab.

    python -m tests.lab.hardening [MEASURE…]     tries all, or some; keeps what came, and writes the page

The vLLM of `make contract-server` becomes an image. It is started by the command of a service, without what only a GPU
has (its devices stand for nothing here): as the guides have it, with each measure alone, and with all of them. Each
time it is asked for its health, an answer and a stream; and the kernel, what a process in the container may do.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from ojai.engines import hardening
from ojai.lab import packages
from ojai.lab.errors import LabError
from ojai.lab.shell import as_root, step
from ojai.settings import parse
from tests.lab.backends import say
from tests.lab.cutting import must
from tests.lab.machine import ROOT, Guest, Lab
from tests.lab.results import commit, load, save
from tools.contract.server import ENVIRONMENT, FLAGS
from tools.contract.server import PLACE as ENGINE

KIND = "hardening"
IMAGE = "engine:tried"
MODEL = "/root/.cache/huggingface/tried"
#: The names of the two runs that are compared with.
GUIDES, AGAIN, ALL = "guides", "guides, again", "all"
#: Of these torch compiles anew; the others find what was compiled for the first one.
FRESH = (GUIDES, "read-only", ALL)
#: Seconds for a start, torch's compiler included.
START = 900
#: On Debian 12, whose Python is that of the environment; the compiler is what torch compiles with on a CPU.
PYTHON = "python3.11"
INCLUDE = f"{PYTHON},{PYTHON}-dev,g++,libnuma1,openssl"

#: What differs between two lines of the log that say the same.
_PASSING = re.compile(r"\((\w+ )?pid=\d+\) |\[W\d+ [\d:.]+ |\d\d-\d\d [\d:.]+ |0x\w+|[0-9a-f]{16,}|\d+")
_TOLD = re.compile(r"WARN|ERROR|Error|error|fail|denied|not permitted|[Rr]ead-only|^\[W", re.MULTILINE)

ASK = r"""
set -e
url=http://127.0.0.1:8000/v1/chat/completions
ask() { curl -q -s --noproxy '*' -m 300 -H 'Content-Type: application/json' -d "$1" $url; }
hello='"model":"tried","messages":[{"role":"user","content":"Hi"}],"max_tokens":16'
ask "{$hello}" | grep -q '"completion_tokens"'
ask "{$hello,\"stream\":true}" | grep -q 'data: \[DONE\]'
"""

#: Whether it serves, whether it runs, and its processes and threads.
LOOK = r"""
curl -q -s -f --noproxy '*' -m 5 -o /dev/null http://127.0.0.1:8000/health && echo true || echo false
docker container inspect --format '{{.State.Running}}' $name
docker top $name -eLo pid,lwp 2>/dev/null | tail -n +2 | wc -l
"""

#: Whether Docker can limit processes and memory here, the most memory that its processes had (KiB), and what is in its
#: memory file systems.
HELD = r"""
docker info --format '{{.PidsLimit}} {{.MemoryLimit}}' 2>/dev/null
docker exec $name sh -c 'cat /proc/[0-9]*/status' | awk '/^VmHWM/ { found += $2 } END { print found }'
docker exec $name df --output=fstype,used,target -k | awk '$1 == "tmpfs" && $3 !~ "^/(proc|sys|dev$)" { print $3, $2 }'
"""


@dataclass(frozen=True)
class Engine:
    """Docker in a container of the lab, with the engine's image."""

    guest: Guest

    def prepare(self) -> None:
        """Bring up the container, Docker in it, and the image."""
        must(self.guest.lab.ojai("lab", "container", "lab"))
        with step("installing Docker in the container of the lab"):
            self.guest.root("DEBIAN_FRONTEND=noninteractive apt-get install -q -y docker.io >/tmp/apt.log 2>&1")
            self.guest.root(
                "mkdir -p /dev/dri; for device in kfd dri/renderD128 dri/card0; do "
                "[ -e /dev/$device ] || { mknod /dev/$device c 1 3; chmod 660 /dev/$device; }; done"
            )
        if self.guest.run(f"sudo docker image inspect {IMAGE}").returncode:
            with step("making an image of the real vLLM"):
                self._image()

    def _image(self) -> None:
        site = ENGINE / "lib" / PYTHON / "site-packages"
        hook = f'cp -a {shlex.quote(str(site))}/. "$1/usr/local/lib/{PYTHON}/dist-packages"'
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
        build = [packages.find("mmdebstrap") or "mmdebstrap", "--quiet", "--variant=apt", f"--include={INCLUDE}"]
        build = as_root([*build, *left_out, f"--customize-hook={hook}", "bookworm", "-"])
        self.send(build, "docker import -", IMAGE)

    def send(self, argv: Sequence[str], *words: str) -> None:
        """Run a program here, and one there that reads what it prints."""
        there = [sys.executable, "-m", "ojai", "lab", "ssh", "lab", "--", "sudo", *words]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as here:
            done = subprocess.run(
                there, cwd=ROOT, env=self.guest.lab.environment(), stdin=here.stdout, capture_output=True, check=False
            )
        if here.returncode or done.returncode:
            raise LabError(f"{argv[0]} | {' '.join(words)}: {done.stderr.decode()}")

    def command(self, measures: Iterable[hardening.Measure]) -> tuple[list[str], list[str]]:
        """The `docker run` of a service with these measures, and the folders that it mounts."""
        total = int(self.guest.text("awk '/^MemTotal/ { print $2 }' /proc/meminfo")) << 10
        with mock.patch.object(hardening, "load", lambda: tuple(measures)):
            service = parse("mini", {"services": [{"hardened": True, "allow": []}]}).resolved[0]
            service = service.on_host({"video": 44, "render": 105}, None, None, "renderD128", total)
            made = service.command
            argv = list(made.docker_argv)
        argv = argv[: argv.index(service.image)]
        argv.remove("--rm")
        # Of those for a GPU, none is read on a CPU but these.
        argv += [word for name, value in ENVIRONMENT.items() for word in ("-e", f"{name}={value}")]
        run = [PYTHON, "-m", "vllm.entrypoints.cli.main", "serve", MODEL, "--served-model-name", "tried"]
        # With torch's compiler, and its caches: the GPU's service has them.
        flags = [flag for flag in FLAGS if flag != "--enforce-eager"]
        return [*argv, "--detach", IMAGE, *run, "--host", "127.0.0.1", "--port", "8000", *flags], list(made.mounts)

    def tried(self, measures: Iterable[hardening.Measure], fresh: bool) -> dict[str, Any]:
        """What came of a start with these measures; ``fresh``: with nothing compiled before."""
        argv, folders = self.command(measures)
        name = argv[argv.index("--name") + 1]
        there = shlex.join(folders)
        self.guest.root(f"docker rm -f {name} >/dev/null 2>&1; {f'rm -rf {there};' * fresh} mkdir -p {there}")
        cache = next(folder for folder in folders if folder.endswith("/huggingface"))
        if fresh:
            unpack = f"sh -c 'mkdir {cache}/tried; tar -C {cache}/tried -x'"
            self.send(["tar", "-C", str(ENGINE / "model"), "-c", "."], unpack)
        self.guest.root(f"install -d -o 1000 {cache}/of-another; install -o 1000 /dev/null {cache}/of-another/file")
        (env_file,) = (word.partition("=")[2] for word in argv if word.startswith("--env-file="))
        self.guest.root(f"mkdir -p {Path(env_file).parent}; touch {env_file}; {shlex.join(argv)}")
        began, end = time.monotonic(), time.monotonic() + START
        most = 0
        while True:
            serves, runs, threads = self.guest.root(f"name={name}\n{LOOK}").splitlines()
            most = max(most, int(threads))
            if serves == "true" or runs != "true" or time.monotonic() > end:
                break
            time.sleep(2)
        found: dict[str, Any] = {"starts": serves == "true", "seconds": round(time.monotonic() - began)}
        if found["starts"]:
            found["answers"] = self.guest.run(ASK).returncode == 0
            probe = Path(__file__).with_name("hardening_probe.py").read_text()
            said = self.guest.root(f"docker exec {name} {PYTHON} -c {shlex.quote(probe)}")
            found["may"] = dict(line.split("\t") for line in said.splitlines())
            limits, memory, *used = self.guest.root(f"name={name}\n{HELD}").splitlines()
            found["limits"] = dict(zip(("pids", "memory"), (word == "true" for word in limits.split()), strict=True))
            found["threads"], found["memory_mib"] = most, int(memory) >> 10
            found["memory_files_kib"] = {place: int(size) for place, size in (line.split() for line in used)}
        log = self.guest.root(f"docker logs {name} 2>&1")
        found["written"] = _outside(self.guest.root(f"docker diff {name}").splitlines())
        found["log"] = sorted({_PASSING.sub("#", line).strip() for line in log.splitlines() if _TOLD.search(line)})
        if not found["starts"]:
            found["last"] = log.splitlines()[-30:]
        self.guest.root(f"docker rm -f {name}")
        return found


def _outside(changes: Iterable[str]) -> list[str]:
    """What was added to the container's own files: the outermost folders, and single files."""
    added = [line[2:] for line in changes if line.startswith("A ")]
    outermost = (path for path in added if not any(path.startswith(f"{other}/") for other in added))
    return sorted({re.sub("[0-9a-f-]{16,}", "#", path) for path in outermost})


def main(names: list[str]) -> int:
    """Try, keep and tell; status 1 if the engine does not serve under all measures."""
    if not (ENGINE / "ready").exists():
        raise SystemExit(f"found no vLLM in {ENGINE}; `make hardening` makes it")
    lab = Lab(ROOT / ".lab-hardening")
    engine, kept = Engine(Guest(lab)), load(KIND)
    known = [measure for measure in hardening.load() if measure.add or measure.docker]
    wanted = {GUIDES: [], AGAIN: [], **{one.id: [one] for one in known}, ALL: known}
    try:
        engine.prepare()
        for name in names or wanted:
            found = engine.tried(wanted[name], fresh=name in FRESH)
            kept[name] = {**found, "commit": commit(), "at": f"{datetime.now(UTC):%Y-%m-%d}"}
            save(KIND, kept)
            say(f"{name}: {json.dumps(found)[:600]}")
    finally:
        # Where only some are tried, the image (4 GB) is kept for the next ones.
        lab.ojai("lab", "down", *["--destroy"] * (not names))
    return int(not kept.get(ALL, {}).get("answers"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
