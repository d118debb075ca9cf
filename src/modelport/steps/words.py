"""Steps from a text to the numbers of its words: lower case, splitting, a vocabulary, begin and end, length.

A text is string [1], its words string [words], their numbers int64 [words]. They compile to operator set 20
(StringSplit) and ai.onnx.ml (LabelEncoder). What ONNX Runtime has no operator for, such as WordPiece and BPE,
is the host's work: `Decode.tokenizer`.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, object_array
from .graph import Graph, Value
from .step import PreStep

TEXT_OPSET = 20
"""The first operator set with StringSplit."""
_LOCALES = {"unicode": "C.UTF-8", "ascii": "C"}
_INT64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class Lower(PreStep, frozen=True, forbid_unknown_fields=True):
    """Every letter in lower case, letter by letter: string -> string, the same shape.

    `letters`: "unicode" (needs the C library's locale C.UTF-8: Linux), or "ascii" for A to Z alone, which
    runs everywhere.
    """

    name: ClassVar[str] = "lower"
    letters: Literal["unicode", "ascii"] = "unicode"

    def compile(self, graph: Graph, x: Value) -> Value:
        _strings(x, self.name)
        # Without a locale ONNX Runtime takes en_US, which is not everywhere.
        lowered = graph.op(
            "StringNormalizer",
            x.name,
            case_change_action="LOWER",
            is_case_sensitive=1,
            locale=_LOCALES[self.letters],
        )
        return Value(lowered, "string", x.shape)

    def reference(self, x: Array) -> Array:
        return object_array([self._lowered(text) for text in x.ravel().tolist()], x.shape)

    def _lowered(self, text: str) -> str:
        if self.letters == "ascii":
            return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)
        # One letter each: a text's own `lower` knows final sigmas, and makes two letters of some.
        return "".join(c.lower()[0] for c in text)


class Split(PreStep, frozen=True, forbid_unknown_fields=True):
    """The words between separators: string [1] -> string [words]; empty ones are left out.

    `separators`: the characters that separate words, each by itself; space, tab and line ends by default.
    """

    name: ClassVar[str] = "split"
    separators: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] = " \t\n\r\f\v"

    def compile(self, graph: Graph, x: Value) -> Value:
        _strings(x, self.name)
        graph.needs(TEXT_OPSET)
        flat = graph.constant([-1], "int64")
        value = x.name
        # ONNX Runtime's own splitting at white space knows the space alone, so it comes after the others.
        for mark in sorted(set(self.separators), key=lambda mark: (mark == " ", ord(mark))):
            words, _ = graph.ops("StringSplit", value, outputs=2, delimiter=mark)
            value = graph.op("Reshape", words, flat)
        empty = graph.op("Equal", value, graph.constant([""], "string"))
        kept = graph.op("Compress", value, graph.op("Not", empty), axis=0)
        return Value(kept, "string", ("words",))

    def reference(self, x: Array) -> Array:
        pattern = "[" + re.escape(self.separators) + "]"
        words = [word for text in x.ravel().tolist() for word in re.split(pattern, text) if word]
        return object_array(words, (len(words),))


class Match(PreStep, frozen=True, forbid_unknown_fields=True):
    """The words that a regular expression matches wholly; others are dropped: string [words] -> the same.

    `pattern`: RE2's syntax, which has no look-around and no back references: `[a-z]+`, `\\d{4}`.
    """

    name: ClassVar[str] = "match"
    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as problem:
            raise ValueError(f"{self.pattern!r} is no regular expression: {problem}") from problem
        if re.search(r"\(\?[=!<]|\\[1-9]", self.pattern):
            raise ValueError(f"{self.pattern!r} looks around or back, which the graph cannot")

    def compile(self, graph: Graph, x: Value) -> Value:
        _strings(x, self.name)
        graph.needs(TEXT_OPSET)
        fits = graph.op("RegexFullMatch", x.name, pattern=self.pattern)
        return Value(graph.op("Compress", x.name, fits, axis=0), "string", ("words",))

    def reference(self, x: Array) -> Array:
        # Python's classes are Unicode's, RE2's are ASCII's.
        words = [word for word in x.tolist() if re.fullmatch(self.pattern, word, re.ASCII)]
        return object_array(words, (len(words),))


class Vocabulary(PreStep, frozen=True, forbid_unknown_fields=True):
    """The number of each word: string [words] -> int64 [words].

    `words`: the known words in order; in a recipe's file also the path of a file with a word on each line.
    `first`: the number of the first. `unknown`: the number of every other word.
    """

    name: ClassVar[str] = "vocabulary"
    words: tuple[str, ...]
    first: _INT64 = 0
    unknown: _INT64 = 0

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("a vocabulary has at least one word")
        if len(set(self.words)) != len(self.words):
            seen: set[str] = set()
            twice = next(word for word in self.words if word in seen or seen.add(word))  # type: ignore[func-returns-value]
            raise ValueError(f"the word {twice!r} stands twice")

    def compile(self, graph: Graph, x: Value) -> Value:
        _strings(x, self.name)
        numbers = graph.op(
            "LabelEncoder",
            x.name,
            domain="ai.onnx.ml",
            keys_strings=list(self.words),
            values_int64s=list(range(self.first, self.first + len(self.words))),
            default_int64=self.unknown,
        )
        return Value(numbers, "int64", x.shape)

    def reference(self, x: Array) -> Array:
        known = {word: number for number, word in enumerate(self.words, self.first)}
        return np.array([known.get(word, self.unknown) for word in x.ravel().tolist()], np.int64).reshape(
            x.shape
        )


class Truncate(PreStep, frozen=True, forbid_unknown_fields=True):
    """At most `size` of the words or numbers: [words] -> [words].

    `keep`: the "first" or the "last" ones.
    """

    name: ClassVar[str] = "truncate"
    size: Annotated[int, msgspec.Meta(ge=1)]
    keep: Literal["first", "last"] = "first"

    def compile(self, graph: Graph, x: Value) -> Value:
        _row(x, self.name)
        start, end = (0, self.size) if self.keep == "first" else (-self.size, (1 << 31) - 1)
        kept = graph.op("Slice", x.name, *(graph.constant([number], "int64") for number in (start, end, 0)))
        return Value(kept, x.dtype, ("words",))

    def reference(self, x: Array) -> Array:
        return x[: self.size] if self.keep == "first" else x[-self.size :]


class Surround(PreStep, frozen=True, forbid_unknown_fields=True):
    """A number before the first and one behind the last: int64 [words] -> int64 [words + 1 or 2].

    `begin`, `end`: the numbers; nothing where there is none.
    """

    name: ClassVar[str] = "surround"
    begin: _INT64 | None = None
    end: _INT64 | None = None

    def __post_init__(self) -> None:
        if self.begin is None and self.end is None:
            raise ValueError("one of `begin` and `end` is needed")

    def compile(self, graph: Graph, x: Value) -> Value:
        _numbers(x, self.name)
        parts = [graph.constant([number], "int64") for number in (self.begin,) if number is not None]
        parts.append(x.name)
        parts += [graph.constant([number], "int64") for number in (self.end,) if number is not None]
        return Value(graph.op("Concat", *parts, axis=0), "int64", ("words",))

    def reference(self, x: Array) -> Array:
        begin, end = ([] if number is None else [number] for number in (self.begin, self.end))
        return np.concatenate([np.array(begin, np.int64), x, np.array(end, np.int64)])


class PadTo(PreStep, frozen=True, forbid_unknown_fields=True):
    """Filled up to a length: int64 [words] -> int64 [`size`]; longer ones are cut behind.

    `size`: the length. `value`: what is put there. `side`: "right" (behind) or "left" (before).
    """

    name: ClassVar[str] = "pad_to"
    size: Annotated[int, msgspec.Meta(ge=1)]
    value: _INT64 = 0
    side: Literal["right", "left"] = "right"

    def compile(self, graph: Graph, x: Value) -> Value:
        _numbers(x, self.name)
        constant = graph.constant
        cut = graph.op("Slice", x.name, *(constant([number], "int64") for number in (0, self.size, 0)))
        missing = graph.op("Sub", constant([self.size], "int64"), graph.op("Shape", cut))
        none = constant([0], "int64")
        pads = [none, missing] if self.side == "right" else [missing, none]
        padded = graph.op(
            "Pad", cut, graph.op("Concat", *pads, axis=0), constant(self.value, "int64"), mode="constant"
        )
        fixed = graph.op("Reshape", padded, constant([self.size], "int64"))
        return Value(fixed, "int64", (self.size,))

    def reference(self, x: Array) -> Array:
        cut = x[: self.size]
        missing = self.size - len(cut)
        pads = (0, missing) if self.side == "right" else (missing, 0)
        return np.pad(cut, pads, constant_values=self.value)


def _strings(x: Value, step: str) -> None:
    if x.dtype != "string" or len(x.shape) != 1:
        raise UsageError(f"{step} takes text; it is given {x.dtype}{list(x.shape)}")


def _numbers(x: Value, step: str) -> None:
    if x.dtype != "int64" or len(x.shape) != 1:
        raise UsageError(
            f"{step} takes the numbers of words; it is given {x.dtype}{list(x.shape)}",
            hint="`vocabulary` makes them",
        )


def _row(x: Value, step: str) -> None:
    if len(x.shape) != 1 or x.dtype not in ("string", "int64"):
        raise UsageError(f"{step} takes words or their numbers; it is given {x.dtype}{list(x.shape)}")
