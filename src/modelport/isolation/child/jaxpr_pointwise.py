"""JAX's primitives that work on each number by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from .converter import NotConverted
from .jaxpr import Graph, Handler

UNARY = {
    "neg": "Neg", "floor": "Floor", "ceil": "Ceil", "exp": "Exp", "log": "Log", "tanh": "Tanh",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
    "logistic": "Sigmoid", "sqrt": "Sqrt", "abs": "Abs", "erf": "Erf", "sign": "Sign",
    "stop_gradient": "Identity", "copy": "Identity", "copy_p": "Identity", "reduce_precision": "Identity",
    "optimization_barrier": "Identity", "device_put": "Identity", "sharding_constraint": "Identity",
    "name": "Identity",
}  # fmt: skip
BINARY = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "pow": "Pow",
}  # fmt: skip
LOGIC = {"and": ("And", "BitwiseAnd"), "or": ("Or", "BitwiseOr"), "xor": ("Xor", "BitwiseXor")}
BARE = ("max", "min", "add", "mul")
"""Done on whole numbers of 32 bits and more alone by ONNX Runtime; booleans have their own operators."""


def _unary(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    kind = UNARY[equation.primitive.name]
    return [graph.op(kind, name) for name in given]


def _binary(graph: Graph, equation: Any, given: list[str]) -> str:
    name = equation.primitive.name
    left, right = (var.aval.dtype for var in equation.invars)
    if left == np.bool_ and name in ("max", "add", "min", "mul"):
        return graph.op("Or" if name in ("max", "add") else "And", *given)
    if left == np.bool_ and name not in ("eq",):
        given = [graph.cast(each, np.int32) for each in given]
    elif name == "pow" and left != right:
        given[1] = graph.cast(given[1], left)
    return graph.op(BINARY[name], *given)


def _logic(graph: Graph, equation: Any, given: list[str]) -> str:
    booleans, bits = LOGIC[equation.primitive.name]
    return graph.op(booleans if _dtype(equation) == np.bool_ else bits, *given)


def _not(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Not" if _dtype(equation) == np.bool_ else "BitwiseNot", *given)


def _ne(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Not", graph.op("Equal", *given))


def _rem(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Mod", *given, fmod=1)  # the sign of the dividend, as XLA has it


def _round(graph: Graph, equation: Any, given: list[str]) -> str:
    if int(equation.params["rounding_method"]) == 1:
        return graph.op("Round", *given)
    half = graph.constant(0.5, _dtype(equation))
    away = graph.op("Floor", graph.op("Add", graph.op("Abs", *given), half))
    return graph.op("Mul", graph.op("Sign", *given), away)


def _one(graph: Graph, equation: Any) -> str:
    return graph.constant(1, _dtype(equation))


def _log1p(graph: Graph, equation: Any, given: list[str]) -> str:
    """Kahan's way, since log(1 + x) keeps no digit of a small x: x * log(u) / (u - 1), u = 1 + x."""
    one, zero = _one(graph, equation), graph.constant(0, _dtype(equation))
    up = graph.op("Add", given[0], one)
    less = graph.op("Sub", up, one)
    none = graph.op("Equal", less, zero)
    safe = graph.op("Where", none, one, less)
    exact = graph.op("Mul", given[0], graph.op("Div", graph.op("Log", up), safe))
    far = graph.op(
        "Or", graph.op("IsInf", up), graph.op("LessOrEqual", up, graph.constant(0, _dtype(equation)))
    )
    return graph.op("Where", none, given[0], graph.op("Where", far, graph.op("Log", up), exact))


def _expm1(graph: Graph, equation: Any, given: list[str]) -> str:
    """2 tanh(x / 2) / (1 - tanh(x / 2)) where x is small, exp(x) - 1 elsewhere."""
    one, dtype = _one(graph, equation), _dtype(equation)
    half = graph.op("Tanh", graph.op("Mul", given[0], graph.constant(0.5, dtype)))
    near = graph.op("Div", graph.op("Add", half, half), graph.op("Sub", one, half))
    small = graph.op("Less", graph.op("Abs", given[0]), one)
    return graph.op("Where", small, near, graph.op("Sub", graph.op("Exp", given[0]), one))


def _exp2(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Pow", graph.constant(2, _dtype(equation)), given[0])


def _rsqrt(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Reciprocal", graph.op("Sqrt", given[0]))


def _cbrt(graph: Graph, equation: Any, given: list[str]) -> str:
    third = graph.constant(1 / 3, _dtype(equation))
    root = graph.op("Pow", graph.op("Abs", given[0]), third)
    return graph.op("Mul", graph.op("Sign", given[0]), root)


def _erfc(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Sub", _one(graph, equation), graph.op("Erf", given[0]))


def _square(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Mul", given[0], given[0])


def _integer_pow(graph: Graph, equation: Any, given: list[str]) -> str:
    """By multiplying, as XLA does."""
    power = int(equation.params["y"])
    factor, made, left = given[0], None, abs(power)
    while left:
        if left & 1:
            made = factor if made is None else graph.op("Mul", made, factor)
        left >>= 1
        factor = graph.op("Mul", factor, factor) if left else factor
    if made is None:
        return graph.op("Add", graph.op("Sub", given[0], given[0]), _one(graph, equation))
    return made if power > 0 else graph.op("Div", _one(graph, equation), made)


def _is_finite(graph: Graph, equation: Any, given: list[str]) -> str:
    return graph.op("Not", graph.op("Or", graph.op("IsInf", given[0]), graph.op("IsNaN", given[0])))


def _clamp(graph: Graph, equation: Any, given: list[str]) -> str:
    low, value, high = given
    return graph.op("Min", graph.op("Max", value, low), high)


def _select(graph: Graph, equation: Any, given: list[str]) -> str:
    """`select_n`: the first case where the condition is false or 0."""
    which, first, *others = given
    if len(others) != 1:
        raise NotConverted(f"a choice of {len(others) + 1}")
    if equation.invars[0].aval.dtype != np.bool_:
        which = graph.cast(which, np.bool_)
    if equation.invars[1].aval.dtype == np.bool_:
        yes = graph.op("And", which, others[0])
        return graph.op("Or", yes, graph.op("And", graph.op("Not", which), first))
    return graph.op("Where", which, others[0], first)


def _cast(graph: Graph, equation: Any, given: list[str]) -> str:
    wanted = np.dtype(equation.params["new_dtype"])
    return given[0] if wanted == _dtype(equation) else graph.cast(given[0], wanted)


def _dtype(equation: Any) -> Any:
    return equation.invars[0].aval.dtype


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(LOGIC, _logic),
    "not": _not, "ne": _ne, "rem": _rem, "round": _round, "log1p": _log1p, "expm1": _expm1, "exp2": _exp2,
    "rsqrt": _rsqrt, "cbrt": _cbrt, "erfc": _erfc, "square": _square, "integer_pow": _integer_pow,
    "is_finite": _is_finite, "clamp": _clamp, "select_n": _select, "convert_element_type": _cast,
}  # fmt: skip
