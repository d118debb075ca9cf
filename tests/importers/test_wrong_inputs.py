"""What people give as a model by mistake: one line says what it is, and the exit code whose fault it is."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest
from onnx import helper
from PIL import Image

from modelport.errors import InputError, ModelportError, NotFound, Unsupported
from modelport.importers.pack import pack

from .networks import convnet

ROOT = Path(__file__).parents[2]


class Wrong(NamedTuple):
    """One row: how the file is made, and what has to be said of it."""

    name: str
    make: Callable[[Path], object]
    error: type[ModelportError]
    says: str
    advises: str


def text(path: Path) -> object:
    return path.write_text("Epoch 1: loss 0.31\nEpoch 2: loss 0.29\n")


def picture(path: Path) -> object:
    return Image.new("RGB", (8, 8)).save(path, "PNG")


def web_page(path: Path) -> object:
    return path.write_text("<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>")


def cut_onnx(path: Path) -> object:
    return path.write_bytes(convnet().SerializeToString()[:-100])


def cut_zip(path: Path) -> object:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", bytes(4000))
    return path.write_bytes(path.read_bytes()[:2000])


def cut_hdf5(path: Path) -> object:
    """The superblock of a real file says how long it is; behind 200 bytes nothing of it is there."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file["weights"] = [0.0] * 1000
    return path.write_bytes(path.read_bytes()[:200])


def password_zip(path: Path) -> object:
    """The flag of encryption at both places where an entry has it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"secret")
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return path.write_bytes(data)


def pointer(path: Path) -> object:
    return path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 102530333\n"
    )


def custom_operator(path: Path) -> object:
    model = convnet()
    model.graph.node[0].domain, model.graph.node[0].name = "mmdeploy", "backbone/stem"
    model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
    return path.write_bytes(model.SerializeToString())


class Harmful:
    """Pickled as a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("echo this must never be printed",)


def harmful_pickle(path: Path) -> object:
    return path.write_bytes(pickle.dumps({"model": Harmful()}))


def plain_pickle(path: Path) -> object:
    return path.write_bytes(pickle.dumps({"accuracy": 0.93, "classes": ["cat", "dog"]}))


def other_pickle(path: Path) -> object:
    return path.write_bytes(pickle.dumps(Fraction(1, 3)))


def empty(path: Path) -> object:
    return path.write_bytes(b"")


def folder(path: Path) -> object:
    path.mkdir()
    return (path / "notes.txt").write_text("nothing here")


def pipe(path: Path) -> object:
    return os.mkfifo(path)


def damaged_onnx(path: Path) -> object:
    """Whole by its outer fields; the graph within is noise."""
    return path.write_bytes(b"\x08\x08\x3a\x40" + b"\xff" * 64 + b"\x42\x04\x0a\x00\x10\x11")


def unsorted_onnx(path: Path) -> object:
    model = convnet()
    model.graph.node[0].input[0] = "nowhere"
    return path.write_bytes(model.SerializeToString())


def weights_alone(path: Path) -> object:
    header = json.dumps({"encoder.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def gguf(path: Path) -> object:
    return path.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))


def tensorrt(path: Path) -> object:
    return path.write_bytes(b"ptrt\x00\x00\x00\x00" + bytes(64))


def core_ml(path: Path) -> object:
    """specificationVersion 5, a description, and a neural network (field 500)."""
    return path.write_bytes(b"\x08\x05\x12\x02\x0a\x00\xa2\x1f\x02\x0a\x00")


def zip_of_a_model(path: Path) -> object:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("export/model.onnx", convnet().SerializeToString())
    return path


def tar_of_a_model(path: Path) -> object:
    data = convnet().SerializeToString()
    entry = tarfile.TarInfo("model.onnx")
    entry.size = len(data)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(entry, io.BytesIO(data))
    return path


