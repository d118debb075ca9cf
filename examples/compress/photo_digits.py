"""A data set of CIFAR-10's size and form without CIFAR-10: MNIST's digits on patches of photos.

    python photo_digits.py --mnist DIR --photos DIR -o photo-digits

Each digit is laid over a 32x32 patch of a photo as |photo - digit|, which is how MNIST-M was made (Ganin and
Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", 2015): colours and textures say nothing of the
class. The patches of the test pictures come from photos that no training picture was cut from. Seeded: the
same command writes the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1] / "digits"))
from mnist import MnistError, load

Bytes = npt.NDArray[np.uint8]

SIDE = 32
SUFFIXES = {".jpg", ".jpeg", ".png"}
TEST_SHARE = 5
"""One photo in five is for test pictures."""


def photos(folder: Path, longest: int = 256) -> list[Bytes]:
    """The photos below `folder` in the order of their paths, uint8 [h, w, 3], shrunk to `longest` pixels.

    Raises:
        SystemExit: there are fewer than ten.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        with Image.open(path) as image:
            image.draft("RGB", (longest, longest))
            image.thumbnail((longest, longest))
            if min(image.size) >= SIDE:
                found.append(np.asarray(image.convert("RGB")))
    if len(found) < 10:
        raise SystemExit(
            f"error: expected ten photos (.jpg, .png) or more below {folder}, found {len(found)}"
        )
    return found


def composed(digits: Bytes, pool: Sequence[Bytes], random: np.random.Generator) -> Bytes:
    """uint8 [n, 32, 32, 3] of `digits`, uint8 [n, 28, 28], each over a patch from anywhere in `pool`."""
    made = np.empty((len(digits), SIDE, SIDE, 3), np.uint8)
    for place, digit in enumerate(digits):
        photo = pool[random.integers(len(pool))]
        top, left = (random.integers(extent - SIDE + 1) for extent in photo.shape[:2])
        patch = photo[top : top + SIDE, left : left + SIDE].astype(np.int16)
        patch[2:30, 2:30] -= digit[..., None]
        made[place] = np.abs(patch)
    return made


def write(path: Path, images: Bytes, labels: Bytes) -> None:
    """A file as CIFAR-10's binary version has it: for each picture its label, then its red, green and
    blue."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.concatenate([labels[:, None], planes], 1).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Lay MNIST's digits over patches of photos.")
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="MNIST's files (without it: downloaded)")
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", required=True, help="any photos, with subfolders"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, default=Path("photo-digits"))
    args = parser.parse_args()
    try:
        digits = load(args.mnist)
    except MnistError as error:
        parser.exit(2, f"error: {error}\n")
    random = np.random.default_rng(args.seed)
    pool = photos(args.photos)
    order = random.permutation(len(pool))
    held = len(pool) // TEST_SHARE
    for_test, for_training = ([pool[place] for place in part] for part in (order[:held], order[held:]))
    args.out.mkdir(parents=True, exist_ok=True)
    images = composed(digits.train_images, for_training, random)
    for part, places in enumerate(np.array_split(np.arange(len(images)), 5), 1):
        write(args.out / f"data_batch_{part}.bin", images[places], digits.train_labels[places])
    write(args.out / "test_batch.bin", composed(digits.test_images, for_test, random), digits.test_labels)
    (args.out / "batches.meta.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    print(f"{len(images):,} + {len(digits.test_images):,} pictures on {len(for_training)} + {held} photos")


if __name__ == "__main__":
    main()
