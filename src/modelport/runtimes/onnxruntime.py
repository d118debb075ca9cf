"""ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BundleError, ModelFailed, Unavailable, Unsupported, UsageError
from ..tensors import Array, Signature, Tensors, TensorSpec
from .session import DEFAULTS, YES_NO, Settings, Values, check_settings

if TYPE_CHECKING:
    from ..bundle.store import Bundle

DTYPES: dict[str, str] = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "string",
}
"""ONNX Runtime's name of a type -> the datatype name here; what is missing (sequences, maps,
bfloat16, …) cannot be a tensor of a bundle."""

_INSTALL = "pip install onnxruntime"


UNWANTED = ["WeightBiasQuantization"]
"""It puts float weights between 8-bit values into 8 bits as well, those of layers among them that were left
in float because they lose the answers otherwise (onnxruntime pull requests 22969 and 25673)."""

SETTINGS: dict[str, Values] = {
    "threads": Values("threads of one run, at most"),
    "spinning": Values("whether waiting threads spin: quick, and takes the cores from others", YES_NO),
    "arena": Values("whether memory is kept for the next run", YES_NO),
    "optimization": Values("how far the graph is rewritten", ("none", "basic", "extended", "layout", "all")),
    "execution": Values(
        "whether branches run one after the other or side by side", ("sequential", "parallel")
    ),
    "denormals": Values("whether numbers next to zero are kept, which is slow on many processors", YES_NO),
}
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}


class OnnxRuntime:
    """Opens graphs with ONNX Runtime's CPU provider."""

    @property
    def settings(self) -> Mapping[str, Values]:
        """What can be set where a graph is opened."""
        return SETTINGS

    def refuses(self, bundle: Bundle) -> str | None:
        """The reason why ONNX Runtime cannot run the bundle here; None where it can."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as problem:
            return f"onnxruntime is not installed here ({problem}); {_INSTALL}"
        graphs = bundle.manifest.graphs
        if graphs.net.function is not None:
            return (
                f"its network is the Python function {graphs.net.function!r} of {graphs.net.file}, which is "
                "code; if you trust whoever made it, --trust (runtime='python' in Python) runs it in a "
                "process of its own"
            )
        known = set(DTYPES.values())
        for graph in (graphs.pre, graphs.net, graphs.post):
            for spec in (*graph.signature.inputs, *graph.signature.outputs):
                if spec.dtype not in known:
                    return f"ONNX Runtime has no {spec.dtype} tensors ({spec.name!r} of {graph.file})"
        return None

    def describe(self) -> str:
        """Version and execution providers, for people.

        Raises:
            Unsupported: onnxruntime is not installed.
        """
        ort, _ = _onnxruntime()
        return f"{ort.__version__}, {', '.join(ort.get_available_providers())}"

    def open(
        self, graph: bytes, *, threads: int = 1, settings: Settings = DEFAULTS, optimise: bool = True
    ) -> OnnxRuntimeSession:
        """Load a serialized ONNX model.

        Args:
            graph: the model, with its weights inside.
            threads: threads one run may use.
            settings: of `SETTINGS`.
            optimise: False runs the nodes as they are written, for a reference to compare with.

        Raises:
            BundleError: not ONNX, or nothing this ONNX Runtime can run.
            Unsupported: onnxruntime is not installed.
            UsageError: fewer than one thread, or an unknown setting.
        """
        if threads < 1:
            raise UsageError(f"expected at least 1 thread, got {threads}")
        ort, failures = _onnxruntime()
        options = session_options(threads, settings if optimise else {**settings, "optimization": "none"})
        try:
            session = ort.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=UNWANTED
            )
        except failures as problem:
            raise BundleError(
                f"ONNX Runtime {ort.__version__} does not load the graph: {_cleaned(problem)}",
                hint=_hint(str(problem)),
            ) from problem
        return OnnxRuntimeSession(session, failures)


class OnnxRuntimeSession:
    """One graph in ONNX Runtime; `run` may be called from several threads at once."""

    def __init__(self, session: Any, failures: tuple[type[Exception], ...]) -> None:
        self._session: Any = session
        self._failures = failures
        self._signature = Signature(
            tuple(_spec(node) for node in session.get_inputs()),
            tuple(_spec(node) for node in session.get_outputs()),
        )
        self._options = tuple(_spec(node) for node in session.get_overridable_initializers())
        self._outputs = [spec.name for spec in self._signature.outputs]

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; a dimension without a name is called after its tensor and axis."""
        return self._signature

    @property
    def options(self) -> tuple[TensorSpec, ...]:
        """The inputs that have a default in the graph; they are not in the signature."""
        return self._options

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """The graph's outputs, by name; text comes back as object arrays of `str`.

        Args:
            batch: every input of the signature.
            options: inputs that have a default, where they are not to have it.

        Raises:
            InputError: the arrays do not fit the signature, or there is no such option.
            ModelFailed: the graph raised, with the reason.
            Unavailable: the session is closed.
        """
        self._signature.check_inputs(batch)
        if options:
            Signature(tuple(spec for spec in self._options if spec.name in options), ()).check_inputs(options)
        session = self._session
        if session is None:
            raise Unavailable("the session is closed")
        feeds = {name: _native(array) for name, array in {**batch, **(options or {})}.items()}
        try:
            results = session.run(self._outputs, feeds)
        except self._failures as problem:
            raise ModelFailed(f"the graph failed while it ran: {_cleaned(problem)}") from problem
        return {
            name: result if isinstance(result, np.ndarray) else np.asarray(result)
            for name, result in zip(self._outputs, results, strict=True)
        }

    def close(self) -> None:
        """Free the graph; a run in another thread keeps it until it ends."""
        self._session = None


