"""`ojai budget`: does this model fit, and if not, what would?"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal, NoReturn, cast

import click
from click.core import ParameterSource
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ojai import accelerators, engines, profiles
from ojai.engines import Engine
from ojai.memory import Budget, Decode, HostMemory
from ojai.parameters import AcceleratorName, Amount, ProfileName, engine_option
from ojai.profiles import budgets
from ojai.schema.errors import field_errors
from ojai.settings import HostSettings, ServiceSettings
from ojai.sizes import GB, GIB, format_gib, parse_bytes

_BAR_WIDTH = 60


_EPILOG = """\b
Examples:
  ojai budget gemma-4-e4b
  ojai budget gemma-4-26b-a4b --gpu-memory 16GiB
  ojai budget gemma-4-31b --max-model-len 8192 --gpu-memory 96GiB
  ojai budget gemma-4-26b-a4b --os-memory 62GiB --overcommit-memory 0

Exit status: 0 it fits, 1 it does not, 2 usage error.
"""


@click.command(epilog=_EPILOG)
@click.argument("profile", type=ProfileName())
@click.option("--max-model-len", type=click.IntRange(min=1), help="Longest context, in tokens.")
@click.option("--block-size", type=click.IntRange(min=1), help="Tokens in a block of the cache (vLLM: 16).")
@click.option(
    "--max-num-batched-tokens",
    type=click.IntRange(min=1),
    help="Tokens in one step of the scheduler (vLLM: 2048 below 70 GiB of GPU memory, 8192 from there).",
)
@click.option(
    "--kv-cache-dtype",
    type=click.Choice(["auto", "fp8", "int8_per_token_head", "int4_per_token_head"]),
    help="Number format of the cache: the model's own, or a smaller one.",
)
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most requests at once.")
@click.option(
    "--gpu-memory-utilization",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Share of the GPU's memory that vLLM may take (vLLM: 0.92).",
)
@click.option(
    "--gpu-memory",
    type=Amount(),
    default="64GiB",
    show_default=True,
    help="Memory the GPU has: the BIOS carve-out, or with --regime gtt what ttm.pages_limit allows.",
)
@click.option(
    "--regime",
    type=click.Choice(["carveout", "gtt"]),
    default="carveout",
    show_default=True,
    help="Whether the GPU has memory of its own (BIOS) or borrows the OS's (GTT).",
)
@click.option("--os-memory", type=Amount(), help="RAM the OS sees (MemTotal); without it that side is not checked.")
@click.option("--swap", type=Amount(parse_bytes), help="Swap space.")
@click.option(
    "--overcommit-memory",
    type=click.Choice(["0", "1", "2"]),
    default="1",
    show_default=True,
    help="vm.overcommit_memory: decides whether the largest weight file can be mapped.",
)
@click.option(
    "--accelerator",
    type=AcceleratorName(),
    default=accelerators.DEFAULT,
    show_default=True,
    help="The GPU.",
)
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in bytes.")
@click.pass_context
def command(
    ctx: click.Context,
    profile: profiles.Profile,
    max_model_len: int | None,
    block_size: int | None,
    max_num_batched_tokens: int | None,
    kv_cache_dtype: str | None,
    max_num_seqs: int | None,
    gpu_memory_utilization: float | None,
    gpu_memory: int,
    regime: Literal["carveout", "gtt"],
    os_memory: int | None,
    swap: int | None,
    overcommit_memory: str,
    accelerator: str,
    engine: str,
    as_json: bool,
) -> NoReturn:
    """Compute whether the model PROFILE fits a GPU's memory.

    What is not given is the profile's, or what vLLM would choose. The cache is computed as vLLM's own planner computes
    it, in the release of the profile's image; with --engine llamacpp, by llama.cpp's rules. `ojai profiles` lists the
    profiles.
    """
    try:
        chosen = profiles.Features(
            max_model_len=max_model_len,
            block_size=block_size,
            max_num_batched_tokens=max_num_batched_tokens,
            kv_cache_dtype=kv_cache_dtype,
            max_num_seqs=max_num_seqs,
            gpu_memory_utilization=gpu_memory_utilization,
        )
        host = HostMemory(
            gpu_bytes=gpu_memory,
            regime=regime,
            os_bytes=os_memory,
            swap_bytes=swap or 0,
            overcommit_memory=cast(Literal[0, 1, 2], int(overcommit_memory)),
        )
        wanted = {"profile": profile.name, "engine": engine, **chosen.model_dump(exclude_none=True)}
        asked = ServiceSettings.model_validate(wanted)
        service = asked.resolve(
            accelerator=accelerator, data_directory=HostSettings.model_fields["data_directory"].default
        )
        profile = service.profile
        found = service.budget(host)
        refused = tuple(f"a deploy refuses it: {refusal}" for refusal in service.standing)
        found = found.model_copy(update={"notes": (*found.notes, *refused)})
    except ValidationError as error:
        raise click.UsageError("; ".join(map(str, field_errors(error, HostMemory, {})))) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    expected = budgets.decoding(profile, accelerator)
    if as_json:
        document = {**_document(profile, accelerator, found, expected), "follows": service.follows}
        print(json.dumps(document, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=False)
        _show(console, profile, accelerator, host, found, expected)
        if ctx.get_parameter_source("gpu_memory") == ParameterSource.DEFAULT:
            console.print(f"Assumed: {format_gib(gpu_memory)} of GPU memory. Give your own with --gpu-memory.")
        console.print(f"The cache {service.follows}.", markup=False)
        least = f"Least GPU memory: {format_gib(found.needed_gpu_bytes)}"
        step = budgets.enough_carve_out(accelerator, [service.demand]) if regime == "carveout" else None
        console.print(f"{least}, a BIOS carve-out of {step / GIB:g} GB." if step else f"{least}.")
    sys.exit(0 if found.fits else 1)


def _document(profile: profiles.Profile, accelerator: str, found: Budget, expected: Decode | None) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "accelerator": accelerator,
        **found.model_dump(mode="json"),
        "decode": None if expected is None else expected.model_dump(mode="json"),
    }


def _show(
    console: Console,
    profile: profiles.Profile,
    accelerator: str,
    host: HostMemory,
    found: Budget,
    expected: Decode | None,
) -> None:
    console.print(f"[bold]{profile.name}[/bold]  {profile.title}, on {accelerator}\n")
    console.print(_table(found, engines.get(profile.engine)))
    console.print()
    for line in _bars(console, host, found):
        console.print(line)
    console.print()
    if found.fits:
        at = f"{found.max_model_len:,} tokens"
        console.print(
            f"[bold green]Fits.[/bold green] {found.max_concurrency:.2f} sequences of {at} at once; "
            f"the cache holds {found.kv_tokens:,} tokens."
        )
    else:
        console.print("[bold red]Does not fit.[/bold red]")
        for reason in found.reasons:
            console.print(f"  - {reason}", markup=False)
        if found.suggestion:
            console.print("[bold]Nearest setting that fits:[/bold]")
            for option in found.suggestion.split("; "):
                console.print(f"  - {option}", markup=False)
    if expected is not None:
        low, high = expected.expected_tok_per_s
        console.print(
            f"Decode, one user: {low:.1f} to {high:.1f} tokens a second "
            f"({expected.weight_bytes_per_token / GB:g} GB a token at {expected.gb_per_s:g} GB/s)."
        )
    for note in found.notes:
        console.print(f"Note: {note}.", markup=False)


def _table(found: Budget, engine: Engine) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("Memory")
    table.add_column("GiB", justify="right")
    table.add_column("bytes", justify="right")

    def row(name: str, amount: int) -> None:
        table.add_row(name, format_gib(amount, 2).removesuffix(" GiB"), f"{amount:,}")

    row("GPU", found.gpu_bytes)
    share = f"'s share ({found.gpu_memory_utilization:g})" if engine.reserves else " takes"
    row(f"{engine.title}{share}", found.requested_bytes)
    row("  weights", found.weights_bytes)
    row("  runtime overhead", found.overhead_bytes)
    row("  left for the cache", found.kv_available_bytes)
    row(f"One sequence of {found.max_model_len:,} tokens", found.kv_bytes_per_sequence)
    if found.os_left_bytes is not None:
        row("Left to the OS", found.os_left_bytes)
    return table


def _bars(console: Console, host: HostMemory, found: Budget) -> list[Text]:
    """Two bars on one scale: what there is, and what one sequence at full length needs."""
    full, dark, middle, light, dot, low = "█▓▒░·▄" if "utf" in (console.encoding or "").lower() else "#=+-.%"
    weights = ("weights", found.weights_bytes, full, "blue")
    overhead = ("overhead", found.overhead_bytes, dark, "magenta")
    os_bytes = host.os_bytes or 0
    rest = [
        ("free", max(found.gpu_bytes - found.requested_bytes, 0), light, "white"),
        ("OS", max(os_bytes - found.gpu_bytes, 0) if host.regime == "gtt" else os_bytes, dot, "yellow"),
    ]
    needs = [weights, overhead, ("one sequence", found.kv_bytes_per_sequence, middle, "green")]
    if found.kv_available_bytes:
        has = [weights, overhead, ("cache", found.kv_available_bytes, middle, "green"), *rest]
        legend = has
    else:
        has = [("vLLM's share", found.requested_bytes, low, "green"), *rest]
        legend = [*has, *needs]
    scale = max(sum(part[1] for part in has), sum(part[1] for part in needs))
    width = max(min(_BAR_WIDTH, console.width - 8), 10)
    legend_line = Text("       ")
    for name, amount, mark, colour in legend:
        if amount:
            legend_line.append(mark, style=colour).append(f" {name} {format_gib(amount)}  ")
    legend_line.rstrip()
    return [_bar("has", has, scale, width), _bar("needs", needs, scale, width), legend_line]


def _bar(label: str, parts: list[tuple[str, int, str, str]], scale: int, width: int) -> Text:
    """One bar; the parts' ends are rounded, not their lengths, so that bars of one scale line up."""
    text = Text(f"{label:<5}  ")
    end = reached = 0
    for _, amount, mark, colour in parts:
        end += amount
        upto = round(end * width / scale)
        text.append(mark * (upto - reached), style=colour)
        reached = upto
    return text
