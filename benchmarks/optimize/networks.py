"""Networks as the peers' users run them: an ONNX file in ONNX Runtime, an OpenVINO IR in OpenVINO."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from modelport.bundle.store import Bundle
from modelport.runtimes.pipeline import Pipeline

Arrays = dict[str, np.ndarray]


class Network(Protocol):
    """A network that runs. Thread safe."""

    def run(self, batch: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs, under the names of the bundle's network."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class InOnnxRuntime:
    """ONNX Runtime's defaults; `threads` for one run."""

    def __init__(self, path: Path, outputs: Sequence[str], *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._outputs = outputs
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]

    def run(self, batch: Mapping[str, np.ndarray]) -> Arrays:
        """By position: tools may rename what goes in and out."""
        feeds = dict(zip(self._inputs, batch.values(), strict=True))
        return dict(zip(self._outputs, self._session.run(None, feeds), strict=False))

    def close(self) -> None:
        self._session = None


class InOpenVINO:
    """OpenVINO's defaults (bfloat16 where the processor has it), hinted for latency or for throughput.

    Args:
        rows: of every batch; 0 for any. The shapes are fixed where it is known, which is faster.
        streams: runs at a time, one thread each; 0 hints for latency with `threads`.
    """

    def __init__(
        self, path: Path, outputs: Sequence[str], *, threads: int, rows: int = 0, streams: int = 0
    ) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        if rows and model.is_dynamic():
            model.reshape({each: _fixed(each.partial_shape, rows) for each in model.inputs})
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if streams:
            settings = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": streams}
            settings["INFERENCE_NUM_THREADS"] = streams
        self._outputs = outputs
        first = model.inputs[0].partial_shape[0]
        self._rows = 0 if first.is_dynamic else first.get_length()
        self._compiled: Any = core.compile_model(model, "CPU", settings)
        self._requests = threading.local()

    def run(self, batch: Mapping[str, np.ndarray]) -> Arrays:
        """By position; a request of its own for each thread. A file of a fixed batch is run part by part."""
        total = len(next(iter(batch.values())))
        if not self._rows or total == self._rows:
            return run_compiled(self._compiled, batch, self._outputs, self._requests)
        parts = []
        for start in range(0, total, self._rows):
            part = {name: array[start : start + self._rows] for name, array in batch.items()}
            parts.append(run_compiled(self._compiled, part, self._outputs, self._requests))
        return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}

    def close(self) -> None:
        self._compiled = None


def run_compiled(
    compiled: Any, batch: Mapping[str, np.ndarray], outputs: Sequence[str], requests: Any
) -> Arrays:
    """One batch through a compiled OpenVINO model; `requests` keeps what can be used again."""
    if getattr(requests, "of", None) is not compiled:
        requests.of, requests.request = compiled, compiled.create_infer_request()
    found = requests.request.infer([np.ascontiguousarray(each) for each in batch.values()])
    return dict(zip(outputs, [np.array(each) for each in found.values()], strict=False))


def _fixed(shape: Any, rows: int) -> list[int]:
    """A partial shape with so many rows; its other dimensions are known."""
    return [rows if place == 0 else each.get_length() for place, each in enumerate(shape)]


def outputs_of(bundle: Bundle) -> list[str]:
    """What the bundle calls its network's outputs."""
    return [spec.name for spec in bundle.manifest.graphs.net.signature.outputs]


def around(bundle: Bundle, network: Network) -> Pipeline:
    """The bundle's own decoding, pre- and post-processing around another network."""
    pipeline = Pipeline.open(bundle, variant="")
    pipeline._net = network  # type: ignore[assignment]  # all that is asked of it is `run` and `close`
    return pipeline
