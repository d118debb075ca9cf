"""What is tried before a model answers: one row, the batch that was measured, then the other sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.engine.executor import _load
from modelport.engine.trial import _sizes, trial_costs
from modelport.engine.wire import Spec
from modelport.runtimes.machine import machine_class
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import Array, Tensors

from ..colours import pack_colours


def test_the_batch_that_was_measured_is_tried_right_after_one_row(tmp_path: Path) -> None:
    start = Bundle.open(pack_colours(tmp_path))
    variant = Variant(
        "other",
        start.manifest.graphs.net.file,
        {"figures": {"batch": 16}},
        machine=machine_class(),
        chosen=True,
        settings={"arena": False},
    )
    optimized = start.derive(tmp_path / "optimized", {}, version="2", variants=(variant,))
    for bundle, expected in ((start, [1, 2, 4]), (optimized, [1, 16, 2, 4])):
        with Pipeline.open(bundle) as pipeline:
            found = [rows for rows, _ in trial_costs(pipeline, 16, seconds=60.0)]
            assert found[: len(expected)] == expected and sorted(found) == [1, 2, 4, 8, 16]
            assert [rows for rows, _ in trial_costs(pipeline, 16, seconds=0.0)] == [1]


def test_no_request_pays_for_the_first_run_of_either_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Pipeline] = []
    net = Pipeline.net

    def seen(self: Pipeline, batch: Tensors) -> dict[str, Array]:
        ran.append(self)
        return net(self, batch)

    monkeypatch.setattr(Pipeline, "net", seen)
    place = pack_colours(tmp_path) / "colours" / "1"
    digest = Bundle.open(place).digest
    for check in (True, False):
        ran.clear()
        spec = Spec(str(place), 0, 0, 0, digest, wide=2, check=check)
        executor, _ = _load(spec, memoryview(b""))  # type: ignore[misc]
        assert executor._wide is not executor._pipeline
        assert {id(pipeline) for pipeline in ran} == {id(executor._wide), id(executor._pipeline)}


def test_no_size_is_tried_that_is_not_allowed() -> None:
    assert _sizes(64, 16) == [1, 16, 2, 4, 8, 32, 64]
    assert _sizes(8, 16) == [1, 2, 4, 8] and _sizes(1, 4) == [1] and _sizes(4, 0) == [1, 2, 4]


@pytest.mark.parametrize("figures", [{}, {"figures": None}, {"figures": {"batch": "4"}}, {"figures": {}}])
def test_figures_are_free(figures: dict[str, Any]) -> None:
    assert Variant("some", "net.onnx", figures).batch == 0
