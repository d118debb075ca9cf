"""Caffe's binary files, written without Caffe: protobuf's wire form by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelport.tensors import Array

Blobs = Mapping[str, Sequence[Any]]
"""Arrays by the name of their layer."""


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array: Any, *, old: bool = False) -> bytes:
    """A BlobProto; `old` states four sides, as Caffe did until 2014."""
    data = np.asarray(array, np.float32)
    if old:
        sides = (*[1] * (4 - data.ndim), *data.shape)
        head = b"".join(varint(index << 3) + varint(side) for index, side in enumerate(sides, 1))
    else:
        head = field(7, field(1, b"".join(varint(side) for side in data.shape)))
    return head + field(5, data.astype("<f4").tobytes())


def caffemodel(blobs: Blobs, *, old: bool = False) -> bytes:
    """A NetParameter with layers that have weights; all are said to be convolutions."""
    out = field(1, b"net")
    for name, arrays in blobs.items():
        if old:
            head = field(4, name.encode()) + varint(5 << 3) + varint(4)
        else:
            head = field(1, name.encode()) + field(2, b"Convolution")
        out += field(
            2 if old else 100, head + b"".join(field(6 if old else 7, blob(a, old=old)) for a in arrays)
        )
    return out


def double_blob(array: Any) -> bytes:
    """A BlobProto of doubles, one field for each number."""
    data = np.asarray(array, np.float64)
    shape = field(7, b"".join(varint(1 << 3) + varint(side) for side in data.shape))
    return shape + b"".join(varint(8 << 3 | 1) + struct.pack("<d", number) for number in data.reshape(-1))


def pair(folder: Path, text: str, blobs: Blobs, *, name: str = "net", old: bool = False) -> Path:
    """Both files; the path of the prototxt."""
    (folder / f"{name}.caffemodel").write_bytes(caffemodel(blobs, old=old))
    path = folder / f"{name}.prototxt"
    path.write_text(text)
    return path


CONV = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }"


def numbers(*shape: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def layer(kind: str, settings: str = "", bottoms: str = "data", tops: str = "out", name: str = "one") -> str:
    ends = "".join(f'bottom: "{b}" ' for b in bottoms.split()) + "".join(f'top: "{t}" ' for t in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}" {ends} {settings} }}\n'


def net(*layers: str, shape: tuple[int, ...] = (1, 6, 9, 11)) -> str:
    dims = " ".join(f"dim: {side}" for side in shape)
    return (
        f'layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'
        + "".join(layers)
    )
