"""Darknet's two files: a `.cfg` of sections with settings, and `.weights`, numbers one after another.

The standard library and numpy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from .converter import NotConverted, Refused
from .frames import Array

MAX_BYTES = 4 << 20
MAX_SECTIONS = 5000
LARGEST = 1e30
NETWORKS = ("net", "network")


@dataclass(frozen=True)
class Section:
    """One layer, or the network's own settings."""

    kind: str
    index: int
    """Of the layer, from 0; -1 of the network's settings."""
    line: int
    settings: dict[str, str]

    def where(self) -> str:
        """The section in words, for messages."""
        return f"[{self.kind}] in line {self.line}" + (f" (layer {self.index})" if self.index >= 0 else "")

    def wrong(self, why: str) -> Refused:
        """That it cannot be right."""
        return Refused(f"{self.where()}: {why}")

    def refuse(self, why: str, hint: str | None = None) -> NotConverted:
        """That it is not converted."""
        return NotConverted(f"{self.where()}: {why}", hint)

    def text(self, name: str, default: str) -> str:
        """A word."""
        return self.settings.get(name, default)

    def integer(self, name: str, default: int, least: int = 0, most: int = 1 << 24) -> int:
        """A whole number.

        Raises:
            Refused: it is none, or not between `least` and `most`.
        """
        value = self.numbers(name, [default])
        if len(value) != 1 or value[0] != int(value[0]) or not least <= value[0] <= most:
            raise self.wrong(f"{name}={self.settings[name]} where a whole number is expected")
        return int(value[0])

    def number(self, name: str, default: float) -> float:
        """A number."""
        return self.numbers(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Whether a setting is there and not 0."""
        return self.number(name, 0) != 0

    def numbers(self, name: str, default: list[float]) -> list[float]:
        """Numbers with commas between them.

        Raises:
            Refused: something else stands there.
        """
        if name not in self.settings:
            return default
        try:
            found = [float(part) for part in self.settings[name].split(",") if part.strip()]
        except ValueError:
            found = []
        if not found or not max(map(abs, found)) < LARGEST:
            raise self.wrong(f"{name}={self.settings[name]} where a number is expected")
        return found


def parse(text: str) -> tuple[Section, list[Section]]:
    """The network's settings, and its layers.

    Raises:
        Refused: it is no such text; the message says in which line.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = re.sub(r"\s", "", raw.partition("#")[0].partition(";")[0])
        if not line:
            continue
        if line.startswith("["):
            if not line.endswith("]"):
                raise Refused(f"line {number}: {line[:60]!r} is no section: it may be cut short")
            sections.append(Section(line[1:-1].lower(), len(sections) - 1, number, {}))
            continue
        name, equals, value = line.partition("=")
        if not equals or not sections:
            raise Refused(f"line {number}: {line[:60]!r} where NAME=VALUE or [SECTION] is expected")
        sections[-1].settings[name] = value
    if not sections or sections[0].kind not in NETWORKS:
        raise Refused("it does not begin with [net]")
    if not 1 < len(sections) <= MAX_SECTIONS:
        raise Refused(f"it has {len(sections) - 1} layers")
    return sections[0], sections[1:]


def written(sections: list[Section]) -> str:
    """The text of sections, as `parse` reads it."""
    return "\n".join(
        f"[{section.kind}]\n" + "".join(f"{name}={value}\n" for name, value in section.settings.items())
        for section in sections
    )


@dataclass
class WeightFile:
    """The numbers, taken from the front one layer after another."""

    numbers: Array
    """float32[n]; not copied."""
    version: str
    turned: bool
    """Whether matrices are kept the other way round, as the oldest versions did."""
    at: int = 0

    @classmethod
    def read(cls, data: bytes) -> WeightFile:
        """The header, and everything behind it.

        Raises:
            Refused: no such file.
        """
        if len(data) < 16:
            raise Refused(f"{len(data)} bytes, too few for a header")
        major, minor, revision = (int(n) for n in np.frombuffer(data, "<i4", 3))
        if not (0 <= major <= 2000 and 0 <= minor <= 2000 and 0 <= revision <= 2000):
            raise Refused(f"its header says version {major}.{minor}.{revision}: it is no file of Darknet's")
        # What follows is how many pictures it has seen, since 0.2 in eight bytes.
        start = 20 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 16
        size = (len(data) - start) // 4 * 4
        if (len(data) - start) % 4 or size < 0:
            raise Refused(f"{len(data)} bytes are no whole number of weights: it is cut short")
        return cls(
            np.frombuffer(data, "<f4", offset=start),
            f"{major}.{minor}.{revision}",
            major > 1000 or minor > 1000,
        )

    def take(self, section: Section, *shape: int) -> Array:
        """The next numbers in a shape.

        Raises:
            Refused: there are not as many left.
        """
        count = int(np.prod(shape, dtype=np.int64))
        if self.at + count > len(self.numbers):
            raise Refused(
                f"the weights end at layer {section.index} ([{section.kind}]): {len(self.numbers)} numbers, "
                f"which is too few for the cfg: they are cut short, of a part of the network only, or no pair"
            )
        self.at += count
        return self.numbers[self.at - count : self.at].reshape(shape)

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            Refused: something is.
        """
        left = len(self.numbers) - self.at
        if left:
            raise Refused(
                f"{left} of {len(self.numbers)} weights are left over: the cfg and the weights are no pair"
            )
