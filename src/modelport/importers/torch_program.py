"""Whether reading an exported program (`.pt2`) would run code from it. Imports no torch.

torch's reader evaluates the sizes that a program gives as expressions (with sympy, which is Python's `eval`),
compiles its guards, and writes its names into source text. A program is data where all of these are of the
plain form that torch writes; here everything in it is held against that form, and the rest is told.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, Unsupported
from .source import zip_members

MAX_JSON = 256 << 20
PLAIN = re.compile(r"[\w.\-/ ]{0,2000}")
TARGET = re.compile(r"torch\.ops\.\w+\.\w+(\.\w+)?|torch\.(_sym_\w+|sym_\w+)|_operator\.\w+|math\.\w+")
SYMBOL = re.compile(r"[a-z]{1,3}\d+")
FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """Symbol Integer Rational Float Add Mul Pow Max Min Abs floor ceiling Eq Ne Lt Le Gt Ge Equality
        Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan And Or Not Piecewise ExprCondPair
        FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift
        PowByNatural FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat
        TruncToInt RoundToInt RoundDecimal ToFloat Identity""",
    )
)
"""What torch writes a size with: sympy's own classes and torch's."""
METHODS = frozenset({"size", "stride", "storage_offset", "dim"})
FREE = frozenset({"metadata", "stack_trace", "as_string", "as_strings", "torch_version"})
"""Under these, text stays text: where a line came from, and an operator's arguments, which are quoted."""
NODES = (
    ast.Expression,
    ast.Compare,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.Load,
    ast.keyword,
)


def refuse_objects(path: Path) -> None:
    """Refuses a program that holds objects or compiled code, whoever made it.

    Raises:
        Unsupported: naming the member.
    """
    for member in zip_members(path):
        for part, what in (("/custom_obj_", "a custom object"), ("/opaque_obj_", "a pickled object")):
            if part in member:
                raise Unsupported(f"{path} holds {what} ({member}); it is not unpickled")
        if "/aotinductor/" in member:
            raise Unsupported(f"{path} holds compiled code ({member})", hint="save it with torch.export.save")


def code_in(path: Path) -> list[str]:
    """What reading the program would run beside what torch itself writes; empty where it is data.

    Raises:
        InputError: the file is damaged.
    """
    found: list[str] = []
    for data in _descriptions(path):
        found += [text for text in _odd(data) if text not in found]
    return found


def _descriptions(path: Path) -> Iterator[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            for about in archive.infolist():
                if not about.filename.endswith(".json"):
                    continue
                if about.file_size > MAX_JSON:
                    raise InputError(f"{path}: {about.filename} is larger than {MAX_JSON >> 20} MB")
                yield json.loads(archive.read(about))
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        OSError,
        ValueError,
    ) as problem:
        raise InputError(f"{path} is not a torch.export program: {problem}") from problem
    except RecursionError as problem:
        raise InputError(f"{path} is not a torch.export program: it is nested too deeply") from problem


def _odd(value: Any, key: str = "") -> Iterator[str]:
    """Texts that are not of torch's form."""
    if key in FREE:
        return
    if isinstance(value, dict):
        for name, held in value.items():
            if not PLAIN.fullmatch(name):
                yield name
            yield from _odd(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from _odd(held, key)
    elif isinstance(value, str) and not _plain(value, key):
        if key in ("in_spec", "out_spec", "context") and (inner := _json(value)) is not None:
            yield from _odd(inner, "spec")
        else:
            yield value


def _plain(text: str, key: str) -> bool:
    if key in ("expr_str", "guards_code"):
        return harmless(text)
    return bool((TARGET if key == "target" else PLAIN).fullmatch(text))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def harmless(text: str) -> bool:
    """Whether an expression is arithmetic on sizes and nothing else.

    Args:
        text: as torch writes it: `Add(Symbol('s0', positive=True), Integer(-3))`, `L['x'].size()[2] >= 3`.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func
            if isinstance(name, ast.Attribute) and name.attr in METHODS and _of_input(name.value):
                allowed |= {name, name.value}
            elif not (isinstance(name, ast.Name) and name.id in FUNCTIONS):
                return False
            if isinstance(name, ast.Name) and not _strings_are_symbols(node):
                return False
    return all(_allowed(node, allowed) for node in ast.walk(tree))


def _allowed(node: ast.AST, methods: set[ast.AST]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS or node.id in ("L", "True", "False") or bool(SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float)) or (
            isinstance(node.value, str) and bool(PLAIN.fullmatch(node.value))
        )
    if isinstance(node, ast.Attribute):
        return node in methods
    return isinstance(node, (*NODES, ast.Call, ast.Subscript))


def _of_input(node: ast.AST) -> bool:
    """`L['x']`, perhaps with an index behind it."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id == "L"


def _strings_are_symbols(call: ast.Call) -> bool:
    """sympy evaluates text once more: only the name of a symbol may be one."""
    texts = [
        part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    named = isinstance(call.func, ast.Name) and call.func.id == "Symbol"
    return not texts or (named and len(texts) == 1 and bool(SYMBOL.fullmatch(texts[0])))
