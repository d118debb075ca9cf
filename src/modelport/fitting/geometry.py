"""Where a picture goes: the sizes, crops and frames that preprocessing can be, and which of them fit.

Knows sizes only, no pixels. A geometry is a row of steps with a kernel to be filled in; some are known and
have no step, so that they can be named to the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from ..steps.image import CenterCrop, Pad, both_sides
from ..steps.resize import Letterbox, Resize
from ..steps.step import PreStep

Sizes = tuple[int, int]
"""Height and width."""
Variation = Literal["", "square-first"]
VARIATIONS: dict[Variation, str] = {
    "": "",
    "square-first": "the middle square is cut out first and resized then",
}
_FRACTIONS = (0.875, 1.0, 0.9, 0.95, 0.96, 0.965, 0.94, 0.8, 0.85, 0.7, 0.97, 0.98)
_SIZES = (256, 232, 235, 236, 238, 248, 288, 320, 342, 384)
_MORE = (8, 12, 16, 24, 32, 36, 43, 64, 96)


class Placement(msgspec.Struct, frozen=True):
    """For one picture: what of it is resized to what, and where that lies in the frame."""

    box: tuple[int, int, int, int]
    """Top, left, height and width of what is resized."""
    resized: Sizes
    top: int
    left: int
    """Of the resized picture in the frame; negative where the frame cuts."""
    frame: Sizes

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and columns of the frame that the picture covers."""
        return (
            slice(max(0, self.top), min(self.frame[0], self.top + self.resized[0])),
            slice(max(0, self.left), min(self.frame[1], self.left + self.resized[1])),
        )

    @property
    def kept(self) -> tuple[slice, slice]:
        """The same pixels, in the resized picture."""
        rows, columns = self.inside
        return (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(columns.start - self.left, columns.stop - self.left),
        )

    @property
    def covered(self) -> bool:
        """Whether there is no border."""
        return self.inside == (slice(0, self.frame[0]), slice(0, self.frame[1]))


