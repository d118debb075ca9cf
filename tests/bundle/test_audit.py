"""What a graph may not do, wherever in it that is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.bundle import audit
from modelport.bundle.audit import MAX_DEPTH, audit_onnx
from modelport.errors import BundleError


def refusal(model: onnx.ModelProto | bytes) -> str:
    with pytest.raises(BundleError) as caught:
        audit_onnx(model if isinstance(model, bytes) else model.SerializeToString(), "net.onnx")
    assert (caught.value.at or "").startswith("net.onnx")
    return str(caught.value)


def graph(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto] | None = None) -> onnx.GraphProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    return helper.make_graph(nodes, "g", [x], [y], initializer=initializers or [])


def model(nodes: list[onnx.NodeProto], **more: Any) -> onnx.ModelProto:
    initializers = more.pop("initializers", None)
    return helper.make_model(
        graph(nodes, initializers), opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **more
    )


def node(op: str = "Relu", domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["x"], ["y"], name="here", domain=domain, **attributes)


def branch(inner: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph([node()]))


def function(name: str, nodes: list[onnx.NodeProto], domain: str = "local") -> onnx.FunctionProto:
    return helper.make_function(domain, name, ["x"], ["y"], nodes, [helper.make_opsetid("", 18)])


def test_graphs_that_are_fine(tiny_files: dict[str, bytes]) -> None:
    for name in ("pre.onnx", "net.onnx", "post.onnx"):
        audit_onnx(tiny_files[name], name)


@pytest.mark.parametrize(
    ("op", "domain"),
    [("Relu", ""), ("Relu", "ai.onnx"), ("Scaler", "ai.onnx.ml"), ("FusedConv", "com.microsoft")],
)
def test_domains_that_are_known(op: str, domain: str) -> None:
    audit_onnx(model([node(op, domain)]).SerializeToString(), "net.onnx")


def test_a_local_function_may_be_of_any_domain() -> None:
    made = model(
        [node("Outer", "local"), branch(graph([node("Inner", "pkg.torch")]))],
        functions=[function("Outer", [node("Inner", "pkg.torch")]), function("Inner", [node()], "pkg.torch")],
    )
    audit_onnx(made.SerializeToString(), "net.onnx")


def test_an_operator_set_that_nothing_uses_is_fine() -> None:
    made = model([node()])
    made.opset_import.append(helper.make_opsetid("pkg.onnxscript.torch_lib", 1))
    audit_onnx(made.SerializeToString(), "net.onnx")


# External data, wherever a tensor can stand


def outside(location: str = "../../etc/passwd", *, marked: bool = True) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    if marked:
        tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse(values: onnx.TensorProto, indices: onnx.TensorProto) -> onnx.SparseTensorProto:
    made = onnx.SparseTensorProto(dims=[4])
    made.values.CopyFrom(values)
    made.indices.CopyFrom(indices)
    return made


def attribute(**fields: Any) -> onnx.NodeProto:
    made = node()
    made.attribute.append(onnx.AttributeProto(name="a", **fields))
    return made


def with_sparse_initializer(values: onnx.TensorProto, indices: onnx.TensorProto) -> onnx.ModelProto:
    made = model([node()])
    made.graph.sparse_initializer.append(sparse(values, indices))
    return made


def with_default(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = function("F", [node()])
    made.attribute_proto.append(onnx.AttributeProto(name="a", t=tensor))
    return model([node("F", "local")], functions=[made])


def with_training(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model([node()])
    made.training_info.add().algorithm.initializer.append(tensor)
    return made


def with_subgraphs(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return model([branch(graph([branch(graph([node()], [tensor]))]))])


INSIDE = numpy_helper.from_array(np.zeros(4, np.int64), "i")
PLACES: dict[str, Callable[[onnx.TensorProto], onnx.ModelProto]] = {
    "an initializer": lambda t: model([node()], initializers=[t]),
    "a sparse initializer's values": lambda t: with_sparse_initializer(t, INSIDE),
    "a sparse initializer's indices": lambda t: with_sparse_initializer(INSIDE, t),
    "an attribute": lambda t: model([node("Constant", value=t)]),
    "a list in an attribute": lambda t: model([attribute(tensors=[t])]),
    "a sparse attribute": lambda t: model([attribute(sparse_tensor=sparse(t, INSIDE))]),
    "a list of sparse attributes": lambda t: model([attribute(sparse_tensors=[sparse(INSIDE, t)])]),
    "a subgraph": lambda t: model([branch(graph([node()], [t]))]),
    "a subgraph of a subgraph": with_subgraphs,
    "a list of subgraphs": lambda t: model([attribute(graphs=[graph([node()], [t])])]),
    "a function": lambda t: model(
        [node("F", "local")], functions=[function("F", [node("Constant", value=t)])]
    ),
    "a function that nobody calls": lambda t: model(
        [node()], functions=[function("F", [node("Constant", value=t)])]
    ),
    "a function's default": with_default,
    "training information": with_training,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["../../etc/passwd", "weights.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_data_outside_the_graph(place: str, location: str) -> None:
    message = refusal(PLACES[place](outside(location)))
    assert f"the tensor 'w' is kept outside the graph, in {location!r}" in message
    assert "save_as_external_data=False" in message


@pytest.mark.parametrize("place", PLACES)
def test_the_same_tensor_inside_is_fine(place: str) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    audit_onnx(PLACES[place](tensor).SerializeToString(), "net.onnx")


def test_a_location_that_is_named_but_not_marked() -> None:
    assert "kept outside the graph" in refusal(PLACES["an initializer"](outside(marked=False)))


def test_a_mark_without_a_location() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    assert "kept outside the graph, in ''" in refusal(PLACES["an initializer"](tensor))


def paths_to(message: Any, wanted: str, seen: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every way of fields from a message type to another, no type visited twice."""
    if message.full_name == wanted:
        return {()}
    if message.full_name in seen:
        return set()
    return {
        (field.name, *rest)
        for field in message.fields
        if field.message_type is not None
        for rest in paths_to(field.message_type, wanted, (*seen, message.full_name))
    }


