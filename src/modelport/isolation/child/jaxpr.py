"""A jaxpr, which is what JAX makes of a function before it compiles it, written down as ONNX.

Every primitive has one handler (`jaxpr_pointwise`, `jaxpr_shapes`, `jaxpr_contractions`, `jaxpr_control`);
what depends on constants alone is computed by JAX here and now. Knows no primitive itself.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .converter import NotConverted
from .frames import Array

OPSET = 20
IR = 9
MAX_FOLDED = 1 << 20
"""Numbers that a constant may grow to when it is computed here; larger ones are made by the graph."""
CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "composite", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)
"""Primitives that compute what their inner jaxpr says."""
CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")
RANDOM = ("random_", "threefry")

Value = Any
"""The name of a tensor of the graph, or an array that is known already."""
Handler = Callable[["Graph", Any, list[str]], str | list[str]]


class Shared:
    """What a graph and the graphs inside it have in common."""

    def __init__(self, handlers: Mapping[str, Handler], where: Callable[[Any], str]) -> None:
        self.handlers = handlers
        self.where = where
        self.count = 0
        self.initializers: list[Any] = []
        self.known: dict[str, Array] = {}
        self.sizes: dict[str, str] = {}
        """The name of a symbolic dimension to that of its size, int64[1]."""
        self.drew = False


class Graph:
    """Nodes in order; `inner` makes the body of a loop or a branch, which sees everything around it."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.nodes: list[Any] = []

    def inner(self) -> Graph:
        """An empty graph inside this one."""
        return Graph(self.shared)

    def new(self, kind: str) -> str:
        """A name that nothing has yet."""
        self.shared.count += 1
        return f"{kind}_{self.shared.count}"

    def ops(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Append an operator; the names of what it makes."""
        names = [self.new(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The same for an operator that makes one tensor."""
        return self.ops(kind, *inputs, **attributes)[0]

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A tensor that is known."""
        array = np.asarray(value, dtype)
        name = self.new("constant")
        self.shared.initializers.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        )
        self.shared.known[name] = array
        return name

    def ints(self, *values: int) -> str:
        """int64[n]"""
        return self.constant(values, np.int64)

    def known(self, name: str) -> Array | None:
        """The tensor's value where it does not depend on the inputs."""
        return self.shared.known.get(name)

    def name(self, value: Value) -> str:
        """A value as a tensor of the graph."""
        return value if isinstance(value, str) else self.constant(value)

    def cast(self, name: str, dtype: Any) -> str:
        """Another datatype."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", name, to=kind)

    def dims(self, shape: Sequence[Any]) -> str:
        """A shape as int64[n], sizes that are open among them."""
        if all(isinstance(dim, (int, np.integer)) for dim in shape):
            return self.ints(*(int(dim) for dim in shape))
        return self.op("Concat", *(self.dim(dim) for dim in shape), axis=0)

    def dim(self, dim: Any) -> str:
        """One size, int64[1]."""
        if isinstance(dim, (int, np.integer)):
            return self.ints(int(dim))
        return self._sum(ast.parse(str(dim).replace("^", "**"), mode="eval").body)

    def _sum(self, told: ast.expr) -> str:
        """A size that is worked out from open ones, as JAX writes it: `2*batch + 1`."""
        kinds: dict[type, str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}
        calls = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}
        if isinstance(told, ast.Constant):
            return self.ints(int(told.value))  # type: ignore[arg-type]
        if isinstance(told, ast.Name) and told.id in self.shared.sizes:
            return self.shared.sizes[told.id]
        if isinstance(told, ast.UnaryOp) and isinstance(told.op, ast.USub):
            return self.op("Neg", self._sum(told.operand))
        if isinstance(told, ast.BinOp) and type(told.op) in kinds:
            return self.op(kinds[type(told.op)], self._sum(told.left), self._sum(told.right))
        if isinstance(told, ast.Call) and isinstance(told.func, ast.Name) and told.func.id in calls:
            return self.op(calls[told.func.id], *(self._sum(each) for each in told.args))
        raise NotConverted(f"the size {ast.unparse(told)} cannot be worked out in the graph")

    def convert(self, jaxpr: Any, consts: Sequence[Value], given: Sequence[Value]) -> list[Value]:
        """Append what a jaxpr computes; the values that it gives."""
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, given, strict=True))

        def read(var: Any) -> Value:
            return np.asarray(var.val, var.aval.dtype) if hasattr(var, "val") else values[var]

        for equation in _live(jaxpr):
            made = self._equation(equation, [read(var) for var in equation.invars])
            values.update(zip(equation.outvars, made, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[Value]) -> list[Value]:
        primitive = equation.primitive.name
        if primitive.startswith(RANDOM):
            self.shared.drew = True
        if primitive in CALLS:
            called = next(equation.params[name] for name in CALLED if name in equation.params)
            return self.convert(getattr(called, "jaxpr", called), getattr(called, "consts", ()), given)
        if not any(isinstance(value, str) for value in given) and _small(equation, given):
            made = equation.primitive.bind(*given, **equation.params)
            return [_plain(each) for each in (made if equation.primitive.multiple_results else [made])]
        handler = self.shared.handlers.get(primitive)
        if handler is None:
            raise NotConverted(
                f"the operator {primitive!r} of JAX{self.shared.where(equation)} is not converted to ONNX",
                "write that part with other functions, or do it before or behind the network",
            )
        try:
            result = handler(self, equation, [self.name(value) for value in given])
        except NotConverted as problem:
            raise NotConverted(
                f"{primitive!r} of JAX{self.shared.where(equation)}: {problem}", problem.hint
            ) from problem
        return [result] if isinstance(result, str) else list(result)

    def body(self, name: str, inputs: Sequence[tuple[str, Any]], outputs: Sequence[tuple[Value, Any]]) -> Any:
        """What was appended, as a graph of its own.

        Args:
            name: what it is called.
            inputs, outputs: names or values, each with the variable of the jaxpr that it is (or a dtype).
        """
        named = [(self.op("Identity", self.name(value)), var) for value, var in outputs]
        taken, given = ([_info(each, *_typed(var)) for each, var in side] for side in (inputs, named))
        return helper.make_graph(self.nodes, name, taken, given)


def model(
    graph: Graph,
    inputs: Sequence[tuple[str, Any, Sequence[Any]]],
    outputs: Sequence[tuple[str, Any, Sequence[Any]]],
) -> Array:
    """The whole as one file: uint8[bytes]."""
    made = helper.make_graph(
        graph.nodes,
        "jax",
        [_info(name, dtype, shape) for name, dtype, shape in inputs],
        [_info(name, dtype, shape) for name, dtype, shape in outputs],
        initializer=_used(graph),
    )
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(whole)
    return np.frombuffer(whole.SerializeToString(), np.uint8)


def _used(graph: Graph) -> list[Any]:
    """Constants that something takes; others were only looked at."""
    wanted: set[str] = set()

    def look(nodes: Any) -> None:
        for node in nodes:
            wanted.update(node.input)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    look(attribute.g.node)

    look(graph.nodes)
    return [tensor for tensor in graph.shared.initializers if tensor.name in wanted]


def _info(name: str, dtype: Any, shape: Sequence[Any] | None = None) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    sizes = None if shape is None else [int(d) if isinstance(d, (int, np.integer)) else str(d) for d in shape]
    return helper.make_tensor_value_info(name, kind, sizes)


def _typed(var: Any) -> tuple[Any, Sequence[Any]]:
    """Datatype and shape of a variable; a bare datatype is that of a scalar."""
    return (var.aval.dtype, var.aval.shape) if hasattr(var, "aval") else (var, ())


def _live(jaxpr: Any) -> list[Any]:
    """The equations that something is made of in the end."""
    wanted = {var for var in jaxpr.outvars if not hasattr(var, "val")}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            kept.append(equation)
            wanted.update(var for var in equation.invars if not hasattr(var, "val"))
    return kept[::-1]


def _small(equation: Any, given: Sequence[Value]) -> bool:
    """Whether the result is of known size, and no larger than what it is made of, or small anyway."""
    shapes = [var.aval.shape for var in equation.outvars]
    if not all(isinstance(dim, (int, np.integer)) for shape in shapes for dim in shape):
        return False
    if any("DimExpr" in type(value).__name__ for value in _flat(equation.params.values())):
        return False
    made = sum(int(np.prod(shape)) for shape in shapes)
    return made <= max(MAX_FOLDED, *(np.size(value) for value in given), 0)


def _flat(values: Any) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        flat += _flat(value) if isinstance(value, (tuple, list)) else [value]
    return flat


def _plain(value: Any) -> Value:
    """An array of NumPy's; keys of random numbers stay as they are, since nothing but JAX takes them."""
    return value if str(value.dtype).startswith("key<") else np.asarray(value)
