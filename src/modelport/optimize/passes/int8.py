"""8-bit integers: weights alone with ranges found as it runs, or everything with ranges from calibration."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import onnx

from ...tensors import Array, Tensors
from ..calibration import Calibration
from ..candidate import Made, NotApplicable

QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that the weights are of."""
BATCH = 8
BINS, QUANTIZED_BINS, PERCENTILE = 1024, 128, 99.999
HISTOGRAM_ITEMS = 32
"""Items that are counted: counting takes a hundred times as long as looking for the largest."""
_MATRIX = ("MatMul", "Gemm")

Calibrator = Literal["minmax", "entropy", "percentile"]


class DynamicInt8(msgspec.Struct, frozen=True):
    """Weights of matrix products in 8 bits; the other side's ranges are found as it runs."""

    name: ClassVar[str] = "dynamic-int8"

    @property
    def id(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        return "dynamic int8"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        kinds = Counter(node.op_type for node in network.graph.node)
        if not any(kinds[kind] for kind in _MATRIX):
            raise NotApplicable(
                "it has no matrix products; for convolutions ranges that are found as it runs cost more than "
                "8 bits save"
            )

        def run(source: Path, target: Path) -> None:
            quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=list(_MATRIX))

        made = _through_files(network, run)
        return Made(made, (_said(network, made),))


class StaticInt8(msgspec.Struct, frozen=True):
    """Weights and activations in 8 bits, with ranges measured on the calibration items (QDQ form).

    `activations` u8 with `weights` s8 is what VNNI multiplies; without VNNI two such products may overflow 16
    bits, which `reduced` (7-bit weights) or u8 weights keep from happening. `kept`: nodes left in float.
    """

    name: ClassVar[str] = "static-int8"
    calibrator: Calibrator = "minmax"
    per_channel: bool = True
    weights: Literal["s8", "u8"] = "s8"
    reduced: bool = False
    kept: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        parts = [self.name, self.calibrator, f"u8{self.weights}"]
        parts += [] if self.per_channel else ["tensor"]
        parts += ["reduced"] if self.reduced else []
        parts += [f"keep{len(self.kept)}"] if self.kept else []
        return "-".join(parts)

    @property
    def title(self) -> str:
        said = f"static int8, {self.calibrator} ranges, u8{self.weights}"
        said += ", per channel" if self.per_channel else ""
        said += ", 7-bit weights" if self.reduced else ""
        return said + (f", {len(self.kept)} layers in float" if self.kept else "")

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        from onnxruntime.quantization import QDQQuantizer, QuantType

        kinds = Counter(node.op_type for node in network.graph.node)
        if not any(kinds[kind] for kind in QUANTIZED):
            raise NotApplicable(f"it has none of {', '.join(QUANTIZED)}")
        weights = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}[self.weights]

        def run(source: Path, target: Path) -> None:
            quantizer = QDQQuantizer(
                onnx.load_model(source),
                self.per_channel,
                self.reduced,
                weights,
                QuantType.QUInt8,
                ranges(source, self.calibrator, calibration, _rows(network)),
                [],
                list(self.kept),
                _kinds(),
                {"ActivationSymmetric": False, "WeightSymmetric": self.weights == "s8"},
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(target))

        made = _through_files(named(network), run)
        return Made(made, (_said(network, made),))


def ranges(source: Path, calibrator: Calibrator, calibration: Calibration, rows: int) -> Any:
    """Every value's range on the calibration items, as the quantizer takes it; found once for each network.

    Entropy counts in more bins than it quantizes to: with ONNX Runtime's own 128 of 128 it finds the largest
    value and nothing else.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    key = (hashlib.sha256(source.read_bytes()).hexdigest(), calibrator)
    if key in calibration.ranges:
        return calibration.ranges[key]
    method, options = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "entropy": (CalibrationMethod.Entropy, {"num_bins": BINS, "num_quantized_bins": QUANTIZED_BINS}),
        "percentile": (CalibrationMethod.Percentile, {"num_bins": BINS, "percentile": PERCENTILE}),
    }[calibrator]
    found = create_calibrator(
        source,
        _kinds(),
        augmented_model_path=str(source.with_name("augmented.onnx")),
        calibrate_method=method,
        extra_options=options,
    )
    for batch in _whole(calibration, rows, None if calibrator == "minmax" else HISTOGRAM_ITEMS):
        # One by one: a calibrator keeps every value of the network for all that it is given at once.
        found.collect_data(_Reader(batch))
    calibration.ranges[key] = found.compute_data()
    return calibration.ranges[key]


def _kinds() -> list[str]:
    """The operators that the quantizer knows."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})


class _Reader:
    """One batch, as ONNX Runtime asks for them."""

    def __init__(self, batch: Tensors) -> None:
        self._left: list[dict[str, Array]] = [dict(batch)]

    def get_next(self) -> dict[str, Array] | None:
        """The batch, and then None."""
        return self._left.pop() if self._left else None


def _whole(calibration: Calibration, rows: int, most: int | None) -> list[Tensors]:
    """Batches of one size, of which histograms are made; of at most so many items, evenly picked."""
    batches = list(calibration.batches(rows))
    largest = max(len(next(iter(batch.values()))) for batch in batches)
    whole = [batch for batch in batches if len(next(iter(batch.values()))) == largest]
    count = len(whole) if most is None else min(len(whole), max(1, most // largest))
    return [whole[place * len(whole) // count] for place in range(count)]


def quantizable(network: onnx.ModelProto) -> list[str]:
    """The names of the nodes that are put into 8 bits, as `StaticInt8.kept` takes them."""
    return [node.name for node in named(network).graph.node if node.op_type in QUANTIZED]


def _rows(network: onnx.ModelProto) -> int:
    """Rows of a batch: what the network is fixed at, or some."""
    dims = network.graph.input[0].type.tensor_type.shape.dim
    return int(dims[0].dim_value) or BATCH if dims else 1


def named(network: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    own = onnx.ModelProto()
    own.CopyFrom(network)
    seen: set[str] = set()
    for number, node in enumerate(own.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    return own


def _through_files(network: onnx.ModelProto, run: Any) -> onnx.ModelProto:
    """ONNX Runtime's quantizer, which reads a file and writes one.

    Raises:
        NotApplicable: it does not take the network.
    """
    with tempfile.TemporaryDirectory(prefix="modelport-int8-") as folder, _silenced():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        try:
            onnx.save_model(_prepared(network), source)
            run(source, target)
            return onnx.load_model(target)
        except OSError:
            raise
        except Exception as problem:  # the quantizer raises what it likes
            first = str(problem).strip().splitlines() or [type(problem).__name__]
            raise NotApplicable(f"the quantizer does not take this network: {first[0][:300]}") from problem


def _prepared(network: onnx.ModelProto) -> onnx.ModelProto:
    """With shapes inferred, which the quantizer asks for; as it was where that fails."""
    try:
        return onnx.shape_inference.infer_shapes(network)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return network


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Without the quantizer's advice to call what was called already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


def _said(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    kinds = Counter(node.op_type for node in after.graph.node)
    pairs = kinds["QuantizeLinear"], kinds["DequantizeLinear"]
    if any(pairs):
        return f"{pairs[0]} QuantizeLinear and {pairs[1]} DequantizeLinear nodes"
    integer = kinds["MatMulInteger"] + kinds["ConvInteger"]
    floats = sum(Counter(node.op_type for node in before.graph.node)[kind] for kind in QUANTIZED)
    return f"{integer} of {floats} layers in 8 bits"
