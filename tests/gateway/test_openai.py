"""OpenAI's own client, curl and `ojai smoke` through a real nginx: with no more than what `ojai open` prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ojai.cmdline import open as command
from tests.gateway import nginx
from tests.unit.test_modelserver_server import MODEL, Process

ROOT = Path(__file__).resolve().parents[2]
KEY = nginx.KEYS["laptop"]
FLAGS = ("--max-model-len", "9000", "--reasoning-parser", "gemma4", "--enable-auto-tool-choice", "--tool-call-parser",
         "gemma4")  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nginx.Gateway]:
    """The lab's stand-in behind a gateway of this machine's name."""
    with (
        Process(tmp_path_factory.mktemp("engine"), *FLAGS, OJAI_LAB_TOKEN_SECONDS="0.002").until(200, 60) as engine,
        nginx.running(tmp_path_factory.mktemp("gateway"), engine.port) as found,
    ):
        yield found


def run(guarded: nginx.Gateway, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "SSL_"))}
    return subprocess.run(argv, env={**clean, "NO_COLOR": "1", **env}, cwd=ROOT, capture_output=True, text=True,
                          check=False, timeout=300)  # fmt: skip


def url(guarded: nginx.Gateway) -> str:
    return f"https://localhost:{guarded.port}/v1"


def test_a_chat_a_stream_a_picture_and_tools(guarded):
    environment = {"OPENAI_BASE_URL": url(guarded), "OPENAI_API_KEY": KEY}
    program = str(ROOT / "tests/gateway/openai_client.py")
    done = run(guarded, sys.executable, program, SSL_CERT_FILE=str(guarded.authority), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split(" ")[0] for line in done.stdout.splitlines()]
    assert words == ["chat", "stream", "picture", "tools", "refused"]
    done = run(guarded, sys.executable, program, **environment)
    assert done.returncode != 0 and "CERTIFICATE_VERIFY_FAILED" in done.stderr, "whoever is not told trusts it not"


def printed(guarded: nginx.Gateway) -> list[str]:
    service = command.Service("vllm-gemma4", MODEL, url(guarded))
    where = {"keys": {"laptop": None}, "keys_on_host": "/k"}
    opened = command.Opened("mini", "gateway", [service], str(guarded.authority), **where)
    return [line.removeprefix("  ") for line in command._lines(opened, show_key=False)]


def test_the_printed_python_is_a_program(guarded):
    lines = printed(guarded)
    program = "\n".join(lines[lines.index("import ssl") :])
    done = run(guarded, sys.executable, "-c", program, OPENAI_API_KEY=KEY)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_the_printed_curl_is_a_command(guarded):
    lines = printed(guarded)
    start = next(number for number, line in enumerate(lines) if line.startswith("curl "))
    line = "\n".join(lines[start : lines.index("", start)])
    done = run(guarded, "sh", "-c", line, OPENAI_API_KEY=KEY)
    assert done.returncode == 0 and '"chat.completion"' in done.stdout, done.stdout + done.stderr
    done = run(guarded, "sh", "-c", line, OPENAI_API_KEY="ojai-another-key-000000")
    assert '"code":401' in done.stdout, done.stdout


def test_smoke_asks_through_it(guarded):
    words = ("smoke", "--url", url(guarded), "--model", MODEL, "--key-env", "CLIENT_KEY", "--form-only")
    done = run(guarded, sys.executable, "-m", "ojai", *words, CLIENT_KEY=KEY, SSL_CERT_FILE=str(guarded.authority))
    assert done.returncode == 0 and KEY not in done.stdout + done.stderr, done.stdout + done.stderr
