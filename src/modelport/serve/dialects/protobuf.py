"""The protobuf wire format, as far as messages of numbers need it: fields in place, packed numbers as arrays.

No generated code and no library: a message of a million packed numbers is one array here, not a million
Python objects. Knows no message; who reads one says what its fields may be, and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...tensors import Array

Field = memoryview | int
"""A field's value: bytes (a text, a message, packed numbers, or 4 or 8 bytes), or a varint."""

MAX_FIELDS = 100_000
"""Fields of one request, those of the messages inside it and unpacked numbers among them."""
_CHUNK = 1 << 20
_WIDTHS = {1: 8, 5: 4}


class Misfit(ValueError):
    """The bytes are not the message that was looked for."""


class Budget:
    """How many fields may still be read: a small body can hold millions, each as dear as a large one."""

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        self.left = fields

    def spend(self, fields: int) -> None:
        """Count fields.

        Raises:
            Misfit: there are none left.
        """
        self.left -= fields
        if self.left < 0:
            raise Misfit("too many fields")


def fields(data: memoryview, budget: Budget) -> Iterator[tuple[int, Field]]:
    """Each field of a message: its number and value, in order.

    Raises:
        Misfit: not a message, cut short, or over the budget.
    """
    place = 0
    while place < len(data):
        budget.spend(1)
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Misfit("field 0")
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in _WIDTHS:
            size = _WIDTHS[wire]
        else:
            raise Misfit(f"wire type {wire}")
        if size > len(data) - place:
            raise Misfit("cut short")
        yield number, data[place : place + size]
        place += size


def text(value: Field) -> str:
    """A field's bytes as UTF-8.

    Raises:
        Misfit: not UTF-8, or no bytes.
    """
    try:
        return str(value, "utf-8")  # type: ignore[arg-type] # an int raises TypeError
    except (UnicodeDecodeError, TypeError) as problem:
        raise Misfit("no text") from problem


def varints(value: Field, budget: Budget) -> list[int]:
    """A repeated integer field, packed or one of them alone: signed numbers, a few (dimensions, places).

    Raises:
        Misfit: not packed varints, or over the budget.
    """
    if isinstance(value, int):
        return [_signed(value)]
    budget.spend(len(value))
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(_signed(number))
    return numbers


def packed_varints(data: memoryview, dtype: np.dtype[Any]) -> Array:
    """Packed varints as an array, a part at a time: beside the result it takes a few MiB.

    Raises:
        Misfit: they end inside a number, or a number is too long.
        OverflowError: a number that `dtype` does not hold.
    """
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    raw = np.frombuffer(data, np.uint8)
    done: list[Array] = []
    start = 0
    while start < len(raw):
        part = raw[start : start + _CHUNK]
        ends = np.flatnonzero(part < 0x80)
        if not len(ends):
            raise Misfit("a number without an end")
        numbers = _decode(part, ends)
        if numbers.min() < low or numbers.max() > high:
            raise OverflowError(f"{numbers.min()} to {numbers.max()}")
        done.append(numbers.astype(dtype))
        start += int(ends[-1]) + 1
    return np.concatenate(done) if done else np.empty(0, dtype)


def _decode(raw: Array, ends: Array) -> Array:
    """The varints that end at `ends`, as int64."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    longest = int(sizes.max())
    if longest > 10:
        raise Misfit("a number of more than ten bytes")
    numbers = np.zeros(len(ends), np.uint64)
    for place in range(longest):
        longer = slice(None) if place == 0 else np.flatnonzero(sizes > place)
        bits = (raw[starts[longer] + place] & 0x7F).astype(np.uint64)
        numbers[longer] |= bits << np.uint64(7 * place)
    return numbers.view(np.int64)


def varint(number: int) -> bytes:
    """A number from 0 on as a varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def write_varints(numbers: Array) -> bytes:
    """int64 numbers as packed varints; negative ones take ten bytes."""
    values = numbers.astype(np.int64).view(np.uint64)
    sizes = np.ones(len(values), np.int64)
    for place in range(1, 10):
        sizes += values >= np.uint64(1 << 7 * place)
    starts = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    for place in range(int(sizes.max(initial=0))):
        longer = np.flatnonzero(sizes > place)
        bits = (values[longer] >> np.uint64(7 * place) & np.uint64(0x7F)).astype(np.uint8)
        out[starts[longer] + place] = bits | np.where(sizes[longer] > place + 1, 0x80, 0).astype(np.uint8)
    return out.tobytes()


def write_field(number: int, data: bytes) -> bytes:
    """A field of bytes: a text, a message, or packed numbers."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The varint at `place`, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise Misfit("cut short")
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, place
    raise Misfit("a number of more than ten bytes")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
