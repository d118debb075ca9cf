"""The models, and the data that they are calibrated with and judged on. Everything comes from one folder."""

from __future__ import annotations

import csv
import gzip
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import modelport
from modelport.bundle.store import Bundle
from modelport.cli.demo import DIGITS

from .places import HERE, MADE

PERSON_SHARE = 0.005
"""Visual Wake Words: a picture shows a person where one takes up more than this share of it."""
CALIBRATING_DIGITS = 128
CIFAR_OF = {
    "bird": (
        "n015",
        "n01601",
        "n0179",
        "n0180",
        "n0182",
        "n0184",
        "n0186",
        "n0200",
        "n0201",
        "n0202",
        "n0205",
    ),
    "cat": ("n02124075",),
    "dog": ("n0208", "n0209", "n0210", "n0211"),
    "frog": ("n01641577",),
    "ship": ("n03095699", "n03662601", "n04147183"),
    "truck": ("n03345487", "n03796401"),
}
"""Beginnings of WordNet ids whose photos show one of CIFAR-10's classes."""
WILD = ("n02114548", "n02116738")
"""A wolf and a wild dog, which CIFAR-10 has no class for."""


@dataclass(frozen=True)
class Labelled:
    """What a case is judged on and calibrated with."""

    truth: Path
    """As `modelport evaluate` reads it."""
    calibration: Path
    """A folder of items."""


@dataclass(frozen=True)
class Case:
    """One model with its data."""

    name: str
    title: str
    goal: float
    """The throughput that was set as the goal, over that of the float32 bundle."""
    pack: Callable[[Path, Path], Bundle]
    """Data folder and repository -> the packed bundle."""
    label: Callable[[Path, Path], Labelled]
    """Data folder and a folder to write into -> the labelled data."""
    gate: str = "estimate"
    weights: str = ""
    """The framework's own file in the data folder, for peers that do not take ONNX."""

    def bundle(self, data: Path) -> Bundle:
        """The bundle in the cache, packed where it is not there yet."""
        place = MADE / "cases" / self.name / "repo"
        found = sorted(place.glob("*/1/modelport.json"))
        return Bundle.open(found[0].parent) if found else self.pack(data, place)

    def labelled(self, data: Path) -> Labelled:
        """The labelled data in the cache."""
        place = MADE / "cases" / self.name / "data"
        place.mkdir(parents=True, exist_ok=True)
        return self.label(data, place)


