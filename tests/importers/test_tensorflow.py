"""SavedModels and frozen graphs: signatures and ends are chosen, and the answers are TensorFlow's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from modelport.errors import InputError, Unsupported, UsageError
from modelport.importers.graphdef import FrozenGraphImporter, is_graph
from modelport.importers.pack import pack
from modelport.importers.savedmodel import SavedModelImporter
from modelport.importers.source import Imported, SourceOptions, find_importer, parse_input
from modelport.runtimes.onnxruntime import OnnxRuntime

from .tensorflow_models import made

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory)


def loaded(path: Path, *inputs: str, signature: str = "") -> Imported:
    importer = find_importer(path, options=SourceOptions(signature=signature))
    return importer.load(path, example=None, inputs=[parse_input(text) for text in inputs])


def check_same(imported: Imported, rows: int = 3) -> None:
    random = np.random.default_rng(5)
    feeds = {
        spec.name: random.random((rows, *spec.shape[1:])).astype(np.float32)
        for spec in imported.signature.inputs
    }
    got, want = OnnxRuntime().open(imported.onnx).run(feeds), imported.reference(feeds)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)


def test_a_saved_model(models: Path) -> None:
    imported = loaded(models / "saved" / "saved_model.pb")
    assert (imported.format, imported.batch) == ("savedmodel", True)
    assert imported.framework.startswith("tensorflow 2.")
    assert imported.signature.inputs[0].shape == ("batch", 16, 16, 3)
    assert any("'serving_default' of a SavedModel of TensorFlow 2" in note for note in imported.notes)
    check_same(imported)


def test_a_saved_model_of_tensorflow_1(models: Path) -> None:
    imported = loaded(models / "version_1")
    assert [spec.name for spec in (*imported.signature.inputs, *imported.signature.outputs)] == ["x", "y"]
    assert any("of a SavedModel of TensorFlow 1" in note for note in imported.notes)
    check_same(imported)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scaled", "makes -1 to 1 of pixels from 0 to 255"),
        ("bytes", "takes whole pixels (uint8)"),
        ("saved", ""),
    ],
)
def test_pixels_are_taken_as_they_are_where_the_signature_says_so(
    models: Path, tmp_path: Path, name: str, why: str
) -> None:
    told: list[str] = []
    if not why:
        with pytest.raises(UsageError, match="how it is prepared decides the answers"):
            pack(models / name, out=tmp_path)
        return
    bundle = pack(models / name, out=tmp_path, progress=told.append)
    assert any(why in note for note in told), told
    before = [next(iter(step)) for step in bundle.manifest.steps.pre]
    assert before == ["resize", *(["cast"] if name == "scaled" else []), "layout"]
    # The network ends in a softmax, whatever the type of its pixels.
    assert [next(iter(step)) for step in bundle.manifest.steps.post] == ["top_k"]


def test_several_signatures_are_a_question(models: Path) -> None:
    with pytest.raises(UsageError, match=r"which signature is meant: one .*; two ") as question:
        loaded(models / "several")
    assert question.value.hint == "--signature one"
    imported = loaded(models / "several", signature="two")
    assert [spec.name for spec in imported.signature.outputs] == ["doubled"]
    check_same(imported)
    with pytest.raises(UsageError, match="no signature 'three'; it has one, text, two"):
        loaded(models / "several", signature="three")


def test_signatures_that_parse_text(models: Path) -> None:
    imported = loaded(models / "beside_text")
    assert any("'tensors' is taken: serving_default take text" in note for note in imported.notes)
    with pytest.raises(Unsupported, match=r"takes text \(examples\), such as serialized tf.Example"):
        loaded(models / "text_only")


def test_what_saved_models_lack(models: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has no signature"):
        loaded(models / "no_signature")
    shutil.copytree(models / "saved", tmp_path / "net")
    shutil.rmtree(tmp_path / "net" / "variables")
    with pytest.raises(InputError, match="does not load the SavedModel"):
        loaded(tmp_path / "net")
    (tmp_path / "net" / "saved_model.pb").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="is no SavedModel: it begins with b'version '") as refusal:
        loaded(tmp_path / "net")
    assert "Git LFS" in (refusal.value.hint or "")


def test_versions_as_tensorflow_serving_has_them(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "version_1", tmp_path / "net" / "7")
    check_same(loaded(tmp_path / "net"))
    shutil.copytree(models / "version_1", tmp_path / "net" / "12")
    with pytest.raises(UsageError, match="holds the versions 7, 12; which one") as question:
        loaded(tmp_path / "net")
    assert question.value.hint == f"give {tmp_path / 'net' / '12'}"


def test_a_frozen_graph(models: Path) -> None:
    imported = loaded(models / "frozen.pb")
    assert (imported.format, imported.batch) == ("graphdef", True)
    assert [spec.name for spec in imported.signature.inputs] == ["picture"]
    check_same(imported)


def test_the_ends_of_a_graph_are_a_question(models: Path) -> None:
    with pytest.raises(UsageError, match=r"probabilities \(Softmax\), label \(ArgMax\)") as question:
        loaded(models / "ends.pb")
    assert question.value.hint == "--signature label (several with commas between them)"
    imported = loaded(models / "ends.pb", signature="probabilities,label")
    assert [spec.name for spec in imported.signature.outputs] == ["probabilities", "label"]
    assert any("the switch 'is_training' is off" in note for note in imported.notes)
    check_same(imported)
    with pytest.raises(UsageError, match="no placeholder 'z'; it has x"):
        loaded(models / "ends.pb", "z:float32[batch,8]")


def test_graphs_that_are_not_whole(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not frozen: it has 1 variables"):
        loaded(models / "variables.pb")
    cut = tmp_path / "cut.pb"
    cut.write_bytes((models / "frozen.pb").read_bytes()[:-700])
    with pytest.raises(InputError, match="damaged graph"):
        loaded(cut)
    assert not is_graph(b"\x0a\x05hello")
    assert not FrozenGraphImporter().recognises(tmp_path)
    assert not SavedModelImporter().recognises(tmp_path)


@pytest.mark.parametrize(
    ("name", "signature", "want"),
    [
        ("saved_model_half_plus_three", "", 4.0),
        ("saved_model_half_plus_two_tf2_cpu/00000123", "", 3.0),
    ],
)
def test_the_models_of_tensorflow_serving(shared_data: Path, name: str, signature: str, want: float) -> None:
    imported = loaded(shared_data / "savedmodel" / name, signature=signature)
    assert imported.batch
    spec = imported.signature.inputs[0]
    feeds = {spec.name: np.full((2, *spec.shape[1:]), 2, np.float32)}
    for run in (OnnxRuntime().open(imported.onnx).run, imported.reference):
        (output,) = run(feeds).values()
        assert output.ravel().tolist() == [want, want]
