"""What a caller may set for one request: checked against what the bundle offers, and brought to its type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError, did_you_mean
from ..tensors import Array, numpy_dtype
from .manifest import Manifest, Option

_TRUE = frozenset(("true", "1", "yes", "on"))
_FALSE = frozenset(("false", "0", "no", "off"))


def check_options(manifest: Manifest, given: Mapping[str, Any]) -> dict[str, float | int | bool]:
    """The options of a request, each of its own type; text, as a query holds it, is converted.

    Args:
        manifest: of the bundle that is asked.
        given: name -> a number, a boolean or the text of one.

    Raises:
        InputError: an unknown name, a value of another type or out of range; `at` is `$.parameters.NAME`.
    """
    known = {option.name: option for option in manifest.options}
    checked: dict[str, float | int | bool] = {}
    for name, value in given.items():
        at = f"$.parameters.{name[:64]}"
        if name not in known:
            offered = ", ".join(known)
            raise InputError(
                f"{manifest.name} has no option {name[:64]!r}; it has {offered or 'none'}",
                at=at,
                hint=did_you_mean(name[:64], known) if known else None,
            )
        checked[name] = _checked(known[name], value, at)
    return checked


def option_tensors(manifest: Manifest, given: Mapping[str, Any] | None) -> dict[str, Array]:
    """The scalars to feed to `post` for these options; what is not given stays at its default.

    Raises:
        InputError: as `check_options`.
    """
    if not given:
        return {}
    dtypes = {option.name: numpy_dtype(option.dtype) for option in manifest.options}
    checked = check_options(manifest, given)
    return {name: np.asarray(value, dtypes[name]) for name, value in checked.items()}


def _checked(option: Option, value: Any, at: str) -> float | int | bool:
    number = _converted(option.dtype, value)
    low, high = option.minimum, option.maximum
    expected = {"bool": "true or false", "int64": "a whole number", "float32": "a number"}[option.dtype]
    if low is not None and high is not None:
        expected += f" from {low:g} to {high:g}"
    elif low is not None or high is not None:
        expected += f" of at least {low:g}" if low is not None else f" of at most {high:g}"
    outside = number is not None and (
        (low is not None and number < low) or (high is not None and number > high)
    )
    if number is None or outside:
        raise InputError(f"{option.name} is {expected}, got {_shown(value)}", at=at)
    return number


def _converted(dtype: str, value: Any) -> float | int | bool | None:
    """The value as `dtype`; None where it is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        value = value.strip().lower()
        if dtype == "bool":
            return True if value in _TRUE else False if value in _FALSE else None
        try:
            value = int(value) if dtype == "int64" else float(value)
        except ValueError:
            return None
    if dtype == "bool":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not (abs(value) < 2**64 if isinstance(value, int) else math.isfinite(value)):
        return None
    if dtype == "int64":
        return int(value) if value == int(value) and abs(value) < 2**63 else None
    return float(value)


def _shown(value: Any) -> str:
    """A value in an error's words: short, however long it is."""
    if isinstance(value, int) and abs(value) >= 2**64:
        return "a whole number beyond 64 bits"
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    return repr(value[:40] if isinstance(value, str) else value)
