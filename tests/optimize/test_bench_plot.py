"""The picture of a benchmark with many lines: the legend is whole, and no two lines look alike."""

from __future__ import annotations

import msgspec
import pytest

from modelport.optimize.bench import plot as plotting
from modelport.optimize.bench.outcome import Bench, Point, Tried
from modelport.optimize.bench.plot import COLOURS, plot
from modelport.optimize.intervals import Interval

from .reports import saved_figures


def benched(variants: int, name: str) -> Bench:
    one = Interval(10.0, 9.0, 11.0)
    forms = tuple(Tried(runtime="onnxruntime", variant=f"{name}{number}") for number in range(variants))
    point = Point(
        form=0,
        threads=1,
        batch=1,
        p50_ms=one,
        p95_ms=one,
        stages_ms={},
        calls=10,
        throughput=one,
        callers=2,
        throughput_ratio=one,
        rounds_ms=(10.0,),
        rounds_per_second=(10.0,),
    )
    points = [msgspec.structs.replace(point, form=form, batch=b) for form in range(variants) for b in (1, 4)]
    return Bench(
        bundle="b",
        version="1",
        digest="0",
        machine="m",
        processor="p",
        cores=2,
        versions={},
        data="d",
        items=8,
        forms=forms,
        points=tuple(points),
        rounds=5,
        seed=0,
        seconds=1.0,
    )


@pytest.mark.parametrize(("variants", "name"), [(2, "v"), (12, "static-int8-percentile-u8s8-openvino-")])
def test_the_legend_is_whole_and_lines_differ(
    variants: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = saved_figures(monkeypatch)
    assert plot(benched(variants, name)).startswith(b"\x89PNG")
    (figure,) = figures
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    assert figure.axes[0].get_window_extent().height > 250  # which the legend left it, of 690
    looks = {(COLOURS[form % len(COLOURS)], plotting._marker(form)) for form in range(variants)}
    assert len(looks) == variants
