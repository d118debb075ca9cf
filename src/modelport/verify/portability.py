"""Does a bundle give the same answers on other machines? Its stages replayed on emulated ones, and compared.

Each stage is given there what it is given here, so that a difference is blamed on the stage that makes it;
and what the network gives there goes on to the answer there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ..bundle.manifest import Golden, Tolerance
from ..bundle.store import Bundle
from ..emulation.machine import EMULATORS, MORE, Machine, Ran, machine
from ..errors import ModelportError
from ..runtimes.form import DEFAULT, Form, form_of
from ..runtimes.machine import machine_class
from ..runtimes.pipeline import Pipeline
from ..sampling import evenly
from ..tensors import Array, Tensors
from .agreement import best_class
from .detections import are_detections, thresholds_of
from .emulated import STAGES, Case, Gave, Graphs, gave, same_bits
from .parity import Parity
from .replay import compared, end_to_end_tolerance

MOST = 4
"""Items that are replayed: an emulated processor takes hundreds of times as long."""
SECONDS = 60.0
ROUNDED = 0.01
"""With 8-bit numbers, as a share: one that lies between two is rounded up here and down there, and what that
moves is far less than what calculating with 8 bits does at all."""
Verdict = Literal["equal", "close", "differs", "not replayed"]
Note = Callable[[str], None]
Count = Callable[[int, int], None]
"""Told how many items are done, and of how many."""


class Agreement(msgspec.Struct, frozen=True):
    """How one stage compares over all items."""

    same: bool
    """Bit by bit."""
    within: bool
    """Within what the bundle's golden cases allow; with 8-bit arithmetic, within `ROUNDED` as well."""
    max_abs: float
    """The largest absolute difference of a number."""
    share: float
    """The largest difference as a share of the largest magnitude that this machine gives there."""
    reason: str = ""
    """In words, of the first that is not within."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine gives for a few items, held against what this one gives."""

    machine: str
    machine_class: str
    """Of the processors that it stands for, as in `Variant.machine`."""
    variant: str
    """The form of the network; empty for the one that was packed."""
    same: bool
    """Whether every stage gave the same bits for every item."""
    reason: str = ""
    """Why it was not replayed, or not for all items; empty where it was."""
    engine: str = ""
    cases: int = 0
    """Items that were replayed."""
    asked: int = 0
    eight_bit: bool = False
    """Whether the network calculates with 8-bit numbers."""
    stages: dict[str, Agreement] = {}
    labels_compared: int = 0
    labels_changed: int = 0
    """Items whose answer names another class there, or other objects."""
    seconds: float = 0.0

    @property
    def replayed(self) -> bool:
        """Whether anything was compared."""
        return self.cases > 0

    @property
    def changes(self) -> bool:
        """Whether answers change there: a label does, or a stage is not within what is allowed."""
        return self.replayed and (
            self.labels_changed > 0 or not all(stage.within for stage in self.stages.values())
        )

    @property
    def verdict(self) -> Verdict:
        """The finding in a word; close is what differs and changes nothing."""
        if not self.replayed:
            return "not replayed"
        return "equal" if self.same else "differs" if self.changes else "close"

    @property
    def differs_at(self) -> str:
        """The first stage that does not give the same bits; empty where all do."""
        return next((name for name, stage in self.stages.items() if not stage.same), "")

    def sentence(self) -> str:
        """The finding in words, for a table."""
        if not self.replayed:
            return self.reason
        tail = f"; {self.reason}" if self.reason else ""
        if self.same:
            items = "1 item" if self.cases == 1 else f"{self.cases} items"
            return f"every stage gives the same bits, for {items}{tail}"
        stage = self.stages[self.differs_at]
        said = f"{self.differs_at} differs by at most {stage.max_abs:.2g} ({stage.share:.2g} of its largest)"
        if self.labels_compared:
            changed = self.labels_changed or "none"
            said += f"; {changed} of {self.labels_compared} answers changed"
        return said + tail

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        derived = {"verdict": self.verdict, "changes": self.changes, "differs_at": self.differs_at}
        return {**msgspec.to_builtins(self), **derived}


