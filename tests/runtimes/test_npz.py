"""Arrays from hostile bytes: nothing is unpickled, nothing is allocated on a header's word."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import InputError, TooLarge
from modelport.runtimes.npz import is_npy, is_npz, read_npy, read_npz
from modelport.tensors import Array

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    np.array(["a", "bcd", "鸟"]),
    np.array(3.5, np.float16),
    np.zeros((0, 3), np.uint8),
    np.array([True, False]),
    np.arange(4, dtype=">i4"),
]


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: str, descr: str = "'<f4'", body: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize("array", ARRAYS)
def test_round_trip(array: Array) -> None:
    data = npy(array)
    assert is_npy(data)
    read = read_npy(data)
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=array)
    assert is_npz(buffer.getvalue())
    np.testing.assert_array_equal(read_npz(buffer.getvalue(), limit=1 << 20)["x"], array)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy(np.array([{}, 1], dtype=object)), "of object is not read"),
        (npy(np.zeros(2, dtype=[("a", "<f4")])), "is not read"),
        (npy(np.zeros(2, dtype=np.complex64)), "is not read"),
        (npy(np.zeros(2, dtype="M8[s]")), "is not read"),
        (header("(1000000000000,)"), "1000000000000"),
        (header("(2,)", body=b"\0" * 4), "4 follow"),
        (header("(2,)", body=b"\0" * 12), "12 follow"),
        (header("(-1,)"), ".npy"),
        (header("(10**9,)", "'<U0'"), ".npy"),
        (header("(1000000000,)", "'<U0'"), ".npy"),
        (header("2"), "not a .npy"),
        (b"\x93NUMPY\x09\x00", "unknown .npy version"),
        (b"\x93NUMPY", "not a .npy"),
        (b"", "not a .npy"),
    ],
)
def test_what_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_npy(data)
    assert said in refusal.value.message


def test_a_bomb_is_not_unpacked() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros(10_000_000, np.uint8))
    assert len(buffer.getvalue()) < 20_000
    with pytest.raises(TooLarge, match="unpacks to more than 1000000 bytes"):
        read_npz(buffer.getvalue(), limit=1_000_000)


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, data in members.items():
            out.writestr(name, data)
    return buffer.getvalue()


def test_other_members_are_refused() -> None:
    with pytest.raises(InputError, match=r"found 'x\.pkl'"):
        read_npz(archive({"x.pkl": b""}), limit=100)
    with pytest.raises(TooLarge, match="at most 4096"):
        read_npz(archive({f"{n}.npy": b"" for n in range(5000)}), limit=100)


@given(st.data())
def test_damage_gives_an_input_error_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(archive({"x.npy": npy(np.arange(20)), "y.npy": npy(np.array(["a"]))}))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    outcome: Any = None
    try:
        outcome = read_npz(bytes(whole[:cut]), limit=1 << 20)
    except InputError as refusal:
        outcome = refusal.message
    assert outcome is not None
