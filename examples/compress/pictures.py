"""Pictures with classes, as the recipes of this folder take them. Knows no framework.

A folder is read as one of three:

    MNIST       the four idx files, gzipped or plain             28x28, one channel
    CIFAR-10    its binary version: *_batch*.bin                 32x32, three channels
    yours       train/CLASS/*.png and test/CLASS/*.png (or .jpg) resized to `side`, three channels
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

sys.path.append(str(Path(__file__).resolve().parents[1] / "digits"))
import mnist

Bytes = npt.NDArray[np.uint8]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
CIFAR_SIDE = 32


class DataError(Exception):
    """The folder does not hold what it should; the message says what was expected."""


@dataclass(frozen=True)
class Pictures:
    """Images are uint8 [n, side, side, channels], labels int64 [n]."""

    train_images: Bytes
    train_labels: npt.NDArray[np.int64]
    test_images: Bytes
    test_labels: npt.NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Side, side, channels."""
        side, _, channels = self.test_images.shape[1:]
        return side, side, channels

    @property
    def digits(self) -> bool:
        """Whether these are MNIST's: 28x28 in grey, which the digits network takes."""
        return self.shape == (28, 28, 1)

    @property
    def mean(self) -> float:
        """Taken from each pixel / 255."""
        return mnist.MEAN if self.digits else 0.5

    @property
    def std(self) -> float:
        """What the result is divided by."""
        return mnist.STD if self.digits else 0.25

    def normalised(self, images: Bytes) -> npt.NDArray[np.float32]:
        """float32 of the same shape, as a network takes it: (pixel / 255 - mean) / std."""
        return ((images.astype(np.float32) / 255 - self.mean) / self.std).astype(np.float32)


def read(folder: Path, side: int = CIFAR_SIDE) -> Pictures:
    """What `folder` holds; `side` is of the third kind of folder only.

    Raises:
        DataError: it is none of the three, or what is in it is damaged.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return _folders(folder, side)
    if list(folder.glob("*_batch*.bin")):
        return _cifar(folder)
    if list(folder.glob("t10k-images*")):
        try:
            found = mnist.load(folder)
        except mnist.MnistError as error:
            raise DataError(str(error)) from error
        names = tuple(str(digit) for digit in range(10))
        train, test = found.train_labels.astype(np.int64), found.test_labels.astype(np.int64)
        return Pictures(found.train_images[..., None], train, found.test_images[..., None], test, names)
    raise DataError(
        f"expected MNIST's four files, CIFAR-10's *_batch*.bin, or train/ and test/ with a folder for each"
        f" class in {folder}, found none of them"
    )


def write_folders(images: Bytes, labels: npt.NDArray[np.int64], names: tuple[str, ...], folder: Path) -> None:
    """PNG files FOLDER/CLASS/NUMBER.png, which `modelport evaluate --data FOLDER` reads."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture.save(folder / names[label] / f"{number:05}.png")


def _cifar(folder: Path) -> Pictures:
    def rows(pattern: str) -> tuple[Bytes, npt.NDArray[np.int64]]:
        paths = sorted(folder.glob(pattern))
        data = b"".join(path.read_bytes() for path in paths)
        length = 1 + 3 * CIFAR_SIDE**2
        if not paths or not data or len(data) % length:
            raise DataError(
                f"expected {pattern} in {folder} with rows of {length} bytes, found {len(data)} bytes"
            )
        table = np.frombuffer(data, np.uint8).reshape(-1, length)
        images = table[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), table[:, 0].astype(np.int64)

    train, test = rows("data_batch*.bin"), rows("test_batch*.bin")
    listed = folder / "batches.meta.txt"
    names = tuple(listed.read_text().split()) if listed.is_file() else tuple(str(n) for n in range(10))
    highest = int(max(train[1].max(), test[1].max()))
    if highest >= len(names):
        raise DataError(
            f"{listed}: expected a name for each class, found {len(names)} names and label {highest}"
        )
    return Pictures(*train, *test, names)


def _folders(folder: Path, side: int) -> Pictures:
    names = tuple(sorted(path.name for path in (folder / "train").iterdir() if path.is_dir()))
    if len(names) < 2:
        raise DataError(
            f"expected a folder for each of two classes or more in {folder / 'train'}, found {names}"
        )

    def part(name: str) -> tuple[Bytes, npt.NDArray[np.int64]]:
        found = [
            (path, label)
            for label, each in enumerate(names)
            for path in sorted((folder / name / each).glob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        if not found:
            raise DataError(
                f"expected pictures in the folders {', '.join(names)} of {folder / name}, found none"
            )
        return np.stack([_picture(path, side) for path, _ in found]), np.array([label for _, label in found])

    return Pictures(*part("train"), *part("test"), names)


def _picture(path: Path, side: int) -> Bytes:
    """uint8 [side, side, 3], squeezed by Pillow's bilinear filter, as the packed recipe does it."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            resized = upright.resize((side, side), Image.Resampling.BILINEAR)
    except OSError as error:
        raise DataError(f"{path}: expected a picture ({error})") from error
    return np.asarray(resized)
