"""JAX's loops and branches: `scan`, `while`, `cond`, as graphs inside the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from .converter import NotConverted
from .jaxpr import Graph, Handler, Value


def _scan(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    told = equation.params
    fixed, carried = int(told["num_consts"]), int(told["num_carry"])
    closed = told["jaxpr"]
    consts, carry, rows = given[:fixed], given[fixed : fixed + carried], given[fixed + carried :]
    inputs = closed.jaxpr.invars[fixed:]
    body = graph.inner()
    names = [body.new("step") for _ in inputs]
    spare: list[tuple[str, Any]] = []
    if not rows:  # Scan has to go over something
        spare = [(body.new("turn"), np.int64)]
        rows = [graph.constant(np.arange(int(told["length"])), np.int64)]
    made = body.convert(closed.jaxpr, closed.consts, [*consts, *names])
    inside = body.body(
        graph.new("body"),
        [*zip(names, inputs, strict=True), *spare],
        list(zip(made, closed.jaxpr.outvars, strict=True)),
    )
    backwards = int(bool(told["reverse"]))
    return graph.ops(
        "Scan",
        *carry,
        *rows,
        outputs=len(made),
        body=inside,
        num_scan_inputs=len(rows),
        **_directions(backwards, len(rows), len(made) - carried),
    )


def _directions(backwards: int, inputs: int, outputs: int) -> dict[str, Any]:
    told: dict[str, Any] = {"scan_input_directions": [backwards] * inputs}
    # An empty list has no type in ONNX.
    return told | ({"scan_output_directions": [backwards] * outputs} if outputs else {})


def _while(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    told = equation.params
    first, second = int(told["cond_nconsts"]), int(told["body_nconsts"])
    asked, done = given[:first], given[first : first + second]
    carry = given[first + second :]
    condition, step = told["cond_jaxpr"], told["body_jaxpr"]
    (going,) = graph.convert(condition.jaxpr, condition.consts, [*asked, *carry])
    body = graph.inner()
    turn, before = body.new("turn"), body.new("going")
    names = [body.new("carry") for _ in carry]
    made = body.convert(step.jaxpr, step.consts, [*done, *names])
    (again,) = body.convert(condition.jaxpr, condition.consts, [*asked, *made])
    carried = step.jaxpr.outvars
    inside = body.body(
        graph.new("body"),
        [(turn, np.int64), (before, np.bool_), *zip(names, carried, strict=True)],
        [(again, np.bool_), *zip(made, carried, strict=True)],
    )
    return graph.ops("Loop", "", graph.name(going), *carry, outputs=len(carry), body=inside)


def _cond(graph: Graph, equation: Any, given: list[str]) -> list[str]:
    branches, which, operands = equation.params["branches"], given[0], given[1:]
    if len(branches) != 2:
        raise NotConverted(f"a choice of {len(branches)} branches")
    sides: dict[str, Any] = {}
    for side, closed in (("else_branch", branches[0]), ("then_branch", branches[1])):
        inner = graph.inner()
        made: list[Value] = inner.convert(closed.jaxpr, closed.consts, list(operands))
        sides[side] = inner.body(graph.new("branch"), [], list(zip(made, closed.jaxpr.outvars, strict=True)))
    return graph.ops("If", graph.cast(which, np.bool_), outputs=len(equation.outvars), **sides)


HANDLERS: dict[str, Handler] = {"scan": _scan, "while": _while, "cond": _cond}
