"""YOLO checkpoints: refused with what is in them, or opened by another process and packed like their ONNX."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import InputError, ModelFailed, Unsupported
from modelport.importers.checkpoint import pickled_names
from modelport.importers.source import Permission, find_importer
from modelport.importers.ultralytics import UltralyticsImporter
from modelport.isolation import environments
from modelport.isolation.worker import Limits, start


def named(*names: str, protocol: int = 2) -> bytes:
    """A pickle of a list of these classes and functions; made by hand, so that none has to exist."""
    out = io.BytesIO()
    out.write(bytes([0x80, protocol]) + b"]")
    for name in names:
        module, _, attribute = name.rpartition(".")
        if protocol < 4:
            out.write(f"c{module}\n{attribute}\n".encode())
        else:
            for text in (module, attribute):
                out.write(b"\x8c" + struct.pack("B", len(text)) + text.encode() + b"\x94")
            out.write(b"\x93\x94")
        out.write(b"a")
    out.write(b".")
    return out.getvalue()


def checkpoint(path: Path, *names: str, protocol: int = 2) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", named(*names, protocol=protocol))
        archive.writestr("archive/version", "3\n")
    return path


YOLO = (
    "models.yolo.Model",
    "models.common.Conv",
    "torch._utils._rebuild_tensor_v2",
    "collections.OrderedDict",
)


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_names_in_a_pickle_are_read_without_calling_anything(tmp_path: Path, protocol: int) -> None:
    path = checkpoint(tmp_path / "a.pt", *YOLO, "os.system", protocol=protocol)
    assert pickled_names(path) == {*YOLO, "os.system"}


def test_names_that_are_kept_and_used_again_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([io.BytesIO, io.StringIO, io.BytesIO], protocol=5))
    assert pickled_names(path) == {"_io.BytesIO", "_io.StringIO"}


@pytest.mark.parametrize("network", ["models.yolo.Model", "ultralytics.nn.tasks.DetectionModel"])
def test_yolo_checkpoints_are_told_by_the_network_they_name(tmp_path: Path, network: str) -> None:
    assert UltralyticsImporter().recognises(checkpoint(tmp_path / "a.pt", network))
    assert isinstance(find_importer(tmp_path / "a.pt"), UltralyticsImporter)
    other = checkpoint(tmp_path / "b.pt", "torchvision.models.resnet.ResNet")
    assert not UltralyticsImporter().recognises(other)


def test_without_trust_it_says_what_would_run(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as refused:
        UltralyticsImporter().load(checkpoint(tmp_path / "a.pt", *YOLO))
    assert "models.yolo.Model" in refused.value.message and "--trust" in (refused.value.hint or "")
    with pytest.raises(Unsupported) as worse:
        UltralyticsImporter().load(checkpoint(tmp_path / "b.pt", *YOLO, "posix.system", "torch.hub.load"))
    assert "also names posix.system, torch.hub.load" in worse.value.message
    assert "do not open it" in (worse.value.hint or "")


def test_a_pickle_that_calls_the_system_is_called_what_it_is(tmp_path: Path) -> None:
    for name in ("posix.system", "subprocess.Popen", "builtins.exec"):
        path = checkpoint(tmp_path / "a.pt", "torch._utils._rebuild_tensor_v2", name)
        importer = find_importer(path)
        with pytest.raises(Unsupported, match=f"pickled object of {name}") as refused:
            importer.load(path, example=None)
        assert "do not open it" in (refused.value.hint or "")


def test_without_the_framework_nobody_is_surprised_by_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr(environments, "lacks", lambda wanted: ["ultralytics >= 8.3"])
    path = checkpoint(tmp_path / "a.pt", *YOLO)
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    for ask in (None, no):
        importer = UltralyticsImporter()
        importer.permit(Permission(trust=True, ask=ask))
        with pytest.raises(Unsupported, match="which the current environment has not") as refused:
            importer.load(path)
        assert "--isolate" in (refused.value.hint or "") and "GB" in (refused.value.hint or "")
    assert len(asked) == 1 and "AGPL" in asked[0]
    assert environments.listed() == []


SAVE = """
import sys
from ultralytics import YOLO
model = YOLO(sys.argv[1])
model.model.names = {index: f"thing {index}" for index in range(80)}
model.save(sys.argv[2])
"""


@pytest.fixture
def python(ultralytics_python: Path) -> Path:
    return ultralytics_python


@pytest.fixture
def made(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as Ultralytics itself saves it, of random weights."""
    folder = tmp_path_factory.getbasetemp() / "yolo-weights"
    if (folder / "made.pt").is_file():
        return folder / "made.pt"
    folder.mkdir()
    environment = {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(folder), "PATH": "/usr/bin:/bin"}
    command = [python, "-I", "-c", SAVE, "yolov8n.yaml", str(folder / "made.pt")]
    subprocess.run(command, check=True, env=environment, cwd=folder, timeout=120, capture_output=True)
    return folder / "made.pt"


