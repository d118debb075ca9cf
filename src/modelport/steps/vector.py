"""From a row's columns to what the network takes: each column under its name, or all of them as one vector.

Every column is a tensor of one value. A network that takes the columns by name gets each as it is, cast where
it has another number type and as the index of its category where it wants a number of a text. A network with
one input gets them stacked by the step `vector`, in the columns' order.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from ..bundle.manifest import Column
from ..errors import UsageError
from ..tensors import Array, Tensors, TensorSpec, numpy_dtype
from .graph import ML_DOMAIN, Graph, Value
from .step import PreStep

_FLOATS = ("float16", "float32", "float64")
_NUMBERS = (*_FLOATS, "int32", "int64")


class Vector(PreStep, frozen=True, forbid_unknown_fields=True):
    """All columns of a row as one vector of floats, in order; the first step of a table: -> [columns].

    A text becomes the index of its category (from 0), true and false become 1 and 0, what is missing becomes
    NaN. `dtype`: float32 or float64.
    """

    name: ClassVar[str] = "vector"
    dtype: Literal["float32", "float64"] = "float32"

    def compile(self, graph: Graph, x: Value) -> Value:
        raise UsageError("vector stands first, and only where rows of a table are decoded")

    def reference(self, x: Array) -> Array:
        raise UsageError("vector stands first, and only where rows of a table are decoded")

    def stack(self, graph: Graph, values: Sequence[Value], columns: Sequence[Column]) -> Value:
        """Append the operators that make one vector of the columns' values."""
        parts = [
            _compiled(graph, value, column, self.dtype) for value, column in zip(values, columns, strict=True)
        ]
        return Value(graph.op("Concat", *parts, axis=0), self.dtype, (len(parts),))

    def stacked(self, row: Tensors, columns: Sequence[Column]) -> Array:
        """The same in native code; of `[rows, 1]` columns it makes `[rows, columns]`."""
        return np.concatenate([_converted(row[c.name], c, self.dtype) for c in columns], axis=-1)


