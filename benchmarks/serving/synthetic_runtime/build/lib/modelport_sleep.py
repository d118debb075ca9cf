"""A runtime that sleeps where a network would compute, so that only the server around it is measured.

It stands for an accelerator: while a batch is "computed" the cores are free. A graph that is called `sleep`
takes `FIRST + EACH * rows` seconds and answers zeros; every other graph (a bundle's pre- and
post-processing) goes to ONNX Runtime. It is also the smallest example of a third-party runtime: the entry
point in pyproject.toml is all that makes `modelport serve --runtime sleep` find it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from modelport.runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelport.bundle.store import Bundle
    from modelport.runtimes.session import Session
    from modelport.tensors import Array, Signature, Tensors, TensorSpec

FIRST, EACH = 5e-3, 0.2e-3
"""Seconds of one run, and of each row in it."""
DEVICE = threading.Lock()
"""One batch at a time, as an accelerator would, however many executors there are."""


class SleepRuntime:
    """ONNX Runtime, but for graphs called `sleep`."""

    def refuses(self, bundle: Bundle) -> str | None:
        """What ONNX Runtime refuses."""
        return OnnxRuntime().refuses(bundle)

    def describe(self) -> str:
        """For people."""
        return f"sleeps {FIRST * 1e3:g} ms and {EACH * 1e3:g} ms a row"

    def open(self, graph: bytes, **how: Any) -> Session:
        """A session that sleeps, or ONNX Runtime's own.

        Raises:
            BundleError: ONNX Runtime does not take the graph.
        """
        session = OnnxRuntime().open(graph, **how)
        name = onnx.load_model_from_string(graph).graph.name
        return SleepSession(session) if name == "sleep" else session


class SleepSession:
    """Takes what the graph takes and answers zeros."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self._widths = {spec.name: spec.shape[1:] for spec in inner.signature.outputs}

    @property
    def signature(self) -> Signature:
        """The graph's."""
        return self._inner.signature

    @property
    def options(self) -> Sequence[TensorSpec]:
        """The graph's, which nothing reads."""
        return self._inner.options

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """Zeros float32[rows, …], later.

        Raises:
            InputError: the arrays do not fit the signature.
        """
        self.signature.check_inputs(batch)
        rows = len(next(iter(batch.values())))
        with DEVICE:
            time.sleep(FIRST + EACH * rows)
        return {name: np.zeros((rows, *width), np.float32) for name, width in self._widths.items()}

    def close(self) -> None:
        """Free the graph."""
        self._inner.close()
