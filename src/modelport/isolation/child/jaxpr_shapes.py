"""JAX's primitives that move numbers about and leave them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .converter import NotConverted
from .jaxpr import Graph, Handler


def _whole(dim: Any) -> bool:
    return isinstance(dim, (int, np.integer))


def _shape(equation: Any, place: int = 0) -> tuple[Any, ...]:
    return tuple(equation.invars[place].aval.shape)


def _made(equation: Any) -> tuple[Any, ...]:
    return tuple(equation.outvars[0].aval.shape)


def _reshape(graph: Graph, equation: Any, given: list[str]) -> str:
    if equation.params.get("dimensions") is not None:
        raise NotConverted("a reshape that transposes")
    wanted = _made(equation)
    if sum(not _whole(dim) for dim in wanted) == 1 and 0 not in wanted:
        return graph.op("Reshape", given[0], graph.ints(*(int(d) if _whole(d) else -1 for d in wanted)))
    return graph.op("Reshape", given[0], graph.dims(wanted), allowzero=1)


def _broadcast(graph: Graph, equation: Any, given: list[str]) -> str:
    kept, wanted = equation.params["broadcast_dimensions"], _made(equation)
    missing = [axis for axis in range(len(wanted)) if axis not in kept]
    made = graph.op("Unsqueeze", given[0], graph.ints(*missing)) if missing else given[0]
    here = dict(zip(kept, _shape(equation), strict=True))
    grown = [here.get(axis, 1) for axis in range(len(wanted))]
    if all(str(have) == str(want) for have, want in zip(grown, wanted, strict=True)):
        return made
    return _expand(graph, made, wanted, equation.invars[0].aval.dtype)


def _expand(graph: Graph, name: str, shape: Sequence[Any], dtype: Any) -> str:
    return graph.op("Expand", name, graph.dims(shape))


def _transpose(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Transpose", given[0], perm=list(equation.params["permutation"]))


def _squeeze(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Squeeze", given[0], graph.ints(*equation.params["dimensions"]))


def _expand_dims(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Unsqueeze", given[0], graph.ints(*equation.params["dimensions"]))


def _concatenate(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Concat", *given, axis=int(equation.params["dimension"]))


def _slice(graph: Graph, equation: Any, given: list[str]) -> str:
    told = equation.params
    starts, ends = told["start_indices"], told["limit_indices"]
    steps = told["strides"] or (1,) * len(starts)
    axes = [
        axis
        for axis, size in enumerate(_shape(equation))
        if not (str(starts[axis]) == "0" and str(ends[axis]) == str(size) and steps[axis] == 1)
    ]
    if not axes:
        return graph.op("Identity", given[0])
    return graph.op(
        "Slice",
        given[0],
        graph.dims([starts[axis] for axis in axes]),
        graph.dims([ends[axis] for axis in axes]),
        graph.ints(*axes),
        graph.ints(*(int(steps[axis]) for axis in axes)),
    )


def _starts(graph: Graph, names: Sequence[str], shape: Sequence[Any], sizes: Sequence[Any]) -> str:
    """Where a slice begins, int64[n], moved so that it stays inside, as XLA moves it."""
    parts = [graph.op("Reshape", graph.cast(name, np.int64), graph.ints(1)) for name in names]
    start = graph.op("Concat", *parts, axis=0)
    most = graph.op("Sub", graph.dims(shape), graph.dims(sizes))
    return graph.op("Min", graph.op("Max", start, graph.ints(*[0] * len(parts))), most)


def _dynamic_slice(graph: Graph, equation: Any, given: list[str]) -> str:
    sizes = equation.params["slice_sizes"]
    start = _starts(graph, given[1 : 1 + len(sizes)], _shape(equation), sizes)
    return graph.op("Slice", given[0], start, graph.op("Add", start, graph.dims(sizes)))


def _dynamic_update_slice(graph: Graph, equation: Any, given: list[str]) -> str:
    """Each index of the place is written: ScatterND with the positions that the update takes."""
    shape, sizes = _shape(equation), _shape(equation, 1)
    start = _starts(graph, given[2:], shape, sizes)
    places = []
    for axis in range(len(shape)):
        first = graph.op("Slice", start, graph.ints(axis), graph.ints(axis + 1))
        line = graph.op("Add", _line(graph, sizes[axis]), first)
        places.append(_along(graph, line, axis, len(shape), sizes))
    index = graph.op("Concat", *places, axis=-1)
    return graph.op("ScatterND", given[0], index, given[1])


def _line(graph: Graph, size: Any) -> str:
    """0, 1, …, size - 1: int64."""
    if _whole(size):
        return graph.constant(np.arange(int(size)), np.int64)
    end = graph.op("Squeeze", graph.dim(size), graph.ints(0))
    return graph.op("Range", graph.constant(0, np.int64), end, graph.constant(1, np.int64))


def _along(graph: Graph, line: str, axis: int, rank: int, shape: Sequence[Any]) -> str:
    """A line of indices along one axis of `shape`, with an axis of 1 behind."""
    others = [place for place in range(rank) if place != axis]
    made = graph.op("Unsqueeze", line, graph.ints(*others)) if others else line
    return graph.op("Unsqueeze", graph.op("Expand", made, graph.dims(shape)), graph.ints(-1))


def _pad(graph: Graph, equation: Any, given: list[str]) -> str:
    config = equation.params["padding_config"]
    if any(interior for _, _, interior in config):
        raise NotConverted("padding between the numbers")
    before = graph.dims([low for low, _, _ in config])
    after = graph.dims([high for _, high, _ in config])
    return graph.op("Pad", given[0], graph.op("Concat", before, after, axis=0), given[1])


def _stack(graph: Graph, equation: Any, given: list[str]) -> str:
    axis = int(equation.params["axis"])
    each = [graph.op("Unsqueeze", name, graph.ints(axis)) for name in given]
    return graph.op("Concat", *each, axis=axis)


def _unstack(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    axis, count = int(equation.params["axis"]), len(equation.outvars)
    return [
        graph.op("Gather", given[0], graph.constant(number, np.int64), axis=axis) for number in range(count)
    ]


def _tile(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Tile", given[0], graph.dims(equation.params["reps"]))


def _rev(graph: Graph, equation: Any, given: list[str]) -> str:
    axes = [int(axis) for axis in equation.params["dimensions"]]
    count, least = len(axes), -(1 << 62)
    ends = (graph.ints(*[each] * count) for each in (-1, least))
    return graph.op("Slice", given[0], *ends, graph.ints(*axes), graph.ints(*[-1] * count))


def _iota(graph: Graph, equation: Any, given: list[str]) -> str:
    told, shape = equation.params, _made(equation)
    axis = int(told["dimension"])
    line = graph.cast(_line(graph, shape[axis]), told["dtype"])
    others = [place for place in range(len(shape)) if place != axis]
    made = graph.op("Unsqueeze", line, graph.ints(*others)) if others else line
    return graph.op("Expand", made, graph.dims(shape))


def _split(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    sizes = equation.params["sizes"]
    axis = int(equation.params["axis"])
    return graph.ops("Split", given[0], graph.dims(sizes), outputs=len(sizes), axis=axis)


def _dim_as_value(graph: Graph, equation: Any, given: list[str]) -> str:
    size = graph.op("Squeeze", graph.dim(equation.params["dim"]), graph.ints(0))
    return graph.cast(size, equation.outvars[0].aval.dtype)


def _gather(graph: Graph, equation: Any, given: list[str]) -> str:
    """XLA's gather: along one axis where it is no more than that, else by an index for each number."""
    told, shape = equation.params, _shape(equation)
    numbers, sizes = told["dimension_numbers"], told["slice_sizes"]
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    axes = tuple(numbers.start_index_map)
    plain = (
        not batching
        and len(axes) == 1
        and tuple(numbers.collapsed_slice_dims) == axes
        and all(str(size) == str(shape[axis]) for axis, size in enumerate(sizes) if axis not in axes)
    )
    index, inside = _clipped(graph, equation, given[1], [shape[axis] for axis in axes], sizes, axes)
    made = (
        _one_axis(graph, equation, given[0], index, axes[0])
        if plain
        else _each_number(graph, equation, given[0], index)
    )
    if "FILL" not in str(told.get("mode")).upper():
        return made
    dtype = equation.invars[0].aval.dtype
    rank, offsets = len(_made(equation)), set(numbers.offset_dims)
    inside = graph.op("Unsqueeze", inside, graph.ints(*sorted(offsets))) if offsets else inside
    fill = told.get("fill_value")
    if fill is None:
        fill = np.nan if dtype.kind == "f" else (False if dtype.kind == "b" else np.iinfo(dtype).min)
    if dtype.kind == "b" or rank == 0:
        return made
    return graph.op("Where", inside, made, graph.constant(fill, dtype))


