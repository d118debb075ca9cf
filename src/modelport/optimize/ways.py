"""Other ways of running a network that is right: on smaller photos, on runtimes that are installed, with
settings of time alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from .. import plugins
from ..engine.cores import usable_cores
from ..errors import ModelportError
from ..runtimes.form import DEFAULT, FUNCTIONS
from ..runtimes.session import Runtime, Settings
from ..steps.decode import reduction_of
from . import measure
from .calibration import Calibration
from .candidate import Candidate, NotApplicable, computing, disk_is_full, in_a_line, network_of
from .found import Found
from .passes.layout import Layout
from .passes.reduced import Reduced, decoded
from .passes.runtime import OnRuntime
from .recipe import key_of_making

SWITCHES: tuple[Settings, ...] = ({"spinning": False}, {"arena": False}, {"threads": 1})
"""Of ONNX Runtime, one at a time: they change no answer."""
PRECISION = "precision"
QUICK_ROUNDS = 5
GAIN, AS_FAST = 0.97, 1.03
"""Of the latency of the same network run in the usual way: another way with less is looked at closely; one
that is there for its memory with no more."""
FEW = 0.1
"""Of the items: where no more are decoded smaller, what is gained is within what is measured by chance."""
Way = OnRuntime | Reduced
"""What changes no network."""


def ways(candidate: Candidate) -> Iterator[OnRuntime]:
    """How else a candidate's network may run here, the likeliest gain first."""
    for name in plugins.table("runtimes"):
        if name in (DEFAULT, FUNCTIONS):
            continue
        try:
            engine: Runtime = plugins.load("runtimes", name)()
            known = getattr(engine, "settings", {}) if engine.refuses(candidate.bundle) is None else {}
            precisions = known[PRECISION].among[1:] if PRECISION in known else ()
        except Exception:  # noqa: BLE001  # one of a third party raises what it likes, and `refused` says it
            yield OnRuntime(name)
            continue
        if name != candidate.runtime:
            yield OnRuntime(name)
        for value in precisions:
            yield OnRuntime(name, {PRECISION: value})
    if candidate.runtime != DEFAULT:
        return  # it was made for that one, and ONNX Runtime has its like
    yield Layout()
    own: Runtime = plugins.load("runtimes", DEFAULT)()
    for switch in SWITCHES:
        there = all(key in own.settings for key in switch)
        if there and (switch != {"threads": 1} or usable_cores() > 1):
            yield OnRuntime(DEFAULT, switch)


def refused(step: OnRuntime, candidate: Candidate, calibration: Calibration) -> str:
    """Why a candidate's network is not run in this way here; empty where it is."""
    try:
        engine: Runtime = plugins.load("runtimes", step.runtime)()
        if reason := engine.refuses(candidate.bundle):
            return reason
        if not hasattr(engine, "settings"):
            return f"the adapter of {step.runtime} is of an earlier version and has no settings"
        step.apply(network_of(candidate.bundle), calibration)
    except NotApplicable as problem:
        return str(problem)
    except ModelportError as problem:
        return f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    except Exception as problem:  # see `ways`
        if disk_is_full(problem):
            raise
        return f"the runtime {step.runtime} failed: {in_a_line(problem)}"
    return ""


def computed_alike(one: Candidate, other: Candidate) -> bool:
    """Whether both are the same arithmetic: threads and memory change no answer."""
    neutral = {key for switch in SWITCHES for key in switch}
    said = [{key: each.settings[key] for key in each.settings.keys() - neutral} for each in (one, other)]
    return (one.runtime, one.reduced) == (other.runtime, other.reduced) and said[0] == said[1]


def hardly(step: Reduced, source: Candidate, calibration: Calibration) -> str:
    """Why photos are not decoded so, where that would be few of the items; empty where it is enough."""
    decode, items = source.bundle.manifest.decode, calibration.items
    smaller = sum(reduction_of(item, decode, step.least) > 1 for item in items)
    if smaller > FEW * len(items):
        return ""
    are = "1 would be" if smaller == 1 else f"{smaller} would be"
    return f"not tried: of {len(items)} items {are} decoded smaller, too few to gain from"


def without(candidates: Sequence[Candidate], base: Candidate) -> list[Candidate]:
    """Those that are not the base's network on whole photos, however it is run."""
    known = computing(base)
    return [each for each in candidates if each.reduced or computing(each) != known]


def in_way(step: Way, source: Candidate, found: Found, calibration: Calibration) -> Candidate:
    """A candidate's own network run in another way; one on smaller photos has a bundle of its own."""
    if isinstance(step, OnRuntime):
        return step.of(source)
    note = decoded(source.bundle, calibration, step)
    key = key_of_making(step, source)
    made = found.candidate(step.of(source).id, key, lambda folder: step.written(source, folder))
    return msgspec.structs.replace(made, notes=(*source.notes, note))


def fastest(candidates: Sequence[Candidate], items: tuple[bytes, ...]) -> list[Candidate]:
    """The candidates from the fastest on, at a quick look; each network once, and none that fails there."""
    quick, _ = _medians({each.id: each for each in candidates}, items)
    able = [each for each in candidates if each.id in quick]
    found: dict[object, Candidate] = {}
    for each in sorted(able, key=lambda each: quick[each.id]):
        found.setdefault(computing(each), each)
    return list(found.values())


def shares(
    source: Candidate, others: Sequence[Candidate], items: tuple[bytes, ...]
) -> dict[str, float | str]:
    """Of each of the others the share of the source's latency at a quick look, or why there is none.

    Raises:
        ModelFailed: the START failed.
    """
    quick, failed = _medians({each.id: each for each in (source, *others)}, items)
    if source.id in failed:
        return {each.id: f"not compared with {source.id}: {failed[source.id]}" for each in others}
    return {each.id: failed.get(each.id) or quick[each.id] / quick[source.id] for each in others}


def slow(way: Candidate, source: Candidate, share: float) -> str:
    """Why another way is not looked at closely, by its share of the source's latency; empty where it is."""
    for_memory = way.settings.get("arena") is False and source.settings.get("arena") is not False
    if share <= (AS_FAST if for_memory else GAIN):
        return ""
    return f"at a quick look, by latency alone, no faster than {source.id}: {share:.2f} of it"


def _medians(
    candidates: Mapping[str, Candidate], items: tuple[bytes, ...]
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of one item, at a quick look by turns; and why others have none."""
    times, failed = measure.latencies(candidates, items, rounds=QUICK_ROUNDS)
    return {name: float(np.median(np.array(found.rounds))) for name, found in times.items()}, failed
