"""Which operators take the time of each stage, as the runtimes' own profilers have it."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from ... import plugins
from ...bundle.store import Bundle
from ...runtimes.form import DEFAULT, Form
from ...runtimes.pipeline import Pipeline, graph_of
from ...runtimes.session import DEFAULTS, Session
from ...tensors import Array
from ..stages import STAGES, settle, staged
from .origins import Origins
from .outcome import Operator, Profile, StageProfile
from .profilers import PROFILERS, Profiled, Ran
from .timing import Stopped

SECONDS = 2.0
"""Of profiling one form, at most."""
LEAST, MOST = 3, 100
"""Calls."""
WARM = 2
"""Calls before those that count."""
GRAPHS: tuple[Literal["pre", "net", "post"], ...] = ("pre", "net", "post")


def profile(
    bundle: Bundle,
    form: Form,
    number: int,
    items: Sequence[bytes],
    *,
    threads: int,
    batch: int,
    seconds: float,
    stopped: Stopped,
) -> Profile:
    """The operators of every stage of one form, on so many threads and items a call.

    Args:
        number: the form's place among the forms.
        items: encoded.
        seconds: how long, at most `SECONDS`; three calls are made anyway.
        stopped: asked before every call.

    Raises:
        ModelportError: the form does not run.
    """
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="modelport-profile-")))
        graphs: dict[str, bytes] = {stage: graph_of(bundle, stage, form) for stage in GRAPHS}
        sessions: dict[str, Session] = {}
        for stage, graph in graphs.items():
            sessions[stage] = _session(form, stage, graph, threads, folder)
            opened.callback(sessions[stage].close)
        pipeline = Pipeline(bundle, *sessions.values(), form=form)
        warm, times = _called(pipeline, sessions, items, batch, min(SECONDS, seconds), stopped)
        stages = []
        for place, name in enumerate(STAGES):
            ms = float(np.mean(times[:, place])) * 1e3
            session = sessions.get(name)
            stages.append(_stage(form, name, ms, session, graphs.get(name), warm.get(name, 0), len(times)))
    return Profile(form=number, threads=threads, batch=batch, calls=len(times), stages=tuple(stages))


def _session(form: Form, stage: str, graph: bytes, threads: int, folder: Path) -> Session:
    """A session that notes its nodes, where the runtime can."""
    if stage != "net":
        return PROFILERS[DEFAULT](graph, 1, DEFAULTS, folder)
    if form.runtime in PROFILERS:
        return PROFILERS[form.runtime](graph, threads, form.settings, folder)
    session: Session = plugins.load("runtimes", form.runtime)().open(
        graph, threads=threads, settings=form.settings
    )
    return session


def _called(
    pipeline: Pipeline,
    sessions: dict[str, Session],
    items: Sequence[bytes],
    batch: int,
    seconds: float,
    stopped: Stopped,
) -> tuple[dict[str, int], Array]:
    """How often each graph ran before the calls that count; their seconds by stage: float64[calls, 4]."""
    settle(pipeline, items)
    warm: dict[str, int] = {}
    times: list[Array] = []
    begun = time.perf_counter()
    for call in range(WARM + MOST):
        if call == WARM:
            warm = {stage: getattr(session, "runs", 0) for stage, session in sessions.items()}
            begun = time.perf_counter()
        long = time.perf_counter() - begun > seconds
        if len(times) >= LEAST and (long or stopped()):
            break
        taken = [items[(call * batch + place) % len(items)] for place in range(batch)]
        took = staged(pipeline, taken)[1]
        if call >= WARM:
            times.append(took)
    return warm, np.array(times)


def _stage(
    form: Form, stage: str, ms: float, session: Session | None, graph: bytes | None, warm: int, calls: int
) -> StageProfile:
    """The operators of one stage, or why there are none."""
    note = ""
    nodes: list[Operator] = []
    if session is None or graph is None:
        note = "native code, no graph"
    elif not hasattr(session, "ran"):
        note = f"{form.runtime} does not say which operators take the time"
    elif session.runs == warm:  # type: ignore[attr-defined]
        note = "native code that gives the bytes of the graph; the graph did not run"
    else:
        nodes = _operators(session, graph, warm, calls)  # type: ignore[arg-type]
        note = "" if nodes else "the graph passes on what it is given"
    return StageProfile(
        stage=stage,  # type: ignore[arg-type]
        ms=ms,
        operators_ms=sum(node.ms for node in nodes),
        types=_by_type(nodes),
        nodes=tuple(nodes),
        note=note,
    )


def _operators(session: Profiled, graph: bytes, warm: int, calls: int) -> list[Operator]:
    """The nodes that ran, the longest first."""
    origins = Origins(onnx.load_model_from_string(graph).graph)
    ran: list[Ran] = [node for node in session.ran(warm) if node.calls]
    whole = sum(node.seconds for node in ran) or 1.0
    return [
        Operator(
            type=node.type,
            name=node.name,
            nodes=origins.of(node.name, node.type),
            implementation=node.implementation,
            calls=node.calls / calls,
            ms=node.seconds / calls * 1e3,
            share=node.seconds / whole,
        )
        for node in sorted(ran, key=lambda node: -node.seconds)
    ]


def _by_type(nodes: Sequence[Operator]) -> tuple[Operator, ...]:
    """All nodes of a type together, the longest first."""
    groups: dict[tuple[str, str], list[Operator]] = defaultdict(list)
    for node in nodes:
        groups[node.type, node.implementation].append(node)
    found = [
        Operator(
            type=kind,
            implementation=implementation,
            calls=sum(node.calls for node in own),
            ms=sum(node.ms for node in own),
            share=sum(node.share for node in own),
        )
        for (kind, implementation), own in groups.items()
    ]
    return tuple(sorted(found, key=lambda each: -each.ms))
