"""torchvision's transforms become a recipe where they equal it; read from real ones, and from equivalents."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelport.errors import UsageError
from modelport.importers import torch as importer_module
from modelport.importers.pack import pack
from modelport.importers.source import Permission, SourceOptions
from modelport.isolation.child import torch_transforms
from modelport.isolation.child.converter import NotConverted
from modelport.isolation.worker import start

from .private import private

pytestmark = pytest.mark.frameworks

# What torchvision's preset is, where torchvision cannot be installed: the same attributes, the same picture.
EQUIVALENT = """
import numpy as np, torch
from PIL import Image
from torch import nn

class ImageClassification:
    def __init__(self):
        self.resize_size, self.crop_size, self.antialias = [40], [32], True
        self.mean, self.std, self.interpolation = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], "bilinear"
        self.extra = EXTRA

    def __call__(self, picture):
        scale, (width, height) = 40 / min(picture.size), picture.size
        size = (40, int(40 * height / width)) if width <= height else (int(40 * width / height), 40)
        picture = picture.resize(size, Image.BILINEAR)
        left, top = (int(round((side - 32) / 2)) for side in picture.size)
        pixels = np.array(picture.crop((left, top, left + 32, top + 32)))
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div(255) + self.extra
        return (tensor - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.std).view(3, 1, 1)

transforms = ImageClassification()

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
"""
REAL = """
import torchvision.transforms as T
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

size, cubic = (40, 36), T.InterpolationMode.BICUBIC
picture = [T.Resize(size, interpolation=cubic), T.CenterCrop(32), T.Grayscale()]
transforms = T.Compose([*picture, T.ToTensor(), T.Normalize([.5], [.2])])
"""
PUBLISHED = """
import sys, torch
from torchvision.models import resnet18

torch.manual_seed(0)
torch.save(resnet18().state_dict(), sys.argv[1] + "/resnet.pth")
sys.path.insert(0, sys.argv[1])
from network import make
torch.save(make().state_dict(), sys.argv[1] + "/small.pth")
"""


def packed(
    folder: Path, builder: str, weights: str = "weights.pth", **arguments: Any
) -> tuple[Any, list[str]]:
    notes: list[str] = []
    bundle = pack(
        folder / weights,
        out=folder / "repo",
        progress=notes.append,
        permission=Permission(trust=True, tell=notes.append),
        options=SourceOptions(builder=builder),
        **arguments,
    )
    return bundle, notes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 5))
    state = net.state_dict()
    torch.save({name.replace("2.", "3."): value for name, value in state.items()}, tmp_path / "weights.pth")
    return tmp_path


def test_transforms_beside_the_class_are_the_recipe(folder: Path) -> None:
    (folder / "network.py").write_text(EQUIVALENT.replace("EXTRA", "0"))
    bundle, notes = packed(folder, f"{folder / 'network.py'}:make")
    assert any("read from 'transforms' in network.py, and gives the same in every bit" in n for n in notes)
    steps = bundle.manifest.steps.pre
    assert [name for step in steps for name in step] == [
        "resize",
        "center_crop",
        "scale",
        "normalize",
        "layout",
    ]
    assert steps[0]["resize"]["shorter"] == 40


def test_transforms_that_do_more_than_they_say_are_not_taken(folder: Path) -> None:
    (folder / "network.py").write_text(EQUIVALENT.replace("EXTRA", "0.1"))
    told: list[str] = []
    with pytest.raises(UsageError, match="takes a picture by the look of it"):
        pack(
            folder / "weights.pth",
            out=folder / "repo",
            permission=Permission(trust=True, tell=told.append),
            options=SourceOptions(builder=f"{folder / 'network.py'}:make"),
        )
    assert any("do something that their settings do not say" in note for note in told)


def made(name: str, **attributes: Any) -> Any:
    return type(name, (), attributes)()


TENSOR = made("ToTensor")


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (
            [made("Resize", size=40, interpolation="bilinear"), made("ColorJitter"), TENSOR],
            "have ColorJitter",
        ),
        ([TENSOR, made("Resize", size=40, interpolation="bilinear")], "have Resize on a tensor"),
        ([made("Resize", size=40, interpolation="lanczos"), TENSOR], "resize with lanczos"),
        ([made("Resize", size=40, interpolation="bilinear", max_size=60), TENSOR], "max_size=60"),
        ([made("CenterCrop", size=40)], "do not end in a tensor of floats"),
        ([made("PILToTensor")], "do not end in a tensor of floats"),
    ],
)
def test_what_no_step_does_is_named(chain: list[Any], said: str) -> None:
    with pytest.raises(NotConverted, match=said):
        torch_transforms.steps(made("Compose", transforms=chain))


def test_published_weights_are_known_by_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "renamed.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    other = SimpleNamespace(url="https://example.org/resnet-00000000.pth")
    preset = made("ImageClassification")
    right = SimpleNamespace(
        url=f"https://example.org/resnet-{digest}.pth",
        meta={"categories": ["tench", "goldfish"]},
        transforms=lambda: preset,
    )
    models = SimpleNamespace(list_models=lambda module: ["a"], get_model_weights=lambda name: [other, right])
    monkeypatch.setitem(torch_transforms.sys.modules, "torchvision.models", models)
    found = torch_transforms.known(str(path), None, None)
    assert found is not None
    assert (found.prepare, found.labels) == (preset, ["tench", "goldfish"])
    path.write_bytes(b"others")
    torch_transforms._digest.cache_clear()
    assert torch_transforms.known(str(path), None, None) is None


def test_torchvision_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment of the detectors, whose torchvision the tests make importable."""
    with private("ultralytics") as python:
        if subprocess.run([python, "-c", "import torchvision"], capture_output=True, check=False).returncode:
            pytest.skip("no torchvision that can be imported")
        (tmp_path / "network.py").write_text(REAL)
        subprocess.run([python, "-c", PUBLISHED, str(tmp_path)], check=True, capture_output=True)
        monkeypatch.setattr(
            importer_module,
            "open_worker",
            lambda name, _, __, limits: start(python, name, limits, private=True),
        )
        _, notes = packed(tmp_path, f"{tmp_path / 'network.py'}:make", "small.pth")
        assert any(
            "read from 'transforms' in network.py, and gives the same in every bit" in n for n in notes
        )
        # Weights that torchvision did not publish say nothing of how pictures are prepared.
        with pytest.raises(UsageError, match="takes a picture by the look of it"):
            packed(tmp_path, "torchvision.models:resnet18", "resnet.pth")
