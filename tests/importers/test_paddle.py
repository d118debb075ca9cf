"""PaddlePaddle: programs of both kinds, opened by another process and held against its own predictor."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import InputError, NotFound, Unsupported, UsageError
from modelport.importers.paddle import PaddleImporter, is_parameters, is_program
from modelport.importers.source import Permission, SourceOptions, find_importer, parse_input
from modelport.isolation.child.converter import Refused
from modelport.isolation.child.paddle_params import compare, held_in, parameters_of, program_of

from .private import example, private, script

PIR = {"base_code": {"magic": "pir", "trainable": True, "version": 1}}
OLD = b"\x0a\xc2\x48\x08\x00\x10" + b"\xff" * 9 + b"\x01\x1a\x20"


def parameter(name: str, shape: Sequence[int]) -> dict[str, object]:
    kind = {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, list(shape), "NCHW", [], 0]}
    return {"#": "p", "A": [0, 1, 1, name], "O": {"%": 1, "TT": kind}, "OA": [1, 0, 1]}


def program(**parameters: Sequence[int]) -> bytes:
    operations = [parameter(name, shape) for name, shape in parameters.items()]
    inside = [{"#": "block_0", "ops": operations or [{"#": "1.data"}]}]
    return json.dumps({**PIR, "program": {"regions": [{"blocks": inside}]}}).encode()


def tensors(*shapes: Sequence[int], packed: bool = False) -> bytes:
    """A file of float32 tensors, as PaddlePaddle writes it."""
    data = b""
    for shape in shapes:
        dims = bytes(shape)
        described = b"\x08\x05"
        described += (
            b"\x12" + bytes([len(dims)]) + dims if packed else b"".join(b"\x10" + bytes([n]) for n in shape)
        )
        data += struct.pack("<IQIi", 0, 0, 0, len(described)) + described
        data += np.zeros(shape, np.float32).tobytes()
    return data


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_both_files_are_told_by_their_content(tmp_path: Path) -> None:
    assert is_program(put(tmp_path / "a", program()))
    assert is_program(put(tmp_path / "b", OLD))
    assert is_parameters(put(tmp_path / "c", tensors([2, 3])))
    for name, data in {
        "onnx": b"\x08\x08\x12\x07pytorch",
        "graph": b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder",
        "symbol": b'{"nodes": [{"op": "null", "name": "data"}]}',
        "zeros": bytes(64),
        "empty": b"",
    }.items():
        path = put(tmp_path / name, data)
        assert not is_program(path) and not is_parameters(path)
        assert not PaddleImporter().recognises(path)


def test_the_other_file_is_found_by_its_name(tmp_path: Path) -> None:
    source = put(tmp_path / "net.json", program(w=[2, 3]))
    importer = find_importer(source)
    assert isinstance(importer, PaddleImporter)
    with pytest.raises(NotFound, match=r"weights are not beside it \(expected net\.pdiparams\)") as missing:
        importer.load(source)
    assert "--weights" in (missing.value.hint or "")
    weights = put(tmp_path / "net.pdiparams", tensors([2, 3]))
    for given in (source, weights, tmp_path):
        asked = importer.question(given)
        assert asked == {"program": str(source.resolve()), "weights": str(weights.resolve())}
    put(tmp_path / "two.json", program())
    with pytest.raises(UsageError, match=r"2 files that are a program of PaddlePaddle: net\.json, two\.json"):
        importer.question(tmp_path)


def test_weights_alone_ask_for_their_program(tmp_path: Path) -> None:
    weights = put(tmp_path / "net.pdiparams", tensors([2, 3]))
    with pytest.raises(NotFound, match=r"expected net\.json or net\.pdmodel"):
        find_importer(weights).load(weights)


def test_a_file_in_the_place_of_the_other_is_called_what_it_is(tmp_path: Path) -> None:
    source = put(tmp_path / "net.json", program(w=[2, 3]))
    put(tmp_path / "net.pdiparams", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(InputError, match=r"not a file of PaddlePaddle's parameters.*Git LFS pointer"):
        find_importer(source).load(source)
    with pytest.raises(InputError, match=r"net\.json is not a file of PaddlePaddle's parameters"):
        find_importer(source, options=SourceOptions(weights=source)).load(source)
    with pytest.raises(UsageError, match="--signature means nothing"):
        find_importer(source, options=SourceOptions(signature="x"))


@pytest.mark.parametrize("packed", [False, True])
def test_what_the_parameters_are_is_read_without_the_framework(packed: bool) -> None:
    needed = parameters_of(program_of("a.json", program(b=[3], a=[2, 3])))
    assert needed == [("a", (2, 3)), ("b", (3,))]  # the file's order is that of the names
    data = tensors([2, 3], [3], packed=packed)
    compare("a.json", needed, "a.pdiparams", held_in("a.pdiparams", data))
    with pytest.raises(Refused, match="holds 1 tensors, and the network has 2"):
        compare("a.json", needed, "b.pdiparams", held_in("b", tensors([2, 3])))
    with pytest.raises(Refused, match=r"its tensor for 'b' is \[4\], and the network's is \[3\]"):
        compare("a.json", needed, "b.pdiparams", held_in("b", tensors([2, 3], [4])))
    with pytest.raises(Refused, match="cut short: 5 bytes of its tensor 2 are missing"):
        held_in("b", data[:-5])
    with pytest.raises(Refused, match="cannot be read behind its tensor 2"):
        held_in("b", data + b"\x01" * 30)


@pytest.mark.parametrize(
    "text",
    [program()[:-20], b'{"base_code": 1, "program": {"regions": []}}', b"[" * 100_000],
    ids=["cut", "empty", "deep"],
)
def test_a_damaged_program_is_refused(text: bytes) -> None:
    with pytest.raises(Refused):
        program_of("a.json", text)


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    with private("paddle") as found:
        yield found


@pytest.fixture(scope="module")
def shapes(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's network, its labels and its pictures."""
    return example(python, "paddle", tmp_path_factory.mktemp("paddle"))


