"""TensorFlow Lite: quantised networks to the last whole number, and what the metadata says."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.errors import InputError, Unsupported
from modelport.importers.choose import choose_recipe
from modelport.importers.pack import pack
from modelport.importers.source import Imported, find_importer
from modelport.importers.tflite import TFLiteImporter
from modelport.isolation.child.tflite_metadata import metadata_of
from modelport.runtimes.onnxruntime import OnnxRuntime

from .tensorflow_models import made

pytestmark = pytest.mark.frameworks
REAL = "mobilenet_v2_tflite/mobilenet_v2_1.0_224_quant.tflite"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory)


def loaded(path: Path) -> Imported:
    return find_importer(path).load(path, example=None)


def pictures(imported: Imported, rows: int) -> dict[str, np.ndarray]:
    (spec,) = imported.signature.inputs
    random = np.random.default_rng(3)
    if spec.dtype == "float32":
        return {spec.name: random.random((rows, *spec.shape[1:])).astype(np.float32)}
    limits = np.iinfo(spec.dtype)
    whole = random.integers(limits.min, limits.max + 1, (rows, *spec.shape[1:]))
    return {spec.name: whole.astype(spec.dtype)}


def test_floats(models: Path) -> None:
    imported = loaded(models / "float.tflite")
    assert (imported.format, imported.batch) == ("tflite", True)
    assert imported.framework.startswith("tensorflow lite ")
    feeds = pictures(imported, 5)
    got, want = OnnxRuntime().open(imported.onnx).run(feeds), imported.reference(feeds)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantised_networks_give_the_same_whole_numbers(models: Path, dtype: str) -> None:
    imported = loaded(models / f"{dtype}.tflite")
    assert imported.batch
    assert {spec.dtype for spec in (*imported.signature.inputs, *imported.signature.outputs)} == {dtype}
    assert any("computed in whole numbers" in note for note in imported.notes)
    feeds = pictures(imported, 200)
    got, want = OnnxRuntime().open(imported.onnx).run(feeds), imported.reference(feeds)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_weights_of_8_bits_alone_are_packed_with_a_word_on_what_is_rounded(
    models: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    bundle = pack(models / "dynamic.tflite", out=tmp_path, recipe="raw", progress=notes.append)
    assert any("FULLY_CONNECTED have weights of 8 bits and take floats" in note for note in notes)
    golden = bundle.manifest.golden
    assert golden is not None and golden.net.relative == 1e-2


def test_pixels_are_the_numbers_of_an_unsigned_input(models: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    bundle = pack(models / "uint8.tflite", out=tmp_path, progress=notes.append)
    assert any("pixels 0 to 255 are its numbers and stand for 0 to 1" in note for note in notes)
    assert [next(iter(step)) for step in bundle.manifest.steps.pre] == ["resize", "layout"]
    assert [next(iter(step)) for step in bundle.manifest.steps.post] == ["dequantize", "top_k"]


def test_metadata_becomes_a_recipe(models: Path, tmp_path: Path) -> None:
    labels = ["ash", "birch", "cedar", "fir"]
    path = with_metadata(models / "int8.tflite", tmp_path / "trees.tflite", 127.5, 127.5, labels)
    importer = find_importer(path)
    recipe, _ = choose_recipe(None, importer, path, (), lambda note: None)
    names = [next(iter(step)) for step in recipe.pre]
    assert names == ["resize", "normalize", "quantize", "layout"]
    assert recipe.pre[1] == {"normalize": {"mean": 127.5, "std": 127.5}}
    assert importer.load(path, example=None).labels == tuple(labels)
    bundle = pack(path, out=tmp_path / "repo")
    assert bundle.labels() == tuple(labels)
    floats = with_metadata(models / "float.tflite", tmp_path / "floats.tflite", 0.0, 255.0, [])
    recipe, _ = choose_recipe(None, find_importer(floats), floats, (), lambda note: None)
    assert [next(iter(step)) for step in recipe.pre] == ["resize", "normalize", "layout"]


def test_metadata_that_cannot_be_read_says_nothing(models: Path, tmp_path: Path) -> None:
    path = with_metadata(models / "float.tflite", tmp_path / "net.tflite", 1.0, 2.0, ["a", "b", "c", "d"])
    whole = path.read_bytes()
    assert metadata_of(whole).mean == (1.0,)
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 20):
            damaged[place] = random.integers(0, 256)
        metadata_of(bytes(damaged))
        metadata_of(bytes(damaged[: random.integers(0, len(whole))]))


def test_models_that_are_not_read(models: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"operator of its own: Select TensorFlow op"):
        loaded(models / "select.tflite")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes((models / "float.tflite").read_bytes()[:1000])
    assert TFLiteImporter().recognises(cut)
    with pytest.raises(InputError, match=r"does not read cut.tflite"):
        loaded(cut)


def test_mobilenet(shared_data: Path) -> None:
    imported = loaded(shared_data / REAL)
    assert imported.batch
    assert len(imported.labels) == 1001
    feeds = pictures(imported, 4)
    got, want = OnnxRuntime().open(imported.onnx).run(feeds), imported.reference(feeds)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def tflite_schema() -> Any:
    """TensorFlow's module of this name, without the seconds that TensorFlow itself takes to import."""
    tensorflow = importlib.util.find_spec("tensorflow")
    assert tensorflow is not None and tensorflow.origin is not None
    path = Path(tensorflow.origin).parent / "lite" / "python" / "schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("schema_py_generated", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_metadata(source: Path, target: Path, mean: float, std: float, labels: list[str]) -> Path:
    """The model with metadata as TensorFlow Lite's own writer adds it."""
    import flatbuffers

    schema = tflite_schema()

    def table(builder: flatbuffers.Builder, fields: int, **offsets: int) -> int:
        builder.StartObject(fields)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(int(slot[1:]), offset, 0)
        return int(builder.EndObject())

    def vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def union(builder: flatbuffers.Builder, fields: int, kind: int, value: int) -> int:
        builder.StartObject(fields)
        builder.PrependByteSlot(0, kind, 0)
        builder.PrependUOffsetTRelativeSlot(1, value, 0)
        return int(builder.EndObject())

    inner = flatbuffers.Builder(0)
    means, stds = (inner.CreateNumpyVector(np.array([x], np.float32)) for x in (mean, std))
    unit = union(inner, 2, 1, table(inner, 2, f0=means, f1=stds))
    inner.StartObject(2)
    inner.PrependByteSlot(0, 1, 0)
    content = union(inner, 3, 2, int(inner.EndObject()))
    taken = table(inner, 7, f3=content, f4=vector(inner, [unit]))
    name = inner.CreateString("labels.txt")
    inner.StartObject(5)
    inner.PrependUOffsetTRelativeSlot(0, name, 0)
    inner.PrependByteSlot(2, 2, 0)
    named = int(inner.EndObject())
    given = table(inner, 7, f6=vector(inner, [named] if labels else []))
    graph = table(inner, 10, f2=vector(inner, [taken]), f3=vector(inner, [given]))
    inner.Finish(table(inner, 8, f3=vector(inner, [graph])), b"M001")

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(source.read_bytes(), 0))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(inner.Output()), np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    outer = flatbuffers.Builder(0)
    outer.Finish(model.Pack(outer), b"TFL3")
    archive = io.BytesIO()
    archive.write(bytes(outer.Output()))
    with zipfile.ZipFile(archive, "a") as files:
        files.writestr("labels.txt", "\n".join(labels))
    target.write_bytes(archive.getvalue())
    return target
