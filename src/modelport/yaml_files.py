"""YAML from outside, read with bounds: on the file, and on what its aliases and merge keys make of it.

An alias costs nothing while it is one value in two places, but whoever writes such values out as text, or
merges maps by `<<`, follows each of them: ten lists of ten aliases to the next are ten billion values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import InputError, TooLarge, Unsupported
from .files import read_limited

MAX_BYTES = 4 << 20
MAX_WRITTEN_OUT = 8 << 20
"""Characters and values of a file with every alias written out: twice those of the longest without any."""
MAX_DIGITS = 300
"""Of a number. Python takes time with the square of them, and refuses to write out those of over 4300."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(path: Path) -> Any:
    """What a YAML file says, in plain values; None where it is empty.

    Raises:
        NotFound: it cannot be read. Unsupported: there is no PyYAML.
        TooLarge: over `MAX_BYTES`, or over `MAX_WRITTEN_OUT` with its aliases written out.
        InputError: not UTF-8, not YAML, a value that holds itself, or a number of over `MAX_DIGITS` digits.
    """
    try:
        import yaml
    except ImportError as problem:
        raise Unsupported(
            "YAML files need PyYAML", hint="pip install 'modelport[evaluate]' (or pyyaml alone)"
        ) from problem
    try:
        data = read_limited(path, MAX_BYTES)
    except TooLarge as problem:
        raise TooLarge(f"over {MAX_BYTES >> 20} MB of YAML", at=str(path)) from problem
    try:
        loader = yaml.SafeLoader(data.decode("utf-8-sig"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, path)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8: {problem}", at=str(path), hint="save it as UTF-8") from problem
    except RecursionError as problem:
        raise InputError("not YAML that is read: too deep", at=str(path)) from problem
    # PyYAML lets through what its conversions raise: `!!bool maybe` is a KeyError, `!!int ""` an IndexError.
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError) as problem:
        raise InputError(f"not YAML: {' '.join(str(problem).split())[:300]}", at=str(path)) from problem


def _check(root: Any, path: Path) -> None:
    """Raises TooLarge or InputError before anything is made of the nodes.

    A merge key is counted like the alias behind it: what is merged is what that stands for.
    """
    sizes: dict[int, int | None] = {}

    def size(node: Any) -> int:
        """Characters and values of a node, its aliases written out; each node is looked at once."""
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise InputError("a value that holds itself", at=f"{path}:{node.start_mark.line + 1}")
            return known
        sizes[id(node)] = None
        if isinstance(node.value, str):
            whole = 1 + len(node.value)
            if node.tag in _NUMBERS and whole > MAX_DIGITS:
                raise InputError(
                    f"a number of {whole - 1} characters; at most {MAX_DIGITS} are read",
                    at=f"{path}:{node.start_mark.line + 1}",
                )
        else:
            whole = 1
            for each in node.value:
                whole += sum(map(size, each)) if isinstance(each, tuple) else size(each)
        if whole > MAX_WRITTEN_OUT:
            raise TooLarge(
                f"with its aliases written out it has over {MAX_WRITTEN_OUT} characters and values",
                at=f"{path}:{node.start_mark.line + 1}",
                hint="write out what it needs without aliases to aliases",
            )
        sizes[id(node)] = whole
        return whole

    size(root)
