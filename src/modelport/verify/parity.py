"""Two arrays, or two answers: how far apart are they, and is that within a tolerance? Knows no bundle."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from ..bundle.manifest import Tolerance
from ..tensors import Array, Tensors, dtype_name

SCORES = "scores"
"""The tensor of an answer that ranks; whole numbers and text of its shape stand beside it, rank by rank."""
CHANGED_PLACES = "classes whose scores are equal within the tolerance changed places"


class Parity(msgspec.Struct, frozen=True):
    """How two arrays compare."""

    ok: bool
    max_abs: float
    """Largest absolute difference; 0 for text and for what is equal."""
    max_rel: float
    """Largest difference as a share of the expected magnitude, where that is not 0."""
    mismatched: int
    """Elements outside the tolerance."""
    total: int
    worst: tuple[int, ...] | None = None
    """Where the worst element is; None where nothing differs or the arrays cannot be laid side by side."""
    reason: str = ""
    """In words: why, where arrays cannot be compared or text differs; or what differs and does not count."""

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if not self.mismatched and not self.max_abs:
            return f"{self.total} elements are equal"
        return (
            f"{self.mismatched} of {self.total} elements outside the tolerance, "
            f"largest difference {self.max_abs:.3g}"
            + (f" at {list(self.worst)}" if self.worst is not None else "")
        )


def compare(got: Array, want: Array, tolerance: Tolerance) -> Parity:
    """`|got - want| <= absolute + relative * |want|`, element by element.

    NaN equals NaN in the same place, and an infinity the same infinity; nothing else equals them. For whole
    numbers `relative` does not count; text and booleans are equal or not, whatever the tolerance.

    Args:
        got, want: arrays of any shape and one datatype.
    """
    total = int(want.size)
    if dtype_name(got) != dtype_name(want) or got.shape != want.shape:
        return Parity(
            ok=False,
            max_abs=0.0,
            max_rel=0.0,
            mismatched=total,
            total=total,
            reason=f"expected {dtype_name(want)}{list(want.shape)}, got {dtype_name(got)}{list(got.shape)}",
        )
    if want.dtype.kind in "OUSb":
        return _compare_exact(got, want)
    return _compare_numbers(got, want, tolerance)


def compare_answers(got: Tensors, want: Tensors, tolerance: Tolerance) -> dict[str, Parity]:
    """Every tensor of an answer by name; a missing or unexpected one is a mismatch.

    Scores are compared within the tolerance. A class beside them (its index or label) must be the same
    unless its score is tied within the tolerance with a neighbour's: then the order of the two is not
    the model's to say, and their numbers are not subtracted. A label must always be the one that its index
    names.
    """
    result = {name: _absent(f"the answer has no {name!r}") for name in want if name not in got}
    result |= {name: _absent(f"the answer has an unexpected {name!r}") for name in got if name not in want}
    both = [name for name in want if name in got]
    result |= {name: compare(got[name], want[name], tolerance) for name in both}
    if SCORES not in both or not result[SCORES].ok:
        return result
    tied = _tied(want[SCORES], tolerance)
    moved: Array | None = None
    for name in sorted(both, key=lambda name: dtype_name(want[name]) == "string"):
        array = want[name]
        beside = array.shape == want[SCORES].shape and array.dtype.kind in "iuOUS"
        if name == SCORES or not beside or got[name].shape != array.shape:
            continue
        differs = np.asarray(got[name] != array, dtype=bool)
        # A label that moved without its index is the wrong name for it.
        excused = tied if moved is None else tied & moved
        if dtype_name(array) != "string":
            moved = differs if moved is None else moved | differs
        if result[name].mismatched and not (differs & ~excused).any():
            result[name] = Parity(True, 0.0, 0.0, 0, result[name].total, None, CHANGED_PLACES)
    return result


def worst_of(parities: Mapping[str, Parity]) -> tuple[str, Parity] | None:
    """The name and parity of the worst: first what is not ok, then by the largest difference.

    Where all are ok it has what any of them says of a difference that does not count.
    """
    if not parities:
        return None
    wrong = {name: parity for name, parity in parities.items() if not parity.ok}
    if wrong:
        return max(wrong.items(), key=lambda item: (bool(item[1].reason), item[1].max_abs))
    name, worst = max(parities.items(), key=lambda item: item[1].max_abs)
    said = next((each.reason for each in parities.values() if each.reason), "")
    return name, msgspec.structs.replace(worst, reason=said)


def _compare_exact(got: Array, want: Array) -> Parity:
    if dtype_name(want) == "string":
        got, want = got.astype(str), want.astype(str)
    differs = np.asarray(got != want)
    count = int(differs.sum())
    if not count:
        return Parity(True, 0.0, 0.0, 0, int(want.size))
    worst = tuple(int(i) for i in np.argwhere(differs)[0])
    reason = f"expected {want[worst].item()!r}, got {got[worst].item()!r}"
    reason += f" at {list(worst)}" if worst else ""
    return Parity(False, 0.0, 0.0, count, int(want.size), worst, reason)


def _compare_numbers(got: Array, want: Array, tolerance: Tolerance) -> Parity:
    if not want.size:
        return Parity(True, 0.0, 0.0, 0, 0)
    # Whole numbers of 64 bits lose digits in a float: whether they differ is asked of them as they are.
    same = np.asarray((got == want) | ((got != got) & (want != want)))
    a, b = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
        relative = tolerance.relative if want.dtype.kind == "f" else 0.0
        allowed = tolerance.absolute + relative * np.abs(b)
        if want.dtype.kind in "iu":
            apart = np.maximum(apart, 1.0)
        unlike = ~same & ~(np.isfinite(a) & np.isfinite(b))
        apart = np.where(same, 0.0, np.where(unlike, np.inf, apart))
        outside = ~same & (unlike | ~(apart <= allowed))
        share = np.divide(apart, np.abs(b), out=np.zeros_like(apart), where=(b != 0) & np.isfinite(b))
        excess = np.where(same, -np.inf, apart - np.where(np.isfinite(allowed), allowed, 0.0))
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), want.shape))
    reason = ""
    if not np.isfinite(apart.max()):
        reason = f"expected {want[worst].item()!r}, got {got[worst].item()!r} at {list(worst)}"
    return Parity(
        ok=not outside.any(),
        max_abs=float(apart.max()),
        max_rel=float(share.max()),
        mismatched=int(outside.sum()),
        total=int(want.size),
        worst=None if same.all() else worst,
        reason=reason,
    )


def _tied(scores: Array, tolerance: Tolerance) -> Array:
    """Where a score is within the tolerance of a neighbour's on the last axis; shape of `scores`."""
    tied = np.zeros(scores.shape, dtype=bool)
    if scores.ndim and scores.shape[-1] > 1:
        before, after = scores[..., :-1].astype(np.float64), scores[..., 1:].astype(np.float64)
        close = np.abs(before - after) <= 2 * (tolerance.absolute + tolerance.relative * np.abs(before))
        tied[..., :-1] |= close
        tied[..., 1:] |= close
    return tied


def _absent(reason: str) -> Parity:
    return Parity(False, 0.0, 0.0, 0, 0, None, reason)
