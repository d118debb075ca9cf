"""ONNX Runtime as an engine: what goes in, what comes out, and what is said when it does not work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import parser

from modelport.errors import BundleError, InputError, ModelFailed, Unavailable, UsageError
from modelport.runtimes.onnxruntime import OnnxRuntime, OnnxRuntimeSession
from modelport.runtimes.session import run_in_parts
from modelport.tensors import Array, Tensors


def opened(text: str, *, ir: int = 8, opset: int = 17, threads: int = 1) -> OnnxRuntimeSession:
    return OnnxRuntime().open(written(text, ir=ir, opset=opset), threads=threads)


def written(text: str, *, ir: int = 8, opset: int = 17) -> bytes:
    head = f'<ir_version: {ir}, opset_import: ["": {opset}]>'
    return bytes(parser.parse_model(head + text).SerializeToString())


DOUBLE = "g (float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_graph_runs(threads: int) -> None:
    session = opened(DOUBLE, threads=threads)
    assert str(session.signature.inputs[0]) == "float32[N, 3]"
    assert session.run({"x": np.ones((2, 3), np.float32)})["y"].tolist() == [[2, 2, 2]] * 2


def test_dimensions_without_a_name_get_one() -> None:
    model = onnx.load_model_from_string(written(DOUBLE))
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    signature = OnnxRuntime().open(model.SerializeToString()).signature
    assert signature.inputs[0].shape == ("x.0", 3)


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 3), ">f4"),
        np.asfortranarray(np.ones((2, 3), np.float32)),
        np.ones((4, 3), np.float32)[::2],
        np.ones((2, 6), np.float32)[:, ::2],
    ],
)
def test_any_layout_in_memory_is_taken(array: Array) -> None:
    assert opened(DOUBLE).run({"x": array})["y"].tolist() == [[2, 2, 2]] * 2


@pytest.mark.parametrize("dtype", ["<U3", "S3", "O"])
def test_text_goes_through(dtype: str) -> None:
    session = opened("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    text = np.array(["a", "鸟"] if dtype != "S3" else [b"a", b"b"], dtype=dtype)
    answer = session.run({"x": text})["y"]
    assert answer.dtype == object
    assert answer.tolist() == (["a", "b"] if dtype == "S3" else ["a", "鸟"])


@pytest.mark.parametrize(
    "array", [np.ones((2, 4), np.float32), np.ones((2, 3), np.float64), np.ones(3, np.float32)]
)
def test_arrays_that_do_not_fit(array: Array) -> None:
    with pytest.raises(InputError, match=r"expected float32\[N, 3\]"):
        opened(DOUBLE).run({"x": array})


def test_wrong_names() -> None:
    with pytest.raises(InputError, match="unexpected input 'z'"):
        opened(DOUBLE).run({"x": np.ones((1, 3), np.float32), "z": np.ones(1)})
    with pytest.raises(InputError, match="missing input 'x'"):
        opened(DOUBLE).run({})


def test_a_graph_that_fails_says_why_in_plain_words(capfd: pytest.CaptureFixture[str]) -> None:
    session = opened("g (float[N, 3] x) => (float[1, M] y) <int64[2] s = {1, 3}> { y = Reshape(x, s) }")
    with pytest.raises(ModelFailed, match="cannot be reshaped") as failure:
        session.run({"x": np.ones((2, 3), np.float32)})
    for noise in ("onnxruntime_src", ".h:", "onnxruntime::", "[ONNXRuntimeError]"):
        assert noise not in str(failure.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"garbage", "does not load the graph"),
        (b"", "does not load the graph"),
        (written(DOUBLE, ir=99), "Unsupported model IR version: 99"),
        (written(DOUBLE, opset=99), "Opset 99"),
        (written("g (float[N] x) => (float[N] y) { y = Nonsense(x) }"), "Nonsense"),
        (written("g (bfloat16[N] x) => (bfloat16[N] y) { y = Identity(x) }"), "bfloat16"),
    ],
)
def test_graphs_that_do_not_load(data: bytes, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match=said) as failure:
        OnnxRuntime().open(data)
    assert "onnxruntime_src" not in str(failure.value)
    assert "onnxruntime::" not in str(failure.value)
    assert capfd.readouterr() == ("", "")


def test_optimisation_can_be_turned_off() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    plain = OnnxRuntime().open(written(DOUBLE), optimise=False)
    np.testing.assert_array_equal(plain.run({"x": x})["y"], opened(DOUBLE).run({"x": x})["y"])


def test_many_threads_may_call_one_session() -> None:
    session = opened(DOUBLE)

    def call(number: int) -> bool:
        x = np.full((number % 5 + 1, 3), number, np.float32)
        return bool((session.run({"x": x})["y"] == 2 * number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(200)))


def test_a_closed_session_says_so() -> None:
    session = opened(DOUBLE)
    session.close()
    session.close()
    with pytest.raises(Unavailable, match="closed"):
        session.run({"x": np.ones((1, 3), np.float32)})


def test_no_threads_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="at least 1 thread"):
        opened(DOUBLE, threads=0)


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 8])
def test_a_fixed_batch_is_run_in_parts(rows: int) -> None:
    sizes: list[int] = []

    def run(batch: Tensors) -> dict[str, Array]:
        sizes.append(len(batch["x"]))
        return {"y": batch["x"] * 2}

    x = np.arange(rows)
    assert run_in_parts(run, {"x": x}, 4)["y"].tolist() == (x * 2).tolist()
    assert set(sizes) == {4}
