"""A Python function as a source: it stays Python, is named so, and runs only where it is trusted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.manifest import decode_manifest, encode_manifest
from modelport.bundle.rules import check_manifest
from modelport.bundle.store import Bundle
from modelport.errors import BundleError, InputError, NotFound, Unsupported, UsageError
from modelport.importers.pack import pack
from modelport.importers.source import Permission
from modelport.runtimes.pipeline import Pipeline
from modelport.verify.replay import verify

TRUSTED = Permission(trust=True)
RISK = '''"""A rule of a bank."""
import numpy as np

def score(amount: "float32[batch]", ages: "float32[batch,2]") -> dict:
    risk = np.tanh(np.abs(amount) * np.abs(ages).sum(axis=1))
    return {"risk": np.stack([1 - risk, risk], axis=1).astype(np.float32)}

def bare(x):
    return x * 2

def ranks(x: "float32[batch]"):
    return np.argsort(np.argsort(x)).astype(np.float32)

def fails(x: "float32[batch]"):
    raise ValueError("always")

def total(x: "float32[batch]"):
    return x.sum()

def talks(x: "float32[batch]"):
    import socket
    socket.socket()
    return x
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.py"
    path.write_text(RISK)
    return path


def test_a_function_is_packed_as_what_it_is(file: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    bundle = pack(f"{file}:score", out=tmp_path / "repo", permission=TRUSTED, progress=notes.append)
    manifest = bundle.manifest
    assert (manifest.name, manifest.graphs.net.file, manifest.graphs.net.function) == (
        "score",
        "net.py",
        "score",
    )
    assert manifest.graphs.net.batch
    source = manifest.lineage.source
    assert source is not None
    assert (source.format, source.file) == ("python", "rules.py")
    assert source.framework is not None and source.framework.startswith("Python function 'score' (python 3.")
    assert bundle.graph("net").endswith(RISK.encode())
    assert any(note.startswith("warning: 'score' stays a Python function") for note in notes)
    assert any("no network" in note for note in notes)


def test_nothing_runs_it_without_being_allowed(file: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="is a Python function, which is code") as refusal:
        pack(f"{file}:score", out=tmp_path / "repo")
    assert "--trust" in str(refusal.value.hint)
    bundle = pack(f"{file}:score", out=tmp_path / "repo", permission=TRUSTED)
    for open_it in (Pipeline.open, verify):
        with pytest.raises(Unsupported, match=r"Python function 'score' of net\.py.*--trust"):
            open_it(bundle)
    assert verify(bundle, runtime="python").ok
    item = {"amount": np.float32(0.5), "ages": np.array([0.1, 0.2], np.float32)}
    with Pipeline.open(bundle, runtime="python") as pipeline:
        answer = pipeline.answer({name: np.asarray(value) for name, value in item.items()})
    np.testing.assert_allclose(answer["risk"][1], np.tanh(0.5 * 0.3), rtol=1e-6)


def test_the_host_never_imports_the_file(file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "imported"
    file.write_text(f"open({str(marker)!r}, 'w')\n{RISK}")
    with pytest.raises(InputError, match=r"does not import: PermissionError.*line 1"):
        pack(f"{file}:score", out=tmp_path / "repo", permission=TRUSTED)
    assert not marker.exists()
    assert "rules" not in sys.modules


def test_rows_that_look_at_each_other_are_given_alone(file: Path, tmp_path: Path) -> None:
    bundle = pack(f"{file}:ranks", out=tmp_path / "repo", permission=TRUSTED)
    assert not bundle.manifest.graphs.net.batch
    with Pipeline.open(bundle, runtime="python") as pipeline:
        assert pipeline.net({"x": np.array([3, 1, 2], np.float32)})["output"].tolist() == [0, 0, 0]


def test_arguments_are_annotated_or_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing says what the argument 'x' of 'bare' is"):
        pack(f"{file}:bare", out=tmp_path / "repo", permission=TRUSTED)
    bundle = pack(f"{file}:bare", out=tmp_path / "repo", permission=TRUSTED, inputs=["x:float64[batch,3]"])
    assert str(bundle.manifest.graphs.net.signature.outputs[0]) == "float64[batch, 3]"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("fails", InputError, r"'fails' failed: ValueError: always \(line \d+: raise ValueError"),
        ("total", InputError, r"3 rows give an output 'output' of shape \[\]"),
        ("talks", InputError, "'talks' failed: PermissionError"),
        ("absent", InputError, "defines no function 'absent'"),
    ],
)
def test_what_is_wrong_is_said(
    file: Path, tmp_path: Path, name: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        pack(f"{file}:{name}", out=tmp_path / "repo", permission=TRUSTED)


def test_files_that_are_not_there_or_not_python(file: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no such file: .*missing\.py"):
        pack(f"{tmp_path}/missing.py:f", out=tmp_path / "repo", permission=TRUSTED)
    file.write_text("def score(:\n")
    with pytest.raises(InputError, match="is not Python"):
        pack(f"{file}:score", out=tmp_path / "repo", permission=TRUSTED)
    with pytest.raises(InputError, match="is text") as refusal:
        pack(file, out=tmp_path / "repo", permission=TRUSTED)
    assert "rules.py:FUNCTION" in str(refusal.value.hint)


def test_only_the_network_may_be_a_function(file: Path, tmp_path: Path) -> None:
    bundle = pack(f"{file}:score", out=tmp_path / "repo", permission=TRUSTED)
    data = json.loads(encode_manifest(bundle.manifest))
    data["graphs"]["post"] |= {"function": "score"}
    with pytest.raises(BundleError, match="only `net` may be a Python function"):
        check_manifest(decode_manifest(json.dumps(data).encode()))


def test_a_session_checks_what_goes_in(file: Path, tmp_path: Path) -> None:
    bundle = pack(f"{file}:score", out=tmp_path / "repo", permission=TRUSTED)
    assert isinstance(bundle, Bundle)
    with Pipeline.open(bundle, runtime="python") as pipeline, pytest.raises(InputError, match="amount"):
        pipeline.net({"ages": np.zeros((1, 2), np.float32)})
    with Pipeline.open(bundle, runtime="python") as pipeline:
        batch = {"amount": np.array([np.nan], np.float32), "ages": np.zeros((1, 2), np.float32)}
        assert np.isnan(pipeline.net(batch)["risk"]).all()


def test_on_the_command_line(file: Path, tmp_path: Path) -> None:
    def modelport(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modelport", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert modelport("pack", "rules.py:score", "-o", "repo").returncode == 4
    packed = modelport("pack", "rules.py:score", "-o", "repo", "--trust")
    assert packed.returncode == 0 and "modelport serve repo --trust" in packed.stdout
    (tmp_path / "item.json").write_text('{"inputs": {"amount": 1.0, "ages": [0.5, 0.5]}}')
    refused = modelport("predict", "repo/score", "item.json")
    assert refused.returncode == 4 and "--trust" in refused.stderr
    done = modelport("predict", "repo/score", "item.json", "--trust", "--json")
    assert done.returncode == 0 and "risk" in done.stdout
    assert "Python function 'score', run only with --trust" in modelport("inspect", "repo/score").stdout
    assert modelport("verify", "repo/score").returncode == 4
    assert modelport("verify", "repo/score", "--trust").returncode == 0
