"""What the graph makes of a text is what native code makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.errors import BundleError, UsageError
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.steps.compile import PRE_STEPS, compile_text, reference_text
from modelport.steps.step import parse_steps
from modelport.tensors import TensorSpec, object_array

VOCABULARY = {"vocabulary": {"words": ["good", "bad", "a"], "first": 2, "unknown": 1}}
CHAINS: dict[str, list[Any]] = {
    "lower": ["lower"],
    "ascii": [{"lower": {"letters": "ascii"}}],
    "split": ["split"],
    "separators": [{"split": {"separators": " .,a]-\\^"}}],
    "match": ["split", {"match": "[a-z]+|\\w{2}"}],
    "numbers": ["lower", "split", VOCABULARY],
    "first": ["split", VOCABULARY, {"truncate": {"size": 2}}],
    "last": ["split", {"truncate": {"size": 2, "keep": "last"}}],
    "surround": ["split", VOCABULARY, {"surround": {"begin": 7, "end": 8}}],
    "end": ["split", VOCABULARY, {"surround": {"end": -8}}],
    "right": ["split", VOCABULARY, {"pad_to": {"size": 4, "value": 9}}],
    "left": ["split", VOCABULARY, {"truncate": {"size": 5}}, {"pad_to": {"size": 4, "side": "left"}}],
    "cast": ["split", VOCABULARY, {"pad_to": {"size": 3}}, {"cast": "int32"}],
    "none": [],
}
SPEC = TensorSpec("x", "any", ("batch", "words"))
TEXTS = [
    "",
    "   ",
    "good",
    "Good bad\tUGLY\r\na\n\n a",
    "ÄÖÜ ẞ straße İstanbul ΟΔΟΣ ΣΑΣ Ǆ Привет",
    "你好 世界　x 🙂 e\u0301",
    "a.b,c-d]e^f\\g",
    "x " * 300,
    "\u00a0no\u2028break",
]
sessions: dict[str, Any] = {}


def both(chain: str, text: str) -> tuple[Any, Any]:
    """The graph's result and native code's."""
    steps = parse_steps(CHAINS[chain], PRE_STEPS, "$")
    if chain not in sessions:
        sessions[chain] = OnnxRuntime().open(compile_text(steps, SPEC).data)
    item = object_array([text], (1,))
    return sessions[chain].run({"text": item})["x"], reference_text(steps, SPEC, item)


@pytest.mark.parametrize("chain", list(CHAINS))
def test_graph_and_native_code_agree_on_hard_texts(chain: str) -> None:
    for text in TEXTS:
        got, want = both(chain, text)
        assert got.shape == want.shape, text
        assert got.tolist() == want.tolist(), text
        assert got.dtype == want.dtype


# Letters whose lower case every C library of the last ten years knows.
LETTERS = st.characters(
    codec="utf-8", exclude_characters="\0", max_codepoint=0x24FF, exclude_categories=("Cn", "Cs")
)


@pytest.mark.parametrize("chain", ["ascii", "split", "separators", "match", "numbers", "left"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(LETTERS, max_size=40))
def test_graph_and_native_code_agree_on_any_text(chain: str, text: str) -> None:
    got, want = both(chain, text)
    assert got.tolist() == want.tolist()


def test_what_the_steps_are_for() -> None:
    assert both("left", "Good good a b")[0].tolist() == [1, 2, 4, 1]
    assert both("right", "good")[0].tolist() == [2, 9, 9, 9]
    assert both("surround", "")[0].tolist() == [7, 8]
    assert both("match", "ab Ab 12 x9y")[0].tolist() == ["ab", "Ab", "12"]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([VOCABULARY, "split"], "split takes text"),
        (["split", {"pad_to": {"size": 3}}], "`vocabulary` makes them"),
        (["split", {"match": "("}], "no regular expression"),
        (["split", {"match": "(?=a)b"}], "looks around"),
        ([{"vocabulary": {"words": ["a", "a"]}}], "'a' stands twice"),
        ([{"vocabulary": {"words": []}}], "at least one word"),
        (["split", VOCABULARY, "surround"], "one of `begin` and `end`"),
        (["grayscale"], "grayscale"),
    ],
)
def test_steps_that_do_not_fit_are_refused(steps: list[Any], said: str) -> None:
    with pytest.raises((UsageError, BundleError), match=said):
        compile_text(parse_steps(steps, PRE_STEPS, "$"), SPEC)


def test_numbers_are_exact() -> None:
    got, _ = both("numbers", "good BAD a ugly")
    np.testing.assert_array_equal(got, np.array([2, 3, 4, 1], np.int64))