SAVE = """
import sys
import paddle
from paddle.nn import functional as F

out = sys.argv[1]
paddle.seed(0)

class Two(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.c, self.b, self.f = paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.Linear(6, 5)

    def forward(self, image, extra):
        z = self.f(paddle.concat([F.relu(self.b(self.c(image))).mean([2, 3]), extra], 1))
        return z, F.softmax(z), z.argmax(1)

class Odd(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.f = paddle.nn.Linear(4, 4)

    def forward(self, x):
        return paddle.lgamma(self.f(x))

class Doubles(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.c, self.g = paddle.nn.Conv2D(3, 4, 1), paddle.nn.GroupNorm(2, 4)

    def forward(self, x):
        h = F.leaky_relu(self.g(self.c(x)), 0.3)
        return F.pad(F.interpolate(h, scale_factor=2, mode="bilinear"), [1, 1, 1, 1], value=0.7)

class Third(paddle.nn.Layer):
    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 3)

class Shuffle(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.c = paddle.nn.Conv2D(3, 4, 1)

    def forward(self, x):
        return F.relu(paddle.reshape(self.c(x), [1, 2, 2, 8, 8])).mean([3, 4])

spec = paddle.static.InputSpec
pictures = [spec([None, 3, 8, 8], "float32", "x")]
sizes = [spec([None, 3, None, None], "float32", "image"), spec([None, 2], "float32", "extra")]
saved = [("two", Two(), sizes), ("odd", Odd(), [spec([None, 4], "float32", "x")])]
saved += [("doubles", Doubles(), pictures), ("third", Third(), pictures)]
saved += [("single", Shuffle(), [spec([1, 3, 8, 8], "float32", "x")])]
for name, layer, taken in saved:
    layer.eval()
    paddle.jit.save(layer, f"{out}/{name}", input_spec=taken)

paddle.enable_static()
with paddle.pir_utils.OldIrGuard():
    main, start = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, start):
        x = paddle.static.data("x", [None, 6], "float32")
        more = paddle.static.data("a", [None, 2], "float32")
        z = paddle.static.nn.fc(paddle.concat([paddle.static.nn.fc(x, 8, activation="relu"), more], 1), 3)
        answer = F.softmax(z)
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(start)
        paddle.static.save_inference_model(f"{out}/old", [x, more], [z, answer], executor, program=main)
"""


