"""Steps run both ways: as the graph they compile to, and in native code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from modelport.steps.graph import Graph
from modelport.steps.step import PreStep
from modelport.tensors import Array, TensorSpec


def session(model: bytes) -> onnxruntime.InferenceSession:
    """On one thread and the CPU, without chatter."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compiled(
    steps: Sequence[PreStep], channels: int, size: tuple[int | str, int | str] = ("height", "width")
) -> tuple[Callable[[Array], Any], tuple[int | str, ...]]:
    """The graph of `steps` on uint8[height, width, channels] as a function, and the shape it states."""
    graph = Graph()
    value = graph.input(TensorSpec("image", "uint8", (*size, channels)))
    for step in steps:
        value = step.compile(graph, value)
    graph.output(TensorSpec("result", value.dtype, value.shape), value.name)
    opened = session(graph.build("test"))
    return lambda image: opened.run(None, {"image": image})[0], value.shape


def native(steps: Sequence[PreStep], image: Array) -> Array:
    for step in steps:
        image = step.reference(image)
    return image


def pictures(count: int, channels: int, seed: int = 0, longest: int = 90) -> list[Array]:
    """Noise, one colour, a few specks, a slope, and strokes, of random sizes from 1 x 1."""
    chance = np.random.default_rng(seed)
    made: list[Array] = []
    for index in range(count):
        height, width = (int(side) for side in chance.integers(1, longest, 2))
        shape = (height, width, channels)
        noise = chance.integers(0, 256, shape)
        if index % 5 == 1:
            noise[:] = chance.integers(256)
        elif index % 5 == 2:
            noise *= chance.random(shape) < 0.03
        elif index % 5 == 3:
            noise[:] = np.add.outer(np.arange(height), 2 * np.arange(width))[:, :, None] % 256
        elif index % 5 == 4:
            noise = 200 + noise // 16
            noise[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] = 30
        made.append(noise.astype(np.uint8))
    made.append(np.zeros((1, 1, channels), np.uint8))
    return made


def differing(steps: Sequence[PreStep], channels: int, count: int = 40) -> list[str]:
    """The pictures on which graph and native code do not agree to the last bit, in shape and dtype too."""
    run, stated = compiled(steps, channels)
    wrong = []
    for image in pictures(count, channels):
        got, expected = run(image), native(steps, image)
        fits = all(
            isinstance(want, str) or want == have for want, have in zip(stated, got.shape, strict=True)
        )
        same = got.shape == expected.shape and got.dtype == expected.dtype
        if not (fits and same and got.tobytes() == expected.tobytes()):
            wrong.append(f"{image.shape}: {got.dtype}{got.shape}, expected {expected.dtype}{expected.shape}")
    return wrong
