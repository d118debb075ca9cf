"""Comparing arrays and answers: exact where it must be, tolerant where it may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelport.bundle.manifest import Tolerance
from modelport.tensors import Array
from modelport.verify.parity import CHANGED_PLACES, compare, compare_answers, worst_of

EXACT = Tolerance()
LOOSE = Tolerance(absolute=0.01)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def test_equal_arrays() -> None:
    parity = compare(f32(1, 2), f32(1, 2), EXACT)
    assert parity.ok
    assert (parity.max_abs, parity.mismatched, parity.total, parity.worst) == (0.0, 0, 2, None)
    assert str(parity) == "2 elements are equal"


def test_the_worst_element_is_named() -> None:
    parity = compare(np.array([[1.0, 2.0], [3.0, 4.5]]), np.array([[1.0, 2.25], [3.0, 4.0]]), EXACT)
    assert not parity.ok
    assert (parity.max_abs, parity.mismatched, parity.worst) == (0.5, 2, (1, 1))
    assert parity.max_rel == pytest.approx(0.125)
    assert "2 of 4 elements" in str(parity)


def test_the_worst_is_what_exceeds_its_own_tolerance_most() -> None:
    want = f32(1000, 1)
    parity = compare(f32(1000.5, 1.2), want, Tolerance(relative=1e-3))
    assert parity.mismatched == 1
    assert parity.worst == (1,)


@pytest.mark.parametrize(
    ("got", "want", "ok"),
    [
        (f32(np.nan), f32(np.nan), True),
        (f32(np.nan), f32(1), False),
        (f32(1), f32(np.nan), False),
        (f32(np.inf), f32(np.inf), True),
        (f32(-np.inf), f32(np.inf), False),
        (f32(np.inf), f32(1), False),
        (f32(1), f32(np.inf), False),
    ],
)
@pytest.mark.parametrize("tolerance", [EXACT, Tolerance(1e9, 1e9)])
def test_nan_and_infinity(got: Array, want: Array, ok: bool, tolerance: Tolerance) -> None:
    parity = compare(got, want, tolerance)
    assert parity.ok == ok
    assert parity.mismatched == (0 if ok else 1)
    assert ok or "expected" in parity.reason


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (f32(1), f32(1, 2)),
        (f32(1), np.array([1.0])),
        (np.array([["a"]]), np.array(["a"])),
        (np.array([1], np.int32), np.array([1], np.int64)),
    ],
)
def test_other_shapes_and_types_are_never_the_same(got: Array, want: Array) -> None:
    parity = compare(got, want, Tolerance(1e9, 1e9))
    assert not parity.ok
    assert parity.reason.startswith("expected ")


def test_whole_numbers() -> None:
    big = 2**62
    assert not compare(np.array([big + 1]), np.array([big]), Tolerance(0.5, 1.0)).ok
    near = compare(np.array([9, 200], np.uint8), np.array([10, 200], np.uint8), Tolerance(absolute=1))
    assert near.ok
    assert near.max_abs == 1.0
    assert not compare(np.array([0], np.uint8), np.array([255], np.uint8), Tolerance(absolute=1)).ok


def test_text_and_booleans_are_equal_or_not() -> None:
    assert compare(np.array(["a", "b"], object), np.array(["a", "b"]), EXACT).ok
    wrong = compare(np.array(["a", "c"], object), np.array(["a", "b"]), Tolerance(9, 9))
    assert wrong.reason == "expected 'b', got 'c' at [1]"
    assert not compare(np.array([True]), np.array([False]), Tolerance(9, 9)).ok


@given(
    arrays.arrays(np.float32, st.integers(0, 6), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(0, 10),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_the_verdict_is_numpys(want: Array, absolute: float, relative: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=want.shape) * 3
    got = (want + noise).astype(np.float32)
    parity = compare(got, want, Tolerance(absolute, relative))
    expected = np.isclose(got.astype(float), want.astype(float), rtol=relative, atol=absolute)
    assert parity.ok == bool(expected.all())
    assert parity.mismatched == int((~expected).sum())


def answer(scores: list[float], indices: list[int], labels: str) -> dict[str, Any]:
    return {
        "scores": np.array([scores], np.float32),
        "indices": np.array([indices]),
        "labels": np.array([list(labels)]),
    }


WANT = answer([0.5, 0.3, 0.298, 0.1], [7, 3, 4, 1], "hdeb")


@pytest.mark.parametrize(
    ("got", "bad"),
    [
        (WANT, set()),
        # Neighbours whose scores are tied within the tolerance may change places, labels with them.
        (answer([0.5, 0.299, 0.299, 0.1], [7, 4, 3, 1], "hedb"), set()),
        # ... but a label must stay with its index,
        (answer([0.5, 0.3, 0.298, 0.1], [7, 3, 4, 1], "hedb"), {"labels"}),
        # ... and what is not tied must be the same.
        (answer([0.5, 0.3, 0.298, 0.1], [3, 7, 4, 1], "dheb"), {"indices", "labels"}),
        (answer([0.5, 0.3, 0.298, 0.1], [7, 3, 4, 2], "hdec"), {"indices", "labels"}),
        (answer([0.6, 0.3, 0.298, 0.1], [7, 3, 4, 1], "hdeb"), {"scores"}),
    ],
)
def test_ranked_answers(got: dict[str, Any], bad: set[str]) -> None:
    found = compare_answers(got, WANT, LOOSE)
    assert {name for name, parity in found.items() if not parity.ok} == bad


def test_what_changed_places_is_said_and_not_subtracted() -> None:
    found = compare_answers(answer([0.5, 0.299, 0.299, 0.1], [7, 4, 3, 1], "hedb"), WANT, LOOSE)
    assert {name: parity.reason for name, parity in found.items()} == {
        "scores": "",
        "indices": CHANGED_PLACES,
        "labels": CHANGED_PLACES,
    }
    assert found["indices"].max_abs == found["indices"].max_rel == 0.0
    name, worst = worst_of(found) or ("", found["labels"])
    assert (name, worst.ok, worst.reason) == ("scores", True, CHANGED_PLACES)
    assert worst.max_abs == found["scores"].max_abs < 0.01


def test_missing_and_unexpected_tensors() -> None:
    found = compare_answers({"a": f32(1), "c": f32(1)}, {"a": f32(1), "b": f32(1)}, EXACT)
    assert {name: parity.ok for name, parity in found.items()} == {"a": True, "b": False, "c": False}
    assert "no 'b'" in found["b"].reason


def test_the_worst_of_several() -> None:
    good, bad = compare(f32(1), f32(1), EXACT), compare(f32(1), f32(2), EXACT)
    worst = worst_of({"good": good, "bad": bad, "large": compare(f32(50), f32(1), Tolerance(99))})
    assert worst is not None
    assert worst[0] == "bad"
    assert worst_of({}) is None
