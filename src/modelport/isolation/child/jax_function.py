"""A function or network of JAX, Flax or Equinox, to ONNX. The reference is `jax.jit` of it.

A file with one is code and is run: in this confined process, and with the user's trust only.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import jaxpr_contractions, jaxpr_control, jaxpr_pointwise, jaxpr_shapes
from .converter import NotConverted, Refused, Unclear
from .frames import Array
from .jaxpr import Graph, Shared, model

HANDLERS = (
    jaxpr_pointwise.HANDLERS | jaxpr_shapes.HANDLERS | jaxpr_contractions.HANDLERS | jaxpr_control.HANDLERS
)
INPUTS = "--input x:float32[batch,28,28,1], one for each argument"
SYMBOLIC = 2
"""In place of an open size where a function cannot be traced with one."""

Spec = dict[str, Any]


class Converter:
    """Opens one function."""

    def __init__(self) -> None:
        self.call: Callable[..., Any] = lambda *given: given
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.dtypes: list[Any] = []

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            path, name = Path(str(fields["path"])), str(fields.get("builder", ""))
            return self.open(_named(path, name), list(fields.get("inputs", ())))
        return {}, self.run(arrays)

    def open(self, source: Any, inputs: Sequence[Spec]) -> tuple[dict[str, Any], dict[str, Array]]:
        """What it is (JSON), and the network as uint8[bytes].

        Args:
            source: a function of arrays, or a network that is called like one.
            inputs: name, dtype and shape of each argument.

        Raises:
            NotConverted: a primitive has no form in ONNX. Unclear: it does not say what it takes.
        """
        import jax

        function, about = _function(jax, source)
        specs = _specs(function, inputs)
        closed, tree, note = _traced(jax, function, specs)
        shared = Shared(HANDLERS, _where(jax))
        graph = Graph(shared)
        self.inputs = [spec["name"] for spec in specs]
        self.dtypes = [var.aval.dtype for var in closed.jaxpr.invars]
        _sizes(graph, closed.jaxpr.invars, self.inputs)
        made = graph.convert(closed.jaxpr, closed.consts, list(self.inputs))
        self.outputs = _outputs(jax, tree, self.inputs)
        for name, value in zip(self.outputs, made, strict=True):
            graph.nodes.append(_identity(graph, value, name))
        onnx = model(
            graph,
            [
                (name, var.aval.dtype, var.aval.shape)
                for name, var in zip(self.inputs, closed.jaxpr.invars, strict=True)
            ],
            [
                (name, var.aval.dtype, var.aval.shape)
                for name, var in zip(self.outputs, closed.jaxpr.outvars, strict=True)
            ],
        )
        # Networks need not have a hash, which jit asks of what it compiles.
        self.call = jax.jit(lambda *given: function(*given))
        notes = [note] if note else []
        if shared.drew:
            notes.append(
                "the function draws random numbers; they are drawn once and kept: is it in training mode?"
            )
        return {"framework": f"jax {jax.__version__}{about}", "kind": "jax", "notes": notes}, {"onnx": onnx}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """The outputs for a batch, compiled by XLA."""
        import jax

        given = [
            np.asarray(arrays[name], dtype) for name, dtype in zip(self.inputs, self.dtypes, strict=True)
        ]
        made = jax.tree_util.tree_leaves(self.call(*given))
        return {name: np.asarray(each) for name, each in zip(self.outputs, made, strict=True)}


def _named(path: Path, name: str) -> Any:
    """What a file calls by a name; the file is run."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"_packed_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Refused(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise Refused(f"{path.name} does not run: {type(problem).__name__}: {problem}") from problem
    found = vars(module).get(name)
    if found is None:
        own = (key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        local = [key for key in own if getattr(vars(module)[key], "__module__", "") == spec.name]
        raise Unclear(
            f"{path.name} has nothing called {name!r}" if name else f"which function of {path.name}?",
            f"--class {path.name}:NAME; it has {', '.join(local) or 'no functions of its own'}",
        )
    return found


def _function(jax: Any, source: Any) -> tuple[Callable[..., Any], str]:
    """A pure function of arrays, and what it comes from."""
    if isinstance(source, type) or (inspect.isfunction(source) and not inspect.signature(source).parameters):
        source = source()  # it makes the network
    kinds = {kind.__module__.split(".")[0] for kind in type(source).__mro__}
    if "flax" in kinds:
        import flax

        about = f", flax {flax.__version__}"
        if any(kind.__module__.startswith("flax.nnx") for kind in type(source).__mro__):
            from flax import nnx

            source.eval()
            definition, state = nnx.split(source)

            def merged(*given: Any) -> Any:
                return nnx.merge(definition, state, copy=True)(*given)

            merged.__signature__ = inspect.signature(source.__call__)  # type: ignore[attr-defined]
            return merged, about
        return source, about
    if "equinox" in kinds:
        import equinox

        return equinox.nn.inference_mode(source), f", equinox {equinox.__version__}"
    if not callable(source):
        raise Unclear(f"it is a {type(source).__name__}, no function of arrays and no network", INPUTS)
    return source, ""


def _specs(function: Callable[..., Any], inputs: Sequence[Spec]) -> list[Spec]:
    """The arguments in order, by the user's names for them."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [each.name for each in parameters if each.kind in plain]
    if not inputs:
        shown = f" ({', '.join(names)})" if names else ""
        raise Unclear(f"a function of JAX does not say which shapes it takes{shown}", INPUTS)
    told = {spec["name"]: spec for spec in inputs}
    if set(told) <= set(names):
        return [told[name] for name in names if name in told]
    return list(inputs)


def _traced(jax: Any, function: Callable[..., Any], specs: Sequence[Spec]) -> tuple[Any, Any, str]:
    """The jaxpr, the tree of what comes out, and a note where open sizes were given up."""
    names = sorted({dim for spec in specs for dim in spec["shape"] if isinstance(dim, str)})
    sizes: dict[str, Any] = {}
    if names:
        sizes = dict(zip(names, jax.export.symbolic_shape(", ".join(names)), strict=True))
    try:
        return (*_jaxpr(jax, function, specs, sizes), "")
    except NotConverted:
        raise
    except Exception as problem:
        if not names:
            raise NotConverted(f"JAX cannot trace it: {_first(problem)}", INPUTS) from problem
        reason = _first(problem)
    try:
        made = _jaxpr(jax, function, specs, dict.fromkeys(names, SYMBOLIC))
    except Exception as problem:
        raise NotConverted(f"JAX cannot trace it: {_first(problem)}", INPUTS) from problem
    return (*made, f"traced with {SYMBOLIC} in place of {', '.join(names)}, because of {reason}")


def _jaxpr(jax: Any, function: Callable[..., Any], specs: Sequence[Spec], sizes: dict[str, Any]) -> Any:
    structs = [
        jax.ShapeDtypeStruct(tuple(sizes.get(dim, dim) for dim in spec["shape"]), np.dtype(spec["dtype"]))
        for spec in specs
    ]
    return jax.make_jaxpr(function, return_shape=True)(*structs)


def _sizes(graph: Graph, variables: Sequence[Any], names: Sequence[str]) -> None:
    """Where each open size can be read from."""
    for name, var in zip(names, variables, strict=True):
        for axis, dim in enumerate(var.aval.shape):
            if not isinstance(dim, int) and str(dim) not in graph.shared.sizes:
                graph.shared.sizes[str(dim)] = graph.op("Shape", name, start=axis, end=axis + 1)


def _outputs(jax: Any, tree: Any, inputs: Sequence[str]) -> list[str]:
    """Names from the keys of what comes out: `scores`, `output`, `output_1`."""
    names: list[str] = []
    for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        keys = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path]
        text = "_".join(keys)
        name = text if text and not text[0].isdigit() else "_".join(["output", *keys])
        while name in (*names, *inputs):
            name += "_"
        names.append(name)
    return names


def _identity(graph: Graph, value: Any, name: str) -> Any:
    from onnx import helper

    return helper.make_node("Identity", [graph.name(value)], [name], name=f"to_{name}")


def _where(jax: Any) -> Callable[[Any], str]:
    def where(equation: Any) -> str:
        from jax._src import source_info_util

        try:
            text = str(source_info_util.summarize(equation.source_info))
        except Exception:  # noqa: BLE001  # a help for people, of a module that is not public
            return ""
        return f" ({text.rpartition('/')[2]})" if text else ""

    return where


def _first(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0][:300]}" if lines else type(problem).__name__
