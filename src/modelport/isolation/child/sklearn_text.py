"""Texts that become counts of words: CountVectorizer and TfidfVectorizer, as ONNX nodes; proven on texts.

Words are cut by ONNX Runtime's Tokenizer with the regular expression written out for RE2, whose classes are
ASCII's where Python's are Unicode's.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array
from .onnx_writer import MICROSOFT, Block, Frame, Writer, array_of

TEXT = "text"
VECTORIZERS = ("CountVectorizer", "TfidfVectorizer")
LETTER = r"[\p{L}\p{N}_]"
PATTERNS = {
    r"(?u)\b\w\w+\b": rf"{LETTER}{LETTER}+",
    r"\b\w\w+\b": rf"{LETTER}{LETTER}+",
    r"(?u)\b\w+\b": rf"{LETTER}+",
    r"\b\w+\b": rf"{LETTER}+",
    r"\w+": rf"{LETTER}+",
    r"\w{1,}": rf"{LETTER}+",
    r"(?u)\b\w\w\w+\b": rf"{LETTER}{LETTER}{LETTER}+",
}
"""Python's patterns, and the same for RE2."""
PLAIN = r"(\[[A-Za-z0-9_'@#-]+\]([+*?]|\{[0-9,]+\})?|[A-Za-z0-9_'@#])+"
"""Patterns of classes of ASCII's characters, which mean the same to both."""
LEFTOVERS = (
    "",
    "   ",
    "!?",
    "A b, C-d e_f; g.h (i) 1st 2nd 3,000.50 it's don't",
    "ÜBER straße naïve ČESKÝ Ωmega 日本語 текст ½ x² _under_score",
    "tabs\tand\nlines\r\nand\u00a0spaces",
    "UPPER lower MiXeD",
)
ROWS = 64


def is_text_model(model: Any) -> bool:
    """Whether a pipeline begins with counting the words of one text."""
    steps = getattr(model, "steps", None)
    return steps is not None and len(steps) > 0 and type(steps[0][1]).__name__ in VECTORIZERS


def word_counts(writer: Writer, step: Any, frame: Frame) -> Frame:
    """A column of texts to the numbers that the vectorizer gives, float64 [batch, words].

    Raises:
        NotConverted: a way of cutting texts that ONNX has no operator for, said in words.
    """
    if len(frame) != 1 or not frame[0].text or frame[0].width != 1:
        raise NotConverted(f"{type(step).__name__} takes one column of text")
    name = writer.op("Reshape", frame[0].name, writer.constant([-1], "int64"))
    words = sorted(step.vocabulary_, key=step.vocabulary_.get)
    if step.lowercase:
        # The locale C is everywhere; words beyond ASCII need one that knows their letters.
        locale = "C" if all(word.isascii() for word in words) else "C.UTF-8"
        name = writer.op(
            "StringNormalizer", name, case_change_action="LOWER", is_case_sensitive=1, locale=locale
        )
    name = writer.op(
        "Tokenizer",
        name,
        domain=MICROSOFT,
        mark=0,
        mincharnum=1,
        pad_value="",
        tokenexp=_pattern(step),
    )
    counts = writer.op("TfIdfVectorizer", name, **_pool(words, step.ngram_range))
    block = Block(writer.cast(counts, "float64"), False, len(words))
    block = _weighted(writer, step, block)
    _prove(step, writer, frame[0], block)
    return [block]


def tfidf(writer: Writer, step: Any, frame: Frame) -> Frame:
    """A TfidfTransformer behind counts."""
    return [_reweighted(writer, step, writer.matrix(frame))]


def sample_texts(model: Any) -> dict[str, Array]:
    """Seeded texts of known and other words -> `text` string [rows, 1]."""
    return {TEXT: np.array(_texts(model.steps[0][1]), dtype=object).reshape(-1, 1)}