def test_no_place_for_a_tensor_is_forgotten() -> None:
    """The audit follows whatever fields this ONNX has, so a tensor is found at the end of each of them."""
    ways = paths_to(onnx.ModelProto.DESCRIPTOR, "onnx.TensorProto")
    assert ("graph", "initializer") in ways
    assert len(ways) > 20
    for way in ways:
        made = model([node()])
        place: Any = made
        for name in way:
            field = getattr(place, name)
            place = field.add() if hasattr(field, "add") else field
        place.CopyFrom(outside())
        assert "kept outside the graph" in refusal(made), way


# Operators


@pytest.mark.parametrize("domain", ["evil", "ai.onnx.contrib", "org.pytorch.aten", "ai.onnx ", "local"])
def test_a_domain_that_nobody_knows(domain: str) -> None:
    for made in (
        model([node("Run", domain)]),
        model([branch(graph([node("Run", domain)]))]),
        model([node()], functions=[function("F", [node("Run", domain)])]),
    ):
        message = refusal(made)
        assert f"the operator 'Run' is from the unknown domain {domain!r}" in message
        assert "Run here" in message
        assert "known: '', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft'" in message


def test_another_function_of_that_domain_does_not_help() -> None:
    made = model([node("Run", "local")], functions=[function("Other", [node()])])
    assert "the operator 'Run' is from the unknown domain 'local'" in refusal(made)


@pytest.mark.parametrize("op", ["EPContext", "PythonOp", "PythonOpGrad", "TritonOp", "Snpe"])
def test_an_operator_that_leaves_the_graph(op: str) -> None:
    called_so = [function(op, [node()], "com.microsoft")]
    for made in (model([node(op, "com.microsoft")]), model([node(op, "com.microsoft")], functions=called_so)):
        assert f"the operator {op!r} runs what is not in the graph" in refusal(made)


