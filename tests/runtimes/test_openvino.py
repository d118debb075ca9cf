"""OpenVINO as an engine: ONNX Runtime's answers, any batch, several threads, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.cli.doctor import examine
from modelport.errors import BundleError, InputError, ModelFailed, Unavailable, Unsupported, UsageError
from modelport.evaluate.run import evaluate
from modelport.importers.pack import pack
from modelport.optimize.calibration import Calibration, read_calibration
from modelport.optimize.candidate import START, Candidate, NotApplicable, apply, opened
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.passes.runtime import OnRuntime
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.runtimes.openvino import SHAPES, WORTH, OpenVinoRuntime, OpenVinoSession, openvino_config
from modelport.runtimes.pipeline import Pipeline
from modelport.verify.replay import verify

from ..optimize.networks import network, packed, pictures

pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")

DOUBLE = "g (float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }"


def written(text: str) -> bytes:
    return bytes(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>{text}').SerializeToString())


def session(text: str = DOUBLE, **how: Any) -> OpenVinoSession:
    return OpenVinoRuntime().open(written(text), **how)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture(scope="module")
def bundle(place: Path) -> Bundle:
    pictures(place / "pictures")
    return packed(place)


@pytest.fixture(scope="module")
def calibration(place: Path, bundle: Bundle) -> Calibration:
    return read_calibration(bundle, place / "pictures")


def test_it_answers_as_onnxruntime_does() -> None:
    data = network().SerializeToString()
    first, second = OnnxRuntime().open(data), OpenVinoRuntime().open(data, threads=2)
    assert second.signature.inputs == first.signature.inputs
    random = np.random.default_rng(0)
    for rows in (1, 5, 2, 1, 7, 9, 5, 3, 4, 8):
        batch = {"x": random.random((rows, 3, 16, 16), np.float32)}
        one, other = first.run(batch)["logits"], second.run(batch)["logits"]
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert [shape[0][0] for shape in second._forms] == [1, 5, 2, 7, 9, 3]


def test_shapes_that_come_often_take_the_place_of_those_that_came_first() -> None:
    opened_ = session()

    def rows(count: int, times: int) -> None:
        for _ in range(times):
            assert opened_.run({"x": np.ones((count, 3), np.float32)})["y"].tolist() == [[2, 2, 2]] * count

    for count in range(1, SHAPES + 1):
        rows(count, 3 if count != 2 else 1)
    rows(90, WORTH)
    assert ((90, 3),) not in opened_._forms
    rows(91, 1)  # comes too seldom to be worth it
    rows(90, 1)
    assert {shape[0][0] for shape in opened_._forms} == {1, 3, 4, 5, 6, 90}
    rows(2, WORTH)  # what had its place has to earn it again
    assert ((2, 3),) not in opened_._forms
    rows(2, 1)
    assert ((2, 3),) in opened_._forms
    assert len(opened_._forms) == SHAPES


def test_what_it_gives_stays_as_it_is() -> None:
    """The memory of a request is used again; what a caller was given is not in it."""
    opened_ = session()
    first = opened_.run({"x": np.ones((2, 3), np.float32)})["y"]
    opened_.run({"x": np.full((2, 3), 5, np.float32)})
    assert first.tolist() == [[2, 2, 2]] * 2


def test_eight_bits_run_in_eight_bits(bundle: Bundle, calibration: Calibration, tmp_path: Path) -> None:
    made = apply(StaticInt8(), bundle, calibration, tmp_path)
    batch = next(calibration.batches(4))
    data = made.bundle.graph("net")
    with_profile = OpenVinoRuntime().open(data, profile=True)
    one, other = OnnxRuntime().open(data).run(batch)["logits"], with_profile.run(batch)["logits"]
    assert float(np.abs(one - other).max()) < 0.05
    kernels = {kernel for _, kind, kernel, _ in with_profile.profile() if kind == "Convolution"}
    assert kernels and all(kernel.endswith("I8") for kernel in kernels)


def test_a_profile_is_that_of_the_last_run() -> None:
    timed = session("g (float[N, 3] x) => (float[N, 3] y) { y = Softmax(x) }", profile=True)
    assert timed.profile() == []
    for rows in (1, 2, 1):
        timed.run({"x": np.zeros((rows, 3), np.float32)})
        assert [kind for _, kind, _, _ in timed.profile()].count("Softmax") == 1


def test_integers_are_taken_as_onnxruntime_gives_them() -> None:
    """Its int64 is C's long long, which is not NumPy's own int64."""
    made = OnnxRuntime().open(written("g (int64[N] x) => (int64[N] y) { y = Add(x, x) }"))
    given = made.run({"x": np.array([1, 2])})["y"]
    doubled = session("g (int64[N] x) => (int64[N] y) { y = Add(x, x) }")
    for array in (given, given.astype(np.longlong), given.astype(">i8")):
        assert doubled.run({"x": array})["y"].tolist() == [4, 8]


def test_types_names_and_inputs_that_nothing_reads() -> None:
    mixed = session(
        "g (float[N, 2] x, float[N, 2] unused, bool b, int64[M] i, float16[N] h)"
        " => (float[N, 2] y, bool c, int64[M] j, float16[N] k, float[N, 2] z)"
        " { y = Add(x, x) c = Not(b) j = Add(i, i) k = Add(h, h) z = Identity(y) }"
    )
    types = [spec.dtype for spec in mixed.signature.outputs]
    assert types == ["float32", "bool", "int64", "float16", "float32"]
    batch = {
        "x": np.ones((2, 4), np.float32)[:, ::2],
        "unused": np.zeros((2, 2), np.float32),
        "b": np.array(True),
        "i": np.array([1 << 20, 2, 3]),
        "h": np.ones(2, np.float16),
    }
    got = mixed.run(batch)
    assert got["y"].tolist() == got["z"].tolist() == [[2, 2], [2, 2]]
    assert (bool(got["c"]), got["k"].tolist()) == (False, [2, 2])
    assert got["j"].tolist() == [1 << 21, 4, 6]
    with pytest.raises(InputError, match="computes int64 in 32 bits; got 2 to 1099511627776"):
        mixed.run(batch | {"i": np.array([1 << 40, 2])})
    assert session().run({"x": np.ones((2, 3), ">f4")})["y"].tolist() == [[2, 2, 2]] * 2


def test_a_network_whose_sizes_do_not_fit_every_batch() -> None:
    fixed = session("g (float[N, 3] x) => (float[1, M] y) <int64[2] s = {1, 3}> { y = Reshape(x, s) }")
    assert fixed.run({"x": np.ones((1, 3), np.float32)})["y"].shape == (1, 3)
    for rows in range(2, 9):
        with pytest.raises(ModelFailed, match="failed while it ran"):
            fixed.run({"x": np.ones((rows, 3), np.float32)})


def test_many_threads_may_call_one_session() -> None:
    shared = session()

    def call(number: int) -> bool:
        x = np.full((number % 5 + 1, 3), number, np.float32)
        return bool((shared.run({"x": x})["y"] == 2 * number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(200)))


def test_what_does_not_fit_is_refused_as_everywhere() -> None:
    with pytest.raises(InputError, match=r"expected float32\[N, 3\]"):
        session().run({"x": np.ones((2, 4), np.float32)})
    with pytest.raises(InputError, match="missing input 'x'"):
        session().run({})
    closed = session()
    closed.close()
    closed.close()
    with pytest.raises(Unavailable, match="closed"):
        closed.run({"x": np.ones((1, 3), np.float32)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"garbage", "not an ONNX model"),
        (written("g (float[N] x) => (float[N] y) { y = Nonsense(x) }"), "Nonsense"),
        (written("g (string[N] x) => (string[N] y) { y = Identity(x) }"), "does not run 'x' on the CPU"),
    ],
)
def test_graphs_that_do_not_load(data: bytes, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match=said) as failure:
        OpenVinoRuntime().open(data)
    assert "src/" not in str(failure.value)
    assert capfd.readouterr() == ("", "")


def test_float32_unless_something_else_is_said() -> None:
    config = openvino_config(3)
    assert (config["INFERENCE_PRECISION_HINT"], config["INFERENCE_NUM_THREADS"]) == ("f32", 3)
    assert config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == 0
    assert openvino_config(3, {"threads": 2})["INFERENCE_NUM_THREADS"] == 2
    with pytest.raises(UsageError, match="expected one of f32, bf16"):
        openvino_config(1, {"precision": "f16"})
    with pytest.raises(UsageError, match="no setting 'arena'"):
        openvino_config(1, {"arena": True})
    with pytest.raises(UsageError, match="at least 1 thread"):
        openvino_config(0)


def test_bfloat16_is_asked_for_and_seen() -> None:
    data = network().SerializeToString()
    try:
        half = OpenVinoRuntime().open(data, settings={"precision": "bf16"})
    except Unsupported as problem:
        pytest.skip(str(problem))
    batch = {"x": np.random.default_rng(0).random((2, 3, 16, 16), np.float32)}
    difference = np.abs(half.run(batch)["logits"] - OnnxRuntime().open(data).run(batch)["logits"]).max()
    assert 1e-5 < difference < 0.1


def test_a_bundle_is_verified_and_evaluated_on_it(bundle: Bundle, place: Path) -> None:
    assert verify(bundle, runtime="openvino").ok
    found = evaluate(bundle, place / "pictures", runtime="openvino", replicates=0)
    assert (found.via, found.metrics[found.main].value) == ("openvino", 1.0)


def test_the_chosen_variant_is_run_on_it(bundle: Bundle, place: Path, tmp_path: Path) -> None:
    chosen = Variant("quick", bundle.manifest.graphs.net.file, chosen=True, runtime="openvino")
    other = bundle.derive(tmp_path / "b", {}, version="2", variants=(chosen,))
    with Pipeline.open(other) as pipeline:
        assert (pipeline.form.variant, pipeline.form.runtime) == ("quick", "openvino")
        assert isinstance(pipeline._net, OpenVinoSession)
        assert not isinstance(pipeline._pre, OpenVinoSession)
    assert evaluate(other, place / "pictures", replicates=0).notes == ("answered by its variant quick",)


def test_text_is_left_to_onnxruntime(tmp_path: Path) -> None:
    text = written("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    onnx.save(onnx.load_model_from_string(text), tmp_path / "text.onnx")
    spoken = pack(tmp_path / "text.onnx", out=tmp_path / "repo")
    with pytest.raises(Unsupported, match="OpenVINO runs no string tensors"):
        Pipeline.open(spoken, runtime="openvino")


def test_a_candidate_is_opened_where_it_is_to_run(
    bundle: Bundle, calibration: Calibration, tmp_path: Path
) -> None:
    step = OnRuntime("openvino", {"threads": 1})
    made = apply(step, bundle, calibration, tmp_path)
    assert (made.id, made.runtime, made.machine_bound) == ("on-openvino-threads-1", "openvino", True)
    whole = step.of(Candidate(START, "as it is", bundle, ()))
    assert (whole.id, whole.bundle, whole.settings) == ("start-on-openvino-threads-1", bundle, {"threads": 1})
    for candidate in (made, whole):
        with opened(candidate) as pipeline:
            assert isinstance(pipeline._net, OpenVinoSession)
    with pytest.raises(NotApplicable, match="no setting 'arena'"):
        apply(OnRuntime("openvino", {"arena": True}), bundle, calibration, tmp_path)
    with pytest.raises(NotApplicable, match="no runtime named 'steam'"):
        apply(OnRuntime("steam"), bundle, calibration, tmp_path)


def test_doctor_lists_it() -> None:
    (found,) = [runtime for runtime in examine()["runtimes"] if runtime["name"] == "openvino"]
    assert found["ok"] and "CPU" in found["about"]


TOGETHER = """
import faulthandler, sys, threading
import numpy as np
from modelport.runtimes.openvino import OpenVinoRuntime
faulthandler.dump_traceback_later(60, exit=True)
sys.setswitchinterval(1e-6)
session = OpenVinoRuntime().open(open(sys.argv[1], "rb").read())
barrier = threading.Barrier(8)
def run():
    barrier.wait()
    session.run({"x": np.ones((1, 3), np.float32)})
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_runs_of_a_process_may_come_together(tmp_path: Path, attempt: int) -> None:
    """Once in some six processes two threads waited for each other for ever."""
    (tmp_path / "double.onnx").write_bytes(written(DOUBLE))
    command = [sys.executable, "-c", TOGETHER, str(tmp_path / "double.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
