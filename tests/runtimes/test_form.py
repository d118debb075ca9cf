"""Which form of a network runs, on what: the chosen variant's runtime and settings, or what a caller says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.errors import UsageError
from modelport.importers.pack import pack
from modelport.runtimes.form import form_of
from modelport.runtimes.onnxruntime import SETTINGS, OnnxRuntime, session_options
from modelport.runtimes.pipeline import Pipeline
from modelport.runtimes.session import check_settings


def times(factor: float) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("form")
    onnx.save(onnx.load_model_from_string(times(2)), place / "times.onnx")
    return pack(place / "times.onnx", out=place / "repo")


def with_variants(bundle: Bundle, place: Path, *variants: Variant) -> Bundle:
    return bundle.derive(place, {"other.onnx": times(3)}, version="2", variants=variants)


def answer(bundle: Bundle, **how: Any) -> float:
    with Pipeline.open(bundle, **how) as pipeline:
        return float(pipeline.net({"x": np.ones((1, 3), np.float32)})["y"][0, 0])


def test_the_chosen_variant_brings_its_runtime_and_settings(plain: Bundle, tmp_path: Path) -> None:
    chosen = Variant("other", "other.onnx", chosen=True, settings={"arena": False, "threads": 1})
    bundle = with_variants(plain, tmp_path / "b", chosen, Variant("same", plain.manifest.graphs.net.file))
    form = form_of(bundle)
    assert (form.variant, form.runtime, form.settings) == ("other", "onnxruntime", chosen.settings)
    assert answer(bundle) == 3
    assert answer(bundle, variant="") == 2
    assert answer(bundle, variant="same") == 2
    # What the caller sets stands in place of what the variant has, not beside it.
    assert form_of(bundle, settings={"spinning": False}).settings == {"spinning": False}
    # With --trust functions may run, and there are none: nothing else changes.
    assert form_of(bundle, runtime="python") == form


def test_another_runtime_takes_what_was_not_made_for_it_as_packed(plain: Bundle, tmp_path: Path) -> None:
    bundle = with_variants(plain, tmp_path / "b", Variant("other", "other.onnx", chosen=True))
    form = form_of(bundle, runtime="openvino")
    assert (form.variant, form.runtime) == ("", "openvino")
    named = form_of(bundle, "other", "openvino")
    assert (named.variant, named.file, named.runtime) == ("other", "other.onnx", "openvino")


def test_a_runtime_that_is_not_here_is_passed_over_and_said_once(
    plain: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = with_variants(
        plain,
        tmp_path / "b",
        Variant("steam", "other.onnx", chosen=True, runtime="steam"),
        Variant("odd", "other.onnx", chosen=True, settings={"pressure": 3}),
    )
    with caplog.at_level(logging.WARNING, "modelport.runtimes"):
        assert [answer(bundle) for _ in range(2)] == [2, 2]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "runs without its variant steam here: no runtime named 'steam'" in said[0]
    assert "variant odd here: the runtime onnxruntime has no setting 'pressure'" in said[1]
    third = bundle.derive(
        tmp_path / "c",
        {},
        version="3",
        variants=(*bundle.manifest.variants, Variant("last", "other.onnx", chosen=True)),
    )
    assert answer(third) == 3  # the first of the chosen that runs


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spining": True}, "no setting 'spining'"),
        ({"spinning": 1}, "expected one of false, true"),
        ({"threads": 0}, "expected a whole number of at least 1"),
        ({"threads": True}, "expected a whole number"),
        ({"optimization": "most"}, "expected one of none, basic, extended"),
    ],
)
def test_settings_that_a_runtime_does_not_have_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_settings("onnxruntime", settings, SETTINGS)
    with pytest.raises(UsageError, match=said):
        OnnxRuntime().open(times(2), settings=settings)


def test_settings_reach_onnxruntime() -> None:
    options = session_options(
        4,
        {
            "threads": 2,
            "spinning": False,
            "arena": False,
            "execution": "parallel",
            "optimization": "basic",
            "denormals": False,
        },
    )
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert options.enable_cpu_mem_arena is False
    assert options.execution_mode.name == "ORT_PARALLEL"
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert session_options(1).intra_op_num_threads == 1


def test_the_network_as_packed_has_a_name(plain: Bundle, tmp_path: Path) -> None:
    bundle = with_variants(plain, tmp_path / "2", Variant("thrice", "other.onnx", chosen=True))
    assert answer(bundle) == 3
    assert answer(bundle, variant="packed") == 2
