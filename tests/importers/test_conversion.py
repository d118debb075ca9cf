"""What `pack` says of a conversion: time, memory, closeness with what is allowed, and classes that agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from modelport.cli.pack import conversion_rows
from modelport.importers.conversion import Conversion
from modelport.importers.pack import pack
from modelport.verify.agreement import agree, best_class
from modelport.verify.replay import verify

from .networks import convnet


def test_a_conversion_is_measured(tmp_path: Path) -> None:
    told: list[Conversion] = []
    onnx.save(convnet(), tmp_path / "net.onnx")
    bundle = pack(tmp_path / "net.onnx", out=tmp_path / "repo", recipe="raw", report=told.append)
    (found,) = told
    assert found.source.startswith("onnxruntime ") and found.format == "onnx"
    assert found.seconds > 0 and found.peak_bytes is not None and found.peak_bytes > 1 << 20
    assert not found.own_process
    assert (
        found.bytes
        == sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file())
        - (bundle.path / "modelport.json").stat().st_size
    )
    golden = bundle.manifest.golden
    assert golden is not None
    assert (found.tolerance, found.cases, found.generated) == (golden.net, 4, True)
    assert found.dtypes == ("float32",)
    assert 0 <= found.max_difference <= found.tolerance.absolute
    assert found.labels_agreeing == found.labels_compared == 4
    report = verify(bundle)
    assert (report.labels_compared, report.labels_agreeing) == (4, 4)
    rows = dict(conversion_rows(found))
    assert "allowed for float32: " in rows["difference"]
    assert rows["same class"] == "4 of 4 made-up inputs"
    assert "MB in this process" in rows["conversion"]


@pytest.mark.parametrize(
    ("answer", "best"),
    [
        ({"scores": np.array([[0.7, 0.3]]), "indices": np.array([[4, 1]])}, 4),
        ({"scores": np.array([[0.7]]), "labels": np.array([["cat"]], object)}, "cat"),
        ({"logits": np.array([[0.1, 3.0, 2.0]], np.float32)}, 1),
        ({"value": np.array([3.5], np.float32)}, None),
        ({"logits": np.array([[0.1]], np.float32)}, None),
        ({"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 3), np.float32)}, None),
        ({"ids": np.array([[1, 2]], np.int64)}, None),
    ],
)
def test_the_class_of_an_answer(answer: dict[str, np.ndarray], best: str | int | None) -> None:
    assert best_class(answer) == best
    assert agree(answer, answer) is (None if best is None else True)


def test_another_class_does_not_agree() -> None:
    want = {"logits": np.array([[0.1, 3.0]], np.float32)}
    assert agree({"logits": np.array([[3.1, 3.0]], np.float32)}, want) is False
    assert agree({}, want) is False
