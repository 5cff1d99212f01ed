"""`make contract`: everything the project says about a release's command line, put to that vLLM itself.

Run by the contract environment's Python, a release at a time, with that release on `PYTHONPATH`:
`python -m tools.contract.run [--profiles FILE] [--random N]`.
FILE (`-`: standard input) is the output of `ojai profiles --json`. Exit 0 if all agrees, 1 if not.
"""

import argparse
import json
import random
import shlex
import sys
import time
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

import yaml

from ojai.engines.vllm import cli as vllm_cli
from ojai.engines.vllm import releases
from tools.contract.verdict import Judge  # before vllm: it sets the platform

from tools.contract import extract, real  # isort: skip

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/contract"
DATA = ROOT / f"ojai/engines/vllm/vllm-{real.VERSION}.json"
CONTRACT = vllm_cli.load(real.VERSION)


def main() -> int:
    """Run every comparison, print one line each, and a summary."""
    options = argparse.ArgumentParser(prog="contract", description=__doc__)
    options.add_argument("--profiles", metavar="FILE", help="output of `ojai profiles --json`; - is stdin")
    options.add_argument("--random", metavar="N", type=int, default=3000, help="random command lines (3000)")
    options.add_argument("--seed", type=int, default=20, help="seed of the random command lines (20)")
    given = options.parse_args()

    started = time.monotonic()
    judge = Judge()
    table = Table()
    for line in stale():
        table.add("data", DATA.name, "stale", line)
    table.add("data", DATA.name, "current" if not table.failed else "stale: run `make contract-data`")
    for kind, name, argv, want, says in cases(given.profiles):
        table.add(kind, name, *compare(judge, argv, want, says))
    for flag in vllm_cli.REMOVED:
        if not any(known.startswith(flag) for known in CONTRACT.flags):  # the release may have it again
            table.add("removed", flag, *compare(judge, ["m", flag, "1"], 2, f"unrecognized arguments: {flag}"))
    accepted = 0
    differing = []
    for argv in random_lines(given.random, given.seed):
        real, ours = judge.verdict(argv), vllm_cli.check(argv, CONTRACT)
        accepted += real.accepted
        if real.accepted == bool(ours):
            differing.append(argv)
            table.add("random", shlex.join(argv), "FAIL: ojai differs", f"{real.message or 'accepted'}; {ours}")
    table.add(
        "random",
        f"{given.random} command lines, seed {given.seed}",
        "FAIL" if differing else "same verdicts",
        f"vLLM accepts {accepted}, refuses {given.random - accepted}; ojai differs on {len(differing)}",
    )
    print(f"{table.count} lines, {table.failed} failed, {time.monotonic() - started:.1f} s")
    return 1 if table.failed else 0


class Table:
    """Prints results as they come, and counts the failed ones."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0

    def add(self, kind: str, name: str, result: str, detail: str = "") -> None:
        """One line: what was put to vLLM, how it went, and vLLM's words where they matter."""
        self.count += 1
        self.failed += result.startswith(("FAIL", "stale"))
        print(f"{kind:9}{_cut(name, 58):60}{result:22}{_cut(detail, 110)}".rstrip())


def stale() -> Iterator[str]:
    """The first lines in which the data file differs from what vLLM's parser says now."""
    now = extract.text()
    lines = unified_diff(DATA.read_text().splitlines(), now.splitlines(), "file", "vllm", lineterm="", n=0)
    for number, line in enumerate(lines):
        if number < 20:
            yield line


def cases(profiles: str | None) -> Iterator[tuple[str, str, list[str], int, str]]:
    """Kind, name, command line, vLLM's expected status (0 accepted, -1 only ours refuses), and expected words."""
    if profiles:
        try:
            text = sys.stdin.read() if profiles == "-" else Path(profiles).read_text()
            listed = [(profile["name"], list(profile["engine_argv"])) for profile in json.loads(text)["profiles"]]
        except (OSError, ValueError, KeyError, TypeError) as broken:
            raise SystemExit(f"contract: {profiles}: not the output of `ojai profiles --json`: {broken!r}") from None
        if not listed:
            raise SystemExit(f"contract: {profiles}: no profiles in the list")
        for name, engine_argv in listed:
            yield "profile", name, engine_argv, 0, ""
    for kind in ("good", "bad", "stricter"):
        for case in yaml.safe_load((CASES / f"{kind}.yaml").read_text()):
            if not releases.within(real.VERSION, case.get("since"), case.get("before")):
                continue
            status = {"good": 0, "stricter": -1}.get(kind, case.get("status"))
            yield kind, case["name"], shlex.split(case["argv"]), status, case.get("says", "")


