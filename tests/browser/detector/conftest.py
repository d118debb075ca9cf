"""A server with detectors whose right answers are obvious, and what Python says of the same pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import modelport

from ...boxes import LABELS, pack_boxes
from ...colours import served
from ..conftest import EVIL
from .page import Answer, asked, write


@pytest.fixture(scope="package")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the detector, and again with hostile labels."""
    folder = tmp_path_factory.mktemp("detectors")
    repo = pack_boxes(folder)
    modelport.pack(
        folder / "boxes.onnx",
        out=repo,
        name="hostile",
        recipe="yolov5",
        labels=[f"{label} {EVIL}" for label in LABELS],
        golden=[write(folder / "scene.png")],
    )
    return repo


@pytest.fixture(scope="package")
def url(bundles: Path) -> Iterator[str]:
    """The address of a server with these bundles."""
    with served(bundles) as (address, _):
        yield address


@pytest.fixture(scope="package")
def answer(bundles: Path) -> Iterator[Answer]:
    """What Python gives for a picture's file."""
    with modelport.Pipeline.open(modelport.Bundle.open(bundles / "boxes" / "1")) as pipeline:
        yield lambda file, **options: asked(pipeline, file, **options)
