"""Networks with operators that a pass or a runtime does not know: each candidate has its answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.bundle.store import Bundle
from modelport.optimize.clock import silent
from modelport.optimize.plan import Plan
from modelport.optimize.search import Search
from modelport.optimize.ways import refused, ways

from .networks import LABELS, RECIPE, network, pictures

ANSWERED = ("kept", "undecided", "refused", "skipped")


def _before_second(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Nodes from `b` to `b2`, which the second convolution takes."""
    for node in nodes:
        model.graph.node.insert([each.name for each in model.graph.node].index("second"), node)
    next(each for each in model.graph.node if each.name == "second").input[0] = "b2"


def sequence(model: onnx.ModelProto) -> None:
    """Channels are put into a sequence, and together again: of what comes then no rank is known."""
    model.graph.initializer.append(numpy_helper.from_array(np.int64(12), "parts"))
    split = helper.make_node("SplitToSequence", ["b", "parts"], ["parted"], axis=1, name="split")
    join = helper.make_node("ConcatFromSequence", ["parted"], ["b2"], axis=1, name="join")
    _before_second(model, [split, join])


def strings(model: onnx.ModelProto) -> None:
    """The logits as names and as numbers again, times nothing."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "none"))
    graph.node[-1].output[0] = "plain"
    to = {"domain": "ai.onnx.ml", "keys_int64s": [0, 1], "values_strings": ["a", "b"], "default_string": "c"}
    back = {"domain": "ai.onnx.ml", "keys_strings": ["a", "b"], "values_floats": [1.0, 2.0]}
    graph.node.extend(
        [
            helper.make_node("Cast", ["plain"], ["whole"], to=TensorProto.INT64, name="whole"),
            helper.make_node("LabelEncoder", ["whole"], ["named"], name="named", **to),
            helper.make_node("LabelEncoder", ["named"], ["number"], name="number", **back),
            helper.make_node("Mul", ["number", "none"], ["zero"], name="zero"),
            helper.make_node("Add", ["plain", "zero"], ["logits"], name="sum"),
        ]
    )
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))


def custom(model: onnx.ModelProto) -> None:
    """An operator of ONNX Runtime's own."""
    gelu = helper.make_node("QuickGelu", ["b"], ["b2"], alpha=1.702, domain="com.microsoft", name="quick")
    _before_second(model, [gelu])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def packed(change: Callable[[onnx.ModelProto], None], folder: Path) -> Bundle:
    model = network()
    change(model)
    onnx.save(model, folder / "odd.onnx")
    (folder / "odd.toml").write_text(RECIPE)
    return modelport.pack(folder / "odd.onnx", out=folder / "repo", recipe=folder / "odd.toml", labels=LABELS)


@pytest.mark.parametrize("change", [sequence, strings, custom], ids=lambda change: change.__name__)
def test_every_candidate_is_answered(change: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    bundle = packed(change, tmp_path)
    before = {path: path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()}
    data = pictures(tmp_path / "pictures", 8)
    search = Search(bundle, data, None, tmp_path / "work", Plan(gate="estimate", margin=20.0), silent)
    for step in (*search.bases(), *search.passes()):
        entry = search.tried(step, search.start)
        assert entry.status in ANSWERED and entry.reason, entry
        assert not entry.reason.startswith("Traceback") and len(entry.reason) < 600
    right = [entry.id for entry in search.entries if entry.status == "kept"]
    assert "static-int8-minmax-u8s8" in right and "fp16" in right
    for step in ways(search.start):
        assert "Traceback" not in refused(step, search.start, search.calibration)
    explained = {entry.id: entry.explained for entry in search.entries}
    assert "float16" not in explained["static-int8-minmax-u8s8"]  # a cast to integers is none
    assert {path: path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()} == before


def test_openvino_names_the_operators_that_it_has_not(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    bundle = packed(strings, tmp_path)
    data = pictures(tmp_path / "pictures", 8)
    search = Search(bundle, data, None, tmp_path / "work", Plan(gate="estimate"), silent)
    (plain,) = (way for way in ways(search.start) if way.runtime == "openvino" and not way.settings)
    said = refused(plain, search.start, search.calibration)
    assert said.endswith("does not load the graph: it does not have the operators ai.onnx.ml.LabelEncoder")
    made = (step for step in search.passes() if getattr(step, "runtime", "") == "openvino")
    entry = search.tried(next(made), search.start)
    assert entry.status == "refused" and entry.reason.startswith(f"it does not run: {said}")
    assert msgspec.json.encode(entry)
