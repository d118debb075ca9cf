"""A bundle run stage by stage and as a whole."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import parser
from PIL import Image

from modelport.bundle.manifest import Decode, Variant
from modelport.bundle.store import Bundle
from modelport.errors import BundleError, InputError, TooLarge, Unsupported, UnsupportedMedia
from modelport.importers.pack import pack
from modelport.runtimes.pipeline import Pipeline, decode_tensors
from modelport.steps.compile import PRE_STEPS, check_growth
from modelport.steps.step import parse_steps
from modelport.tensors import Array, TensorSpec, array_of_json
from modelport.verify.replay import replay

from ..colours import LABELS, RECIPE, write_network
from ..importers.networks import CLASSES, convnet, leaking


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Pictures in, the three best of five labels out."""
    return pack(
        convnet(),
        out=tmp_path_factory.mktemp("repo"),
        name="classifier",
        recipe="imagenet",
        settings={"top_k": 3},
        labels=[f"class {n}" for n in range(CLASSES)],
    )


@pytest.fixture(scope="module")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Tensors in and out: a float32[2] and n int64[batch, side] of any side."""
    network = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 2] a, int64[N, side] n) => (float[N, 2] twice, int64[N, side] more)
        { twice = Add(a, a) more = Add(n, n) }"""
    )
    return pack(network, out=tmp_path_factory.mktemp("repo"), name="two", recipe="raw")


def picture(kind: str, height: int, width: int, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def png(height: int, width: int, seed: int = 0) -> bytes:
    return picture("PNG", height, width, seed)


def test_the_stages_make_the_whole(classifier: Bundle) -> None:
    with Pipeline.open(classifier) as pipeline:
        decoded = pipeline.decode(png(40, 60))
        assert decoded["image"].shape == (40, 60, 3)
        prepared = pipeline.pre(decoded)
        assert {name: a.shape for name, a in prepared.items()} == {"input": (3, 32, 32)}
        raw = pipeline.net({name: a[None] for name, a in prepared.items()})
        by_hand = pipeline.post(raw)
        answer = pipeline.answer(decoded)
    assert answer.keys() == by_hand.keys() == {"scores", "indices", "labels"}
    for name in answer:
        assert answer[name].shape == (3,)
        assert answer[name].tolist() == by_hand[name][0].tolist()
    assert answer["scores"].tolist() == sorted(answer["scores"].tolist(), reverse=True)
    assert answer["labels"].tolist() == [f"class {n}" for n in answer["indices"]]


def test_a_form_may_have_jpegs_reduced(classifier: Bundle, tmp_path: Path) -> None:
    half = Variant("half", classifier.manifest.graphs.net.file, reduced=(96, 96), chosen=True)
    bundle = classifier.derive(tmp_path / "b", {}, version="2", variants=(half,))
    photo = picture("JPEG", 200, 301)
    with Pipeline.open(bundle) as pipeline, Pipeline.open(bundle, variant="") as packed:
        decoded = pipeline.decode(photo)
        assert decoded["image"].shape == (100, 151, 3)
        assert pipeline.pre(decoded)["input"].shape == (3, 32, 32)
        assert pipeline.decode(png(200, 301))["image"].shape == (200, 301, 3)
        assert packed.decode(photo)["image"].shape == (200, 301, 3)
        # Golden cases are of whole pictures: where these are compared, the others are not.
        report = replay(pipeline)
    assert report.ok
    assert report.taps.keys() == {"pre", "post"}


def test_many_items_give_what_each_gives(classifier: Bundle) -> None:
    with Pipeline.open(classifier.path) as pipeline:
        items = [pipeline.decode(png(20 + n, 50, seed=n)) for n in range(40)]
        together = pipeline.answer_many(items)
        for item, answer in zip(items, together, strict=True):
            alone = pipeline.answer(item)
            assert answer["indices"].tolist() == alone["indices"].tolist()
            np.testing.assert_allclose(answer["scores"], alone["scores"], rtol=1e-5)
        assert pipeline.answer_many([]) == []


def test_many_threads_may_use_one_pipeline(classifier: Bundle) -> None:
    pictures = [png(30, 30 + n, seed=n) for n in range(12)]
    with Pipeline.open(classifier, threads=2) as pipeline:

        def label(data: bytes) -> Any:
            return pipeline.answer(pipeline.decode(data))["indices"].tolist()

        alone = [label(data) for data in pictures]
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(label, pictures)) == alone


