"""OpenVINO in bfloat16 is a candidate of its own: asked for where the processor has it, judged, measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelport.bundle.store import Bundle
from modelport.optimize.candidate import START, Candidate, opened
from modelport.optimize.clock import silent
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.plan import Plan
from modelport.optimize.search import Search
from modelport.optimize.ways import refused, ways
from modelport.runtimes import openvino as engine

from .test_passes_more import NOTHING

BRAIN = OnRuntime("openvino", {"precision": "bf16"})
PLAIN = OnRuntime("openvino")


class Core:
    """OpenVINO's, of a processor with these kinds of arithmetic."""

    available_devices = ("CPU",)

    def __init__(self, *capabilities: str) -> None:
        self._capabilities = capabilities
        self.compiled: list[dict[str, Any]] = []

    def get_property(self, device: str, name: str) -> tuple[str, ...]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._capabilities

    def read_model(self, model: bytes) -> bytes:
        return model

    def compile_model(self, network: bytes, device: str, config: dict[str, Any]) -> Any:
        self.compiled.append(config)
        return SimpleNamespace(inputs=[], outputs=[SimpleNamespace(names={"logits"})])


def on_processor(monkeypatch: pytest.MonkeyPatch, *capabilities: str) -> Core:
    """From now on OpenVINO is installed, and the processor has these kinds of arithmetic."""
    core = Core(*capabilities)
    monkeypatch.setattr(engine, "_openvino", lambda: (core, "2025.0"))
    return core


def test_where_the_processor_has_it_it_is_a_way_of_its_own(
    start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = on_processor(monkeypatch, "FP32", "BF16", "INT8")
    own = Candidate(START, "as it is", start, ())
    found = [step for step in ways(own) if step.runtime == "openvino"]
    assert found == [PLAIN, BRAIN] and BRAIN.of(own).id == "start-on-openvino-precision-bf16"
    assert [refused(step, own, NOTHING) for step in found] == ["", ""]
    assert [each["INFERENCE_PRECISION_HINT"] for each in core.compiled] == ["f32", "bf16"]


def test_a_network_made_for_openvino_is_tried_in_it_too(
    start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_processor(monkeypatch, "BF16")
    assert list(ways(Candidate("own", "own", start, (), runtime="openvino"))) == [BRAIN]


def test_where_the_processor_has_none_it_is_skipped_with_the_reason(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = on_processor(monkeypatch, "FP32", "INT8")
    search = Search(start, data, None, tmp_path, Plan(gate="estimate"), silent)
    search._looked_at(search.start, [BRAIN])
    (entry,) = search.entries
    assert (entry.id, entry.status) == ("start-on-openvino-precision-bf16", "skipped")
    assert entry.reason == "this processor has no bfloat16 arithmetic; leave precision at f32"
    assert not core.compiled


def test_it_is_judged_on_its_own_answers_and_measured(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    monkeypatch.setattr("modelport.optimize.ways.GAIN", float("inf"))  # as if it were faster at a quick look
    plan = Plan(gate="estimate", margin=2.0)
    search = Search(start, data, data, tmp_path, plan, silent)
    if reason := refused(BRAIN, search.start, search.calibration):
        pytest.skip(reason)
    search._looked_at(search.start, [BRAIN])
    (entry,) = search.entries
    judgement = entry.judgement
    assert entry.status == "kept" and judgement is not None
    assert (judgement.by, judgement.verdict, judgement.items) == ("accuracy", "passes", 24)
    assert "layers run in bfloat16" in entry.explained
    by_id = {each.id: each.figures for each in search._measured()}
    figures = by_id[entry.id]
    assert figures is not None and figures.p50_ms > 0 and figures.throughput > 0
    candidate, item = search.made[entry.id], search.calibration.items[0]
    with opened(candidate) as half, opened(search.start) as whole:
        one, other = (pipeline.answer(pipeline.decode(item))["scores"] for pipeline in (half, whole))
    assert 0 < np.abs(one - other).max() < 0.01
