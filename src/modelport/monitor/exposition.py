"""The counts in the words of Prometheus: names, units and labels. Knows nothing of who asks for them."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from .._version import __version__
from ..errors import Unsupported
from .declared import COUNTERS, GAUGES, STAGES
from .histogram import Histogram
from .metrics import BatchCount, Metrics, ModelMetrics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import CounterMetricFamily, Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

ROWS = tuple(1 << power for power in range(11))
"""Bounds of the batch sizes, 1 to 1024 rows."""

MODEL = ["model", "version"]


def render(metrics: Metrics, accept: str = "", extra: Iterable[Metric] = ()) -> tuple[bytes, str]:
    """The exposition and its content type, which follows the Accept header `accept`.

    Args:
        extra: families to put behind those of `metrics`, of processes for instance.

    Raises:
        Unsupported: prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
        from prometheus_client.registry import Collector
    except ImportError as problem:
        raise Unsupported(
            "metrics as Prometheus text need `prometheus_client`", hint="pip install prometheus-client"
        ) from problem

    class Everything(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from families(metrics)
            yield from extra

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Everything())
    if wants_openmetrics(accept):
        return generate_openmetrics(registry), OPENMETRICS  # type: ignore[no-untyped-call]
    return generate_latest(registry), TEXT


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header names OpenMetrics 1 at least as gladly as plain text."""
    liked = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for entry in accept.split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        weight, version = 1.0, "1.0.0"
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = _weight(value)
            elif key.strip() == "version":
                version = value.strip('" ')
        if kind == "text/plain" or (kind in liked and version.startswith("1.")):
            liked[kind] = max(liked[kind], weight)
    return 0 < liked["application/openmetrics-text"] >= liked["text/plain"]


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if math.isfinite(weight) else 0.0


def families(metrics: Metrics) -> Iterator[Metric]:
    """Every family, also those without a sample, in one order."""
    models = metrics.models()
    yield from _facts(metrics, models)
    yield from _requests(metrics, models)
    yield from _durations(models)
    yield from _batches(models)
    yield from _declared(models)


def _facts(metrics: Metrics, models: list[ModelMetrics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily

    build = InfoMetricFamily("modelport_build", "Which Modelport this is.")
    build.add_metric([], {"version": __version__, "python": platform.python_version()})
    yield build
    start = GaugeMetricFamily("modelport_start_time_seconds", "When the server started, since 1970.")
    start.add_metric([], metrics.started)
    yield start
    info = InfoMetricFamily("modelport_model", "Facts about a version that is here.", labels=MODEL)
    ready = GaugeMetricFamily("modelport_model_ready", "1 if the version answers, else 0.", labels=MODEL)
    waiting = GaugeMetricFamily("modelport_waiting_rows", "Rows in the queue now.", labels=MODEL)
    executors = GaugeMetricFamily(
        "modelport_executors", "Executors that run the network side by side.", labels=MODEL
    )
    for model in models:
        labels = [model.name, model.version]
        info.add_metric(labels, {k: v for k, v in model.info.items() if k not in MODEL})
        ready.add_metric(labels, float(model.ready and model.executors > 0))
        waiting.add_metric(labels, model.waiting)
        executors.add_metric(labels, model.executors)
    yield from (info, ready, waiting, executors)


def _requests(metrics: Metrics, models: list[ModelMetrics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily

    requests = CounterMetricFamily(
        "modelport_requests", "Requests that came to an end, by outcome.", labels=[*MODEL, "outcome"]
    )
    rows = CounterMetricFamily("modelport_rows", "Rows answered.", labels=MODEL)
    refused = CounterMetricFamily(
        "modelport_refused",
        "Requests refused, by reason; without a model where none was known yet.",
        labels=[*MODEL, "reason"],
    )
    failed = CounterMetricFamily(
        "modelport_failed", "Requests that failed, by whose fault it was.", labels=[*MODEL, "fault"]
    )
    for model in models:
        labels = [model.name, model.version]
        outcomes = {
            "answered": model.request.count(),
            "refused": sum(model.refusals.values()),
            "failed": sum(model.failures.values()),
        }
        for outcome, times in outcomes.items():
            requests.add_metric([*labels, outcome], times)
        rows.add_metric(labels, model.rows)
        _by_label(refused, labels, model.refusals)
        _by_label(failed, labels, model.failures)
    _by_label(refused, ["", ""], metrics.refusals)
    yield from (requests, rows, refused, failed)


def _by_label(family: CounterMetricFamily, labels: list[str], counts: Mapping[str, int]) -> None:
    for label, times in counts.items():
        family.add_metric([*labels, label], times)


def _durations(models: list[ModelMetrics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import HistogramMetricFamily

    whole = HistogramMetricFamily(
        "modelport_request_seconds", "Answered requests, from arrival to answer.", labels=MODEL
    )
    stage = HistogramMetricFamily(
        "modelport_stage_seconds", "Answered requests, by stage.", labels=[*MODEL, "stage"]
    )
    execution = HistogramMetricFamily("modelport_batch_seconds", "Runs of the network.", labels=MODEL)
    for model in models:
        labels = [model.name, model.version]
        whole.add_metric(labels, *_buckets(model.request))
        for name in STAGES:
            stage.add_metric([*labels, name], *_buckets(getattr(model, name)))
        execution.add_metric(labels, *_buckets(model.execution))
    yield from (whole, stage, execution)


def _buckets(of: Histogram) -> tuple[list[tuple[str, float]], float]:
    buckets = [(_le(bound), float(count)) for bound, count in of.cumulative()]
    return [*buckets, ("+Inf", float(of.count()))], of.seconds


def _le(bound: float) -> str:
    # Both formats want the shortest form that still shows a float.
    return repr(float(bound))


def _batches(models: list[ModelMetrics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily("modelport_batch_rows", "Rows that ran together.", labels=MODEL)
    for model in models:
        family.add_metric([model.name, model.version], *_sizes(model.batches))
    yield family


def _sizes(batches: Mapping[int, BatchCount]) -> tuple[list[tuple[str, float]], float]:
    buckets = [(_le(bound), float(sum(b.count for r, b in batches.items() if r <= bound))) for bound in ROWS]
    everything = float(sum(b.count for b in batches.values()))
    return [*buckets, ("+Inf", everything)], float(sum(r * b.count for r, b in batches.items()))


def _declared(models: list[ModelMetrics]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    for name, gauge in GAUGES.items():
        family = GaugeMetricFamily(gauge.metric, gauge.about, labels=MODEL)
        for model in models:
            if name in model.gauges:
                family.add_metric([model.name, model.version], model.gauges[name])
        yield family
    counted = {
        c.metric: CounterMetricFamily(c.metric, c.about, labels=[*MODEL, "result"]) for c in COUNTERS.values()
    }
    for model in models:
        for name, times in model.counters.items():
            counter = COUNTERS[name]
            counted[counter.metric].add_metric([model.name, model.version, counter.result], times)
    yield from counted.values()