def compare(judge: Judge, argv: list[str], want: int, says: str) -> tuple[str, str]:
    """Whether vLLM does what is wanted, and ojai says the same."""
    real = judge.verdict(argv)
    ours = vllm_cli.check(argv, CONTRACT)
    answer = "accepted" if real.accepted else f"refused ({real.status})"
    if real.accepted != (want in (0, -1)) or (want > 0 and real.status != want) or says not in real.message:
        return f"FAIL: {answer}", real.message or "vLLM takes it"
    if bool(ours) != (want != 0):
        return "FAIL: ojai differs", "; ".join(ours) or "ojai takes it"
    if want == -1:
        return "accepted, not by ojai", ours[0]
    if real.accepted and (later := vllm_cli.rocm_errors(argv, CONTRACT)):
        return "accepted, not on ROCm", later[0]
    return answer, real.message


def random_lines(count: int, seed: int) -> Iterator[list[str]]:
    """Random command lines, right and wrong ones."""
    dice = random.Random(seed)
    for _ in range(count):
        yield ["m", *(word for _ in range(dice.randint(1, 3)) for word in _random_argument(dice))]


ODD_VALUES = ["", "None", "0", "1", "-1", "-0.5", "0.5", "2", "16", "9999", "1.0", "1e3", "nan", "inf", "auto", "8k"]
ODD_VALUES += ["1.5K", "1.5k", "10_000", " 7 ", "true", "True", "a b", "a,b", "a=b", "A-b", "[]", "{}", '{"a": 1}']
ODD_VALUES += ['["x"]', "{", '"text"', "{ 'a': 1 }", "gemma4", "awq", "fp8"]
# Not compared: plugins and files would be loaded; LoRA modules have a syntax of their own; the four strictnesses
# of ojai stand in stricter.yaml; inside these JSON objects vLLM checks values, which ojai leaves to it; servers of
# several machines have rules of their own, and a host of ojai is one.
NOT_RANDOM = {"config", "model", "lora_modules", "chat_template", "tool_parser_plugin", "reasoning_parser_plugin"}
NOT_RANDOM |= {"tool_call_parser", "default_chat_template_kwargs", "allowed_origins", "allowed_methods"}
NOT_RANDOM |= {"allowed_headers", "media_io_kwargs", "default_mm_loras", "diffusion_config"}
NOT_RANDOM |= {"model_class_overrides", "reasoning_effort_map", "watermark_config", "custom_histogram_buckets"}
NOT_RANDOM |= {"grpc_port", "enable_per_request_metrics"}  # need other flags, or a frontend that ojai does not run
NOT_RANDOM |= {"data_parallel_multi_port_external_lb", "data_parallel_external_lb", "data_parallel_hybrid_lb"}


def _random_argument(dice: random.Random) -> list[str]:
    argument = dice.choice([a for a in CONTRACT.arguments if a.dest not in NOT_RANDOM])
    flag = dice.choice(argument.flags)
    if flag.startswith("--") and dice.random() < 0.3:
        flag = dice.choice([flag.replace("-", "_").replace("__", "--", 1), flag[: dice.randint(6, 40)], flag + "x"])
    if argument.type == "bool":
        values = [] if dice.random() < 0.9 else [dice.choice(ODD_VALUES)]
    else:
        likely: list[Any] = [*(argument.choices or ()), *argument.limits.values()] * 3 or [argument.default]
        pool = [*map(str, likely), *ODD_VALUES]
        wanted = dice.choices([1, 0, 2], [0.9, 0.05, 0.05])[0]
        values = [dice.choice(pool) for _ in range(wanted)]
    if len(values) == 1 and flag.startswith("--") and dice.random() < 0.3:
        return [f"{flag}={values[0]}"]
    return [flag, *values]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
