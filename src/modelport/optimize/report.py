"""The report of a search: `report.json`, `report.html` and `front.png`."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..errors import Unsupported
from .front import front
from .judge import Judgement
from .outcome import MEANINGS, Entry, Report, by_reason, gained, judged_by, other_level

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 80rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .5rem; vertical-align: top }
thead th, tbody { border-bottom: 1px solid #e4e7eb }
th, td.n, td[data-of=status] { overflow-wrap: normal } th.n, td.n { text-align: right }
td.n { white-space: nowrap }
td.name { max-width: 22rem } td.name code { font-size: .85em }
td.why { font-size: .9em; padding: 0 .5rem .6rem } td.why p { max-width: 72rem; margin: 0 }
tbody.chosen { background: #e6f4ea }
tbody.refused td, tbody.skipped td, tbody.slower td, tbody.dominated td { color: #6b7280 }
code { background: #f3f4f6; padding: .1rem .2rem; box-decoration-break: clone;
  -webkit-box-decoration-break: clone }
img { max-width: min(100%, 64rem) } dt { float: left; clear: left; width: 7rem; font-weight: 600 }
dd { margin-left: 7rem }
small { color: #6b7280 } small.badge { color: #1a7f37; font-weight: 600 }
ul { margin: .2rem 0; padding-left: 1.1rem } summary { cursor: pointer }
@media (max-width: 60rem) {
  thead { display: none } table, tbody, td.name, td.why { display: block }
  tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)) }
  td.name, td.why { grid-column: 1 / -1; max-width: none }
  td.n { text-align: left } td.n:empty { display: none }
  td[data-of]::before { content: attr(data-of); display: block; font-size: .8em; color: #6b7280 }
}
"""

COLUMNS = (
    "latency ×, 95\N{NO-BREAK SPACE}%",
    "p50 ms",
    "p95 ms",
    "items/s, 95\N{NO-BREAK SPACE}%",
    "MB",
    "start s",
    "memory MB",
    "loss, points, 90\N{NO-BREAK SPACE}%",
)
"""With the level of the intervals below the figures."""
_FIGURES = {
    "latency ×": "of one item end to end (decoding, preparing, network, answer): the median over rounds of "
    "its time over that of the bundle as it is in the same round, with its 95 % interval. It is not p50 over "
    "p50: those are of all rounds together, with what the machine did meanwhile in them",
    "items/s": "of as many calls at a time as there are cores, at the batch where they are most",
    "start s": "from a new process to its first answer, the quicker of two starts",
    "memory MB": "the most that these processes had",
    "loss": "in points, hundredths of the metric (of errors such as rmse, hundredths of that of the bundle "
    "as it is), with its 90 % interval: the upper end is the one-sided bound at 95 % that the margin is held "
    "against. <code>modelport evaluate --against</code> gives the same change as a fraction with a 95 % "
    "interval, which is wider",
}


def write_report(folder: Path, report: Report) -> None:
    """Write the three files; the picture is left out where matplotlib is not installed.

    The page has the picture in it, so that it can be sent alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (folder / "report.json").write_text(text, "utf-8")
    try:
        drawn = front(report)
        (folder / "front.png").write_bytes(drawn)
        source = f"data:image/png;base64,{base64.b64encode(drawn).decode()}"
        picture = f'<img src="{source}" alt="accuracy lost against latency, a point for each measured one">'
        picture += "".join(f"<p>{escape(line)}</p>" for line in _undrawn(report.entries))
    except Unsupported as problem:
        picture = f"<p>{escape(str(problem))}</p>"
    (folder / "report.html").write_text(_page(report, picture), "utf-8")


def _undrawn(entries: Sequence[Entry]) -> list[str]:
    """What was judged, and is not in the picture since it was not measured."""
    found: dict[str, list[str]] = {"refused": [], "undecided": []}
    for entry in entries:
        if entry.figures is None and entry.status in found:
            found[entry.status].append(entry.id)
    return [
        f"{status.capitalize()}, and not measured: {', '.join(names)}."
        for status, names in found.items()
        if names
    ]


def _page(report: Report, picture: str) -> str:
    within = "the whole interval" if report.asked.gate == "interval" else "the loss that was seen"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    rows = "".join(_row(entry) for entry in report.entries if entry.status != "skipped")
    rows += "".join(_skipped(reason, entries) for reason, entries in by_reason(report.entries).items())
    head = "<th>candidate<th>status" + "".join(f"<th class=n>{text}" for text in COLUMNS)
    met = {entry.status for entry in report.entries}
    meanings = "".join(f"<dt>{name}<dd>{said}" for name, said in MEANINGS.items() if name in met)
    figures = "".join(f"<dt>{name}<dd>{said}" for name, said in _FIGURES.items())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>optimize: {escape(report.bundle)}</title><style>{_STYLE}</style>
<h1>{escape(report.bundle)} {escape(report.version)}: {escape(_verdict(report))}</h1>
<p><b>{escape(gained(report))}</b></p>
<p>Judged by {escape(judged_by(report))}: {within} within {report.margin:g} points. Ranges and times of
{report.items} items, {report.cores} cores of {escape(report.machine)}; {escape(versions)};
{report.seconds:g} s.</p>
{notes}{picture}
<table><thead><tr>{head}</thead>{rows}</table>
<dl>{meanings}{figures}</dl>
<p>Repeat it: <code>{escape(report.command)}</code></p></html>
"""


