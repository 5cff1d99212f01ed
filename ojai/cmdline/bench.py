"""``ojai bench``: is every service as fast as it should be?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table

import ojai
from ojai import report_html
from ojai.facts.condition import Answered
from ojai.gauge import comparing, engine, report, subject, sweep
from ojai.gauge.client import Target
from ojai.gauge.judging import judge
from ojai.gauge.measuring import measure
from ojai.gauge.result import ResultError, Run, Settings, Subject, Sweep, folder_beside, load, save
from ojai.parameters import FileToWrite, resolved
from ojai.pyinfra_runs.collect import CollectError, collect_benchmarks, collect_conditions
from ojai.serving import NotReachedError, Place, Server, places, server_options

_EPILOG = """\b
Examples:
  ojai bench inventory/ojai.py
  ojai bench inventory/ojai.py --prompt-tokens 128 --users 1 --html bench.html
  ojai bench inventory/ojai.py --sweep balanced
  ojai bench --url http://127.0.0.1:8000 --model google/gemma-4-E4B-it
  ojai bench --compare inventory/bench/mini/vllm-gemma4 inventory/bench/mini-02/vllm-gemma4

Exit status: 0 every service is as it should be, 1 one is not, or could not be measured, 2 usage error or faulty
inventory. With --compare: 0, whatever the figures; 2 for what is no result.
"""

_MARKS = {"failure": "[red]failure[/red]", "note": "[yellow]note[/yellow]"}


@click.command(epilog=_EPILOG)
@server_options
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=64),
    multiple=True,
    default=(128, 1024, 4096),
    show_default=True,
    help="A length of prompt; those longer than the served context are skipped.",
)
@click.option(
    "--users",
    type=click.IntRange(min=1, max=256),
    multiple=True,
    default=(1, 2, 4),
    show_default=True,
    help="A number of users that ask at the same time.",
)
@click.option(
    "--answer-tokens", type=click.IntRange(min=8), default=64, show_default=True, help="Tokens of each answer."
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Rounds for each length and number of users, after one that does not count.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the words of the prompts.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may keep silent.",
)
@click.option(
    "--sweep",
    "sweeps",
    type=click.Choice([*sweep.names(), "all"]),
    multiple=True,
    help="Also run `vllm bench serve` with this workload, on the host, in a container of the service's image.",
)
@click.option(
    "--sweep-prompts",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Requests of each sweep, sent all at once.",
)
@click.option(
    "--engine-log",
    type=click.File("r", encoding="utf-8", errors="replace"),
    help="With --url: the engine's log, for its backend and memory.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep results in this folder. [default: `bench` beside the inventory, or here]",
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(exists=True, path_type=Path),
    metavar="A B",
    help="Measure nothing; show two results side by side. A folder stands for the newest result in it.",
)
@click.option(
    "--html",
    type=FileToWrite(),
    help="Also write a page to this file. With several services, `-HOST-SERVICE` is put into its name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    inventory: str | None,
    limit: tuple[str, ...],
    url: str | None,
    model: str | None,
    key_env: str | None,
    use_sudo_password: bool,
    prompt_tokens: tuple[int, ...],
    users: tuple[int, ...],
    answer_tokens: int,
    repeats: int,
    seed: int,
    timeout: int,
    sweeps: tuple[str, ...],
    sweep_prompts: int,
    engine_log: IO[str] | None,
    results: Path | None,
    compare: tuple[Path, Path] | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Measure how fast the services of INVENTORY answer, and judge it: first token, prompts, decoding, memory.

    The figures of the client's clock are checked against the server's own counters. Measure a box that nobody uses
    meanwhile; with the defaults that takes about a quarter of an hour a service.
    """
    if compare:
        if inventory or url:
            raise click.UsageError("--compare: takes two results, and neither INVENTORY nor --url")
        _compare(*compare, html, as_json)
        return
    if engine_log and not url:
        raise click.UsageError("--engine-log is for --url; of the hosts of an INVENTORY the log is read anyway")
    if sweeps and url:
        raise click.UsageError("--sweep is for the hosts of an INVENTORY: it runs beside the service, in its image")
    chosen = places(inventory, limit, url, model, key_env, use_sudo_password)
    settings = Settings(
        prompt_tokens=tuple(sorted(set(prompt_tokens))),
        users=tuple(sorted(set(users))),
        answer_tokens=answer_tokens,
        repeats=repeats,
        seed=seed,
    )
    wanted = sweep.names() if "all" in sweeps else tuple(dict.fromkeys(sweeps))
    folder = results or folder_beside(inventory)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise click.UsageError(f"--results: found {there}; expected a folder of yours, to keep results in {folder}")
    answers, failures = _conditions(inventory, limit, chosen)
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    runs: list[Run] = []
    for place in chosen:
        for run in _runs(place, answers.get(place.name), failures.get(place.name), settings, timeout, engine_log):
            done = judge(_swept(run, place, inventory, limit, wanted, sweep_prompts) if wanted else run)
            runs.append(done)
            # Of a server that is not there, nothing is kept.
            _show(console, done, None if done.failure == "unreachable" else save(done, folder))
    _write_pages(runs, html)
    ok = bool(runs) and all(run.ok for run in runs)
    if as_json:
        click.echo(json.dumps({"ok": ok, "runs": [_document(run) for run in runs]}, indent=2))
    sys.exit(0 if ok else 1)


