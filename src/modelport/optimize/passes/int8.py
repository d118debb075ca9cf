"""8-bit integers: weights alone with ranges found as it runs, or everything with ranges from calibration."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import onnx

from ...runtimes.form import DEFAULT
from ..calibration import Calibration
from ..candidate import Made, NotApplicable
from ..ranges import Calibrator, NotFinite, ranges, rows_of
from ..rewriting import drop_unused, makers, named
from ..tail import LAYERS, behind, heads
from .bias import corrected
from .fold import folded, moves, quantized_first
from .runtime import check_here
from .swish import shown
from .ties import tied

_MATRIX = ("MatMul", "Gemm")
BETWEEN = (
    "Sigmoid",
    "HardSwish",
    "HardSigmoid",
    "Tanh",
    "Erf",
    "Gelu",
    "Elu",
    "Softplus",
    "Mish",
    "LeakyRelu",
)
"""Activations that OpenVINO computes in one step with their layer, if no 8-bit values are in between."""


class DynamicInt8(msgspec.Struct, frozen=True):
    """Weights of matrix products in 8 bits; the other side's ranges are found as it runs.

    `reduced`: 7-bit weights, with which no two products overflow 16 bits, see `StaticInt8`.
    """

    name: ClassVar[str] = "dynamic-int8"
    reduced: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}-reduced" if self.reduced else self.name

    @property
    def title(self) -> str:
        return "dynamic int8" + (", 7-bit weights" if self.reduced else "")

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        kinds = Counter(node.op_type for node in network.graph.node)
        if not any(kinds[kind] for kind in _MATRIX):
            raise NotApplicable(
                "it has no matrix products; for convolutions ranges that are found as it runs cost more than "
                "8 bits save"
            )

        def run(source: Path, target: Path) -> None:
            quantize_dynamic(
                source,
                target,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(_MATRIX),
                reduce_range=self.reduced,
            )

        made = _through_files(network, run)
        return Made(made, (_said(network, made),))


class StaticInt8(msgspec.Struct, frozen=True):
    """Weights and activations in 8 bits, with ranges measured on the calibration items (QDQ form).

    `activations` u8 with `weights` s8 is what VNNI multiplies; without VNNI two such products may overflow 16
    bits, which `reduced` (7-bit weights) or u8 weights keep from happening. What is behind the last layers
    stays float, with `heads` these layers too. `kept`: nodes left in float. `runtime` is what it is made for:
    ONNX Runtime wants every operator between 8-bit values and pictures folded; OpenVINO, where activations
    are of several operators, what the layers take and no more.
    """

    name: ClassVar[str] = "static-int8"
    calibrator: Calibrator = "minmax"
    per_channel: bool = True
    weights: Literal["s8", "u8"] = "s8"
    reduced: bool = False
    heads: bool = False
    kept: tuple[str, ...] = ()
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"

    @property
    def id(self) -> str:
        parts = [self.name, self.calibrator, f"u8{self.weights}"]
        parts += [] if self.per_channel else ["tensor"]
        parts += ["reduced"] if self.reduced else []
        parts += ["floatheads"] if self.heads else []
        parts += [f"keep{len(self.kept)}"] if self.kept else []
        parts += [self.runtime] if self.runtime != DEFAULT else []
        return "-".join(parts)

    @property
    def title(self) -> str:
        said = f"static int8, {self.calibrator} ranges, u8{self.weights}"
        said += ", per channel" if self.per_channel else ""
        said += ", 7-bit weights" if self.reduced else ""
        said += ", heads in float" if self.heads else ""
        said += f", {len(self.kept)} layers in float" if self.kept else ""
        return said + (f", for {self.runtime}" if self.runtime != DEFAULT else "")

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        kinds = Counter(node.op_type for node in network.graph.node)
        if not any(kinds[kind] for kind in LAYERS):
            raise NotApplicable(f"it has none of {', '.join(LAYERS)}")
        check_here(self.runtime)
        own, folds = self.ready(network)
        last = heads(own) if self.heads else ()
        if self.heads and not last:
            raise NotApplicable("one layer is the last: it has no heads")
        floats = [*self.kept, *behind(own), *last, *moves(own)]
        made = _float_outputs(
            _through_files(own, lambda source, target: self._write(source, target, floats, calibration))
        )
        if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
            raise NotApplicable("none of its layers is put into 8 bits: they stay in float or are no float32")
        quantized_first(made)
        bound = self.runtime != DEFAULT
        return Made(made, (_said(network, made), *folds), self.runtime, machine_bound=bound)

    def ready(self, network: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
        """A copy in float as it is quantized, and what was done.

        Every node has a name, and for ONNX Runtime pictures are folded, where the layer does not stay float.
        """
        own = named(network)
        return own, folded(own, self.kept) if self.runtime == DEFAULT else []

    def _write(self, source: Path, target: Path, floats: Sequence[str], calibration: Calibration) -> None:
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
        from onnxruntime.quantization.calibrate import TensorsData

        network = onnx.load_model(source)
        measured = ranges(network, self.calibrator, calibration, rows_of(network))
        found = shown(network, tied(network, measured, floats), floats)
        everywhere = self.runtime == DEFAULT or not any(
            node.op_type in BETWEEN for node in network.graph.node
        )
        seen = {name: (np.float32(each.low), np.float32(each.high)) for name, each in found.items()}
        weights = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}[self.weights]
        quantizer = QDQQuantizer(
            network,
            self.per_channel,
            self.reduced,
            weights,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, seen),
            [],
            list(floats),
            _kinds() if everywhere else list(LAYERS),
            {
                "ActivationSymmetric": False,
                "WeightSymmetric": self.weights == "s8",
                "OpTypesToExcludeOutputQuantization": [] if everywhere else list(LAYERS),
            },
        )
        quantizer.quantize_model()
        corrected(onnx.load_model(source), quantizer.model.model, calibration)
        quantizer.model.save_model_to_file(str(target))


def _float_outputs(network: onnx.ModelProto) -> onnx.ModelProto:
    """Without the rounding of what a matrix product gives the caller: 256 steps would make ties of scores."""
    made_by = makers(network.graph)
    for output in network.graph.output:
        back = made_by.get(output.name)
        if back is None or back.op_type != "DequantizeLinear" or back.input[0] not in made_by:
            continue
        there = made_by[back.input[0]]
        source = made_by.get(there.input[0])
        if there.op_type != "QuantizeLinear" or source is None or source.op_type not in _MATRIX:
            continue
        if any(there.input[0] in node.input for node in network.graph.node if node is not there):
            continue
        source.output[0] = output.name
        for node in (there, back):
            network.graph.node.remove(node)
    drop_unused(network)
    return network


def _kinds() -> list[str]:
    """The operators that the quantizer knows."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})


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
        except NotFinite as problem:
            raise NotApplicable(f"it has no range in 8 bits: {problem}") from problem
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
    floats = sum(Counter(node.op_type for node in before.graph.node)[kind] for kind in LAYERS)
    return f"{integer} of {floats} layers in 8 bits"
