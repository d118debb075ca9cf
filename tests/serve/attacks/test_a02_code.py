"""A2: a model is data. Bundles that would run code, load libraries or open files are not served."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from modelport.bundle.store import Bundle
from modelport.errors import BundleError

from ...colours import picture, served


def custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft.extensions"
    model.graph.node[0].op_type = "PyOp"
    model.opset_import.append(helper.make_opsetid("com.microsoft.extensions", 1))


def external_data(model: onnx.ModelProto) -> None:
    (tensor,) = model.graph.initializer
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.external_data.add(key="length", value="4")


def compiled_engine(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"
    model.graph.node[0].op_type = "EPContext"
    model.graph.node[0].attribute.append(helper.make_attribute("ep_cache_context", "../../evil.so"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def poison(version: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the network of a bundle and make the manifest fit: digests show damage, not malice."""
    net, manifest = version / "net.onnx", version / "modelport.json"
    model = onnx.load(net)
    change(model)
    net.write_bytes(model.SerializeToString())
    about = json.loads(manifest.read_text())
    entry = about["files"]["net.onnx"]
    digest = hashlib.sha256(net.read_bytes()).hexdigest()
    about["files"]["net.onnx"] = (
        digest
        if isinstance(entry, str)
        else entry
        | {
            "sha256": digest,
            **({"bytes": net.stat().st_size} if "bytes" in entry else {}),
            **({"size": net.stat().st_size} if "size" in entry else {}),
        }
    )
    manifest.write_text(json.dumps(about))


@pytest.mark.parametrize("change", [custom_operator, external_data, compiled_engine])
def test_a_network_that_reaches_outside_is_not_served_and_the_others_are(
    repo: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    shutil.copytree(repo / "colours", tmp_path / "repo" / "colours")
    poison(tmp_path / "repo" / "colours" / "2", change)
    with served(tmp_path / "repo") as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        refused = http.post("/predict/colours/2", content=picture("red"))
        assert refused.status_code == 503, refused.text
        assert "root:" not in refused.text
        assert http.post("/predict/colours/1", content=picture("red")).json()["answer"][0]["label"] == "red"


@pytest.mark.parametrize("name", ["model.py", "handler.py", "__init__.py", "custom_op.so"])
def test_code_beside_the_graphs_makes_a_bundle_invalid(repo: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(repo / "colours", tmp_path / "colours")
    marker = tmp_path / "owned"
    (tmp_path / "colours" / "1" / name).write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(BundleError, match=name):
        Bundle.open(tmp_path / "colours" / "1")
    assert not marker.exists()


def test_code_beside_the_models_is_not_looked_at(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in the folder the server is started in, which is the repository here."""
    shutil.copytree(repo / "sum", tmp_path / "repo" / "sum")
    marker = tmp_path / "owned"
    for name in ("model.py", "config.py", "numpy.py", "sum/__init__.py", "onnxruntime.py", "re.py"):
        (tmp_path / "repo" / name).write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.chdir(tmp_path / "repo")
    with served(Path(), "--workers", "2") as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        assert http.get("/v2/models/sum/ready").status_code == 200
    assert not marker.exists()
