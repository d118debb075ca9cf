"""Compiled graphs as wholes: standard operators only, the same bytes every time, names that cannot clash."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from modelport.errors import UsageError
from modelport.steps.compile import (
    POST_STEPS,
    PRE_STEPS,
    carried_by,
    compile_identity,
    compile_post,
    compile_pre,
    reference_pre,
)
from modelport.steps.image import CenterCrop, Layout, Normalize, Scale
from modelport.steps.post import Softmax, TopK
from modelport.steps.recipe import load_recipe, recipe_names, resolve
from modelport.steps.resize import Resize
from modelport.tensors import Signature, TensorSpec

from .detectors import SIGNATURES
from .graphs import session

IMAGENET = [
    Resize(shorter=256),
    CenterCrop(224),
    Scale(divide=255),
    Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Layout("chw"),
]
COLOUR = Signature(
    (TensorSpec("x", "float32", ("batch", 3, 224, 224)),), (TensorSpec("y", "float32", ("batch", 1000)),)
)
GREY = Signature(
    (TensorSpec("x", "float32", ("batch", 1, 28, 28)),), (TensorSpec("y", "float32", ("batch", 10)),)
)


NETWORKS = SIGNATURES | {"digits": GREY}
"""Of a recipe; COLOUR for the others."""


def pictures_recipes() -> list[str]:
    return [name for name in recipe_names() if load_recipe(name).decode.kind == "image"]


def walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those in branches and loops too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from walk(attribute.g)


@pytest.mark.parametrize("name", pictures_recipes())
def test_graphs_hold_standard_operators_of_opset_18_only(name: str) -> None:
    net = NETWORKS.get(name, COLOUR)
    fitted = resolve(load_recipe(name), net=net)
    carried = carried_by(fitted.post)
    raw = [*net.outputs, *(TensorSpec(spec.name, spec.dtype, ("batch", *spec.shape)) for spec in carried)]
    for graph in (
        compile_pre(fitted.pre, "x", carried=carried),
        compile_post(fitted.post, raw, fitted.labels),
    ):
        model = onnx.load_from_string(graph.data)
        nodes = list(walk(model.graph))
        assert {node.domain for node in nodes} == {""}
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        used = {name for node in nodes for name in node.input}
        assert {constant.name for constant in model.graph.initializer} <= used, "constants without a use"
        assert not model.functions


@pytest.mark.parametrize("name", pictures_recipes())
@pytest.mark.parametrize("size", [(300, 400), (401, 299), (30, 500), (1, 1), (256, 256)], ids=str)
def test_whole_recipes_equal_their_reference_to_the_last_bit(name: str, size: tuple[int, int]) -> None:
    fitted = resolve(load_recipe(name), net=NETWORKS.get(name, COLOUR))
    graph = compile_pre(fitted.pre, "x")
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    got = session(graph.data).run(None, {"image": image})[0]
    expected = reference_pre(fitted.pre, image)
    assert got.shape == graph.signature.outputs[0].shape
    np.testing.assert_array_equal(got, expected)


def test_the_same_steps_give_the_same_bytes_in_another_process() -> None:
    code = """
import hashlib
from modelport.steps.compile import compile_pre
from modelport.steps.recipe import load_recipe, resolve
from modelport.tensors import Signature, TensorSpec
net = Signature((TensorSpec("x", "float32", ("b", 1, 28, 28)),), (TensorSpec("y", "float32", ("b", 10)),))
print(hashlib.sha256(compile_pre(resolve(load_recipe("digits"), net=net).pre, "x").data).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_resize_with_its_crop_makes_no_more_than_is_kept() -> None:
    # The whole result would be 256 x 5,120,000 pixels.
    image = np.random.default_rng(0).integers(0, 256, (1, 20_000, 3), dtype=np.uint8)
    got = session(compile_pre(IMAGENET[:2], "x").data).run(None, {"image": image})[0]
    assert got.shape == (224, 224, 3)


def test_identity_hands_tensors_on_under_their_names() -> None:
    specs = (
        TensorSpec("a", "float32", ("n", 3)),
        TensorSpec("b", "int64", ()),
        TensorSpec("t", "string", (2,)),
    )
    graph = compile_identity(specs)
    assert graph.signature == Signature(specs, specs)
    arrays = {
        "a": np.ones((4, 3), np.float32),
        "b": np.array(7, np.int64),
        "t": np.array(["x", "y"], object),
    }
    for (name, given), got in zip(arrays.items(), session(graph.data).run(None, arrays), strict=True):
        np.testing.assert_array_equal(got, given, err_msg=name)


def test_the_networks_own_names_do_not_clash_with_the_graphs() -> None:
    awkward = ["c0", "softmax_0", "cast_1", "identity_2", "modelport"]
    specs = [TensorSpec(name, "float32", ("batch", 4)) for name in awkward]
    graph = compile_post([Softmax("c0"), TopK(2)], specs)
    arrays = {name: np.eye(1, 4, dtype=np.float32) for name in awkward}
    got = session(graph.data).run(None, arrays)
    assert [spec.name for spec in graph.signature.outputs] == [*awkward[1:], "scores", "indices"]
    assert got[-1].tolist() == [[0, 1]]
    assert compile_pre(IMAGENET, "cast_3").signature.outputs[0].name == "cast_3"


def test_an_input_named_as_the_picture_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="'image', as the decoded picture") as caught:
        compile_pre(IMAGENET, "image")
    assert caught.value.hint == "rename the network's input"


def test_the_index_of_the_step_that_does_not_fit_is_told_behind_a_fused_pair_too() -> None:
    with pytest.raises(UsageError) as caught:
        compile_pre([*IMAGENET[:2], Layout("chw"), Layout("chw")], "x")
    assert caught.value.at == "$.pre[3]"


def test_tables_hold_every_step_under_its_own_name() -> None:
    for table in (PRE_STEPS, POST_STEPS):
        assert all(step.name == name and step.__doc__ for name, step in table.items())