class Geometry(msgspec.Struct, frozen=True):
    """Steps that move pixels; at most one of them resizes. `variation`: how it differs from the steps."""

    moves: tuple[PreStep, ...]
    variation: Variation = ""

    @property
    def resizes(self) -> bool:
        """Whether there is a kernel to choose."""
        return any(isinstance(step, Resize | Letterbox) for step in self.moves)

    def placement(self, height: int, width: int) -> Placement:
        """For a picture of `height` x `width`."""
        box = (0, 0, height, width)
        if self.variation == "square-first":
            side = min(height, width)
            box = ((height - side) // 2, (width - side) // 2, side, side)
        resized = frame = box[2:]
        top = left = 0
        for step in self.moves:
            if isinstance(step, Resize):
                resized = frame = step.target(*box[2:])
            elif isinstance(step, Letterbox):
                rows, columns, top, left = step.placement(*box[2:])
                resized, frame = (rows, columns), both_sides(step.size)
            elif isinstance(step, CenterCrop):
                wanted = both_sides(step.size)
                top, left = (
                    at + _start(step, have, want)
                    for at, have, want in zip((top, left), frame, wanted, strict=True)
                )
                frame = wanted
            elif isinstance(step, Pad) and step.size is not None:
                wanted = both_sides(step.size)
                top, left = (
                    at + max(0, want - have) // 2
                    for at, have, want in zip((top, left), frame, wanted, strict=True)
                )
                frame = (max(frame[0], wanted[0]), max(frame[1], wanted[1]))
        return Placement(box, resized, top, left, frame)

    def steps(self, kernel: str, order: str, fill: int | tuple[int, ...] | None) -> tuple[PreStep, ...]:
        """The steps with a kernel, Pillow's order of passes, and the border's colour where there is one."""
        found: list[PreStep] = []
        for step in self.moves:
            changes: dict[str, object] = {}
            if isinstance(step, Resize | Letterbox):
                changes["kernel"] = kernel
            if isinstance(step, Resize):
                changes["order"] = order
            if isinstance(step, Pad | Letterbox) and fill is not None:
                changes["fill"] = fill
            found.append(msgspec.structs.replace(step, **changes))
        return tuple(found)

    def text(self) -> str:
        """In words."""
        words = []
        for step in self.moves:
            size = getattr(step, "size", None)
            at = f" {_times(both_sides(size))}" if size is not None else ""
            if isinstance(step, Resize) and size is None:
                at = f" {'shorter' if step.shorter else 'longer'} side {step.shorter or step.longer}"
                at += f", at most {step.longest}" if step.longest else ""
                at += ", longer side rounded" if step.rounding == "nearest" else ""
            words.append(step.name.replace("center_crop", "centre crop") + at)
            if isinstance(step, Letterbox):
                words[-1] += "" if step.center else " at the top left"
                words[-1] += "" if step.scaleup else ", small pictures not enlarged"
                words[-1] += "" if step.rounding == "nearest" else ", sides cut off"
            if isinstance(step, CenterCrop) and step.rounding == "down":
                words[-1] += " from (size - crop) // 2"
        text = ", ".join(words) or "the picture as it is"
        return text + (f" ({VARIATIONS[self.variation]})" if self.variation else "")


def _start(crop: CenterCrop, have: int, want: int) -> int:
    """Where a crop puts the picture's first pixel."""
    if have > want:
        return -crop.start(have, want)
    return (want - have) // 2 if crop.rounding == "nearest" else (want - have + 1) // 2


def _times(size: Sizes) -> str:
    return f"{size[0]} x {size[1]}"


def likely(sizes: Sequence[tuple[Sizes, Sizes]]) -> list[Geometry]:
    """The usual geometries that make every second size of its first, the simplest first."""
    return [geometry for geometry in _usual(sizes) if fits(geometry, sizes)]


def brute(sizes: Sequence[tuple[Sizes, Sizes]]) -> list[Geometry]:
    """Every other size before a centre crop."""
    frame = _fixed(sizes)
    if frame is None:
        return []
    common = set(_before_crop(max(frame)))
    rest = [side for side in range(max(frame) + 1, 2 * max(frame) + 65) if side not in common]
    found = [each for side in rest for each in _cropped(side, frame)]
    return [geometry for geometry in found if fits(geometry, sizes)]


def unusual(sizes: Sequence[tuple[Sizes, Sizes]], near: Sequence[Geometry]) -> list[Geometry]:
    """Sides and crops that are rounded otherwise, and variations for which there is no step, where they make
    a difference to these sizes."""
    found: list[Geometry] = []
    for geometry in near:
        crops = any(isinstance(step, CenterCrop) for step in geometry.moves)
        for others in ((CenterCrop,), (Resize,), (CenterCrop, Resize)) if crops else ((Resize,),):
            other = Geometry(
                tuple(_rounded(step) if isinstance(step, others) else step for step in geometry.moves)
            )
            if any(other.placement(*size) != geometry.placement(*size) for size, _ in sizes):
                found.append(other)
    frame = _fixed(sizes)
    if frame is not None:
        found.append(Geometry((Resize(size=frame),), "square-first"))
    return [geometry for geometry in found if fits(geometry, sizes)]


def _rounded(step: PreStep) -> PreStep:
    """A crop or a resize that rounds as the usual one of its kind does not."""
    if isinstance(step, CenterCrop):
        return msgspec.structs.replace(step, rounding="down")
    if isinstance(step, Resize) and step.shorter and not step.longest:
        return msgspec.structs.replace(step, rounding="nearest")
    return step


def fits(geometry: Geometry, sizes: Sequence[tuple[Sizes, Sizes]]) -> bool:
    """Whether it makes every second size of its first, with something of the picture in it."""
    for source, made in sizes:
        placement = geometry.placement(*source)
        rows, columns = placement.inside
        if placement.frame != made or rows.stop <= rows.start or columns.stop <= columns.start:
            return False
    return True


def _fixed(sizes: Sequence[tuple[Sizes, Sizes]]) -> Sizes | None:
    made = {size for _, size in sizes}
    return made.pop() if len(made) == 1 else None


def _usual(sizes: Sequence[tuple[Sizes, Sizes]]) -> Iterator[Geometry]:
    yield Geometry(())
    frame = _fixed(sizes)
    if frame is None:
        yield from _varying(sizes)
        return
    size: int | Sizes = frame[0] if frame[0] == frame[1] else frame
    yield Geometry((CenterCrop(size),))
    yield Geometry((Resize(size=size),))
    for side in _before_crop(max(frame)):
        yield from _cropped(side, frame)
    yield Geometry((Letterbox(size),))
    yield Geometry((Resize(longer=max(frame)), Pad(size=size)))
    for center in (True, False):
        for scaleup in (True, False):
            for rounding in ("nearest", "down"):
                if (center, scaleup, rounding) != (True, True, "nearest"):
                    yield Geometry((Letterbox(size, center=center, scaleup=scaleup, rounding=rounding),))
    yield Geometry((Pad(size=size),))
    yield Geometry((Resize(longer=max(frame)), CenterCrop(size)))


def _varying(sizes: Sequence[tuple[Sizes, Sizes]]) -> Iterator[Geometry]:
    """Where the aspect is kept and the result's size follows the picture's."""
    shorts, longs = {min(made) for _, made in sizes}, {max(made) for _, made in sizes}
    if len(shorts) == 1:
        yield Geometry((Resize(shorter=min(shorts)),))
    if len(longs) == 1:
        yield Geometry((Resize(longer=max(longs)),))
    if len(shorts) > 1 and max(longs) >= max(shorts):
        yield Geometry((Resize(shorter=max(shorts), longest=max(longs)),))


def _before_crop(side: int) -> list[int]:
    """The sizes before a crop to `side` that are in use."""
    found = [int(side / fraction) for fraction in _FRACTIONS]
    found += [round(side / fraction) for fraction in _FRACTIONS] + [side + more for more in _MORE]
    found += [size for size in _SIZES if side <= size <= 2 * side]
    return list(dict.fromkeys(found))


def _cropped(side: int, frame: Sizes) -> Iterator[Geometry]:
    size: int | Sizes = frame[0] if frame[0] == frame[1] else frame
    yield Geometry((Resize(shorter=side), CenterCrop(size)))
    if side != max(frame) or frame[0] != frame[1]:
        yield Geometry((Resize(size=side), CenterCrop(size)))
