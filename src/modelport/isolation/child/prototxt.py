"""The text form of protobuf messages, read without their description: names, values and nested messages.

Caffe's forks add layers and fields of their own; so nothing is unknown here, and what a layer means is
decided by whoever converts it. The standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .converter import Refused

MAX_BYTES = 32 << 20
MAX_DEPTH = 32

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[^\s{}<>\[\]:;,\#"']+)"""
    r"|(?P<mark>[{}<>\[\]:;,])",
    re.VERBOSE,
)
_ENDS = {"{": "}", "<": ">"}


class Message:
    """Fields by name; each has a list of values: int, float, bool, str (also enumerations) or `Message`."""

    def __init__(self, fields: dict[str, list[Any]] | None = None) -> None:
        self.fields: dict[str, list[Any]] = fields or {}

    def all(self, name: str) -> list[Any]:
        """Every value of a field."""
        return self.fields.get(name, [])

    def message(self, name: str) -> Message:
        """A nested message; an empty one where there is none.

        Raises:
            Refused: it is no message.
        """
        found = self.all(name)[-1:]
        if found and not isinstance(found[0], Message):
            raise Refused(f"{name} is {found[0]!r} where settings in braces are expected")
        return found[0] if found else Message()

    def messages(self, name: str) -> list[Message]:
        """Every nested message of a field."""
        return [value for value in self.all(name) if isinstance(value, Message)]

    def text(self, name: str, default: str = "") -> str:
        """A string or the name of an enumeration's value."""
        return str(self._last(name, default))

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        return self.integers(name)[-1] if self.all(name) else default

    def integers(self, name: str) -> list[int]:
        """Every whole number of a repeated field.

        Raises:
            Refused: something else stands there.
        """
        values = self.all(name)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 40:
                raise Refused(f"{name} is {_shown(value)} where a whole number is expected")
        return values

    def number(self, name: str, default: float) -> float:
        """A number."""
        return self.numbers(name)[-1] if self.all(name) else default

    def numbers(self, name: str) -> list[float]:
        """Every number of a repeated field.

        Raises:
            Refused: something else stands there.
        """
        values = self.all(name)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise Refused(f"{name} is {_shown(value)} where a number is expected")
        return [float(value) for value in values]

    def flag(self, name: str, default: bool) -> bool:
        """True or false; 1 and 0 count."""
        value = self._last(name, default)
        if value in ("t", "True", "f", "False"):
            return bool(value in ("t", "True"))
        if value not in (True, False):
            raise Refused(f"{name} is {_shown(value)} where true or false is expected")
        return bool(value)

    def _last(self, name: str, default: Any) -> Any:
        values = self.all(name)
        if values and isinstance(values[-1], Message):
            raise Refused(f"{name} holds settings in braces where a value is expected")
        return values[-1] if values else default


def parse(text: str) -> Message:
    """The message that a text holds.

    Raises:
        Refused: it is no such text; the message says in which line.
    """
    if len(text) > MAX_BYTES:
        raise Refused(f"{len(text)} characters: no network's description is that long")
    return _message(_Tokens(text.removeprefix("\ufeff")), "", 0)


def written(message: Message, indent: str = "") -> str:
    """The text of a message, as `parse` reads it."""
    lines = []
    for name, values in message.fields.items():
        for value in values:
            if isinstance(value, Message):
                lines.append(f"{indent}{name} {{\n{written(value, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_literal(value)}\n")
    return "".join(lines)


class Quoted(str):
    """A string that stood in quotation marks, unlike the name of an enumeration's value."""

    __slots__ = ()


class _Tokens:
    def __init__(self, text: str) -> None:
        self._text = text
        self._found = self._tokens()
        self._next = next(self._found)
        self.line = 1

    def peek(self) -> tuple[str, str]:
        return self._next[0], self._next[1]

    def take(self) -> tuple[str, str]:
        kind, token, place = self._next
        self.line = self._text.count("\n", 0, place) + 1 if kind == "end" else self.line
        self._place = place
        if kind != "end":
            self._next = next(self._found)
        return kind, token

    def refuse(self, expected: str) -> Refused:
        kind, token, place = self._next
        line = self._text.count("\n", 0, place) + 1
        if kind == "end":
            return Refused(f"the text ends in line {line} where {expected} is expected: it may be cut short")
        return Refused(f"line {line}: {_shown(token)} where {expected} is expected")

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                line = self._text.count("\n", 0, at) + 1
                raise Refused(f"line {line}: {_shown(self._text[at : at + 20])} is no part of such a text")
            if match.lastgroup is not None:
                yield match.lastgroup, match.group(), at
            at = match.end()
        while True:
            yield "end", "", len(self._text)


def _message(tokens: _Tokens, end: str, depth: int) -> Message:
    if depth > MAX_DEPTH:
        raise Refused(f"settings are nested deeper than {MAX_DEPTH}")
    fields: dict[str, list[Any]] = {}
    while True:
        kind, token = tokens.peek()
        if kind == "mark" and token in ",;":
            tokens.take()
        elif (kind == "end" and not end) or (kind == "mark" and token == end):
            tokens.take()
            return Message(fields)
        elif kind == "word":
            tokens.take()
            fields.setdefault(token, []).extend(_values(tokens, depth))
        else:
            raise tokens.refuse("a field's name" if not end else f"a field's name or {end!r}")


def _values(tokens: _Tokens, depth: int) -> list[Any]:
    """What stands behind a field's name."""
    colon = tokens.peek() == ("mark", ":")
    if colon:
        tokens.take()
    kind, token = tokens.peek()
    if kind == "mark" and token in _ENDS:
        tokens.take()
        return [_message(tokens, _ENDS[token], depth + 1)]
    if not colon:
        raise tokens.refuse("':' or '{'")
    if (kind, token) != ("mark", "["):
        return [_value(tokens)]
    tokens.take()
    values: list[Any] = []
    while tokens.peek() != ("mark", "]"):
        if tokens.peek() == ("mark", ","):
            tokens.take()
            continue
        values.append(_value(tokens))
    tokens.take()
    return values


def _value(tokens: _Tokens) -> Any:
    kind, token = tokens.peek()
    if kind == "string":
        parts = []
        while tokens.peek()[0] == "string":
            parts.append(_unquoted(tokens.take()[1]))
        return Quoted("".join(parts))
    if kind != "word":
        raise tokens.refuse("a value")
    tokens.take()
    if token in ("true", "false"):
        return token == "true"
    for number in (int, float):
        try:
            return number(token.removesuffix("f") if number is float else token)
        except ValueError:
            continue
    return token


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Quoted):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value) if isinstance(value, (int, float)) else str(value)


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, Message) else "settings in braces"
    return text if len(text) < 60 else f"{text[:57]}..."
