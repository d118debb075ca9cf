"""benchmarks/OPTIMIZE.md, made of the results that were saved and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cases import CASES, Case
from .contestants import MARGIN, OURS, START, Contestant, contestants
from .making import made_path
from .places import HERE, read_json
from .timing import measured_path

TARGET = HERE.parent / "OPTIMIZE.md"
HEAD = HERE / "head.md"
COLUMNS = (
    "who",
    "how",
    "loss, points",
    "MB",
    "end to end: items/s",
    "latency",
    "network: items/s",
    "latency",
    "processor s",
)
TIE = 0.02
"""Less than this share apart is a tie."""
Told = Mapping[str, Any]


def write_report() -> Path:
    """Write it, and say where."""
    TARGET.write_text(published())
    return TARGET


def published() -> str:
    """The page of the results that are kept here."""
    return page(
        {case: (read_json(made_path(case)), read_json(measured_path(case))) for case in CASES.values()}
    )


def page(found: Mapping[Case, tuple[Told, Told]]) -> str:
    """The whole page."""
    known = {case: told for case, told in found.items() if told[0]}
    parts = [HEAD.read_text().rstrip(), "## In short", summary(known)]
    for case, (made, measured) in known.items():
        parts += [f"## {case.title}", *section(case, made, measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(found: Mapping[Case, tuple[Told, Told]]) -> str:
    """A line for each case: ours, the best peer that is within the margin, the goal."""
    head = ["case", "goal", "ours, end to end", "ours, network", "a network that takes no time", "loss"]
    head += ["best peer within the margin", "end to end", "loss"]
    rows = []
    for case, (made, measured) in found.items():
        figures = measured.get("figures", {})
        peer = best_peer(case, made, figures)
        rows.append(
            [
                case.name,
                f"{case.goal:g}x",
                _ratio(figures.get(OURS, {}).get("whole rate")),
                _ratio(figures.get(OURS, {}).get("net rate")),
                _without_network(figures.get(START, {})),
                _loss(made.get(OURS, {}), brief=True),
                f"{peer.peer}: {peer.title}" if peer else "none",
                _ratio(figures[peer.id]["whole rate"]) if peer else "",
                _loss(made[peer.id], brief=True) if peer else "",
            ]
        )
    return table(head, rows)


def _without_network(start: Told) -> str:
    """How many times the throughput there would be, were all but the network as it is: Amdahl's law."""
    if not start:
        return ""
    whole, network = (1 / start[what]["value"] for what in ("whole rate", "net rate"))
    return f"{whole / (whole - network):.2f}x" if whole > network else ""


def best_peer(case: Case, made: Told, figures: Told) -> Contestant | None:
    """The fastest of the peers' networks, end to end, that loses no more than the margin."""
    able = [
        each
        for each in contestants(case)
        if each.id not in (START, OURS) and each.id in figures and within(made.get(each.id, {}))
    ]
    return max(able, key=lambda each: figures[each.id]["whole rate"]["ratio"], default=None)


def within(told: Told) -> bool:
    """Whether the loss that was seen is within the margin."""
    return "judged" in told and told["judged"]["loss"] <= MARGIN + 1e-9


def section(case: Case, made: Told, measured: Told) -> list[str]:
    """The table of one case, and what there is to say of those that gave nothing or were not timed."""
    figures = measured.get("figures", {})
    rows, failed, untimed = [], [], []
    for each in contestants(case):
        told = made.get(each.id, {"error": "not made here yet"})
        if "error" in told:
            failed.append(f"- {each.peer}, {each.title}: {told['error']}")
            continue
        rows.append(row(each, told, figures.get(each.id, {})))
        if figures and each.id not in figures:
            untimed.append(f"{each.peer} ({each.title})")
    judged = made[START]["judged"]
    metric = {"map": "mAP 50-95", "accuracy": "top-1"}.get(judged["metric"], judged["metric"])
    start = figures.get(START, {})
    base = ""
    if start:
        rates = ", ".join(f"{start[what]['value']:g} {unit}" for what, unit in UNITS.items())
        base = f" Float32 here: {rates}; medians of {measured['rounds']} rounds on {measured['cores']} cores."
    said = f"{metric} of float32: {judged['start']:.4f} on {judged['items']} items.{base}"
    late = f"Made after the others were timed, not timed yet: {'; '.join(untimed)}." if untimed else ""
    nothing = "No network came of:\n\n" + "\n".join(failed) if failed else ""
    return [said, table(COLUMNS, rows), late, *notes(made), nothing]


UNITS = {
    "whole rate": "items/s end to end",
    "whole": "items/s one at a time",
    "net rate": "items/s through the network",
    "net": "items/s one at a time through it",
}


def row(each: Contestant, told: Told, figures: Told) -> list[str]:
    """One contestant's line."""
    title, took = each.title, f"{told['processor_seconds']:.0f}" if each.id != START else ""
    if "chosen" in told:
        title = f"{title}: `{told['chosen']}`, of {told['tried']} candidates"
    if each.id == OURS:
        took = f"{took} ({told['seconds']:.0f} s)"
    return [
        each.peer,
        title,
        _loss(told),
        f"{told['judged']['bytes'] / 1e6:.2f}",
        *(_ratio(figures.get(what)) for what in ("whole rate", "whole", "net rate", "net")),
        took,
    ]


def notes(made: Told) -> list[str]:
    """What the tools' versions are, in one line."""
    versions: dict[str, str] = {}
    for told in made.values():
        versions |= told.get("versions", {})
    return (
        ["*" + ", ".join(f"{name} {number}" for name, number in sorted(versions.items())) + ".*"]
        if versions
        else []
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(told: Told | None) -> str:
    """A ratio to float32 with its interval: above 1 is faster."""
    if not told:
        return "–"
    return f"{told['ratio']:.2f}x ({told['low']:.2f} to {told['high']:.2f})"


def _loss(told: Told, *, brief: bool = False) -> str:
    """Points lost, with the interval; marked where it is beyond the margin."""
    if "judged" not in told:
        return "–"
    judged = told["judged"]
    value = f"{judged['loss'] + 0.0:.2f}"
    if not within(told):
        value = f"**{value}**"
    return value if brief else f"{value} ({judged['low']:.2f} to {judged['high']:.2f})"
