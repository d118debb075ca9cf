"""The benchmark of `modelport optimize`: what can be wrong in it without anybody seeing it in a table.

Nothing is timed here and no peer is run; networks are a few numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.optimize import report
from benchmarks.optimize.cases import CASES
from benchmarks.optimize.contestants import MARGIN, OURS, START, contestants
from benchmarks.optimize.environments import LINES
from benchmarks.optimize.making import last_words
from benchmarks.optimize.networks import InOnnxRuntime
from benchmarks.optimize.places import PEERS, key, read_json, write_json
from benchmarks.optimize.timing import _figures

CASE = CASES["yolov5n"]


def test_keys_are_those_of_the_inputs(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert key("case", {"a": 1, "b": 2}, one) == key("case", {"b": 2, "a": 1}, other)
    other.write_bytes(b"other weights")
    different = [key("case", {"a": 1}, one), key("case", {"a": 2}, one), key("case", {"a": 1}, other)]
    assert len({*different, key("case", b"", {"a": 1}, one)}) == 4


def test_keys_of_python_are_of_what_it_does(tmp_path: Path) -> None:
    file = tmp_path / "peer.py"
    file.write_text("x = f(1)\n")
    before = key(file)
    file.write_text("x = f(  # why\n    1\n)\n")
    assert key(file) == before
    file.write_text("x = f(2)\n")
    assert key(file) != before


def test_results_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "results" / "made.json"
    assert read_json(path) == {}
    write_json(path, {"a": [1.5]})
    assert json.loads(path.read_text()) == read_json(path) == {"a": [1.5]}
    assert [each.name for each in path.parent.iterdir()] == ["made.json"]


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_contestant_can_be_made(case: Any) -> None:
    found = contestants(case)
    assert [each.id for each in found[:2]] == [START, OURS]
    assert len({each.id for each in found}) == len(found)
    for each in found[2:]:
        assert (PEERS / f"{each.module}.py").is_file()
        assert each.environment in LINES


def test_outputs_are_taken_by_position(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["renamed"], ["also_renamed"])
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])
        for name in ("renamed", "also_renamed")
    ]
    graph = helper.make_graph([node], "net", info[:1], info[1:])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    network = InOnnxRuntime(path, ["scores"], threads=1)
    answer = network.run({"x": np.array([[-1.0, 2.0]], np.float32)})
    assert list(answer) == ["scores"]
    assert answer["scores"].tolist() == [[0.0, 2.0]]


def test_the_last_words_of_a_peer_are_its_exception() -> None:
    log = "working\npydantic.ValidationError: 3 errors\n  see https://example.com\n"
    assert last_words(log) == "pydantic.ValidationError: 3 errors"
    assert last_words("one\nKilled\n") == "Killed"
    assert last_words("") == "no output"


# --- ratios and tables


def test_ratios_are_of_the_same_round() -> None:
    start = {
        "net": [1.0, 2.0, 4.0],
        "whole": [1.0, 2.0, 4.0],
        "net rate 1": [8.0, 4.0],
        "whole rate 1": [8.0, 4.0],
    }
    start |= {"net rate 8": [10.0, 5.0], "whole rate 8": [6.0, 3.0]}
    own = {what: [value / 2 for value in values] for what, values in start.items() if "rate" not in what}
    own |= {what: [value * 3 for value in values] for what, values in start.items() if "rate" in what}
    told = _figures(own, start)
    assert {what: each["ratio"] for what, each in told.items()} == {
        "net": 2.0,
        "whole": 2.0,
        "net rate": 3.0,
        "whole rate": 3.0,
    }
    assert told["net rate"]["batch"] == 8 and told["whole rate"]["batch"] == 1
    assert all(each["low"] == each["high"] == each["ratio"] for each in told.values())


def made(loss: float, *, high: float | None = None) -> dict[str, Any]:
    judged = {"metric": "map", "items": 128, "start": 0.3573, "value": 0.3573 - loss / 100, "loss": loss}
    judged |= {"low": loss - 1, "high": loss + 1 if high is None else high, "bytes": 2_000_000}
    return {"file": "net.onnx", "judged": judged, "processor_seconds": 12.3, "versions": {"tool": "1.2"}}


def times(ratio: float) -> dict[str, Any]:
    figures = {"value": 10 * ratio, "ratio": ratio, "low": ratio - 0.1, "high": ratio + 0.1}
    alone = figures | {"value": 40 * ratio}
    return {"net": alone, "whole": figures, "net rate": alone, "whole rate": figures}


def test_the_best_peer_is_one_that_is_still_right() -> None:
    networks = {START: made(0.0), OURS: {**made(0.2), "chosen": "static", "tried": 9, "seconds": 61.0}}
    networks |= {"guide-default": made(35.0), "nncf-control": made(MARGIN), "olive-default": made(0.1)}
    figures = {START: times(1.0), OURS: times(2.5), "guide-default": times(4.0)}
    figures |= {"nncf-control": times(2.0), "olive-default": times(1.2)}
    best = report.best_peer(CASE, networks, figures)
    assert best is not None and best.id == "nncf-control"


def test_the_page_says_who_failed_and_who_is_wrong() -> None:
    networks = {
        START: made(0.0),
        OURS: {**made(0.2), "chosen": "static", "tried": 9, "seconds": 61.0},
        "guide-default": made(35.0),
    }
    networks["ultralytics-onnx"] = {"error": "it ended with 1: RuntimeError"}
    networks["guide-conv"] = made(0.3)
    measured = {
        "rounds": 7,
        "cores": 2,
        "figures": {START: times(1.0), OURS: times(2.5), "guide-default": times(4.0)},
    }
    page = report.page({CASE: (networks, measured)})
    lines = page.splitlines()
    assert any("**35.00** (34.00 to 36.00)" in line and "4.00x (3.90 to 4.10)" in line for line in lines)
    assert any("`static`, of 9" in line and "2.50x" in line and "12 (61 s)" in line for line in lines)
    assert any(line.startswith("- Ultralytics") and "RuntimeError" in line for line in lines)
    assert any(line.startswith("- NNCF") and "mixed preset: not made here yet" in line for line in lines)
    assert any(
        "not timed yet: ONNX Runtime's guide" in line and "convolutions only" in line for line in lines
    )
    ours = "2.50x (2.40 to 2.60)"
    # Of a tenth of a second end to end, the network is a fortieth.
    assert f"| yolov5n | 2x | {ours} | {ours} | 1.33x | 0.20 | none |" in page
    assert "*tool 1.2.*" in page


def test_a_page_without_times_has_its_accuracy() -> None:
    page = report.page(
        {CASE: ({START: made(0.0), OURS: {**made(0.2), "chosen": "static", "tried": 9, "seconds": 61.0}}, {})}
    )
    assert "0.20 (-0.80 to 1.20)" in page and "–" in page


def test_the_published_page_is_that_of_the_results() -> None:
    if not report.TARGET.exists():
        pytest.skip("no results are published yet")
    assert report.TARGET.read_text() == report.published()