def portable(replays: Iterable[Replay]) -> tuple[str, ...]:
    """The classes of machines on which every stage gave the same bits: what a manifest's `portable` holds.

    That of this machine, which they were compared with, is among them; none where no other one is.
    """
    found = {each.machine_class for each in replays if each.same}
    return tuple(sorted(found | {machine_class()})) if found else ()


def everywhere(classes: Iterable[str]) -> bool:
    """Whether these are all that can be emulated, which earns a pipeline the badge."""
    return {each.machine for each in EMULATORS} <= set(classes)


def badged(
    bundle: Bundle, variant: str, classes: Sequence[str], out: str | os.PathLike[str], version: str
) -> Bundle:
    """A new version at `out` whose manifest says on which classes of machines the bits are the same.

    Args:
        variant: the form that was replayed; "" for the network as packed.

    Raises:
        UsageError: the same version, or `out` exists.
    """
    if not variant:
        return bundle.derive(out, {}, version=version, portable=tuple(classes))
    variants = tuple(
        msgspec.structs.replace(each, portable=tuple(classes)) if each.name == variant else each
        for each in bundle.manifest.variants
    )
    return bundle.derive(out, {}, version=version, variants=variants)


def replay(
    bundle: Bundle,
    variant: str | None,
    on: Machine | str,
    *,
    items: Sequence[bytes] = (),
    most: int = MOST,
    seconds: float = SECONDS,
    tell: Note = lambda text: None,
    count: Count = lambda done, whole: None,
) -> Replay:
    """Replay golden cases, and items beside them, on another machine.

    Args:
        bundle: what is replayed.
        variant: the form of the network by name; "" for the packed one, None for the one chosen for here.
        on: the machine, or its name.
        items: encoded items, such as those that ranges were measured on.
        most: of golden cases and items together; about half of each where there are both.
        seconds: no graph is begun there after that; what was done by then is compared.
        tell: told what is fetched and built, once.
        count: told of every item that is done.

    Raises:
        NotFound: no such machine or variant. BundleError: damaged.
    """
    there = machine(on) if isinstance(on, str) else on
    form = form_of(bundle, variant)
    nothing = Replay(machine=there.name, machine_class=there.machine, variant=form.variant, same=False)
    if reason := _refused(bundle, form) or there.reason:
        return msgspec.structs.replace(nothing, reason=reason)
    chosen = _picked(_golden_inputs(bundle), list(items), most)
    if not chosen:
        return msgspec.structs.replace(nothing, reason="no golden cases, and no items were given")
    with Pipeline.open(bundle, variant=form.variant, lowered=False) as pipeline:
        cases = [Case.of(pipeline, item) for item in chosen]
    graphs = Graphs.of(bundle, form)
    about = msgspec.structs.replace(nothing, asked=len(cases), eight_bit=graphs.eight_bit)
    try:
        found, ran = gave(there.name, graphs, cases, seconds, tell, lambda done: count(done, len(cases)))
    except ModelportError as problem:
        hint = f"; {problem.hint}" if problem.hint else ""
        return msgspec.structs.replace(about, reason=f"{problem.message}{hint}")
    about = msgspec.structs.replace(about, engine=ran.engine, seconds=round(ran.seconds, 1))
    if not found:
        return msgspec.structs.replace(about, reason=_too_short(seconds, ran, len(cases)))
    return _found(bundle, about, cases, found)


def _too_short(seconds: float, ran: Ran, cases: int) -> str:
    """That not one item was done, with what may be enough."""
    network = len(ran.outputs) > STAGES.index("net")
    # What came after the network had no time left; before it, nobody knows how long it takes.
    guess = max(ran.seconds, seconds) * cases if network else MORE * seconds
    done = f"{len(ran.outputs)} of its {len(STAGES)} stages"
    longer = math.ceil(guess / 10) * 10
    return (
        f"not one item was done in {seconds:g} s, but {done}: give it more time, perhaps --seconds {longer}"
    )


