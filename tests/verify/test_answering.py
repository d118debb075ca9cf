"""A version with a variant: the network as packed is verified, and what answers here is asked as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from modelport import plugins
from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.cli.verify import command
from modelport.errors import Unsupported
from modelport.importers.pack import pack
from modelport.runtimes.machine import machine_class
from modelport.tensors import Array
from modelport.verify.detections import same_objects
from modelport.verify.replay import verify

from ..importers.networks import CLASSES, convnet
from .test_replay import changed_weight

LABELS = tuple(f"class {n}" for n in range(CLASSES))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pack(
        convnet(), out=tmp_path_factory.mktemp("repo"), name="classifier", recipe="imagenet", labels=LABELS
    )


def with_variant(bundle: Bundle, folder: Path, **how: Any) -> Bundle:
    """A version whose chosen variant is the network with other weights."""
    ((_, data),) = changed_weight(bundle)[0].items()
    given: dict[str, Any] = {"machine": machine_class(), "chosen": True, **how}
    variant = Variant("other", "net.other.onnx", {}, **given)
    return bundle.derive(folder / "2", {"net.other.onnx": data}, version="2", variants=(variant,))


def test_nothing_is_said_where_the_network_answers_as_packed(bundle: Bundle, tmp_path: Path) -> None:
    assert verify(bundle).answering is None
    assert verify(with_variant(bundle, tmp_path, chosen=False)).answering is None


def test_a_variant_that_answers_here_is_asked_and_does_not_decide(bundle: Bundle, tmp_path: Path) -> None:
    new = with_variant(bundle, tmp_path)
    report = verify(new)
    here = report.answering
    assert report.ok and report.max_difference < 1e-4 and here is not None
    assert (here.variant, here.runtime, here.of, here.same_network) == (
        "other",
        "onnxruntime",
        "cases",
        False,
    )
    assert here.compared == report.cases and here.max_difference > 1e-4
    whole = json.loads(json.dumps(report.to_dict()))
    assert whole["ok"] and whole["answering"]["variant"] == "other"
    ran = CliRunner().invoke(command, [str(new.path)], standalone_mode=False)
    assert ran.return_value == 0
    said = f"variant other answers here, on onnxruntime: {here.agreeing} of {here.compared} golden cases"
    assert said in ran.output and "the exit code are those of the network as it was packed" in ran.output
    assert "answers here" not in CliRunner().invoke(command, [str(bundle.path)]).output


def test_a_variant_that_does_not_run_here_is_named(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = plugins.load

    def load(group: str, name: str) -> Any:
        if name == "openvino":
            raise Unsupported("openvino is not installed", hint="pip install 'modelport[openvino]'")
        return original(group, name)

    monkeypatch.setattr(plugins, "load", load)
    new = with_variant(bundle, tmp_path, runtime="openvino")
    ran = CliRunner().invoke(command, [str(new.path)], standalone_mode=False)
    assert ran.return_value == 0
    assert (
        "variant other, chosen for this machine, does not run here: openvino is not installed" in ran.output
    )
    assert "; the network as it was packed answers\n" in ran.output


def test_a_variant_that_fails_is_said(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = with_variant(bundle, tmp_path)
    here = verify(new).answering
    assert here is not None
    failed = msgspec.structs.replace(here, problem="the network raised", max_difference=float("inf"))
    assert failed.sentence().endswith("it fails: the network raised")
    assert failed.to_dict()["max_difference"] is None


def found(*objects: tuple[float, int, float]) -> dict[str, Array]:
    """One picture's: the left side of a box of 10 x 10, a class, a score."""
    boxes = [[left, 0.0, left + 10, 10.0] for left, _, _ in objects]
    return {
        "boxes": np.array([boxes], np.float32).reshape(1, -1, 4),
        "scores": np.array([[score for _, _, score in objects]], np.float32),
        "classes": np.array([[kind for _, kind, _ in objects]], np.int64),
        "count": np.array([len(objects)], np.int64),
    }


def test_objects_are_the_same_where_class_and_half_of_the_boxes_are() -> None:
    want = found((0, 1, 0.9), (50, 2, 0.8), (90, 3, 0.7))
    both, either, apart = same_objects(found((1, 1, 0.7), (50, 7, 0.8), (98, 3, 0.7)), want)
    assert (both, either) == (1, 5) and apart == pytest.approx(0.2)
    assert same_objects(want, want) == (3, 3, 0.0)
    assert same_objects(found(), want) == (0, 3, 0.0)
    assert same_objects(found((0, 1, 0.9), (0, 1, 0.8)), found((0, 1, 0.9)))[:2] == (1, 2)
