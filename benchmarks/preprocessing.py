"""How long the compiled `pre.onnx` takes next to Pillow, OpenCV and NumPy doing the same work.

    python benchmarks/preprocessing.py            a table
    python benchmarks/preprocessing.py --json     the same as one object
    python benchmarks/preprocessing.py --markdown the table as it stands in the documentation

Each case starts from a decoded uint8 [H, W, 3] array and ends with the float32 [3, h, w] array that a
network takes, with one thread on each side. Both sides are checked to give the same bytes, then run by
turns, so that a busy machine slows both; a ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import onnxruntime
import PIL
from PIL import Image

from modelport.steps.compile import compile_pre
from modelport.steps.image import CenterCrop, Layout, Normalize, Scale
from modelport.steps.resize import Letterbox, Resize
from modelport.steps.step import PreStep
from modelport.tensors import Array

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photo(height: int, width: int) -> Array:
    """Something as smooth as a photograph; the time does not depend on the content."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def imagenet_steps(kernel: str) -> list[PreStep]:
    return [
        Resize(shorter=256, kernel=kernel),  # type: ignore[arg-type]
        CenterCrop(size=224),
        Scale(divide=255.0),
        Normalize(mean=MEAN, std=STD),
        Layout(order="chw"),
    ]


def imagenet_native(image: Array, resample: Image.Resampling) -> Array:
    """As torchvision's presets do it, in Pillow and NumPy."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    size = (int(256 * long / short), 256) if width >= height else (256, int(256 * long / short))
    resized = Image.fromarray(image).resize(size, resample)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    cropped = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    value = cropped.astype(np.float32) / np.float32(255)
    value = (value - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(value.transpose(2, 0, 1))


def letterbox_steps() -> list[PreStep]:
    return [Letterbox(size=640), Layout(order="chw"), Scale(divide=255.0)]


def letterbox_native(image: Array) -> Array:
    """As Ultralytics' predictors do it, in OpenCV and NumPy."""
    height, width = image.shape[:2]
    ratio = min(640 / height, 640 / width)
    inner = round(width * ratio), round(height * ratio)
    if (width, height) != inner:
        image = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    dw, dh = (640 - inner[0]) / 2, (640 - inner[1]) / 2
    top, bottom, left, right = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    framed = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114,) * 3)
    return np.ascontiguousarray(framed.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def resize_steps(kernel: str) -> list[PreStep]:
    return [Resize(size=(540, 960), kernel=kernel)]  # type: ignore[arg-type]


Case = tuple[str, tuple[int, int], list[PreStep], Callable[[Array], Array]]
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
CASES: list[Case] = [
    (
        "shorter 256, middle 224, pillow-bilinear, normalised",
        (1080, 1920),
        imagenet_steps("pillow-bilinear"),
        lambda x: imagenet_native(x, BILINEAR),
    ),
    (
        "shorter 256, middle 224, pillow-bilinear, normalised",
        (375, 500),
        imagenet_steps("pillow-bilinear"),
        lambda x: imagenet_native(x, BILINEAR),
    ),
    (
        "shorter 256, middle 224, pillow-bicubic, normalised",
        (1080, 1920),
        imagenet_steps("pillow-bicubic"),
        lambda x: imagenet_native(x, BICUBIC),
    ),
    (
        "resize to 960 x 540, pillow-bilinear, nothing else",
        (1080, 1920),
        resize_steps("pillow-bilinear"),
        lambda x: np.asarray(Image.fromarray(x).resize((960, 540), BILINEAR)),
    ),
    (
        "resize to 960 x 540, pillow-bicubic, nothing else",
        (1080, 1920),
        resize_steps("pillow-bicubic"),
        lambda x: np.asarray(Image.fromarray(x).resize((960, 540), BICUBIC)),
    ),
    ("letterbox 640, opencv-linear, / 255 (one third)", (1080, 1920), letterbox_steps(), letterbox_native),
    ("letterbox 640, opencv-linear, / 255 (one half)", (720, 1280), letterbox_steps(), letterbox_native),
    ("letterbox 640, opencv-linear, / 255 (any ratio)", (1200, 1600), letterbox_steps(), letterbox_native),
    ("letterbox 640, opencv-linear, / 255 (enlarged)", (375, 500), letterbox_steps(), letterbox_native),
]


def measure(case: Case, rounds: int) -> dict[str, object]:
    """One row: medians in milliseconds of both sides, and their ratio."""
    name, size, steps, native = case
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        compile_pre(steps, "x").data, options, providers=["CPUExecutionProvider"]
    )
    image = photo(*size)

    def compiled() -> Array:
        result: Array = session.run(None, {"image": image})[0]
        return result

    if not np.array_equal(compiled(), native(image)):
        raise SystemExit(f"{name}: the two sides differ, so there is nothing to compare")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, kept in zip((compiled, lambda: native(image)), times, strict=True):
            start = time.thread_time()
            run()
            kept.append((time.thread_time() - start) * 1e3)
    ours, theirs = (statistics.median(kept) for kept in times)
    return {
        "case": name,
        "picture": f"{size[1]} x {size[0]}",
        "compiled_ms": round(ours, 2),
        "native_ms": round(theirs, 2),
        "ratio": round(ours / theirs, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compiled pre-processing against Pillow and OpenCV.")
    parser.add_argument("--rounds", type=int, default=41, help="runs of each side of each case")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--markdown", action="store_true", help="a Markdown table on stdout")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for number, case in enumerate(CASES, 1):
        print(f"{number}/{len(CASES)} {case[0]}", file=sys.stderr)
        rows.append(measure(case, arguments.rounds))
    versions = {
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }
    if arguments.json:
        print(json.dumps({"schema": "modelport.bench.preprocessing/1", "versions": versions, "rows": rows}))
        return
    heads = ("picture", "work", "graph", "native", "ratio")
    table = [
        (
            str(row["picture"]),
            str(row["case"]),
            f"{row['compiled_ms']} ms",
            f"{row['native_ms']} ms",
            f"{row['ratio']}",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (heads, *table)) for i in range(len(heads))]
    edge = "| " if arguments.markdown else ""
    join = " | " if arguments.markdown else "  "
    end = " |" if arguments.markdown else ""
    lines = [heads, tuple("-" * w for w in widths), *table]
    for line in lines:
        print(edge + join.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + end)
    print("\n" + ", ".join(f"{name} {version}" for name, version in versions.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
