"""A report as a search writes one, made up: a candidate of each kind, two of them on one spot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from matplotlib.figure import Figure

from modelport.optimize.choose import in_order
from modelport.optimize.intervals import Interval
from modelport.optimize.judge import Judgement
from modelport.optimize.measure import Figures
from modelport.optimize.outcome import Asked, Elsewhere, Entry, Report, Status
from modelport.optimize.repeat import Repeated

CHOSEN = "static-int8-percentile-u8s8-openvino-on-openvino-precision-bf16"


def entry(name: str, status: Status, ratio: float, loss: float = 0.0, reason: str = "") -> Entry:
    figures = Figures(
        p50_ms=10 * ratio,
        p95_ms=12 * ratio,
        ratio=Interval(ratio, 0.9 * ratio, 1.1 * ratio),
        throughput=100 / ratio,
        batch=4,
        peak_bytes=99_000_000,
        start_seconds=0.4,
        size_bytes=1_350_000,
        throughput_interval=Interval(100 / ratio, 90 / ratio, 110 / ratio),
    )
    judgement = Judgement(
        by="accuracy",
        metric="accuracy",
        start=0.9,
        value=0.9 - loss / 100,
        loss=loss,
        low=loss - 1,
        high=loss + 1,
        verdict="passes",
        items=200,
        only_start=2,
        only_candidate=1,
        p_value=1.0,
    )
    return Entry(
        id=name,
        title=f"what {name} is",
        status=status,
        reason=reason or f"<b>why</b> {name}",
        notes=("38 QuantizeLinear and 90 DequantizeLinear nodes",),
        judgement=None if name == "start" else judgement,
        figures=figures,
        command=f"modelport repeat '/a folder/2.report' {name}",
    )


def made_up() -> Report:
    skipped = Entry(
        id="simplify", title="simplified", status="skipped", reason="there is nothing to simplify"
    )
    also = msgspec.structs.replace(skipped, id="unused", title="without what nobody asks for")
    there = Elsewhere(changes=False, portable=("wasm", "x86_64-avx2"), replays=(), said=("on wasm equal",))
    entries = [
        entry("start", "start", 1.0),
        msgspec.structs.replace(entry(CHOSEN, "chosen", 0.33), elsewhere=there),
        *(entry(f"alike-{number}", "tie", 0.335) for number in range(4)),
        entry("met", "tie", 0.34, 0.0, f"tie with {CHOSEN}: the intervals meet"),
        entry("slow", "slower", 1.3, 0.2, "slower than the START: 1.30 of the START's latency"),
        skipped,
        also,
    ]
    return Report(
        bundle="squeezenet",
        version="1",
        digest="0" * 64,
        machine="x86_64-avx512vnni",
        cores=2,
        versions={"modelport": "0.1.0"},
        data="photos",
        items=128,
        labelled="labels.csv",
        margin=0.5,
        asked=Asked(bundle="/b", data="/d", labelled="/l", gate="interval", portable=False, seconds=600.0),
        entries=tuple(in_order(entries)),
        chosen=CHOSEN,
        written="squeezenet/2",
        folder="squeezenet/2.report",
        command="modelport optimize /b --data /d -o /o",
        notes=("128 of 200 items, evenly picked",),
        seconds=73.0,
    )


def saved_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from now on, as they were drawn."""
    figures: list[Figure] = []
    original = Figure.savefig

    def savefig(self: Figure, *given: Any, **how: Any) -> None:
        original(self, *given, **how)
        figures.append(self)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def repeated(before: Entry, *, start_throughput: float = 90.0, before_that: float = 100.0) -> Repeated:
    """A repetition in which the candidate has the figures and the judgement that it has in the report."""
    assert before.figures is not None
    return Repeated(
        id=before.id,
        judgement=before.judgement,
        figures=before.figures,
        before=before,
        start_p50_ms=9.0,
        start_p50_ms_before=10.0,
        start_throughput=start_throughput,
        start_throughput_before=before_that,
    )
