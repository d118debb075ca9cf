"""Class names from a list or a file: a line each, a JSON list, or a JSON map from index to name."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, NotFound

MAX_BYTES = 16 << 20


def read_labels(labels: Sequence[str] | str | os.PathLike[str]) -> tuple[str, ...]:
    """The names, index by index.

    Raises:
        NotFound: no such file.
        InputError: not UTF-8, no names, or a JSON form other than the two.
    """
    if not isinstance(labels, (str, os.PathLike)):
        return _checked([str(name) for name in labels], "the labels")
    path = Path(labels)
    if not path.is_file():
        raise NotFound(f"no labels file {path}")
    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is not UTF-8: {problem}", hint="save it as UTF-8") from problem
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return _from_json(json.loads(text), str(path))
        except ValueError:
            # A line may begin with a bracket; JSON that is cut short has one line or ends without one.
            if text.rstrip()[-1:] in ("]", "}"):
                raise InputError(f"{path} looks like JSON and is not") from None
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return _checked(lines, str(path))


def _from_json(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, dict):
        if value and all(isinstance(index, int) and not isinstance(index, bool) for index in value.values()):
            value = {str(index): name for name, index in value.items()}  # name -> index, as Keras writes it
        try:
            numbered = {int(index): name for index, name in value.items()}
        except ValueError as problem:
            raise InputError(f"{where}: expected a map from index to name", at="$") from problem
        missing = next((index for index in range(len(numbered)) if index not in numbered), None)
        if missing is not None:
            raise InputError(f"{where}: index {missing} has no name", at="$")
        # ImageNet's well-known map holds ["n01440764", "tench"].
        value = [numbered[index] for index in range(len(numbered))]
        value = [entry[-1] if isinstance(entry, list) and entry else entry for entry in value]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{where}: expected a JSON list of names, or a map from index to name", at="$")
    return _checked(value, where)


def _checked(names: Sequence[str], where: str) -> tuple[str, ...]:
    if not names:
        raise InputError(f"{where}: no names")
    for index, name in enumerate(names):
        if not name.strip() or "\n" in name or "\r" in name:
            raise InputError(
                f"{where}: the name of class {index} is {name!r}", hint="one line for each class"
            )
    return tuple(name.strip() for name in names)
