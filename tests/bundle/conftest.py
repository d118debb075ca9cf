"""A real bundle, small enough to be built for each test: graphs of ordinary operators, run by a runtime."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from modelport.bundle.manifest import (
    MANIFEST,
    Decode,
    Golden,
    GoldenCase,
    GraphInfo,
    Graphs,
    Lineage,
    Manifest,
    Source,
    Steps,
    Variant,
)
from modelport.bundle.store import Bundle, labels_file, write_bundle
from modelport.steps.graph import Graph
from modelport.tensors import Signature, TensorSpec

LABELS = ("cat", "dog", "鸟")

IMAGE = TensorSpec("image", "uint8", ("height", "width", 3))
INPUT = TensorSpec("input", "float32", (3,))
BATCH = TensorSpec("input", "float32", ("batch", 3))
LOGITS = TensorSpec("logits", "float32", ("batch", 3))
SCORES = TensorSpec("scores", "float32", ("batch", 3))


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """Files of a bundle that averages an image's colours, multiplies them by a matrix, and takes softmax."""
    return {
        "pre.onnx": _pre(),
        "net.onnx": _net(),
        "post.onnx": _post(),
        "net.int8.onnx": _net(),
        "labels.txt": labels_file(LABELS),
        "README.md": b"# tiny\n",
        "golden/000.bin": bytes(range(48)),
        "golden/000.npz": _taps(),
    }


@pytest.fixture
def tiny_manifest() -> Manifest:
    """The manifest that goes with `tiny_files`, before its files are known."""
    return Manifest(
        name="tiny",
        version="1",
        task="image-classification",
        created="2024-01-01T00:00:00Z",
        producer="modelport 0",
        decode=Decode(),
        graphs=Graphs(
            pre=GraphInfo("pre.onnx", False, Signature((IMAGE,), (INPUT,))),
            net=GraphInfo("net.onnx", True, Signature((BATCH,), (LOGITS,))),
            post=GraphInfo("post.onnx", True, Signature((LOGITS,), (SCORES,))),
        ),
        steps=Steps(pre=({"scale": {"by": 0.5}},), post=({"softmax": {"axis": -1}},)),
        labels="labels.txt",
        golden=Golden("torch 2", True, (GoldenCase("000", "golden/000.bin", "golden/000.npz"),)),
        variants=(Variant("int8", "net.int8.onnx", {"agree": 0.998}),),
        lineage=Lineage(source=Source("torch", "torch 2", "tiny.pt", "0" * 64)),
        files={},
    )


@pytest.fixture
def tiny(tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes]) -> Bundle:
    """The bundle, written to `REPO/tiny/1`; `tmp_path / "repo"` is the repository."""
    return write_bundle(tmp_path / "repo" / "tiny" / "1", tiny_manifest, tiny_files)


@pytest.fixture
def tamper(tiny: Bundle) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """Changes the manifest of `tiny` on disk with a function of its JSON; gives the bundle's path."""

    def change(edit: Callable[[dict[str, Any]], None]) -> Path:
        place = tiny.path / MANIFEST
        data = json.loads(place.read_bytes())
        edit(data)
        place.write_text(json.dumps(data))
        return tiny.path

    return change


@pytest.fixture
def write_version(
    tmp_path: Path, tiny_manifest: Manifest, tiny_files: dict[str, bytes]
) -> Callable[[str, str], Bundle]:
    """Writes another bundle to the same repository: (name, version)."""

    def write(name: str, version: str) -> Bundle:
        manifest = msgspec.structs.replace(tiny_manifest, name=name, version=version)
        return write_bundle(tmp_path / "repo" / name / version, manifest, tiny_files)

    return write


def _pre() -> bytes:
    graph = Graph()
    image = graph.input(IMAGE)
    axes = graph.constant([0, 1], "int64")
    mean = graph.op("ReduceMean", graph.cast(image.name, "float32"), axes, keepdims=0)
    graph.output(INPUT, graph.op("Mul", mean, graph.constant(0.5, "float32")))
    return graph.build("pre")


def _net() -> bytes:
    graph = Graph()
    x = graph.input(BATCH)
    weights = np.arange(9, dtype=np.float32).reshape(3, 3) / 10
    graph.output(LOGITS, graph.op("MatMul", x.name, graph.constant(weights)))
    return graph.build("net")


def _post() -> bytes:
    graph = Graph()
    x = graph.input(LOGITS)
    graph.output(SCORES, graph.op("Softmax", x.name, axis=-1))
    return graph.build("post")


def _taps() -> bytes:
    file = io.BytesIO()
    arrays: dict[str, Any] = {"pre.input": np.zeros(3, np.float32)}
    np.savez(file, **arrays)
    return file.getvalue()
