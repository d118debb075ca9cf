"""What is given as a model and is none: named by its content, in one line, with what to do instead."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import msgspec

from ..errors import InputError, ModelportError, NotFound, Unsupported
from .protobuf import outer_fields

HEAD = 4096
SHOWN = 4
READS = (
    "expected ONNX, TorchScript or a checkpoint of Ultralytics or YOLOv5 (.pt), torch.export (.pt2), Keras "
    "(.keras, .h5), TensorFlow, TensorFlow Lite, PaddlePaddle, MXNet, Caffe, Darknet, scikit-learn or a "
    "Hugging Face folder: docs/how-to/import.md"
)
AGAIN = "copy or download it again, and compare its size"
MODELS = (
    *(".onnx", ".pt", ".pth", ".pt2", ".ptl", ".keras", ".h5", ".hdf5", ".pb", ".tflite", ".pdmodel"),
    *(".caffemodel", ".params", ".skops", ".joblib", ".pkl", ".safetensors", ".weights", ".ubj", ".cbm"),
)
_PICTURES = {b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture"}
_DOCUMENTS = {b"%PDF": "a PDF document", b"MZ": "a Windows program", b"\x7fELF": "a Linux program"}
_ARRAYS = {b"\x93NUMPY": "an array of NumPy", b"PAR1": "a Parquet table"}
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
}
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Foreign(msgspec.Struct, frozen=True):
    """A kind of file that others read."""

    what: str
    instead: str


GGUF = Foreign(
    "a GGUF file of llama.cpp, which holds a language model",
    "llama.cpp serves it; classifiers are packed from their Hugging Face folder",
)
TENSORRT = Foreign(
    "an engine of TensorRT, which is made for one GPU and cannot be read back",
    "give the ONNX file that the engine was built from",
)
COREML = Foreign(
    "a Core ML model, which only Apple's systems run",
    "give the model that it was converted from (PyTorch, TensorFlow, scikit-learn)",
)
OPENVINO = Foreign("an OpenVINO IR", "give the model that it was converted from, or its ONNX file")
NCNN = Foreign("a network of ncnn", "give the model that it was converted from, or its ONNX file")


def refuse_early(path: Path) -> None:
    """Refuse what no importer should look at.

    Raises:
        InputError: a pipe or a device, an empty file, a pointer of Git LFS, an archive with a password or
            without its end.
    """
    if path.is_dir() or not path.exists():
        return  # FILE.py:NAME is no path, and what is not there is refused by its reader
    if not path.is_file():
        # To open a pipe is to wait for whoever writes into it.
        raise InputError(
            f"{path} is a pipe, a socket or a device, and not a file",
            hint="a model is read more than once: write it into a file, and give that",
        )
    head = _head(path)
    if not head:
        raise InputError(f"{path} is empty (0 bytes)", hint=AGAIN)
    if head.startswith(LFS_POINTER):
        size = re.search(rb"^size (\d+)", head, re.MULTILINE)
        real = f"; the file itself has {int(size[1])} bytes" if size else ""
        raise InputError(f"{path} is a pointer of Git LFS and not the model{real}", hint="run: git lfs pull")
    if head.startswith(b"PK\x03\x04"):
        _refuse_archive(path)


def absent(said: str, path: Path) -> NotFound:
    """What is said of a source that is not there; `said` is how it was given."""
    if re.match(r"[a-z][a-z0-9+]+://", said, re.IGNORECASE):
        return NotFound(
            f"{said} is an address, and nothing is downloaded", hint="download it, and give the file"
        )
    return NotFound(f"no such file: {path}")


def refusal(path: Path) -> ModelportError:
    """Why nothing reads `path`, a file or a folder that is there."""
    if path.is_dir():
        return _folder(path)
    head = _head(path)
    for look in (_foreign, _archive, _cut_short):
        if (found := look(path, head)) is not None:
            return found
    hint = READS
    if path.suffix == ".py":
        hint = f"a Python function is packed by its name: {path}:FUNCTION --trust"
    return InputError(f"{path} is {_what(path, head)}", hint=hint)


def _refuse_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            locked = [entry.filename for entry in archive.infolist() if entry.flag_bits & 1]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as problem:
        raise InputError(
            f"{path} is a zip archive (as .pt and .keras files are) that is cut short or damaged: {problem}",
            hint=AGAIN,
        ) from problem
    if locked:
        raise InputError(
            f"{path} is a zip archive with a password ({_some(locked)})",
            hint="unpack it with the password, and give the model itself",
        )


def _foreign(path: Path, head: bytes) -> ModelportError | None:
    found = None
    if head.startswith(b"GGUF"):
        found = GGUF
    elif head[:4] in (b"ptrt", b"ftrt"):
        found = TENSORRT
    elif head.startswith(b"7767517\n"):
        found = NCNN
    elif re.match(rb"\s*(<\?xml[^>]*>)?\s*<net name=", head):
        found = OPENVINO
    elif head[:1] == b"\x08" and _is_coreml(path):
        found = COREML
    return None if found is None else Unsupported(f"{path} is {found.what}", hint=found.instead)


def _is_coreml(path: Path) -> bool:
    """specificationVersion, description, and one of the kinds of model, which count from 200."""
    fields, whole = outer_fields(path, highest=4000)
    return whole and {1, 2} <= fields and any(field >= 200 for field in fields)


def _archive(path: Path, head: bytes) -> ModelportError | None:
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        models = [name for name in names if name.lower().endswith(MODELS)]
        if models:
            return InputError(
                f"{path} is a zip archive with {_some(models)} in it",
                hint="unpack it, and give the model itself",
            )
        inside = f"a zip archive of {_some(names)}" if names else "an empty zip archive"
        return InputError(f"{path} is {inside}: no model that Modelport reads", hint=READS)
    kind = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        kind = "tar"
    if kind is None:
        return None
    return InputError(f"{path} is an archive ({kind})", hint="unpack it, and give the model itself")


def _cut_short(path: Path, head: bytes) -> ModelportError | None:
    """A file that begins as ONNX does: its version, its producer or its graph, and then ends too soon."""
    if head[:1] != b"\x08":
        return None
    fields, whole = outer_fields(path)
    if whole or not {1, 7} <= fields:
        return None
    return InputError(
        f"{path} begins as an ONNX file and is cut short at {path.stat().st_size} bytes", hint=AGAIN
    )


def _what(path: Path, head: bytes) -> str:
    """The content in a few words, as the end of a sentence."""
    for known in (_PICTURES, _DOCUMENTS, _ARRAYS):
        for magic, what in known.items():
            if head.startswith(magic):
                return f"{what}: no model that Modelport reads"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        title = re.search(rb"<title>\s*(.{1,80}?)\s*</title>", head, re.IGNORECASE | re.DOTALL)
        said = f" ({' '.join(title[1].decode(errors='replace').split())!r})" if title else ""
        return f"a web page{said}, what a download that failed leaves: no model that Modelport reads"
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = ""
    if text and all(letter.isprintable() or letter in "\r\n\t" for letter in text):
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        return f"text ({line[:40]!r}…): no model that Modelport reads"
    return f"no model that Modelport reads ({path.stat().st_size} bytes of another kind, or cut short)"


def _folder(path: Path) -> ModelportError:
    names = sorted(entry.name for entry in path.iterdir())
    if path.suffix == ".mlpackage" or {"Manifest.json", "Data"} <= set(names):
        return Unsupported(f"{path} is {COREML.what}", hint=COREML.instead)
    models = [name for name in names if name.lower().endswith(MODELS)]
    if models:
        return InputError(
            f"{path} is a folder that is no model as a whole; it holds {_some(models)}",
            hint=f"give the file itself: {path / models[0]}",
        )
    holds = f"it holds {_some(names)}" if names else "it is empty"
    return InputError(f"{path} is a folder without a model that Modelport reads: {holds}", hint=READS)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(HEAD)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
