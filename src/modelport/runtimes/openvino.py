"""OpenVINO on the CPU."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BundleError, InputError, ModelFailed, Unavailable, Unsupported, UsageError
from ..tensors import DTYPES_OF_ONNX, Array, Signature, Tensors, TensorSpec
from .onnxruntime import DTYPES
from .session import DEFAULTS, YES_NO, Settings, Values, check_settings

if TYPE_CHECKING:
    from ..bundle.store import Bundle

INSTALL = "pip install 'modelport[openvino]'"
SHAPES = 6
"""Shapes of inputs that a network is compiled for at a time; others take the form that takes any."""
WORTH = 32
"""Runs in the form that takes any after which a shape is worth compiling for: each is some percent slower,
and another shape than the last one costs a third of a run more."""
KNOWN = 1000
"""Shapes that are remembered to fit."""
SETTINGS: dict[str, Values] = {
    "threads": Values("threads of one run, at most"),
    "precision": Values("what floats are computed in", ("f32", "bf16")),
    "dynamic_quantization": Values(
        "whether the values that 8-bit weights multiply are rounded to 8 bits as they come", YES_NO
    ),
}
_DEVICE = "CPU"
_UNKNOWN = ("string", "float64", "uint32", "uint64")
_TYPES = {number: name for number, name in DTYPES_OF_ONNX.items() if name not in _UNKNOWN}
"""ONNX's number of a type -> the datatype name here, for those that OpenVINO's CPU plugin runs. It would take
float64 and unsigned integers of 32 and 64 bits too, and compute them in float32 and int32."""
_NARROW = np.iinfo(np.int32)
_UNKNOWN_OPERATORS = re.compile(r"No conversion rule found for operations: (.+)")


_Shapes = tuple[tuple[int, ...], ...]


class OpenVinoRuntime:
    """Opens graphs with OpenVINO's CPU plugin, floats in float32 unless something else is said.

    By itself OpenVINO computes in bfloat16 where the processor has it, and rounds what multiplies 8-bit
    weights: both change answers, so both have to be asked for.
    """

    @property
    def settings(self) -> Mapping[str, Values]:
        """What can be set where a graph is opened."""
        return SETTINGS

    def refuses(self, bundle: Bundle) -> str | None:
        """The reason why OpenVINO cannot run the bundle's network here; None where it can."""
        try:
            _openvino()
        except Unsupported as problem:
            return f"{problem.message}; {problem.hint}"
        net = bundle.manifest.graphs.net
        if net.function is not None:
            return f"its network is the Python function {net.function!r} of {net.file}, which is no graph"
        for spec in (*net.signature.inputs, *net.signature.outputs):
            if spec.dtype not in _TYPES.values():
                return f"OpenVINO runs no {spec.dtype} tensors on the CPU ({spec.name!r} of {net.file})"
        return None

    def describe(self) -> str:
        """Version and devices, for people.

        Raises:
            Unsupported: OpenVINO is not installed.
        """
        core, version = _openvino()
        return f"{version}, {', '.join(core.available_devices)}"

    def open(
        self, graph: bytes, *, threads: int = 1, settings: Settings = DEFAULTS, profile: bool = False
    ) -> OpenVinoSession:
        """Load a serialized ONNX model.

        Args:
            graph: the model, with its weights inside.
            threads: threads one run may use.
            settings: of `SETTINGS`.
            profile: whether every operator is timed, for `OpenVinoSession.profile`.

        Raises:
            BundleError: not ONNX, or nothing this OpenVINO can run.
            Unsupported: OpenVINO is not installed, or the processor has no such arithmetic.
            UsageError: fewer than one thread, or an unknown setting.
        """
        core, version = _openvino()
        config = openvino_config(threads, settings) | ({"PERF_COUNT": True} if profile else {})
        signature = _signature_of(graph)
        try:
            network = core.read_model(model=graph)
            return OpenVinoSession(core, network, signature, config)
        except (RuntimeError, TypeError, ValueError) as problem:
            raise BundleError(f"OpenVINO {version} does not load the graph: {_cleaned(problem)}") from problem


