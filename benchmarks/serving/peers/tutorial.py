"""A picture to labels as a tutorial writes it: Pillow, NumPy, ONNX Runtime. Nothing of Modelport."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
LABELS = [f"class {index}" for index in range(1000)]


def prepare(data: bytes) -> np.ndarray:
    """An encoded picture to float32 [1, 3, 224, 224], as torchvision's evaluation does it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    scale = 256 / min(width, height)
    size = (256, int(height * scale)) if width <= height else (int(width * scale), 256)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    image = image.crop((left, top, left + 224, top + 224))
    x = (np.asarray(image, np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def answer(session: Any, data: bytes) -> list[dict[str, Any]]:
    """The five best labels with their scores. The network ends in a softmax, so its outputs are scores."""
    scores = session.run(None, {session.get_inputs()[0].name: prepare(data)})[0][0]
    best = np.argsort(-scores)[:5]
    return [{"label": LABELS[index], "score": float(scores[index])} for index in best]


def session() -> Any:
    """A session with its defaults, or with THREADS threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads := os.environ.get("THREADS"):
        options.intra_op_num_threads = int(threads)
    return onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
