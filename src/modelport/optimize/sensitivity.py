"""Which layers lose the answers in 8 bits, and what each costs in float."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx

from ..errors import ModelportError
from ..runtimes.onnxruntime import OnnxRuntime
from ..runtimes.session import Settings
from ..sampling import evenly
from .bench.profilers import OnnxProfiled
from .calibration import Calibration
from .passes.single import only
from .rewriting import copied
from .tail import LAYERS, behind

ITEMS, LEAST_ITEMS = 16, 2
"""Prepared items that the deviation is measured on."""
RUNS = 5
LEAST_MS = 0.001
NAMED: Settings = {"optimization": "basic"}
"""With more than that layers run under other names."""


class Layer(msgspec.Struct, frozen=True):
    """A layer, and what 8 bits do to it."""

    name: str
    deviation: float
    """Of the outputs where this layer alone is in 8 bits: root mean square, over that of the outputs."""
    milliseconds: float
    """That it takes in float."""

    @property
    def worth(self) -> float:
        """Deviation that goes for each millisecond that comes."""
        return self.deviation / max(self.milliseconds, LEAST_MS)


def layers(
    network: onnx.ModelProto,
    quantized: onnx.ModelProto,
    calibration: Calibration,
    seconds: float = float("inf"),
) -> list[Layer]:
    """Every layer that is quantized and can be tried alone, the one most worth its time in float first.

    The deviation is that of what goes into the arithmetic behind the last layers, where there is any: boxes
    in pixels would hide the scores.

    Args:
        network: in float, as the pass quantized it (`StaticInt8.ready`).
        seconds: fewer items are asked where all would take longer, at least `LEAST_ITEMS`.
    """
    own = _up_to_tail(network)
    count = sum(node.op_type in LAYERS for node in own.graph.node)
    items = evenly(calibration.prepared, ITEMS)
    batches = [{name: array[None] for name, array in item.items()} for item in items]
    times = _times(own, batches[0])
    begun = time.monotonic()
    _outputs(own, batches[:LEAST_ITEMS])
    each = (time.monotonic() - begun) / LEAST_ITEMS
    batches = evenly(batches, max(LEAST_ITEMS, int(min(ITEMS, seconds / max(each * count, 1e-9)))))
    wanted = _outputs(own, batches)
    found = []
    for node in own.graph.node:
        if node.op_type not in LAYERS:
            continue
        alone = only(own, quantized, node.name)
        if alone is None:
            continue
        try:
            got = _outputs(alone, batches)
        except ModelportError:
            continue  # this ONNX Runtime has no such product by itself
        found.append(Layer(node.name, _deviation(got, wanted), times.get(node.name, 0.0)))
    return sorted(found, key=lambda layer: -layer.worth)


def _up_to_tail(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network without the float arithmetic behind its last layers, what goes into it as outputs."""
    tail = set(behind(network))
    rest = [node for node in network.graph.node if node.name not in tail]
    made = {name for node in rest for name in node.output}
    asked = {name for node in network.graph.node if node.name in tail for name in node.input}
    given = {value.name for value in network.graph.output}
    ends = sorted(name for name in made & (asked | given) if name not in _of_no_floats(network))
    if not tail or not ends:
        return network
    own = copied(network)
    del own.graph.node[:], own.graph.output[:]
    own.graph.node.extend(rest)
    own.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ends
    )
    return own


def _of_no_floats(network: onnx.ModelProto) -> set[str]:
    """Values that are known to be other than float32: shapes and places, which 8 bits do nothing to."""
    graph = onnx.shape_inference.infer_shapes(network).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {name for name, kind in kinds.items() if kind not in (onnx.TensorProto.FLOAT, 0)}


def _outputs(network: onnx.ModelProto, batches: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    session = OnnxRuntime().open(network.SerializeToString())
    try:
        return [np.concatenate([a.ravel() for a in session.run(batch).values()]) for batch in batches]
    finally:
        session.close()


def _deviation(got: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    shares = []
    for one, other in zip(got, wanted, strict=True):
        scale = float(np.sqrt(np.mean(other.astype(np.float64) ** 2))) or 1.0
        shares.append(float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2))) / scale)
    return float(np.mean(shares))


def _times(network: onnx.ModelProto, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """Milliseconds of each node, as ONNX Runtime's profiler has them; fused ones under their first name."""
    with tempfile.TemporaryDirectory(prefix="modelport-profile-") as folder:
        session = OnnxProfiled(network.SerializeToString(), 1, NAMED, Path(folder))
        try:
            for _ in range(RUNS):
                session.run(batch)
            return {node.name: node.seconds * 1e3 / RUNS for node in session.ran(0)}
        finally:
            session.close()
