"""What a benchmark found, as values that JSON holds: `bench.json`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...bundle.manifest import Setting
from ..intervals import Interval
from ..schema import schema_of

SCHEMA = "modelport.bench/1"


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A form of the network on a runtime."""

    runtime: str
    variant: str
    """`packed` for the network as it was packed."""
    settings: dict[str, Setting] = {}

    @property
    def title(self) -> str:
        """For people: `openvino int8`."""
        return f"{self.runtime} {self.variant}"


class Left(msgspec.Struct, frozen=True):
    """What was not measured, and why."""

    what: str
    reason: str


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration."""

    form: int
    """Its place in `Bench.forms`."""
    threads: int
    """Threads that one run of the network may use."""
    batch: int
    """Items of one call."""
    p50_ms: Interval
    """Of one call, from the encoded items to their answers, with nothing else running."""
    p95_ms: Interval
    stages_ms: dict[str, float]
    """The medians of its parts; `pre` includes putting the items together to a batch."""
    calls: int
    throughput: Interval
    """Items a second with `callers` calls at a time, which fill the cores."""
    callers: int
    latency_ratio: Interval | None = None
    """Its latency over that of the first form with the same threads and batch, round by round; None for that
    form itself."""
    throughput_ratio: Interval
    """Its throughput over that of the first configuration, round by round."""
    rounds_ms: tuple[float, ...]
    """The median of every round."""
    rounds_per_second: tuple[float, ...]
    """The throughput of every round."""


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one graph goes: all operators of a type, or one node."""

    type: str
    """As the runtime has it: several of the graph may have become one."""
    name: str = ""
    """Of the node as it runs; empty for a whole type."""
    nodes: tuple[str, ...] = ()
    """The nodes of the graph in the bundle that it does the work of, as far as that can be told."""
    implementation: str = ""
    """What the runtime computes it with, where it says so."""
    calls: float
    """In one call of the whole."""
    ms: float
    """In one call of the whole; the mean."""
    share: float
    """Of all operators of the graph."""


class StageProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one stage goes."""

    stage: Literal["decode", "pre", "net", "post"]
    ms: float
    """Of a call, with the profiler on; the mean."""
    operators_ms: float = 0.0
    """All operators together in one call; threads side by side count once each."""
    types: tuple[Operator, ...] = ()
    nodes: tuple[Operator, ...] = ()
    note: str = ""
    """Why there are no operators."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The operators of one form."""

    form: int
    threads: int
    batch: int
    calls: int
    stages: tuple[StageProfile, ...]


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """A whole benchmark."""

    bundle: str
    version: str
    digest: str
    machine: str
    """The class of machine: see `runtimes.machine`."""
    processor: str
    cores: int
    versions: dict[str, str]
    data: str
    """The name of the data; `golden` for the bundle's own inputs, `generated` for made-up ones."""
    items: int
    forms: tuple[Tried, ...]
    points: tuple[Point, ...]
    """In the order of forms, threads, batch sizes; the first is what the others are compared with."""
    profiles: tuple[Profile, ...] = ()
    left: tuple[Left, ...] = ()
    notes: tuple[str, ...] = ()
    rounds: int
    seed: int
    seconds: float
    interrupted: bool = False
    command: str = ""
    """What repeats it."""

    def fastest(self) -> Point:
        """The point with the most items a second."""
        return max(self.points, key=lambda point: point.throughput.value)

    def soonest(self) -> Point:
        """The point whose call is the shortest, of those with the smallest batch."""
        least = min(point.batch for point in self.points)
        return min((p for p in self.points if p.batch == least), key=lambda point: point.p50_ms.value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's name."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema": SCHEMA, **plain}


def bench_schema() -> dict[str, Any]:
    """The JSON schema of `bench.json`."""
    return schema_of(Bench, SCHEMA, "bench.json of modelport bench")
