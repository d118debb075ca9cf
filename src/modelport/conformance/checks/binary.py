"""The binary tensor data extension."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..answers import HEADER_LENGTH, Answer, read_answer, refused, refused_each
from ..http import Reply
from ..subject import Subject, binary_request, request
from ..tensors import same, to_bytes
from ..verdict import NotOffered, check, expect
from .datatypes import speaks_binary
from .infer import agrees

SOURCE = "binary extension"
OUT = {"binary_data_output": True}


def _offered(subject: Subject) -> None:
    subject.offers("binary_tensor_data", works=speaks_binary(subject))


def _came(answer: Answer, *, binary: bool) -> None:
    wrong = set(answer.outputs) - answer.binary if binary else answer.binary
    expect(not wrong, f"{sorted(wrong)} came {'as JSON' if binary else 'in binary'}")


@check("binary", "tensors in binary both ways give the answer that JSON gives", source=SOURCE)
def both_ways(subject: Subject) -> None:
    _offered(subject)
    head, data = binary_request(subject.model, parameters=OUT)
    told = read_answer(subject.infer_binary(head, data))
    _came(told, binary=True)
    agrees(told, subject.answer)


@check("binary", "binary in, JSON out where binary was not asked for", source=SOURCE)
def only_in(subject: Subject) -> None:
    _offered(subject)
    told = read_answer(subject.infer_binary(*binary_request(subject.model)))
    _came(told, binary=False)
    agrees(told, subject.answer)


@check("binary", "JSON in, binary out: binary_data_output for all outputs", source=SOURCE)
def only_out(subject: Subject) -> None:
    _offered(subject)
    told = read_answer(subject.infer(request(subject.model, parameters=OUT)))
    _came(told, binary=True)
    agrees(told, subject.answer)


@check("binary", "binary_data on an output overrides binary_data_output, both ways", source=SOURCE)
def override(subject: Subject) -> None:
    _offered(subject)
    for everywhere in (False, True):
        wanted = [
            {"name": tensor.name, "parameters": {"binary_data": not everywhere}}
            for tensor in subject.model.outputs
        ]
        body = request(subject.model, parameters={"binary_data_output": everywhere}, outputs=wanted)
        told = read_answer(subject.infer(body))
        _came(told, binary=not everywhere)
        agrees(told, subject.answer)


@check("binary", "outputs come in the order of the reply's JSON, some in binary and some not", source=SOURCE)
def mixed_outputs(subject: Subject) -> None:
    _offered(subject)
    names = [tensor.name for tensor in subject.model.outputs]
    if len(names) < 2:
        raise NotOffered("the model has one output")
    wanted = [{"name": name, "parameters": {"binary_data": name == names[0]}} for name in reversed(names)]
    told = read_answer(subject.infer(request(subject.model, outputs=wanted)))
    expect(told.binary == {names[0]}, f"in binary came {sorted(told.binary)}, wanted {names[0]!r}")
    agrees(told, subject.answer)


@check(
    "binary",
    "a binary reply says how long its JSON is, and Content-Length how long it is in all",
    source=SOURCE,
)
def lengths(subject: Subject) -> None:
    _offered(subject)
    reply = subject.infer(request(subject.model, parameters=OUT))
    told = read_answer(reply)
    head = reply.headers.get(HEADER_LENGTH.lower(), "")
    expect(head.isdigit(), f"{HEADER_LENGTH} is {head!r}")
    size = sum(len(to_bytes(array)) for array in told.outputs.values())
    expect(len(reply.body) == int(head) + size, f"{len(reply.body)} bytes, {int(head) + size} announced")
    length = reply.headers.get("content-length")
    expect(length in (None, str(len(reply.body))), f"Content-Length is {length}")
    plain = subject.answer.reply.headers
    expect(HEADER_LENGTH.lower() not in plain, f"{HEADER_LENGTH} without binary data")


@check(
    "binary",
    "header length 0: the body is the bytes of the one input of a batch of one",
    source=SOURCE,
    should=True,
)
def raw_request(subject: Subject) -> None:
    _offered(subject)
    model = subject.model
    if len(model.inputs) != 1 or not model.batched or -1 in model.inputs[0].shape[1:]:
        raise NotOffered("the model has not one input of known shape")
    row = model.given[model.inputs[0].name][:1]
    told = read_answer(subject.infer_bytes(b"", to_bytes(row), "0"))
    for name, array in subject.answer.outputs.items():
        expect(same(told.outputs[name], array[:1]), f"{name!r} differs")


@check("binary", "a tensor whose size is not that of its shape is refused", source=SOURCE)
def wrong_size(subject: Subject) -> None:
    _offered(subject)
    refused_each(_resized(subject))


def _resized(subject: Subject) -> Iterator[tuple[Reply, str]]:
    for change in (-1, 1, -4, 4):
        head, data = binary_request(subject.model)
        head["inputs"][-1]["parameters"]["binary_data_size"] += change
        data = data[:change] if change < 0 else data + b"\0" * change
        yield subject.infer_binary(head, data), f"a tensor {change:+} bytes long"


@check(
    "binary",
    "binary_data_size that is not what follows is refused: more, less, negative, huge",
    source=SOURCE,
)
def size_that_lies(subject: Subject) -> None:
    _offered(subject)
    refused_each(_lying(subject))


def _lying(subject: Subject) -> Iterator[tuple[Reply, str]]:
    for size in (-1, 0, 2**31, 2**63 - 1, 2**64, "8", 1.5):
        head, data = binary_request(subject.model)
        head["inputs"][-1]["parameters"]["binary_data_size"] = size
        yield subject.infer_binary(head, data), f"binary_data_size {size!r}"


@check("binary", "bytes after the last tensor are refused", source=SOURCE)
def left_over(subject: Subject) -> None:
    _offered(subject)
    head, data = binary_request(subject.model)
    refused(subject.infer_binary(head, data + b"extra bytes!"), "12 bytes too many")


@check("binary", "a header length beyond the body, negative or no number is refused", source=SOURCE)
def header_length(subject: Subject) -> None:
    _offered(subject)
    head, data = binary_request(subject.model)
    text = json.dumps(head).encode()
    lengths = (str(len(text + data) + 1), "-1", "abc", "99999999999999999999", str(len(text) - 3))
    refused_each((subject.infer_bytes(text, data, each), f"{HEADER_LENGTH}: {each}") for each in lengths)


@check("binary", "a shape whose bytes overflow does not fit an empty tensor", source=SOURCE)
def overflowing_shape(subject: Subject) -> None:
    _offered(subject)
    refused_each(_claiming(subject))


def _claiming(subject: Subject) -> Iterator[tuple[Reply, str]]:
    for shape in ([2**62, 4], [2**32, 2**32], [-1, -4], [2**40, 2**40]):
        head, _ = binary_request(subject.model)
        head["inputs"][0]["shape"] = shape
        for entry in head["inputs"]:
            entry["parameters"]["binary_data_size"] = 0
        yield subject.infer_binary(head, b""), f"the shape {shape} and no bytes"


@check("binary", "an input given both as `data` and in binary is refused", source=SOURCE, should=True)
def data_twice(subject: Subject) -> None:
    _offered(subject)
    head, data = binary_request(subject.model)
    for entry, plain in zip(head["inputs"], request(subject.model)["inputs"], strict=True):
        entry["data"] = plain["data"]
    refused(subject.infer_binary(head, data), "`data` beside binary_data_size")
