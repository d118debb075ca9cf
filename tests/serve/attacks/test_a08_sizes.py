"""A8, sizes inside a request: shapes, lengths and offsets that do not add up, or add up to far too much."""

from __future__ import annotations

import json
import struct
from typing import Any

import psutil
import pytest

from .wire import Target, as_json, head, post

INFER = "/v2/models/sum/infer"
ROW = struct.pack("<4f", 1, 2, 3, 4)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes


def request(**changes: Any) -> bytes:
    return as_json({"inputs": [tensor(**changes)]})


def refused(target: Target, body: bytes, *, statuses: tuple[int, ...] = (400,), **headers: Any) -> str:
    reply = target.one(post(INFER, body, **headers))
    assert reply.status in statuses, reply
    return reply.error


SHAPES: list[Any] = [
    [-1, 4],
    [-1, -4],
    [1, -4],
    [2**31, 2**31],
    [2**62, 4],
    [2**63, 2],
    [2**64, 1],
    [2**32 + 1, 4],
    [0, 4],
    [4],
    [1, 4, 1],
    [1] * 40,
    [1] * 10_000,
    [1.5, 4],
    ["1", 4],
    [None, 4],
    [True, 4],
    "14",
    {"0": 1},
    None,
    [],
    [[1, 4]],
    [1e300, 4],
    [2, 4],
    [1, 3],
    [4, 1],
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape)[:30])
def test_a_shape_that_does_not_fit_its_data_is_refused(target: Target, shape: Any) -> None:
    refused(target, request(shape=shape))
    binary = as_json({"inputs": [tensor(shape=shape, parameters={"binary_data_size": 16}) | {"data": None}]})
    refused(target, binary + ROW, inference_header_content_length=len(binary))


@pytest.mark.parametrize(
    "size", [-1, 0, 15, 17, 2**31, 2**32, 2**63, 2**64, 1e300, "16", None, True, [], 1.5, 16.5]
)
def test_a_binary_size_that_is_not_the_tensor_s_is_refused(target: Target, size: Any) -> None:
    text = as_json({"inputs": [tensor(parameters={"binary_data_size": size}) | {"data": None}]})
    refused(target, text + ROW, inference_header_content_length=len(text))


def test_tensors_cannot_overlap_or_leave_bytes_over(target: Target) -> None:
    one = tensor(parameters={"binary_data_size": 16}) | {"data": None}
    for text, rest in (
        (as_json({"inputs": [one]}), ROW + b"x"),
        (as_json({"inputs": [one, one]}), ROW * 2),
        (as_json({"inputs": [one, one | {"name": "y"}]}), ROW),
        (as_json({"inputs": []}), ROW),
    ):
        refused(target, text + rest, inference_header_content_length=len(text))


LENGTHS = [
    "-1",
    "+5",
    "5.0",
    "5e0",
    "0x5",
    " ",
    "",
    "5 5",
    "5,5",
    "99999999999999999999",
    "9" * 4000,
    "2147483648",
    "-0",
    "1_0",
    "NaN",
    "None",
    "\xb2",
    "5;x",
    "00000000000000000000000000000000000001",
    "4294967297",
]


@pytest.mark.parametrize("length", LENGTHS, ids=lambda value: ascii(value)[:24])
def test_a_header_length_is_a_number_within_the_body(target: Target, length: str) -> None:
    """Triton 2.51 and before ended with std::out_of_range."""
    text = request()
    refused(target, text, inference_header_content_length=length)


def test_two_header_lengths_are_not_one_of_them(target: Target) -> None:
    text = request()
    start = head("POST", INFER, content_length=len(text) + 16, inference_header_content_length=len(text))
    twice = start.replace(b"inference-header", b"Inference-Header-Content-Length: 1\r\ninference-header", 1)
    reply = target.one(twice, text + ROW)
    assert reply.status == 400


STRINGS = {
    "a length past the end": struct.pack("<I", 100) + b"abc",
    "the largest length": struct.pack("<I", 0xFFFFFFFF) + b"abc",
    "ends inside a length": b"\x01\x00",
    "one element too many": struct.pack("<I", 0) * 2,
    "nothing": b"",
    "a million empty ones": struct.pack("<I", 0) * 1_000_000,
}


@pytest.mark.parametrize("name", STRINGS)
def test_lengths_inside_bytes_tensors_are_checked(target: Target, name: str) -> None:
    data = STRINGS[name]
    for model in ("colours", "sum"):
        for shape in ([1], [1_000_000] if "million" in name else [2**62]):
            text = as_json(
                {
                    "inputs": [
                        {
                            "name": "image",
                            "datatype": "BYTES",
                            "shape": shape,
                            "parameters": {"binary_data_size": len(data)},
                        }
                    ]
                }
            )
            reply = target.one(
                post(f"/v2/models/{model}/infer", text + data, inference_header_content_length=len(text))
            )
            assert reply.status in (400, 413), reply


def test_pictures_of_impossible_sizes_are_refused_before_memory_is_taken(target: Target) -> None:
    before = psutil.Process(target.pid).memory_info().rss
    for shape in ([2**20, 2**20, 3], [1, 2**31, 3], [0, 0, 3], [256, 2**20, 1, 3], [2**40, 1, 1, 3]):
        text = json.dumps(
            {"inputs": [{"name": "image", "datatype": "UINT8", "shape": shape,
                         "parameters": {"binary_data_size": 3}}]}
        ).encode()  # fmt: skip
        reply = target.one(
            post("/v2/models/colours/infer", text + b"abc", inference_header_content_length=len(text))
        )
        assert reply.status in (400, 413), reply
    assert psutil.Process(target.pid).memory_info().rss - before < 32 << 20
