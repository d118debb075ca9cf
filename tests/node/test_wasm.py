"""The compiled graphs in onnxruntime-web's WebAssembly give the bytes that they give in Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.demo import DIGITS
from modelport.steps.compile import (
    carried_by,
    compile_post,
    compile_pre,
    reference_carried,
    reference_pre,
)
from modelport.steps.image import CenterCrop, Layout, Normalize, Scale
from modelport.steps.resize import Letterbox, Resize
from modelport.steps.step import PreStep
from modelport.tensors import Array, Tensors, TensorSpec
from modelport.verify.replay import read_taps

from ..steps.detectors import SIGNATURES, detection_recipes, raw_outputs, settled

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
FLOATS: list[PreStep] = [
    Scale(divide=255.0),
    Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    Layout(order="chw"),
]
GRAPHS: dict[str, list[PreStep]] = {
    "pillow-bilinear": [Resize(size=(37, 52)), *FLOATS],
    "pillow-bicubic": [Resize(shorter=40, kernel="pillow-bicubic"), CenterCrop(size=32), *FLOATS],
    "opencv-linear": [Resize(size=(61, 45), kernel="opencv-linear"), *FLOATS],
    "letterbox": [Letterbox(size=96), Layout(order="chw"), Scale(divide=255.0)],
    "nearest": [Resize(size=33, kernel="nearest"), *FLOATS],
    "bytes": [Resize(longer=50, kernel="pillow-bicubic")],
}
SIZES = [
    (61, 45),  # one side, or both, unchanged
    (122, 90),
    (183, 135),  # whole-number scales
    (1, 1),
    (1, 40),
    (300, 7),  # Pillow 13 takes the height first
    (97, 131),
    (240, 320),
    (50, 33),
    (11, 13),
    (480, 360),
    (720, 1280),
]


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node.js, with onnxruntime-web installed beside the runner; skips where it cannot be."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("Node.js and npm are needed")
    if not (HERE / "node_modules" / "onnxruntime-web" / "package.json").is_file():
        install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(install, cwd=HERE, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm install failed: {done.stderr.strip()[-300:]}")
    return program


def run_in_wasm(
    node: str, jobs: list[tuple[bytes, dict[str, Array]]], folder: Path
) -> list[dict[str, Array]]:
    """The outputs of each job, a graph and its inputs, in one process of Node.js."""
    described = []
    for number, (graph, inputs) in enumerate(jobs):
        place = folder / str(number)
        place.mkdir()
        model = folder / f"{abs(hash(graph)):x}.onnx"
        model.write_bytes(graph)
        tensors = {}
        for index, (name, array) in enumerate(inputs.items()):
            file = place / f"{index}.in"
            file.write_bytes(array.tobytes())
            tensors[name] = {"dtype": array.dtype.name, "shape": array.shape, "file": str(file)}
        described.append({"model": str(model), "inputs": tensors, "folder": str(place)})
    (folder / "jobs.json").write_text(json.dumps(described), encoding="utf-8")
    command = [node, str(HERE / "run.mjs"), str(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return [
        {
            name: np.frombuffer(Path(made["file"]).read_bytes(), made["dtype"]).reshape(made["shape"])
            for name, made in answer["outputs"].items()
        }
        for answer in answers
    ]


@pytest.mark.parametrize("name", GRAPHS)
def test_wasm_gives_the_bytes_of_python_and_of_the_libraries(node: str, name: str, tmp_path: Path) -> None:
    steps = GRAPHS[name]
    graph = compile_pre(steps, "x").data
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    in_wasm = run_in_wasm(node, [(graph, {"image": image}) for image in images], tmp_path)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for image, made in zip(images, in_wasm, strict=True):
        in_python = session.run(None, {"image": image})[0]
        assert made["x"].dtype == in_python.dtype
        assert made["x"].shape == in_python.shape
        assert made["x"].tobytes() == in_python.tobytes(), f"{image.shape}"
        assert made["x"].tobytes() == reference_pre(steps, image).tobytes(), f"{image.shape}"


def test_the_shipped_digits_bundle_reads_the_same_in_wasm(node: str, tmp_path: Path) -> None:
    """Ink steps included: the tensors that the network gets are the recorded bytes, its digits the same."""
    bundle = Bundle.open(DIGITS)
    golden = bundle.manifest.golden
    assert golden is not None
    taps = [read_taps(bundle.read(case.taps), case.taps) for case in golden.cases]
    pre = run_in_wasm(node, [(bundle.graph("pre"), tap["decoded"]) for tap in taps], tmp_path)
    for made, tap in zip(pre, taps, strict=True):
        for name, recorded in tap["pre"].items():
            assert made[name].tobytes() == recorded.tobytes()
    batches = [{name: array[None] for name, array in tap["pre"].items()} for tap in taps]
    (tmp_path / "net").mkdir()
    net = run_in_wasm(node, [(bundle.graph("net"), batch) for batch in batches], tmp_path / "net")
    for made, tap in zip(net, taps, strict=True):
        for name, recorded in tap["raw"].items():
            assert np.allclose(made[name], recorded, atol=1e-4)
            assert made[name].argmax() == recorded.argmax()


def without_defaults(graph: bytes, names: Collection[str]) -> bytes:
    """The graph with these inputs to be given always."""
    model = onnx.load_from_string(graph)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model.SerializeToString()


def test_detections_are_the_same_in_wasm(node: str, tmp_path: Path) -> None:
    """Heads, NMS and the way back, with other thresholds and with nothing found; and the placement."""
    jobs: list[tuple[bytes, dict[str, Array]]] = []
    expected: list[Tensors] = []
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    for name in detection_recipes():
        fitted = settled(name)
        raw_specs = [*SIGNATURES[name].outputs, TensorSpec("placement", "float32", ("batch", 6))]
        post = compile_post(fitted.post, raw_specs, fitted.labels)
        session = onnxruntime.InferenceSession(post.data, providers=["CPUExecutionProvider"])
        names = [spec.name for spec in post.signature.outputs]
        options = {option.name for option in post.options}
        for seed, score in ((0, None), (1, 0.5), (2, 1.0)):
            given = {} if score is None else {"score_threshold": np.array(score, np.float32)}
            if score is not None and "class_agnostic" in options:
                given["class_agnostic"] = np.array(True)
            inputs = raw_outputs(name, 3, seed) | given
            # onnxruntime-web takes no input that has an initializer: what is set becomes an ordinary input.
            jobs.append((without_defaults(post.data, given.keys()), inputs))
            expected.append(dict(zip(names, session.run(names, inputs), strict=True)))
        pre = compile_pre(fitted.pre, "x", carried=carried_by(fitted.post))
        jobs.append((pre.data, {"image": image}))
        beside = reference_carried(fitted.pre, image, ["placement"])
        expected.append({"x": reference_pre(fitted.pre, image)} | beside)
    for made, want in zip(run_in_wasm(node, jobs, tmp_path), expected, strict=True):
        assert made.keys() == want.keys()
        for key, array in want.items():
            if key in ("scores", "boxes"):
                np.testing.assert_allclose(made[key], array, rtol=1e-5, atol=1e-3 if key == "boxes" else 1e-6)
            else:
                np.testing.assert_array_equal(made[key], array)
