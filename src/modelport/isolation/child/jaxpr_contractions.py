"""JAX's primitives that add up: matrix products, convolutions, windows, reductions, sorting."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import numpy as np

from .converter import NotConverted
from .jaxpr import Graph, Handler

REDUCED = {
    "reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd", "reduce_and": "ReduceMin", "reduce_or": "ReduceMax",
}  # fmt: skip


def _dot(graph: Graph, equation: Any, given: list[str]) -> str:
    ((left_sum, right_sum), (left_batch, right_batch)) = equation.params["dimension_numbers"]
    left, right = (len(var.aval.shape) for var in equation.invars)
    shared = tuple(range(len(left_batch)))
    both = len(shared) + 2
    wanted = equation.outvars[0].aval.dtype
    given = [
        name if var.aval.dtype == wanted else graph.cast(name, wanted)
        for name, var in zip(given, equation.invars, strict=True)
    ]
    one_matrix = not shared and right == 2 and left > 0 and (left_sum, right_sum) == ((left - 1,), (0,))
    many = tuple(left_batch) == tuple(right_batch) == shared and left == right == both
    many = many and (tuple(left_sum), tuple(right_sum)) == ((both - 1,), (both - 2,))
    if one_matrix or many:
        return graph.op("MatMul", *given)
    letters = iter(ascii_lowercase)
    first = {axis: next(letters) for axis in range(left)}
    second = {there: first[here] for here, there in zip(left_sum, right_sum, strict=True)}
    second |= {there: first[here] for here, there in zip(left_batch, right_batch, strict=True)}
    second |= {axis: next(letters) for axis in range(right) if axis not in second}
    free = [first[axis] for axis in range(left) if axis not in (*left_sum, *left_batch)]
    free += [second[axis] for axis in range(right) if axis not in (*right_sum, *right_batch)]
    result = "".join([*(first[axis] for axis in left_batch), *free])
    terms = ("".join(each[axis] for axis in sorted(each)) for each in (first, second))
    return graph.op("Einsum", *given, equation=f"{','.join(terms)}->{result}")


def _conv(graph: Graph, equation: Any, given: list[str]) -> str:
    told = equation.params
    if told["batch_group_count"] != 1:
        raise NotConverted("groups of the batch")
    numbers = told["dimension_numbers"]
    pads = list(told["padding"])
    if any(side < 0 for pair in pads for side in pair):
        raise NotConverted("padding that cuts off")
    pictures = graph.op("Transpose", given[0], perm=list(numbers.lhs_spec))
    sizes = [equation.invars[0].aval.shape[axis] for axis in numbers.lhs_spec[2:]]
    pictures = _spread(graph, pictures, sizes, told["lhs_dilation"], equation.invars[0].aval.dtype)
    weights = graph.known(given[1])
    kernel = (
        graph.op("Transpose", given[1], perm=list(numbers.rhs_spec))
        if weights is None
        else graph.constant(np.transpose(weights, numbers.rhs_spec))
    )
    made = graph.op(
        "Conv",
        pictures,
        kernel,
        strides=list(told["window_strides"]),
        dilations=list(told["rhs_dilation"]),
        pads=[low for low, _ in pads] + [high for _, high in pads],
        group=int(told["feature_group_count"]),
    )
    back = [list(numbers.out_spec).index(axis) for axis in range(len(numbers.out_spec))]
    return graph.op("Transpose", made, perm=back)


def _spread(graph: Graph, pictures: str, sizes: list[Any], steps: Any, dtype: Any) -> str:
    """Zeros between the pixels of [batch, channels, …], which makes a convolution a transposed one."""
    if all(step == 1 for step in steps):
        return pictures
    if not all(isinstance(size, int) for size in sizes):
        raise NotConverted("a transposed convolution of pictures of any size")
    sizes = list(sizes)
    for place, step in enumerate(steps):
        if step == 1:
            continue
        axis, rank = 2 + place, len(sizes) + 3
        wide = graph.op("Unsqueeze", pictures, graph.ints(axis + 1))
        pads = [0] * (2 * rank)
        pads[rank + axis + 1] = int(step) - 1
        wide = graph.op("Pad", wide, graph.ints(*pads), graph.constant(0, dtype))
        sizes[place] *= int(step)
        joined = graph.op("Reshape", wide, graph.ints(0, 0, *sizes))
        sizes[place] -= int(step) - 1
        ends = (graph.ints(0), graph.ints(sizes[place]), graph.ints(axis))
        pictures = graph.op("Slice", joined, *ends)
    return pictures


def _window(graph: Graph, equation: Any, given: list[str]) -> str:
    """Pools: the axes without a window go to the front as batch and channels."""
    told, rank = equation.params, len(equation.invars[0].aval.shape)
    kind = equation.primitive.name.removeprefix("reduce_window_")
    windows, strides, pads = told["window_dimensions"], told["window_strides"], told["padding"]
    dilations = told.get("window_dilation") or (1,) * rank
    if any(step != 1 for step in told.get("base_dilation") or ()):
        raise NotConverted("windows over spread pixels")
    active = [a for a in range(rank) if windows[a] != 1 or strides[a] != 1 or tuple(pads[a]) != (0, 0)]
    rest = [axis for axis in range(rank) if axis not in active]
    while len(rest) > 2 and len(active) < 3:
        active.insert(0, rest.pop())
    if len(rest) > 2 or not 1 <= len(active) <= 3:
        raise NotConverted(f"windows over {len(active)} of {rank} axes")
    missing = 2 - len(rest)
    value = graph.op("Transpose", given[0], perm=[*rest, *active])
    if missing:
        value = graph.op("Unsqueeze", value, graph.ints(*range(missing)))
    options: dict[str, Any] = {
        "kernel_shape": [int(windows[a]) for a in active],
        "strides": [int(strides[a]) for a in active],
        "dilations": [int(dilations[a]) for a in active],
        "pads": [int(pads[a][0]) for a in active] + [int(pads[a][1]) for a in active],
    }
    value = _pooled(graph, kind, value, options, equation.invars[0].aval.dtype)
    if missing:
        value = graph.op("Squeeze", value, graph.ints(*range(missing)))
    order = [*rest, *active]
    return graph.op("Transpose", value, perm=[order.index(axis) for axis in range(rank)])


def _pooled(graph: Graph, kind: str, value: str, options: dict[str, Any], dtype: Any) -> str:
    if dtype.kind != "f":
        value = graph.cast(value, np.float64)
    if kind == "sum":
        made = graph.op("AveragePool", value, count_include_pad=1, **options)
        count = graph.constant(np.prod(options["kernel_shape"]), dtype if dtype.kind == "f" else np.float64)
        made = graph.op("Mul", made, count)
    elif kind == "max":
        made = graph.op("MaxPool", value, **options)
    else:
        made = graph.op("Neg", graph.op("MaxPool", graph.op("Neg", value), **options))
    return made if dtype.kind == "f" else graph.cast(made, dtype)


def _reduce(graph: Graph, equation: Any, given: list[str]) -> str:
    axes = [int(axis) for axis in equation.params["axes"]]
    dtype = equation.invars[0].aval.dtype
    if not axes:
        return graph.op("Identity", given[0])
    value = graph.cast(given[0], np.int32) if dtype == np.bool_ else given[0]
    made = graph.op(REDUCED[equation.primitive.name], value, graph.ints(*axes), keepdims=0)
    return graph.cast(made, dtype) if dtype == np.bool_ else made


def _arg(graph: Graph, equation: Any, given: list[str]) -> str:
    (axis,) = equation.params["axes"]
    kind = "ArgMax" if equation.primitive.name == "argmax" else "ArgMin"
    value = given[0]
    if equation.invars[0].aval.dtype == np.bool_:
        value = graph.cast(value, np.int32)
    return graph.cast(graph.op(kind, value, axis=int(axis), keepdims=0), equation.params["index_dtype"])


def _sort(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    axis = int(equation.params["dimension"])
    if equation.params["num_keys"] != 1:
        raise NotConverted("sorting by several keys")
    count = graph.dims([equation.invars[0].aval.shape[axis]])
    keys, order = graph.ops("TopK", given[0], count, outputs=2, axis=axis, largest=0, sorted=1)
    return [keys, *(graph.op("GatherElements", each, order, axis=axis) for each in given[1:])]


def _top(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    axis = int(equation.params.get("axis", equation.params.get("operand_axis", -1)))
    count = graph.dims([equation.params["k"]])
    values, places = graph.ops("TopK", given[0], count, outputs=2, axis=axis, largest=1, sorted=1)
    return [values, graph.cast(places, equation.outvars[1].aval.dtype)]


def _cumsum(graph: Graph, equation: Any, given: list[str]) -> str:
    axis = graph.constant(int(equation.params["axis"]), np.int64)
    return graph.op("CumSum", given[0], axis, reverse=int(equation.params["reverse"]))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(REDUCED, _reduce),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window),
    **dict.fromkeys(("argmax", "argmin"), _arg),
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "sort": _sort,
    "top_k": _top,
    "cumsum": _cumsum,
}
