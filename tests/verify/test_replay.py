"""A bundle that is damaged on purpose: the stage that was damaged is the one that is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from PIL import Image

from modelport.bundle.manifest import Golden, Tolerance
from modelport.bundle.store import Bundle
from modelport.cli.verify import command
from modelport.errors import BundleError, NotFound
from modelport.importers.golden import npz
from modelport.importers.pack import pack
from modelport.runtimes.npz import read_npz
from modelport.steps.compile import POST_STEPS, PRE_STEPS, compile_post, compile_pre
from modelport.steps.step import parse_steps
from modelport.verify.parity import CHANGED_PLACES
from modelport.verify.replay import STAGES, Report, verify

from ..importers.networks import CLASSES, convnet

LABELS = tuple(f"class {n}" for n in range(CLASSES))

Damage = Callable[[Bundle], tuple[dict[str, bytes | None], dict[str, Any]]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A classifier with golden cases of pictures, one of them with transparent pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(4)
    for number, (height, width) in enumerate([(70, 40), (33, 90), (64, 64)]):
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 4), np.uint8), "RGBA")
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return pack(
        convnet(),
        out=tmp_path_factory.mktemp("repo"),
        name="classifier",
        recipe="imagenet",
        labels=LABELS,
        golden=folder,
    )


def test_an_undamaged_bundle(bundle: Bundle) -> None:
    for source in (bundle, bundle.path, bundle.path.parent):
        report = verify(source)
        assert report.ok
        assert report.cases == 3
        assert not report.generated
        assert tuple(report.taps) == STAGES
        assert all(parity.ok for parity in report.taps.values())
        assert report.first_divergence is None
        assert report.digest == bundle.digest
        assert "answers as in onnxruntime" in report.summary()


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two of its classes have one score, and were recorded in the other order than they are answered in."""
    network = convnet()
    tensor = next(tensor for tensor in network.graph.initializer if tensor.name == "m")
    weights = numpy_helper.to_array(tensor).copy()
    weights[:, 4] = weights[:, 1]
    tensor.CopyFrom(numpy_helper.from_array(weights, "m"))
    folder = tmp_path_factory.mktemp("tied")
    Image.new("RGB", (40, 40), (200, 30, 90)).save(folder / "one.png")
    made = pack(network, out=folder, name="tied", recipe="imagenet", labels=LABELS, golden=folder / "one.png")
    (case,) = golden_of(made).cases
    taps = read_npz(made.read(case.taps), limit=1 << 30)
    places = np.flatnonzero(np.isin(taps["answer.indices"][0], (1, 4)))
    for name in ("answer.indices", "answer.labels"):
        taps[name] = taps[name].copy()
        taps[name][0, places] = taps[name][0, places[::-1]]
    return made.derive(folder / "2", {case.taps: npz(taps)}, version="2")


def test_classes_of_one_score_that_changed_places_are_said_so(tied: Bundle) -> None:
    report = verify(tied)
    whole = report.taps["end_to_end"]
    assert report.ok and whole.ok and whole.reason == CHANGED_PLACES
    assert whole.max_abs < 1e-4, "indices are not subtracted"
    assert report.to_dict()["taps"]["post"]["reason"] == CHANGED_PLACES
    shown = CliRunner().invoke(command, [str(tied.path)])
    assert f"end to end: {CHANGED_PLACES}\n" in shown.output


def test_the_report_is_plain_json(bundle: Bundle) -> None:
    data = json.loads(json.dumps(verify(bundle).to_dict()))
    assert data["schema"] == "modelport.verify/1"
    assert data["ok"] is True
    assert data["taps"]["net"]["total"] == CLASSES
    assert data["first_divergence"] is None
    assert data["max_difference"] == data["taps"]["net"]["max_abs"]


