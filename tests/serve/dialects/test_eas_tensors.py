"""EAS's messages against protobuf's own library, and bytes that are no messages."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelport.errors import InputError, Unsupported
from modelport.serve.dialects.eas_tensors import Asked, encode, parse
from modelport.serve.dialects.protobuf import (
    MAX_FIELDS,
    Budget,
    Misfit,
    fields,
    packed_varints,
    varint,
    write_field,
    write_varints,
)

from .eas_messages import message, read

KINDS = {
    "float32": (1, "float_val"),
    "float64": (2, "double_val"),
    "int32": (3, "int_val"),
    "uint8": (4, "int_val"),
    "int16": (5, "int_val"),
    "int8": (6, "int_val"),
    "int64": (9, "int64_val"),
    "bool": (10, "bool_val"),
    "uint16": (17, "int_val"),
}
ONNX = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9}

arrays = st.sampled_from(sorted(KINDS)).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def written(array: np.ndarray) -> Any:
    code, field = KINDS[array.dtype.name]
    shape = message("Shape", dim=array.shape)
    return message("Array", dtype=code, array_shape=shape, **{field: array.ravel().tolist()})


def back(sent: Any) -> np.ndarray:
    name = next(name for name, (code, _) in KINDS.items() if code == sent.dtype)
    values = np.array(list(getattr(sent, KINDS[name][1])), dtype=name)
    return values.reshape(list(sent.array_shape.dim))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(arrays, st.text(max_size=5))
def test_tensorflow_both_ways(array: np.ndarray, name: str) -> None:
    entry = message("Entry", key=name, value=written(array))
    asked = parse(message("TensorflowRequest", inputs=[entry], output_filter=["a"]).SerializeToString())
    assert asked is not None and asked.flavour == "tensorflow" and asked.wanted == ("a",)
    assert same(asked.named[name], array)
    (out,) = read("TensorflowReply", encode(asked, {"a": array, "b": array})).outputs
    assert out.key == "a" and same(back(out.value), array)


@given(arrays, arrays)
def test_torch_both_ways(one: np.ndarray, other: np.ndarray) -> None:
    one, other = (each.astype(np.uint8) if each.dtype == bool else each for each in (one, other))
    sent = message("TorchRequest", inputs=[written(one), written(other)], output_filter=[1, 0])
    asked = parse(sent.SerializeToString())
    assert asked is not None and asked.flavour == "torch" and asked.wanted == (1, 0)
    assert same(asked.placed[0], one) and same(asked.placed[1], other)
    outputs = read("TorchReply", encode(asked, {"a": one, "b": other})).outputs
    assert same(back(outputs[0]), other) and same(back(outputs[1]), one)


@given(arrays.filter(lambda array: array.dtype.name in ONNX), st.text(max_size=5))
def test_onnx_both_ways(array: np.ndarray, name: str) -> None:
    code = ONNX[array.dtype.name]
    tensor = message("Tensor", name=name, dims=array.shape, data_type=code, raw_data=array.tobytes())
    asked = parse(message("Data", tensors=[tensor]).SerializeToString())
    assert asked is not None and asked.flavour == "onnx" and same(asked.named[name], array)
    (out,) = read("Data", encode(asked, {name: array})).tensors
    assert out == tensor


@given(hnp.arrays(np.int64, st.integers(0, 300)))
def test_varints_both_ways(numbers: np.ndarray) -> None:
    packed = write_varints(numbers)
    assert message("Shape", dim=numbers.tolist()).SerializeToString() == (
        write_field(1, packed) if len(numbers) else b""
    )
    assert same(packed_varints(memoryview(packed), np.dtype(np.int64)), numbers)


def test_long_runs_of_varints_are_read_in_parts_and_in_bounds() -> None:
    numbers = np.random.default_rng(0).integers(0, 256, 3_000_000)
    packed = write_varints(numbers)
    tracemalloc.start()
    got = packed_varints(memoryview(packed), np.dtype(np.uint8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(got, numbers) and peak < 60 << 20
    with pytest.raises(OverflowError):
        packed_varints(memoryview(write_varints(np.array([5, -1]))), np.dtype(np.uint8))
    for bad in (b"\x80", b"\x80" * (3 << 20), b"\x01\xff", b"\x80" * 10 + b"\x01"):
        with pytest.raises(Misfit):
            packed_varints(memoryview(bad), np.dtype(np.int64))


def test_numbers_that_are_not_packed_are_read_too() -> None:
    loose = b"".join(b"\x28" + varint(number) for number in (1, 300, 7))
    array = b"\x08\x03" + write_field(2, b"\x08\x03") + loose
    asked = parse(write_field(1, array))
    assert asked is not None and asked.placed[0].tolist() == [1, 300, 7]


def test_fields_are_bounded_however_they_are_nested() -> None:
    assert len(list(fields(memoryview(b"\x08\x01" * 50), Budget(50)))) == 50
    with pytest.raises(Misfit, match="too many"):
        list(fields(memoryview(b"\x08\x01" * 51), Budget(50)))
    for bad in (b"\x08", b"\x0a\x05abc", b"\x0d123", b"\x03", b"\x07", b"\x00\x00", b"\xff" * 11, b"\x0b"):
        with pytest.raises(Misfit):
            list(fields(memoryview(bad), Budget()))
    many = message("Array", dtype=7, string_val=[b""] * (MAX_FIELDS // 10))
    assert parse(message("TorchRequest", inputs=[many] * 11).SerializeToString()) is None
    deep = message("Array", dtype=1, array_shape=message("Shape", dim=[1] * MAX_FIELDS))
    assert parse(message("TorchRequest", inputs=[deep]).SerializeToString()) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(InputError):
        parse(data)


def test_flipped_bits_are_read_or_refused() -> None:
    entry = message("Entry", key="x", value=written(np.arange(12, dtype=np.int32).reshape(3, 4)))
    sent = [
        message("TensorflowRequest", signature_name="serving_default", inputs=[entry]).SerializeToString(),
        message("TorchRequest", inputs=[entry.value], output_filter=[0]).SerializeToString(),
        message(
            "Data", tensors=[message("Tensor", name="x", dims=[4], data_type=2, raw_data=b"1234")]
        ).SerializeToString(),
    ]
    rng = random.Random(3)
    for body in sent:
        for _ in range(1000):
            bad = bytearray(body)
            bad[rng.randrange(len(bad))] = rng.randrange(256)
            try:
                parse(bytes(bad))
            except InputError:
                continue


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"{}", b"PK\3\4"]
)
def test_files_are_no_messages(data: bytes) -> None:
    assert parse(data + bytes(50)) is None


def test_datatypes_that_a_reply_has_no_code_for() -> None:
    asked = Asked("tensorflow", {"x": np.zeros(1, np.float32)})

    def out(array: np.ndarray, asked: Asked = asked) -> Any:
        return read("TensorflowReply", encode(asked, {"y": array})).outputs[0].value

    assert out(np.array([0.5], np.float16)).float_val == [0.5]
    assert out(np.array([1 << 31], np.uint32)).int64_val == [1 << 31]
    assert out(np.array([1 << 40], np.uint64)).int64_val == [1 << 40]
    assert out(np.array(["a", "é"], object)).string_val == [b"a", "é".encode()]
    with pytest.raises(Unsupported):
        out(np.array([1 << 63], np.uint64))
    torch = Asked("torch", {}, (np.zeros(1, np.float32),))
    (flag,) = read("TorchReply", encode(torch, {"y": np.array([True, False])})).outputs
    assert flag.dtype == 4 and flag.int_val == [1, 0]
    with pytest.raises(Unsupported):
        encode(Asked("onnx", {}), {"y": np.array(["a"], object)})
