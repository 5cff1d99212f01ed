"""Starts the vLLM of `make contract-server` on a free port of loopback, and runs `ojai smoke` against it.

.venv/bin/python -m tools.contract.server .contract-server [options of ojai smoke]
.venv/bin/python -m tools.contract.server .contract-server --record    # bench and status too, see real_engines.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import IO

from tools.contract import real_engines

MODEL = "google/gemma-4-E4B-it"

#: What vLLM is told: the parsers of our profiles, and what a CPU needs.
FLAGS = [
    "--enable-auto-tool-choice",
    "--tool-call-parser",
    "gemma4",
    "--reasoning-parser",
    "gemma4",
    "--enable-prefix-caching",
    "--max-model-len",
    "4096",
    "--max-num-seqs",
    "4",
    "--dtype",
    "bfloat16",
    "--enforce-eager",
]
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}

#: Seconds for its start, which is one minute on a machine that does nothing else.
START = 1200


#: Where `make contract-server` makes it.
PLACE = Path(__file__).resolve().parents[2] / ".contract-server"


def started(place: Path, port: int, *flags: str, log: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """The server, which is not up yet. Its processes are a group of its own."""
    words = [str(place / "bin/vllm"), "serve", str(place / "model"), "--served-model-name", MODEL]
    words += ["--host", "127.0.0.1", "--port", str(port), *FLAGS, *flags]
    environment = {**os.environ, **ENVIRONMENT, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    return subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it does; False if it has ended."""
    until = time.monotonic() + START
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except OSError:
            time.sleep(2)
    return False


def main() -> int:
    """The exit status of `ojai smoke`, or 1 where the server does not start."""
    place = Path(sys.argv[1]).resolve()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    status = 1
    with tempfile.TemporaryFile() as log:
        server = started(place, port, log=log)
        try:
            if not answers(server, port):
                print("vLLM did not start", file=sys.stderr)
                return 1
            if sys.argv[2:] == ["--record"]:
                status = real_engines.record("vllm-cpu", url, MODEL)
            else:
                smoke = [real_engines.OJAI, "smoke", "--url", url, "--model", MODEL, *real_engines.SMOKE]
                status = subprocess.call([*smoke, *sys.argv[2:]])
            return status
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
            if status:
                log.seek(0)
                print(log.read().decode(errors="replace")[-6000:], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
