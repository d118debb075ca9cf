"""What the server says of itself: `/metrics` for Prometheus, and `/dashboard` with the JSON it reads.

Reads `app.state`, and never a word of the request but its Accept header:

    repository   the versions and their states, and what this process counted
    collect      async () -> Metrics, what all worker processes counted; by default this one alone
    processes    Processes, whose memory and processor time is shown; by default this process
    rollout      () -> rollout reports by model, of those that have a plan; by default None
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .._version import __version__
from ..engine.cores import usable_cores
from ..engine.repository import Repository
from ..monitor.exposition import render
from ..monitor.histogram import BOUNDS
from ..monitor.metrics import Metrics, ModelMetrics
from ..monitor.process import Processes, Usage
from ..monitor.snapshot import ModelSnapshot, of_model
from .describe import counted as counted_by_all
from .frame import page


class Version(msgspec.Struct, frozen=True):
    """One version as the dashboard shows it."""

    state: str
    reason: str
    failed: bool
    """Whether it could not be loaded; a version that was let go has a reason as well."""
    answers: bool
    """Whether it is the one that a request without a version means."""
    runs: str
    """Which form of the network answers, and what runs it; empty where none does."""
    figures: ModelSnapshot


class Figures(msgspec.Struct, frozen=True):
    """Everything that the dashboard shows, at one moment; durations in seconds, memory in bytes."""

    time: float
    started: float
    release: str
    cores: int
    bounds: tuple[float, ...]
    """Upper bounds of the buckets in which every version's `figures.latency.counts` are."""
    refused: dict[str, int]
    processes: list[Usage]
    versions: list[Version]
    rollout: Any


async def metrics_text(request: Request) -> Response:
    """GET /metrics: what was counted, as Prometheus text or as OpenMetrics."""
    counted = await counted_by_all(request.app.state)
    extra = list(_processes(request).families())
    accept = ",".join(request.headers.getlist("accept"))
    # A text of many versions takes milliseconds, and answers should not wait for it.
    body, kind = await asyncio.to_thread(render, counted, accept, extra)
    return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-store", "Vary": "Accept"})


async def figures(request: Request) -> Response:
    """GET /api/dashboard: the figures since the start; the page takes differences."""
    counted = await counted_by_all(request.app.state)
    repository: Repository = request.app.state.repository
    rollout: Callable[[], Any] | None = getattr(request.app.state, "rollout", None)
    everything = Figures(
        time=time.time(),
        started=counted.started,
        release=__version__,
        cores=usable_cores(),
        bounds=BOUNDS,
        refused={reason: times for reason, times in counted.refusals.items() if times},
        processes=_processes(request).usage(),
        versions=_versions(repository, counted),
        rollout=rollout() if rollout else None,
    )
    body = await asyncio.to_thread(msgspec.json.encode, everything)
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")


async def dashboard(request: Request) -> Response:
    """GET /dashboard: the page."""
    return page("dashboard")


def _processes(request: Request) -> Processes:
    state = request.app.state
    if getattr(state, "processes", None) is None:
        state.processes = Processes()
    processes: Processes = state.processes
    return processes


def _versions(repository: Repository, counted: Metrics) -> list[Version]:
    """Those of the repository, and behind them those that still finish what they took."""
    models = {(m.name, m.version): m for m in counted.models()}
    shown = []
    for entry in repository.entries():
        model = models.pop((entry.name, entry.version), None) or ModelMetrics(entry.name, entry.version)
        answers = repository.entry(entry.name).version == entry.version and entry.model is not None
        state, reason = entry.standing()
        failed = entry.failed or state != entry.state
        runs = str(entry.model.runs) if entry.model else ""
        shown.append(Version(state, reason, failed, answers, runs, of_model(model)))
    shown += [Version("UNLOADING", "", False, False, "", of_model(model)) for model in models.values()]
    return shown


PAGES: list[BaseRoute] = [Route("/dashboard", dashboard)]
"""For everybody: the page itself says nothing."""

ROUTES: list[BaseRoute] = [Route("/metrics", metrics_text), Route("/api/dashboard", figures)]
"""For those who may see figures (scope `metrics`)."""