def compile_columns(
    graph: Graph, values: Sequence[Value], columns: Sequence[Column], inputs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """Append an output for each of the network's `inputs` (batch first), from the column of its name.

    Raises:
        UsageError: a column without an input or the other way round, or one that the network cannot take.
    """
    _check_names(columns, inputs)
    given = {column.name: (value, column) for value, column in zip(values, columns, strict=True)}
    outputs: list[TensorSpec] = []
    for spec in inputs:
        value, column = given[_column_of(spec.name, given)]
        shape = spec.shape[1:]
        if shape not in ((), (1,)) and not (len(shape) == 1 and isinstance(shape[0], str)):
            raise UsageError(
                f"the network takes the column {column.name!r} as {spec}; a row has one value of it"
            )
        name = _compiled(graph, value, column, spec.dtype)
        if shape == ():
            name = graph.op("Squeeze", name, graph.constant([0], "int64"))
        outputs.append(TensorSpec(spec.name, spec.dtype, () if shape == () else (1,)))
        graph.output(outputs[-1], name)
    return outputs


def convert_columns(
    row: Tensors, columns: Sequence[Column], inputs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """What `compile_columns` computes, in native code; of `[rows, 1]` columns it makes a batch."""
    known = {column.name: column for column in columns}
    made = {}
    for spec in inputs:
        column = known[_column_of(spec.name, known)]
        value = _converted(row[column.name], column, spec.dtype)
        made[spec.name] = value[..., 0] if len(spec.shape) == 1 else value
    return made


def table_steps(
    columns: Sequence[Column], steps: tuple[PreStep, ...], inputs: Sequence[TensorSpec], notes: list[str]
) -> tuple[PreStep, ...]:
    """The steps, with `vector` put first where the network takes all columns in one input; a note says so."""
    if steps or {spec.name for spec in inputs} == {column.name for column in columns}:
        return steps
    if len(inputs) != 1 or len(inputs[0].shape) != 2 or inputs[0].dtype not in ("float32", "float64"):
        return steps
    notes.append(
        f"the network takes one row of numbers: the {len(columns)} columns are stacked in their order"
    )
    return (Vector(inputs[0].dtype),)  # type: ignore[arg-type]


def clashing(columns: Sequence[Column], inputs: Sequence[TensorSpec], *, stacked: bool) -> set[str]:
    """The names of the network's inputs that a row's columns need for themselves, since the two differ.

    `stacked`: whether there are steps, so that no column goes to the network as it is.
    """
    known = {column.name: (column.dtype, (1,)) for column in columns}
    return {
        spec.name
        for spec in inputs
        if spec.name in known and (stacked or known[spec.name] != (spec.dtype, spec.shape[1:]))
    }


_PREFIX = "net_"
"""What stands before the name of a network's input that a column needs for itself (see importers.names)."""


def _column_of(name: str, known: Container[str]) -> str:
    """The column that goes to the network's input of this name; the name itself where there is none."""
    if name in known or not name.startswith(_PREFIX):
        return name
    own = name.removeprefix(_PREFIX)
    while own not in known and own.endswith("_"):
        own = own[:-1]
    return own


def _check_names(columns: Sequence[Column], inputs: Sequence[TensorSpec]) -> None:
    names = [column.name for column in columns]
    if sorted(names) == sorted(_column_of(spec.name, names) for spec in inputs):
        return
    raise UsageError(
        f"the columns are {', '.join(names)}; the network takes "
        f"{', '.join(f'{spec.name} {spec}' for spec in inputs)}",
        at="$.columns",
        hint="a column for each input by its name, or the step `vector` for a network with one input",
    )


def _compiled(graph: Graph, value: Value, column: Column, want: str) -> str:
    """One column's value as another datatype."""
    if column.dtype == want:
        return value.name
    _check_conversion(column, want)
    if column.dtype != "string":
        return graph.cast(value.name, want)
    indices = list(range(len(column.categories)))
    if want in _FLOATS:
        index = graph.op(
            "LabelEncoder",
            value.name,
            domain=ML_DOMAIN,
            keys_strings=list(column.categories),
            values_floats=[float(number) for number in indices],
            default_float=float("nan"),
        )
        return index if want == "float32" else graph.cast(index, want)
    index = graph.op(
        "LabelEncoder",
        value.name,
        domain=ML_DOMAIN,
        keys_strings=list(column.categories),
        values_int64s=indices,
        default_int64=-1,
    )
    return index if want == "int64" else graph.cast(index, want)


def _converted(values: Array, column: Column, want: str) -> Array:
    """What `_compiled` computes."""
    if column.dtype == want:
        return values
    if column.dtype != "string":
        with np.errstate(over="ignore"):
            return values.astype(numpy_dtype(want))
    known: Mapping[str, int] = {name: number for number, name in enumerate(column.categories)}
    other = np.nan if want in _FLOATS else -1
    numbers = [known.get(str(value), other) for value in values.ravel().tolist()]
    return np.array(numbers, np.float32 if want in _FLOATS else np.int64).astype(want).reshape(values.shape)


def _check_conversion(column: Column, want: str) -> None:
    name = column.name
    if want not in _NUMBERS or (column.dtype.startswith("float") and want not in _FLOATS):
        raise UsageError(
            f"the network takes the column {name!r} as {want}; it is {column.dtype}", at="$.columns"
        )
    if column.dtype == "string" and not column.categories:
        raise UsageError(
            f"the column {name!r} is text without categories, and the network takes a number ({want})",
            at="$.columns",
            hint="name its categories in order",
        )
    if column.dtype == "string" and want not in _FLOATS and (column.missing or column.unseen):
        raise UsageError(
            f"the column {name!r} may be missing or unseen, and {want} has no value for that", at="$.columns"
        )