def _write(path: Path, rows: Iterable[tuple[Path, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows((str(photo), label) for photo, label in rows)
    return path


def _pack_squeezenet(data: Path, repository: Path) -> Bundle:
    photos = sorted((data / "imagenet200").glob("*.JPEG"))[:4]
    return modelport.pack(
        data / "squeezenet" / "squeezenet1.1.onnx",
        out=repository,
        name="squeezenet",
        recipe="imagenet-caffe",
        labels=_imagenet_labels(data),
        golden=photos,
    )


def _imagenet_labels(data: Path) -> list[str]:
    lines = (data / "imagenet200" / "imagenet_labels.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip()]
    return names[1:] if names[0] == "background" else names


def _label_imagenet(data: Path, place: Path) -> Labelled:
    """`WNID_class_name.JPEG`, the name being the first or another one of a label's."""
    by_name: dict[str, str] = {}
    for label in _imagenet_labels(data):
        for name in label.split(","):
            by_name.setdefault(name.strip().lower(), label)
    photos = sorted((data / "imagenet200").glob("*.JPEG"))
    rows = [(photo, by_name[photo.stem.partition("_")[2].replace("_", " ").lower()]) for photo in photos]
    return Labelled(_write(place / "labels.csv", rows), data / "imagenet200")


def _pack_yolov5n(data: Path, repository: Path) -> Bundle:
    return modelport.pack(
        data / "yolov5n" / "yolov5n.onnx",
        out=repository,
        name="yolov5n",
        recipe="yolov5",
        labels=_coco_names(data),
        golden=[data / "yolov5n" / "bus.jpg"],
    )


def _coco_names(data: Path) -> list[str]:
    import yaml

    named = yaml.safe_load(next((data / "coco128").glob("*.yaml")).read_text())["names"]
    return [named[index] for index in sorted(named)] if isinstance(named, dict) else list(named)


def _label_coco(data: Path, place: Path) -> Labelled:
    return Labelled(data / "coco128", data / "coco128" / "images")


def _pack_digits(data: Path, repository: Path) -> Bundle:
    target = repository / "digits" / "1"
    shutil.copytree(DIGITS, target)
    return Bundle.open(target)


def _mnist(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        np.frombuffer(gzip.decompress((data / "mnist" / f"{part}-{kind}.gz").read_bytes()), np.uint8)
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return images[16:].reshape(-1, 28, 28), labels[8:]


def _label_digits(data: Path, place: Path) -> Labelled:
    """All test images as PNG; calibration takes training images."""
    calibration, test = place / "train", place / "test"
    if not (place / "labels.csv").exists():
        for folder, (images, _) in ((calibration, _mnist(data, "train")), (test, _mnist(data, "t10k"))):
            folder.mkdir(exist_ok=True)
            images = images[:CALIBRATING_DIGITS] if folder is calibration else images
            for number, image in enumerate(images):
                Image.fromarray(image).save(folder / f"{number:05}.png")
        known = _mnist(data, "t10k")[1]
        rows = [(test / f"{number:05}.png", str(label)) for number, label in enumerate(known)]
        _write(place / "labels.csv", rows)
    return Labelled(place / "labels.csv", calibration)


def _pack_keras(file: str, name: str) -> Callable[[Path, Path], Bundle]:
    def packed(data: Path, repository: Path) -> Bundle:
        photos = sorted((data / "coco128" / "images").glob("*.jpg"))[:4]
        recipe = HERE / "recipes" / f"{name}.toml"
        return modelport.pack(data / "keras" / file, out=repository, name=name, recipe=recipe, golden=photos)

    return packed


def _label_person(data: Path, place: Path) -> Labelled:
    """Whether a picture shows a person, by COCO's boxes and the rule of Visual Wake Words."""
    rows = []
    for photo in sorted((data / "coco128" / "images").glob("*.jpg")):
        boxes = data / "coco128" / "labels" / f"{photo.stem}.txt"
        lines = boxes.read_text().splitlines() if boxes.exists() else []
        found = [[float(word) for word in line.split()] for line in lines]
        person = any(box[0] == 0 and math.prod(box[3:5]) > PERSON_SHARE for box in found if box)
        rows.append((photo, "person" if person else "no person"))
    return Labelled(_write(place / "labels.csv", rows), data / "coco128" / "images")


def _label_cifar(data: Path, place: Path) -> Labelled:
    """ImageNet photos whose class is one of CIFAR-10's."""
    rows = []
    for photo in sorted((data / "imagenet200").glob("*.JPEG")):
        if not photo.name.startswith(WILD):
            rows += [(photo, name) for name, ids in CIFAR_OF.items() if photo.name.startswith(ids)]
    return Labelled(_write(place / "labels.csv", rows), data / "imagenet200")


CASES = {
    case.name: case
    for case in (
        Case("squeezenet", "SqueezeNet 1.1, 200 ImageNet photos", 3.0, _pack_squeezenet, _label_imagenet),
        Case(
            "yolov5n",
            "yolov5n, COCO128",
            2.0,
            _pack_yolov5n,
            _label_coco,
            weights="yolov5n/yolov5n.pt",
        ),
        Case("digits", "the shipped digits model, MNIST", 3.0, _pack_digits, _label_digits, gate="interval"),
        Case(
            "vww",
            "MobileNet v1 0.25 (Keras, MLPerf Tiny's Visual Wake Words), COCO128",
            3.0,
            _pack_keras("vww_96.h5", "vww"),
            _label_person,
        ),
        Case(
            "resnet",
            "ResNet-8 (Keras, MLPerf Tiny's CIFAR-10), ImageNet photos of its classes",
            3.0,
            _pack_keras("pretrainedResnet.h5", "resnet"),
            _label_cifar,
        ),
    )
}
