"""`modelport bench`: what a bundle costs here, by runtime, variant, threads and batch size."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.store import Bundle
from ...engine.cores import usable_cores
from ...errors import ModelportError, Unsupported, UsageError
from ...runtimes.form import FUNCTIONS, Form, overruled
from ...runtimes.machine import machine_class
from ...tensors import Array
from ..intervals import interval, percentile
from ..items import Items, items_of
from ..measure import BATCHES
from ..stages import STAGES
from .forms import forms_of, tried
from .memory import check_memory, free_memory
from .noise import disturbed, look, swinging
from .operators import profile
from .outcome import Bench, Left, Point, Profile
from .plan import EACH, SECONDS, Plan, command_of, processor, said_of, said_of_items, versions_of
from .timing import Configuration, Measured, Stopped, Tick, Times, Turns


def bench(
    bundle: str | os.PathLike[str] | Bundle,
    data: str | os.PathLike[str] | None = None,
    *,
    tick: Tick = lambda what, done, whole: None,
    stopped: Stopped = lambda: False,
    **settings: Any,
) -> Bench:
    """Measure a bundle end to end and stage by stage, all configurations by turns.

    Args:
        bundle: the bundle, or where it is.
        data: a folder or file of items; without it the bundle's golden inputs, or made-up ones.
        tick: told what is being done (`loading`, `measuring`, `profiling`), how many steps of it are over,
            and of how many.
        stopped: asked before every turn; what was measured until then is the answer.
        settings: those of `Plan`, by name.

    Raises:
        NotFound: no such bundle, data or variant. InputError: data that cannot be read. UsageError: settings
        that make no sense. Unsupported: no runtime that can run it, or not the one that was asked for.
        KeyboardInterrupt: it was stopped before anything was measured.
    """
    try:
        plan = Plan(**settings)
    except TypeError as problem:
        raise UsageError(f"bench: {problem}") from None
    begun = time.monotonic()
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    wanted, forms, left, notes = _wanted(opened, plan)
    items = items_of(opened, Path(data) if data is not None else None, trust=plan.trust)
    measured, disturbances = _measured(opened, wanted, forms, items, plan, tick, stopped)
    left += _failed(forms, measured)
    if not measured.times:
        if stopped():
            raise KeyboardInterrupt
        reasons = "; ".join(f"{each.what}: {each.reason}" for each in left)
        raise Unsupported(f"nothing of {opened.manifest.name} could be measured: {reasons}")
    profiles = _profiled(opened, forms, items, measured, plan, tick, stopped, left) if plan.profile else ()
    return Bench(
        bundle=opened.manifest.name,
        version=opened.manifest.version,
        digest=opened.digest,
        machine=machine_class(),
        processor=processor(),
        cores=usable_cores(),
        versions=versions_of({form.runtime for form in forms}),
        data=Path(data).name if data is not None else items.origin,
        items=len(items.encoded),
        forms=tuple(tried(form) for form in forms),
        points=_points(measured.times),
        profiles=profiles,
        left=tuple(left),
        notes=(*notes, *said_of_items(items), *said_of(measured), *disturbances),
        rounds=measured.rounds,
        seed=plan.seed,
        seconds=round(time.monotonic() - begun, 1),
        interrupted=stopped(),
        command=command_of(opened, data, plan),
    )


def _wanted(bundle: Bundle, plan: Plan) -> tuple[list[Configuration], list[Form], list[Left], list[str]]:
    """Every configuration, the forms that they are of, what is left out, and notes.

    Raises:
        ModelportError: as `bench`.
    """
    cores = usable_cores()
    if plan.seconds is not None and not plan.seconds > 0:
        raise UsageError(f"--seconds {plan.seconds:g}: expected more than 0")
    batches, notes = _batches(bundle, plan)
    threads = _counts(plan.threads, "--threads") or tuple(sorted({1, cores}))
    if max(threads) > cores:
        notes.append(f"{max(threads)} threads wait for each other on {cores} cores")
    forms, left = forms_of(bundle, plan.runtimes, plan.variants, trust=plan.trust)
    if plan.runtimes:
        notes += [note for form in forms if (note := overruled(bundle, form))]
    wanted = [
        Configuration(form, count, batch, max(1, cores // count))
        for form, count, batch in product(range(len(forms)), threads, batches)
    ]
    check_memory(bundle, forms, wanted, free_memory())
    return wanted, forms, left, notes


def _measured(
    bundle: Bundle,
    wanted: Sequence[Configuration],
    forms: Sequence[Form],
    items: Items,
    plan: Plan,
    tick: Tick,
    stopped: Stopped,
) -> tuple[Measured, list[str]]:
    """The times, and what disturbed them."""
    before, begun = look(), time.monotonic()
    with Turns(bundle, forms, items.encoded, plan.seed) as turns:
        seconds = plan.seconds or max(SECONDS, EACH * len(wanted))
        measured = turns.measure(wanted, seconds, tick, stopped)
    if any(form.runtime == FUNCTIONS for form in forms):
        before = None  # a function's process is none of ours, and no other program either
    found = disturbed(before, look(), time.monotonic() - begun, usable_cores())
    for first in list(measured.times.values())[:1]:
        # The network's part alone: the others differ from item to item by themselves.
        found += swinging(np.median(first.stages[:, :, STAGES.index("net")], axis=1))
    return measured, found


def _batches(bundle: Bundle, plan: Plan) -> tuple[tuple[int, ...], list[str]]:
    """The batch sizes, and a note where the network allows but one.

    Raises:
        UsageError: sizes that it does not take.
    """
    given = _counts(plan.batches, "--batch")
    info = bundle.manifest.graphs.net
    if info.batch or not info.signature.inputs:
        return given or BATCHES, []
    shape = info.signature.inputs[0].shape
    fixed = shape[0] if shape and isinstance(shape[0], int) else 1
    others = [batch for batch in given if batch != fixed]
    if others:
        raise UsageError(
            f"the network of {bundle.manifest.name} takes exactly {fixed} item{'s' if fixed > 1 else ''} a "
            f"run; --batch {','.join(map(str, others))} would be run in parts of {fixed}",
            hint=f"leave --batch out, or give --batch {fixed}; a network exported with a dynamic first axis "
            "takes any number",
        )
    return (fixed,), [f"the network takes exactly {fixed} item{'s' if fixed > 1 else ''} a run"]


def _counts(given: Sequence[int], flag: str) -> tuple[int, ...]:
    wrong = [count for count in given if count < 1]
    if wrong:
        raise UsageError(f"{flag} {','.join(map(str, given))}: expected whole numbers of at least 1")
    return tuple(sorted(set(given)))


def _failed(forms: Sequence[Form], measured: Measured) -> list[Left]:
    """Forms and sizes that do not run; one entry for those with one reason."""
    by_reason: dict[tuple[int, str], list[Configuration]] = {}
    for each, reason in measured.failed.items():
        by_reason.setdefault((each.form, reason), []).append(each)
    found = []
    for (form, reason), own in by_reason.items():
        title = tried(forms[form]).title
        ran = any(each.form == form for each in measured.times)
        sizes = ", ".join(str(size) for size in dict.fromkeys(each.batch for each in own))
        found.append(Left(f"{title}, batch {sizes}" if ran else title, reason))
    return found


def _profiled(
    bundle: Bundle,
    forms: Sequence[Form],
    items: Items,
    measured: Measured,
    plan: Plan,
    tick: Tick,
    stopped: Stopped,
    left: list[Left],
) -> tuple[Profile, ...]:
    """The operators of every form, with the fewest threads and the smallest batch that were measured."""
    found = []
    for number, form in enumerate(forms):
        own = [each for each in measured.times if each.form == number]
        if not own or stopped():
            continue
        tick("profiling", number, len(forms))
        least = min(own, key=lambda each: (each.threads, each.batch))
        try:
            made = profile(
                bundle,
                form,
                number,
                items.encoded,
                threads=least.threads,
                batch=least.batch,
                seconds=plan.seconds or SECONDS,
                stopped=stopped,
            )
        except ModelportError as problem:
            left.append(Left(f"operators of {tried(form).title}", str(problem)))
            continue
        found.append(made)
    return tuple(found)


def _points(times: Mapping[Configuration, Times]) -> tuple[Point, ...]:
    base = next(iter(times))
    return tuple(_point(each, own, times, base) for each, own in times.items())


def _point(
    each: Configuration, own: Times, times: Mapping[Configuration, Times], base: Configuration
) -> Point:
    """The figures of one configuration."""
    same = next((o for o in times if (o.threads, o.batch) == (each.threads, each.batch)), each)
    against = None if same.form == each.form else interval(_medians(own) / _medians(times[same]))
    milliseconds = own.calls * 1e3
    return Point(
        form=each.form,
        threads=each.threads,
        batch=each.batch,
        p50_ms=percentile(milliseconds, 50),
        p95_ms=percentile(milliseconds, 95),
        stages_ms=_stages(own),
        calls=own.calls.size,
        throughput=interval(own.rates),
        callers=each.callers,
        latency_ratio=against,
        throughput_ratio=interval(own.rates / times[base].rates),
        rounds_ms=tuple(float(ms) for ms in _medians(own) * 1e3),
        rounds_per_second=tuple(float(rate) for rate in own.rates),
    )


def _medians(times: Times) -> Array:
    """float64[rounds]: seconds of a call."""
    return np.median(times.calls, axis=1)


def _stages(times: Times) -> dict[str, float]:
    medians = np.median(times.stages.reshape(-1, len(STAGES)), axis=0) * 1e3
    return {stage: float(ms) for stage, ms in zip(STAGES, medians, strict=True)}
