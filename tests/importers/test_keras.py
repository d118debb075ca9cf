"""Keras models and files of both generations; layers that hold code are refused unopened."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.errors import InputError, Unsupported, UsageError
from modelport.importers.keras import KerasImporter
from modelport.importers.pack import pack
from modelport.importers.source import Imported, Permission, find_importer, parse_input
from modelport.runtimes.onnxruntime import OnnxRuntime

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def keras() -> Any:
    pytest.importorskip("tensorflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras as module
    return module


def sequential(keras: Any) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    net = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 3)), *net, layers.Dense(3, activation="softmax")])


def functional(keras: Any) -> Any:
    keras.utils.set_random_seed(1)
    picture = keras.Input((8, 8, 3), name="picture")
    x = keras.layers.SeparableConv2D(6, 3)(picture)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(picture, keras.layers.Dense(4)(x))


def check_same(imported: Imported, rows: int) -> None:
    session = OnnxRuntime().open(imported.onnx)
    random = np.random.default_rng(9)
    feeds = {
        spec.name: random.normal(size=(rows, *spec.shape[1:])).astype(np.float32)
        for spec in imported.signature.inputs
    }
    got, want = session.run(feeds), imported.reference(feeds)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [sequential, functional])
def test_models_in_memory(keras: Any, build: Any, capfd: pytest.CaptureFixture[str]) -> None:
    net = build(keras)
    imported = find_importer(net).load(net, example=None)
    assert imported.batch
    assert imported.framework.startswith(f"keras {keras.__version__} on tensorflow ")
    assert imported.signature.inputs[0].name == ("input" if build is sequential else "picture")
    for rows in (1, 4):
        check_same(imported, rows)
    assert capfd.readouterr().out == ""


def test_a_model_that_was_never_called(keras: Any) -> None:
    net = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)])
    with pytest.raises(UsageError, match="never called"):
        KerasImporter().load(net)
    imported = KerasImporter().load(net, inputs=[parse_input("x:float32[batch,7]")])
    assert imported.signature.inputs[0].shape == ("batch", 7)
    check_same(imported, 3)


def test_several_inputs_and_outputs_by_name(keras: Any) -> None:
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    add, mul = keras.layers.Add()([a, b]), keras.layers.Multiply()([a, b])
    imported = KerasImporter().load(keras.Model({"b": b, "a": a}, {"sum": add, "product": mul}))
    assert {spec.name for spec in imported.signature.inputs} == {"a", "b"}
    assert {spec.name for spec in imported.signature.outputs} == {"sum", "product"}
    check_same(imported, 3)
    ones, twos = np.full((1, 5), 1, np.float32), np.full((1, 5), 3, np.float32)
    outputs = OnnxRuntime().open(imported.onnx).run({"a": ones, "b": twos})
    assert outputs["sum"].tolist() == [[4] * 5]
    assert outputs["product"].tolist() == [[3] * 5]


@pytest.mark.parametrize(("ending", "form"), [("keras", "keras"), ("h5", "h5")])
def test_files(keras: Any, tmp_path: Path, ending: str, form: str) -> None:
    path = saved(functional(keras), tmp_path / f"net.{ending}").rename(tmp_path / "net.model")
    before = path.read_bytes()
    imported = find_importer(path).load(path, example=None)
    assert imported.format == form
    assert imported.batch
    check_same(imported, 3)
    assert path.read_bytes() == before


def test_parameters_that_newer_keras_does_not_know(keras: Any, tmp_path: Path) -> None:
    import h5py

    picture = keras.Input((8, 8, 3))
    path = saved(keras.Model(picture, keras.layers.DepthwiseConv2D(3)(picture)), tmp_path / "net.h5")
    for groups in (1, 3):
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][1]["config"]["groups"] = groups
            file.attrs["model_config"] = json.dumps(config)
        if groups == 1:
            check_same(KerasImporter().load(path), 2)
        else:  # it would change the network: nothing to drop in silence
            with pytest.raises(InputError, match="groups"):
                KerasImporter().load(path)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_python_in_a_file_is_refused(keras: Any, tmp_path: Path, ending: str) -> None:
    net = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2, name="twice")])
    path = saved(net, tmp_path / f"net.{ending}")
    with pytest.raises(Unsupported, match="Lambda layer 'twice', which is Python code"):
        KerasImporter().load(path)
    check_same(KerasImporter().load(net), 2)  # in memory it is the caller's own code


def test_python_in_a_file_runs_in_the_other_process_only(keras: Any, tmp_path: Path) -> None:
    # The names that such code takes for granted are not in the file.
    twice = keras.layers.Lambda(lambda x: x * np.float32(2), name="twice")
    path = saved(keras.Sequential([keras.Input((4,)), twice]), tmp_path / "net.keras")
    importer = find_importer(path, Permission(trust=True))
    check_same(importer.load(path, example=None), 2)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_head_that_scales_pixels_declares_the_recipe(keras: Any, tmp_path: Path, ending: str) -> None:
    layers = keras.layers
    head = {
        "keras": [layers.RandomFlip(), layers.Rescaling(1 / 255)],
        "h5": [layers.Normalization(mean=[120, 118, 105], variance=[3600] * 3)],
    }[ending]
    tail = [layers.Conv2D(4, 3, 2), layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    path = saved(keras.Sequential([keras.Input((16, 16, 3)), *head, *tail]), tmp_path / f"net.{ending}")
    notes: list[str] = []
    bundle = pack(path, out=tmp_path / "repo", progress=notes.append)
    assert [next(iter(step)) for step in bundle.manifest.steps.pre] == ["resize", "cast", "layout"]
    assert any(f"the layer {type(head[-1]).__name__} at its head" in note for note in notes)


def test_a_head_that_does_something_else_declares_nothing(keras: Any, tmp_path: Path) -> None:
    tail = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    net = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(2.0), *tail])
    path = saved(net, tmp_path / "net.keras")
    assert KerasImporter().declared(path, ()) is None


def test_layers_of_ones_own_are_refused(keras: Any, tmp_path: Path) -> None:
    class Plus(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x + 1

    path = saved(keras.Sequential([keras.Input((4,)), Plus()]), tmp_path / "net.keras")
    with pytest.raises(Unsupported, match="a layer of its own: Plus"):
        KerasImporter().load(path)


def test_weights_alone_and_damage_are_refused(keras: Any, tmp_path: Path) -> None:
    weights = tmp_path / "net.weights.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequential(keras).save_weights(weights)
    with pytest.raises(Unsupported, match="weights and no network"):
        find_importer(weights).load(weights, example=None)
    whole = saved(sequential(keras), tmp_path / "net.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged HDF5"):
        find_importer(cut).load(cut, example=None)
    odd = tmp_path / "odd.keras"
    with zipfile.ZipFile(odd, "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
        archive.writestr("metadata.json", "{}")
    with pytest.raises(InputError, match="not JSON"):
        find_importer(odd).load(odd, example=None)


def saved(net: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.save(path)
    return path
