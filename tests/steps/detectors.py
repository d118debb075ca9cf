"""What the detection recipes are tried on: for each, a network's signature and raw outputs with objects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelport.steps.fit import Resolved
from modelport.steps.recipe import load_recipe, recipe_names, resolve
from modelport.tensors import Array, Signature, TensorSpec

Random = np.random.Generator
SIDE = 64
"""Pixels of the networks' pictures."""


def signature(outputs: dict[str, tuple[int | str, ...]], side: int = SIDE) -> Signature:
    inputs = (TensorSpec("images", "float32", ("batch", 3, side, side)),)
    specs = tuple(TensorSpec(name, "float32", ("batch", *shape)) for name, shape in outputs.items())
    return Signature(inputs, specs)


SIGNATURES: dict[str, Signature] = {
    "yolov5": signature({"output0": (252, 8)}),
    "yolov8": signature({"output0": (7, 84)}),
    "yolov10": signature({"output0": (30, 6)}),
    "yolov5-raw": signature({"p3": (3, 8, 8, 8), "p4": (3, 4, 4, 8), "p5": (3, 2, 2, 8)}),
    "yolox": signature({"output": (84, 8)}),
    "nanodet": signature({"output": (85, 3 + 32)}),
    "ssd": signature({"confidences": (90, 3), "regression": (90, 4)}),
    "detr": signature({"logits": (40, 4 + 1), "pred_boxes": (40, 4)}),
    "rtdetr": signature({"logits": (40, 3), "pred_boxes": (40, 4)}),
}


def settled(name: str, **overrides: object) -> Resolved:
    """The recipe on its network."""
    return resolve(load_recipe(name), net=SIGNATURES[name], overrides=overrides)


def detection_recipes() -> list[str]:
    return [name for name in recipe_names() if load_recipe(name).task == "object-detection"]


def _centers(random: Random, *shape: int) -> Array:
    """Boxes as centers and sides, in pixels, that overlap often."""
    middle = random.uniform(0, SIDE, (*shape, 2))
    return np.concatenate([middle, random.uniform(8, 40, (*shape, 2))], axis=-1)


def _scores(random: Random, *shape: int) -> Array:
    """Mostly small, some near 1."""
    return random.beta(0.5, 0.8, shape)


def _yolov5(random: Random, rows: int) -> dict[str, Array]:
    return {"output0": np.concatenate([_centers(random, rows, 252), _scores(random, rows, 252, 4)], -1)}


def _yolov8(random: Random, rows: int) -> dict[str, Array]:
    lines = np.concatenate([_centers(random, rows, 84), _scores(random, rows, 84, 3)], -1)
    return {"output0": lines.transpose(0, 2, 1)}


def _yolov10(random: Random, rows: int) -> dict[str, Array]:
    center = _centers(random, rows, 30)
    half = center[..., 2:] / 2
    corners = [center[..., :2] - half, center[..., :2] + half]
    kinds = random.integers(-1, 4, (rows, 30, 1))
    return {"output0": np.concatenate([*corners, _scores(random, rows, 30, 1), kinds], -1)}


def _raw(random: Random, rows: int) -> dict[str, Array]:
    return {
        spec.name: random.normal(0, 2, (rows, *spec.shape[1:])) for spec in SIGNATURES["yolov5-raw"].outputs
    }


def _yolox(random: Random, rows: int) -> dict[str, Array]:
    boxes = random.normal(0, 1, (rows, 84, 4))
    return {"output": np.concatenate([boxes, _scores(random, rows, 84, 4)], -1)}


def _nanodet(random: Random, rows: int) -> dict[str, Array]:
    return {"output": np.concatenate([_scores(random, rows, 85, 3), random.normal(0, 2, (rows, 85, 32))], -1)}


def _ssd(random: Random, rows: int) -> dict[str, Array]:
    center = _centers(random, rows, 90) / SIDE
    half = center[..., 2:] / 2
    corners = np.concatenate([center[..., :2] - half, center[..., :2] + half], -1)
    return {"confidences": _scores(random, rows, 90, 3), "regression": corners}


def _queries(classes: int) -> Callable[[Random, int], dict[str, Array]]:
    def made(random: Random, rows: int) -> dict[str, Array]:
        logits = random.normal(0, 3, (rows, 40, classes))
        return {"logits": logits, "pred_boxes": _centers(random, rows, 40) / SIDE}

    return made


_MAKERS: dict[str, Callable[[Random, int], dict[str, Array]]] = {
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "yolov10": _yolov10,
    "yolov5-raw": _raw,
    "yolox": _yolox,
    "nanodet": _nanodet,
    "ssd": _ssd,
    "detr": _queries(5),
    "rtdetr": _queries(3),
}


def raw_outputs(name: str, rows: int, seed: int = 0) -> dict[str, Array]:
    """Raw outputs of the recipe's network for `rows` pictures, and where the pictures lie."""
    random = np.random.default_rng(seed)
    raw = {key: array.astype(np.float32) for key, array in _MAKERS[name](random, rows).items()}
    scale = random.uniform(0.1, 3, (rows, 1)).repeat(2, 1)
    place = [scale, random.integers(0, 9, (rows, 2)), random.integers(10, 600, (rows, 2))]
    return raw | {"placement": np.concatenate(place, 1).astype(np.float32)}
