"""A program of PaddlePaddle (PIR in JSON, or ProgramDesc in protobuf) to ONNX, by paddle2onnx."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .converter import NotConverted, Refused, Unclear, last_words
from .frames import Array
from .paddle_params import Parameter, compare, held_in, operations, parameters_of, program_of

OPSET = 17
BATCH = "batch"
BUILT_IN = ("p", "data", "feed", "fetch", "if", "while", "yield", "print", "combine", "slice", "split")


class Converter:
    """`open` converts; `run` computes a batch with PaddlePaddle's own predictor."""

    def __init__(self) -> None:
        self.predictor: Any = None
        self.inputs: dict[str, str] = {}
        """Names in ONNX to PaddlePaddle's."""
        self.outputs: dict[str, str] = {}

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            return self.open(Path(fields["program"]), Path(fields["weights"]), fields["inputs"])
        return {}, self.run(arrays)

    def open(
        self, program: Path, weights: Path, said: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model is (JSON), and the ONNX file as uint8[bytes].

        Args:
            program, weights: the two files.
            said: what the user says that the network takes: name, dtype, shape.

        Raises:
            Refused: damaged, or not of one model. NotConverted: paddle2onnx does not convert it.
            Unclear: the user speaks of inputs that it has not.
        """
        text = program.read_bytes()
        held = held_in(weights.name, weights.read_bytes())
        pir = text.lstrip()[:1] == b"{"
        if pir:
            compare(program.name, parameters_of(program_of(program.name, text)), weights.name, held)
        paddle = _paddle()
        if not pir:
            compare(program.name, _parameters_of_old(program.name, text), weights.name, held)
        about = {"kind": "paddle", "framework": f"paddlepaddle {paddle.__version__}"}
        self.predictor = _predictor(program, weights)
        last_words(_lacking(program.name, text))
        model = _export(program, weights, pir)
        last_words(None)
        self._name(model)
        _settle(model, said)
        return about, {"onnx": np.frombuffer(model.SerializeToString(), np.uint8)}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Inputs to outputs by their names in ONNX, as the framework computes them."""
        for name, own in self.inputs.items():
            self.predictor.get_input_handle(own).copy_from_cpu(np.array(arrays[name], order="C"))
        self.predictor.run()
        return {
            name: self.predictor.get_output_handle(own).copy_to_cpu() for name, own in self.outputs.items()
        }

    def _name(self, model: Any) -> None:
        """Pair the names of ONNX with PaddlePaddle's, and bring the inputs into its order."""
        graph = model.graph
        taken, given = self.predictor.get_input_names(), self.predictor.get_output_names()
        there = {value.name: value for value in graph.input}
        if not set(there) <= set(taken) or len(graph.output) != len(given):
            raise NotConverted(
                f"paddle2onnx made a network of {len(there)} inputs and {len(graph.output)} outputs of one "
                f"with {len(taken)} ({', '.join(taken)}) and {len(given)}"
            )
        ordered = [_copy(there[name]) for name in taken if name in there]
        del graph.input[:]
        graph.input.extend(ordered)
        self.inputs = {value.name: value.name for value in ordered}
        self.outputs = {value.name: own for value, own in zip(graph.output, given, strict=True)}


def _paddle() -> Any:
    """The framework. It asks a shell for the C library's version when it is imported, which no confined
    process may; without an answer it goes on."""
    with _no_programs():
        import paddle
    paddle.disable_signal_handler()
    return paddle


@contextlib.contextmanager
def _no_programs() -> Iterator[None]:
    own = subprocess.Popen
    refused = SimpleNamespace(communicate=lambda: (b"", b"no programs here"))
    subprocess.Popen = lambda *command, **how: refused  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        subprocess.Popen = own  # type: ignore[misc]


def _predictor(program: Path, weights: Path) -> Any:
    from paddle import inference

    settings = inference.Config(str(program), str(weights))
    settings.disable_glog_info()
    settings.disable_gpu()
    settings.disable_mkldnn()
    return inference.create_predictor(settings)


def _export(program: Path, weights: Path, pir: bool) -> Any:
    """The ONNX model as paddle2onnx's native part makes it, unoptimised."""
    import onnx
    import paddle2onnx
    from paddle2onnx import paddle2onnx_cpp2py_export as native

    try:
        if pir:
            flags: tuple[Any, ...] = (OPSET, True, False, True, True, True, {}, "onnxruntime", "", "", False)
            data = native.export(str(program), str(weights), *flags)
        else:
            data = paddle2onnx.export(str(program), str(weights), None, OPSET)
    except Exception as problem:
        raise NotConverted(f"paddle2onnx does not convert it: {_last_line(problem)}") from problem
    model = onnx.load_model_from_string(data)
    used = {name for node in _nodes(model.graph) for name in node.input}
    used |= {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _settle(model: Any, said: list[dict[str, Any]]) -> None:
    """Names for open dimensions, and the sizes that the user says."""
    wanted = {each["name"]: each for each in said}
    names = [value.name for value in model.graph.input]
    if unknown := sorted(set(wanted) - set(names)):
        raise Unclear(f"the network has no input {unknown[0]!r}; it takes {', '.join(names)}")
    renamed: dict[str, str] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = wanted[value.name]["shape"] if value.name in wanted else [None] * len(dims)
        if len(shape) != len(dims):
            raise Unclear(f"the input {value.name!r} has {len(dims)} dimensions, and not {len(shape)}")
        for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
            if dim.dim_value > 0:
                if isinstance(size, int) and size != dim.dim_value:
                    raise Unclear(f"axis {axis} of {value.name!r} is {dim.dim_value}, and not {size}")
                continue
            own = dim.dim_param
            dim.Clear()
            if isinstance(size, int):
                dim.dim_value = size
                continue
            dim.dim_param = size or (BATCH if axis == 0 else f"{value.name}.{axis}")
            renamed[own] = dim.dim_param
    for value in model.graph.output:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value <= 0:
                dim.dim_param = BATCH if axis == 0 else f"{value.name}.{axis}"


def _lacking(name: str, text: bytes) -> NotConverted:
    """What to say if paddle2onnx aborts, which it does on operators that it does not know."""
    from paddle2onnx import paddle2onnx_cpp2py_export as native

    if text.lstrip()[:1] == b"{":
        used = {str(each["#"]).rpartition(".")[2] for each in operations(program_of(name, text))}
        known = {*native.get_all_supported_operators_pir(), *BUILT_IN, *RENAMED.split()}
    else:
        used = {operator.type for block in _description(name, text).blocks for operator in block.ops}
        known = {*native.get_all_supported_operators(), *BUILT_IN}
    lacking = sorted(each for each in used if each not in known and each.rstrip("_") not in known)
    names = ", ".join(lacking) or "none by name, so one in the way it is used"
    return NotConverted(
        f"paddle2onnx does not convert {name}; operators that it has no rule for: {names}",
        "build the network without them, or leave them out of what is saved (paddle.jit.save of a part)",
    )


RENAMED = (
    "add subtract multiply divide floor_divide remainder minimum maximum mean sum max min prod any all "
    "matmul topk expand unsqueeze flatten arange argmax argmin nonzero hardsigmoid hardswish grid_sample"
)
"""Operators that paddle2onnx knows by an older name."""


def _parameters_of_old(name: str, text: bytes) -> list[Parameter]:
    """The parameters of a ProgramDesc, in the order of the file."""
    found = []
    for block in _description(name, text).blocks:
        for variable in block.vars:
            # The kinds of variables that hold no tensor (feed, fetch) have no such field.
            kinds = [value for _, value in variable.type.ListFields() if hasattr(value, "tensor")]
            if variable.persistable and kinds:
                found.append((variable.name, tuple(kinds[0].tensor.dims)))
    return sorted(found)


def _description(name: str, text: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    try:
        return framework_pb2.ProgramDesc.FromString(text)
    except DecodeError as problem:
        raise Refused(f"{name} is cut short or damaged: {_last_line(problem)}") from problem


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
            for inner in attribute.graphs:
                yield from _nodes(inner)


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _last_line(problem: BaseException) -> str:
    """What a native error says, below the calls that led to it."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__
