"""What must hold between how an item is decoded and what `pre` takes: columns of tables, texts and tokens.

Also whether the columns themselves make sense, which recipes and importers ask before there is a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import BundleError
from ..tensors import TensorSpec
from .manifest import Column, Decode, Manifest

TEXT = TensorSpec("text", "string", (1,))
"""What a text without a tokenizer is."""
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""What a tokenizer gives, each int64[length]; `pre` takes those that the network needs."""

_MAY_MISS = ("float32", "float64", "string")


def check_items(manifest: Manifest) -> None:
    """Refuse a bundle whose decoded items are not what its `pre` takes.

    Raises:
        BundleError: columns where the items are no rows, or that differ from the inputs of `pre`; a text's
            tensors of other names; a tokenizer where the items are no texts. `at` is the JSON path.
    """
    kind, inputs = manifest.decode.kind, manifest.graphs.pre.signature.inputs
    if manifest.columns and kind != "table":
        raise BundleError(f"columns, and items of kind {kind!r}; only a table has columns", at="$.columns")
    _check_tokenizer(manifest.decode)
    if kind == "table":
        check_columns(manifest.columns)
        wanted = specs_of(manifest.columns)
        if inputs != wanted:
            raise BundleError(
                f"`pre` takes {_listed(inputs)}; its columns are {_listed(wanted)}",
                at="$.graphs.pre.signature.inputs",
            )
    if kind == "text" and manifest.decode.tokenizer is None and inputs != (TEXT,):
        raise BundleError(
            f"`pre` takes {_listed(inputs)}; a text is {_listed((TEXT,))}", at="$.graphs.pre.signature.inputs"
        )
    if kind == "text" and manifest.decode.tokenizer is not None:
        for index, spec in enumerate(inputs):
            if spec.name not in TOKENS or spec.dtype != "int64" or len(spec.shape) != 1:
                raise BundleError(
                    f"`pre` takes {spec.name} {spec}; a tokenizer gives {', '.join(TOKENS)}, int64[length]",
                    at=f"$.graphs.pre.signature.inputs[{index}]",
                )


def specs_of(columns: Sequence[Column]) -> tuple[TensorSpec, ...]:
    """What one row is: a tensor of one value for each column, in order."""
    return tuple(TensorSpec(column.name, column.dtype, (1,)) for column in columns)


def check_columns(columns: Sequence[Column], at: str = "$.columns") -> None:
    """Refuse columns that make no sense.

    Raises:
        BundleError: none, one name twice, categories or a range where the dtype has none, or a typical value
            that the column itself would refuse; `at` is the place.
    """
    if not columns:
        raise BundleError("a table has at least one column", at=at)
    seen: set[str] = set()
    for index, column in enumerate(columns):
        fault = "stands twice" if column.name in seen else _fault(column)
        if fault:
            raise BundleError(f"the column {column.name!r} {fault}", at=f"{at}[{index}]")
        seen.add(column.name)


def _fault(column: Column) -> str | None:
    """Why a column is refused, as the end of a sentence; None where it is fine."""
    number = column.dtype in ("float32", "float64", "int64")
    low, high = column.minimum, column.maximum
    if any(ord(letter) < 32 for letter in column.name):
        return "has a control character in its name"
    if column.categories and column.dtype != "string":
        return f"has categories, which only a string column has; it is {column.dtype}"
    if "" in column.categories:
        return "has the empty text among its categories; that stands for a missing value"
    if len(set(column.categories)) != len(column.categories):
        return "has a category twice"
    if (low is not None or high is not None) and not number:
        return f"has a range, which only numbers have; it is {column.dtype}"
    if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
        return "has a range without an end; leave that end out"
    if low is not None and high is not None and low > high:
        return f"has the range {low:g} to {high:g}, which holds nothing"
    if column.missing and column.dtype not in _MAY_MISS:
        return f"may miss, and {column.dtype} has no value for that; {', '.join(_MAY_MISS)} have"
    return None if column.typical is None else _typical_fault(column, column.typical)


def _typical_fault(column: Column, value: bool | int | float | str) -> str | None:
    kinds: tuple[type, ...] = {"bool": (bool,), "string": (str,), "int64": (int,)}.get(
        column.dtype, (int, float)
    )
    low, high = column.minimum, column.maximum
    if column.dtype == "int64" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and column.dtype != "bool"):
        return f"is {column.dtype} and its typical value is {value!r}"
    if column.unseen:
        return None
    if column.categories and value not in column.categories:
        return f"has no category {value!r}, which is its typical value"
    if isinstance(value, (int, float)) and not (
        (low is None or low <= value) and (high is None or value <= high)
    ):
        return f"has the typical value {value!r}, which is beyond its range"
    return None


def _check_tokenizer(decode: Decode) -> None:
    if decode.tokenizer is not None and decode.kind != "text":
        raise BundleError(
            f"a tokenizer, and items of kind {decode.kind!r}; only texts are cut into tokens",
            at="$.decode.tokenizer",
        )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec}" for spec in specs) or "nothing"
