"""Sessions of which the runtime notes how long every node takes."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ...runtimes.onnxruntime import UNWANTED, OnnxRuntimeSession, session_options
from ...runtimes.openvino import OpenVinoRuntime
from ...runtimes.session import Session, Settings
from ...tensors import Array, Tensors


class Ran(msgspec.Struct, frozen=True):
    """What one node took, all runs together."""

    name: str
    type: str
    implementation: str
    calls: int
    seconds: float


class Profiled(Session, Protocol):
    """A session that notes what its nodes take."""

    runs: int
    """So many so far."""

    def ran(self, warm: int) -> list[Ran]:
        """Every node that ran, without the first `warm` runs; nothing is noted any more."""
        ...


class OnnxProfiled(OnnxRuntimeSession):
    """A graph in ONNX Runtime with its profiler on, which writes a file into `folder`."""

    def __init__(self, graph: bytes, threads: int, settings: Settings, folder: Path) -> None:
        import onnxruntime as ort

        options = session_options(threads, settings)
        options.enable_profiling = True
        # The name that it makes is of the millisecond: two sessions would write into one file.
        options.profile_file_prefix = str(Path(tempfile.mkdtemp(dir=folder), "profile"))
        self._profiler = ort.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=UNWANTED
        )
        super().__init__(self._profiler, ())
        self.runs = 0

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """See `OnnxRuntimeSession`."""
        self.runs += 1
        return super().run(batch, options)

    def ran(self, warm: int) -> list[Ran]:
        """See `Profiled`."""
        place = Path(self._profiler.end_profiling())
        events = json.loads(place.read_bytes())
        place.unlink()
        return _nodes(events, self.runs, warm)


class OpenVinoProfiled:
    """A graph in OpenVINO that times its nodes in every run."""

    def __init__(self, graph: bytes, threads: int, settings: Settings, folder: Path) -> None:
        self._session = OpenVinoRuntime().open(graph, threads=threads, settings=settings, profile=True)
        self._rows: list[list[tuple[str, str, str, float]]] = []
        self.runs = 0
        self.signature = self._session.signature
        self.options = self._session.options
        self.close = self._session.close

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """See `OpenVinoSession`."""
        self.runs += 1
        found = self._session.run(batch, options)
        self._rows.append(self._session.profile())
        return found

    def ran(self, warm: int) -> list[Ran]:
        """See `Profiled`."""
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for rows in self._rows[warm:]:
            for name, kind, kernel, took in rows:
                if took:  # what became part of another node takes nothing
                    found[name, kind, kernel].append(took)
        return [Ran(*key, len(times), sum(times) / 1e6) for key, times in found.items()]


PROFILERS: dict[str, Callable[[bytes, int, Settings, Path], Profiled]] = {
    "onnxruntime": OnnxProfiled,
    "openvino": OpenVinoProfiled,
}
"""Runtime -> what opens a graph so that its nodes are noted."""


def _nodes(events: Sequence[Mapping[str, Any]], runs: int, warm: int) -> list[Ran]:
    """ONNX Runtime's events as nodes, without the first `warm` of `runs` runs.

    A node that holds others (Loop, If, Scan) is noted beside them; what they take is taken off it.
    """
    by_thread: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_ENDING):
            by_thread[event["tid"]].append(event)
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for own in by_thread.values():
        for event, took in _alone(own):
            name = event["name"].removesuffix(_ENDING)
            found[name, event["args"].get("op_name", "")].append((event["ts"], took))
    nodes = []
    for (name, kind), times in found.items():
        kept = [took for _, took in sorted(times)][round(len(times) * warm / max(1, runs)) :]
        nodes.append(Ran(name, kind, "", len(kept), sum(kept) / 1e6))
    return nodes


_ENDING = "_kernel_time"


def _alone(events: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """Events of one thread, and their microseconds without those of the events within them."""
    order = sorted(events, key=lambda event: (event["ts"], -event["dur"]))
    alone = [float(event["dur"]) for event in order]
    around: list[int] = []
    for place, event in enumerate(order):
        while around and event["ts"] >= order[around[-1]]["ts"] + order[around[-1]]["dur"]:
            around.pop()
        if around:
            alone[around[-1]] -= event["dur"]
        around.append(place)
    return [(event, max(0.0, took)) for event, took in zip(order, alone, strict=True)]
