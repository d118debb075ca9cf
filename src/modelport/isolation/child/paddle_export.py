"""A program of PaddlePaddle through paddle2onnx, with what that reads wrongly put right before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .converter import NotConverted, Refused
from .paddle_params import PROGRAM, operations, program_of

OPSET = 17
BUILT_IN = ("p", "data", "feed", "fetch", "if", "while", "yield", "print", "combine", "slice", "split")
DOUBLE, SINGLE = "0.a_f64", "0.a_f32"
TENSOR = "0.t_dtensor"


def export(paddle: Any, program: Path, weights: Path | None) -> Any:
    """The ONNX model as paddle2onnx's native part makes it, unoptimised.

    Raises:
        NotConverted: an operator that paddle2onnx does not take as it is used.
    """
    import onnx
    from paddle2onnx import paddle2onnx_cpp2py_export as native

    flags: tuple[Any, ...] = (OPSET, True, False, True, True, True, {}, "onnxruntime", "", "", False)
    try:
        if weights is not None and not is_pir(program.read_bytes()):
            program, weights = _translated(paddle, program, weights)
        data = native.export(str(_rewritten(program)), str(weights or ""), *flags)
    except Exception as problem:
        raise NotConverted(f"paddle2onnx does not convert it: {reason_of(problem)}") from problem
    model = onnx.load_model_from_string(data)
    _plain_constants(model.graph)
    used = {name for node in _nodes(model.graph) for name in node.input}
    used |= {value.name for value in model.graph.output}
    kept = [copied(tensor) for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def is_pir(text: bytes) -> bool:
    """Whether a program is of the present kind, JSON."""
    return text.lstrip()[:1] == b"{"


def lacking(name: str, text: bytes) -> NotConverted:
    """What to say if paddle2onnx aborts, which it does on operators that it does not know."""
    from paddle2onnx import paddle2onnx_cpp2py_export as native

    if is_pir(text):
        used = {_plain(operation) for operation in operations(program_of(name, text))}
        known = {*native.get_all_supported_operators_pir(), *BUILT_IN, *RENAMED.split()}
    else:
        used = {operator.type for block in description(name, text).blocks for operator in block.ops}
        known = {*native.get_all_supported_operators(), *BUILT_IN}
    without = sorted(each for each in used if each not in known and each.rstrip("_") not in known)
    why = f"operators that it has no rule for: {', '.join(without)}"
    if not without:
        used -= {*BUILT_IN, "full", "full_int_array"} - {"if", "while"}
        why = f"one of its operators is used in a way that it has no rule for: {', '.join(sorted(used)[:12])}"
    return NotConverted(
        f"paddle2onnx does not convert {name}; {why}",
        "build the network without them, or leave them out of what is saved (paddle.jit.save of a part)",
    )


RENAMED = (
    "add subtract multiply divide floor_divide remainder minimum maximum mean sum max min prod any all "
    "matmul topk expand unsqueeze flatten arange argmax argmin nonzero hardsigmoid hardswish grid_sample"
)
"""Operators that paddle2onnx knows by an older name."""


def inexact(name: str, text: bytes) -> list[str]:
    """A note on the operators that paddle2onnx is known to convert into something else."""
    if not is_pir(text):
        return []
    found = set()
    sizes: dict[int, list[int]] = {}
    for operation in operations(program_of(name, text)):
        kind = _plain(operation)
        settings: dict[str, Any] = {}
        for each in operation.get("A", ()):
            settings |= {each["N"]: each["AT"].get("D")} if isinstance(each, dict) else {}
        made = operation["O"] if isinstance(operation.get("O"), list) else []
        sizes |= {each["%"]: each["TT"]["D"][1] for each in made if each.get("TT", {}).get("#") == TENSOR}
        if kind == "hardtanh" or (kind == "gelu" and settings.get("approximate")):
            found.add(kind)
        if kind == "pool2d" and settings.get("adaptive"):
            before, after = (sizes.get(operation[way][0]["%"], [])[-2:] for way in ("I", "O"))
            if any(size % count for size, count in zip(before, after, strict=False) if count > 0):
                found.add(f"adaptive pooling of {before} to {after}")
    where = ", ".join(sorted(found))
    return [f"warning: paddle2onnx makes something else of some uses of: {where}"] if found else []


def description(name: str, text: bytes) -> Any:
    """A ProgramDesc.

    Raises:
        Refused: it is cut short or damaged.
    """
    from google.protobuf.message import DecodeError
    from paddle.base.proto import framework_pb2

    try:
        return framework_pb2.ProgramDesc.FromString(text)
    except DecodeError as problem:
        raise Refused(f"{name} is cut short or damaged: {reason_of(problem)}") from problem


def reason_of(problem: BaseException) -> str:
    """What a native error says, without the hints and places around it."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith(("[", "In user code"))]
    return re.sub(r"\s*\(at /.*\)$", "", (plain or lines or [type(problem).__name__])[0])


def copied(message: Any) -> Any:
    """A copy of a protobuf message."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _plain(operation: dict[str, Any]) -> str:
    """An operation's name without its dialect's number."""
    return str(operation["#"]).rpartition(".")[2]


def _translated(paddle: Any, program: Path, weights: Path) -> tuple[Path, Path]:
    """A ProgramDesc as PaddlePaddle itself translates it to PIR, in this process's folder."""
    from paddle2onnx import load_parameter, save_program

    # It finds the weights by the program's name.
    for place, ending in ((program, "pdmodel"), (weights, "pdiparams")):
        Path(f"old.{ending}").symlink_to(place)
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.pir_utils.OldIrGuard():
        old = paddle.static.load_inference_model("old", executor)[0]
    pir = paddle.pir.translate_to_pir(old.desc)
    load_parameter(pir)
    save_program(pir, "translated")
    return Path("translated.json"), Path("translated.pdiparams")


def _rewritten(program: Path) -> Path:
    """The program with its settings in float32: paddle2onnx takes the bytes of a double for one of those,
    so that a leaky ReLU gets another slope; only `full` it reads as it is."""
    held = json.loads(program.read_bytes())
    changed = False
    for operation in operations(held[PROGRAM]):
        settings = [each["AT"] for each in operation.get("A", ()) if isinstance(each, dict)]
        if _plain(operation) == "full":
            continue
        for setting in settings:
            for number in setting["D"] if setting["#"] == "0.a_array" else [setting]:
                if number["#"] == DOUBLE:
                    number["#"] = SINGLE
                    changed = True
    if not changed:
        return program
    place = Path("rewritten.json")
    place.write_text(json.dumps(held, separators=(",", ":")))
    return place


def _plain_constants(graph: Any) -> None:
    """Constants as initializers, and no second names: what is constant in a shape is then seen to be."""
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return
    answers = {value.name for value in graph.output}
    names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in answers:
            names[node.output[0]] = node.input[0]
        elif (
            node.op_type == "Constant" and node.attribute[0].name == "value" and node.output[0] not in answers
        ):
            tensor = copied(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(copied(node))
    del graph.node[:]
    graph.node.extend(kept)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
            for inner in attribute.graphs:
                yield from _nodes(inner)
