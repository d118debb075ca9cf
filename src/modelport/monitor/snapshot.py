"""The counts as people and the statistics of the Open Inference Protocol want them. Reads only."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from .declared import STAGES
from .histogram import Histogram
from .metrics import Metrics, ModelMetrics


class Durations(msgspec.Struct, frozen=True):
    """Durations since the version was loaded: how many, their sum and percentiles, in seconds."""

    count: int
    seconds: float
    p50: float
    p90: float
    p99: float
    counts: list[int]
    """By bucket of `histogram.BOUNDS`: the difference of two of these is what happened in between."""


class BatchSize(msgspec.Struct, frozen=True):
    """Executions of one batch size."""

    rows: int
    count: int
    seconds: float


class ModelSnapshot(msgspec.Struct, frozen=True):
    """One version, since it was loaded."""

    name: str
    version: str
    ready: bool
    requests: int
    """All that came to an end: answered, refused or failed."""
    answered: int
    refused: dict[str, int]
    failed: dict[str, int]
    failed_seconds: float
    rows: int
    executions: int
    latency: Durations
    stages: dict[str, Durations]
    batches: list[BatchSize]
    shadow: list[int]
    """Those of `latency.counts` whose answers no caller saw: asked as a shadow."""
    shadow_unmet: int
    """Of `refused` and `failed` those that were asked as a shadow."""
    waiting: int
    executors: int
    gauges: dict[str, float]
    counters: dict[str, int]
    last_inference: int
    """Milliseconds since 1970, 0 before the first."""

    def statistics(self) -> dict[str, Any]:
        """The entry of `model_stats` that the Open Inference Protocol's statistics extension has for it."""
        stages = self.stages
        succeeded = self.answered
        return {
            "name": self.name,
            "version": self.version,
            "last_inference": self.last_inference,
            "inference_count": self.rows,
            "execution_count": self.executions,
            "inference_stats": {
                "success": _spent(succeeded, self.latency.seconds),
                "fail": _spent(sum(self.failed.values()), self.failed_seconds),
                "queue": _spent(succeeded, stages["queue"].seconds),
                "compute_input": _spent(succeeded, stages["decode"].seconds + stages["pre"].seconds),
                "compute_infer": _spent(succeeded, stages["net"].seconds),
                "compute_output": _spent(succeeded, stages["post"].seconds),
                "cache_hit": _spent(0, 0.0),
                "cache_miss": _spent(0, 0.0),
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": size.rows,
                    "compute_input": _spent(size.count, 0.0),
                    "compute_infer": _spent(size.count, size.seconds),
                    "compute_output": _spent(size.count, 0.0),
                }
                for size in self.batches
            ],
            "memory_usage": [],
        }


class Snapshot(msgspec.Struct, frozen=True):
    """Everything at one moment."""

    time: float
    """Seconds since 1970."""
    started: float
    refused: dict[str, int]
    """Requests that were refused before it was known which model they are for."""
    models: list[ModelSnapshot]

    def model(self, name: str, version: str) -> ModelSnapshot | None:
        """One version's, or None where it is not loaded."""
        found = (m for m in self.models if (m.name, m.version) == (name, version))
        return next(found, None)


def take(metrics: Metrics) -> Snapshot:
    """A snapshot of `metrics`."""
    refused = {reason: times for reason, times in metrics.refusals.items() if times}
    return Snapshot(time.time(), metrics.started, refused, [of_model(m) for m in metrics.models()])


def of_model(model: ModelMetrics) -> ModelSnapshot:
    """A snapshot of one version."""
    latency = _durations(model.request)
    refused = {reason: times for reason, times in model.refusals.items() if times}
    failed = {reason: times for reason, times in model.failures.items() if times}
    return ModelSnapshot(
        name=model.name,
        version=model.version,
        ready=model.ready and model.executors > 0,
        requests=latency.count + sum(refused.values()) + sum(failed.values()),
        answered=latency.count,
        refused=refused,
        failed=failed,
        failed_seconds=model.failed_seconds,
        rows=model.rows,
        executions=model.execution.count(),
        latency=latency,
        stages={stage: _durations(getattr(model, stage)) for stage in STAGES},
        batches=[BatchSize(rows, b.count, b.seconds) for rows, b in sorted(model.batches.items())],
        shadow=list(model.shadow.counts),
        shadow_unmet=model.shadow_unmet,
        waiting=model.waiting,
        executors=model.executors,
        gauges=dict(model.gauges),
        counters=dict(model.counters),
        last_inference=round(model.last * 1000),
    )


def _durations(of: Histogram) -> Durations:
    return Durations(
        of.count(), of.seconds, of.quantile(0.5), of.quantile(0.9), of.quantile(0.99), list(of.counts)
    )


def _spent(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
