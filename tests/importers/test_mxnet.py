"""MXNet: symbols of any age, opened by another process and held against MXNet's own executor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import InputError, NotFound, Unsupported, UsageError
from modelport.importers.mxnet import MXNetImporter, is_parameters, is_symbol
from modelport.importers.source import Imported, Permission, SourceOptions, find_importer, parse_input
from modelport.isolation import environments
from modelport.isolation.child.converter import NotConverted, Refused
from modelport.isolation.child.mxnet_export import onnx_name
from modelport.isolation.child.mxnet_rewrite import indices_of, ones_of, read_symbol, rewritten, weights_of

from .private import example, private, script

PARAMETERS = b"\x12\x01" + bytes(14) + b"\x01"


def node(op: str, name: str, *inputs: int, **attributes: str) -> dict[str, Any]:
    return {"op": op, "name": name, "attrs": attributes, "inputs": [[index, 0, 0] for index in inputs]}


def symbol(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": list(nodes), "arg_nodes": [0], "heads": [[len(nodes) - 1, 0, 0]]}


def put(path: Path, data: bytes | dict[str, Any]) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return path


SMALL = symbol(node("null", "data"), node("relu", "out", 0))


def test_both_files_are_told_by_their_content(tmp_path: Path) -> None:
    assert is_symbol(put(tmp_path / "a", SMALL))
    assert is_symbol(put(tmp_path / "b", json.dumps(SMALL, indent=2, sort_keys=True).encode()))
    assert is_symbol(put(tmp_path / "cut", json.dumps(SMALL).encode()[:40]))
    assert is_parameters(put(tmp_path / "c", PARAMETERS))
    for name, data in {
        "pir": b'{"base_code":{"magic":"pir"},"program":{}}',
        "graph": b'{"nodes": [{"id": 1}], "edges": []}',
        "onnx": b"\x08\x08\x12\x07pytorch",
        "empty": b"",
    }.items():
        path = put(tmp_path / name, data)
        assert not is_symbol(path) and not is_parameters(path)
        assert not MXNetImporter().recognises(path)


def test_the_other_file_is_found_by_its_name(tmp_path: Path) -> None:
    source = put(tmp_path / "net-symbol.json", SMALL)
    importer = find_importer(source)
    assert isinstance(importer, MXNetImporter)
    with pytest.raises(NotFound, match=r"expected net-\*\.params or net\.params"):
        importer.load(source)
    put(tmp_path / "net-0003.params", PARAMETERS)
    last = put(tmp_path / "net-0012.params", PARAMETERS)
    for given in (source, last, tmp_path):
        asked = importer.question(given)
        assert asked == {"symbol": str(source.resolve()), "weights": str(last.resolve())}
    with pytest.raises(NotFound, match=r"expected other-symbol\.json or other\.json"):
        importer.question(put(tmp_path / "other-0001.params", PARAMETERS))
    with pytest.raises(InputError, match=r"net-symbol\.json is not a file of MXNet's parameters"):
        find_importer(source, options=SourceOptions(weights=source)).load(source)


def test_a_head_that_was_trained_with_labels_loses_them() -> None:
    old = symbol(
        node("null", "data"),
        node("null", "w"),
        node("FullyConnected", "fc", 0, 1, no_bias="1", num_hidden="3"),
        node("null", "prob_label"),
        node("SoftmaxOutput", "prob", 2, 3, multi_output="True"),
    )
    new = rewritten(old)
    assert [each["name"] for each in new["nodes"]] == ["data", "w", "fc", "prob"]
    assert new["nodes"][2]["attrs"]["flatten"] == "True"  # the exporter takes a default for false
    assert new["nodes"][3]["op"] == "softmax" and new["nodes"][3]["attrs"] == {"axis": "1"}
    assert new["heads"] == [[3, 0, 0]] and new["arg_nodes"] == [0, 1]
    assert weights_of(new) == {"w"}


@pytest.mark.parametrize(
    ("op", "attributes", "becomes"),
    [
        ("SoftmaxActivation", {"mode": "channel"}, ("softmax", {"axis": "1"})),
        ("SoftmaxActivation", {}, ("softmax", {"axis": "-1"})),
        ("LogisticRegressionOutput", {}, ("sigmoid", {})),
        ("LinearRegressionOutput", {"grad_scale": "2"}, ("identity", {})),
        ("Pooling_v1", {"kernel": "(2,2)"}, ("Pooling", {"kernel": "(2,2)"})),
        ("LeakyReLU", {"act_type": "rrelu"}, ("LeakyReLU", {"act_type": "leaky", "slope": "0.2295"})),
    ],
)
def test_names_of_old_have_a_present_one(
    op: str, attributes: dict[str, str], becomes: tuple[str, dict[str, str]]
) -> None:
    new = rewritten(symbol(node("null", "data"), node(op, "last", 0, **attributes)))
    assert (new["nodes"][-1]["op"], new["nodes"][-1]["attrs"]) == becomes


def test_scales_that_are_fixed_and_words_that_are_looked_up_are_found() -> None:
    norm = symbol(
        node("null", "data"),
        *(node("null", name) for name in "gbmv"),
        node("BatchNorm", "norm", 0, 1, 2, 3, 4),
    )
    assert ones_of(rewritten(norm)) == {"g"}
    norm["nodes"][-1]["attrs"]["fix_gamma"] = "False"
    assert ones_of(rewritten(norm)) == set()
    assert indices_of(symbol(node("null", "words"), node("null", "t"), node("Embedding", "e", 0, 1))) == {
        "words"
    }


def test_what_the_exporter_calls_outputs() -> None:
    said = {"a_output": "a", "rnn_output0": "rnn0", "rnn_state_output": "rnn1", "plain": "plain"}
    assert {name: onnx_name(name) for name in said} == said


def test_a_damaged_symbol_and_one_that_calls_code_are_refused() -> None:
    whole = json.dumps(SMALL).encode()
    for text in (whole[:-9], b'{"nodes": [], "heads": []}', b'{"nodes": [{"op": 1}]}', b"[" * 100_000):
        with pytest.raises(Refused, match=r"a\.json is"):
            read_symbol("a.json", text)
    looped = symbol(node("null", "data"), node("relu", "out", 7))
    with pytest.raises(Refused, match="an input that is no node"):
        read_symbol("a.json", json.dumps(looped).encode())
    for op in ("Custom", "_Native"):  # the second calls an address that the file names
        foreign = symbol(node("null", "data"), node(op, "boxes", 0, op_type="proposal", info="0x7f00"))
        with pytest.raises(NotConverted, match=rf"'boxes' is a {op} operator \(proposal\): code"):
            read_symbol("a.json", json.dumps(foreign).encode())


def test_a_python_that_is_too_new_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr("modelport.isolation.environments.sys.version_info", (3, 14, 0))
    put(tmp_path / "net-0000.params", PARAMETERS)
    source = put(tmp_path / "net-symbol.json", SMALL)
    with pytest.raises(Unsupported, match=r"mxnet needs a Python below 3\.12, and this is 3\.14"):
        find_importer(source, Permission(isolate=True)).load(source, example=None)
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    with private("mxnet") as found:
        yield found


@pytest.fixture(scope="module")
def stripes(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's network, its labels and its pictures."""
    return example(python, "mxnet", tmp_path_factory.mktemp("mxnet"))


