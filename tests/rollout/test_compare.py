"""Two answers to one request: labels, numbers, and what cannot be compared."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelport.rollout.compare import Comparison, compare
from modelport.tensors import Array, object_array


def ranked(scores: list[float], indices: list[int], names: str = "abcdefgh") -> dict[str, Array]:
    return {
        "scores": np.array(scores, np.float32),
        "indices": np.array(indices, np.int64),
        "labels": object_array([names[index] for index in indices], [len(indices)]),
    }


def test_the_same_answer() -> None:
    answer = ranked([0.7, 0.2, 0.1], [1, 0, 2])
    assert compare(answer, answer) == Comparison(True, 0.0)


def test_scores_are_compared_class_by_class() -> None:
    one, two = ranked([0.7, 0.2, 0.1], [1, 0, 2]), ranked([0.6, 0.25, 0.15], [1, 2, 0])
    got = compare(one, two)
    assert got.agree and got.reason == "scores"
    assert got.difference == pytest.approx(0.15)  # class 2: 0.1 and 0.25, which no position shows
    assert compare(two, one) == got


def test_another_first_label_is_a_disagreement() -> None:
    one, two = ranked([0.51, 0.49], [0, 1]), ranked([0.51, 0.49], [1, 0])
    got = compare(one, two)
    assert not got.agree and got.difference == pytest.approx(0.02)


def test_a_class_that_one_top_k_does_not_list() -> None:
    one, two = ranked([0.6, 0.4], [0, 1]), ranked([0.6, 0.3], [0, 2])
    # Class 1 has 0.4 in one answer and at most 0.3 in the other; class 2 has 0.3 and at most 0.4.
    assert compare(one, two).difference == pytest.approx(0.1)


def test_without_indices_the_names_are_the_classes() -> None:
    one, two = ranked([0.7, 0.3], [0, 1]), ranked([0.6, 0.4], [1, 0])
    for answer in (one, two):
        del answer["indices"]
    got = compare(one, two)
    assert not got.agree and got.difference == pytest.approx(0.3)


def test_two_classes_of_one_name_are_told_apart_by_their_numbers() -> None:
    one = ranked([0.6, 0.4], [0, 1], names="xx")
    two = ranked([0.6, 0.4], [1, 0], names="xx")
    got = compare(one, two)
    assert got.agree  # a caller sees the names
    assert got.difference == pytest.approx(0.2)


def test_text_and_bytes_are_one_label() -> None:
    one, two = ranked([1.0], [0]), ranked([1.0], [0])
    two["labels"] = object_array([b"a"], [1])
    assert compare(one, two).agree


def test_batches_have_to_agree_in_every_row() -> None:
    def batch(*rows: dict[str, Array]) -> dict[str, Array]:
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    a, b, c = ranked([0.6, 0.4], [0, 1]), ranked([0.6, 0.4], [1, 0]), ranked([0.7, 0.3], [0, 1])
    assert compare(batch(a, b), batch(c, b)) == Comparison(True, pytest.approx(0.1), "scores")
    assert not compare(batch(a, b), batch(c, a)).agree


def test_the_network_alone_agrees_by_its_largest_output() -> None:
    one = {"logits": np.array([[1.0, 2.0, 0.0], [5.0, 1.0, 1.0]], np.float32)}
    two = {"logits": np.array([[1.5, 2.0, 0.0], [4.0, 1.0, 1.0]], np.float32)}
    assert compare(one, two) == Comparison(True, 1.0, "logits")
    assert not compare(one, {"logits": np.roll(two["logits"], 1, axis=1)}).agree


@pytest.mark.parametrize(
    ("one", "two", "agree", "difference"),
    [
        ({"y": [1.0]}, {"y": [1.5]}, True, 0.5),  # a number is no label
        ({"y": 1.0}, {"y": 3.0}, True, 2.0),
        ({"n": [1, 2]}, {"n": [1, 2]}, True, 0.0),
        ({"n": [1, 2]}, {"n": [1, 5]}, False, 3.0),
        ({"b": [True]}, {"b": [False]}, False, 0.0),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"a": [2.0, 1.0], "b": [1.0, 2.0]}, True, 1.0),
        ({"t": ["x"]}, {"t": ["y"]}, False, 0.0),
        ({"y": [[]]}, {"y": [[]]}, True, 0.0),
        ({"labels": [], "scores": []}, {"labels": [], "scores": []}, True, 0.0),
        ({"scores": 1.0, "labels": 2}, {"scores": 1.5, "labels": 2}, True, 0.5),
    ],
)
def test_other_answers(one: Any, two: Any, agree: bool, difference: float) -> None:
    def tensors(values: Any) -> dict[str, Array]:
        return {name: np.array(value) for name, value in values.items()}

    got = compare(tensors(one), tensors(two))
    assert (got.agree, got.difference) == (agree, difference)


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ({"a": [1.0]}, {"b": [1.0]}, "tensors a against b"),
        ({"a": [1.0]}, {"a": [1.0], "b": [1.0]}, "tensors a against a, b"),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, "a: shape [1] against [2]"),
        ({"a": [1.0]}, {"a": [1]}, "a: float64 against int64"),
        ({"a": ["x"]}, {"a": [1]}, "against int64"),
    ],
)
def test_what_cannot_be_compared_does_not_agree(one: Any, two: Any, words: str) -> None:
    got = compare(
        {name: np.array(value) for name, value in one.items()},
        {name: np.array(value) for name, value in two.items()},
    )
    assert not got.agree and got.difference == math.inf
    assert words in got.reason


def test_precision_is_no_difference_of_kind() -> None:
    one = {"y": np.array([0.5, 0.25], np.float32)}
    assert compare(one, {"y": one["y"].astype(np.float16)}) == Comparison(True, 0.0)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("one", "two", "difference"),
    [
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([INF, 1.0], [INF, 1.0], 0.0),
        ([NAN, 1.0], [0.0, 1.0], INF),
        ([0.0, 1.0], [NAN, 1.0], INF),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([INF, 1.0], [0.0, 1.0], INF),
    ],
)
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_what_is_no_number(one: list[float], two: list[float], difference: float, order: list[int]) -> None:
    assert compare({"y": np.array(one)}, {"y": np.array(two)}).difference == difference
    # And ranked, with the same order of classes and with another.
    left = ranked(one, [0, 1])
    right = ranked([two[index] for index in order], order)
    assert compare(left, right).difference == difference


def test_a_class_that_is_missing_beside_nan() -> None:
    assert compare(ranked([NAN, 0.2], [0, 1]), ranked([0.5, 0.2], [2, 1])).difference == INF


SHAPES = arrays.array_shapes(max_dims=3, max_side=4)
NUMBERS = st.floats(-100, 100, width=32)


@settings(deadline=None)
@given(SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.float32, shape, elements=NUMBERS)] * 2)))
def test_the_difference_is_symmetric_and_nothing_differs_from_itself(pair: tuple[Array, Array]) -> None:
    one, two = ({"y": array} for array in pair)
    assert compare(one, one) == Comparison(True, 0.0)
    assert compare(one, two) == compare(two, one)
    assert compare(one, two).difference == np.abs(pair[0].astype(float) - pair[1].astype(float)).max()


@settings(deadline=None)
@given(st.permutations(range(5)), st.permutations(range(5)), st.data())
def test_ranked_scores_are_compared_as_if_they_were_not_ranked(
    first: list[int], second: list[int], data: st.DataObject
) -> None:
    one, two = (data.draw(arrays.arrays(np.float32, 5, elements=NUMBERS)) for _ in range(2))
    left = ranked([float(one[index]) for index in first], first)
    right = ranked([float(two[index]) for index in second], second)
    got = compare(left, right)
    assert got.difference == np.abs(one.astype(float) - two.astype(float)).max()
    assert got.agree == (first[0] == second[0])
