"""Files that lie beside a recipe of the user's: lists of words, and a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import UsageError

if TYPE_CHECKING:
    from .recipe import Recipe

MAX_WORDS_BYTES = 3 << 20
"""A vocabulary is part of the manifest, which is at most 4 MiB."""
MAX_TOKENIZER_BYTES = 64 << 20
TOKENIZER = "tokenizer.json"
"""What the tokenizer is called in the bundle."""


def with_words(table: Mapping[str, Any], folder: Path | None, where: str) -> dict[str, Any]:
    """A recipe's table with the `words` of its vocabularies read where they are the path of a file.

    Args:
        table: what the TOML says.
        folder: where the recipe lies; None for one that ships with Modelport.
        where: the recipe, for messages.

    Raises:
        UsageError: there is no such file, it is no UTF-8 text, or too long.
    """
    pre = table.get("pre")
    if folder is None or not isinstance(pre, list):
        return dict(table)
    return {**table, "pre": [_with_words(step, folder, where) for step in pre]}


def with_tokenizer(recipe: Recipe, folder: Path | None, where: str) -> Recipe:
    """The recipe with its tokenizer among its files, where it names one.

    Raises:
        UsageError: there is no such file, or it is too long.
    """
    named = recipe.decode.tokenizer
    if named is None or folder is None:
        return recipe
    data = _read(folder, named, MAX_TOKENIZER_BYTES, where)
    decode = msgspec.structs.replace(recipe.decode, tokenizer=TOKENIZER)
    return msgspec.structs.replace(recipe, decode=decode, files={TOKENIZER: data})


def _with_words(step: Any, folder: Path, where: str) -> Any:
    if not isinstance(step, dict) or set(step) != {"vocabulary"} or not isinstance(step["vocabulary"], dict):
        return step
    words = step["vocabulary"].get("words")
    if not isinstance(words, str):
        return step
    try:
        lines = _read(folder, words, MAX_WORDS_BYTES, where).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as problem:
        raise UsageError(f"{words} is not UTF-8 text: {problem}", at=where) from problem
    return {"vocabulary": {**step["vocabulary"], "words": [line for line in lines if line]}}


def _read(folder: Path, name: str, limit: int, where: str) -> bytes:
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise UsageError(f"{name!r} is not beside the recipe", at=where)
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror or problem}", at=where) from problem
    if len(data) > limit:
        raise UsageError(f"{path} is over {limit} bytes", at=where)
    return data
