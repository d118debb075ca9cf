"""The compiled graphs in onnxruntime-web's WebAssembly give the bytes that they give in Python."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.demo import DIGITS
from modelport.emulation import machine
from modelport.emulation.jobs import Job
from modelport.errors import Unsupported
from modelport.isolation import environments
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


@pytest.fixture(autouse=True)
def wasm(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-web in Node.js, where ./test puts it; skips where it is not and cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    if reason := machine.machine("wasm").reason:
        pytest.skip(reason)
    try:
        machine.make("wasm", lambda step: None)
    except Unsupported as problem:
        pytest.skip(str(problem))


def run_in_wasm(jobs: list[tuple[bytes, dict[str, Array]]]) -> list[dict[str, Array]]:
    """The outputs of each job, a graph and its inputs, in one process of Node.js."""
    made = [Job(graph, inputs, outputs_of(graph)) for graph, inputs in jobs]
    ran = machine.run("wasm", made, seconds=150, tell=lambda step: None)
    assert len(ran.outputs) == len(jobs), f"{len(ran.outputs)} of {len(jobs)} in {ran.seconds} s"
    return ran.outputs


def outputs_of(graph: bytes) -> tuple[str, ...]:
    """The names of what a graph gives."""
    return tuple(value.name for value in onnx.load_from_string(graph).graph.output)


@pytest.mark.parametrize("name", GRAPHS)
def test_wasm_gives_the_bytes_of_python_and_of_the_libraries(name: str) -> None:
    steps = GRAPHS[name]
    graph = compile_pre(steps, "x").data
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    in_wasm = run_in_wasm([(graph, {"image": image}) for image in images])
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for image, made in zip(images, in_wasm, strict=True):
        in_python = session.run(None, {"image": image})[0]
        assert made["x"].dtype == in_python.dtype
        assert made["x"].shape == in_python.shape
        assert made["x"].tobytes() == in_python.tobytes(), f"{image.shape}"
        assert made["x"].tobytes() == reference_pre(steps, image).tobytes(), f"{image.shape}"


def test_the_shipped_digits_bundle_reads_the_same_in_wasm() -> None:
    """Ink steps included: the tensors that the network gets are the recorded bytes, its digits the same."""
    bundle = Bundle.open(DIGITS)
    golden = bundle.manifest.golden
    assert golden is not None
    taps = [read_taps(bundle.read(case.taps), case.taps) for case in golden.cases]
    pre = run_in_wasm([(bundle.graph("pre"), tap["decoded"]) for tap in taps])
    for made, tap in zip(pre, taps, strict=True):
        for name, recorded in tap["pre"].items():
            assert made[name].tobytes() == recorded.tobytes()
    batches = [{name: array[None] for name, array in tap["pre"].items()} for tap in taps]
    net = run_in_wasm([(bundle.graph("net"), batch) for batch in batches])
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


def test_detections_are_the_same_in_wasm() -> None:
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
    for made, want in zip(run_in_wasm(jobs), expected, strict=True):
        assert made.keys() == want.keys()
        for key, array in want.items():
            if key in ("scores", "boxes"):
                np.testing.assert_allclose(made[key], array, rtol=1e-5, atol=1e-3 if key == "boxes" else 1e-6)
            else:
                np.testing.assert_array_equal(made[key], array)
