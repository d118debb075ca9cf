"""Arrays to the protocol's bytes and back: every datatype, every layout, and bytes that lie."""

from __future__ import annotations

import struct
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelport.client.arrays import as_tensor, from_json, from_wire, tensors_of, to_wire
from modelport.client.failures import BadReply
from modelport.errors import InputError
from modelport.serve.oip import parse_request
from modelport.tensors import OIP_DATATYPES, Array, object_array

NUMBERS = [np.dtype(name) for name in OIP_DATATYPES if name != "string"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def there_and_back(array: Array) -> Array:
    tensor, datatype = as_tensor(array, "x")
    return from_wire(memoryview(bytearray(to_wire(tensor, "x"))), datatype, tensor.shape, "$")


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Numbers of any datatype, byte order and layout."""
    dtype = draw(st.sampled_from(NUMBERS))
    array: Array = draw(hnp.arrays(dtype, SHAPES))
    if draw(st.booleans()):
        array = array.astype(dtype.newbyteorder(">"))
    turn = draw(st.sampled_from(["as it is", "Fortran", "transposed", "reversed", "every other"]))
    if turn == "Fortran":
        array = np.asfortranarray(array)
    elif turn == "transposed":
        array = array.T
    elif array.ndim and turn == "reversed":
        array = array[::-1]
    elif array.ndim and turn == "every other":
        array = array[..., ::2]
    return array


@given(arrays())
def test_numbers_come_back_as_they_went(array: Array) -> None:
    back = there_and_back(array)
    assert back.shape == array.shape and back.dtype == array.dtype.newbyteorder("=")
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert back.flags.writeable and back.flags.aligned and back.dtype.isnative


TEXTS = st.lists(st.one_of(st.text(max_size=20), st.binary(max_size=20)), max_size=12)


@given(TEXTS)
def test_text_and_bytes_come_back_as_bytes(items: list[str | bytes]) -> None:
    back = there_and_back(object_array(items, [len(items)]))
    assert list(back) == [item.encode() if isinstance(item, str) else item for item in items]


def test_zero_bytes_at_the_end_of_bytes_are_kept() -> None:
    assert there_and_back(as_tensor(b"a\0\0", "x")[0])[0] == b"a\0\0"
    assert list(there_and_back(as_tensor([b"a\0", b"\0\0b\0"], "x")[0])) == [b"a\0", b"\0\0b\0"]
    assert list(there_and_back(np.array(["ab", "é"]))) == [b"ab", "é".encode()]
    assert there_and_back(as_tensor("text", "x")[0]).shape == (1,)


@given(arrays())
def test_the_server_reads_what_is_sent(array: Array) -> None:
    tensor, datatype = as_tensor(array, "x")
    blob = bytes(to_wire(tensor, "x"))
    shape = str(list(array.shape))
    head = (
        f'{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "{datatype}", '
        f'"parameters": {{"binary_data_size": {len(blob)}}}}}]}}'
    ).encode()
    got = parse_request(head + blob, str(len(head))).inputs["x"]
    assert got.shape == array.shape and got.tobytes() == array.astype(got.dtype).tobytes()


def test_an_array_that_lies_as_the_wire_wants_it_is_sent_without_a_copy() -> None:
    for dtype in NUMBERS:
        array = np.zeros((3, 4), dtype)
        sent = to_wire(array, "x")
        assert isinstance(sent, memoryview)
        assert np.shares_memory(np.frombuffer(sent, np.uint8), array)


def test_writable_aligned_bytes_become_an_array_without_a_copy_and_others_with_one() -> None:
    memory = bytearray(64)
    start = -np.frombuffer(memory, np.uint8).__array_interface__["data"][0] % 8
    view = memoryview(memory)[start:]
    assert np.shares_memory(from_wire(view[:16], "FP64", [2], "$"), np.frombuffer(memory, np.uint8))
    for data in (view[1:17], memoryview(bytes(16))):
        copied = from_wire(data, "FP64", [2], "$")
        assert copied.flags.writeable and copied.flags.aligned
        assert not np.shares_memory(copied, np.frombuffer(data, np.uint8))


REFUSED: dict[str, Any] = {
    "complex": np.zeros(3, np.complex64),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "records": np.zeros(3, [("a", "f4")]),
    "ragged": [[1, 2], [3]],
    "long double": np.zeros(2, np.longdouble) if np.dtype(np.longdouble).itemsize != 8 else [[1], 2],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_datatype_is_refused_with_its_place(name: str) -> None:
    with pytest.raises(InputError) as refused:
        tensors_of({"x": REFUSED[name]})
    assert refused.value.at == "$.inputs.x"


@pytest.mark.parametrize("item", [None, 5, [1]])
def test_objects_that_are_no_text_are_refused(item: object) -> None:
    with pytest.raises(InputError, match="expected text or bytes"):
        to_wire(object_array([item], [1]), "x")


def test_inputs_are_arrays_by_name() -> None:
    for wrong in ([np.zeros(3)], np.zeros(3), "x"):
        with pytest.raises(InputError, match="arrays by name"):
            tensors_of(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one"):
        tensors_of({})
    assert {n: d for n, (_, d) in tensors_of({"a": [1.5], "b": [True], "c": 3, "d": ["x"]}).items()} == {
        "a": "FP64",
        "b": "BOOL",
        "c": "INT64",
        "d": "BYTES",
    }


@given(
    st.binary(max_size=80),
    st.sampled_from([*OIP_DATATYPES.values(), "BF16", "FP8", ""]),
    st.lists(st.integers(-2, 1 << 62), max_size=4),
)
def test_bytes_that_do_not_fit_are_refused_before_memory_is_taken(
    data: bytes, datatype: str, shape: list[int]
) -> None:
    try:
        array = from_wire(memoryview(data), datatype, shape, "$")
    except BadReply:
        return
    assert list(array.shape) == shape and array.size == prod(shape)


def packed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (packed(b"ab"), [2]),
        (packed(b"ab", b"c"), [1]),
        (packed(b"ab")[:-1], [1]),
        (packed(b"ab") + b"\1\0", [1]),
        (b"\xff\xff\xff\xff", [1]),
        (b"", [1 << 60]),
        (b"", [1 << 60, 0, -1]),
    ],
)
def test_text_whose_lengths_lie_is_refused(data: bytes, shape: list[int]) -> None:
    with pytest.raises(BadReply):
        from_wire(memoryview(data), "BYTES", shape, "$")


def test_too_many_dimensions_are_refused() -> None:
    with pytest.raises(BadReply, match="not a shape"):
        from_wire(memoryview(b"1234"), "FP32", [1] * 33, "$")
    with pytest.raises(BadReply, match="not a shape"):
        from_json([1], "FP32", [1] * 33, "$")


def test_brain_floats_become_floats_exactly() -> None:
    wide = np.array([1.0, -2.5, np.inf, 3.0], np.float32)
    narrow = (wide.view(np.uint32) >> 16).astype("<u2")
    got = from_wire(memoryview(bytearray(narrow.tobytes())), "BF16", [2, 2], "$")
    assert got.dtype == np.float32 and np.array_equal(got.ravel(), wide)


def test_tensors_in_json_flat_nested_and_with_null() -> None:
    assert from_json([1, 2.5], "FP32", [2, 1], "$").tolist() == [[1.0], [2.5]]
    assert from_json([[1], [2]], "INT8", [2, 1], "$").dtype == np.int8
    assert from_json(["a", "é"], "BYTES", [2], "$").tolist() == [b"a", "é".encode()]
    got = from_json([1.0, None], "FP64", [2], "$")
    assert got[0] == 1.0 and np.isnan(got[1])
    for data, datatype, shape in (
        ([1, 2], "FP32", [3]),
        ([300], "UINT8", [1]),
        ([1.5], "INT32", [1]),
        (["a"], "FP32", [1]),
        ([None], "INT32", [1]),
        ([[1], [2, 3]], "FP32", [3]),
        (None, "FP32", [1]),
        ([1], "what", [1]),
        ([1], "BYTES", [1]),
    ):
        with pytest.raises(BadReply):
            from_json(data, datatype, shape, "$")
