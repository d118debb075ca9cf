"""Top-1 and top-5 of SqueezeNet 1.1 on ImageNet photos: the packed bundle beside preprocessing by hand.

    python benchmarks/imagenet.py --model squeezenet1.1.onnx --photos DIR --labels FILE [--json]

DIR holds photos named `WNID_class_name.JPEG`, FILE the 1000 class names, a line each. By hand is what a
tutorial does: OpenCV reads and resizes to 256x256, NumPy crops 227x227 and takes the mean colour away,
onnxruntime runs the network. The two decode JPEG with different libraries.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from rich.progress import track

import modelport


def words(text: str) -> set[str]:
    """The names of a class: `tench, Tinca tinca` is two."""
    return {name.strip().lower().replace("_", " ") for name in text.split(",")}


def by_hand(model: Path, photos: list[Path]) -> list[list[int]]:
    """The five best classes of each photo, as a tutorial gets them."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    best = []
    for photo in track(photos, "by hand"):
        middle = cv2.resize(cv2.imread(str(photo)), (256, 256))[14:241, 14:241]
        batch = (middle.astype(np.float32) - (104, 117, 123)).transpose(2, 0, 1)[None].astype(np.float32)
        scores = session.run(None, {name: batch})[0].reshape(-1)
        best.append(np.argsort(-scores)[:5].tolist())
    return best


def bundled(model: Path, photos: list[Path], labels: list[str]) -> list[list[int]]:
    """The five best classes of each photo, from the packed bundle."""
    best = []
    with tempfile.TemporaryDirectory() as repo:
        bundle = modelport.pack(
            model, out=repo, recipe="imagenet-caffe", labels=labels, golden=[str(p) for p in photos[:4]]
        )
        with modelport.Pipeline.open(bundle) as pipeline:
            for photo in track(photos, "bundle"):
                answer = pipeline.answer(pipeline.decode(photo.read_bytes()))
                best.append(answer["indices"].tolist())
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option in ("--model", "--photos", "--labels"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    labels = [line.strip() for line in options.labels.read_text().splitlines() if line.strip()]
    photos = sorted(options.photos.glob("*.JPEG"))
    truth = [words(photo.stem.partition("_")[2]) for photo in photos]
    result = {"photos": len(photos)}
    for name, best in (
        ("bundle", bundled(options.model, photos, labels)),
        ("by_hand", by_hand(options.model, photos)),
    ):
        hits = [[bool(t & words(labels[i])) for i in five] for t, five in zip(truth, best, strict=True)]
        result[f"{name}_top1"] = float(np.mean([hit[0] for hit in hits]))
        result[f"{name}_top5"] = float(np.mean([any(hit) for hit in hits]))
    print(json.dumps(result) if options.json else "\n".join(f"{k:14} {v:g}" for k, v in result.items()))


if __name__ == "__main__":
    main()
