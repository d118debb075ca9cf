"""A Hugging Face image processor as steps: what it does to a picture, in the words of recipes.

The steps are a reading of the processor's settings; the other side holds them against the processor itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .converter import NotConverted

Step = dict[str, dict[str, Any]]
KERNELS = {0: "nearest", 2: "pillow-bilinear", 3: "pillow-bicubic"}
FILTERS = {1: "Lanczos", 4: "box", 5: "Hamming"}
STEPLESS = ("pad_size", "do_color_quantize", "do_thumbnail", "do_align_long_axis", "do_split_image")
"""What some processors do and no step does. (`do_pad` alone fills pictures of one batch up.)"""


def name_of(processor: Any) -> str:
    """The class's name as the folder's own file has it."""
    return type(processor).__name__.removesuffix("Pil").removesuffix("Fast")


def steps(processor: Any, channels: int) -> list[Step]:
    """What the processor does, up to the network's input.

    Args:
        processor: of the kind that works with Pillow.
        channels: that the network takes: 1 or 3.

    Raises:
        NotConverted: it does what no step does; the message ends the sentence "its image processor …".
    """
    told = processor.to_dict()
    switched_on = [name for name in STEPLESS if told.get(name)]
    if switched_on:
        raise NotConverted(f"has {', '.join(switched_on)}, for which there is no step")
    made: list[Step] = [{"grayscale": {}}] if channels == 1 else []
    if told.get("do_resize"):
        made += _resized(name_of(processor), told)
    if told.get("do_center_crop"):
        made.append(_crop(_sides(told["crop_size"])))
    if told.get("do_flip_channel_order"):
        made.append({"channels": {"order": "bgr"}})
    return [*made, *_numbers(name_of(processor), told), {"layout": {"order": "chw"}}]


def _resized(name: str, told: dict[str, Any]) -> list[Step]:
    """The resize, and the crop that some processors make with it."""
    size, kernel = told["size"], _kernel(told.get("resample"))
    short = size.get("shortest_edge")
    if name == "ConvNextImageProcessor":
        if short >= 384:
            return [{"resize": {"size": short, "kernel": kernel}}]
        side = int(short / told["crop_pct"])
        return [{"resize": {"shorter": side, "kernel": kernel}}, _crop([short, short])]
    if name == "LevitImageProcessor" and short:
        return [{"resize": {"shorter": int((256 / 224) * short), "kernel": kernel}}]
    if name == "PoolFormerImageProcessor" and told.get("crop_pct") is not None:
        height, width = (short, short) if short else _sides(size)
        if height != width:
            raise NotConverted(f"resizes to {height} x {width} by a fraction, for which there is no step")
        return [{"resize": {"shorter": int(height / told["crop_pct"]), "kernel": kernel}}]
    if short and size.get("longest_edge"):
        bounds = {"shorter": short, "longest": size["longest_edge"]}
        if name == "YolosImageProcessor":
            bounds["multiple"] = 16
        return [{"resize": {**bounds, "kernel": kernel}}]
    if short:
        return [{"resize": {"shorter": short, "kernel": kernel}}]
    return [{"resize": {"size": _sides(size), "kernel": kernel}}]


def _numbers(name: str, told: dict[str, Any]) -> list[Step]:
    """From bytes to what the network takes, in the processor's order."""
    made: list[Step] = []
    if told.get("do_rescale"):
        made.append({"scale": _factor(float(told["rescale_factor"]))})
        if told.get("rescale_offset"):
            made[-1]["scale"]["offset"] = -1.0
    # Its processor has the settings and does not use them.
    if told.get("do_normalize") and name != "MobileViTImageProcessor":
        made.append({"normalize": {"mean": told["image_mean"], "std": told["image_std"]}})
    if told.get("include_top"):
        made.append({"normalize": {"mean": 0.0, "std": told["image_std"]}})
    return made or [{"cast": {"to": "float32"}}]


def _factor(factor: float) -> dict[str, float]:
    """How `scale` gives the processor's numbers: it multiplies in double precision and rounds then."""
    pixels = np.arange(256, dtype=np.uint8)
    wanted = (pixels.astype(np.float64) * factor).astype(np.float32)
    for divisor in (round(1 / factor), round(2 / factor) / 2):
        if divisor and np.array_equal(pixels.astype(np.float32) / np.float32(divisor), wanted):
            return {"divide": float(divisor)}
    return {"by": factor}


def _kernel(resample: Any) -> str:
    number = int(resample) if resample is not None else 2
    if number not in KERNELS:
        raise NotConverted(f"resamples with {FILTERS.get(number, number)}, for which there is no step")
    return KERNELS[number]


def _crop(size: list[int]) -> Step:
    return {"center_crop": {"size": size, "rounding": "down"}}


def _sides(size: dict[str, Any]) -> list[int]:
    if not (size.get("height") and size.get("width")):
        raise NotConverted(f"makes pictures of the size {size}, for which there is no step")
    return [int(size["height"]), int(size["width"])]