def _verdict(report: Report) -> str:
    return f"{report.chosen} is best" if report.written else "nothing better was found"


def _row(entry: Entry) -> str:
    own, judgement = entry.figures, entry.judgement
    cells = [""] * (len(COLUMNS) - 1)
    if own is not None:
        cells = [
            _with_interval(own.ratio.value, own.ratio.low, own.ratio.high),
            f"{own.p50_ms:.2f}",
            f"{own.p95_ms:.2f}",
            f"{own.throughput:.1f}<br><small>{'<br>'.join(own.throughput_notes)}</small>",
            f"{own.size_bytes / 1e6:.2f}",
            f"{own.start_seconds:.1f}",
            f"{own.peak_bytes / 1e6:.0f}",
        ]
    cells.append(_lost(judgement) if judgement else "")
    numbers = "".join(
        f'<td class=n data-of="{of}">{cell}</td>' for of, cell in zip(COLUMNS, cells, strict=True)
    )
    name = f"<b>{escape(entry.title)}</b><br><code>{escape(entry.id)}</code>{_badge(entry)}"
    return (
        f'<tbody class="{entry.status}"><tr><td class=name>{name}<td data-of=status>{entry.status}{numbers}'
        f"<tr><td class=why colspan={2 + len(COLUMNS)}><p>{_why(entry)}</tbody>"
    )


def _skipped(reason: str, entries: Sequence[Entry]) -> str:
    """One row for all that was not tried for the same reason."""
    ids = ", ".join(f'<code title="{escape(entry.title)}">{escape(entry.id)}</code>' for entry in entries)
    whole = f"<td class=why colspan={2 + len(COLUMNS)}><p><b>skipped</b>: {escape(reason)}<br>{ids}"
    return f"<tbody class=skipped><tr>{whole}</tbody>"


def _lost(judgement: Judgement) -> str:
    level = other_level(judgement)
    shown = _with_interval(judgement.loss, judgement.low, judgement.high)
    return f"{shown}<br><small>({level})</small>" if level else shown


def _badge(entry: Entry) -> str:
    """On which classes of machines it gives the same bits; nothing where that is not known."""
    same = entry.elsewhere.portable if entry.elsewhere is not None else ()
    return f"<br><small class=badge>the same bits on {escape(', '.join(same))}</small>" if same else ""


def _why(entry: Entry) -> str:
    """The reason; below it what else there is to be said, and the command: unfolded for the chosen one."""
    again = f"<code>{escape(entry.command)}</code>" if entry.command else ""
    more = _listed(entry) + again
    folded = f"<details{' open' * (entry.status == 'chosen')}><summary>more</summary>{more}</details>"
    return escape(entry.reason) + (folded if more else "")


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}<br><small>{low:.2f} to {high:.2f}</small>"


def _listed(entry: Entry) -> str:
    """What there is to be said beside the reason."""
    there = entry.elsewhere.said if entry.elsewhere is not None else ()
    explained = "" if entry.explained in entry.reason else entry.explained
    said = filter(None, [_paired(entry.judgement), *entry.notes, explained, *there])
    items = "".join(f"<li>{escape(line)}" for line in said)
    return f"<ul>{items}</ul>" if items else ""


def _paired(judgement: Judgement | None) -> str:
    """McNemar's test in words; empty where there are no classes."""
    if judgement is None or judgement.p_value is None:
        return ""
    if not judgement.only_start and not judgement.only_candidate:
        return "it has the same items right as the bundle as it is"
    return (
        f"{judgement.only_start} right in the bundle as it is alone, "
        f"{judgement.only_candidate} in this one alone: "
        f"p {judgement.p_value:.2g} (McNemar)"
    )