def _conditions(
    inventory: str | None, limit: tuple[str, ...], chosen: list[Place]
) -> tuple[Mapping[str, Answered], Mapping[str, str]]:
    """What the hosts say of themselves: logs, containers, hardware. A server at a URL has no host here."""
    if inventory is None:
        return {}, {}
    path, _ = resolved(inventory, limit)
    click.echo(f"Looking at {', '.join(place.name for place in chosen)} …", err=True)
    try:
        answers, failures = collect_conditions(path, [place.name for place in chosen], limit)
    except CollectError as error:
        raise click.ClickException(str(error)) from None
    for name, failure in failures.items():
        click.echo(f"{name}: its log and hardware will not be in the result: {failure}", err=True)
    return answers, failures


def _runs(
    place: Place,
    answered: Answered | None,
    failure: str | None,
    settings: Settings,
    timeout: int,
    log: IO[str] | None,
) -> Iterator[Run]:
    """A run of each service of a place; one of a host that cannot be reached too."""
    try:
        with place.reach() as servers:
            for server in servers:
                yield _measured(place, server, answered, settings, timeout, log)
    except NotReachedError as error:
        click.echo(str(error), err=True)
        for service in place.entry.settings.resolved if place.entry else ():
            about = subject.of(place.entry, service, f"port {service.port}", answered) if place.entry else None
            if about is not None:
                yield _run(about, settings, failure="unreachable", error=str(error) or failure or "no answer")


def _measured(
    place: Place, server: Server, answered: Answered | None, settings: Settings, timeout: int, log: IO[str] | None
) -> Run:
    target = Target(server.url, server.model, server.key, server.direct, timeout)
    said = engine.by_api(target)
    if place.entry and server.service:
        service = server.service
        address = f"http://{service.address}:{service.port}"
        about = subject.of(place.entry, service, address, answered)
        # What the server itself says goes before what was asked of it.
        about = about.model_copy(
            update={name: said[name] for name in ("engine", "engine_version", "context") if name in said}
        )
    else:
        backend, memory = engine.by_log(log) if log else ((), ())
        about = Subject(
            host=urlsplit(server.url).netloc,
            service=server.model,
            url=server.url,
            model=server.model,
            backend=backend,
            memory=memory,
            **said,
        )
    title = f"{about.service} on {about.host}"
    done = measure(target, settings, about.context, lambda text: click.echo(f"{title}: {text} …", err=True))
    return _run(
        about,
        done.settings,
        cells=done.cells,
        repeat=done.repeat,
        failure=done.failure,
        error=done.error,
        metrics=done.metrics,
    )


def _run(about: Subject, settings: Settings, **found: Any) -> Run:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(ojai=ojai.__version__, when=when, subject=about, settings=settings, **found)


