"""The house rules that a linter does not know: sizes, cycles, weight at import, names that never ship."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelport.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "modelport"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CODE = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "examples", "scripts")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
)
MAX_FILE = 400
MAX_FUNCTION = 60
LARGER: dict[str, int] = {}
"""Reviewed exceptions: path -> lines, each with its reason in a comment."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LARGER.get(name_of(path), MAX_FILE)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= MAX_FUNCTION, f"{name_of(path)}:{node.lineno} {node.name} has {size} lines"


def imports_at_load(path: Path) -> set[str]:
    """Modules of the package that importing `path` imports: not those inside functions or for types only."""
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    parts = module.split(".")
    package = parts[:-1]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            found.add(".".join(base))
            found.update(".".join([*base, alias.name]) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found - {module}


def test_there_are_no_import_cycles() -> None:
    graph = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): imports_at_load(path)
        for path in SOURCES
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module in done or module not in graph:
            return
        for needed in sorted(graph[module]):
            walk(needed, (*trail, module))
        done.add(module)

    for module in graph:
        walk(module, ())
    assert len(done) == len(graph) > 20


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


HEAVY = {"torch", "tensorflow", "keras", "tf2onnx", "onnxruntime", "onnx", "cv2", "PIL", "starlette", "rich"}


def test_importing_modelport_is_light() -> None:
    assert not HEAVY & loaded_by("import modelport")


def test_help_imports_no_verb() -> None:
    loaded = loaded_by("from modelport.cli.main import run; run(['--help'])")
    assert not HEAVY & loaded
    assert not {f"modelport.cli.{verb}" for verb in VERBS} & loaded


def test_the_public_names_are_there_and_are_what_they_say() -> None:
    code = "import modelport as m; [getattr(m, n) for n in m.__all__]; assert callable(m.verify)"
    subprocess.run([sys.executable, "-c", code], check=True)
    late = "import modelport as m; m.Bundle, m.Pipeline; m.pack; assert callable(m.verify)"
    subprocess.run([sys.executable, "-c", late], check=True)


BANNED = re.compile(
    r"class \w*(Manager|Helper|Util|Utils|Impl)\b|pickle\.loads?\(|allow_pickle=True|(?<![.\w])(eval|exec)\("
)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    found = BANNED.search(path.read_text())
    assert not found, found
