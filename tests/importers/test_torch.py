"""PyTorch modules and files: what is exported and proven, and that files are opened where they may be."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.errors import InputError, Unsupported, UsageError
from modelport.importers.source import Imported, Permission, find_importer, parse_input
from modelport.importers.torch import TorchImporter
from modelport.runtimes.onnxruntime import OnnxRuntime

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

TRUSTED = Permission(trust=True)
EXAMPLE = {"x": np.random.default_rng(3).normal(size=(2, 3, 16, 16)).astype(np.float32)}


def convnet() -> Any:
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            return self.net(x)

    built = Net()
    with torch.no_grad():
        for _ in range(3):
            built(torch.randn(4, 3, 16, 16))  # the batch norm's statistics are no longer 0 and 1
    return built.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.pt (TorchScript), any.pt2 and one.pt2 (programs of any batch and of one), module.pth."""
    folder = tmp_path_factory.mktemp("torch")
    net, x = convnet(), torch.zeros(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, x).save(str(folder / "net.pt"))
        any_batch = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        torch.export.save(any_batch, str(folder / "any.pt2"))
        torch.export.save(torch.export.export(net, (x[:1],)), str(folder / "one.pt2"))
        torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), folder / "module.pth")
    return folder


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


def test_a_module_in_training_mode(capfd: pytest.CaptureFixture[str]) -> None:
    net = convnet().train()
    net.net[3].eval()
    imported = find_importer(net).load(net, example=EXAMPLE)
    assert imported.batch
    assert imported.format == "nn.Module"
    assert imported.framework == f"torch {torch.__version__.split('+')[0]}"
    assert [str(spec) for spec in imported.signature.inputs] == ["float32[batch, 3, 16, 16]"]
    assert [str(spec) for spec in imported.signature.outputs] == ["float32[batch, 5]"]
    assert any("packed in evaluation mode" in note for note in imported.notes)
    check_same(imported, 5)
    assert net.training
    assert not net.net[3].training
    assert capfd.readouterr() == ("", "")


def test_the_picture_a_module_takes_is_told_by_its_first_convolution() -> None:
    signature = TorchImporter().signature(convnet(), ())
    assert signature is not None
    assert str(signature.inputs[0]) == "float32[batch, 3, height, width]"
    assert TorchImporter().signature(torch.nn.Linear(2, 2), ()) is None


def test_open_sizes_keep_the_names_that_were_given() -> None:
    imported = TorchImporter().load(convnet(), inputs=[parse_input("x:float32[batch,3,tall,wide]")])
    assert imported.signature.inputs[0].shape == ("batch", 3, "tall", "wide")


def test_nothing_says_what_it_takes() -> None:
    with pytest.raises(UsageError, match="nothing says what the network takes"):
        TorchImporter().load(convnet())


@pytest.mark.parametrize("name", ["net.pt", "any.pt2", "one.pt2"])
def test_files(files: Path, tmp_path: Path, name: str) -> None:
    renamed = tmp_path / "network.dat"
    renamed.write_bytes((files / name).read_bytes())
    importer = find_importer(renamed, TRUSTED if name == "net.pt" else None)
    imported = importer.load(renamed, example=EXAMPLE if name == "net.pt" else None)
    assert imported.batch
    assert imported.format == ("torchscript" if name == "net.pt" else "pt2")
    assert any("opened in a process of its own" in note for note in imported.notes)
    assert imported.cost is not None
    assert imported.cost.seconds > 0
    assert imported.cost.peak_bytes > 1 << 20
    for rows in (1, 4):
        check_same(imported, rows)


def test_several_outputs_have_their_names() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(4, 6, batch_first=True)

        def forward(self, words: Any, scale: Any) -> Any:
            steps, _ = self.lstm(words)
            return {"steps": steps, "last": steps[:, -1] * scale}

    inputs = [parse_input("words:float32[batch,7,4]"), parse_input("scale:float32[batch,1]")]
    imported = TorchImporter().load(Two(), inputs=inputs)
    assert imported.batch
    assert [spec.name for spec in imported.signature.inputs] == ["words", "scale"]
    assert [spec.name for spec in imported.signature.outputs] == ["steps", "last"]
    check_same(imported, 3)


def test_what_no_exporter_follows_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    class Numbers(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.eigvals(x).real

    with pytest.raises(Unsupported, match="torch cannot export"):
        TorchImporter().load(Numbers(), inputs=[parse_input("x:float32[batch,4,4]")])
    assert capfd.readouterr().out == ""


def test_torchscript_is_code_and_the_refusal_says_which(files: Path) -> None:
    with pytest.raises(Unsupported) as refusal:
        find_importer(files / "net.pt").load(files / "net.pt", example=EXAMPLE)
    assert "is TorchScript, which is code" in refusal.value.message
    assert "test_torch.py" in refusal.value.message
    assert "torch.batch_norm" in refusal.value.message
    assert "--trust" in (refusal.value.hint or "")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bomb_does_not_go_off(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "went-off"
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Bomb(mark), protocol=protocol))
    zipped = tmp_path / "zipped.pt"
    torch.save({"weights": Bomb(mark)}, zipped, pickle_protocol=protocol)
    for path in (plain, zipped):
        with pytest.raises(Unsupported, match=r"opening it would run code|a pickle of pathlib\.Path\.touch"):
            find_importer(path).load(path, example=None)
    if protocol == 4:
        with pytest.raises(InputError, match="the checkpoint names pathlib"):
            find_importer(zipped, TRUSTED).load(zipped, example=None)
    assert not mark.exists()


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"]
)
def test_a_bomb_in_an_exported_program_does_not_go_off(files: Path, tmp_path: Path, member: str) -> None:
    mark = tmp_path / "went-off"
    packed = io.BytesIO()
    torch.save((Bomb(mark),), packed)
    path = repacked(files / "any.pt2", tmp_path / "bomb.pt2", {member: packed.getvalue()})
    with pytest.raises((Unsupported, InputError)):
        find_importer(path, TRUSTED).load(path, example=None)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("data/constants/custom_obj_0", "a custom object"),
        ("data/constants/opaque_obj_0", "a pickled object"),
        ("data/aotinductor/model/a.so", "compiled code"),
    ],
)
def test_programs_with_objects_or_code_are_refused(
    files: Path, tmp_path: Path, member: str, said: str
) -> None:
    path = repacked(files / "any.pt2", tmp_path / "odd.pt2", {member: b"\x80\x02."})
    with pytest.raises(Unsupported, match=said):
        find_importer(path).load(path, example=None)


@pytest.mark.parametrize(("name", "member"), [("net.pt", "data.pkl"), ("any.pt2", "models/model.json")])
def test_damaged_files_are_refused(files: Path, tmp_path: Path, name: str, member: str) -> None:
    path = repacked(files / name, tmp_path / name, {member: b"{"})
    with pytest.raises(InputError, match=r"a damaged TorchScript|not a torch\.export"):
        find_importer(path, TRUSTED).load(path, example=EXAMPLE)


def repacked(source: Path, target: Path, changed: dict[str, bytes]) -> Path:
    """A copy of an archive with some members changed or added; names are those under its only folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        folder = old.namelist()[0].partition("/")[0]
        members = {name: old.read(name) for name in old.namelist()}
        members |= {f"{folder}/{name}": data for name, data in changed.items()}
        for name, data in members.items():
            new.writestr(name, data)
    return target
