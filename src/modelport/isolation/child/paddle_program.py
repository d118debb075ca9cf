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
from .paddle_export import copied, description, export, inexact, is_pir, lacking, reason_of
from .paddle_params import Parameter, compare, held_in, parameters_of, program_of

BATCH = "batch"


class Converter:
    """`open` converts; `run` computes a batch with PaddlePaddle's own predictor."""

    def __init__(self) -> None:
        self.predictor: Any = None
        self.inputs: dict[str, str] = {}
        """Names in ONNX to PaddlePaddle's."""
        self.outputs: dict[str, str] = {}
        self.fixed: int | None = None
        """The number of rows that the program is for, where it is for one number only."""

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            weights = fields["weights"]
            return self.open(Path(fields["program"]), Path(weights) if weights else None, fields["inputs"])
        return {}, self.run(arrays)

    def open(
        self, program: Path, weights: Path | None, said: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model is (JSON), and the ONNX file as uint8[bytes].

        Args:
            program, weights: the two files; a program without parameters has one alone.
            said: what the user says that the network takes: name, dtype, shape.

        Raises:
            Refused: damaged, or not of one model. NotConverted: paddle2onnx does not convert it.
            Unclear: the user speaks of inputs that it has not.
        """
        text = program.read_bytes()
        held = held_in(weights.name, weights.read_bytes()) if weights is not None else []
        name = weights.name if weights is not None else "no file"
        pir = is_pir(text)
        if pir:
            compare(program.name, parameters_of(program_of(program.name, text)), name, held)
        paddle = _paddle()
        if not pir:
            compare(program.name, _parameters_of_old(program.name, text), name, held)
        about = {"kind": "paddle", "framework": f"paddlepaddle {paddle.__version__}"}
        notes = inexact(program.name, text)
        last_words(Refused(f"PaddlePaddle ended while it opened {program.name}: the file is damaged"))
        self.predictor = _predictor(program, weights)
        last_words(lacking(program.name, text))
        model = export(paddle, program, weights)
        last_words(None)
        self._name(model)
        shapes = [value.type.tensor_type.shape.dim for value in model.graph.input]
        firsts = {dims[0].dim_value if dims else 0 for dims in shapes}
        self.fixed = firsts.pop() or None if len(firsts) == 1 else None
        _settle(model, said)
        return {**about, "notes": notes}, {"onnx": np.frombuffer(model.SerializeToString(), np.uint8)}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Inputs to outputs by their names in ONNX, as the framework computes them.

        Raises:
            Refused: the framework does not run it on these.
        """
        rows = {len(array) for array in arrays.values() if array.ndim}
        if self.fixed is None or len(rows) != 1 or rows == {self.fixed}:
            return self._run(arrays)
        # The program is for one number of rows; more of them are so many runs.
        starts = range(0, rows.pop(), self.fixed)
        parts = [
            self._run({name: array[at : at + self.fixed] for name, array in arrays.items()}) for at in starts
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        handles = self.predictor
        try:
            for name, own in self.inputs.items():
                handles.get_input_handle(own).copy_from_cpu(np.array(arrays[name], order="C"))
            handles.run()
            return {name: handles.get_output_handle(own).copy_to_cpu() for name, own in self.outputs.items()}
        except (ValueError, RuntimeError) as problem:
            raise Refused(f"PaddlePaddle does not run it: {reason_of(problem)}") from problem

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
        ordered = [copied(there[name]) for name in taken if name in there]
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


def _predictor(program: Path, weights: Path | None) -> Any:
    from paddle import inference

    settings = inference.Config(str(program), str(weights or ""))
    settings.disable_glog_info()
    settings.disable_gpu()
    settings.disable_mkldnn()
    try:
        return inference.create_predictor(settings)
    except (ValueError, RuntimeError) as problem:
        raise Refused(f"PaddlePaddle does not open {program.name}: {reason_of(problem)}") from problem


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


def _parameters_of_old(name: str, text: bytes) -> list[Parameter]:
    """The parameters of a ProgramDesc, in the order of the file."""
    found = []
    for block in description(name, text).blocks:
        for variable in block.vars:
            # The kinds of variables that hold no tensor (feed, fetch) have no such field.
            kinds = [value for _, value in variable.type.ListFields() if hasattr(value, "tensor")]
            if variable.persistable and kinds:
                found.append((variable.name, tuple(kinds[0].tensor.dims)))
    return sorted(found)
