"""What a request is told that cannot be in time, and a model that never can."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from modelport.engine.admission import Tries, refusal, warning
from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.errors import DeadlineExceeded, QueueFull

from ..colours import pack_colours


def test_a_model_slower_than_its_deadline_is_named() -> None:
    costs = [(1, 0.08), (1, 0.06), (2, 0.2)]
    assert "60 ms in the network alone" in warning(costs, 0.05)
    assert "due in 50 ms" in warning(costs, 0.05)


@pytest.mark.parametrize(
    ("costs", "slo"), [([(1, 0.04)], 0.05), ([(1, 0.06)], 0.0), ([(2, 0.2)], 0.05), ([], 0.05)]
)
def test_nothing_is_said_of_one_that_is_in_time_or_not_known(
    costs: list[tuple[int, float]], slo: float
) -> None:
    assert warning(costs, slo) == ""


async def test_the_log_names_it_when_it_has_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repo = pack_colours(tmp_path)
    for slo, expected in ((1e-9, 1), (60.0, 0)):
        caplog.clear()
        repository = Repository(repo, EngineSettings(executors=1, wide=False, slo=slo))
        with caplog.at_level(logging.WARNING, "modelport.engine"):
            await repository.open()
            await repository.close()
        said = [each.getMessage() for each in caplog.records if "most will be refused" in each.getMessage()]
        assert len(said) == expected and all("model colours version 1:" in line for line in said)


def test_who_is_late_by_itself_and_who_for_others_are_told_apart() -> None:
    reason, problem = refusal(now=10.0, deadline=10.05, until=0.06, before=0.0)
    assert reason == "too_slow" and isinstance(problem, QueueFull) and "60 ms by itself" in str(problem)
    reason, problem = refusal(now=10.0, deadline=10.05, until=0.06, before=0.04)
    assert reason == "overload" and isinstance(problem, QueueFull) and problem.retry_after == 0.05
    reason, problem = refusal(now=10.0, deadline=9.9, until=0.06, before=0.0)
    assert reason == "deadline" and isinstance(problem, DeadlineExceeded)


def test_one_that_seems_too_late_is_tried_now_and_then() -> None:
    tries = Tries()
    assert tries.due(0.0, deadline=1.0, estimate=2.0)
    assert not tries.due(9.9, deadline=10.9, estimate=2.0)
    assert not tries.due(10.1, deadline=10.0, estimate=2.0), "nobody waits for it any more"
    assert tries.due(10.1, deadline=10.9, estimate=2.0)


def test_one_that_could_not_be_in_time_whatever_it_takes_is_not_tried() -> None:
    assert not Tries().due(0.0, deadline=0.001, estimate=2.0)
    assert Tries().due(0.0, deadline=0.1, estimate=2.0)
