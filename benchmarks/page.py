"""docs/benchmarks/results.md and its plots, from the results on disk. Its environment has matplotlib, and not ojai."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import plan
from benchmarks.plan import Case, median, spread

TOOLS = {
    "ojai": "ojai",
    "stock": "stock pyinfra",
    "mitogen": "Ansible, Mitogen",
    "ansible": "Ansible",
    "shell": "shell script",
}
MIB = 1 << 20

Figure = Callable[[str, str, int, int, str], float | None]


def figures(found: dict[str, Any]) -> Figure:
    """The median of a measure of a case; None where there is no sample yet."""
    return lambda tool, what, hosts, rtt, name: median(found["cases"].get(Case(tool, what, hosts, rtt).key, ()), name)


def floor(of: Figure, rtt: int = 0) -> float | None:
    """One `ssh host true` without a connection, and the start of the interpreter."""
    return _sum(of("floor", "ssh cold", 1, rtt, "wall"), of("floor", "python", 1, 0, "wall"))


def _sum(*values: float | None) -> float | None:
    return None if None in values else sum(value or 0 for value in values)


def ratio(one: float | None, other: float | None) -> float | None:
    """How many times ``one`` is ``other``."""
    return one / other if one is not None and other else None


def goals(of: Figure, fleet: int) -> Iterator[tuple[str, str, float | None, bool | None]]:
    """What was set as a goal, as a person reads it; the figure; whether it is reached."""

    def at(tool: str, hosts: int = 1, rtt: int = 0, name: str = "wall", what: str = "converged") -> float | None:
        return of(tool, what, hosts, rtt, name)

    def goal(text: str, unit: str, bound: float, value: float | None, least: bool = False) -> Any:
        reached = None if value is None else value >= bound if least else value <= bound
        return text, f"{'≥' if least else '≤'} {bound:g}{unit}", value, reached

    ours = at("ojai")
    memory, many = at("ojai", name="memory"), at("ojai", fleet, name="memory")
    more = None if memory is None or many is None else (many - memory) / (fleet - 1) / MIB
    far = at("ojai", rtt=20)
    yield goal("one host, converged: Ansible's time over ours", " ×", 12, ratio(at("ansible"), ours), least=True)
    yield goal("one host, converged: Mitogen's time over ours", " ×", 5, ratio(at("mitogen"), ours), least=True)
    yield goal("one host, converged: ours over the floor", " ×", 3, ratio(ours, floor(of)))
    yield goal(
        f"{fleet} hosts, converged: Ansible's time over ours", " ×", 15,
        ratio(at("ansible", fleet), at("ojai", fleet)), least=True,
    )  # fmt: skip
    yield goal("20 ms of RTT add", " s", 0.3, None if far is None or ours is None else far - ours)
    yield goal(
        "first run: ours over the shell script", " ×", 1.1, ratio(at("ojai", what="first"), at("shell", what="first"))
    )
    yield goal(
        "controller's CPU, converged, one host: ours over stock pyinfra's", " ×", 0.5,
        ratio(at("ojai", name="cpu"), at("stock", name="cpu")),
    )  # fmt: skip
    yield goal("peak memory, one host", " MiB", 100, None if memory is None else memory / MIB)
    yield goal("peak memory, each further host", " MiB", 5, more)
    yield goal("`ojai --help`", " s", 0.15, of("ojai", "help", 1, 0, "wall"))
    yield goal("`ojai plan` over 50 hosts", " s", 1, of("ojai", "plan", 50, 0, "wall"))


def reproduced(
    found: dict[str, Any], again: dict[str, Any]
) -> Iterator[tuple[Case, float, tuple[float, float], float]]:
    """Of every case of a peer: its time over ours, between which bounds, and what the second run gave.

    The bounds: the least of one over the greatest of the other, and the reverse.
    """
    for case in plan.cases(found["made_by"]["fleet"]):
        if case.tool not in plan.PEERS:
            continue
        both = [Case(tool, case.what, case.hosts, case.rtt).key for tool in (case.tool, "ojai")]
        theirs, ours = (found["cases"].get(key, []) for key in both)
        first = ratio(median(theirs, "wall"), median(ours, "wall"))
        second = ratio(*(median(again["cases"].get(key, []), "wall") for key in both))
        one, other = spread(theirs), spread(ours)
        if first and second and one and other:
            yield case, first, (one[0] / other[1], one[1] / other[0]), second


def _shown(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _cell(found: dict[str, Any], case: Case) -> str:
    samples = found["cases"].get(case.key, ())
    value, between = median(samples, "wall"), spread(samples)
    if value is None or between is None:
        return "–"
    return f"{value:.2f} ({between[0]:.2f} to {between[1]:.2f})"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)] + [""]


def page(found: dict[str, Any], again: dict[str, Any] | None = None) -> str:
    """The whole page; ``again``: the results of a second run."""
    of, fleet = figures(found), found["made_by"]["fleet"]
    by = found["made_by"]
    count = sum(len(samples) for samples in found["cases"].values())
    versions = "; ".join(
        f"{name}: " + ", ".join(f"{what} {version}" for what, version in each.items())
        for name, each in by["versions"].items()
    )
    machine = by["machine"]
    lines = [
        "# Benchmarks: the figures",
        "",
        "<!-- Made by `make bench` (benchmarks/page.py) from results.json: not edited by hand. -->",
        f"Commit {by['commit']}{'' if by['clean'] else ', with changes that are not committed'}. "
        f"{machine['cores']} × {machine['processor']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}; guests: "
        f"{by['suite']}. {versions}. {count} samples; seconds are medians, with the least and the greatest. "
        "[How it is measured](method.md).",
        "",
        "## Goals",
        "",
    ]
    marks = {True: "yes", False: "no", None: "not measured"}
    rows = [[text, bound, _shown(value), marks[reached]] for text, bound, value, reached in goals(of, fleet)]
    lines += _table(["", "goal", "figure", "reached"], rows)
    lines += ["## A run that finds nothing to do, and one that finds a file changed on every host", ""]
    rows = []
    for what in ("converged", "drifted"):
        for hosts in dict.fromkeys((1, min(8, fleet), fleet)):
            for rtt in plan.RTTS:
                row = [what, str(hosts), str(rtt)]
                ours = of("ojai", what, hosts, rtt, "wall")
                for tool in ("ojai", "stock", "mitogen", "ansible"):
                    times = ratio(of(tool, what, hosts, rtt, "wall"), ours)
                    row.append(
                        _cell(found, Case(tool, what, hosts, rtt))
                        + (f", **{times:.1f} ×**" if times and tool != "ojai" else "")
                    )
                rows.append(row)
    lines += _table(
        ["", "hosts", "RTT, ms", *(TOOLS[tool] + ", s" for tool in ("ojai", "stock", "mitogen", "ansible"))], rows
    )
    lines += ["![wall clock by tool](wall.svg)", "", "![ours by distance](rtt.svg)", ""]
    lines += ["## The floor", ""]
    rows = [
        [str(rtt), *(_cell(found, Case("floor", what, 1, rtt)) for what in ("ssh cold", "ssh warm")),
         _cell(found, Case("floor", "python")), _shown(floor(of, rtt)),
         _shown(ratio(of("ojai", "converged", 1, rtt, "wall"), floor(of, rtt)))]
        for rtt in plan.RTTS
    ]  # fmt: skip
    head = ["RTT, ms", "`ssh host true`, s", "the same, connected, s", "interpreter, s", "floor, s", "ours over it"]
    lines += _table(head, rows)
    lines += ["## What else it takes, RTT 0", ""]
    rows = []
    for what in ("converged", "drifted"):
        for hosts in (1, fleet):
            for tool in ("ojai", "stock", "mitogen", "ansible"):
                memory = of(tool, what, hosts, 0, "memory")
                sent = of(tool, what, hosts, 0, "bytes")
                rows.append([
                    what, str(hosts), TOOLS[tool], _shown(of(tool, what, hosts, 0, "cpu")),
                    _shown(memory and memory / MIB, 0), _shown(of(tool, what, hosts, 0, "commands"), 0),
                    _shown(sent and sent / 1024, 0),
                ])  # fmt: skip
    lines += _table(
        ["", "hosts", "", "controller's CPU, s", "peak memory, MiB", "SSH commands", "KiB on the wire"], rows
    )
    lines += ["## The first run, one host", ""]
    base = of("shell", "first", 1, 0, "wall")
    rows = [
        [TOOLS[tool], _cell(found, Case(tool, "first")), _shown(ratio(of(tool, "first", 1, 0, "wall"), base))]
        for tool in ("shell", "ojai", "mitogen", "ansible")
    ]
    lines += _table(["", "s", "over the shell script"], rows)
    lines += ["## Growth: a dry run over hosts that do not exist", ""]
    rows = []
    for hosts in plan.FAKED:
        cpu, memory = (of("ojai", "dry", hosts, 0, name) for name in ("cpu", "memory"))
        each = None if cpu is None else 1000 * cpu / hosts
        rows.append(
            [str(hosts), _cell(found, Case("ojai", "dry", hosts)), _shown(each, 0), _shown(memory and memory / MIB, 0)]
        )
    lines += _table(["hosts", "s", "CPU a host, ms", "peak memory, MiB"], rows)
    lines += ["![growth](growth.svg)", "", "## The same work?", ""]
    for tool, one in found["checks"].items():
        lines.append(f"- {TOOLS[tool]}: {len(one['undone'])} of {one['drifts']} drifts undone; "
                     f"{len(one['differences'])} differences from what ojai leaves.")  # fmt: skip
        lines += [f"  - `{text}`" for text in one["differences"]]
    if again:
        rows = [
            [TOOLS[case.tool], case.what, str(case.hosts), str(case.rtt), _shown(first, 1),
             f"{least:.1f} to {most:.1f}", _shown(second, 1), "yes" if least <= second <= most else "no"]
            for case, first, (least, most), second in reproduced(found, again)
        ]  # fmt: skip
        head = ["", "", "hosts", "RTT, ms", "over ours", "its spread", "second run", "within"]
        lines += ["", "## Reproduced", "", f"A second run, at commit {again['made_by']['commit']}.", ""]
        lines += _table(head, rows)
    return "\n".join(lines).rstrip() + "\n"


def plots(found: dict[str, Any], folder: Path) -> None:
    """The three plots."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ojai"
    from matplotlib import pyplot

    of, fleet = figures(found), found["made_by"]["fleet"]

    def save(name: str, *labels: str) -> None:
        pyplot.xlabel(labels[0])
        pyplot.ylabel(labels[1])
        pyplot.title(labels[2])
        if pyplot.gca().get_legend_handles_labels()[0]:
            pyplot.legend()
        pyplot.tight_layout()
        pyplot.savefig(folder / name, metadata={"Date": None})
        pyplot.close()

    pyplot.figure(figsize=(8, 4))
    places = [(hosts, rtt) for hosts in (1, fleet) for rtt in (0, 20)]
    for number, tool in enumerate(("ojai", "stock", "mitogen", "ansible")):
        values = [of(tool, "converged", hosts, rtt, "wall") or 0 for hosts, rtt in places]
        bars = pyplot.bar([place + number * 0.2 for place in range(4)], values, 0.2, label=TOOLS[tool])
        pyplot.bar_label(bars, [f"{value:.1f}" if value else "" for value in values], fontsize=7)
    pyplot.yscale("log")
    pyplot.xticks([place + 0.3 for place in range(4)], [f"{hosts} hosts, {rtt} ms" for hosts, rtt in places])
    save("wall.svg", "", "seconds (logarithmic)", "A run that finds nothing to do")
    pyplot.figure(figsize=(8, 4))
    for what, style in (("converged", "-"), ("drifted", "--")):
        for number, hosts in enumerate(dict.fromkeys((1, min(8, fleet), fleet))):
            values = [of("ojai", what, hosts, rtt, "wall") for rtt in plan.RTTS]
            pairs = [(rtt, value) for rtt, value in zip(plan.RTTS, values, strict=True) if value is not None]
            label = f"{hosts} hosts, {what}"
            pyplot.plot(
                *zip(*pairs, strict=True), style, marker="o", color=f"C{number}", label=label
            ) if pairs else None
    pyplot.ylim(bottom=0)
    save("rtt.svg", "RTT, ms", "seconds", "ojai, by distance")
    pyplot.figure(figsize=(8, 4))
    values = [of("ojai", "dry", hosts, 0, "wall") for hosts in plan.FAKED]
    pairs = [(hosts, value) for hosts, value in zip(plan.FAKED, values, strict=True) if value is not None]
    pyplot.plot(*zip(*pairs, strict=True), marker="o") if pairs else None
    pyplot.ylim(bottom=0)
    save("growth.svg", "hosts", "seconds", "A dry run over hosts that do not exist")


def main() -> int:
    """Write the page and the plots; FILE FOLDER for others than the project's."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else plan.RESULTS
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else plan.RESULTS.parent
    found = json.loads(file.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    second = file.with_name(plan.AGAIN.name)
    (folder / "results.md").write_text(page(found, json.loads(second.read_text()) if second.exists() else None))
    plots(found, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
