"""PyTorch's files beside TorchScript and programs: weights with a class, pickled modules, mobile files."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.cli.main import run
from modelport.errors import InputError, ModelportError, NotFound, Unsupported, UsageError
from modelport.importers.source import Imported, Permission, SourceOptions, find_importer, parse_input
from modelport.importers.torch import TorchImporter
from modelport.importers.torch_program import code_in, harmless
from modelport.importers.torch_trust import script_contents
from modelport.runtimes.onnxruntime import OnnxRuntime

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

REAL = Path(__file__).parents[3] / "shared" / "data"
TRUSTED = Permission(trust=True)
EXAMPLE = {"x": np.random.default_rng(3).normal(size=(2, 6)).astype(np.float32)}
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=5):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.body(x))

class Settings(dict):
    def __init__(self):
        self.rate, self["depth"] = 0.1, 3

class Sized(nn.Module):
    def __init__(self, width, depth):
        super().__init__()

def wide():
    return Net(7)

def nothing():
    return 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """network.py with the class; state.pth, old.pth, training.pt and net.safetensors with its weights;
    whole.pt and plain.pt, modules; dynamic.pt, dynamic.ptl and flat.ptl, TorchScript."""
    place = tmp_path_factory.mktemp("weights")
    (place / "network.py").write_text(NET)
    sys.path.insert(0, str(place))
    try:
        import network  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(place))
    torch.manual_seed(4)
    net = network.Net().eval()
    state = net.state_dict()
    torch.save(state, place / "state.pth")
    torch.save(state, place / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "model": {f"module.{k}": v for k, v in state.items()}}, place / "training.pt")
    torch.save(net, place / "whole.pt")
    with_settings = {"state_dict": state, "settings": network.Settings(), "epoch": 3}
    torch.save(with_settings, place / "settings.ckpt")
    torch.save(torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.Tanh()), place / "plain.pt")
    write_safetensors(place / "net.safetensors", {k: v.numpy() for k, v in state.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}, dtype=torch.qint8)
        script = torch.jit.trace(quantised, torch.zeros(2, 6))
        script.save(str(place / "dynamic.pt"))
        script._save_for_lite_interpreter(str(place / "dynamic.ptl"))
        torch.jit.script(net)._save_for_lite_interpreter(str(place / "flat.ptl"), _use_flatbuffer=True)
    return place


def write_safetensors(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in arrays.items():
        place = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": place}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path: Path, builder: str = "", **arguments: Any) -> Imported:
    importer = find_importer(path, TRUSTED, SourceOptions(builder=builder))
    assert isinstance(importer, TorchImporter)
    return importer.load(path, **{"example": EXAMPLE, **arguments})


def check_same(imported: Imported, absolute: float = 1e-6) -> None:
    feeds = {"x": np.random.default_rng(8).normal(size=(4, 6)).astype(np.float32)}
    rows = feeds if imported.batch else {"x": feeds["x"][:1]}
    got, want = OnnxRuntime().open(imported.onnx).run(rows), imported.reference(rows)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=absolute)


@pytest.mark.parametrize("name", ["state.pth", "net.safetensors"])
def test_weights_with_the_class_that_they_are_for(folder: Path, name: str) -> None:
    imported = load(folder / name, f"{folder / 'network.py'}:Net")
    assert imported.format == "state_dict"
    assert imported.batch
    check_same(imported)


@pytest.mark.parametrize(
    ("name", "said"),
    [("old.pth", ""), ("training.pt", "'module.' before every name was left out")],
)
def test_weights_of_other_forms(folder: Path, name: str, said: str) -> None:
    importer = TorchImporter()
    importer.permit(TRUSTED)
    importer.choose(SourceOptions(builder=f"{folder / 'network.py'}:Net"))
    held = importer.hold(folder / name)
    assert (held.kind, held.names) == ("state_dict", ("x",))
    assert said in " ".join(held.notes)


def test_weights_beside_objects_of_classes_that_are_not_here(folder: Path, tmp_path: Path) -> None:
    """As trainers write them: what the class of the settings is, nobody needs to know."""
    (tmp_path / "other.py").write_text(NET.replace("Settings", "Renamed"))
    importer = find_importer(
        folder / "settings.ckpt", TRUSTED, SourceOptions(builder=f"{tmp_path}/other.py:Net")
    )
    assert isinstance(importer, TorchImporter)
    held = importer.hold(folder / "settings.ckpt")
    assert held.kind == "state_dict"
    assert any("those under 'state_dict'" in note for note in held.notes)


@pytest.mark.parametrize(("name", "builder"), [("whole.pt", "network.py:Net"), ("plain.pt", "")])
def test_a_pickled_module_with_its_class(folder: Path, name: str, builder: str) -> None:
    imported = load(folder / name, builder and f"{folder}/{builder}")
    assert imported.format == "nn.Module"
    assert [spec.shape for spec in imported.signature.inputs] == [("batch", 6)]
    check_same(imported)


@pytest.mark.parametrize(
    ("name", "builder", "error", "said"),
    [
        ("state.pth", "network.py:wide", InputError, "3 have another shape"),
        ("state.pth", "network.py:Sized", UsageError, "needs arguments: width, depth"),
        ("state.pth", "network.py:Other", UsageError, "has no 'Other'"),
        ("state.pth", "network.py:nothing", InputError, "gave no torch.nn.Module but int"),
        ("state.pth", "absent.py:Net", NotFound, "no such file"),
        ("whole.pt", "", InputError, "the class network.Net, and its code is not in the file"),
        ("whole.pt", "other.py:make", InputError, "other.py has none"),
        ("state.pth", "other.py:make", InputError, "1 are missing (alone.weight)"),
        ("state.pth", "broken.py:make", InputError, "NameError"),
    ],
)
def test_what_does_not_fit_is_told_by_name(
    folder: Path, name: str, builder: str, error: type[ModelportError], said: str
) -> None:
    (folder / "other.py").write_text(
        "import torch\n\ndef make():\n    held = torch.nn.Module()\n"
        "    held.alone = torch.nn.Linear(2, 2, bias=False)\n    return held\n"
    )
    (folder / "broken.py").write_text("import torch\nabsent\n")
    with pytest.raises(error) as refusal:
        load(folder / name, builder and f"{folder}/{builder}")
    assert said in refusal.value.message


@pytest.mark.parametrize(
    ("name", "builder", "said", "hint"),
    [
        ("state.pth", "", "holds weights (a state_dict) and no network", "--class FILE.py:NAME --trust"),
        ("old.pth", "", "holds weights (a state_dict) and no network", "modelport.pack(net"),
        ("net.safetensors", "", "holds weights (a state_dict) and no network", "--class"),
        ("state.pth", "network.py:Net", "which is code", "--trust"),
        ("whole.pt", "", "holds a pickled object of network.Net, torch.nn.modules", "--class FILE.py:NAME"),
        ("flat.ptl", "", "a program for mobile devices, calling torch.", "--trust"),
    ],
)
def test_without_trust_it_says_what_is_in_it(
    folder: Path, name: str, builder: str, said: str, hint: str
) -> None:
    options = SourceOptions(builder=builder and f"{folder}/{builder}")
    importer = find_importer(folder / name, None, options)
    with pytest.raises(Unsupported) as refusal:
        importer.load(folder / name, example=EXAMPLE)
    assert said in refusal.value.message
    assert hint in (refusal.value.hint or "")


@pytest.mark.parametrize("name", ["dynamic.pt", "dynamic.ptl"])
def test_layers_that_are_quantised_while_they_run(folder: Path, name: str) -> None:
    imported = load(folder / name)
    assert imported.quantised
    assert not imported.batch  # the range is of the whole batch
    check_same(imported)


def test_a_mobile_file_in_flatbuffer_form(folder: Path) -> None:
    imported = load(folder / "flat.ptl")
    assert imported.format == "torchscript"
    check_same(imported)


def test_a_file_for_the_lite_interpreter_only(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bytecode.ptl"
    with zipfile.ZipFile(folder / "dynamic.ptl") as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            if "/code/" not in member:
                new.writestr(member, old.read(member))
    for permission in (None, TRUSTED):
        with pytest.raises(Unsupported, match="for PyTorch's lite interpreter only") as refusal:
            find_importer(path, permission).load(path, example=EXAMPLE)
        assert "torch.jit.save" in (refusal.value.hint or "")


def test_operators_that_touch_files_and_foreign_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    code = "y = torch.from_file('/etc/passwd')\nreturn ops.mine.twice(torch.add(x, y))\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02N.")
        archive.writestr("net/constants.pkl", b"\x80\x02N.")
        archive.writestr("net/code/__torch__/net.py", code)
    assert script_contents(path)[1] == ["mine.twice", "torch.add", "torch.from_file"]
    with pytest.raises(Unsupported) as refusal:
        find_importer(path).load(path)
    assert "torch.from_file would touch files" in refusal.value.message
    assert "mine.twice are no operators of torch" in refusal.value.message


PLAIN = [
    "s0 + 1",
    "Add(FloorDiv(Add(Symbol('s0', positive=True, integer=True), Integer(-3)), Integer(2)), Integer(1))",
    "L['x'].size()[2] >= 3",
    "((4 + 4*(((-3) + L['x'].size()[2]) // 2)) % (1 + L['y']['z'].stride()[3])) != 0",
]
CODE = [
    "__import__('os').system('true')",
    "Symbol(\"__import__('os')\")",
    "Integer('exit()')",
    "L['x'].__class__.__mro__",
    "L['x'].size().__class__",
    "(lambda: 1)()",
    "[s0 for s0 in (1,)]",
    "Max(s0, open)",
    "s0 if s0 else exit",
    "Symbol(*['s0'])" + " " * 10 + ".name",
]


@pytest.mark.parametrize("text", PLAIN)
def test_arithmetic_on_sizes_is_data(text: str) -> None:
    assert harmless(text)


@pytest.mark.parametrize("text", CODE)
def test_everything_else_in_a_size_is_code(text: str) -> None:
    assert not harmless(text)


def test_a_program_whose_sizes_are_code(tmp_path: Path) -> None:
    """torch evaluates sizes: without trust such a file is refused, before torch sees it."""
    plain, bomb, mark = tmp_path / "plain.pt2", tmp_path / "bomb.pt2", tmp_path / "went-off"

    class Pool(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.max_pool2d(x, 2).flatten(1).mean(1)

    dims = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            Pool(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: dims, 2: dims},)
        )
        torch.export.save(program, str(plain))
    assert code_in(plain) == []
    attack = f"__import__('pathlib').Path({str(mark)!r}).touch() or Integer(2)"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member.endswith("models/model.json"):
                described = json.loads(data)
                sizes = described["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
                sizes[0]["as_expr"]["expr_str"] = attack
                data = json.dumps(described).encode()
            new.writestr(member, data)
    assert code_in(bomb) == [attack]
    with pytest.raises(Unsupported, match="text that torch would run as code"):
        find_importer(bomb).load(bomb, example=None)
    assert not mark.exists()
    # Were it opened here, it would run; the confined process may not write there even when it is trusted.
    with pytest.raises(ModelportError):
        find_importer(bomb, TRUSTED).load(bomb, example=None)
    assert not mark.exists()


def test_what_no_exporter_follows_is_named_with_its_layer() -> None:
    class Numbers(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.eigvals(x).real

    net = torch.nn.Sequential(torch.nn.Linear(4, 4), Numbers()).eval()
    with pytest.raises(Unsupported) as refusal:
        TorchImporter().load(net, inputs=[parse_input("input:float32[batch,4,4]")])
    assert "ONNX has no operator for aten.linalg_eig (1, Numbers)" in refusal.value.message
    assert "compute aten.linalg_eig with other operators" in (refusal.value.hint or "")


def test_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pack", str(folder / "state.pth"), "--class", f"{folder}/network.py:Net", "--recipe", "raw"]
    command += ["--input", "x:float32[batch,6]", "-o", str(tmp_path / "repo")]
    assert run(command) == 4
    assert "which is code" in capsys.readouterr().err
    assert run([*command, "--trust"]) == 0
    assert run(["verify", str(tmp_path / "repo" / "state")]) == 0


def test_a_mobile_vision_transformer_on_mnist() -> None:
    """A quantised file of PyTorch Mobile: it reads digits, and its ONNX gives the same digits."""
    path, data = REAL / "torchscript" / "vit4mnist.ptl", REAL / "mnist"
    if not path.exists() or not data.exists():
        pytest.skip("vit4mnist.ptl and MNIST are not here")
    count = 40
    with gzip.open(data / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + count * 784)[16:], np.uint8).reshape(count, 1, 28, 28)
    with gzip.open(data / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count)[8:], np.uint8)
    inputs = [parse_input("img:float32[batch,1,28,28]")]
    imported = find_importer(path, TRUSTED).load(path, example=None, inputs=inputs)
    assert imported.quantised
    session = OnnxRuntime().open(imported.onnx)
    rows = ((pixels / 255 - 0.1307) / 0.3081).astype(np.float32)
    got = np.concatenate([session.run({"img": row[None]})["output"] for row in rows])
    want = np.concatenate([imported.reference({"img": row[None]})["output"] for row in rows])
    assert (want.argmax(1) == labels).mean() >= 0.95
    assert (got.argmax(1) == want.argmax(1)).all()
    assert np.median(np.abs(got - want)) <= 1e-5 * np.abs(want).max()
    assert np.abs(got - want).max() <= 1e-2 * np.abs(want).max()
