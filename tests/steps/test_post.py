"""Post steps: the graph against native code, ranks by logits, ties, names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.steps.compile import POST_STEPS, compile_post, reference_post
from modelport.steps.post import Labels, Sigmoid, Softmax, Squeeze, TopK
from modelport.steps.step import PostStep, parse_steps
from modelport.tensors import Array, TensorSpec

from .graphs import session

NAMES = ("ant", "bee", "cow", "dog", "eel", "fox")


def raw(*shape: int | str, name: str = "y", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, ("batch", *shape))


def run_both(
    steps: Sequence[PostStep],
    specs: Sequence[TensorSpec],
    arrays: dict[str, Array],
    labels: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, Array]]:
    graph = compile_post(steps, specs, labels)
    values = session(graph.data).run(None, arrays)
    names = [spec.name for spec in graph.signature.outputs]
    return dict(zip(names, values, strict=True)), reference_post(steps, arrays, labels)


@pytest.mark.parametrize("first", [Softmax(), Sigmoid()], ids=repr)
@pytest.mark.parametrize("k", [0, 1, 4, 99])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_scores_indices_and_labels(first: PostStep, k: int, dtype: str) -> None:
    logits = (np.random.default_rng(k).normal(0, 5, (7, 6))).astype(dtype)
    steps = (first, TopK(k), Labels())
    got, expected = run_both(steps, [raw(6, dtype=dtype)], {"y": logits}, NAMES)
    assert list(got) == list(expected) == ["scores", "indices", "labels"]
    assert got["scores"].shape == (7, min(k or 6, 6))
    assert got["scores"].dtype == expected["scores"].dtype == np.float32
    np.testing.assert_allclose(got["scores"], expected["scores"], rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(got["indices"], expected["indices"])
    np.testing.assert_array_equal(got["labels"], expected["labels"])
    assert [NAMES[i] for i in got["indices"][0]] == got["labels"][0].tolist()


def test_softmax_sums_to_one_and_survives_large_logits() -> None:
    logits = np.array([[1e4, 0, -1e4, 1e4]], np.float32)
    got, expected = run_both([Softmax()], [raw(4)], {"y": logits})
    np.testing.assert_allclose(got["scores"], [[0.5, 0, 0, 0.5]])
    np.testing.assert_allclose(expected["scores"], [[0.5, 0, 0, 0.5]])


def test_sigmoid_survives_large_logits() -> None:
    got, expected = run_both([Sigmoid()], [raw(3)], {"y": np.array([[-1e4, 0, 1e4]], np.float32)})
    np.testing.assert_allclose(got["scores"], [[0, 0.5, 1]], atol=1e-7)
    np.testing.assert_allclose(expected["scores"], [[0, 0.5, 1]], atol=1e-7)


def test_ranks_are_the_logits_where_scores_are_equal() -> None:
    # All of these have a sigmoid of exactly 1, and all of these softmaxes are exactly 0 but one.
    logits = np.array([[40, 60, 50, 90, 70, 80]], np.float32)
    for first in (Sigmoid(), Softmax()):
        got, expected = run_both([first, TopK()], [raw(6)], {"y": logits})
        assert got["indices"].tolist() == expected["indices"].tolist() == [[3, 5, 4, 1, 2, 0]]


def test_ties_go_to_the_lower_index() -> None:
    chance = np.random.default_rng(0)
    logits = chance.integers(0, 4, (50, 1000)).astype(np.float32)
    got, expected = run_both([Softmax(), TopK(100)], [raw(1000)], {"y": logits})
    np.testing.assert_array_equal(got["indices"], expected["indices"])
    first = got["indices"][0]
    assert all(a < b for a, b in pairwise(first) if logits[0, a] == logits[0, b])


def test_without_steps_the_outputs_pass_under_their_own_names() -> None:
    arrays = {"a": np.ones((2, 3), np.float32), "scores": np.arange(2, dtype=np.int64)}
    specs = [raw(3, name="a"), TensorSpec("scores", "int64", ("batch",))]
    got, expected = run_both([], specs, arrays)
    assert list(got) == list(expected) == ["a", "scores"]
    np.testing.assert_array_equal(got["a"], arrays["a"])


def test_other_outputs_stay_beside_the_answer() -> None:
    arrays = {"features": np.ones((2, 8), np.float32), "y": np.eye(2, 6, dtype=np.float32)}
    got, expected = run_both([Softmax("y"), TopK(2)], [raw(8, name="features"), raw(6)], arrays)
    assert list(got) == list(expected) == ["features", "scores", "indices"]


def test_top_k_ranks_what_it_is_told_to() -> None:
    arrays = {"a": np.array([[3, 1, 2]], np.float32), "b": np.array([[1, 2, 3]], np.float32)}
    specs = [raw(3, name="a"), raw(3, name="b")]
    got, expected = run_both([Softmax("a"), TopK(1, of="b")], specs, arrays)
    assert got["indices"].tolist() == expected["indices"].tolist() == [[2]]
    got, expected = run_both([TopK(1)], [raw(3, name="a")], {"a": arrays["a"]})
    assert got["scores"].tolist() == expected["scores"].tolist() == [[3]]


def test_squeeze_takes_caffes_spatial_axes_away() -> None:
    arrays = {"y": np.random.default_rng(0).normal(size=(2, 6, 1, 1)).astype(np.float32)}
    got, expected = run_both([Squeeze(), Softmax(), TopK(3)], [raw(6, 1, 1)], arrays)
    assert got["indices"].shape == (2, 3)
    np.testing.assert_array_equal(got["indices"], expected["indices"])


@pytest.mark.parametrize(
    ("steps", "specs", "labels", "message", "at"),
    [
        ([Softmax()], [raw(3), raw(3, name="z")], (), "must say `of` which output: y, z", "$.post[0]"),
        ([Softmax("x")], [raw(3)], (), "no output 'x'; there are y", "$.post[0]"),
        ([Softmax()], [raw(3, dtype="int64")], (), "float", "$.post[0]"),
        ([Softmax()], [raw()], (), "batch, classes", "$.post[0]"),
        ([Softmax(), TopK()], [raw("n")], (), "known number of classes", "$.post[1]"),
        ([Labels()], [raw(3)], NAMES, "indices", "$.post[0]"),
        ([TopK(), Labels()], [raw(6)], (), "there are none", "$.post[1]"),
        ([TopK(), Labels()], [raw(5)], NAMES, "6 labels for 5 classes", "$.post[0]"),
        ([Softmax()], [raw(5, name="scores")], (), "output named 'scores'", "$.post"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    steps: list[PostStep], specs: list[TensorSpec], labels: tuple[str, ...], message: str, at: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compile_post(steps, specs, labels)
    assert caught.value.at == at


def test_parameters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match=">= 0"):
        parse_steps([{"top_k": -1}], POST_STEPS, "$.post")
    with pytest.raises(UsageError, match="takes no parameters"):
        parse_steps([{"labels": "a"}], POST_STEPS, "$.post")