def test_readable_answers(classifier: Bundle, two_inputs: Bundle) -> None:
    with Pipeline.open(classifier) as pipeline:
        answer = pipeline.answer(pipeline.decode(png(9, 9)))
        shown = pipeline.readable(answer)
        assert isinstance(shown, list)
        assert [entry["label"] for entry in shown] == answer["labels"].tolist()
        assert shown[0]["score"] == pytest.approx(float(answer["scores"][0]))
        unnamed = pipeline.readable({name: answer[name] for name in ("scores", "indices")})
        assert isinstance(unnamed, list)
        assert unnamed[0]["label"] == str(answer["indices"][0])
        json.dumps([shown, unnamed])
    with Pipeline.open(two_inputs) as pipeline:
        item = {"a": np.ones(2, np.float32), "n": np.array([1, 2, 3])}
        assert pipeline.readable(pipeline.answer(item)) == {"twice": [2.0, 2.0], "more": [2, 4, 6]}


def test_tensors_in_three_forms(two_inputs: Bundle) -> None:
    a, n = np.array([1, 2], np.float32), np.array([[3, 4, 5]])[0]
    packed = io.BytesIO()
    np.savez(packed, a=a, n=n)
    text = json.dumps({"inputs": {"a": [1, 2.0], "n": [3, 4, 5]}}).encode()
    with Pipeline.open(two_inputs) as pipeline:
        for data in (packed.getvalue(), text):
            answer = pipeline.answer(pipeline.decode(data))
            assert answer["twice"].tolist() == [2, 4]
            assert answer["more"].tolist() == [6, 8, 10]
        with pytest.raises(InputError, match="holds one array; expected a, n"):
            pipeline.decode(npy(a))
    assert decode_tensors(npy(a), [TensorSpec("a", "float32", (2,))], limit=1000)["a"].tolist() == [1, 2]


def test_items_of_different_shapes_are_batched_apart(two_inputs: Bundle) -> None:
    items = [{"a": np.full(2, n, np.float32), "n": np.arange(n % 3 + 1)} for n in range(9)]
    with Pipeline.open(two_inputs) as pipeline:
        for item, answer in zip(items, pipeline.answer_many(items), strict=True):
            assert answer["more"].tolist() == (item["n"] * 2).tolist()
            assert answer["twice"].tolist() == (item["a"] * 2).tolist()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected .npy, .npz or JSON"),
        (b"\xff\xd8\xff", "expected .npy, .npz or JSON"),
        (b"[" * 100_000, "expected .npy, .npz or JSON"),
        (b"[1]", 'expected {"inputs"'),
        (b'{"inputs": [1]}', 'expected {"inputs"'),
        (b'{"inputs": {"a": [1, 2]}}', "missing input 'n'"),
        (b'{"inputs": {"a": [1, 2], "n": [1], "z": [1]}}', "unexpected input 'z'"),
        (b'{"inputs": {"a": [[1, 2]], "n": [1]}}', "expected float32[2], got float32[1, 2]"),
        (b'{"inputs": {"a": [1, [2]], "n": [1]}}', "not a rectangular array"),
        (b'{"inputs": {"a": ["1", "2"], "n": [1]}}', "expected float32"),
        (b'{"inputs": {"a": [1, null], "n": [1]}}', "expected float32"),
        (b'{"inputs": {"a": [1, 2], "n": [1.5]}}', "expected int64"),
        (b'{"inputs": {"a": [1, 2], "n": [9223372036854775808]}}', "expected int64"),
    ],
)
def test_what_is_no_item(two_inputs: Bundle, data: bytes, said: str) -> None:
    with Pipeline.open(two_inputs) as pipeline, pytest.raises(InputError) as refusal:
        pipeline.decode(data)
    assert said in refusal.value.message


def test_limits_of_the_manifest_hold(two_inputs: Bundle, tmp_path: Path) -> None:
    small = two_inputs.derive(tmp_path / "2", {}, version="2", decode=Decode(kind="tensors", max_bytes=64))
    with Pipeline.open(small) as pipeline, pytest.raises(TooLarge, match="at most 64"):
        pipeline.decode(b'{"inputs": {"a": [1, 2], "n": [1]}}' + b" " * 40)


