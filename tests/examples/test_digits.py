"""The digits example: its loader refuses what is not MNIST, and its scripts train, pack and verify."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def mnist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mnist_example", FOLDER / "mnist.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["mnist_example"] = module
    spec.loader.exec_module(module)
    return module


def images_file(count: int, magic: int = 2051) -> bytes:
    pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8)
    return struct.pack(">IIII", magic, count, 28, 28) + pixels.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_the_loader_reads_idx_files(mnist: ModuleType, tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(images_file(3)) if packed else images_file(3))
    images = mnist.read_images(path, count=3)
    assert images.shape == (3, 28, 28) and images.dtype == np.uint8
    assert images[0, 0, :3].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "header"),
        (images_file(3, magic=2049), "magic"),
        (images_file(3)[:-1], "bytes"),
        (images_file(3) + b"x", "bytes"),
        (images_file(2), "3 x 28 x 28"),
        (gzip.compress(images_file(3))[:-20], ""),
    ],
)
def test_the_loader_refuses_what_is_not_mnist(
    mnist: ModuleType, tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(mnist.MnistError) as refused:
        mnist.read_images(path, count=3)
    assert words in str(refused.value) and str(path) in str(refused.value)


def test_the_strokes_are_the_samples() -> None:
    strokes = json.loads((FOLDER / "samples" / "strokes.json").read_text())
    assert sorted(strokes) == list("0123456789")
    for digit, variants in strokes.items():
        assert len(list((FOLDER / "samples").glob(f"{digit}-*.png"))) == len(variants) >= 2


SMALL = """
import runpy, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import mnist
full = mnist.Mnist
random = np.random.default_rng(0)
labels = (np.arange(512) % 10).astype(np.uint8)
images = np.zeros((512, 28, 28), np.uint8)
for image, label in zip(images, labels):
    image[4 + 2 * label : 7 + 2 * label, 4:24] = 255  # a bar whose height is the digit
mnist.load = lambda folder=None: full(images, labels, images[:100], labels[:100])
script = sys.argv[2]
sys.argv = [script, *sys.argv[3:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("script", "made"), [("train_torch.py", "digits.pt"), ("train_keras.py", "digits.keras")]
)
def test_the_scripts_train_pack_and_verify(script: str, made: str, tmp_path: Path) -> None:
    arguments = ["--epochs", "2", "-o", str(tmp_path / made), "--pack", str(tmp_path / "repo")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SMALL, str(FOLDER), str(FOLDER / script), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "test accuracy" in done.stdout and "answers as in" in done.stdout
    assert (tmp_path / made).is_file() and (tmp_path / "repo" / "digits" / "1" / "modelport.json").is_file()