@pytest.fixture(scope="module")
def saved(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small networks, one of them of the older kind."""
    return script(python, SAVE, tmp_path_factory.mktemp("paddle-saved"))


@pytest.mark.frameworks
def test_the_example_is_packed_and_agrees_on_its_pictures(shapes: Path, tmp_path: Path) -> None:
    command = ["pack", str(shapes / "shapes.json"), "--out", str(tmp_path), "--recipe", "imagenet"]
    command += [
        "--set",
        "size=32",
        "--labels",
        str(shapes / "labels.txt"),
        "--golden",
        str(shapes / "samples"),
    ]
    assert run(command) == 0
    bundle = Bundle.open(tmp_path / "shapes" / "1")
    manifest = bundle.manifest
    assert manifest.lineage.source is not None and manifest.lineage.source.format == "paddle"
    assert "paddlepaddle" in manifest.lineage.source.framework and manifest.graphs.net.batch
    assert manifest.golden is not None and len(manifest.golden.cases) == 12
    assert b"diamond" in bundle.read("labels.txt")


@pytest.mark.frameworks
@pytest.mark.parametrize("sizes", [(), ("image:float32[batch,3,20,24]",)], ids=["open", "given"])
def test_several_inputs_and_outputs_and_open_sizes(saved: Path, sizes: tuple[str, ...]) -> None:
    importer = find_importer(saved / "two.json")
    imported = importer.load(saved / "two.json", example=None, inputs=[parse_input(size) for size in sizes])
    assert imported.batch and imported.framework.startswith("paddlepaddle ")
    image, extra = imported.signature.inputs
    assert (image.name, extra.name) == ("image", "extra")
    assert image.shape == (("batch", 3, 20, 24) if sizes else ("batch", 3, "image.2", "image.3"))
    assert [output.dtype for output in imported.signature.outputs] == ["float32", "float32", "int64"]
    random = np.random.default_rng(0)
    batch = {
        "image": random.random((3, 3, 20, 24), np.float32),
        "extra": random.random((3, 2), np.float32),
    }
    session = onnxruntime.InferenceSession(imported.onnx, providers=["CPUExecutionProvider"])
    want = imported.reference(batch)
    names = [output.name for output in imported.signature.outputs]
    for name, got in zip(names, session.run(names, batch), strict=True):
        np.testing.assert_allclose(got, want[name], rtol=1e-4, atol=1e-5)


@pytest.mark.frameworks
def test_a_pdmodel_keeps_the_order_of_its_inputs(saved: Path) -> None:
    imported = find_importer(saved / "old.pdmodel").load(saved / "old.pdmodel", example=None)
    assert [spec.name for spec in imported.signature.inputs] == ["x", "a"]  # paddle2onnx sorts them by name
    assert imported.batch and [spec.shape for spec in imported.signature.outputs] == [("batch", 3)] * 2


@pytest.mark.frameworks
def test_settings_in_double_precision_arrive_as_they_are(saved: Path) -> None:
    imported = find_importer(saved / "doubles.json").load(saved / "doubles.json", example=None)
    batch = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    session = onnxruntime.InferenceSession(imported.onnx, providers=["CPUExecutionProvider"])
    (want,) = imported.reference(batch).values()
    np.testing.assert_allclose(session.run(None, batch)[0], want, rtol=1e-4, atol=1e-5)
    assert imported.batch and imported.signature.outputs[0].shape == ("batch", 4, 18, 18)


@pytest.mark.frameworks
def test_a_program_for_one_row_takes_any_number(saved: Path) -> None:
    imported = find_importer(saved / "single.json").load(saved / "single.json", example=None)
    assert imported.batch and any("batch of 1 became" in note for note in imported.notes)
    batch = {"x": np.random.default_rng(0).random((3, 3, 8, 8), np.float32)}
    (want,) = imported.reference(batch).values()
    session = onnxruntime.InferenceSession(imported.onnx, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, batch)[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.frameworks
def test_what_paddle2onnx_makes_something_else_of_is_not_packed(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program without parameters, so of one file; its pooling is not what ONNX calls so."""
    assert not (saved / "third.pdiparams").exists()
    assert run(["pack", str(saved / "third.json"), "--out", str(tmp_path / "repo"), "--recipe", "raw"]) == 1
    said = capsys.readouterr()
    assert "not the same model as in paddlepaddle" in " ".join(said.err.split())
    assert "adaptive pooling of [8, 8] to [3, 3]" in " ".join(said.err.split())
    assert not (tmp_path / "repo").exists()


@pytest.mark.frameworks
def test_what_is_not_converted_is_named(saved: Path) -> None:
    with pytest.raises(Unsupported, match=r"paddle2onnx does not convert odd\.json.*no rule for: lgamma"):
        find_importer(saved / "odd.json").load(saved / "odd.json", example=None)
    with pytest.raises(UsageError, match="no input 'y'; it takes image, extra"):
        find_importer(saved / "two.json").load(
            saved / "two.json", example=None, inputs=[parse_input("y:float32[batch,2]")]
        )


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("short weights", r"net\.pdiparams is cut short"),
        ("short program", r"net\.json is cut short or damaged"),
        ("short old program", r"net\.pdmodel is cut short or damaged"),
        ("other weights", r"net\.pdiparams is not of net\.json"),
        ("other old weights", r"net\.pdiparams is not of net\.pdmodel"),
    ],
)
def test_damaged_and_wrong_pairs_have_one_line(
    saved: Path, tmp_path: Path, spoil: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, stem = ("pdmodel", "old") if "old" in spoil else ("json", "two")
    source, weights = tmp_path / f"net.{kind}", tmp_path / "net.pdiparams"
    shutil.copy(saved / f"{stem}.{kind}", source)
    shutil.copy(saved / f"{'odd' if 'other' in spoil else stem}.pdiparams", weights)
    if "short" in spoil:
        cut = weights if "weights" in spoil else source
        cut.write_bytes(cut.read_bytes()[:-50])
    with pytest.raises(InputError, match=reason) as refused:
        find_importer(source).load(source, example=None)
    assert "\n" not in refused.value.message
    assert run(["pack", str(source), "--out", str(tmp_path / "repo"), "--recipe", "raw"]) == 3
    assert "Traceback" not in capsys.readouterr().err and not (tmp_path / "repo").exists()


@pytest.mark.frameworks
def test_a_network_from_outside_answers_on_photos_as_its_framework(python: Path, shared_data: Path) -> None:
    photos = sorted((shared_data / "imagenet200").glob("*.JPEG"))[::20]
    source = shared_data / "paddle" / "cat_dog.json"
    if not photos or not source.is_file():
        pytest.skip(f"no {source}, or no photos of ImageNet")
    imported = find_importer(source, Permission()).load(source, example=None)
    assert imported.batch and imported.signature.outputs[0].shape == ("batch", 2)
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in photos])
    batch = {"x": (pixels.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)}
    session = onnxruntime.InferenceSession(imported.onnx, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, batch)
    (want,) = imported.reference(batch).values()
    assert np.abs(got - want).max() < 1e-5
    assert (got.argmax(1) == want.argmax(1)).all() and len({*want.argmax(1).tolist()}) == 2
