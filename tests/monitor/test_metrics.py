"""What is counted comes out again: in the histograms, merged from several processes, and in the snapshot."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import UsageError
from modelport.monitor.declared import COUNTERS, GAUGES, REASONS, STAGES
from modelport.monitor.histogram import BOUNDS, EXPOSED, Histogram, quantile
from modelport.monitor.metrics import KEPT, MAX_SIZES, Metrics, ModelMetrics

SECONDS = st.floats(0, 1000, allow_nan=False)


def busy(metrics: Metrics, seed: int = 0, version: str = "1") -> ModelMetrics:
    """Counts of every kind for one version."""
    rng = random.Random(seed)
    model = metrics.model("digits", version)
    model.ready, model.executors, model.waiting = True, 2, 5
    model.info = {"digest": "abc", "task": "image-classification"}
    for _ in range(50):
        stages = {stage: rng.expovariate(2000) for stage in STAGES}
        model.answered(sum(stages.values()), **stages, rows=2)
    for rows in (1, 8, 8, 32):
        model.batch(rows, rows * 1e-4)
    model.refused("deadline")
    model.refused("queue_full")
    model.failed("model", 0.25)
    model.golden(True, 1e-6 * (seed + 1))
    model.gauge("canary_weight", 0.1)
    model.gauge("shadow_agreement", 0.99 - seed / 100)
    model.count("shadow_agreed", 7)
    return model


def test_the_exposed_bounds_are_some_of_the_bounds_and_all_are_sorted() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS)) and BOUNDS[0] == 1e-5 and BOUNDS[-1] == 100
    assert set(EXPOSED) <= set(BOUNDS) and list(EXPOSED) == sorted(EXPOSED)
    assert all(high / low < 1.281 for low, high in pairwise(BOUNDS))


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_the_exposed_counts_are_those_of_counting_by_hand(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    by_hand = [(bound, sum(d <= bound for d in durations)) for bound in EXPOSED]
    assert histogram.cumulative() == by_hand
    assert histogram.count() == len(durations)
    assert histogram.seconds == pytest.approx(sum(durations))


@given(st.lists(st.floats(2e-5, 90), min_size=1, max_size=200), st.floats(0.01, 1))
def test_an_estimated_percentile_is_in_the_bucket_of_the_true_one(
    durations: list[float], share: float
) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    # The smallest duration that at least `share` of all are no longer than.
    true = next(d for d in sorted(durations) if sum(x <= d for x in durations) >= share * len(durations))
    bucket = bisect_left(BOUNDS, true)
    assert BOUNDS[bucket - 1] <= histogram.quantile(share) <= BOUNDS[bucket]


def test_percentiles_of_nothing_and_of_what_is_off_the_scale() -> None:
    assert quantile([0] * (len(BOUNDS) + 1), 0.5) == 0
    histogram = Histogram()
    histogram.observe(1e9)
    assert histogram.quantile(0.5) == BOUNDS[-1]


def test_a_stage_that_did_not_happen_is_not_counted() -> None:
    model = Metrics().model("digits", "1")
    model.answered(0.002, queue=0.0015, net=0.0005)
    counts = {stage: getattr(model, stage).count() for stage in STAGES}
    assert counts == {"decode": 0, "queue": 1, "pre": 0, "net": 1, "post": 0}
    assert model.request.count() == 1 and model.rows == 1


def test_requests_that_ran_together_count_as_each_by_itself() -> None:
    metrics = Metrics()
    alone, together = metrics.model("alone", "1"), metrics.model("together", "1")
    queued = (0.001, 0.002, 0.0031)
    for queue in queued:
        alone.answered(queue + 0.005, decode=0.0005, queue=queue, net=0.004, post=0.0001, rows=2)
        together.took(queue + 0.005, queue, 2)
    together.ran(len(queued), 0.0005, 0.0, 0.004, 0.0001)
    for stage in ("request", *STAGES):
        one, other = getattr(alone, stage), getattr(together, stage)
        assert one.counts == other.counts and one.seconds == pytest.approx(other.seconds), stage
    assert alone.rows == together.rows == 6


def test_one_version_has_one_object_until_it_is_forgotten() -> None:
    metrics = Metrics()
    first = metrics.model("digits", "1")
    assert metrics.model("digits", "1") is first
    metrics.forget("digits", "1")
    metrics.forget("digits", "1")
    first.answered(0.1)  # a request that was still under way
    assert metrics.models() == [] and b"digits" not in metrics.render()


def test_words_that_are_not_declared_become_no_label() -> None:
    model = Metrics().model("digits", "1")
    model.refused('evil"} 1\n')
    model.failed("evil")
    assert model.refusals["other"] == 1 and set(model.refusals) == set(REASONS)
    assert model.failures == {"model": 0, "internal": 1}
    with pytest.raises(UsageError, match="did you mean 'canary_weight'"):
        model.gauge("canary_wait", 1)
    with pytest.raises(UsageError, match="no counter"):
        model.count("evil")


def test_batch_sizes_told_apart_are_bounded() -> None:
    model = Metrics().model("digits", "1")
    for rows in range(1, 3000):
        model.batch(rows, 1e-3)
    assert len(model.batches) <= MAX_SIZES + 12
    assert sum(size.count for size in model.batches.values()) == 2999 == model.execution.count()


@pytest.mark.parametrize("code", [msgspec.json, msgspec.msgpack, json], ids=["json", "msgpack", "stdlib"])
def test_a_dump_survives_encoding(code: object) -> None:
    metrics = Metrics()
    busy(metrics)
    metrics.refused("unauthorized")
    if code is json:
        dump = json.loads(json.dumps(metrics.dump()))
    else:
        dump = code.decode(code.encode(metrics.dump()))  # type: ignore[attr-defined]
    again = Metrics.merge([dump])
    assert again.dump() == metrics.dump() and again.render() == metrics.render()


def test_several_processes_count_as_one() -> None:
    parts = [Metrics(), Metrics(), Metrics()]
    for seed, part in enumerate(parts[:2]):
        busy(part, seed)
        part.refused("rate_limited")
    busy(parts[2], 2, version="2")
    merged = Metrics.merge([part.dump() for part in parts])
    one, two = merged.models()
    first, second = (part.models()[0] for part in parts[:2])
    assert (one.version, two.version) == ("1", "2")
    assert one.request.counts == [
        a + b for a, b in zip(first.request.counts, second.request.counts, strict=True)
    ]
    assert one.queue.seconds == first.queue.seconds + second.queue.seconds
    assert {rows: size.count for rows, size in one.batches.items()} == {1: 2, 8: 4, 32: 2}
    assert one.refusals["deadline"] == 2 and one.failures["model"] == 2 and one.failed_seconds == 0.5
    assert one.rows == 200 and one.waiting == 10 and one.executors == 4 and one.ready
    assert one.counters == {"shadow_agreed": 14, "golden_ok": 2}
    assert one.gauges["canary_weight"] == 0.1 and one.gauges["shadow_agreement"] == pytest.approx(0.985)
    assert one.gauges["golden_replay_difference"] == 2e-6
    assert merged.refusals["rate_limited"] == 2
    assert merged.started == min(part.started for part in parts)
    assert Metrics.merge([]).models() == []


def test_the_agreement_of_several_processes_is_that_of_all_their_requests() -> None:
    parts = []
    for agreed, compared in ((8, 10), (40, 44), (0, 0)):
        part = Metrics()
        parts.append(part)
        model = part.model("m", "1")
        model.count("shadow_agreed", agreed)
        model.count("shadow_differed", compared - agreed)
        if compared:
            model.gauge("shadow_agreement", agreed / compared, compared)
    for order in (parts, parts[::-1]):
        (model,) = Metrics.merge([part.dump() for part in order]).models()
        assert model.gauges["shadow_agreement"] == pytest.approx(48 / 54)
        assert model.counters == {"shadow_agreed": 48, "shadow_differed": 6}


def test_merging_does_not_change_what_was_merged() -> None:
    metrics = Metrics()
    busy(metrics)
    before = metrics.dump()
    copy = metrics.copy()
    copy.model("digits", "1").answered(1.0)
    Metrics.merge([before, before])
    assert metrics.dump() == before


def test_a_foreign_dump_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        Metrics.merge([{"started": "yesterday", "refusals": {}, "models": []}])


def test_a_version_that_one_process_has_not_loaded_is_not_ready() -> None:
    parts = [Metrics(), Metrics()]
    busy(parts[0])
    busy(parts[1]).ready = False
    assert not Metrics.merge([part.dump() for part in parts]).models()[0].ready


def test_the_snapshot_says_the_same() -> None:
    metrics = Metrics()
    model = busy(metrics)
    metrics.refused("unauthorized")
    snapshot = metrics.snapshot()
    version = snapshot.model("digits", "1")
    assert version is not None and snapshot.model("digits", "2") is None
    assert snapshot.refused == {"unauthorized": 1}
    assert version.requests == 53 and version.answered == 50 and version.rows == 100
    assert version.refused == {"queue_full": 1, "deadline": 1} and version.failed == {"model": 1}
    assert [(size.rows, size.count) for size in version.batches] == [(1, 1), (8, 2), (32, 1)]
    assert 0 < version.latency.p50 <= version.latency.p90 <= version.latency.p99
    assert (
        version.latency.counts == model.request.counts and version.latency.counts is not model.request.counts
    )
    assert version.executions == 4 and version.executors == 2 and version.waiting == 5
    msgspec.json.encode(snapshot)


def test_the_statistics_are_what_the_protocol_asks_for() -> None:
    metrics = Metrics()
    model = metrics.model("digits", "1")
    model.answered(0.010, decode=0.001, queue=0.002, pre=0.003, net=0.0035, post=0.0005, rows=4)
    model.batch(4, 0.0035)
    model.failed("model", 0.5)
    version = metrics.snapshot().model("digits", "1")
    assert version is not None
    got = version.statistics()
    assert got["last_inference"] > 1_600_000_000_000
    assert {key: got[key] for key in ("inference_count", "execution_count")} == {
        "inference_count": 4,
        "execution_count": 1,
    }
    assert got["inference_stats"] == {
        "success": {"count": 1, "ns": 10_000_000},
        "fail": {"count": 1, "ns": 500_000_000},
        "queue": {"count": 1, "ns": 2_000_000},
        "compute_input": {"count": 1, "ns": 4_000_000},
        "compute_infer": {"count": 1, "ns": 3_500_000},
        "compute_output": {"count": 1, "ns": 500_000},
        "cache_hit": {"count": 0, "ns": 0},
        "cache_miss": {"count": 0, "ns": 0},
    }
    assert got["batch_stats"][0]["batch_size"] == 4
    assert got["batch_stats"][0]["compute_infer"] == {"count": 1, "ns": 3_500_000}


def test_every_declared_name_can_be_set() -> None:
    model = Metrics().model("digits", "1")
    for name in GAUGES:
        model.gauge(name, 1)
    for name in COUNTERS:
        model.count(name)
    assert set(model.gauges) == set(GAUGES) and set(model.counters) == set(COUNTERS)


def test_a_process_goes_on_from_one_that_ended() -> None:
    old = Metrics()
    gone = old.model("m", "1")
    gone.answered(0.1)
    gone.ready, gone.executors, gone.waiting = True, 2, 3
    gone.gauge("golden_replay_ok", 1)
    old.model("unloaded", "1").answered(0.1)
    old.refused("invalid")
    new, other = Metrics(), Metrics()
    other.model("m", "1").ready = True
    old.started = new.started - 60
    new.go_on(old.dump())
    assert new.started == old.started, "counts go on, and so does the time"
    for merged in (Metrics.merge([other.dump()], [old.dump()]), Metrics.merge([other.dump(), new.dump()])):
        (found,) = merged.models()
        assert (found.name, found.request.count(), found.ready) == ("m", 1, True)
        assert (found.executors, found.waiting, found.gauges) == (0, 0, {})
        assert merged.refusals["invalid"] == 1
    again = new.model("m", "1")
    assert again.request.count() == 1 and not again.ready, "it loads"
    third = Metrics()
    third.go_on(new.dump())
    assert third.model("m", "1").request.count() == third.model("unloaded", "1").request.count() == 1
    third.forget("m", "1")
    assert third.model("m", "1").request.count() == 0


def test_a_version_that_one_process_let_go_of_before_the_others_counts_on() -> None:
    """Else a counter would fall in the midst of a swap."""
    first, second = Metrics(), Metrics()
    first.keeps = True
    for process in (first, second):
        process.model("m", "1").answered(0.1)
    first.forget("m", "1")
    (found,) = Metrics.merge([first.dump(), second.dump()]).models()
    assert (found.version, found.request.count()) == ("1", 2)
    second.forget("m", "1")
    assert not Metrics.merge([first.dump(), second.dump()]).models(), "nobody has it: its series end"
    for number in range(2 * KEPT):
        first.model("m", str(number)).answered(0.1)
        first.forget("m", str(number))
    assert len(first.dump()["before"]) == KEPT
