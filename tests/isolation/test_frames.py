"""Messages between the two processes: what goes in comes out, and what is none is refused."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.isolation.child.frames import FrameError, read_frame, write_frame


def sent(fields: dict[str, object], arrays: dict[str, np.ndarray]) -> io.BytesIO:
    stream = io.BytesIO()
    write_frame(stream, fields, arrays)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"])
def test_arrays_arrive_as_they_were(dtype: str) -> None:
    array = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    arrays = {"a": array[:, ::2], "scalar": np.array(1, dtype), "none": np.zeros((0, 3), dtype)}
    got = read_frame(sent({"do": "run", "text": "ü"}, arrays), 1 << 20)
    assert got is not None
    assert got[0] == {"do": "run", "text": "ü"}
    for name, want in arrays.items():
        assert got[1][name].dtype == want.dtype and got[1][name].shape == want.shape
        assert np.array_equal(got[1][name], want)
    got[1]["a"][...] = 0  # ours to write into


def test_a_stream_that_ends_between_frames_is_at_its_end() -> None:
    assert read_frame(io.BytesIO(), 1) is None


def test_text_arrives_as_it_was() -> None:
    text = np.array([["a", "ü\0"], ["", "長い"]], dtype=object)
    arrays = {
        "object": text,
        "fixed": text.astype(str),
        "none": np.zeros((0, 2), object),
        "after": np.ones(2),
    }
    got = read_frame(sent({}, arrays), 1 << 20)
    assert got is not None
    assert got[1]["object"].tolist() == text.tolist() and got[1]["object"].dtype == object
    assert got[1]["fixed"].tolist() == text.astype(str).tolist()
    assert got[1]["none"].shape == (0, 2)
    assert np.array_equal(got[1]["after"], np.ones(2))


def test_objects_do_not_travel() -> None:
    with pytest.raises(FrameError, match="only numbers"):
        write_frame(io.BytesIO(), {}, {"a": np.array([b"x"], dtype=object)})


def header(value: object) -> bytes:
    data = json.dumps(value).encode()
    return struct.pack("<Q", len(data)) + data


def text_header(values: int, size: int) -> bytes:
    spec = {"name": "a", "dtype": "string", "shape": [values], "bytes": size}
    return header({"fields": {}, "arrays": [spec]})


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        struct.pack("<Q", 0),
        struct.pack("<Q", 1 << 40),
        struct.pack("<Q", 10) + b"{",
        header([]),
        header({"fields": {}}),
        header({"fields": [], "arrays": []}),
        header({"fields": {}, "arrays": [{"name": "a", "dtype": "object", "shape": [1]}]}),
        header({"fields": {}, "arrays": [{"name": "a", "dtype": "float32", "shape": [-1]}]}),
        header({"fields": {}, "arrays": [{"name": "a", "dtype": "float32", "shape": [1 << 40, 1 << 40]}]}),
        header({"fields": {}, "arrays": [{"name": "a", "dtype": "float32", "shape": [4]}]}) + b"123",
        header({"fields": {}, "arrays": [{"name": "a", "dtype": "uint8", "shape": [2]}] * 2000}),
        header({"fields": {}, "arrays": ["a"]}),
        text_header(1, -1),
        text_header(1, 3) + b"[1]",
        text_header(2, 5) + b'["x"]',
        text_header(1, 2) + b"{]",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(data), 1 << 20)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_frame_or_a_refusal(data: bytes) -> None:
    try:
        read_frame(io.BytesIO(data), 1 << 16)
    except FrameError:
        return