def _clipped(
    graph: Graph, equation: Any, index: str, ends: Sequence[Any], sizes: Sequence[Any], axes: Sequence[int]
) -> tuple[str, str]:
    """The indices moved inside, int64[…, n], and which were: bool[…]."""
    index = graph.cast(index, np.int64)
    most = graph.op("Sub", graph.dims(ends), graph.dims([sizes[axis] for axis in axes]))
    none = graph.ints(*[0] * len(axes))
    kept = graph.op("Min", graph.op("Max", index, none), most)
    same = graph.cast(graph.op("Equal", kept, index), np.int32)
    inside = graph.op("ReduceMin", same, graph.ints(-1), keepdims=0)
    return kept, graph.cast(inside, np.bool_)


def _one_axis(graph: Graph, equation: Any, table: str, index: str, axis: int) -> str:
    made = graph.op("Gather", table, graph.op("Squeeze", index, graph.ints(-1)), axis=axis)
    rank, offsets = len(_made(equation)), list(equation.params["dimension_numbers"].offset_dims)
    batch = [place for place in range(rank) if place not in offsets]
    # Gather gives the axes before, the indices' own, the axes behind; XLA says where each goes.
    order = [*offsets[:axis], *batch, *offsets[axis:]]
    perm = [order.index(place) for place in range(rank)]
    return made if perm == list(range(rank)) else graph.op("Transpose", made, perm=perm)