AGAIN, UNPACK = "download it again", "unpack it"
ROWS = [
    Wrong("train.log", text, InputError, "is text ('Epoch 1: loss 0.31'", "expected ONNX"),
    Wrong("model.png", picture, InputError, "is a PNG picture", "expected ONNX"),
    Wrong("model.onnx", web_page, InputError, "is a web page ('404 Not Found')", "expected ONNX"),
    Wrong("cut.onnx", cut_onnx, InputError, "begins as an ONNX file and is cut short at", AGAIN),
    Wrong("cut.pt", cut_zip, InputError, "cut short or damaged", AGAIN),
    Wrong("cut.h5", cut_hdf5, InputError, "cut.h5", ""),
    Wrong("locked.keras", password_zip, InputError, "a zip archive with a password", UNPACK),
    Wrong("pointer.onnx", pointer, InputError, "is a pointer of Git LFS and not the model", "git lfs pull"),
    Wrong(
        "custom.onnx",
        custom_operator,
        Unsupported,
        "'Conv' of the domain 'mmdeploy' (node backbone/stem)",
        "export the network without it",
    ),
    Wrong("harmful.pkl", harmful_pickle, Unsupported, "system", ""),
    Wrong("values.pkl", plain_pickle, InputError, "plain values: there is no model in it", "expected ONNX"),
    Wrong(
        "object.pkl", other_pickle, Unsupported, "a pickle of fractions.Fraction, and neither", "torch.save"
    ),
    Wrong("pipe.onnx", pipe, InputError, "is a pipe, a socket or a device", "write it into a file"),
    Wrong("damaged.onnx", damaged_onnx, InputError, "is a damaged ONNX file", AGAIN),
    Wrong("unsorted.onnx", unsorted_onnx, InputError, "not a valid ONNX model: ", "check_model"),
    Wrong("empty.onnx", empty, InputError, "is empty (0 bytes)", AGAIN),
    Wrong("folder", folder, InputError, "a folder without a model", "expected ONNX"),
    Wrong(
        "model.safetensors",
        weights_alone,
        Unsupported,
        "holds weights (a state_dict) and no network",
        "--class",
    ),
    Wrong("model.gguf", gguf, Unsupported, "a GGUF file of llama.cpp", "llama.cpp serves it"),
    Wrong("model.engine", tensorrt, Unsupported, "an engine of TensorRT", "the ONNX file"),
    Wrong("model.mlmodel", core_ml, Unsupported, "a Core ML model", "converted from"),
    Wrong("model.zip", zip_of_a_model, InputError, "zip archive with export/model.onnx in it", UNPACK),
    Wrong("model.tar.gz", tar_of_a_model, InputError, "is an archive (gzip)", UNPACK),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_wrong_input_is_named_in_one_line(
    row: Wrong, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / row.name
    row.make(path)
    with pytest.raises(row.error) as refusal:
        pack(path, out=tmp_path / "repo")
    assert row.says in refusal.value.message
    assert row.advises in (refusal.value.hint or "")
    assert refusal.value.exit_code == (4 if row.error is Unsupported else 3)
    assert len(refusal.value.message.splitlines()) == 1
    assert len(refusal.value.message) < 500 + len(str(path))
    assert not (tmp_path / "repo").exists()
    assert "never be printed" not in capfd.readouterr().out


def test_an_address_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"https://example\.org/net\.onnx is an address") as refusal:
        pack("https://example.org/net.onnx", out=tmp_path / "repo")
    assert refusal.value.hint == "download it, and give the file"


def test_a_wrong_pair_of_files(tmp_path: Path) -> None:
    """Weights of one network beside another's symbol are refused before a framework sees them."""
    symbol = {"nodes": [{"op": "null", "name": "data", "inputs": []}], "arg_nodes": [0], "heads": [[0, 0, 0]]}
    (tmp_path / "net-symbol.json").write_text(json.dumps(symbol))
    picture(tmp_path / "net-0000.params")
    with pytest.raises(InputError) as refusal:
        pack(tmp_path / "net-symbol.json", out=tmp_path / "repo")
    assert "net-0000.params" in refusal.value.message
    assert len(refusal.value.message.splitlines()) == 1


@pytest.mark.parametrize(("name", "code"), [("pointer.onnx", 3), ("model.gguf", 4)])
def test_the_command_ends_with_the_line_and_the_code(name: str, code: int, tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.name == name)
    row.make(tmp_path / name)
    command = [sys.executable, "-m", "modelport", "pack", name, "-o", "repo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    lines = done.stderr.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert row.says in lines[0]


def test_the_page_tells_of_every_one() -> None:
    page = (ROOT / "docs/reference/refused.md").read_text()
    for row in ROWS:
        assert f"`{row.name}`" in page, row.name
