"""The table of a search: every candidate that was judged with its figures, and what was not tried."""

from __future__ import annotations

from collections.abc import Sequence

from ..optimize.outcome import Entry, by_reason, in_lines, other_level
from .render import console, grid

WIDE, LEAST_NAME = 120, 24
"""Letters of a line in which the reasons have room, and those that an id has in any."""
COLUMNS = ("candidate", "status", "latency × (95 %)", "items/s", "MB", "loss, points (90 %)", "why")
LEGEND = (
    "latency ×: the median over rounds of its time over that of the bundle as it is in the same round, which "
    "is not p50 over p50; loss in hundredths of the metric"
)


def print_entries(entries: Sequence[Entry]) -> None:
    """A table; in a narrow terminal of figures alone, and the reasons below it."""
    out = console()
    wide = out.width >= WIDE
    most = max(LEAST_NAME, out.width // 4)
    columns = COLUMNS if wide else COLUMNS[:-1]
    tried = [entry for entry in entries if entry.status != "skipped"]
    shown = [entry for entry in tried if wide or entry.figures is not None]
    rows = [["\n".join(in_lines(entry.id, most)), *_row(entry)][: len(columns)] for entry in shown]
    if wide:  # ids in the reasons are broken behind hyphens as well
        taken = [
            max(map(len, "\n".join(cells).split("\n"))) + 2 for cells in zip(columns, *rows, strict=True)
        ]
        room = max(LEAST_NAME, out.width - sum(taken[:-1]))
        for row in rows:
            row[-1] = " ".join("\n".join(in_lines(word, room)) for word in row[-1].split(" "))
    table = grid(columns, rows)
    table.columns[0].no_wrap = True
    out.print(table)
    out.print(LEGEND, markup=False)
    for entry in () if wide else tried:
        out.print(f"\n{entry.id} ({entry.status}): {entry.reason}", markup=False)
    for reason, skipped in by_reason(entries).items():
        out.print(f"\nskipped ({reason}): {', '.join(entry.id for entry in skipped)}", markup=False)


def _row(entry: Entry) -> list[str]:
    """What is behind the id."""
    own, judgement = entry.figures, entry.judgement
    latency = f"{own.ratio.value:.2f} ({own.ratio.low:.2f} to {own.ratio.high:.2f})" if own else ""
    rate = f"{own.throughput:.1f}" if own else ""
    size = f"{own.size_bytes / 1e6:.2f}" if own else ""
    lost = ""
    if judgement is not None:
        level = other_level(judgement)
        ends = f"{judgement.low:.2f} to {judgement.high:.2f}{f'; {level}' if level else ''}"
        lost = f"{judgement.loss:.2f} ({ends})"
    return [entry.status, latency, rate, size, lost, entry.reason]
