"""What an ONNX graph would make a runtime do, judged before a runtime sees it.

ONNX itself runs no code, but a graph may name other files to read and operators that load a library or
run Python. Whether it is a good graph is for the runtime to say; whether it is confined is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from ..errors import BundleError
from .manifest import Option

if TYPE_CHECKING:
    import onnx

    OperatorKey = tuple[str, str, str]

MAX_ONNX_BYTES = (1 << 31) - 1
"""Protocol Buffers hold no more in one message."""
MAX_DEPTH = 16
"""Graphs within graphs, the outermost counted; a loop within a branch is 3."""
MAX_NODES = 5_000_000
"""Nodes of a graph once every call of a local function is replaced by the function's body."""

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# Known to ONNX Runtime, and each a way out of the graph: files beside it, device binaries, Python.
_LEAVES_THE_GRAPH = frozenset(
    ("com.microsoft", name) for name in ("EPContext", "PythonOp", "PythonOpGrad", "Snpe", "TritonOp")
)


def audit_onnx(data: bytes, name: str) -> None:
    """Refuse a graph that is not ONNX, or that would reach beyond its own bytes; None where it is fine.

    Raises:
        BundleError: over `MAX_ONNX_BYTES`; not a readable ONNX model; external data, wherever it stands; an
            operator outside `DOMAINS` that is no function of the model, or one that leaves the graph;
            subgraphs deeper than `MAX_DEPTH`; functions that call themselves or unfold to more than
            `MAX_NODES`. `at` is `name` and the place in the graph.
    """
    model = _parse(data, name)
    functions = {_key(function): function for function in model.functions}
    if len(functions) != len(model.functions):
        raise BundleError("two local functions have one name", at=name)
    _check_unfolded(
        {
            owner: _audit_part(part, functions.keys(), name)
            for owner, part in [(None, model), *functions.items()]
        },
        name,
    )


def audit_options(data: bytes, name: str, options: Sequence[Option]) -> None:
    """Refuse a graph whose inputs with initializers are not exactly `options`, scalars with their defaults.

    Raises:
        BundleError: one is missing or not expected, no scalar of its datatype, or has another default.
    """
    from onnx import numpy_helper

    graph = _parse(data, name).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    offered = [value.name for value in graph.input if value.name in values]
    expected = {option.name: option for option in options}
    if sorted(offered) != sorted(expected):
        raise BundleError(
            f"the manifest's options are {', '.join(expected) or 'none'}; inputs with a default are "
            f"{', '.join(offered) or 'none'}",
            at=name,
        )
    for own, option in expected.items():
        array = numpy_helper.to_array(values[own])
        if array.shape or array.dtype != option.dtype or array.item() != array.dtype.type(option.default):
            raise BundleError(
                f"the option {own!r} is {option.dtype} {option.default}; the graph has {array.dtype} "
                f"{array.tolist()}",
                at=name,
            )


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MAX_ONNX_BYTES:
        raise BundleError(f"{len(data)} bytes; an ONNX file is at most {MAX_ONNX_BYTES}", at=name)
    if data[4:8] == b"ORTM":
        # ONNX Runtime would take these bytes for its own format, whatever they are as ONNX.
        raise BundleError("an ONNX Runtime (.ort) file", at=name, hint="pack the .onnx that it was made from")
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as problem:
        raise BundleError(
            f"not an ONNX model: {problem}", at=name, hint="the file is damaged, or of another format"
        ) from problem
    # Nearly any short run of bytes is a valid message of fields that nobody knows.
    if model.ir_version < 1 or not model.opset_import or not model.HasField("graph"):
        raise BundleError(
            "not an ONNX model: no IR version, operator set or graph",
            at=name,
            hint="the file is damaged, or of another format",
        )
    return model


def _audit_part(part: Any, functions: Collection[OperatorKey], name: str) -> Counter[OperatorKey | None]:
    """Judge every message in a model (its functions aside) or in one function.

    Every field of every message is followed, whatever it is called, so that a place for tensors or nodes
    that a later version of ONNX adds is judged too. Gives how often each local function is called, and
    under None the number of other nodes.
    """
    import onnx

    counts: Counter[OperatorKey | None] = Counter()
    # (message, where it is, graphs around it)
    todo: list[tuple[Any, str, int]] = [(part, name, 0)]
    while todo:
        message, at, depth = todo.pop()
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message, at)
            continue
        if isinstance(message, onnx.NodeProto):
            at = f"{at}: {message.op_type} {message.name}".rstrip()
            key = message.domain, message.op_type, message.overload
            counts[key if key in functions else None] += 1
            _check_operator(message, at, local=key in functions)
        elif isinstance(message, onnx.GraphProto):
            depth += 1
            if depth > MAX_DEPTH:
                raise BundleError(f"graphs nested more than {MAX_DEPTH} deep", at=at)
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE and not (message is part and field.name == "functions"):
                below = [value] if hasattr(value, "ListFields") else value
                todo.extend((one, at, depth) for one in below)
    return counts


def _check_tensor(tensor: onnx.TensorProto, at: str) -> None:
    if tensor.external_data or tensor.data_location != tensor.DEFAULT:
        place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        raise BundleError(
            f"the tensor {tensor.name!r} is kept outside the graph, in {place!r}",
            at=at,
            hint="save it with its weights inside: onnx.save(model, path, save_as_external_data=False)",
        )


def _check_operator(node: onnx.NodeProto, at: str, local: bool) -> None:
    # Asked first: whether a runtime prefers its own operator to a function of that name is its affair.
    if (node.domain, node.op_type) in _LEAVES_THE_GRAPH:
        raise BundleError(
            f"the operator {node.op_type!r} runs what is not in the graph",
            at=at,
            hint="export the model without a device's precompiled parts",
        )
    if not local and node.domain not in DOMAINS:
        raise BundleError(
            f"the operator {node.op_type!r} is from the unknown domain {node.domain!r}",
            at=at,
            hint=f"known: {', '.join(repr(domain) for domain in DOMAINS)}, and functions of the model itself",
        )


def _check_unfolded(counts: Mapping[OperatorKey | None, Counter[OperatorKey | None]], name: str) -> None:
    """A runtime replaces calls by bodies, so a few functions can stand for more nodes than fit anywhere."""
    try:
        callees = {owner: count.keys() - {None} for owner, count in counts.items()}
        order = tuple(TopologicalSorter(callees).static_order())
    except CycleError as problem:
        names = " > ".join(key[1] for key in problem.args[1])
        raise BundleError(f"local functions call themselves: {names}", at=name) from problem
    sizes: dict[OperatorKey | None, int] = {}
    for owner in order:
        count = counts[owner]
        sizes[owner] = sum(times * (sizes[callee] if callee else 1) for callee, times in count.items())
        if sizes[owner] > MAX_NODES:
            raise BundleError(f"the graph unfolds to more than {MAX_NODES} nodes", at=name)


def _key(function: onnx.FunctionProto) -> OperatorKey:
    return function.domain, function.name, function.overload