def test_what_is_no_picture(classifier: Bundle) -> None:
    with Pipeline.open(classifier) as pipeline, pytest.raises(UnsupportedMedia):
        pipeline.decode(b"not a picture")


@pytest.mark.parametrize(
    ("value", "dtype", "want"),
    [
        ([1, 2], "float16", "float16"),
        ([250, 3], "uint8", "uint8"),
        ([True], "bool", "bool"),
        (["a", "鸟"], "string", "object"),
        ([], "float32", "float32"),
        ([[1], [2]], None, "int64"),
    ],
)
def test_json_takes_the_expected_datatype(value: Any, dtype: str | None, want: str) -> None:
    array: Array = array_of_json(value, dtype, at="$")
    assert str(array.dtype) == want
    assert array.tolist() == value


@pytest.mark.parametrize(
    ("value", "dtype"), [([256], "uint8"), ([-1], "uint8"), ([1], "bool"), ([1], "string")]
)
def test_json_that_the_datatype_does_not_hold(value: Any, dtype: str) -> None:
    with pytest.raises(InputError, match=f"expected {dtype}"):
        array_of_json(value, dtype, at="$")


def test_a_network_that_cannot_batch_runs_row_by_row(tmp_path: Path) -> None:
    bundle = pack(leaking(1), out=tmp_path, name="leaking", recipe="raw")
    assert not bundle.manifest.graphs.net.batch
    rows = [{"x": np.arange(4, dtype=np.float32) * n} for n in range(5)]
    with Pipeline.open(bundle) as pipeline:
        assert [answer["y"].tolist() for answer in pipeline.answer_many(rows)] == [[0.0] * 4] * 5
        assert pipeline.net({"x": np.ones((5, 4), np.float32)})["y"].shape == (5, 4)


def test_a_graph_that_is_not_the_manifests_is_refused(classifier: Bundle, tmp_path: Path) -> None:
    graphs = classifier.manifest.graphs
    wrong = msgspec.structs.replace(
        graphs, net=msgspec.structs.replace(graphs.net, signature=renamed(graphs.net.signature))
    )
    pre = msgspec.structs.replace(graphs.pre, signature=renamed(graphs.pre.signature, outputs=True))
    bundle = classifier.derive(
        tmp_path / "2", {}, version="2", graphs=msgspec.structs.replace(wrong, pre=pre)
    )
    with pytest.raises(BundleError, match="the manifest's outputs are"):
        Pipeline.open(bundle)


def renamed(signature: Any, outputs: bool = False) -> Any:
    side = "outputs" if outputs else "inputs"
    first = msgspec.structs.replace(getattr(signature, side)[0], name="other")
    return msgspec.structs.replace(signature, **{side: (first, *getattr(signature, side)[1:])})


def test_an_unknown_runtime(classifier: Bundle) -> None:
    with pytest.raises(Unsupported, match="no runtime named 'nonsense'"):
        Pipeline.open(classifier, runtime="nonsense")


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_a_thin_picture_is_no_memory_bomb(tmp_path: Path) -> None:
    resize = {"resize": {"shorter": 256}}
    alone = parse_steps(["grayscale", resize], PRE_STEPS, "$")
    cropped = parse_steps([resize, {"center_crop": 224}], PRE_STEPS, "$")
    check_growth(alone, 480, 640, 10**6)
    check_growth(cropped, 20_000, 1, 10**6)
    with pytest.raises(TooLarge, match="256 x 5120000"):
        check_growth(alone, 20_000, 1, 10**8)

    (tmp_path / "shorter.toml").write_text(RECIPE.replace("size = 8", "shorter = 8"))
    network = write_network(tmp_path / "colours.onnx", sides=("H", "W"))
    bundle = pack(network, out=tmp_path, recipe=tmp_path / "shorter.toml", labels=LABELS)
    with Pipeline.open(bundle) as pipeline:
        assert pipeline.pre({"image": np.zeros((4, 6, 3), np.uint8)})["x"].shape == (3, 8, 12)
        with pytest.raises(TooLarge, match="pixels of it"):
            pipeline.pre({"image": np.zeros((1, 60_000_000, 3), np.uint8)})
