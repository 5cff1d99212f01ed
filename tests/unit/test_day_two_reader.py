"""What a stranger tries on day two who has read the guides and no code.

Odd servers, logs as programs write them, hosts that are down.
The logs under data/reader/ are written from the sources of the programs, and not from this project's catalogue.
"""

import http.server
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ojai.cli import main
from tests.unit.odd_server import MODEL, Odd, serving

DATA = Path(__file__).parent / "data" / "reader"
ROOT = Path(__file__).resolve().parents[2]
CALL = '{"city": "Lisbon", "unit": "celsius"}'


class Said:
    """What a command has said."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        self.all = out + err
        assert "Traceback" not in self.all

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def ojai(*arguments: object, stdin: bytes | None = None, **environment: str) -> Said:
    """Run a command as a user does, in this process."""
    words = [str(word) for word in arguments]
    result = CliRunner().invoke(main, words, prog_name="ojai", input=stdin, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return Said(result.exit_code, result.stdout, result.stderr)


def smoke(url: str, *more: object, only: str = "streaming", model: str = MODEL, **environment: Any) -> Said:
    return ojai("smoke", "--url", url, "--model", model, "--only", only, "--timeout", 5, *more, **environment)


def bench(url: str, where: Path, *more: object, **environment: Any) -> Said:
    few = ["--prompt-tokens", 64, "--users", 1, "--repeats", 2, "--answer-tokens", 8, "--timeout", 5]
    return ojai("bench", "--url", url, "--model", MODEL, *few, "--results", where, *more, **environment)


# smoke


def test_an_unusual_but_right_stream_passes() -> None:
    with serving(Odd(data="data:", end="\r\n\r\n", comments=True)) as url:
        said = smoke(url, "--json")
    assert (said.status, said.document["ok"]) == (0, True)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_before_the_answer_are_no_content(field: str) -> None:
    with serving(Odd(reasoning=field)) as url:
        said = smoke(url, "--json")
    assert said.status == 0, said.out


@pytest.mark.parametrize(
    "odd",
    [
        {"finish": None},
        {"done": False, "cut_after": 5},
        {"with_usage": False},
        {"failing": (200, {"Content-Type": "text/html"}, "<html><body>Sign in to the hotel's network</body></html>")},
        {"failing": (200, {"Content-Type": "application/json"}, '{"error": {"message": "busy"}}')},
        {"words": ["", "", ""]},
    ],
)
def test_a_broken_stream_fails(odd: dict[str, Any]) -> None:
    with serving(Odd(**odd)) as url:
        said = smoke(url, "--json")
        table = smoke(url)
    assert (said.status, said.document["ok"]) == (1, False), said.out
    assert table.status == 1 and "expected" in table.out


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_as_it_likes(tail: str) -> None:
    odd = Odd()
    with serving(odd) as url:
        assert smoke(url + tail).status == 0
    assert {path for verb, path, _, _ in odd.asked if verb == "POST"} == {"/v1/chat/completions"}


def test_a_model_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    with serving(Odd(models=["acme/one", "acme/two"])) as url:
        said = smoke(url, model="acme/three", only="model listed")
        measured = bench(url, tmp_path)
    assert said.status == 1 and "acme/one" in said.out and "acme/two" in said.out
    assert measured.status == 1 and "does not exist" in measured.all


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "not a url", "--model", "m"],
        ["--url", "ftp://127.0.0.1/", "--model", "m"],
        ["--url", "http://", "--model", "m"],
        ["--url", "http://127.0.0.1:99999", "--model", "m"],
        ["--url", "http://[::1", "--model", "m"],
        ["--url", "http://127.0.0.1:1"],
        ["--model", "m"],
        ["--url", "http://127.0.0.1:1", "--model", "m", "hosts.py"],
        ["--url", "http://127.0.0.1:1", "--model", "m", "--key-env", "OJAI_TEST_NEVER_SET"],
        [],
    ],
)
@pytest.mark.parametrize("command", ["smoke", "bench"])
def test_what_cannot_be_asked_is_a_usage_error(
    command: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts.py").write_text("hosts = []\n")
    said = ojai(command, *arguments)
    assert said.status == 2, said.all
    assert "Error: " in said.err and not said.out


@pytest.mark.parametrize(
    "failing",
    [
        (503, {"Retry-After": "1000", "Content-Type": "text/plain"}, "Service Unavailable"),
        (429, {"Retry-After": "1000", "Content-Type": "application/json"}, '{"error": "slow down"}'),
        (
            502,
            {"Content-Type": "text/html"},
            "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
        ),
        (500, {"Content-Type": "application/json"}, "{"),
        (500, {"Content-Type": "application/octet-stream"}, "\x00\x1b[31mred"),
    ],
)
def test_a_server_that_answers_with_errors_is_red_and_soon(failing: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    with serving(Odd(failing=failing)) as url:
        said = smoke(url, "--json", "--junit", tmp_path / "junit.xml")
        measured = bench(url, tmp_path / "results", "--json")
    assert time.monotonic() - began < 20
    assert (said.status, said.document["ok"]) == (1, False)
    assert (measured.status, measured.document["ok"]) == (1, False)
    assert str(failing[0]) in said.document["servers"][0]["results"][0]["came"]
    xml.etree.ElementTree.parse(tmp_path / "junit.xml")


def test_nobody_there_is_red_and_soon(tmp_path: Path) -> None:
    with serving(Odd()) as url:
        pass
    said = smoke(url, "--json", "--junit", tmp_path / "junit.xml")
    measured = bench(url, tmp_path / "results", "--json")
    assert (said.status, said.document["ok"], measured.status, measured.document["ok"]) == (1, False, 1, False)
    assert [one["code"] for one in measured.document["runs"][0]["findings"]] == ["unreachable"]
    assert not (tmp_path / "results").exists(), "there is no result, and so no folder for it"
    xml.etree.ElementTree.parse(tmp_path / "junit.xml")


def test_a_key_is_asked_for_used_and_never_shown(tmp_path: Path) -> None:
    key = "zebra-crossing-4711"
    with serving(Odd(key=key, echo_key=True)) as url:
        without = smoke(url)
        right = [
            smoke(url, "--key-env", "BOX_KEY", "--json", BOX_KEY=key),
            bench(url, tmp_path / "r", "--key-env", "BOX_KEY", "--html", tmp_path / "b.html", BOX_KEY=key),
        ]
    with serving(Odd(key="another", echo_key=True)) as url:
        junit = tmp_path / "junit.xml"
        wrong = [
            smoke(url, "--key-env", "BOX_KEY", "--json", "--junit", junit, BOX_KEY=key),
            smoke(url, "--key-env", "BOX_KEY", BOX_KEY=key),
            bench(url, tmp_path / "r", "--key-env", "BOX_KEY", "--json", BOX_KEY=key),
        ]
    assert without.status == 1 and "key" in without.all.lower()
    assert [said.status for said in right] == [0, 0]
    assert [said.status for said in wrong] == [1, 1, 1]
    written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert key not in "".join(said.all for said in right + wrong) + written


def certified(tmp_path: Path) -> Any:
    """A wrapping into TLS by a certificate that nobody trusts."""
    pem, private = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout '{private}' -out '{pem}'"
        ),
        check=True,
        capture_output=True,
    )

    def wrap(server: http.server.ThreadingHTTPServer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, private)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]

    return wrap


def test_a_certificate_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with serving(Odd(), certified(tmp_path)) as url:
        address = url.replace("http:", "https:")
        said, measured = smoke(address), bench(address, tmp_path / "r")
    assert said.status == 1 and "certificate" in said.all.lower(), said.all
    assert measured.status == 1 and "certificate" in measured.all.lower(), measured.all


def test_a_key_does_not_follow_a_redirect_to_somebody_else(tmp_path: Path) -> None:
    other = Odd()
    with serving(other) as elsewhere:
        moved = (307, {"Location": f"{elsewhere.replace('127.0.0.1', 'localhost')}/v1/chat/completions"}, "")
        with serving(Odd(failing=moved)) as url:
            said = smoke(url, "--key-env", "BOX_KEY", BOX_KEY="zebra-crossing-4711")
            measured = bench(url, tmp_path / "r", "--key-env", "BOX_KEY", BOX_KEY="zebra-crossing-4711")
    assert said.status in (0, 1) and measured.status in (0, 1)
    assert "zebra-crossing-4711" not in json.dumps([headers for _, _, headers, _ in other.asked])


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (CALL, 0),
        ("{'city': 'Lisbon', 'unit': 'celsius'}", 1),
        ({"city": "Lisbon", "unit": "celsius"}, 1),
        (None, 1),
        ("[]", 1),
    ],
)
def test_a_tool_call_is_right_or_wrong(call: Any, status: int) -> None:
    words = ["It is 21 degrees celsius in Lisbon, and sunny: 21 °C."]
    with serving(Odd(call=call, words=words)) as url:
        said = smoke(url, "--json", *(["--form-only"] if call else []), only="tool call")
    assert said.status == status, said.out


def test_a_slow_first_token_is_red() -> None:
    with serving(Odd(first_token=1.5)) as url:
        assert smoke(url, "--first-token", 1).status == 1
        assert smoke(url, "--first-token", 30).status == 0


def test_what_a_server_says_does_not_reach_the_terminal_as_commands(tmp_path: Path) -> None:
    with serving(Odd(words=["\x1b]0;owned\x07\x1b[2J\x00\x85\ud800 <b>&", "]]>"])) as url:
        said = smoke(url, "--junit", tmp_path / "junit.xml", only="self-introduction")
    assert said.status == 1
    assert not set("\x1b\x07\x00") & set(said.all)
    xml.etree.ElementTree.parse(tmp_path / "junit.xml")


# bench


def test_a_server_without_metrics_is_measured(tmp_path: Path) -> None:
    with serving(Odd(comments=True, end="\r\n\r\n", data="data:")) as url:
        said = bench(url, tmp_path / "r", "--json")
    run = said.document["runs"][0]
    assert said.status == 0 and said.document["ok"]
    assert run["verdict"] is None and run["figures"][0]["decode_rate"]["median"] > 0
    assert [finding["code"] for finding in run["findings"]] == ["no-metrics"]
    assert len(list((tmp_path / "r").rglob("*.json"))) == 1


def test_figures_that_nobody_gave_are_not_invented(tmp_path: Path) -> None:
    with serving(Odd(with_usage=False, metrics=401)) as url:
        said = bench(url, tmp_path / "r", "--json")
    run = said.document["runs"][0]
    assert "401" in run["metrics"]
    assert [figure["prompt_rate"] for figure in run["figures"]] in ([], [None])
    assert run["findings"] or run["error"]


@pytest.mark.parametrize("odd", [{"done": False, "cut_after": 4}, {"silent": True}, {"words": [""] * 8}])
def test_an_answer_that_is_none_is_not_measured(odd: dict[str, Any], tmp_path: Path) -> None:
    began = time.monotonic()
    with serving(Odd(**odd)) as url:
        said = bench(url, tmp_path / "r", "--json", "--timeout", 1)
    assert (said.status, said.document["ok"]) == (1, False), said.out
    assert time.monotonic() - began < 15


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of a little server."""
    where = tmp_path_factory.mktemp("result")
    with serving(Odd()) as url:
        assert bench(url, where).status == 0
    return next(where.rglob("*.json"))