def _each_number(graph: Graph, equation: Any, table: str, index: str) -> str:
    """GatherND with a position for every number of the result."""
    numbers = equation.params["dimension_numbers"]
    places = _positions(
        graph,
        index,
        shape=_shape(equation),
        wanted=_made(equation),
        offsets=list(numbers.offset_dims),
        dropped=list(numbers.collapsed_slice_dims),
        starts=list(numbers.start_index_map),
        batching=list(getattr(numbers, "operand_batching_dims", ())),
        starting=list(getattr(numbers, "start_indices_batching_dims", ())),
    )
    return graph.op("GatherND", table, places)


def _positions(
    graph: Graph,
    index: str,
    *,
    shape: Sequence[Any],
    wanted: Sequence[Any],
    offsets: list[int],
    dropped: list[int],
    starts: list[int],
    batching: list[int],
    starting: list[int],
) -> str:
    """Where in `shape` each number of `wanted` is: int64[*wanted, rank]."""
    rank = len(wanted)
    batch = [place for place in range(rank) if place not in offsets]
    left = [axis for axis in range(len(shape)) if axis not in (*dropped, *batching)]
    places = []
    for axis in range(len(shape)):
        parts: list[str] = []
        if axis in starts:
            picked = graph.op("Gather", index, graph.constant(starts.index(axis), np.int64), axis=-1)
            parts.append(graph.op("Unsqueeze", picked, graph.ints(*offsets)) if offsets else picked)
        if axis in left:
            place = offsets[left.index(axis)]
            parts.append(_placed(graph, _line(graph, wanted[place]), place, rank))
        if axis in batching:
            place = batch[starting[batching.index(axis)]]
            parts.append(_placed(graph, _line(graph, shape[axis]), place, rank))
        made = parts[0] if parts else graph.constant(0, np.int64)
        for more in parts[1:]:
            made = graph.op("Add", made, more)
        places.append(graph.op("Unsqueeze", graph.op("Expand", made, graph.dims(wanted)), graph.ints(-1)))
    return graph.op("Concat", *places, axis=-1)


def _scatter(graph: Graph, equation: Any, given: list[str]) -> str:
    """Written at a position for every number of the update; one outside is an error of ONNX Runtime's."""
    numbers = equation.params["dimension_numbers"]
    places = _positions(
        graph,
        graph.cast(given[1], np.int64),
        shape=_shape(equation),
        wanted=_shape(equation, 2),
        offsets=list(numbers.update_window_dims),
        dropped=list(numbers.inserted_window_dims),
        starts=list(numbers.scatter_dims_to_operand_dims),
        batching=list(getattr(numbers, "operand_batching_dims", ())),
        starting=list(getattr(numbers, "scatter_indices_batching_dims", ())),
    )
    kind = SCATTERED[equation.primitive.name]
    return graph.op("ScatterND", given[0], places, given[2], reduction=kind)


def _placed(graph: Graph, line: str, axis: int, rank: int) -> str:
    others = [place for place in range(rank) if place != axis]
    return graph.op("Unsqueeze", line, graph.ints(*others)) if others else line


SCATTERED = {
    "scatter": "none",
    "scatter-add": "add",
    "scatter-mul": "mul",
    "scatter-min": "min",
    "scatter-max": "max",
    "scatter_add": "add",
    "scatter_mul": "mul",
    "scatter_min": "min",
    "scatter_max": "max",
}

HANDLERS: dict[str, Handler] = {
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "concatenate": _concatenate,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "pad": _pad,
    "stack": _stack,
    "unstack": _unstack,
    "tile": _tile,
    "rev": _rev,
    "iota": _iota,
    "split": _split,
    "dim_as_value": _dim_as_value,
    "gather": _gather,
    **dict.fromkeys(SCATTERED, _scatter),
}
