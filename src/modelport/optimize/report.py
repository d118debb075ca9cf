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
from .outcome import Entry, Report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 96rem;
  margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e4e7eb; vertical-align: top }
td.n, th.n { text-align: right; white-space: nowrap }
tr.chosen { background: #e6f4ea }
tr.refused td, tr.skipped td, tr.slower td, tr.dominated td { color: #6b7280 }
code { background: #f3f4f6; padding: .1rem .2rem; overflow-wrap: anywhere;
  box-decoration-break: clone; -webkit-box-decoration-break: clone }
img { max-width: min(100%, 64rem) } th.n { white-space: normal } .scroll { overflow-x: auto }
td.name { min-width: 14rem } td.name code { font-size: .85em }
td.why { font-size: .9em; min-width: 24rem; width: 40% }
small { color: #6b7280 } small.badge { color: #1a7f37; font-weight: 600 }
ul { margin: .2rem 0; padding-left: 1.1rem } summary { cursor: pointer }
"""

COLUMNS = ("latency ×", "p50 ms", "p95 ms", "items/s", "MB", "start s", "memory MB", "loss")


def write_report(folder: Path, report: Report) -> None:
    """Write the three files; the picture is left out where matplotlib is not installed.

    The page has the picture in it, so that it can be sent alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    try:
        drawn = front(report)
        (folder / "front.png").write_bytes(drawn)
        source = f"data:image/png;base64,{base64.b64encode(drawn).decode()}"
        picture = f'<img src="{source}" alt="accuracy lost against latency, a point for each candidate">'
        picture += "".join(f"<p>{escape(line)}</p>" for line in _undrawn(report.entries))
    except Unsupported as problem:
        picture = f"<p>{escape(str(problem))}</p>"
    (folder / "report.html").write_text(_page(report, picture))


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
    judged = report.labelled or "agreement with the START's own answers, which says nothing of who is right"
    within = "the whole interval" if report.asked.gate == "interval" else "the loss that was seen"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    rows = "".join(_row(entry) for entry in report.entries)
    head = "<th>candidate<th>status" + "".join(f"<th class=n>{text}" for text in COLUMNS)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>optimize: {escape(report.bundle)}</title><style>{_STYLE}</style>
<h1>{escape(report.bundle)} {escape(report.version)}: {escape(_verdict(report))}</h1>
<p>Judged by {escape(judged)}: {within} within {report.margin:g} points. Ranges and times of {report.items}
items, {report.cores} cores of {escape(report.machine)}; {escape(versions)}; {report.seconds:g} s.</p>
{notes}{picture}
<div class=scroll><table><thead><tr>{head}<th>why</thead><tbody>{rows}</tbody></table></div>
<p>Latency is of one item end to end (decoding, preparing, network, answer), over the START's in the same
round, with its 95 % interval; items/s, with theirs, are of as many calls at a time as there are cores, at the
batch where they are most; start is from a new process to its first answer, and memory the most that it had.
Repeat it: <code>{escape(report.command)}</code></p></html>
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
    lost = _with_interval(judgement.loss, judgement.low, judgement.high) if judgement else ""
    numbers = "".join(f"<td class=n>{cell}" for cell in [*cells, lost])
    name = f"<td class=name><b>{escape(entry.title)}</b><br><code>{escape(entry.id)}</code>{_badge(entry)}"
    return f'<tr class="{entry.status}">{name}<td>{entry.status}{numbers}<td class=why>{_why(entry)}'


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
        return "it has the same items right as the START"
    return (
        f"{judgement.only_start} right in the START alone, {judgement.only_candidate} in this one alone: "
        f"p {judgement.p_value:.2g} (McNemar)"
    )