# Shapes of the message itself


def nested(depth: int) -> onnx.ModelProto:
    inner = graph([node()])
    for _ in range(depth - 1):
        inner = graph([branch(inner)])
    made = model([node()])
    made.graph.CopyFrom(inner)
    return made


def test_graphs_in_graphs() -> None:
    audit_onnx(nested(MAX_DEPTH).SerializeToString(), "net.onnx")
    assert f"graphs nested more than {MAX_DEPTH} deep" in refusal(nested(MAX_DEPTH + 1))


def test_nesting_that_the_parser_refuses() -> None:
    data = graph([node()]).SerializeToString()
    for _ in range(2000):  # one attribute graph within another, as bytes
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            data = tag + varint(len(data)) + data
    raw = model([node()]).SerializeToString() + b"\x3a" + varint(len(data)) + data
    assert "not an ONNX model" in refusal(raw)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_a_function_that_calls_itself() -> None:
    made = model([node("F", "local")], functions=[function("F", [node("F", "local")])])
    assert "local functions call themselves: F > F" in refusal(made)


def test_functions_that_call_each_other() -> None:
    made = model(
        [node()],
        functions=[
            function("F", [branch(graph([node("G", "local")]))]),
            function("G", [node("F", "local")]),
        ],
    )
    assert "local functions call themselves: " in refusal(made)


def laughs(levels: int) -> onnx.ModelProto:
    """Each function calls the one below ten times."""
    functions = [function("F0", [node()])]
    for level in range(1, levels):
        functions.append(function(f"F{level}", [node(f"F{level - 1}", "local")] * 10))
    return model([node(f"F{levels - 1}", "local")], functions=functions)


def test_functions_that_unfold_without_end() -> None:
    audit_onnx(laughs(5).SerializeToString(), "net.onnx")
    assert "the graph unfolds to more than 5000000 nodes" in refusal(laughs(40))


def test_two_functions_of_one_name() -> None:
    made = model([node()], functions=[function("F", [node()]), function("F", [node("Abs")])])
    assert "two local functions have one name" in refusal(made)


# Bytes that are something else


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x00" * 100,
        b"\x80\x02}q\x00.",  # a pickle
        b"PK\x03\x04" + bytes(26),
        b"\x08\x08",  # an IR version and nothing else
        onnx.ModelProto(ir_version=8).SerializeToString(),
        onnx.GraphProto(name="g").SerializeToString(),
        graph([node()]).SerializeToString(),
    ],
)
def test_bytes_that_are_no_model(data: bytes) -> None:
    assert "not an ONNX model" in refusal(data)
    assert "the file is damaged, or of another format" in refusal(data)


@pytest.mark.parametrize("missing", ["ir_version", "opset_import", "graph"])
def test_a_model_without_what_every_model_has(missing: str) -> None:
    made = model([node()])
    made.ClearField(missing)
    assert "not an ONNX model: no IR version, operator set or graph" in refusal(made)


def test_every_truncation_that_parses_is_judged(tiny_files: dict[str, bytes]) -> None:
    data = tiny_files["net.onnx"]
    for length in range(len(data)):
        try:
            audit_onnx(data[:length], "net.onnx")
        except BundleError as problem:
            assert "not an ONNX model" in str(problem)  # noqa: PT017 (some are whole models)


def test_two_formats_in_one_file() -> None:
    """A model to ONNX and an `.ort` file to ONNX Runtime, which looks at bytes 4 to 8."""
    made = model([node()]).SerializeToString()
    both = b"\x12\x06\x00\x00ORTM"  # field 2, the producer's name, of six bytes
    assert onnx.ModelProto.FromString(both + made).graph.node
    message = refusal(both + made)
    assert "an ONNX Runtime (.ort) file" in message
    assert "pack the .onnx that it was made from" in message


def test_a_file_too_large_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_ONNX_BYTES", 10)
    assert "11 bytes; an ONNX file is at most 10" in refusal(bytes(11))
