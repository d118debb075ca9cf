"""A7: a little that becomes a lot: compressed bodies, archives, pictures, and JSON."""

from __future__ import annotations

import gzip
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from .wire import Reply, Target, as_json, post

ROOM = 400 << 20
"""Bytes that answering one bomb may take at its peak: some copies of the 64 MiB that a body may have."""


def peak(pid: int) -> int:
    """The most resident memory a process has had, since it was last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


@contextmanager
def bounded(target: Target, room: int = ROOM) -> Iterator[None]:
    """The server and its children stay within `room` more than they had."""
    family = [psutil.Process(target.pid), *psutil.Process(target.pid).children(recursive=True)]
    before = {}
    for process in family:
        try:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak starts anew
        except PermissionError:
            pytest.skip("this process may not reset the peak of another")
        before[process.pid] = process.memory_info().rss
    yield
    for pid, rss in before.items():
        assert peak(pid) - rss < room, f"process {pid} took {(peak(pid) - rss) >> 20} MiB"


def test_compressed_bodies_are_bounded_by_what_comes_out(target: Target) -> None:
    zeros = bytes(512 << 20)
    bombs = {"gzip": gzip.compress(zeros, 1), "deflate": zlib.compress(zeros, 1)}
    for coding, bomb in bombs.items():
        assert len(bomb) < 4 << 20
        with bounded(target):
            for path in ("/predict/sum", "/predict/colours", "/v2/models/sum/infer", "/v2/repository/index"):
                reply = target.one(post(path, bomb, content_encoding=coding))
                assert reply.status in (413, 415), (path, reply)


def test_compression_does_not_stack_and_members_do_not_add_up(target: Target) -> None:
    nested = gzip.compress(gzip.compress(bytes(64 << 20)))
    for coding in ("gzip, gzip", "gzip,gzip,gzip", "br", "zstd", "compress", "gzip;q=1", "x" * 5000):
        assert target.one(post("/predict/colours", nested, content_encoding=coding)).status == 415, coding
    many = gzip.compress(b"") * 100_000
    began = time.monotonic()
    reply = target.one(post("/predict/colours", many, content_encoding="gzip"))
    assert reply.status in (400, 413) and time.monotonic() - began < 20
    with bounded(target):
        added = gzip.compress(bytes(50 << 20), 1) * 40
        assert target.one(post("/predict/colours", added, content_encoding="gzip")).status in (400, 413)


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def saved(kind: str, **more: object) -> bytes:
    file = io.BytesIO()
    Image.new("P" if kind == "GIF" else "RGB", (16, 16)).save(file, kind, **more)
    return file.getvalue()


def large_gif() -> bytes:
    data = bytearray(saved("GIF"))
    struct.pack_into("<HH", data, 6, 65535, 65535)
    return bytes(data)


def large_bmp() -> bytes:
    data = bytearray(saved("BMP"))
    struct.pack_into("<ii", data, 18, 2_000_000, 2_000_000)
    return bytes(data)


def large_tiff() -> bytes:
    data = bytearray(saved("TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, place)[0] in (256, 257):  # ImageWidth, ImageLength
            struct.pack_into("<HII", data, place + 2, 4, 1, 65535)
    return bytes(data)


def text_bomb() -> bytes:
    """A PNG with a compressed text that is far larger than it."""
    data = png(16, 16, zlib.compress(bytes(16 * 49)))
    text = b"iTXtx\0\1\0\0\0" + zlib.compress(bytes(256 << 20), 1)
    ends = struct.pack(">I", len(text) - 4), struct.pack(">I", zlib.crc32(text))
    return data[:33] + ends[0] + text + ends[1] + data[33:]


PICTURES: dict[str, Callable[[], bytes]] = {
    "png of many pixels": lambda: png(50_000, 50_000, zlib.compress(bytes(100 << 20), 1)),
    "png that claims them": lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
    "png of one long row": lambda: png(2**31 - 1, 1, zlib.compress(bytes(1 << 20))),
    "png with too many rows": lambda: png(16, 16, zlib.compress(bytes(512 << 20), 1)),
    "png with a long text": text_bomb,
    "gif": large_gif,
    "bmp": large_bmp,
    "tiff": large_tiff,
    "webp": lambda: b"RIFF\0\x10\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(64),
}
# Rows and texts beyond the picture need not be unpacked, so that these may be answered.
FINE = ("png with too many rows", "png with a long text")


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_judged_before_they_are_unpacked(target: Target, name: str) -> None:
    data = PICTURES[name]()
    with bounded(target):
        for path in ("/predict/colours", "/api/predict/colours"):
            reply = target.one(post(path, data))
            assert reply.status in (400, 404, 413, 415) or (name in FINE and reply.status == 200), reply


def test_archives_are_bounded_by_what_comes_out(target: Target) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(256 << 20, np.uint8))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("x.npy", array.getvalue())
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}.npy", b"")
    claims = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }".ljust(117)
        + b"\n"
    )
    with bounded(target):
        for data in (packed.getvalue(), many.getvalue(), claims, claims + bytes(16)):
            reply = target.one(post("/predict/sum", data))
            assert reply.status in (400, 413), reply


UNITS = {
    "lists": b"[],",
    "objects": b"{},",
    "zeros": b"0,",
    "fractions": b"1.5,",
    "texts": b'"",',
    "deep": b"[",
}


@pytest.mark.parametrize("unit", UNITS)
def test_json_is_judged_before_it_is_unpacked(target: Target, unit: str) -> None:
    """Sixty megabytes of `[],` are twenty million lists: two gigabytes, and twelve seconds."""
    many = UNITS[unit] * ((60 << 20) // len(UNITS[unit]))
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[' + many + b"0]}]}"
    with bounded(target):
        reply = target.one(post("/v2/models/sum/infer", body))
        assert reply.status in (400, 413), reply.body[:200]
    with bounded(target):
        reply = target.one(post("/predict/sum", body.replace(b'[{"name"', b'{"x":[{"name"', 1)))
        assert reply.status in (400, 413), reply.body[:200]


def text_tensor(texts: list[object], shape: list[int], datatype: str) -> bytes:
    return as_json({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": texts}]})


@pytest.mark.parametrize("datatype", ["BYTES", "FP32"])
def test_one_long_text_among_many_short_ones_is_no_wide_array(target: Target, datatype: str) -> None:
    """NumPy's own text arrays give each element the room of the longest: a megabyte became gigabytes."""
    texts: list[object] = ["x" * 1_000_000] + [""] * 600
    with bounded(target):
        for model in ("sum", "colours", "sum.net"):
            reply = target.one(post(f"/v2/models/{model}/infer", text_tensor(texts, [601], datatype)))
            assert reply.status == 400, reply.body[:200]
            mixed = text_tensor([0.5, *texts], [602], datatype)
            assert target.one(post(f"/v2/models/{model}/infer", mixed)).status == 400


DEEP = {
    "lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "half": b'[{"a":' * 50_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_depth_is_bounded(target: Target, name: str) -> None:
    def ask(path: str, body: bytes) -> Reply:
        return target.one(post(path, body, content_type="application/json"))

    for wrapped in (DEEP[name], b'{"inputs":' + DEEP[name] + b"}", b'{"image":' + DEEP[name] + b"}",
                    b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":' + DEEP[name] + b"}]}",
                    b'{"inputs":[],"parameters":' + DEEP[name] + b"}"):  # fmt: skip
        for path in ("/v2/models/sum/infer", "/predict/sum", "/predict/colours", "/v1/models/sum:predict",
                     "/invocations", "/api/predict/sum", "/models/sum"):  # fmt: skip
            assert ask(path, wrapped).status in (400, 404, 405, 413, 415), (path, wrapped[:40])