def wrong_background(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    return {}, {"decode": msgspec.structs.replace(bundle.manifest.decode, background=(0, 0, 0))}


def other_picture(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(buffer, "PNG")
    assert bundle.manifest.golden is not None
    return {bundle.manifest.golden.cases[2].input: buffer.getvalue()}, {}


def wrong_kernel(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    steps = [dict(step) for step in bundle.manifest.steps.pre]
    resize = next(step["resize"] for step in steps if "resize" in step)
    assert resize["kernel"] == "pillow-bilinear"
    changed = [
        {"resize": resize | {"kernel": "opencv-linear"}} if "resize" in step else step for step in steps
    ]
    name = bundle.manifest.graphs.net.signature.inputs[0].name
    return {"pre.onnx": compile_pre(parse_steps(changed, PRE_STEPS, "$"), name).data}, {}


def bgr(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    steps = [{"channels": {"order": "bgr"}}, *bundle.manifest.steps.pre]
    name = bundle.manifest.graphs.net.signature.inputs[0].name
    return {"pre.onnx": compile_pre(parse_steps(steps, PRE_STEPS, "$"), name).data}, {}


def changed_weight(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    model = onnx.load_model_from_string(bundle.read("net.onnx"))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "m")
    weights = numpy_helper.to_array(tensor).copy()
    weights[3, 2] += 1
    tensor.CopyFrom(numpy_helper.from_array(weights, "m"))
    return {"net.onnx": model.SerializeToString()}, {}


def failing_network(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    model = onnx.load_model_from_string(bundle.read("net.onnx"))
    # A size that is known only when it runs: the runtime loads the graph and fails at the first row.
    shape = numpy_helper.from_array(np.array([7, -1], np.int64), "wrong")
    model.graph.initializer.append(shape)
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    del flatten.attribute[:]
    flatten.input.append("wrong")
    del model.graph.value_info[:]
    return {"net.onnx": model.SerializeToString()}, {}


def swapped_labels(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    labels = (LABELS[1], LABELS[0], *LABELS[2:])
    return {"post.onnx": post(bundle, bundle.manifest.steps.post, labels)}, {}


def no_softmax(bundle: Bundle) -> tuple[dict[str, bytes | None], dict[str, Any]]:
    steps = [step for step in bundle.manifest.steps.post if "softmax" not in step]
    return {"post.onnx": post(bundle, steps, LABELS)}, {}


def post(bundle: Bundle, steps: Any, labels: tuple[str, ...]) -> bytes:
    raw = bundle.manifest.graphs.net.signature.outputs
    return compile_post(parse_steps(steps, POST_STEPS, "$"), raw, labels).data


@pytest.mark.parametrize(
    ("damage", "stage"),
    [
        (wrong_background, "decode"),
        (other_picture, "decode"),
        (wrong_kernel, "pre"),
        (bgr, "pre"),
        (changed_weight, "net"),
        (swapped_labels, "post"),
        (no_softmax, "post"),
    ],
)
def test_the_guilty_stage_is_named(bundle: Bundle, tmp_path: Path, damage: Damage, stage: str) -> None:
    files, changes = damage(bundle)
    # A new bundle with its own right digests: only a replay can tell.
    damaged = bundle.derive(tmp_path / "2", files, version="2", **changes)
    report = verify(damaged)
    assert not report.ok
    assert report.first_divergence is not None
    assert report.first_divergence.tap == stage
    # Every stage is run on what was recorded, so nothing but the guilty one and the whole can differ.
    assert {name for name, parity in report.taps.items() if not parity.ok} == {stage, "end_to_end"}
    assert stage in report.summary()
    assert report.to_dict()["first_divergence"]["tap"] == stage


def test_the_guilty_stage_comes_first_where_several_differ(bundle: Bundle, tmp_path: Path) -> None:
    files = changed_weight(bundle)[0] | swapped_labels(bundle)[0] | bgr(bundle)[0]
    report = verify(bundle.derive(tmp_path / "2", files, version="2"))
    assert report.first_divergence is not None
    assert report.first_divergence.tap == "pre"
    assert not report.taps["net"].ok
    assert not report.taps["post"].ok


def test_a_network_that_no_longer_runs_is_a_difference(bundle: Bundle, tmp_path: Path) -> None:
    damaged = bundle.derive(tmp_path / "2", failing_network(bundle)[0], version="2")
    report = verify(damaged)
    assert report.first_divergence is not None
    assert report.first_divergence.tap == "net"
    assert "the graph failed" in report.first_divergence.parity.reason


def golden_of(bundle: Bundle) -> Golden:
    assert bundle.manifest.golden is not None
    return bundle.manifest.golden


def test_no_cases_is_no_proof(bundle: Bundle, tmp_path: Path) -> None:
    golden = msgspec.structs.replace(golden_of(bundle), cases=())
    for number, changes in enumerate([{"golden": None}, {"golden": golden}]):
        files = {name: None for case in golden_of(bundle).cases for name in (case.input, case.taps)}
        report = verify(bundle.derive(tmp_path / str(number), files, version="2", **changes))
        assert (report.ok, report.reason, report.cases) == (False, "no golden cases", 0)
        assert (
            report.summary() == "not the same model: no golden cases" or "no golden cases" in report.summary()
        )


def test_a_wide_tolerance_lets_a_difference_pass(bundle: Bundle, tmp_path: Path) -> None:
    golden = msgspec.structs.replace(golden_of(bundle), net=Tolerance(absolute=1.0))
    files = changed_weight(bundle)[0]
    report = verify(bundle.derive(tmp_path / "2", files, version="2", golden=golden))
    assert report.ok
    assert report.max_difference > 1e-4


def test_a_changed_byte_is_found_before_anything_runs(bundle: Bundle, tmp_path: Path) -> None:
    copy = bundle.save_as(tmp_path / "copy")
    place = copy.path / "net.onnx"
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(BundleError, match=r"'net\.onnx' was changed"):
        verify(copy.path)


@pytest.mark.parametrize("how", ["cut", "pickle", "unknown", "missing"])
def test_recordings_that_cannot_be_read(bundle: Bundle, tmp_path: Path, how: str) -> None:
    case = golden_of(bundle).cases[1]
    whole = bundle.read(case.taps)
    arrays = read_npz(whole, limit=1 << 30)
    objects = io.BytesIO()
    np.savez(objects, **{name.replace(".", "."): np.array([{}], dtype=object) for name in arrays})
    damaged = {
        "cut": whole[: len(whole) // 2],
        "pickle": objects.getvalue(),
        "unknown": npz(arrays | {"extra.x": np.zeros(1)}),
        "missing": npz({name: array for name, array in arrays.items() if not name.startswith("raw.")}),
    }[how]
    broken = bundle.derive(tmp_path / "2", {case.taps: damaged}, version="2")
    with pytest.raises(BundleError) as refusal:
        verify(broken)
    assert case.taps in str(refusal.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify(tmp_path / "gone")


def test_threads_change_nothing(bundle: Bundle) -> None:
    report: Report = verify(bundle, threads=2)
    assert report.ok
