"""The usual mistakes in a preprocessing: the found steps with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from ..steps.image import Cast, CenterCrop, Channels, Layout, Normalize, Pad, Scale, both_sides
from ..steps.kernels import KERNELS
from ..steps.resize import Letterbox, Resize
from ..steps.step import PreStep

Steps = tuple[PreStep, ...]
_VALUES = (Scale, Normalize, Cast)


def variants(steps: Steps) -> dict[str, Steps]:
    """Name -> steps, without those that are the found ones."""
    found: dict[str, Steps] = {}
    for name, changed in (*_colours(steps), *_kernels(steps), *_crops(steps), *_values(steps)):
        if changed != steps and changed not in found.values():
            found[name] = changed
    return found


def _colours(steps: Steps) -> Iterator[tuple[str, Steps]]:
    if any(step.name == "grayscale" for step in steps):
        return
    if Channels("bgr") in steps:
        yield "RGB for BGR", tuple(step for step in steps if step != Channels("bgr"))
    else:
        at = next((i for i, step in enumerate(steps) if isinstance(step, (*_VALUES, Layout))), len(steps))
        yield "BGR for RGB", (*steps[:at], Channels("bgr"), *steps[at:])


def _kernels(steps: Steps) -> Iterator[tuple[str, Steps]]:
    for kernel in KERNELS:
        changed = tuple(
            msgspec.structs.replace(step, kernel=kernel) if isinstance(step, Resize | Letterbox) else step
            for step in steps
        )
        yield f"kernel {kernel}", changed


def _crops(steps: Steps) -> Iterator[tuple[str, Steps]]:
    """Other ways to the same size."""
    moved = [step for step in steps if isinstance(step, Resize | Letterbox | CenterCrop | Pad)]
    sized = [step for step in moved if step.size is not None]
    if not sized or not isinstance(moved[0], Resize | Letterbox):
        return
    size, kernel = both_sides(sized[-1].size or 1), moved[0].kernel
    smallest = min(size)

    def instead(*other: PreStep) -> Steps:
        first = steps.index(moved[0])
        rest = [step for step in steps if step not in moved]
        return (*rest[:first], *other, *rest[first:])

    yield (
        "squeezed to the size, no crop",
        instead(Resize(size=size if size[0] != size[1] else smallest, kernel=kernel)),
    )
    if size[0] == size[1]:
        crop = CenterCrop(smallest)
        yield "shorter side to the size, then crop", instead(Resize(shorter=smallest, kernel=kernel), crop)
        margin = _margin(moved[0], smallest)
        yield f"shorter side {margin}, then crop", instead(Resize(shorter=margin, kernel=kernel), crop)
        yield "letterbox", instead(Letterbox(smallest, kernel=kernel))


def _margin(step: PreStep, smallest: int) -> int:
    """The side before the crop: the found one where there is one."""
    side = 0
    if isinstance(step, Resize):
        side = step.shorter or (max(both_sides(step.size)) if step.size is not None else 0)
    return side if side > smallest else int(smallest / 0.875)


def _values(steps: Steps) -> Iterator[tuple[str, Steps]]:
    present = [step for step in steps if isinstance(step, _VALUES)]
    if not present or (present[-1:] != [Cast("float32")] and isinstance(present[-1], Cast)):
        return

    def instead(other: Sequence[PreStep]) -> Steps:
        first = steps.index(present[0])
        rest = [step for step in steps if step not in present]
        return (*rest[:first], *other, *rest[first:])

    normalize = [step for step in present if isinstance(step, Normalize)]
    rest = [step for step in present if not isinstance(step, Normalize)]
    if normalize and any(isinstance(step, Scale) for step in rest):
        yield "not normalised", instead(rest)
        yield "0 to 255 for 0 to 1, then normalised", instead(normalize)
        turned = [_turned(step) for step in normalize]
        yield "mean and deviation in the order of BGR", instead([*rest, *turned])
    ranges: tuple[tuple[str, Callable[[], PreStep]], ...] = (
        ("0 to 255, not normalised", lambda: Cast("float32")),
        ("0 to 1", lambda: Scale(divide=255.0)),
        ("-1 to 1", lambda: Scale(divide=127.5, offset=-1.0)),
    )
    for name, make in ranges:
        yield f"values {name}", instead([make()])


def _turned(step: Normalize) -> Normalize:
    mean, std = (x if isinstance(x, float | int) else tuple(x[::-1]) for x in (step.mean, step.std))
    return Normalize(mean, std)