def test_a_result_does_not_differ_from_itself(result: Path, tmp_path: Path) -> None:
    said = ojai("bench", "--compare", result, result.parent, "--html", tmp_path / "c.html")
    assert said.status == 0 and "within" in said.out.lower(), said.out
    assert ojai("bench", "--compare", result, result, "--json").document
    assert "<html" in (tmp_path / "c.html").read_text().lower()


def test_a_result_that_is_another_is_told(result: Path, tmp_path: Path) -> None:
    kept = json.loads(result.read_text())
    for cell in kept["cells"]:
        for turn in cell["rounds"]:
            for sample in turn["samples"]:
                sample["decode"] *= 50
    (tmp_path / "slow.json").write_text(json.dumps(kept))
    said = ojai("bench", "--compare", result, tmp_path / "slow.json")
    assert said.status == 0 and "decode" in said.out
    same = ojai("bench", "--compare", result, result)
    assert said.out.lower().count("within") < same.out.lower().count("within"), said.out


def spoil(kept: dict[str, Any], how: str) -> str | bytes:
    """A result that is none any more."""
    match how:
        case "damaged":
            return json.dumps(kept)[: len(json.dumps(kept)) // 2]
        case "other":
            return '{"format": "ojai-bundle", "version": 1}'
        case "list":
            return "[]"
        case "newer":
            return json.dumps(kept | {"version": 99})
        case "no version":
            return json.dumps({name: value for name, value in kept.items() if name != "version"})
        case "wrong type":
            return json.dumps(kept | {"cells": "none", "subject": []})
        case "text in a figure":
            kept["cells"][0]["rounds"][0]["samples"][0]["decode"] = "fast"
            return json.dumps(kept)
        case "deep":
            return "[" * 100_000
        case _:
            return bytes(range(256)) * 8


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_is_no_result_is_not_compared(result: Path, tmp_path: Path, more: list[str]) -> None:
    file = tmp_path / "x.json"
    ways = ["damaged", "other", "list", "newer", "no version", "wrong type", "text in a figure", "deep", "binary"]
    for how in ways:
        spoilt = spoil(json.loads(result.read_text()), how)
        file.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
        said = ojai("bench", "--compare", result, file, *more)
        assert said.status == 2 and "x.json" in said.err, (how, said.all)
        assert len(said.err.strip().splitlines()) <= 4 and not said.out, (how, said.all)
    (tmp_path / "empty").mkdir()
    assert ojai("bench", "--compare", tmp_path / "empty", result, *more).status == 2
    assert ojai("bench", "--compare", result, tmp_path / "not there", *more).status == 2


def test_a_page_escapes_and_a_wrong_place_for_it_is_an_error(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    (tmp_path / "file").write_text("")
    with serving(Odd(models=[name])) as url:
        few = ["bench", "--url", url, "--model", name, "--prompt-tokens", 64, "--users", 1, "--repeats", 1]
        made = ojai(*few, "--answer-tokens", 8, "--results", tmp_path / "r", "--html", tmp_path / "b.html")
        odd = [
            ojai(*few, "--answer-tokens", 8, "--results", tmp_path / "file"),
            ojai(*few, "--answer-tokens", 8, "--results", tmp_path / "file" / "below"),
            ojai(*few, "--answer-tokens", 8, "--results", tmp_path / "r", "--html", tmp_path / "no" / "b.html"),
        ]
    assert made.status == 0
    page = (tmp_path / "b.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page
    assert all(said.status in (1, 2) and said.err for said in odd), [said.all for said in odd]
    assert "--results" in odd[0].err and len(list((tmp_path / "r").rglob("*.json"))) == 1


# doctor

EXCERPTS = {
    "free-memory.log": "other|utilization|less memory is free|use.*GPU memory",
    "kv-cache.log": "KV cache|context|max_model_len",
    "hip-oom.json": "out of (GPU )?memory|GPU.*memory",
    "mes.dmesg": "MES|hang|hung|reset|stopped answering",
    "page-fault.log": "memory that is not mapped",
    "no-kfd.log": "device|driver",
    "pull-limit.log": "limit",
    "no-space.log": "space|full",
    "gated.log": "refused the download",
    "no-network-json.log": "resolve|network|line|reach|DNS|name",
    "cut-weights.log": "weights|damaged|incomplete|broken|cut",
    "mmap.log": "overcommit|map",
    "daemon-json.log": "daemon.json",
    "nomodeset.log": "command line switches the GPU driver off",
    "oom-killer.log": "memory",
    "tool-parser.log": "parser",
    "arguments.log": "argument|option|flag",
    "port.log": "port",
    "firmware.dmesg": "firmware",
    "old-image.log": "image|too old|newer|does not know|Transformers",
    "function.json": "no code for this GPU",
    "expired.log": "clock|certificate|date",
    "emergency.log": "emergency|mount|disk",
}


#: A second helping, with the finding that is right by the sources.
MORE = {
    "no-cache-blocks.log": "kv-cache-none",
    "infer-device.log": "device-type-unknown",
    "kfd-permission.log": "gpu-not-visible",
    "triton-shared.log": "kernel-too-large",
    "unit-restart-limit.log": "context-beyond-model",
    "port-docker.log": "port-taken",
    "name-conflict.log": "container-name-taken",
    "daemon-down.log": "docker-down",
    "docker29-daemon-down.log": "docker-down",
    "iptables.log": "docker-network",
    "containerd-down.log": "containerd-down",
    "readonly-fs.dmesg": "nvme-dropped",
    "ring-timeout.dmesg": "gpu-hang",
    "enospc-hub.log": "disk-full",
    "xet-nospace.log": "disk-full",
    "hub-notfound.log": "model-not-found",
    "hub-429.log": "hub-rate-limit",
    "proxy.log": "hub-unreachable",
    "hsa-resources.log": "gpu-memory-weights",
    "illegal-insn.log": "gpu-hang",
    "memlock.log": "runtime-failed",
    "group.log": "group-missing",
    "manifest.log": "image-missing",
    "arch.log": "entrypoint-missing",
    "env-file.log": "env-file-unreadable",
    "kernel-panic.log": "kernel-panic",
    "watchdog.log": "gpu-overheated",
    "quant.log": "quantization-unsupported",
    "timeout-systemd.log": "too-slow-to-start",
    "warmup.log": "gpu-memory-weights",
    "gtt.dmesg": "gtt-exhausted",
    "smu.dmesg": "gpu-hang",
    "dkms.log": "driver-dkms",
    "module-sig.log": "driver-dkms",
    "hub-ssl.log": "tls-intercepted",
    "hub-timeout.log": "download-slow",
    "offline.log": "weights-missing",
    "mm-limit.log": "setting-refused",
    "spec.log": "speculative-too-early",
    "bus-error.log": "shared-memory-small",
    "mem-reclaim.log": "oom-killer",
    "cgroup-oom.dmesg": "oom-killer",
    "exit137.log": "killed",
    "containerd-store.log": "docker-storage",
    "pull-dns.log": "registry-unreachable",
    "hw.dmesg": "hardware-error",
}


def doctor(log: Path | str, *more: object, stdin: bytes | None = None) -> Said:
    return ojai("doctor", "--log", log, "--json", *more, stdin=stdin)


def findings(said: Said) -> list[dict[str, Any]]:
    """The findings of a log."""
    found = said.document
    return (
        [finding for host in found["hosts"] for finding in host["findings"]] if "hosts" in found else found["findings"]
    )


@pytest.mark.parametrize("name", EXCERPTS)
def test_the_right_cause_comes_first(name: str) -> None:
    said = doctor(DATA / name)
    found = findings(said)
    assert said.status == 1 and found
    assert re.search(EXCERPTS[name], found[0]["cause"], re.IGNORECASE), [
        (f["rank"], f["code"], f["cause"]) for f in found
    ]
    assert found[0]["fix"] and found[0]["evidence"] and found[0]["rank"] == "cause"


@pytest.mark.parametrize("name", MORE)
def test_the_right_finding_comes_first(name: str) -> None:
    said = doctor(DATA / name)
    assert said.status == 1 and findings(said)[0]["code"] == MORE[name]


@pytest.mark.parametrize("name", [*sorted(file.name for file in DATA.glob("healthy*")), "quoted-prompt.log"])
def test_nothing_is_wrong_in_a_healthy_log(name: str) -> None:
    said = doctor(DATA / name)
    assert said.status == 0, findings(said)
    assert not [finding for finding in findings(said) if finding["rank"] != "note" and not finding["past"]]


@pytest.mark.parametrize("name", ["apt.log", "apt-lock.log"])
def test_apts_own_words_are_understood_or_passed_over(name: str) -> None:
    found = findings(doctor(DATA / name))
    assert all("apt" in f["cause"] + f["fix"] or "dpkg" in f["cause"] + f["fix"] for f in found), found


def test_another_language_does_not_hide_the_cause() -> None:
    assert "GPU" in findings(doctor(DATA / "german.log"))[0]["cause"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "".join(f"\x1b[36m{line}\x1b[0m\n" for line in text.splitlines()),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\n\x00\n"),
        lambda text: text + "Nov 27 09:13:0",
    ],
)
def test_the_wrapping_of_a_log_does_not_matter(change: Any, tmp_path: Path) -> None:
    text = (DATA / "free-memory.log").read_text()
    (tmp_path / "x.log").write_text(change(text), newline="")
    plain, wrapped = findings(doctor(DATA / "free-memory.log")), findings(doctor(tmp_path / "x.log"))
    assert [finding["code"] for finding in plain] == [finding["code"] for finding in wrapped]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\n",
        bytes(range(256)) * 64,
        b"\xff\xfe" + "Nov 27 a b: c\n".encode("utf-16-le"),
        b'{"MESSAGE": null}\n[]\n"x"\n1\n{"log": 3}\n',
    ],
)
def test_what_is_no_log_has_no_findings(octets: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(octets)
    for said in (doctor(tmp_path / "x.log"), doctor("-", stdin=octets)):
        assert said.status in (0, 2)
        assert said.status == 2 or not findings(said)


def test_a_field_of_the_journal_that_is_no_text_is_read(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (DATA / "function.json").read_text().splitlines()]
    for line in lines:
        line["MESSAGE"] = list(line["MESSAGE"].encode())  # as journalctl does where a message has colours in it
    lines.insert(3, lines[0] | {"MESSAGE": None})  # as journalctl does where a field is too large
    (tmp_path / "x.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert findings(doctor(tmp_path / "x.json"))[0]["code"] == findings(doctor(DATA / "function.json"))[0]["code"]


def test_a_huge_log_and_a_huge_line_are_read_soon(tmp_path: Path) -> None:
    line = "Nov 27 09:12:00 mini-03 docker[2211]: INFO 11-27 09:12:00 [loggers.py:259] Engine 000: fine\n"
    fault = (DATA / "free-memory.log").read_text()
    (tmp_path / "many.log").write_text(line * (50_000_000 // len(line)) + fault)
    (tmp_path / "long.log").write_text("Nov 27 09:11:00 mini-03 docker[2211]: " + "a 'b' " * 1_700_000 + "\n" + fault)
    first = findings(doctor(DATA / "free-memory.log"))[0]["code"]
    for name in ("many.log", "long.log"):
        began = time.process_time()
        said = doctor(tmp_path / name)
        assert findings(said)[0]["code"] == first
        assert time.process_time() - began < 15 and len(said.out) < 100_000


def bundle(**changed: Any) -> dict[str, Any]:
    """A bundle as the guide describes it."""
    answer = {
        "facts": ["fact docker down"],
        "log": (DATA / "port.log").read_text().splitlines(),
        "files": {"uname": "Linux"},
        "report": {},
    }
    host = {
        "host": "a",
        "asked": 1795798683.9,
        "failure": "",
        "data": {"services": []},
        "answer": answer,
        "findings": [],
    }
    return {
        "format": "ojai-bundle",
        "version": 1,
        "ojai": "0.1.0",
        "made": "2026-11-27T16:58:03+00:00",
        "hosts": [host],
    } | changed


def test_a_bundle_is_read_without_its_host(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps(bundle()))
    said = ojai("doctor", "--from", tmp_path / "b.json", "--json")
    assert said.status == 1
    assert any("port" in finding["cause"] for finding in findings(said))


@pytest.mark.parametrize("spoilt", [
    '{"format": "ojai-bundle"', "[]", "", "null", "[" * 100_000, '{"format": "ojai-bundle", "version": 1}',
    json.dumps(bundle(version=0)), json.dumps(bundle(version=3)), json.dumps(bundle(version="1")),
    json.dumps(bundle(version=True)), json.dumps(bundle(format="ojai-bench")), json.dumps(bundle(hosts={"a": 1})),
    json.dumps(bundle(hosts=[7])), json.dumps(bundle(hosts=None)),
])  # fmt: skip
def test_what_is_no_bundle_of_this_version_is_refused(spoilt: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(spoilt)
    said = ojai("doctor", "--from", tmp_path / "b.json", "--json")
    assert said.status == 2 and "b.json" in said.err and not said.out


@pytest.mark.parametrize("wrong", [7, "text", [], ["x"], {}, {"x": [1]}, None, True])
def test_a_bundle_edited_by_hand_ends_no_command_with_a_traceback(wrong: Any, tmp_path: Path) -> None:
    for place in ("host", "asked", "failure", "data", "answer", "findings"):
        edited = bundle()
        edited["hosts"][0][place] = wrong
        (tmp_path / "b.json").write_text(json.dumps(edited))
        assert ojai("doctor", "--from", tmp_path / "b.json").status in (0, 1, 2)
    for place in ("facts", "log", "files", "report"):
        edited = bundle()
        edited["hosts"][0]["answer"][place] = wrong
        (tmp_path / "b.json").write_text(json.dumps(edited))
        assert ojai("doctor", "--from", tmp_path / "b.json").status in (0, 1, 2)
    edited = bundle()
    edited["hosts"][0]["data"]["services"] = wrong
    (tmp_path / "b.json").write_text(json.dumps(edited))
    assert ojai("doctor", "--from", tmp_path / "b.json").status in (0, 1, 2)


SECRETS = {
    "hf": "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",
    "api": "sk-proj-4711abcdEFGH4711abcdEFGH4711abcdEFGH",
    "bearer": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW9mLWFkYQ",
    "proxy": "hunter2-proxy-password",
    "option": "key-from-a-command-line-81",
    "github": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "aws": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
    "basic": "YWRhOmh1bnRlcjItYmFzaWM=",
}


def test_secrets_in_a_hosts_logs_do_not_leave_it(tmp_path: Path) -> None:
    lines = [
        f"HF_TOKEN={SECRETS['hf']}",
        f"token is {SECRETS['hf']} and nothing else says so",
        f"Incorrect API key provided: {SECRETS['api']}",
        f"Authorization: Bearer {SECRETS['bearer']}",
        f"Authorization: Basic {SECRETS['basic']}",
        f"proxy http://ada:{SECRETS['proxy']}@proxy.example:3128 refused",
        f"vllm serve m --api-key {SECRETS['option']} --port 8000",
        f"non-default args: {{'api_key': ['{SECRETS['option']}'], 'model': 'm'}}",
        f"remote: {SECRETS['github']}",
        f"AWS_SECRET_ACCESS_KEY={SECRETS['aws']}",
    ]
    journal = "".join(f"Nov 27 09:12:00 box docker[1]: {line}\n" for line in lines)
    as_json = "".join(
        json.dumps({"SYSLOG_IDENTIFIER": "docker", "_SYSTEMD_UNIT": "vllm-gemma4.service", "MESSAGE": line,
                    "__REALTIME_TIMESTAMP": "1795798683000000", "_HOSTNAME": "box", "_TRANSPORT": "stdout"}) + "\n"
        for line in lines
    )  # fmt: skip
    (tmp_path / "bin").mkdir()
    (tmp_path / "plain").write_text(journal)
    (tmp_path / "json").write_text(as_json)
    shim = tmp_path / "bin" / "journalctl"
    shim.write_text(f'#!/bin/sh\ncase "$*" in *json*) cat {tmp_path}/json;; *) cat {tmp_path}/plain;; esac\n')
    shim.chmod(0o755)
    (tmp_path / "inv.py").write_text('box = [("@local", {"_sudo": False, "services": [{"profile": "gemma-4-e4b"}]})]\n')
    done = subprocess.run(
        [Path(sys.executable).with_name("ojai"), "doctor", "inv.py", "--bundle", "b.json", "--json"],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    kept = (tmp_path / "b.json").read_text()
    assert "nothing else says so" in kept and "proxy.example" in kept, "the log has not been read"
    assert not [name for name, secret in SECRETS.items() if secret in kept + done.stdout + done.stderr]


def test_a_log_does_not_show_its_secrets_as_evidence(tmp_path: Path) -> None:
    fault = "OSError: We couldn't connect to 'https://huggingface.co' to load the files"
    text = (DATA / "pull-limit.log").read_text().replace("level=error", f"token={SECRETS['hf']} level=error")
    (tmp_path / "x.log").write_text(text + fault)
    assert SECRETS["hf"] not in doctor(tmp_path / "x.log").out


# status and logs

DOWN = '("down", {"ssh_hostname": "127.0.0.1", "ssh_port": 9, "ssh_user": "x", "_sudo": False})'
HERE = '("@local", {"_sudo": False})'


@pytest.fixture(scope="module")
def inventories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("inventories")
    for name, hosts in {"down": DOWN, "two": f"{DOWN}, {HERE}", "none": '("down", {"services": []})'}.items():
        (where / f"{name}.py").write_text(f"box = [{hosts}]\n")
    return {name: where / f"{name}.py" for name in ("down", "two", "none")}


def test_a_host_that_is_down_is_that_hosts_trouble(inventories: dict[str, Path]) -> None:
    said = ojai("status", inventories["two"], "--json")
    services = {service["host"]: service for service in said.document["services"]}
    assert said.status == 1 and set(services) == {"down", "@local"}
    assert services["down"]["state"] == "unreachable" and "127.0.0.1" in services["down"]["failure"]
    assert not services["@local"]["failure"]


def test_a_narrow_terminal_still_names_the_host(inventories: dict[str, Path]) -> None:
    said = ojai("status", inventories["down"], COLUMNS="40")
    assert said.status == 1 and "down/vllm-gemma4" in said.out and "unreachable" in said.out


def test_watching_ends_quietly_when_nobody_reads(inventories: dict[str, Path]) -> None:
    with subprocess.Popen(
        [Path(sys.executable).with_name("ojai"), "status", inventories["down"], "--watch", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stdout and watching.stderr
        assert json.loads(watching.stdout.readline())["services"]
        watching.stdout.close()
        error = watching.stderr.read()
        watching.wait(60)
    assert "Traceback" not in error and "BrokenPipe" not in error, error


def test_the_doctor_says_that_a_host_is_down(inventories: dict[str, Path], tmp_path: Path) -> None:
    said = ojai("doctor", inventories["down"], "--json", "--bundle", tmp_path / "b.json")
    assert said.status == 1 and findings(said)
    assert json.loads((tmp_path / "b.json").read_text())["hosts"][0]["answer"] is None
    assert ojai("doctor", "--from", tmp_path / "b.json").status == 1


def test_logs_of_what_is_not_there(inventories: dict[str, Path]) -> None:
    down = ojai("logs", inventories["down"], "--no-follow")
    assert down.status == 1 and "down" in down.err
    for arguments in (["nobody"], ["down/nothing"], ["--lines", 0]):
        wrong = ojai("logs", inventories["down"], "--no-follow", *arguments)
        assert wrong.status == 2, wrong.all


def test_doctor_and_status_take_one_source() -> None:
    for arguments in (
        ["doctor"], ["doctor", "--log", "-", "inventory/ojai.py"], ["doctor", "--log", "-", "--from", "x"],
        ["doctor", "--log", "-", "--fix"], ["doctor", "--from", "no such file"], ["doctor", "--log", "no such file"],
        ["doctor", "--log", "/"], ["status"], ["status", "no such file"], ["logs"],
    ):  # fmt: skip
        said = ojai(*arguments, stdin=b"")
        assert said.status == 2 and not said.out, (arguments, said.all)
