"""Networks that are Python functions, run by a confined process; every other graph by ONNX Runtime.

Nobody gets this runtime without asking for it (`--trust`): such a network is code. The file begins with a
line that holds the function's name and signature, so that nothing has to be imported here to know them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..errors import BundleError, InputError, ModelFailed, Unavailable
from ..isolation.worker import Limits, Worker, start
from ..tensors import Array, Signature, Tensors, TensorSpec, dtype_name
from .onnxruntime import OnnxRuntime, OnnxRuntimeSession
from .session import DEFAULTS, Settings, Values, check_settings

if TYPE_CHECKING:
    from ..bundle.store import Bundle

MARK = b"# modelport-function: "
LIMITS = Limits(memory_bytes=4 << 30, seconds=60.0)


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the first line says."""

    name: str
    signature: Signature


def function_file(name: str, signature: Signature, source: bytes) -> bytes:
    """The network's file: the line, and the user's file as it is."""
    return MARK + msgspec.json.encode(Function(name, signature)) + b"\n" + source


def read_function(data: bytes) -> tuple[Function, bytes]:
    """The first line, and the user's file.

    Raises:
        BundleError: no such line.
    """
    line, _, source = data.partition(b"\n")
    if not line.startswith(MARK):
        raise BundleError("the file of a Python function does not begin as one that was packed")
    try:
        return msgspec.json.decode(line[len(MARK) :], type=Function), source
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise BundleError(f"the first line of a Python function cannot be read: {problem}") from problem


class PythonRuntime:
    """Opens functions and graphs."""

    @property
    def settings(self) -> Mapping[str, Values]:
        """None: a function has none."""
        return {}

    def refuses(self, bundle: Bundle) -> str | None:
        """None where the network is a function; else what ONNX Runtime says of the bundle."""
        return None if bundle.manifest.graphs.net.function is not None else OnnxRuntime().refuses(bundle)

    def describe(self) -> str:
        """Which Python, for people."""
        return f"{sys.version.split()[0]}, functions in a process of their own, with --trust"

    def open(
        self, graph: bytes, *, threads: int = 1, settings: Settings = DEFAULTS
    ) -> PythonSession | OnnxRuntimeSession:
        """Load a function's file, or a serialized ONNX model.

        Raises:
            BundleError: not a graph that ONNX Runtime takes, or a function that does not import.
            Unsupported: no process can be confined here.
            UsageError: a setting.
        """
        check_settings("python", settings, self.settings)
        if not graph.startswith(MARK):
            return OnnxRuntime().open(graph, threads=threads)
        function, source = read_function(graph)
        return PythonSession(open_function(function.name, source)[0], function.signature)


def open_function(name: str, source: bytes) -> tuple[Worker, tuple[float, int]]:
    """A confined process with the function in it; the seconds that took, and the most bytes it had.

    Raises:
        BundleError: the file does not import, or has no such function.
    """
    worker = start(Path(sys.executable), "python_function", LIMITS, private=False)
    try:
        about, _ = worker.call({"do": "open", "function": name}, {"source": np.frombuffer(source, np.uint8)})
    except InputError as problem:
        worker.close()
        raise BundleError(problem.message, hint=problem.hint) from problem
    return worker, (float(about["seconds"]), int(about["peak_bytes"]))


class PythonSession:
    """One function; runs from several threads follow on each other."""

    def __init__(self, worker: Worker, signature: Signature) -> None:
        self._worker: Worker | None = worker
        self._signature = signature
        self._lock = threading.Lock()

    @property
    def signature(self) -> Signature:
        """Inputs and outputs, as they were when the function was packed."""
        return self._signature

    @property
    def options(self) -> Sequence[TensorSpec]:
        """None: functions have no inputs with a default here."""
        return ()

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """The function's outputs, by name.

        Raises:
            InputError: the arrays do not fit the signature.
            ModelFailed: the function raised, or gives something else than it did.
            Unavailable: the session is closed.
        """
        self._signature.check_inputs(batch)
        with self._lock:
            if self._worker is None:
                raise Unavailable("the session is closed")
            try:
                _, outputs = self._worker.call({"do": "run"}, dict(batch))
            except InputError as problem:
                raise ModelFailed(problem.message) from problem
        for spec in self._signature.outputs:
            got = outputs.get(spec.name)
            if got is None or dtype_name(got) != spec.dtype or got.ndim != len(spec.shape):
                have = "nothing" if got is None else f"{dtype_name(got)}{list(got.shape)}"
                raise ModelFailed(f"the function gives {have} as {spec.name!r}, expected {spec}")
        return {spec.name: outputs[spec.name] for spec in self._signature.outputs}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._worker is not None:
                self._worker.close()
                self._worker = None
