"""How close a replay must come, chosen from what was recorded, with the reason for every number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bundle.manifest import Golden, Tolerance
from ..runtimes.onnxruntime import OnnxRuntime
from ..steps.compile import CompiledGraph
from .golden import Recorded
from .source import Imported

NET = 1e-4
"""Share of an output's magnitude: float32 networks of a hundred layers stay within a tenth of it from one
framework, instruction set or batch size to another; one wrong weight or layer does not."""
HALF = 1e-2
"""The same for outputs in float16."""
QUANTISED = 1e-2
"""The same for networks that round values to 8 bits on the way: one step of 127 is 0.8 % of the largest."""
DETECTOR = 10.0
"""Times `NET`, as an absolute share of a score of 1: the third digit of a score. Small boxes in pixels differ
by some ten-thousandths of a pixel, which relative to them is more than relative to a large one."""
PRE = 2e-6
"""Share of the magnitude that pre-processing in floats may differ by (some units in the last place)."""


def chosen_golden(
    recorded: Sequence[Recorded],
    imported: Imported,
    pre: CompiledGraph,
    *,
    generated: bool,
    detector: bool = False,
) -> tuple[Golden, tuple[str, ...]]:
    """The manifest's `golden` without its cases, and notes."""
    net = _net(recorded, imported, detector)
    steps, notes = _pre(recorded, pre)
    return Golden(source=imported.framework, generated=generated, cases=(), pre=steps, net=net), notes


def _net(recorded: Sequence[Recorded], imported: Imported, detector: bool) -> Tolerance:
    """Relative to each element, and absolute to the scale of the smallest output: of outputs with boxes in
    pixels and scores from 0 to 1, the scores decide. A detector has both in one output, where it has one."""
    scales: list[float] = []
    share = QUANTISED if imported.quantised else NET
    for spec in imported.signature.outputs:
        if spec.dtype not in ("float16", "float32", "float64"):
            continue
        share = max(share, HALF if spec.dtype == "float16" else share)
        values = np.concatenate([case.raw[spec.name].astype(np.float64).ravel() for case in recorded])
        finite = np.abs(values[np.isfinite(values)])
        if finite.size and finite.max() > 0:
            scales.append(float(finite.max()))
    if detector:
        return Tolerance(absolute=share * DETECTOR * min([1.0, *scales]), relative=share)
    return Tolerance(absolute=share * min(scales, default=0.0), relative=share)


def _pre(recorded: Sequence[Recorded], pre: CompiledGraph) -> tuple[Tolerance, tuple[str, ...]]:
    """Zero where the graph gives the recorded bytes, as the named kernels do; else a few units in the last
    place of floats. Anything more is left to verification to refuse."""
    session = OnnxRuntime().open(pre.data)
    try:
        worst = scale = 0.0
        for case in recorded:
            for name, got in session.run(case.decoded).items():
                want = case.pre[name]
                if (
                    want.dtype.kind != "f"
                    or got.shape != want.shape
                    or np.array_equal(got, want, equal_nan=True)
                ):
                    continue
                worst = max(worst, float(np.abs(got.astype(np.float64) - want).max()))
                scale = max(scale, float(np.abs(want.astype(np.float64)).max()))
    finally:
        session.close()
    if not 0 < worst <= PRE * scale:
        return Tolerance(), ()
    note = (
        f"pre-processing differs by up to {worst:.2g} between the graph and native code, in its last digits"
    )
    return Tolerance(absolute=PRE * scale), (note,)
