"""The words that may become a label or a gauge. Nothing that a caller sent is ever among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

STAGES = ("decode", "queue", "pre", "net", "post")
"""Where a request's time goes, in the order in which it goes there."""

REASONS = (
    "queue_full",
    "overload",
    "too_slow",
    "deadline",
    "cancelled",
    "stopping",
    "invalid",
    "not_found",
    "too_large",
    "unsupported",
    "unavailable",
    "rate_limited",
    "unauthorized",
    "host",
    "origin",
    "timeout",
    "other",
)
"""Why a request was refused; a reason that is not here is counted as `other`."""

FAULTS = ("model", "internal")
"""Whose fault a failure is: the network raised, or a bug here."""

Merge = Callable[[Iterable[float]], float]


class Gauge(msgspec.Struct, frozen=True):
    """A figure that someone sets: its name, what it says, and what several processes' make together.

    Where `merge` is None that is their mean, each by its weight.
    """

    metric: str
    about: str
    merge: Merge | None = max


GAUGES: dict[str, Gauge] = {
    "canary_weight": Gauge(
        "modelport_canary_weight_ratio", "Share of the traffic that this version is to get, 0 to 1."
    ),
    "shadow_agreement": Gauge(
        "modelport_shadow_agreement_ratio",
        "Share of the shadowed requests to which this version gave the same label as the live one.",
        None,
    ),
    "shadow_max_difference": Gauge(
        "modelport_shadow_max_difference",
        "Largest difference between a number of this version's answers and of the live one's.",
    ),
    "shadow_latency": Gauge(
        "modelport_shadow_latency_seconds", "Typical latency of this version on shadowed requests."
    ),
    "golden_replay_ok": Gauge(
        "modelport_golden_replay_ok",
        "1 if the golden cases gave the recorded answers last time, or 0.",
        min,
    ),
    "golden_replay_difference": Gauge(
        "modelport_golden_replay_difference",
        "Largest difference between a golden case's answer and the recorded one, last time.",
    ),
    "golden_replay_time": Gauge(
        "modelport_golden_replay_timestamp_seconds", "When the golden cases were last replayed."
    ),
}
"""What `ModelMetrics.gauge` takes."""


class Counter(msgspec.Struct, frozen=True):
    """A figure that someone counts up: its exposed name without `_total`, what it says, and its result."""

    metric: str
    about: str
    result: str


COUNTERS: dict[str, Counter] = {
    "shadow_agreed": Counter("modelport_shadow_compared", "Shadowed requests, by comparison.", "agreed"),
    "shadow_differed": Counter("modelport_shadow_compared", "Shadowed requests, by comparison.", "differed"),
    "shadow_failed": Counter("modelport_shadow_compared", "Shadowed requests, by comparison.", "failed"),
    "shadow_dropped": Counter("modelport_shadow_compared", "Shadowed requests, by comparison.", "dropped"),
    "golden_ok": Counter("modelport_golden_replays", "Replays of the golden cases, by result.", "ok"),
    "golden_failed": Counter("modelport_golden_replays", "Replays of the golden cases, by result.", "failed"),
}
"""What `ModelMetrics.count` takes; those with one name differ in the label `result`."""
