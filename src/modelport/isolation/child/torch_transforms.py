"""torchvision's transforms as steps: read from the attributes of the object that prepares the pictures.

torchvision itself is imported only to look its own weights up. The steps are a reading; the other side holds
them against the object itself on pictures.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array

Step = dict[str, dict[str, Any]]
KERNELS = {"bilinear": "pillow-bilinear", "bicubic": "pillow-bicubic", "nearest": "nearest"}
TO_TENSOR = ("ToTensor", "PILToTensor", "ToImage")
TO_FLOAT = ("ToDtype", "ConvertImageDtype")
NAMES = ("transforms", "transform", "preprocess")
"""What a module or its class may call them."""


class Known:
    """Transforms, and where they are from."""

    def __init__(self, prepare: Any, why: str, labels: list[str]) -> None:
        self.prepare, self.why, self.labels = prepare, why, labels

    def told(self) -> dict[str, Any]:
        """As JSON: `why`, `labels` and `steps`, or the `problem` that there are none."""
        try:
            return {"why": self.why, "labels": self.labels, "steps": steps(self.prepare)}
        except NotConverted as problem:
            return {"why": self.why, "problem": str(problem)}

    def prepared(self, image: Array) -> Array:
        """What the object makes of a picture uint8 [height, width, 3]: float32 [channels, height, width]."""
        from PIL import Image

        return np.asarray(self.prepare(Image.fromarray(image)))


def known(path: str, builder: Any, network: Any) -> Known | None:
    """The transforms for a file of weights and the code that builds their network; None where none are known.

    Args:
        path: the weights; torchvision's own are known by their digest.
        builder: see `torch_weights.Builder`; its file may hold `transforms`. Or None.
        network: the module; it may have them as well.
    """
    if builder is not None and not builder.torchvision:
        for name in NAMES:
            found = getattr(builder.module, name, None)
            if _is_transform(found):
                return Known(found, f"{name!r} in {builder.text.rpartition(':')[0].rpartition('/')[2]}", [])
    if _is_transform(found := getattr(network, "transforms", None)):
        return Known(found, f"the attribute 'transforms' of {type(network).__name__}", [])
    models = sys.modules.get("torchvision.models")
    if path and models is not None:
        for weights in _published(models):
            if _is_of(path, weights.url):
                labels = [str(label) for label in weights.meta.get("categories", ())]
                return Known(weights.transforms(), f"torchvision's transforms of {weights}", labels)
    return None


def _published(models: Any) -> Iterator[Any]:
    for name in models.list_models(module=models):
        yield from models.get_model_weights(name)


def _is_of(path: str, url: str) -> bool:
    """Whether a file is the one that an address is of: the digest begins as the name there ends."""
    digest = url.rpartition("/")[2].rpartition(".")[0].rpartition("-")[2]
    return len(digest) >= 8 and _digest(path).startswith(digest)


@functools.cache
def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_transform(found: Any) -> bool:
    kind = type(found)
    return kind.__name__ in ("Compose", "ImageClassification") or (
        kind.__module__.startswith("torchvision.transforms") and callable(found)
    )


def steps(prepare: Any) -> list[Step]:
    """What the transforms do, up to the network's input.

    Raises:
        NotConverted: something that no step does; the message ends the sentence "its transforms …".
    """
    made: list[Step] = []
    state = {"tensor": False, "scaled": False}
    for each in _flat(prepare):
        name = type(each).__name__
        if name == "ImageClassification":
            made += [*_resize(each, each.resize_size), _crop(each.crop_size), {"scale": {"divide": 255}}]
            made.append(_normalize(each))
            state = {"tensor": True, "scaled": True}
        elif name in TO_TENSOR:
            state["tensor"] = True
            if name == "ToTensor":
                made.append({"scale": {"divide": 255}})
                state["scaled"] = True
        elif name in TO_FLOAT and str(each.dtype) == "torch.float32":
            if getattr(each, "scale", True) and not state["scaled"]:
                made.append({"scale": {"divide": 255}})
                state["scaled"] = True
        elif name == "Normalize":
            made.append(_normalize(each))
        elif name in ("Resize", "CenterCrop", "Grayscale") and not state["tensor"]:
            made += _of_picture(name, each)
        else:
            after = (
                " on a tensor" if state["tensor"] and name in ("Resize", "CenterCrop", "Grayscale") else ""
            )
            raise NotConverted(f"have {name}{after}, for which there is no step")
    if not state["tensor"] or not state["scaled"]:
        raise NotConverted("do not end in a tensor of floats")
    return [*made, {"layout": {"order": "chw"}}]


def _flat(prepare: Any) -> Iterator[Any]:
    if type(prepare).__name__ in ("Compose", "Sequential"):
        for each in getattr(prepare, "transforms", prepare):
            yield from _flat(each)
    else:
        yield prepare


def _of_picture(name: str, each: Any) -> list[Step]:
    if name == "Resize":
        return _resize(each, each.size)
    if name == "CenterCrop":
        return [_crop(each.size)]
    return [{"grayscale": {"channels": int(each.num_output_channels)}}]


def _resize(each: Any, size: Any) -> list[Step]:
    word = str(getattr(each.interpolation, "value", each.interpolation))
    if word not in KERNELS:
        raise NotConverted(f"resize with {word}, for which there is no kernel")
    sides = [int(side) for side in size] if isinstance(size, (list, tuple)) else [int(size)]
    options: dict[str, Any] = {"shorter": sides[0]} if len(sides) == 1 else {"size": sides}
    if (longest := getattr(each, "max_size", None)) is not None:
        raise NotConverted(f"resize with max_size={longest}, for which there is no step")
    return [{"resize": {**options, "kernel": KERNELS[word]}}]


def _crop(size: Any) -> Step:
    sides = [int(side) for side in size] if isinstance(size, (list, tuple)) else [int(size)]
    return {"center_crop": {"size": sides * 2 if len(sides) == 1 else sides}}


def _normalize(each: Any) -> Step:
    return {"normalize": {"mean": [float(v) for v in each.mean], "std": [float(v) for v in each.std]}}
