"""TensorFlow Lite models (`.tflite`), in floats and quantised, with their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..steps.recipe import Recipe
from ..tensors import Signature, TensorSpec
from .converted import ConvertedImporter
from .source import Declared, file_head

MAGIC = b"TFL3"
PIXELS = (0.0, 128.0, 255.0)
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
NEAR = 0.01
"""A share of the range; calibration with pictures that are neither black nor white gives another range, in
which pixels would be somewhat too bright."""


class TFLiteImporter(ConvertedImporter):
    """Converted by tf2onnx; compared with TensorFlow Lite's interpreter."""

    environment = "tensorflow"
    converter = "tflite"
    what = "a TensorFlow Lite model"

    def recognises(self, source: Any) -> bool:
        """By the FlatBuffer's file identifier."""
        return file_head(source, 8)[4:] == MAGIC

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """The normalisation that the metadata states, or pixels as they are where they are the numbers of a
        quantised input; for classifiers."""
        said = self.open(source, inputs).about.get("declared")
        signature = self.signature(source, inputs)
        channels = _channels(signature) if signature is not None else None
        if not isinstance(said, dict) or signature is None or channels is None:
            return None
        taken = _range(said, channels)
        if taken is None:
            return None
        steps, why = taken
        assumed = (
            f"{why} says what happens to the pixels, not how a picture gets its size: the whole picture, "
            "bilinear, as TensorFlow Lite's task library does it (--set kernel=… takes another; modelport "
            "fit-steps finds out which it was)"
        )
        if said.get("colours") == "grayscale" or channels == 1:
            steps = ("grayscale", *steps)
        recipe = Recipe(
            name="tflite",
            task="image-classification",
            description="As the model's own metadata and quantisation say.",
            parameters={"size": 224, "kernel": "opencv-linear", "layout": "auto", "top_k": 5},
            pre=(
                {"resize": {"size": "$size", "kernel": "$kernel"}},
                *steps,
                {"layout": {"order": "$layout"}},
            ),
            post=(*_scores(said), {"top_k": {"k": "$top_k"}}, "labels"),
        )
        return Declared(recipe, why, assumed=assumed)


def _channels(signature: Signature) -> int | None:
    """How many channels the one picture has that goes in, where one row of scores comes out."""
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return None
    picture, scores = signature.inputs[0].shape, signature.outputs[0].shape
    if len(picture) != 4 or len(scores) != 2 or not isinstance(scores[1], int) or scores[1] < 2:
        return None
    last = picture[3]
    return last if last in (1, 3) and isinstance(last, int) else None


def _range(said: Mapping[str, Any], channels: int) -> tuple[tuple[Any, ...], str] | None:
    """The steps from pixels to the network's numbers, and what says so; None where nothing does."""
    mean, std = (_numbers(said.get(name), channels) for name in ("mean", "std"))
    whole = _quantisation(said.get("input"))
    if whole is None:
        if not mean or not std or said.get("input") != {"dtype": "float32"}:
            return None
        return (_normalised(mean, std),), "its metadata"
    scale, zero, dtype = whole
    if dtype == "uint8" and not mean:
        low, high = ((pixel - zero) * scale for pixel in (0, 255))
        usual = any(max(abs(low - a), abs(high - b)) <= NEAR * (b - a) for a, b in RANGES)
        said_so = f"its quantisation (pixels 0 to 255 are its numbers and stand for {low:.3g} to {high:.3g})"
        return ((), said_so) if usual else None
    if not mean or not std:
        return None
    unlike = [
        abs((pixel - m) / s / scale + zero - pixel)
        for pixel in PIXELS
        for m, s in zip(mean, std, strict=True)
    ]
    if dtype == "uint8" and max(unlike) <= 1:
        return (), "its metadata (which its quantisation undoes: pixels are its numbers)"
    quantised = {"quantize": {"scale": scale, "zero_point": zero, "to": dtype}}
    return (_normalised(mean, std), quantised), "its metadata"


def _normalised(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    alike = len(set(mean)) == len(set(std)) == 1
    return {"normalize": {"mean": mean[0] if alike else list(mean), "std": std[0] if alike else list(std)}}


def _scores(said: Mapping[str, Any]) -> tuple[Any, ...]:
    """From what comes out to scores."""
    whole = _quantisation(said.get("output"))
    steps: tuple[Any, ...] = ()
    if whole is not None:
        steps = ({"dequantize": {"scale": whole[0], "zero_point": whole[1]}},)
    return steps if whole is not None and said.get("probabilities") else (*steps, "softmax")


def _quantisation(said: Any) -> tuple[float, int, str] | None:
    """Scale, zero point and datatype; None for floats."""
    if not isinstance(said, dict) or said.get("dtype") not in ("uint8", "int8"):
        return None
    scale, zero = said.get("scale"), said.get("zero_point")
    if not isinstance(scale, float) or not isinstance(zero, int) or scale <= 0:
        return None
    return scale, zero, str(said["dtype"])


def _numbers(said: Any, channels: int) -> list[float]:
    """One number for each channel; empty where there is none."""
    if not isinstance(said, list) or not all(isinstance(each, (int, float)) for each in said):
        return []
    return [float(each) for each in said * channels] if len(said) == 1 else [float(each) for each in said]
