"""Darknet's files written by hand, with seeded weights for whatever a cfg describes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from modelport.isolation.child.darknet_file import Section, WeightFile, parse
from modelport.isolation.child.darknet_layers import LAYERS, Network
from modelport.isolation.child.onnx_graph import OnnxGraph, Value
from modelport.tensors import Array

HEADS = ("yolo", "region")


class Made(WeightFile):
    """Takes as many numbers as are asked for, and keeps them."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.zeros(0, np.float32), "", False)
        self.random = np.random.default_rng(seed)
        self.parts: list[Array] = []

    def take(self, section: Section, *shape: int) -> Array:
        """Seeded numbers; those of one axis are positive, as variances have to be."""
        scale = 1 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        made = self.random.normal(0, scale, shape).astype(np.float32)
        if len(shape) == 1:
            made = abs(made) / 2 + np.float32(0.5)
        self.parts.append(made.reshape(-1))
        return made


def weights_for(cfg: str, seed: int = 0) -> Array:
    """Seeded weights for a cfg: float32[n]."""
    settings, layers = parse(cfg)
    made = Made(seed)
    sides = settings.integer("height", 0), settings.integer("width", 0)
    network = Network(OnnxGraph(), made, latest=Value("data", (1, settings.integer("channels", 3), *sides)))
    for layer in layers:
        if layer.kind not in HEADS:
            network.latest = LAYERS[layer.kind](network, layer)
        network.values.append(network.latest)
    return np.concatenate([*made.parts, np.zeros(0, np.float32)])


def weight_file(numbers: Array, version: tuple[int, int, int] = (0, 2, 0)) -> bytes:
    """The header, how many pictures were seen, and the numbers."""
    seen = struct.pack("<Q" if version >= (0, 2) else "<I", 6400)
    return struct.pack("<3i", *version) + seen + numbers.astype("<f4").tobytes()


def pair(folder: Path, cfg: str, *, name: str = "net", version: tuple[int, int, int] = (0, 2, 0)) -> Path:
    """Both files; the path of the cfg."""
    path = folder / f"{name}.cfg"
    path.write_text(cfg)
    path.with_suffix(".weights").write_bytes(weight_file(weights_for(cfg), version))
    return path
