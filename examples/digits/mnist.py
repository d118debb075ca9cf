"""The MNIST files: where they come from, how they are checked and read. Knows no framework.

Files in a folder you name are read as they are and judged by their structure (magic numbers,
counts, lengths, label range). Checksums apply to what this module downloads itself.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

MEAN: Final = 0.1307
"""Mean of the training pixels after division by 255."""
STD: Final = 0.3081
"""Standard deviation of the training pixels after division by 255."""

MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256: Final = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""Of the .gz files as published."""

_IMAGES_MAGIC: Final = 2051
_LABELS_MAGIC: Final = 2049


class MnistError(Exception):
    """The data set cannot be had or is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class Mnist:
    """Images are uint8 [n, 28, 28], white ink (255) on black (0); labels are uint8 [n], 0 to 9."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def load(folder: Path | None = None) -> Mnist:
    """Read the four files from `folder` (.gz or plain), or download them once into a cache."""
    if folder is None:
        folder = cache_folder()
        for name in SHA256:
            _download(name, folder)
    train_images = read_images(_locate(folder, "train-images-idx3-ubyte"), count=60_000)
    train_labels = read_labels(_locate(folder, "train-labels-idx1-ubyte"), count=60_000)
    test_images = read_images(_locate(folder, "t10k-images-idx3-ubyte"), count=10_000)
    test_labels = read_labels(_locate(folder, "t10k-labels-idx1-ubyte"), count=10_000)
    return Mnist(train_images, train_labels, test_images, test_labels)


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/modelport/mnist or ~/.cache/modelport/mnist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modelport" / "mnist"


def read_images(path: Path, *, count: int) -> Bytes:
    """Read an idx3 file of `count` images; uint8 [count, 28, 28]."""
    data = _read(path)
    _check_header(path, data, magic=_IMAGES_MAGIC, shape=(count, 28, 28))
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, 28, 28)


def read_labels(path: Path, *, count: int) -> Bytes:
    """Read an idx1 file of `count` labels; uint8 [count], each 0 to 9."""
    data = _read(path)
    _check_header(path, data, magic=_LABELS_MAGIC, shape=(count,))
    labels = np.frombuffer(data, np.uint8, offset=8)
    wrong = np.flatnonzero(labels > 9)
    if wrong.size:
        at = int(wrong[0])
        raise MnistError(f"{path}: label {at} is {labels[at]}, expected 0 to 9")
    return labels


def _locate(folder: Path, name: str) -> Path:
    """The file `name`, plain or .gz, in `folder`; some mirrors write `.idx3` for `-idx3`."""
    for stem in (name, name.replace("-idx", ".idx")):
        for suffix in (".gz", ""):
            if (path := folder / f"{stem}{suffix}").is_file():
                return path
    raise MnistError(
        f"expected {name}.gz or {name} in {folder}, found neither\n"
        "hint: --data DIR names the folder with the four MNIST files; without it they are"
        " downloaded"
    )


def _read(path: Path) -> bytes:
    """The whole content, unpacked if it starts like a gzip file whatever its name says."""
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise MnistError(
            f"{path}: the gzip data is damaged or cut short ({error})\nhint: fetch the file again"
        ) from error


def _check_header(path: Path, data: bytes, *, magic: int, shape: tuple[int, ...]) -> None:
    """Compare the big-endian header (magic, then one 32-bit size per axis) and the length."""
    header = 4 + 4 * len(shape)
    if len(data) < header:
        raise MnistError(f"{path}: expected a header of {header} bytes, the file has {len(data)}")
    words = [int.from_bytes(data[at : at + 4], "big") for at in range(0, header, 4)]
    if words[0] != magic:
        hint = ""
        if words[0] in (_IMAGES_MAGIC, _LABELS_MAGIC):
            hint = "\nhint: are the image and the label file swapped?"
        raise MnistError(f"{path}: expected magic number {magic}, found {words[0]}{hint}")
    if tuple(words[1:]) != shape:
        found = " x ".join(map(str, words[1:]))
        raise MnistError(f"{path}: expected {' x '.join(map(str, shape))}, found {found}")
    expected = header + int(np.prod(shape))
    if len(data) != expected:
        fault = "is cut short" if len(data) < expected else "has bytes left over"
        raise MnistError(f"{path}: the file {fault}: expected {expected} bytes, found {len(data)}")


def _download(name: str, folder: Path) -> None:
    """Fetch `name`.gz into `folder` from the first mirror whose file has the right SHA-256."""
    target = folder / f"{name}.gz"
    if target.is_file() and _sha256(target.read_bytes()) == SHA256[name]:
        return
    faults: list[str] = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                data = answer.read()
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            faults.append(f"  {url}: {error}")
            continue
        if _sha256(data) != SHA256[name]:
            faults.append(f"  {url}: SHA-256 {_sha256(data)}, expected {SHA256[name]}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed when whole, so an interrupted download never passes for a file.
        partial = target.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(target)
        return
    raise MnistError(
        f"could not download {name}.gz:\n"
        + "\n".join(faults)
        + "\nhint: with the files already on this machine, pass --data DIR"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
