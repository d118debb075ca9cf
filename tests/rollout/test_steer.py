"""Rollouts at work in a server: who is sent where as the plan changes, and the shadow, which fails nobody."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelport.engine.caller import Caller, caller
from modelport.engine.submission import Lane, Result, Run, Submission
from modelport.engine.traffic import Traffic
from modelport.engine.wire import Group, OutHead
from modelport.errors import ModelFailed, NotFound, QueueFull
from modelport.monitor.metrics import ModelMetrics
from modelport.rollout.plan import Canary, Plan, Shadow
from modelport.serve import steer
from modelport.serve.steer import Steering

from .servers import Models

SHADOWED = Plan(model="m", stable="1", shadow=Shadow(version="3"))


class Repository:
    """What steering asks of a repository: its versions, of which none does anything."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def entry(self, name: str, version: str) -> Any:
        if version not in self._models.versions(name):
            raise NotFound(f"model {name!r} has no version {version!r}")
        return SimpleNamespace(model=None)


@pytest.fixture
def steering(models: Models, traffic: Traffic) -> Steering:
    return Steering(Repository(models), traffic)  # type: ignore[arg-type]


def result(values: np.ndarray, seconds: float = 0.01) -> Result:
    """An answer of one output, `y`."""
    head = OutHead("y", "float32", values.shape, values.nbytes)
    run = Run(Group(1, (head,)), memoryview(values.tobytes()), 0, len(values))
    return Result(run, 0, len(values), 0.0, seconds)


def test_who_asks_on_and_on_goes_where_the_plan_sends_it_by_then(
    steering: Steering, traffic: Traffic
) -> None:
    asking = {place: Caller({}, "10.0.0.1", place=place) for place in (0.05, 0.3, 0.9)}

    def answering(weight: float) -> list[str | None]:
        canary = Canary(version="2", weight=weight, header="X-Canary", value="no")
        traffic.put("m", Plan(model="m", stable="1", canary=canary), now=1.0)
        return answered()

    def answered() -> list[str | None]:
        found = []
        for each in asking.values():
            caller.set(each)
            each.chosen = None  # as with the next picture of a session
            found.append(steering.choose("m"))
            assert steering.choose("m") == found[-1]
        return found

    assert [answering(weight) for weight in (0.1, 0.1, 0.5, 1.0, 0.1)] == [
        ["2", "1", "1"],
        ["2", "1", "1"],
        ["2", "2", "1"],
        ["2", "2", "2"],
        ["2", "1", "1"],
    ]
    traffic.rollback("m", now=2.0)
    assert answered() == ["1", "1", "1"]


def test_a_shadow_that_left_meanwhile_is_not_asked(
    steering: Steering, traffic: Traffic, models: Models
) -> None:
    traffic.put("m", SHADOWED, now=1.0)
    asking = Caller({}, "10.0.0.1")
    caller.set(asking)
    assert steering.choose("m") == "1" and asking.chosen == {"m": ("1", "3")}
    models.models["m"].remove("3")
    model: Any = SimpleNamespace(name="m", version="1")
    submission = Submission(Lane("encoded", (), None), 1, [b""], print, 0.0, 1.0)  # type: ignore[arg-type]
    steering.mirror(submission, model)
    assert submission.watch is not None
    submission.watch(result(np.zeros((1, 3), np.float32)))
    assert [(row.version, row.requests) for row in traffic.report("m").seen] == [("1", 1), ("3", 0)]


def test_what_a_shadow_was_asked_is_told_apart_from_what_callers_got(
    steering: Steering, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.put("m", SHADOWED, now=1.0)
    metrics = ModelMetrics("m", "3")
    asked: list[Submission] = []

    def submit(lane: Lane, rows: int, data: list[bytes], done: Any, **more: Any) -> Submission:
        asked.append(Submission(lane, rows, data, done, 0.0, 9.0))
        if len(asked) == 3:
            asked[-1].settle(QueueFull("no"))
        return asked[-1]

    manifest = SimpleNamespace(options=())
    lane = Lane("encoded", (), None)  # type: ignore[arg-type]
    shadow: Any = SimpleNamespace(
        metrics=metrics, lane=lambda *_: lane, submit=submit, bundle=SimpleNamespace(manifest=manifest)
    )
    repository = SimpleNamespace(entry=lambda *_: SimpleNamespace(model=shadow))
    monkeypatch.setattr(steering, "_repository", repository)
    model: Any = SimpleNamespace(name="m", version="1")
    for _ in range(3):
        caller.set(Caller({}, "10.0.0.1"))
        steering.choose("m")
        steering.mirror(Submission(lane, 1, [b""], print, 0.0, 1.0), model)
    asked[0].settle(result(np.zeros((1, 3), np.float32)))
    asked[1].settle(ModelFailed("it raised"))
    assert (metrics.shadow.count(), metrics.shadow_unmet) == (1, 2)


async def test_large_answers_are_compared_beside_the_loop(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.put("m", SHADOWED, now=1.0)
    threads: list[threading.Thread] = []

    def compare(*answers: Any) -> Any:
        threads.append(threading.current_thread())
        return compared(*answers)

    compared = steer.compare
    monkeypatch.setattr(steer, "compare", compare)
    small, large = np.eye(1, 3, dtype=np.float32), np.eye(1, 100_000, dtype=np.float32)
    for number, values in enumerate((small, large), 1):
        pair = steer._Pair(traffic, "m")
        pair.first(result(values))
        pair.second(result(values * 2))
        async with asyncio.timeout(20):
            while (shadow := traffic.report("m").seen[1]).requests < number:
                await asyncio.sleep(0.01)
        assert shadow.agreement == 1.0
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
