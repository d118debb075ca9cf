"""What `modelport track` says at the end: what was seen, counted, lost and scored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..track.events import written
from ..track.session import Summary
from .render import console, facts, grid, write_json

if TYPE_CHECKING:
    from ..media.frames import Source
    from ..track.run import Delay
    from ..track.scores import Scores


def report(
    summary: Summary,
    source: Source,
    delay: Delay,
    scores: Scores | None,
    *,
    as_json: bool,
    whole: bool,
    video: Path | None = None,
) -> None:
    """The summary: the last line of JSON, or tables; what was wrong with the source on standard error.

    Args:
        whole: the source was read to its end, not stopped before.
        video: the annotated video that was written.
    """
    lost = {
        "dropped": source.dropped,
        "corrupt": source.corrupt,
        "missing": source.missing if whole else 0,
        "reconnects": source.reconnects,
    }
    if notes := source.notes(whole=whole):
        click.echo(f"{source.name}: {', '.join(notes)}", err=True)
    if as_json:
        last: dict[str, Any] = {"event": "summary", **written(summary), **lost}
        if source.live:
            last["delay_seconds"] = {"mean": round(delay.mean, 3), "longest": round(delay.longest, 3)}
        if scores is not None:
            last["scores"] = scores
        write_json(last, lines=True)
        return
    rows = [("source", source.name), ("frames", f"{summary.frames}, {summary.seconds:.2f} s")]
    rows.append(("tracks", _labels(summary.labels)))
    rows += [(name, str(count)) for name, count in lost.items() if count]
    if source.live:
        rows.append(
            ("behind", f"{delay.mean * 1e3:.0f} ms on the average, {delay.longest * 1e3:.0f} ms at most")
        )
    if video is not None:
        rows.append(("saved", str(video)))
    out = console()
    out.print(facts("tracked", rows))
    if summary.lines:
        cells = [
            [n, label, str(c.into), str(c.out)]
            for n, by in summary.lines.items()
            for label, c in sorted(by.items())
        ]
        out.print(grid(["line", "label", "in", "out"], cells or [[n, "-", "0", "0"] for n in summary.lines]))
    if summary.zones:
        out.print(grid(["zone", "label", "entered", "mean stay", "longest"], list(_stays(summary))))
    if scores is not None:
        out.print(facts("against the ground truth", _scores(scores)))
    sys.stdout.flush()


def _labels(labels: dict[str, int]) -> str:
    total = sum(labels.values())
    return f"{total}" + (
        f" ({', '.join(f'{count} {label}' for label, count in labels.items())})" if labels else ""
    )


def _stays(summary: Summary) -> Iterator[list[str]]:
    for name, by in summary.zones.items():
        if not by:
            yield [name, "-", "0", "", ""]
        for label, stays in sorted(by.items()):
            mean = stays.dwell_seconds / stays.left if stays.left else 0.0
            yield [name, label, str(stays.entered), f"{mean:.2f} s", f"{stays.longest_seconds:.2f} s"]


def _scores(scores: Scores) -> list[tuple[str, str]]:
    return [
        ("MOTA", f"{scores.mota:.3f}"),
        ("IDF1", f"{scores.idf1:.3f}"),
        ("HOTA", f"{scores.hota:.3f} (DetA {scores.det_a:.3f}, AssA {scores.ass_a:.3f})"),
        ("precision", f"{scores.precision:.3f}"),
        ("recall", f"{scores.recall:.3f}"),
        ("identity switches", str(scores.id_switches)),
        ("fragments", str(scores.fragments)),
        ("false, missed", f"{scores.false_positives}, {scores.misses} of {scores.objects}"),
    ]
