"""A Python function, `FILE.py:NAME`: it stays Python, and is called so wherever the bundle is shown.

Nothing is converted. The host reads the file's annotations as syntax, never imports it, and has it called by
a confined process (`runtimes.python`).
"""

from __future__ import annotations

import ast
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BundleError, InputError, ModelFailed, ModelportError, Unsupported, UsageError
from ..isolation.worker import Worker
from ..runtimes.python import function_file, open_function
from ..tensors import Array, Signature, Tensors, TensorSpec, dtype_name
from .batch import BATCH, ROWS, close_rows, made_up, sizes_to_try
from .isolated import how_confined
from .source import Cost, Imported, Permission, function_of, parse_input

MAX_BYTES = 16 << 20
HINT = (
    'annotate its arguments, def predict(x: "float32[batch,4]"), or give --input x:float32[batch,4] for each'
)


class PythonFunctionImporter:
    """Takes a function of arrays; the first axis of each argument is the batch."""

    def __init__(self) -> None:
        self.permission = Permission()
        self._opened: tuple[str, Worker] | None = None
        self._cost: tuple[float, int] = (0.0, 0)

    def recognises(self, source: Any) -> bool:
        """`FILE.py:NAME`, where the file is there and defines a function of that name."""
        named = function_of(source)
        return named is not None and named[0].is_file()

    def permit(self, permission: Permission) -> None:
        """What the user allows."""
        self.permission = permission

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """Inputs as they are annotated or given; outputs as a first call has them."""
        path, name = self._named(source)
        specs = _inputs(path, name, inputs)
        worker = self._open(path, name)
        batch, outputs = _first_call(worker, specs, None)
        return Signature(specs, _outputs(batch, outputs))

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Open the function in its process, and find whether rows are independent of each other.

        Raises:
            Unsupported: not allowed. UsageError: its arguments are not annotated.
            InputError: the file does not import, or the function fails on every input that is tried.
        """
        path, name = self._named(source)
        specs = _inputs(path, name, inputs)
        worker = self._open(path, name)

        def reference(batch: Tensors) -> dict[str, Array]:
            try:
                return worker.call({"do": "run"}, dict(batch))[1]
            except InputError as problem:
                raise ModelFailed(problem.message) from problem

        batch, outputs = _first_call(worker, specs, example)
        together = _depends(reference, batch)
        signature = Signature(specs, _outputs(batch, outputs))
        if together:
            signature = Signature(_one_row(signature.inputs), _one_row(signature.outputs))
        version = sys.version.split()[0]
        notes = (
            f"warning: {name!r} stays a Python function: it is run only where --trust is given, by this "
            "machine's Python, and goes to no phone, browser or other runtime",
            how_confined(worker),
            *((f"the batch is run row by row: {together}",) if together else ()),
        )
        data = function_file(name, signature, path.read_bytes())
        return Imported(
            onnx=data,
            signature=signature,
            batch=not together,
            reference=reference,
            framework=f"Python function {name!r} (python {version}, numpy {np.__version__})",
            format="python",
            notes=notes,
            function=name,
            cost=Cost(*self._cost),
        )

    def _named(self, source: Any) -> tuple[Path, str]:
        named = function_of(source)
        if named is None or not named[0].is_file():
            raise InputError(f"{source} is no Python function", hint="FILE.py:NAME")
        return named

    def _open(self, path: Path, name: str) -> Worker:
        if not self.permission.trust:
            raise Unsupported(
                f"{path}:{name} is a Python function, which is code: packing it runs the file",
                hint="if you trust it: --trust (permission=Permission(trust=True) in Python) runs it in a "
                "process of its own, without network",
            )
        source = path.read_bytes()
        if len(source) > MAX_BYTES:
            raise InputError(f"{path} has {len(source)} bytes; a function's file has at most {MAX_BYTES}")
        key = f"{path.resolve()}:{name}"
        if self._opened is None or self._opened[0] != key:
            try:
                worker, self._cost = open_function(name, source)
                self._opened = key, worker
            except BundleError as problem:
                raise InputError(f"{path}: {problem.message}", hint=problem.hint) from problem
        return self._opened[1]


def _inputs(path: Path, name: str, given: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The arguments, in order, from the file's syntax and from what the user says.

    Raises:
        InputError: the file is not Python, or has no such function. UsageError: an argument that nothing is
            known of, or that is not there.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=path.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise InputError(f"{path} is not Python: {problem}") from problem
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not found:
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        raise InputError(
            f"{path} defines no function {name!r}", hint=f"it defines {', '.join(names) or 'none'}"
        )
    function = found[-1]
    needed = function.args.args[: len(function.args.args) - len(function.args.defaults)]
    needed += [
        argument
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        if default is None
    ]
    said = {spec.name: spec for spec in given}
    specs: list[TensorSpec] = []
    for argument in needed:
        note = argument.annotation
        text = note.value if isinstance(note, ast.Constant) and isinstance(note.value, str) else ""
        if argument.arg in said:
            specs.append(said.pop(argument.arg))
        elif re.fullmatch(r"\w+\[.+\]", text):
            specs.append(parse_input(f"{argument.arg}:{text}"))
        else:
            raise UsageError(f"nothing says what the argument {argument.arg!r} of {name!r} is", hint=HINT)
    if said:
        raise UsageError(f"{name!r} has no argument {', '.join(said)}; it needs {_names(specs)}")
    if not specs:
        raise UsageError(f"{name!r} takes no arguments", hint=HINT)
    return tuple(TensorSpec(spec.name, spec.dtype, (BATCH, *spec.shape[1:])) for spec in specs)


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)


def _first_call(
    worker: Worker, specs: tuple[TensorSpec, ...], example: Mapping[str, Array] | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """A batch that the function takes, and what it gives."""
    signature = Signature(specs, ())
    batches = [dict(example)] if example is not None else []
    batches += [made_up(signature, ROWS, sizes) for sizes in sizes_to_try(signature)]
    problem: ModelportError | None = None
    deadline = time.monotonic() + 120
    for batch in batches:
        try:
            return batch, worker.call({"do": "run"}, batch)[1]
        except InputError as failed:
            problem = problem or failed
        if time.monotonic() > deadline:
            break
    assert problem is not None
    raise problem


def _outputs(batch: Mapping[str, Array], outputs: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """What the function gives, its first axis being the batch.

    Raises:
        InputError: an output without the batch as its first axis.
    """
    rows = len(next(iter(batch.values())))
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise InputError(
                f"{rows} rows give an output {name!r} of shape {list(array.shape)}",
                hint="the first axis of everything that the function takes and gives is the batch",
            )
    return tuple(
        TensorSpec(name, dtype_name(array), (BATCH, *array.shape[1:])) for name, array in outputs.items()
    )


def _one_row(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec.name, spec.dtype, (1, *spec.shape[1:])) for spec in specs)


def _depends(run: Any, batch: Mapping[str, Array]) -> str:
    """Why rows have to be given alone; empty where together and alone are the same."""
    together = run(batch)
    for row in range(len(next(iter(batch.values())))):
        try:
            alone = run({name: array[row : row + 1] for name, array in batch.items()})
        except ModelFailed as problem:
            return problem.message
        for name, array in together.items():
            if not close_rows(array[row : row + 1], alone[name]):
                return f"row {row} of {name!r} is not what it is alone"
    return ""
