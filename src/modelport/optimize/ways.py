"""Other ways of running a network that is right: runtimes that are installed, and settings of time alone."""

from __future__ import annotations

from collections.abc import Iterator

from .. import plugins
from ..engine.settings import usable_cores
from ..errors import ModelportError
from ..runtimes.form import DEFAULT, FUNCTIONS
from ..runtimes.session import Runtime, Settings
from .candidate import Candidate
from .passes.layout import Layout
from .passes.runtime import OnRuntime

SWITCHES: tuple[Settings, ...] = ({"spinning": False}, {"arena": False}, {"threads": 1})
"""Of ONNX Runtime, one at a time: they change no answer."""
PRECISION = "precision"


def ways(candidate: Candidate) -> Iterator[OnRuntime]:
    """How else a candidate's network may run here, the likeliest gain first."""
    for name in plugins.table("runtimes"):
        if name in (DEFAULT, FUNCTIONS):
            continue
        try:
            engine: Runtime = plugins.load("runtimes", name)()
            if not hasattr(engine, "settings") or engine.refuses(candidate.bundle) is not None:
                continue  # an adapter of an earlier version has no settings
        except ModelportError:
            continue
        if name != candidate.runtime:
            yield OnRuntime(name)
        known = engine.settings
        for value in known[PRECISION].among[1:] if PRECISION in known else ():
            yield OnRuntime(name, {PRECISION: value})
    if candidate.runtime != DEFAULT:
        return  # it was made for that one, and ONNX Runtime has its like
    yield Layout()
    own: Runtime = plugins.load("runtimes", DEFAULT)()
    for switch in SWITCHES:
        there = all(key in own.settings for key in switch)
        if there and (switch != {"threads": 1} or usable_cores() > 1):
            yield OnRuntime(DEFAULT, switch)