def _swept(
    run: Run, place: Place, inventory: str | None, limit: tuple[str, ...], wanted: tuple[str, ...], prompts: int
) -> Run:
    """The run with sweeps of its service. A server that does not answer is not swept."""
    services = place.entry.settings.resolved if place.entry else ()
    service = next((one for one in services if one.name == run.subject.service), None)
    if run.failure or service is None or inventory is None:
        return run
    loads = {name: sweep.workload(name, prompts, run.settings.seed) for name in wanted}
    program = service.engine.benchmark_name
    none = "" if program else f"not run: {service.engine.title}'s image has no program of measurement"
    why = {name: none or sweep.too_long(load, run.subject.context) for name, load in loads.items()}
    fitting = {name: load for name, load in loads.items() if not why[name]}
    texts: Mapping[str, tuple[str, str]] = {}
    failure = ""
    if fitting:
        click.echo(f"{run.title}: {program}: {', '.join(fitting)} …", err=True)
        path, _ = resolved(inventory, limit)
        try:
            documents, failures = collect_benchmarks(path, [place.name], service.name, fitting, (place.name,))
            texts, failure = documents.get(place.name, {}), failures.get(place.name, "")
        except CollectError as error:
            failure = str(error)
    sweeps = [
        sweep.read(name, load, service.engine, *texts.get(name, ("", failure)))
        if name in fitting
        else Sweep(
            name=name,
            input_tokens=load.input_tokens,
            output_tokens=load.output_tokens,
            prompts=0,
            completed=0,
            failed=0,
            error=why[name],
        )
        for name, load in loads.items()
    ]
    return run.model_copy(update={"sweeps": tuple(sweeps)})


def _document(run: Run) -> dict[str, Any]:
    """A run as JSON has it: as it is kept, with the figures that are worked out of it."""
    figures = []
    for cell in run.cells:
        found: dict[str, Any] = {"prompt_tokens": cell.prompt_tokens, "users": cell.users}
        for name, _, _, _ in comparing.FIGURES:
            stat = comparing.stat(cell, name)
            found[name] = stat.model_dump() if stat else None
        figures.append(found)
    return {"ok": run.ok, "figures": figures, **run.model_dump(mode="json")}


def _write_pages(runs: list[Run], html: Path | None) -> None:
    if html is None:
        return
    for run in runs:
        path = html
        if len(runs) > 1:
            name = f"{html.stem}-{run.subject.host}-{run.subject.service}{html.suffix}"
            path = html.with_name(name.replace("/", "-"))
        path.write_text(report_html.render(report.page(run)), encoding="utf-8")


def _show(console: Console, run: Run, path: Path | None) -> None:
    line = report.verdict(run)
    colour = {"ok": "green", "bad": "red", "note": "yellow"}.get(line.state, "default")
    console.print(f"\n[bold]{run.title}[/bold]", markup=True)
    console.print(line.text, style=colour, markup=False)
    for name, text in report.about(run):
        console.print(f"  {name}: {text}", markup=False, style="dim")
    measured = [cell for cell in run.cells if cell.rounds]
    if measured:
        table = Table("users", "prompt", box=None, pad_edge=False)
        for _, name, unit, _ in comparing.FIGURES:
            table.add_column(f"{name}\n{unit}", justify="right")
        for cell in measured:
            figures = (report.shown(comparing.stat(cell, name), "\n") for name, _, _, _ in comparing.FIGURES)
            table.add_row(str(cell.users), str(cell.prompt_tokens), *figures)
        console.print(table)
    for cell in run.cells:
        if cell.skipped:
            console.print(
                f"  not measured: {cell.users} users, {cell.prompt_tokens} tokens: {cell.skipped}", markup=False
            )
    for memory in run.subject.memory:
        console.print(f"  {memory.part}: {memory.text}", markup=False)
    for one in run.sweeps:
        rate = one.figures.get("output_throughput")
        text = f"{one.completed} of {one.prompts} answered" + (f", {report.number(rate)} tokens/s" if rate else "")
        console.print(f"  vllm bench serve, {one.name}: {one.error or text}", markup=False)
    for found in run.findings:
        console.print(f"{_MARKS[found.rank]} ", end="")
        console.print(f"{found.code}: {found.meaning}: {found.found}", markup=False)
        for point in found.look_at:
            console.print(f"  look at {point}", markup=False)
    if path:
        console.print(f"  kept in {path}", markup=False, style="dim")


def _compare(first: Path, second: Path, html: Path | None, as_json: bool) -> None:
    try:
        one, two = load(first), load(second)
    except ResultError as error:
        raise click.UsageError(f"--compare: {error}") from None
    page = report.comparison(one, two)
    if html:
        html.write_text(report_html.render(page), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(comparing.document(one, two), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for name, text in page.about:
        console.print(f"{name}: {text}", markup=False)
    console.print(page.verdict.text, markup=False, style="bold")
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, report_html.Table):
                table = Table(*block.head, box=None, pad_edge=False)
                for row in block.rows:
                    table.add_row(*(value if isinstance(value, str) else value.text for value in row))
                console.print(table)