def session_options(threads: int = 1, settings: Settings = DEFAULTS) -> Any:
    """The `onnxruntime.SessionOptions` that graphs are opened with.

    Raises:
        Unsupported: onnxruntime is not installed. UsageError: an unknown setting.
    """
    check_settings("onnxruntime", settings, SETTINGS)
    ort, _ = _onnxruntime()
    options = ort.SessionOptions()
    parallel = settings.get("execution") == "parallel"
    mode = ort.ExecutionMode
    options.execution_mode = mode.ORT_PARALLEL if parallel else mode.ORT_SEQUENTIAL
    threads = min(threads, int(settings.get("threads", threads)))
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads if parallel else 1
    # A spinning thread of an idle model would take the core from the one that computes.
    spinning = settings.get("spinning", threads > 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "1" if spinning else "0")
    if spinning:
        # Within a run its threads spin, which is quick; after it they would do so for nothing.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if not settings.get("denormals", True):
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.enable_cpu_mem_arena = bool(settings.get("arena", True))
    # Every error is raised as an exception; without this it is printed on stderr as well.
    options.log_severity_level = 4
    level = _LEVELS[str(settings.get("optimization", "all"))]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return options


def _onnxruntime() -> tuple[Any, tuple[type[Exception], ...]]:
    """The module, and everything it raises (its exceptions have no base of their own)."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as problem:
        raise Unsupported(f"onnxruntime is not installed here ({problem})", hint=_INSTALL) from problem
    own = [
        value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    # What its Python and pybind11 layers raise for bytes, types and values they do not take.
    return onnxruntime, (*own, RuntimeError, ValueError, TypeError, NotImplementedError)


def _spec(node: Any) -> TensorSpec:
    """One input or output.

    Raises:
        BundleError: it is not a tensor of a type that bundles hold.
    """
    dtype = DTYPES.get(node.type)
    if dtype is None:
        raise BundleError(
            f"{node.name!r} is a {node.type}; expected a tensor of one of {', '.join(DTYPES.values())}"
        )
    shape = tuple(
        size if isinstance(size, int) else (size or f"{node.name}.{axis}")
        for axis, size in enumerate(node.shape)
    )
    return TensorSpec(node.name, dtype, shape)


def _native(array: Array) -> Array:
    """As ONNX Runtime takes it: contiguous, in this machine's byte order, text as objects."""
    if array.dtype.kind in "US":
        return array.astype(str).astype(object)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.asarray(array, order="C")


def _cleaned(problem: Exception) -> str:
    """ONNX Runtime's message without its source file, function signature and status number."""
    text = str(problem).strip()
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/\S+\.(?:cc|h|cpp):\d+ [^()\n]*\([^()\n]*\)(?: const)?(?: \[with [^\]]*\])? ?", "", text)
    text = re.sub(r"^Exception during initialization: ", "", text)
    return " ".join(text.split()) or type(problem).__name__


def _hint(text: str) -> str | None:
    """What to do about a graph that does not load."""
    if "Unsupported model IR version" in text:
        return "lower it with onnx: model.ir_version = 10, then save again"
    if re.search(r"[Oo]pset \d+ is (?:under|only)|is till opset", text):
        return "convert it with onnx.version_converter.convert_version(model, 21)"
    if "custom op" in text or "is not a registered function/op" in text:
        return "the graph has an operator that is not part of standard ONNX; export it without"
    if "external" in text.lower():
        return "save the model with its weights inside (one file)"
    return None