def _pattern(step: Any) -> str:
    """RE2's pattern for the words.

    Raises:
        NotConverted: words are cut another way.
    """
    name = type(step).__name__
    for what in ("tokenizer", "preprocessor"):
        if getattr(step, what) is not None:
            raise NotConverted(f"{name} with a {what} of its own, which is Python", "use its token_pattern")
    if step.analyzer != "word":
        raise NotConverted(f"{name} with analyzer={step.analyzer!r}", "analyzer='word' is converted")
    if step.strip_accents is not None:
        raise NotConverted(
            f"{name} with strip_accents={step.strip_accents!r}", "strip_accents=None is converted"
        )
    if step.stop_words is not None and step.ngram_range[1] > 1:
        raise NotConverted(
            f"{name} with stop words and several words in a row: they are dropped before words are joined",
            "leave out stop_words, or take ngram_range=(1, 1)",
        )
    found = PATTERNS.get(step.token_pattern)
    if found is None and re.fullmatch(PLAIN, step.token_pattern):
        found = str(step.token_pattern)
    if found is None:
        known = ", ".join(repr(pattern) for pattern in PATTERNS)
        raise NotConverted(f"{name} with token_pattern={step.token_pattern!r}", f"converted are {known}")
    return found


def _pool(words: list[str], lengths: tuple[int, int]) -> dict[str, Any]:
    """The vocabulary as TfIdfVectorizer takes it: all single words, then all pairs, and so on."""
    least, most = (int(length) for length in lengths)
    pool: list[str] = []
    places: list[int] = []
    starts: list[int] = []
    for length in range(1, most + 1):
        starts.append(len(pool))
        for index, word in enumerate(words):
            parts = word.split(" ")
            if len(parts) == length:
                pool += parts
                places.append(index)
    return {
        "mode": "TF",
        "min_gram_length": least,
        "max_gram_length": most,
        "max_skip_count": 0,
        "ngram_counts": starts,
        "ngram_indexes": places,
        "pool_strings": pool,
    }


def _weighted(writer: Writer, step: Any, block: Block) -> Block:
    if step.binary:
        some = writer.op("Greater", block.name, writer.constant(0.0))
        block = block._replace(name=writer.cast(some, "float64"))
    inner = getattr(step, "_tfidf", None)
    return block if inner is None else _reweighted(writer, inner, block)


def _reweighted(writer: Writer, step: Any, block: Block) -> Block:
    name = block.name
    if step.sublinear_tf:
        some = writer.op("Greater", name, writer.constant(0.0))
        logs = writer.op("Add", writer.op("Log", name), writer.constant(1.0))
        name = writer.op("Where", some, logs, writer.constant(0.0))
    if step.use_idf:
        name = writer.op("Mul", name, writer.constant(np.asarray(step.idf_).reshape(1, -1)))
    if step.norm is not None:
        kinds = {"l2": "ReduceL2", "l1": "ReduceL1"}
        length = writer.op(kinds[step.norm], name, axes=[1], keepdims=1)
        none = writer.op("Equal", length, writer.constant(0.0))
        name = writer.op("Div", name, writer.op("Where", none, writer.constant(1.0), length))
    return block._replace(name=name)


def _texts(step: Any) -> list[str]:
    random = np.random.default_rng(0)
    words = np.array(sorted(step.vocabulary_), dtype=object)
    texts = list(LEFTOVERS)
    for _ in range(ROWS - len(texts)):
        chosen = [str(word) for word in random.choice(words, int(random.integers(1, 20)))]
        marks = [
            str(mark) for mark in random.choice([" ", " ", " ", ", ", ". ", "-", " (", "\n"], len(chosen))
        ]
        text = "".join(word + mark for word, mark in zip(chosen, marks, strict=True))
        texts.append([text.upper(), text.title(), text, text, text][int(random.integers(5))])
    return texts


def _prove(step: Any, writer: Writer, text: Block, block: Block) -> None:
    """The numbers for texts of the vocabulary and for awkward ones.

    Raises:
        NotConverted: they are others, with the text and the words.
    """
    import onnxruntime

    part = writer.copied()
    data = array_of(part.model("words", [(block.name, "numbers", "float64", block.width)])).tobytes()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    texts = _texts(step)
    rows = np.array(texts, dtype=object).reshape(-1, 1)
    got = session.run(None, {text.name: rows})[0]
    want = step.transform(texts).toarray()
    wrong = ~np.isclose(got, want, rtol=1e-9, atol=1e-12).all(axis=1)
    if wrong.any():
        at = int(wrong.argmax())
        names = np.array(sorted(step.vocabulary_, key=step.vocabulary_.get), dtype=object)
        odd = names[~np.isclose(got[at], want[at], rtol=1e-9, atol=1e-12)][:3]
        raise NotConverted(
            f"the words of {texts[at][:60]!r} are counted otherwise in ONNX ({', '.join(map(repr, odd))})",
            "take another token_pattern, or lowercase=False",
        )
