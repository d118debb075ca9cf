"""Passes on the graph alone: what nobody asks for, sizes that every item has, and layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.errors import BundleError, InputError
from modelport.optimize.calibration import Calibration
from modelport.optimize.candidate import START, Candidate, NotApplicable, apply
from modelport.optimize.passes.fold import folded
from modelport.optimize.passes.layout import Layout, rearranged
from modelport.optimize.passes.shapes import StaticShapes
from modelport.optimize.passes.unused import Unused
from modelport.optimize.rewriting import copied
from modelport.optimize.ways import ways
from modelport.runtimes.pipeline import Pipeline

from .networks import LABELS, RECIPE, network, pictures

NOTHING = Calibration((), (), ())
RECIPE_OF_ANY = RECIPE.replace('"softmax"', '{ drop = { of = "beside" } }, "softmax"')


def of_any_size() -> onnx.ModelProto:
    """The colours' network for pictures of any size, stride 2, with an output beside the scores and a dead
    node; one of its weights is listed as an input."""
    made = network()
    graph = made.graph
    graph.node[0].attribute.append(helper.make_attribute("strides", [2, 2]))
    for axis, name in ((2, "height"), (3, "width")):
        graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    graph.node.append(helper.make_node("Exp", ["flat"], ["huge"], name="huge"))
    graph.node.append(helper.make_node("ReduceMax", ["huge"], ["beside"], name="beside", axes=[1]))
    graph.node.append(helper.make_node("Neg", ["flat"], ["nothing"], name="nothing"))
    graph.output.append(helper.make_tensor_value_info("beside", TensorProto.FLOAT, ["N", 1]))
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("graph")
    onnx.save(of_any_size(), place / "any.onnx")
    (place / "any.toml").write_text(RECIPE_OF_ANY)
    return modelport.pack(place / "any.onnx", out=place / "repo", recipe=place / "any.toml", labels=LABELS)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return next(pictures(tmp_path_factory.mktemp("one"), 3).rglob("*.png")).read_bytes()


def answered(bundle: Bundle, picture: bytes) -> np.ndarray:
    with Pipeline.open(bundle, variant="") as pipeline:
        return pipeline.answer(pipeline.decode(picture))["scores"]


def test_what_the_answer_drops_is_not_computed(bundle: Bundle, picture: bytes, tmp_path: Path) -> None:
    step = Unused(steps=bundle.manifest.steps.post)
    made = apply(step, bundle, NOTHING, tmp_path)
    net = onnx.load_model_from_string(made.bundle.graph("net"))
    assert [value.name for value in net.graph.output] == ["logits"]
    assert {node.name for node in net.graph.node}.isdisjoint({"huge", "beside", "nothing"})
    dropped, nodes = made.notes
    assert dropped == "outputs that the answer drops: beside"
    assert nodes.startswith("9 nodes became 6: without ") and "1 Neg" in nodes
    np.testing.assert_array_equal(answered(made.bundle, picture), answered(bundle, picture))
    with pytest.raises(NotApplicable, match=r"no output is dropped, and all 6 nodes are needed$"):
        Unused(steps=made.bundle.manifest.steps.post).apply(net, NOTHING)


def test_weights_that_a_caller_could_replace_are_constants() -> None:
    listed = network()
    listed.graph.input.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, [24, 3]))
    made = Unused().apply(listed, NOTHING)
    assert [value.name for value in made.network.graph.input] == ["x"] and len(listed.graph.input) == 2
    assert made.notes == ("weights listed as inputs, and so not folded: last",)
    one = numpy_helper.to_array(next(t for t in made.network.graph.initializer if t.name == "last"))
    assert one.shape == (24, 3)


def test_an_input_that_was_always_alike_stays() -> None:
    items = tuple({"x": np.full(2, number, np.float32), "kind": np.zeros(2, np.int64)} for number in (1, 2))
    with pytest.raises(NotApplicable, match="; kind had one value on all items, which does not show"):
        Unused().apply(network(), Calibration((), (), items))


def test_sizes_that_every_item_has_are_written_down(bundle: Bundle, picture: bytes, tmp_path: Path) -> None:
    assert not folded(of_any_size())
    (prepared,) = bundle.manifest.graphs.pre.signature.outputs
    step = StaticShapes(shapes={prepared.name: prepared.shape})
    made = apply(step, bundle, NOTHING, tmp_path)
    assert made.notes == ("axis 2 of x is 16", "axis 3 of x is 16")
    net = onnx.load_model_from_string(made.bundle.graph("net"))
    assert [dim.dim_value for dim in net.graph.input[0].type.tensor_type.shape.dim] == [0, 3, 16, 16]
    np.testing.assert_array_equal(answered(made.bundle, picture), answered(bundle, picture))
    assert folded(copied(net))
    with pytest.raises(NotApplicable, match="every axis but the batch has its size"):
        step.apply(net, NOTHING)
    with pytest.raises(NotApplicable, match="items differ in size: axis 2 of x, axis 3 of x"):
        StaticShapes(shapes={"x": (3, "h", "w")}).apply(of_any_size(), NOTHING)
    settled = Variant("settled", "settled.onnx", chosen=True)
    files = {"settled.onnx": made.bundle.graph("net")}
    varied = bundle.derive(tmp_path / "varied", files, version="varied", variants=(settled,))
    other = {"x": np.random.default_rng(0).random((2, 3, 20, 24), np.float32)}
    with Pipeline.open(varied) as pipeline, Pipeline.open(bundle) as whole:
        assert pipeline.variant == "settled"
        with pytest.raises(InputError, match="16"):
            pipeline.net(other)
        # Who asks the network alone is told by the manifest that it takes any size.
        np.testing.assert_array_equal(pipeline.packed(other)["logits"], whole.net(other)["logits"])
    wrong = apply(StaticShapes(shapes={"x": (3, 16, 20)}), bundle, NOTHING, tmp_path / "wrong")
    with pytest.raises(BundleError, match="the manifest's input is"):
        Pipeline.open(wrong.bundle)


def test_the_layout_is_the_runtime_s_or_the_network_s(bundle: Bundle, picture: bytes) -> None:
    start = Candidate(START, "as it is", bundle, ())
    step = next(each for each in ways(start) if isinstance(each, Layout))
    made = step.of(start)
    assert made.id == "start-plain-layout" and made.settings == {"optimization": "extended"}
    told = rearranged(of_any_size())
    if not told:
        pytest.skip("ONNX Runtime changes no layouts on this processor")
    assert made.notes == step.apply(of_any_size(), NOTHING).notes == (told,)
    assert told.startswith("as ONNX Runtime loads it, ") and "reorderings instead of" in told
    with Pipeline.open(bundle, variant="", settings=made.settings) as pipeline:
        scores = pipeline.answer(pipeline.decode(picture))["scores"]
    np.testing.assert_allclose(scores, answered(bundle, picture), rtol=1e-4)
    product = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2, 2])],
    )
    plain = helper.make_model(product, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(NotApplicable, match="changes no layout"):
        Layout().apply(plain, NOTHING)
