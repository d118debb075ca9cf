"""Sources are told apart without their frameworks; a missing one is named with what installs it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from modelport.errors import InputError, Unsupported
from modelport.importers.keras import KerasImporter
from modelport.importers.onnx import OnnxImporter
from modelport.importers.source import HDF5_MAGIC, Permission, find_importer, of_module
from modelport.importers.torch import TorchImporter
from modelport.isolation import environments


def zipped(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "{}")
    return path


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    hdf5 = tmp_path / "a.bin"
    hdf5.write_bytes(HDF5_MAGIC + b"\0" * 64)
    return {
        "torchscript": zipped(tmp_path / "b.bin", "net/data.pkl", "net/constants.pkl", "net/code/net.py"),
        "pt2": zipped(tmp_path / "c.bin", "net/models/model.json", "net/archive_format"),
        "weights": zipped(tmp_path / "d.bin", "net/data.pkl", "net/data/0"),
        "keras": zipped(tmp_path / "e.bin", "config.json", "metadata.json", "model.weights.h5"),
        "h5": hdf5,
    }


def test_the_content_decides(sources: dict[str, Path], tmp_path: Path) -> None:
    found = {name: type(find_importer(path)) for name, path in sources.items()}
    torch, keras = TorchImporter, KerasImporter
    assert found == {"torchscript": torch, "pt2": torch, "weights": torch, "keras": keras, "h5": keras}
    for path in (zipped(tmp_path / "x.pt", "readme.txt"), zipped(tmp_path / "empty.keras")):
        with pytest.raises(InputError, match="no model that Modelport reads"):
            find_importer(path)
    assert not OnnxImporter().recognises(sources["h5"])


def test_a_photo_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "bus.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(64))
    with pytest.raises(InputError, match="no model that Modelport reads") as refusal:
        find_importer(tmp_path / "bus.jpg")
    assert refusal.value.exit_code == 3
    assert "Ultralytics" in (refusal.value.hint or "")


def test_telling_loads_no_framework(sources: dict[str, Path]) -> None:
    code = (
        "import sys; from modelport.importers.source import find_importer\n"
        "for path in sys.argv[1:]: find_importer(path)\n"
        "assert not {'torch', 'tensorflow', 'keras', 'h5py'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, sources.values())], check=True)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("torchscript", "torch"),
        ("torchscript", "onnxscript"),
        ("pt2", "torch"),
        ("pt2", "onnxscript"),
        ("keras", "tensorflow-cpu"),
        ("h5", "tf2onnx"),
    ],
)
def test_without_the_framework_a_private_environment_is_offered(
    sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, module: str
) -> None:
    def version(distribution: str) -> str:
        if distribution in (module, module.removesuffix("-cpu")):
            raise PackageNotFoundError(distribution)
        return "99"

    monkeypatch.setattr(environments, "version", version)
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    importer = find_importer(sources[name], Permission(trust=True))
    with pytest.raises(Unsupported, match=f"needs {module} >= ") as refusal:
        importer.load(sources[name], example=None)
    assert "--isolate" in (refusal.value.hint or "")
    assert refusal.value.exit_code == 4


def test_weights_are_refused_without_torch(sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Unsupported, match="holds a pickle"):
        find_importer(sources["weights"]).load(sources["weights"], example=None)


def test_objects_are_told_by_the_names_of_their_classes() -> None:
    parent = type("Module", (), {"__module__": "torch.nn.modules.module"})
    child = type("Net", (parent,), {"__module__": "mine"})
    assert of_module(child(), "torch", "Module")
    assert not of_module(child(), "keras", "Model")
    assert not of_module(3, "torch", "Module")