@pytest.mark.frameworks
def test_a_checkpoint_of_ultralytics_is_packed(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "repo"
    arguments = ["pack", str(made), "--out", str(out), "--trust", "--isolate"]
    assert run(arguments) == 0
    bundle = Bundle.open(out / "made" / "1")
    manifest = bundle.manifest
    assert manifest.lineage.source is not None and manifest.lineage.source.format == "ultralytics"
    assert manifest.golden is not None and "ultralytics" in manifest.golden.source
    assert manifest.graphs.net.batch
    assert manifest.graphs.net.signature.outputs[0].shape[1:] == (84, 8400)
    assert b"thing 79" in bundle.read("labels.txt")


@pytest.mark.frameworks
def test_the_export_carries_what_ultralytics_writes_into_its_own(made: Path, python: Path) -> None:
    importer = UltralyticsImporter()
    importer.permit(Permission(trust=True))
    graph = importer.graph(made)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata["task"] == "detect" and metadata["stride"] == "32" and metadata["imgsz"] == "[640, 640]"
    assert metadata["names"].startswith("{0: 'thing 0'") and metadata["author"] == "Ultralytics"


@pytest.mark.frameworks
def test_yolov5_as_it_was_saved_in_2022_answers_as_its_onnx(python: Path, shared_data: Path) -> None:
    folder = shared_data / "yolov5n"
    if not (folder / "yolov5n.pt").is_file():
        pytest.skip(f"no {folder / 'yolov5n.pt'}")
    importer = UltralyticsImporter()
    importer.permit(Permission(trust=True))
    imported = importer.load(folder / "yolov5n.pt")
    assert imported.batch and imported.format == "yolov5" and len(imported.labels) == 80
    assert "no network" in " ".join(imported.notes)
    pictures = np.random.default_rng(0).random((1, 3, 640, 640), dtype=np.float32)
    from modelport.runtimes.onnxruntime import OnnxRuntime

    session = OnnxRuntime().open(onnx.load(folder / "yolov5n.onnx").SerializeToString())
    want = session.run({"images": pictures})["output0"]
    session.close()
    got = imported.reference({"images": pictures})["output0"]
    assert np.abs(got[..., :4] - want[..., :4]).max() < 0.01
    assert np.abs(got[..., 4:] - want[..., 4:]).max() < 1e-5


@pytest.mark.frameworks
def test_what_no_checkpoint_names_is_not_called_even_with_trust(python: Path, tmp_path: Path) -> None:
    worker = start(python, "ultralytics_checkpoint", Limits(), private=True)
    for name in ("posix.system", "torch.hub.load", "builtins.eval", "models.yolo.Nothing"):
        path = checkpoint(tmp_path / "a.pt", "models.yolo.Model", name)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            worker.call({"do": "open", "path": str(path)})
    worker.close()


@pytest.mark.frameworks
def test_a_damaged_checkpoint_has_a_reason_of_one_line(made: Path, tmp_path: Path, python: Path) -> None:
    data = made.read_bytes()
    with zipfile.ZipFile(made) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    short = tmp_path / "short.pt"
    with zipfile.ZipFile(short, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    importer = UltralyticsImporter()
    importer.permit(Permission(trust=True))
    with pytest.raises(InputError) as refused:
        importer.load(short)
    assert "\n" not in refused.value.message
    cut = tmp_path / "cut.pt"
    cut.write_bytes(data[: len(data) // 2])
    assert not UltralyticsImporter().recognises(cut)


@pytest.mark.frameworks
def test_memory_and_time_are_bounded(python: Path, made: Path) -> None:
    worker = start(python, "ultralytics_checkpoint", Limits(memory_bytes=150 << 20), private=True)
    with pytest.raises((Unsupported, ModelFailed)):
        worker.call({"do": "open", "path": str(made)})
    worker.close()
    worker = start(python, "ultralytics_checkpoint", Limits(seconds=0.5), private=True)
    with pytest.raises(Unsupported, match=r"longer than 0\.5 seconds"):
        worker.call({"do": "open", "path": str(made)})
    worker.close()


def test_a_process_without_the_framework_says_what_is_missing(tmp_path: Path) -> None:
    import sys

    worker = start(Path(sys.executable), "ultralytics_checkpoint", Limits(), private=True)
    path = checkpoint(tmp_path / "a.pt", *YOLO)
    with pytest.raises(Unsupported, match="environment is not complete"):
        worker.call({"do": "open", "path": str(path)})
    worker.close()


def test_doctor_names_the_importer(capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "--json"])
    assert "ultralytics" in json.loads(capsys.readouterr().out)["importers"]