SAVE = """
import os, sys
import mxnet as mx
from mxnet.gluon import nn, rnn

os.chdir(sys.argv[1])
mx.random.seed(0)

class Two(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.e, self.l, self.d = nn.Embedding(9, 4), rnn.LSTM(5, layout="NTC"), nn.Dense(3)
            self.n, self.p = nn.LayerNorm(), nn.PReLU()

    def hybrid_forward(self, F, words, extra):
        h = F.concat(self.n(self.l(self.e(words))).mean(axis=1), extra, dim=1)
        z = self.d(self.p(F.rsqrt(F.abs(h) + 1)))
        return z, F.softmax(z), F.broadcast_maximum(z, F.erf(z))

two = Two()
two.initialize()
two.hybridize()
two(mx.nd.ones((2, 7)), mx.nd.ones((2, 2)))
two.export("two")

def save(name, last, shape, **fixed):
    module = mx.mod.Module(last, label_names=None)
    module.bind([("data", shape)])
    module.init_params(mx.init.Uniform(0.5))
    arguments, states = module.get_params()
    for key, number in fixed.items():
        arguments[key][:] = number
    module.set_params(arguments, states)
    module.save_checkpoint(name, 0)

data = mx.sym.Variable("data")
c = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, name="c")
norm = mx.sym.BatchNorm(c, name="norm")  # a scale of 3 that fix_gamma has ignored
p = mx.sym.Pooling(norm, kernel=(3, 3), stride=(2, 2), pool_type="avg", pooling_convention="full", pad=(1, 1))
q = mx.sym.Pooling(p, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full")
up = mx.sym.Deconvolution(mx.sym.LeakyReLU(q, act_type="prelu"), kernel=(4, 4), stride=(2, 2), num_filter=3)
save("pooled", mx.sym.Group([up, mx.sym.softmax(mx.sym.Flatten(q))]), (1, 3, 30, 30), norm_gamma=3)
save("odd", mx.sym.round(c, name="nearest"), (1, 3, 8, 8))
save("nhwc", mx.sym.BatchNorm(c, axis=3, name="sideways"), (1, 3, 8, 8))
h = mx.sym.Activation(mx.sym.FullyConnected(data, num_hidden=6, name="f"), act_type="tanh")
save("row", mx.sym.FullyConnected(h, num_hidden=2, name="g"), (1, 9))
"""