def _found(bundle: Bundle, about: Replay, cases: list[Case], there: list[Gave]) -> Replay:
    """What was given there, held against what was given here."""
    golden = bundle.manifest.golden or Golden("", generated=True, cases=())
    thresholds = thresholds_of({option.name: option.default for option in bundle.manifest.options})
    done = cases[: len(there)]
    stages: dict[str, Agreement] = {}
    changed: list[bool | None] = []
    for stage in STAGES:
        tolerance = _tolerance(golden, stage, about.eight_bit)
        parities = []
        for made, case in zip(there, done, strict=True):
            kind = "end_to_end" if stage == "answer" else stage
            found = compared(kind, made[stage], "", case.gave(stage), tolerance, thresholds)
            parities += list(found.values())
            if stage == "answer":
                changed.append(_changed(made[stage], case.answer, found))
        pairs = [(made[stage], case.gave(stage)) for made, case in zip(there, done, strict=True)]
        stages[stage] = _agreement(pairs, parities, ROUNDED if about.eight_bit and stage == "net" else 0.0)
    told = [each for each in changed if each is not None]
    return msgspec.structs.replace(
        about,
        same=all(stage.same for stage in stages.values()),
        reason="" if len(done) == len(cases) else f"the time was up after {len(done)} of {len(cases)} items",
        cases=len(done),
        stages=stages,
        labels_compared=len(told),
        labels_changed=sum(told),
    )


def _tolerance(golden: Golden, stage: str, eight_bit: bool) -> Tolerance:
    """What a stage may differ by; `pre` never calculates with fewer bits."""
    own = {"pre": golden.pre, "net": golden.net, "post": golden.post}
    allowed = own.get(stage, end_to_end_tolerance(golden))
    if not eight_bit or stage != "answer":
        return allowed
    return Tolerance(max(allowed.absolute, ROUNDED), max(allowed.relative, ROUNDED))


def _agreement(pairs: Sequence[tuple[Tensors, Tensors]], parities: list[Parity], share: float) -> Agreement:
    """Of one stage; a difference of `share` of the largest value is allowed, whatever the tolerance."""
    apart = [_apart(got[name], want[name]) for got, want in pairs for name in want]
    bad = next((parity for parity in parities if not parity.ok), None)
    most = max((each[1] for each in apart), default=0.0)
    allowed = bad is None or (not bad.reason and most <= share)
    return Agreement(
        same=all(same_bits(got, want) for got, want in pairs),
        within=allowed,
        max_abs=max((each[0] for each in apart), default=0.0),
        share=most,
        reason=str(bad) if bad is not None and not allowed else "",
    )


def _apart(got: Array, want: Array) -> tuple[float, float]:
    """The largest difference, and as a share of the largest magnitude; 0 for text."""
    if want.dtype.kind not in "fiub" or got.shape != want.shape or not want.size:
        return 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = got.astype(np.float64), want.astype(np.float64)
        apart = np.nan_to_num(np.where((a == b) | ((a != a) & (b != b)), 0.0, np.abs(a - b)), nan=np.inf)
        most = float(apart.max())
        largest = float(np.abs(b[np.isfinite(b)]).max()) if np.isfinite(b).any() else 0.0
    return most, most / largest if largest else 0.0


def _changed(got: Tensors, want: Tensors, parities: Mapping[str, Parity]) -> bool | None:
    """Whether the answer names something else; None for one that names nothing."""
    if are_detections(want):
        return not all(parity.ok for parity in parities.values())
    if (best := best_class(want)) is not None:
        return best_class(got) != best
    named = [name for name, array in want.items() if array.dtype.kind != "f"]
    if not named:
        return None
    return any(name in got and not same_bits({name: got[name]}, {name: want[name]}) for name in named)


def _golden_inputs(bundle: Bundle) -> list[bytes]:
    golden = bundle.manifest.golden
    return [bundle.read(case.input) for case in golden.cases] if golden else []


def _picked(golden: list[bytes], items: list[bytes], most: int) -> list[bytes]:
    """At most so many, each kind evenly picked."""
    first = min(len(golden), most - min(len(items), most // 2))
    return [*evenly(golden, first), *evenly(items, most - first)]


def _refused(bundle: Bundle, form: Form) -> str:
    """Why the form cannot be replayed anywhere; empty where it can."""
    function = bundle.manifest.graphs.net.function
    if function is not None:
        return f"its network is the Python function {function!r}, and only graphs are run on other machines"
    if form.runtime != DEFAULT:
        return f"its network runs on {form.runtime}, and other machines are asked with {DEFAULT} alone"
    return ""
