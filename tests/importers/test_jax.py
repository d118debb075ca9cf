"""JAX, Flax and Equinox: told by their imports, refused with reasons, converted primitive by primitive."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from modelport.errors import InputError, Unsupported, UsageError
from modelport.importers.jax import JaxImporter, JaxObjectImporter
from modelport.importers.pack import pack
from modelport.importers.source import Permission, SourceOptions, find_importer
from modelport.isolation import environments

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "frameworks" / "jax"
TRUST = Permission(trust=True)
CASES = (
    *("pictures", "upwards", "words", "recurrent", "linen", "bound", "equinox", "many", "until", "looked_up"),
    "plain",
)
DOUBLED = """
import jax.numpy as jnp

WEIGHTS = jnp.ones((4, 2))

def doubled(x, y):
    return {"sum": x @ WEIGHTS + y, "rows": y * 2}

def broken(x):
    return x @ jnp.ones((7, 7))

number = 3
"""


@pytest.fixture
def jax_python(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of the private environment; the test skips without it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    found = environments.python_of(environments.table("jax"))
    if found is None:
        pytest.skip(f"no environment of JAX in {environments.root()}: modelport doctor --make jax")
    return found


def source(folder: Path, text: str = DOUBLED) -> Path:
    path = folder / "model.py"
    path.write_text(text)
    return path


def importer(path: Path, name: str) -> Any:
    return find_importer(path, TRUST, SourceOptions(builder=name))


def test_python_that_imports_jax_is_told_without_running_it(tmp_path: Path) -> None:
    assert isinstance(find_importer(source(tmp_path)), JaxImporter)
    for text in ("from flax import nnx\nraise SystemExit", "def f():\n    import equinox as eqx\n"):
        assert JaxImporter().recognises(source(tmp_path, text))
    for text in ("import numpy  # not jax", "import jax, (", "text about jax", "import jaxtyping", ""):
        assert not JaxImporter().recognises(source(tmp_path, text))
    assert not JaxImporter().recognises(tmp_path)
    assert not JaxObjectImporter().recognises(object())


def test_python_is_not_run_without_trust(tmp_path: Path) -> None:
    path = source(tmp_path, "import jax\nraise SystemExit(1)")
    with pytest.raises(Unsupported, match=r"is Python code \(jax\): packing runs it") as refused:
        pack(path, out=tmp_path / "out")
    assert "--trust" in str(refused.value.hint)


def test_what_jax_export_wrote_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"<\x00\x00\x008\x00d\x00" + bytes(400) + b"ML\xefRStableHLO_v1.9.3" + bytes(90))
    with pytest.raises(Unsupported, match=r"what jax\.export serialized") as refused:
        pack(path, out=tmp_path / "out", permission=TRUST)
    assert "FILE.py" in str(refused.value.hint)


def test_the_class_must_be_of_the_source(tmp_path: Path) -> None:
    path = source(tmp_path)
    with pytest.raises(UsageError, match=r"--class names other\.py"):
        importer(path, "other.py:doubled").question(path)
    for name in ("doubled", "model.py:doubled", f"{path}:doubled"):
        assert importer(path, name).question(path) == {"builder": "doubled"}


@pytest.mark.parametrize(
    ("name", "inputs", "error", "why"),
    [
        ("", ["x:float32[batch,4]"], UsageError, "which function of model.py.*doubled, broken"),
        ("trebled", ["x:float32[batch,4]"], UsageError, "nothing called 'trebled'"),
        ("number", ["x:float32[batch,4]"], UsageError, "it is a int, no function of arrays"),
        ("doubled", [], UsageError, r"which shapes it takes \(x, y\)"),
        ("broken", ["x:float32[batch,4]"], Unsupported, "JAX cannot trace it: TypeError: dot_general"),
    ],
)
def test_what_is_unclear_is_asked(
    tmp_path: Path, jax_python: Path, name: str, inputs: list[str], error: type[Exception], why: str
) -> None:
    options = SourceOptions(builder=name)
    with pytest.raises(error, match=why):
        pack(source(tmp_path), out=tmp_path / "out", permission=TRUST, options=options, inputs=inputs)


def test_a_file_that_does_not_run_is_told(tmp_path: Path, jax_python: Path) -> None:
    path = source(tmp_path, "import jax\nimport a_package_that_is_not_there")
    with pytest.raises(InputError, match=r"model\.py does not run: ModuleNotFoundError"):
        importer(path, "f").open(path)


def test_a_function_of_a_file_is_packed(tmp_path: Path, jax_python: Path) -> None:
    told: list[str] = []
    bundle = pack(
        source(tmp_path),
        out=tmp_path / "out",
        permission=TRUST,
        options=SourceOptions(builder="model.py:doubled"),
        inputs=["y:float32[batch,2]", "x:float32[batch,4]"],
        recipe="raw",
        progress=told.append,
    )
    graph = bundle.manifest.graphs.net
    assert [spec.name for spec in graph.signature.inputs] == ["x", "y"]
    assert [spec.name for spec in graph.signature.outputs] == ["rows", "sum"]
    assert graph.batch
    assert bundle.manifest.golden is not None and bundle.manifest.golden.source.startswith("jax ")
    assert any("process of its own" in note for note in told)


def test_a_trained_network_keeps_its_answers(tmp_path: Path, jax_python: Path) -> None:
    made = tmp_path / "made"
    subprocess.run([jax_python, EXAMPLE / "make.py", made], check=True, capture_output=True, timeout=200)
    bundle = pack(
        made / "waves.py",
        out=tmp_path / "out",
        permission=TRUST,
        options=SourceOptions(builder="waves.py:network"),
        inputs=["signal:float32[batch,64]"],
        recipe="raw",
        golden=made / "samples",
    )
    assert bundle.manifest.golden is not None
    assert len(bundle.manifest.golden.cases) == 12


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases in one process that has JAX."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "modelport-bench" / "environments"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(environments.VARIABLE, str(root))
        python = environments.python_of(environments.table("jax"))
    if python is None:
        pytest.skip(f"no environment of JAX in {root}: modelport doctor --make jax")
    places = [str(ROOT / "src"), sysconfig.get_path("purelib"), str(tmp_path_factory.mktemp("packed"))]
    command = [str(python), "-W", "ignore", str(Path(__file__).with_name("jax_cases.py")), *places]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr[-3000:]
    told: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("name", CASES)
def test_onnx_computes_what_jax_computes(outcomes: dict[str, Any], name: str) -> None:
    assert outcomes[name] < 3e-6


def test_a_primitive_without_a_form_is_named_with_its_place(outcomes: dict[str, Any]) -> None:
    first, second = outcomes["refused"]
    assert "'erf_inv' of JAX (jax_cases.py:" in first
    assert "'fft'" in second


def test_what_is_in_memory_is_packed(outcomes: dict[str, Any]) -> None:
    told = outcomes["packed"]
    assert told["batch"]
    assert {"best", "top_0", "top_1", "sorted"} <= set(told["outputs"])
    assert "does not say which shapes it takes (x)" in told["why"]
    assert "inputs=" in told["why"]
