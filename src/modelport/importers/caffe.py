"""Caffe networks: a description (`.prototxt`) and weights (`.caffemodel`)."""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..isolation.child.caffemodel import looks_like_network
from ..isolation.worker import Limits
from ..steps.recipe import Recipe, load_recipe
from ..tensors import TensorSpec
from .pair import Kind, PairImporter, find_pair, head_of
from .source import Declared

HEAD = 256 << 10
MEMORY_BYTES = 6 << 30
LAYER = re.compile(rb"^[ \t]*layers?\s{0,20}\{", re.MULTILINE)
IMAGENET_SIDES = (224, 227)


def is_description(path: Path) -> bool:
    """Whether a file is text that describes layers."""
    head = head_of(path, HEAD)
    return b"\0" not in head and LAYER.search(head) is not None and b"type" in head


def is_weights(path: Path) -> bool:
    """Whether a file begins as a network with layers in protobuf's wire form does."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                return looks_like_network(view)
            finally:
                view.release()
    except (OSError, ValueError):
        return False


def _weights_of(description: Path) -> Sequence[str]:
    """Names that the weights may have: deploy.prototxt lies beside NAME_iter_1000.caffemodel."""
    bare = re.sub(r"[-_.]?(deploy|test|train_val|train)[-_.]?", "", description.stem, flags=re.IGNORECASE)
    names = [f"{description.stem}.caffemodel"]
    if bare != description.stem:
        only = list(description.parent.glob("*.caffemodel"))
        names += [f"{bare}*.caffemodel"] if bare else []
        names += [only[0].name] if len(only) == 1 else []
    return names


def _descriptions_of(weights: Path) -> Sequence[str]:
    stem = re.sub(r"_iter_\d+$", "", weights.stem)
    names = [f"{weights.stem}.prototxt", f"{stem}.prototxt", f"{stem}_deploy.prototxt"]
    return list(
        dict.fromkeys([*names, f"{stem}-deploy.prototxt", f"deploy_{stem}.prototxt", "deploy.prototxt"])
    )


KIND = Kind(
    network="a Caffe network's description (.prototxt)",
    weights="a Caffe network's weights (.caffemodel)",
    is_network=is_description,
    is_weights=is_weights,
    weights_of=_weights_of,
    network_of=_descriptions_of,
)


class CaffeImporter(PairImporter):
    """Converted layer by layer; compared with what OpenCV 4 computes."""

    environment = "opencv4"
    converter = "caffe"
    what = "a Caffe network"
    kind = KIND
    limits = Limits(memory_bytes=MEMORY_BYTES)

    def question(self, path: Path) -> dict[str, Any]:
        """Where the files are: the pair, and a mean picture where exactly one lies beside it.

        Raises:
            NotFound: one is missing. UsageError: a folder of several. InputError: not such a file.
        """
        description, weights = find_pair(KIND, path, self.options.weights)
        means = sorted({*description.parent.glob("*.binaryproto"), *weights.parent.glob("*.binaryproto")})
        return {
            "prototxt": str(description.resolve()),
            "caffemodel": str(weights.resolve()),
            "mean": str(means[0].resolve()) if len(means) == 1 else "",
        }

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """BGR minus the mean colour that the prototxt or a mean picture beside it states."""
        stated = self.open(source, inputs).about.get("declared")
        signature = self.signature(source, inputs)
        if not isinstance(stated, dict) or not stated or signature is None or len(signature.inputs) != 1:
            return None
        shape = signature.inputs[0].shape
        if len(shape) != 4 or shape[1] != 3 or not isinstance(shape[3], int):
            return None
        mean = [float(number) for number in stated["mean"]] or [0.0]
        std = 1 / float(stated["scale"])
        kind = str(stated["kind"])
        if kind == "detection":
            recipe = _prepared(load_recipe("ssd"), mean, std)
            return Declared(recipe, str(stated["why"])[:200], _ssd(stated))
        if kind == "classification":
            recipe = _prepared(load_recipe("imagenet-caffe"), mean, std)
            settings = {"size": shape[3], "resize": 256 if shape[3] in IMAGENET_SIDES else shape[3]}
            return Declared(recipe, str(stated["why"])[:200], settings)
        return None


def _ssd(stated: dict[str, Any]) -> dict[str, Any]:
    names = ("score_threshold", "iou_threshold", "background")
    return {"channels": "bgr", "multi_label": True} | {key: stated[key] for key in names if key in stated}


def _prepared(known: Recipe, mean: list[float], std: float) -> Recipe:
    """The recipe with another mean, one for all channels or one for each, and another deviation."""
    step = {"normalize": {"mean": mean if len(mean) > 1 else mean[0], "std": std}}
    pre = tuple(step if isinstance(each, dict) and "normalize" in each else each for each in known.pre)
    parameters = {key: value for key, value in known.parameters.items() if key not in ("mean", "std")}
    return msgspec.structs.replace(known, name="caffe", pre=pre, parameters=parameters)