@pytest.fixture(scope="module")
def saved(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several small networks."""
    return script(python, SAVE, tmp_path_factory.mktemp("mxnet-saved"))


def load(source: Path, *inputs: str, **options: Any) -> Imported:
    importer = find_importer(source, options=SourceOptions(**options))
    return importer.load(source, example=None, inputs=[parse_input(text) for text in inputs])


def largest_difference(imported: Imported, batch: dict[str, Any]) -> float:
    session = onnxruntime.InferenceSession(imported.onnx, providers=["CPUExecutionProvider"])
    want, names = imported.reference(batch), [output.name for output in imported.signature.outputs]
    pairs = zip(session.run(names, batch), (want[name] for name in names), strict=True)
    return max(float(np.abs(got - expected).max()) for got, expected in pairs)


@pytest.mark.frameworks
def test_the_example_is_packed_and_agrees_on_its_pictures(stripes: Path, tmp_path: Path) -> None:
    command = ["pack", str(stripes / "stripes-symbol.json"), "--out", str(tmp_path), "--name", "stripes"]
    command += ["--recipe", "imagenet", "--set", "size=32", "--set", "crop_fraction=1"]
    command += ["--labels", str(stripes / "labels.txt"), "--golden", str(stripes / "samples")]
    assert run([*command, "--input", "data:float32[batch,3,32,32]"]) == 0
    bundle = Bundle.open(tmp_path / "stripes" / "1")
    manifest = bundle.manifest
    assert manifest.lineage.source is not None and manifest.lineage.source.format == "mxnet"
    assert manifest.lineage.source.framework == "mxnet 1.9.1" and manifest.graphs.net.batch
    assert manifest.golden is not None and len(manifest.golden.cases) == 12
    assert b"falling" in bundle.read("labels.txt")


@pytest.mark.frameworks
def test_sizes_that_nothing_says_are_asked_for(stripes: Path, saved: Path) -> None:
    with pytest.raises(UsageError, match="its weights fit squares of 30 to 33 pixels") as asked:
        load(stripes / "stripes-symbol.json")
    assert asked.value.hint == "--input 'data:float32[batch,3,32,32]'"
    with pytest.raises(UsageError, match="its weights fit any"):
        load(saved / "pooled-symbol.json")
    with pytest.raises(UsageError, match="shape of its input 'data0'; it takes data1 as well"):
        load(saved / "two-symbol.json")
    with pytest.raises(UsageError, match=r"does not take data\[batch, 3, 64, 64\]: .*fc"):
        load(stripes / "stripes-symbol.json", "data:float32[batch,3,64,64]")
    with pytest.raises(UsageError, match="no input 'x'; it takes data"):
        load(saved / "row-symbol.json", "x:float32[batch,9]")


@pytest.mark.frameworks
def test_a_row_of_numbers_needs_no_word(saved: Path) -> None:
    imported = load(saved / "row-symbol.json")
    assert imported.signature.inputs[0].shape == ("batch", 9) and imported.batch
    assert any("9 numbers a row" in note for note in imported.notes)


@pytest.mark.frameworks
@pytest.mark.parametrize("length", ["7", "length"])
def test_words_and_numbers_through_a_recurrent_network(saved: Path, length: str) -> None:
    imported = load(saved / "two-symbol.json", f"data0:int64[batch,{length}]", "data1:float32[batch,2]")
    assert imported.batch and len(imported.signature.outputs) == 3
    random = np.random.default_rng(0)
    words = random.integers(0, 9, (4, 7 if length == "7" else 11))
    assert largest_difference(imported, {"data0": words, "data1": random.random((4, 2), np.float32)}) < 1e-5


@pytest.mark.frameworks
@pytest.mark.parametrize("side", ["30", "31", "side"])
def test_layers_that_the_exporter_takes_differently_are_told_by_the_framework(saved: Path, side: str) -> None:
    imported = load(saved / "pooled-symbol.json", f"data:float32[batch,3,{side},{side}]")
    pixels = 26 if side == "side" else int(side)
    pictures = np.random.default_rng(0).random((2, 3, pixels, pixels), np.float32)
    assert imported.batch and largest_difference(imported, {"data": pictures}) < 1e-5


@pytest.mark.frameworks
def test_what_is_not_converted_is_named_with_its_layer(saved: Path) -> None:
    with pytest.raises(Unsupported, match=r"no rule for 1 of its layers: round \(nearest\)"):
        load(saved / "odd-symbol.json", "data:float32[batch,3,8,8]")
    with pytest.raises(Unsupported, match=r"the layer 'sideways' \(BatchNorm: .*axis=3.*axis != 1"):
        load(saved / "nhwc-symbol.json", "data:float32[batch,3,8,8]")


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("short weights", r"net-0000\.params is cut short or damaged"),
        ("short symbol", r"net-symbol\.json is cut short or damaged"),
        ("other weights", r"net-0000\.params is not of net-symbol\.json: it lacks f_weight, .* holds"),
        ("unknown operator", r"Operator Sorcery is not registered"),
    ],
)
def test_damaged_and_wrong_pairs_have_one_line(
    saved: Path, tmp_path: Path, spoil: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, weights = tmp_path / "net-symbol.json", tmp_path / "net-0000.params"
    shutil.copy(saved / "row-symbol.json", source)
    shutil.copy(saved / f"{'pooled' if 'other' in spoil else 'row'}-0000.params", weights)
    if "short" in spoil:
        cut = weights if "weights" in spoil else source
        cut.write_bytes(cut.read_bytes()[:-50])
    if "operator" in spoil:
        source.write_text(source.read_text().replace('"FullyConnected"', '"Sorcery"'))
    code = run(["pack", str(source), "--out", str(tmp_path / "repo"), "--recipe", "raw"])
    assert code == (4 if "operator" in spoil else 3)
    with pytest.raises((InputError, Unsupported), match=reason) as refused:
        load(source)
    assert "\n" not in refused.value.message
    assert "Traceback" not in capsys.readouterr().err and not (tmp_path / "repo").exists()


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("name", "side", "outputs"),
    [("mobilefacenet/model", 112, 1), ("mtcnn/det1", 12, 2), ("mtcnn/det2", 24, 2), ("mtcnn/det3", 48, 3)],
)
def test_networks_of_2016_to_2018_answer_on_faces_as_mxnet_does(
    python: Path, shared_data: Path, name: str, side: int, outputs: int
) -> None:
    source = shared_data / f"{name}-symbol.json"
    photos = [*sorted((shared_data / "face" / "images").glob("*.jpg"))[:4]]
    if not source.is_file() or not photos:
        pytest.skip(f"no {source}, or no faces")
    imported = load(source, f"data:float32[batch,3,{side},{side}]")
    assert imported.batch and len(imported.signature.outputs) == outputs
    from PIL import Image

    pixels = [np.asarray(Image.open(path).convert("RGB").resize((side, side)), np.float32) for path in photos]
    batch = np.stack(pixels).transpose(0, 3, 1, 2)
    batch = batch if side == 112 else (batch - 127.5) / 128  # MobileFaceNet does that itself
    assert largest_difference(imported, {"data": np.ascontiguousarray(batch, np.float32)}) < 1e-5
