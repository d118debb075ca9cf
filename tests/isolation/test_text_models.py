"""Texts that are counted by their words: the same words in the network as in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from modelport.isolation.child.converter import NotConverted
from modelport.isolation.child.sklearn_models import scores

from ..importers.tables import opened

pytestmark = pytest.mark.frameworks

WORDS = [
    "good",
    "bad",
    "fine",
    "dull",
    "warm",
    "slow",
    "film",
    "don't",
    "3d",
    "naïve",
    "Straße",
    "the",
    "not",
]


def texts(count: int = 300) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(0)
    made = [" ".join(random.choice(WORDS, int(random.integers(1, 12)))) for _ in range(count)]
    return made, ["up" if "good" in text or "warm" in text else "down" for text in made]


VECTORIZERS: dict[str, Any] = {
    "shares": TfidfVectorizer(),
    "pairs": TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
    "only triples": CountVectorizer(ngram_range=(3, 3), min_df=1),
    "counts": CountVectorizer(),
    "there or not": CountVectorizer(binary=True, stop_words=["the", "a"]),
    "single letters": TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", norm="l1", lowercase=False),
    "of ASCII": TfidfVectorizer(token_pattern=r"[a-z']{2,}", use_idf=False),
}


@pytest.mark.parametrize("name", list(VECTORIZERS))
def test_every_text_is_counted_alike(name: str) -> None:
    made, labels = texts()
    model = make_pipeline(VECTORIZERS[name], LogisticRegression()).fit(made, labels)
    converter, about, session = opened(model)
    odd = ["", "!", "GOOD, Bad; film-story... Don't?", "NAÏVE STRASSE straße", "x" * 5000, "日本語 good"]
    rows = np.array([*texts(50)[0], *odd], dtype=object).reshape(-1, 1)
    got = session.run(None, {"text": rows})[0]
    want = scores(model, rows.reshape(-1).tolist())
    assert np.allclose(got, want, rtol=0, atol=1e-12)
    assert np.array_equal(converter.run({"text": rows})["scores"], want)
    assert about["task"] == "text-classification" and about["labels"] == ["down", "up"]


@pytest.mark.parametrize("last", [MultinomialNB(), RidgeClassifier()])
def test_counts_are_weighted_behind_a_vectorizer_too(last: Any) -> None:
    made, labels = texts()
    model = make_pipeline(CountVectorizer(), TfidfTransformer(), last).fit(made, labels)
    _, _, session = opened(model)
    rows = np.array(made[:40], dtype=object).reshape(-1, 1)
    assert np.allclose(session.run(None, {"text": rows})[0], scores(model, made[:40]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("vectorizer", "says"),
    [
        (TfidfVectorizer(analyzer="char"), "analyzer='char'"),
        (TfidfVectorizer(strip_accents="unicode"), "strip_accents='unicode'"),
        (TfidfVectorizer(token_pattern=r"(?<=\s)\w+"), "token_pattern="),
        (TfidfVectorizer(stop_words=["the"], ngram_range=(1, 2)), "stop words and several words"),
        (TfidfVectorizer(tokenizer=str.split, token_pattern=None), "tokenizer of its own"),
    ],
)
def test_another_way_of_cutting_is_refused_in_words(vectorizer: Any, says: str) -> None:
    made, labels = texts()
    model = make_pipeline(vectorizer, LogisticRegression()).fit(made, labels)
    with pytest.raises(NotConverted, match=says):
        opened(model)


def test_words_that_python_makes_smaller_otherwise_are_found_and_named() -> None:
    """A capital sigma at a word's end becomes a final one in Python, and the other one letter by letter."""
    made = ["ΟΔΟΣ good", "οδος bad", "ΟΔΟΣ fine"] * 4
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(made, ["up", "down", "up"] * 4)
    with pytest.raises(NotConverted, match="counted otherwise in ONNX"):
        opened(model)