def openvino_config(threads: int = 1, settings: Settings = DEFAULTS) -> dict[str, Any]:
    """The properties that networks are compiled with.

    Raises:
        Unsupported: OpenVINO is not installed, or the processor has no such arithmetic.
        UsageError: fewer than one thread, or an unknown setting.
    """
    if threads < 1:
        raise UsageError(f"expected at least 1 thread, got {threads}")
    check_settings("openvino", settings, SETTINGS)
    core, _ = _openvino()
    precision = str(settings.get("precision", "f32"))
    if precision == "bf16" and "BF16" not in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
        raise Unsupported("this processor has no bfloat16 arithmetic", hint="leave precision at f32")
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32 if settings.get("dynamic_quantization", False) else 0,
        "INFERENCE_NUM_THREADS": min(threads, int(settings.get("threads", threads))),
        "NUM_STREAMS": 1,
        # Processes share the cores here: threads bound to one would wait for each other.
        "ENABLE_CPU_PINNING": False,
    }


class OpenVinoSession:
    """One graph in OpenVINO; `run` may be called from several threads at once."""

    def __init__(self, core: Any, network: Any, signature: Signature, config: dict[str, Any]) -> None:
        self._core: Any = core
        self._network: Any = network
        self._signature = signature
        self._config = config
        self._lock = threading.Lock()
        self._any: _Compiled | None = self._compiled(network)
        """What takes any shape; None where the session is closed."""
        self._forms: dict[_Shapes, _Compiled] = {}
        self._met: dict[_Shapes, int] = {}
        """How often shapes came for which nothing is compiled."""
        self._last: _Compiled | None = None
        self._fixed = all(isinstance(size, int) for spec in signature.inputs for size in spec.shape)

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; a dimension without a name is called after its tensor and axis."""
        return self._signature

    @property
    def options(self) -> Sequence[TensorSpec]:
        """None: what has a default in the graph is a constant to OpenVINO."""
        return ()

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """The graph's outputs, by name.

        Args:
            batch: every input of the signature.
            options: none that there could be.

        Raises:
            InputError: the arrays do not fit the signature.
            ModelFailed: the graph raised, with the reason.
            Unavailable: the session is closed.
        """
        self._signature.check_inputs(batch)
        if options:
            Signature((), ()).check_inputs(options)
        arrays = {spec.name: _native(spec.name, batch[spec.name]) for spec in self._signature.inputs}
        try:
            self._last = self._form(tuple(array.shape for array in arrays.values()))
            return self._last.run(arrays)
        except (RuntimeError, TypeError, ValueError) as problem:
            raise ModelFailed(f"the graph failed while it ran: {_cleaned(problem)}") from problem

    def profile(self) -> list[tuple[str, str, str, float]]:
        """Of the last run: an operator's name, its type, the kernel, microseconds.

        Empty unless the session was opened with `profile`, and there was a run.
        """
        return [] if self._last is None else self._last.profile()

    def close(self) -> None:
        """Free the graph; a run in another thread keeps it until it ends."""
        with self._lock:
            self._forms, self._met = {}, {}
            self._any = self._network = self._last = None

    def _form(self, shapes: _Shapes) -> _Compiled:
        """What runs these shapes: compiled for them alone if they are among those that come most.

        A network that takes any shape is slower; compiling takes half a second.
        """
        form = self._any if self._fixed else self._forms.get(shapes)
        if form is None:
            with self._lock:
                if self._any is None:
                    raise Unavailable("the session is closed")
                form = self._forms.get(shapes) or self._own(shapes) or self._any
        form.runs += 1
        return form

    def _own(self, shapes: _Shapes) -> _Compiled | None:
        """What is compiled now for shapes that nothing was compiled for; None where that is not worth it."""
        met = self._met.get(shapes, 0)
        # Where sizes inside contradict these, what takes any shape would give what lies in memory.
        network = None if met else self._reshaped(shapes)
        if len(self._met) > KNOWN:
            self._met = {}
        self._met[shapes] = met + 1
        if len(self._forms) >= SHAPES:
            least = min(self._forms, key=lambda each: self._forms[each].runs)
            if met < max(WORTH, self._forms[least].runs):
                return None
            del self._forms[least]
            self._met = {}
            for form in self._forms.values():
                form.runs = 0
        form = self._forms[shapes] = self._compiled(network or self._reshaped(shapes))
        return form

    def _reshaped(self, shapes: _Shapes) -> Any:
        """A copy of the network for these shapes alone; raises RuntimeError where they cannot be."""
        network = self._network.clone()
        names = {name for port in network.inputs for name in port.names}
        sizes = zip((spec.name for spec in self._signature.inputs), shapes, strict=True)
        network.reshape({name: list(shape) for name, shape in sizes if name in names})
        return network

    def _compiled(self, network: Any) -> _Compiled:
        return _Compiled(self._core.compile_model(network, _DEVICE, self._config), self._signature)


class _Compiled:
    """A network for certain shapes, and the requests that no thread uses at the moment."""

    def __init__(self, network: Any, signature: Signature) -> None:
        self.runs = 0
        """Since something was last compiled in the place of something else."""
        self._network: Any = network
        self._idle: list[Any] = []
        ports = {name: place for place, port in enumerate(network.outputs) for name in port.names}
        self._outputs = [(spec.name, ports[spec.name]) for spec in signature.outputs]
        # What no operator reads is no input to OpenVINO.
        self._inputs = {name for port in network.inputs for name in port.names}

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._network.create_infer_request()
        try:
            feeds = {name: array for name, array in arrays.items() if name in self._inputs}
            request.infer(feeds, share_inputs=True)
            return {name: request.get_output_tensor(place).data.copy() for name, place in self._outputs}
        finally:
            self._idle.append(request)

    def profile(self) -> list[tuple[str, str, str, float]]:
        return [
            (node.node_name, node.node_type, node.exec_type, node.real_time.total_seconds() * 1e6)
            for request in self._idle
            for node in request.profiling_info
        ]


def _openvino() -> tuple[Any, str]:
    """The one core of this process, and the version."""
    try:
        import openvino
    except ImportError as problem:
        raise Unsupported(f"openvino is not installed here ({problem})", hint=INSTALL) from problem
    with _CORES_LOCK:
        if not _CORES:
            # Two threads that came to the first NumPy datatype together would wait for each other for ever:
            # pybind11 lets go of the interpreter's lock while it holds its own.
            openvino.Type.f32.to_dtype()
            openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
            _CORES.append(openvino.Core())
    return _CORES[0], openvino.__version__.partition("-")[0]


_CORES: list[Any] = []
_CORES_LOCK = threading.Lock()


def _signature_of(graph: bytes) -> Signature:
    """Names and shapes as the ONNX file has them: OpenVINO forgets the names of dimensions.

    Raises:
        BundleError: not ONNX, or not of tensors that OpenVINO runs.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(graph).graph
    except DecodeError as problem:
        raise BundleError(f"not an ONNX model: {problem}") from problem
    constants = {tensor.name for tensor in proto.initializer}
    inputs = tuple(_spec(value) for value in proto.input if value.name not in constants)
    return Signature(inputs, tuple(_spec(value) for value in proto.output))


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = _TYPES.get(tensor.elem_type)
    if dtype is None or not value.type.HasField("tensor_type"):
        known = ", ".join(dtype for dtype in DTYPES.values() if dtype in _TYPES.values())
        raise BundleError(f"OpenVINO does not run {value.name!r} on the CPU; expected a tensor of {known}")
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or f"{value.name}.{axis}")
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, dtype, shape)


def _native(name: str, array: Array) -> Array:
    """As OpenVINO reads it in place: contiguous, in this machine's byte order.

    Raises:
        InputError: integers beyond 32 bits, of which OpenVINO would take the lower 32.
    """
    if array.dtype.kind == "i" and array.dtype.itemsize == 8 and array.size:
        least, most = int(array.min()), int(array.max())
        if least < _NARROW.min or most > _NARROW.max:
            raise InputError(
                f"OpenVINO computes int64 in 32 bits; got {least} to {most}", at=f"$.inputs.{name}"
            )
    # By its name: of C's two types of 64 bits, OpenVINO knows the one that ONNX Runtime does not give.
    return np.ascontiguousarray(array, np.dtype(array.dtype.name))


def _cleaned(problem: Exception) -> str:
    """OpenVINO's own sentence, without the places in its source; or the operators that it has not."""
    if (unknown := _UNKNOWN_OPERATORS.search(str(problem))) is not None:
        return f"it does not have the operators {unknown[1].strip()}"
    lines = [line.strip() for line in str(problem).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(told)[:500] or type(problem).__name__
