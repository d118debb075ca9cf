"""Any ONNX model to the form that bundles hold: opset up to 21, IR up to 10, standard operators, one file.

Changes the wrapping only; that the answers stay the same is proven afterwards, by running both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from ..errors import InputError, Unsupported
from ..tensors import DTYPES_OF_ONNX, Signature, TensorSpec

MAX_OPSET = 21
MAX_IR = 10
"""What the oldest of the runtimes in use (browsers, phones) take."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})

MAX_NAMED = 3
"""Operators, and nodes of each, that a refusal names."""
EXPORT_AGAIN = "export it again: onnx.checker.check_model says what is wrong where it was exported"


def canonical(model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """The model within the limits above, and notes on what was changed; `model` stays as it is.

    Raises:
        InputError: not a valid model.
        Unsupported: operators of an unknown domain, an opset that cannot be converted, or inputs and
            outputs that are not tensors.
    """
    refuse_domains(model)
    check(model)
    notes: list[str] = []
    own = ModelProto()
    own.CopyFrom(model)
    if own.functions:
        own = onnx.inliner.inline_local_functions(own)
    refuse_domains(own)
    _drop_initializer_inputs(own, notes)
    _refuse_non_tensors(own)
    own = _convert_opset(own, notes)
    least = max(4, helper.find_min_ir_version_for(list(own.opset_import), ignore_unknown=True))
    wanted = min(max(own.ir_version, least), MAX_IR)
    if wanted != own.ir_version:
        notes.append(f"IR version {own.ir_version} became {wanted}")
        own.ir_version = wanted
    check(own)
    return own, tuple(notes)


def check(model: ModelProto) -> None:
    """onnx's own checker.

    Raises:
        InputError: the model is not valid; the message is the checker's, cut short.
    """
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as problem:
        said = " ".join(str(problem).split())[:300] or type(problem).__name__
        raise InputError(f"not a valid ONNX model: {said}", hint=EXPORT_AGAIN) from problem


def opset_of(model: ModelProto) -> int:
    """The version of the standard operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def refuse_domains(model: ModelProto) -> None:
    """Raises Unsupported if operators are not ones that the runtimes have, naming them and their nodes."""
    own = {(function.domain, function.name) for function in model.functions}
    strange: dict[tuple[str, str], list[str]] = {}
    for node in nodes_of(model):
        key = (node.domain, node.op_type)
        standard = node.domain in ("", "ai.onnx")
        known = onnx.defs.has(node.op_type, "") if standard else node.domain in DOMAINS
        if key not in own and not known:
            strange.setdefault(key, []).append(node.name or f"that makes {', '.join(node.output)}")
    if not strange:
        return
    said = [
        f"{operator!r} of the domain {domain or 'ai.onnx'!r} ({_counted(names)})"
        for (domain, operator), names in strange.items()
    ]
    more = f", and {len(said) - MAX_NAMED} other operators" if len(said) > MAX_NAMED else ""
    raise Unsupported(
        f"the operator {', '.join(said[:MAX_NAMED])}{more} is not part of ONNX",
        hint="export the network without it: from standard operators, or with the operator as a function of "
        f"the model; known domains: {', '.join(sorted(d for d in DOMAINS if d))}",
    )


def _counted(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    count = f"{len(names)} nodes: " if len(names) > 1 else "node "
    return count + shown + (", …" if len(names) > MAX_NAMED else "")


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Every node, also those of subgraphs and local functions."""
    yield from _nodes(model.graph)
    for function in model.functions:
        for node in function.node:
            yield node
            yield from _nodes_inside(node)


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor that may hold data: initializers and attributes, also of subgraphs."""
    graphs = [model.graph]
    for node in nodes_of(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += attribute.graphs
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def signature_of(model: ModelProto) -> Signature:
    """Inputs and outputs; a dimension without a name or size is called after its tensor and axis."""
    return Signature(
        tuple(_spec(value) for value in model.graph.input),
        tuple(_spec(value) for value in model.graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        known = dim.HasField("dim_value") and dim.dim_value > 0
        shape.append(dim.dim_value if known else (dim.dim_param or f"{value.name}.{axis}"))
    return TensorSpec(value.name, DTYPES_OF_ONNX[tensor.elem_type], tuple(shape))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        yield from _nodes_inside(node)


def _nodes_inside(node: NodeProto) -> Iterator[NodeProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _nodes(attribute.g)
        for graph in attribute.graphs:
            yield from _nodes(graph)


def _drop_initializer_inputs(model: ModelProto, notes: list[str]) -> None:
    """Weights listed as inputs, as training exports leave them: a caller cannot be asked for them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    dropped = len(model.graph.input) - len(inputs)
    if dropped:
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        notes.append(f"{dropped} weights were listed as inputs and no longer are")


def _refuse_non_tensors(model: ModelProto) -> None:
    if not model.graph.input or not model.graph.output:
        raise Unsupported("the network has no inputs or no outputs")
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            makers = [node.op_type for node in model.graph.node if value.name in node.output]
            raise Unsupported(
                f"{value.name!r} is a {(kind or 'value without a type').removesuffix('_type')}, not a tensor"
                + (f"; the operator {makers[0]!r} makes it" if makers else ""),
                hint="export the network with tensors as its inputs and outputs",
            )
        if value.type.tensor_type.elem_type not in DTYPES_OF_ONNX:
            name = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            raise Unsupported(f"{value.name!r} has the datatype {name}", hint="cast it inside the network")


def _convert_opset(model: ModelProto, notes: list[str]) -> ModelProto:
    """The model at `MAX_OPSET` or below; what is older stays (see `opsets.upgraded`).

    Raises:
        Unsupported: onnx's converter cannot bring it there, and its operators do not mean the same there.
    """
    opset = opset_of(model)
    if opset <= MAX_OPSET:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, MAX_OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as problem:
        missing = _not_there(model, MAX_OPSET)
        if missing:
            reason = f"{missing}; onnx's converter: {' '.join(str(problem).split())[-200:]}"
            raise Unsupported(
                f"opset {opset} cannot be brought to {MAX_OPSET}: {reason}",
                hint="export the network again with opset_version=18",
            ) from problem
        converted = ModelProto()
        converted.CopyFrom(model)
        for entry in converted.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = MAX_OPSET
    notes.append(f"opset {opset} became {MAX_OPSET}")
    return converted


def _not_there(model: ModelProto, opset: int) -> str:
    """The first operator that is not written in this opset as it is here; empty where all are."""
    for node in nodes_of(model):
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, "")
        except onnx.defs.SchemaError:
            return f"opset {opset} has no operator {node.op_type!r} (node {node.name or '-'})"
        strange = [attribute.name for attribute in node.attribute if attribute.name not in schema.attributes]
        if strange or not schema.min_input <= len(node.input) <= schema.max_input:
            what = f"no attribute {strange[0]!r}" if strange else f"no form with {len(node.input)} inputs"
            return f"{node.op_type!r} (node {node.name or '-'}) has {what} in opset {opset}"
    return ""


def rename(model: ModelProto, old: Sequence[str], new: Sequence[str]) -> ModelProto:
    """The model with the values `old` called `new`; `model` is changed and given back.

    An inner value that has one of the new names already is moved out of the way.

    Raises:
        Unsupported: two of them would have one name.
    """
    graph = model.graph
    if len(set(new)) != len(new):
        raise Unsupported(f"two inputs or outputs have the same name: {', '.join(new)}")
    names = dict(zip(old, new, strict=True))
    taken = {name for node in _nodes(graph) for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    for name in set(new) & taken - set(old):
        names[name] = f"{name}.inner"
    for node in _nodes(graph):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    return model
