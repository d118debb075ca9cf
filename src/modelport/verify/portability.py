"""Does a bundle give the same answers on other machines? Its stages replayed on emulated ones, and compared.

Each stage is given there what it is given here, so that a difference is blamed on the stage that makes it;
and what the network gives there goes on to the answer there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from ..bundle.manifest import Golden
from ..bundle.store import Bundle
from ..emulation.jobs import ALL, Earlier, Job
from ..emulation.machine import Machine, machine, run
from ..errors import ModelFailed, ModelportError
from ..runtimes.form import DEFAULT, Form, form_of
from ..runtimes.onnxruntime import UNWANTED, OnnxRuntime
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors, dtype_name
from .agreement import best_class
from .detections import Thresholds, thresholds_of
from .replay import compared, end_to_end_tolerance

STAGES = ("pre", "net", "post", "answer")
"""The graphs, each on what this machine gives before it, and then all of them there."""
MOST = 4
"""Items that are replayed: an emulated processor takes ten to a hundred times as long."""
SECONDS = 60.0
ALWAYS = {"optimization.disable_specified_optimizers": ";".join(UNWANTED)}
"""What every graph is opened with here."""
_LEVELS = {"none": 0, "basic": 1, "extended": 2}

Note = Callable[[str], None]


class Agreement(msgspec.Struct, frozen=True):
    """How one stage compares over all items."""

    same: bool
    """Bit by bit."""
    within: bool
    """Within what the bundle's golden cases allow."""
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
    def within(self) -> bool:
        """Whether every stage is within the golden tolerances, and no label changed."""
        return self.replayed and not self.labels_changed and all(s.within for s in self.stages.values())

    @property
    def verdict(self) -> str:
        """`equal`, `close` (within the golden tolerances), `differs`, or `not replayed`."""
        if not self.replayed:
            return "not replayed"
        return "equal" if self.same else "close" if self.within else "differs"

    @property
    def differs_at(self) -> str:
        """The first stage that does not give the same bits; empty where all do."""
        return next((name for name, stage in self.stages.items() if not stage.same), "")

    @property
    def max_abs(self) -> float:
        """The largest difference between the network there and here."""
        return self.stages["net"].max_abs if "net" in self.stages else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        derived = {"verdict": self.verdict, "within": self.within, "differs_at": self.differs_at}
        return {**msgspec.to_builtins(self), **derived, "max_abs": self.max_abs}


def portable(replays: Iterable[Replay]) -> tuple[str, ...]:
    """The machines on which every stage gave the same bits: what a manifest's `portable` holds."""
    return tuple(sorted(each.machine for each in replays if each.same))


def replay(
    bundle: Bundle,
    variant: str | None,
    on: Machine | str,
    *,
    items: Sequence[bytes] = (),
    most: int = MOST,
    seconds: float = SECONDS,
    tell: Note = lambda text: None,
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
        cases = [_Case.of(pipeline, item) for item in chosen]
    try:
        return _replayed(bundle, form, nothing, cases, seconds, tell)
    except ModelportError as problem:
        hint = f"; {problem.hint}" if problem.hint else ""
        return msgspec.structs.replace(nothing, asked=len(cases), reason=f"{problem.message}{hint}")


class _Case(msgspec.Struct, frozen=True, eq=False):
    """What each stage takes and gives here, for one item; all but `decoded` with a batch axis of one row."""

    decoded: Tensors
    prepared: Tensors
    carried: Tensors
    fed: Tensors
    """What the network is given: as many rows as it was made for."""
    raw: Tensors
    answer: Tensors

    def gave(self, stage: str) -> Tensors:
        """What a stage gives here."""
        return {"pre": self.prepared, "net": self.raw}.get(stage, self.answer)

    @classmethod
    def of(cls, pipeline: Pipeline, item: bytes) -> _Case:
        decoded = pipeline.decode(item)
        prepared = pipeline.pre(decoded)
        batch = {name: array[None] for name, array in prepared.items()}
        carried = {name: batch[name] for name in pipeline.carried}
        fed = _rows(pipeline.bundle, {name: batch[name] for name in batch if name not in carried})
        raw = pipeline.net(fed)
        answer = pipeline.post({name: array[:1] for name, array in raw.items()} | carried)
        return cls(decoded, prepared, carried, fed, raw, answer)


class _Graphs(msgspec.Struct, frozen=True, eq=False):
    """The three graphs of a form, and how its network is opened."""

    pre: bytes
    net: bytes
    post: bytes
    taken: frozenset[str]
    """What `post` takes."""
    level: int
    settings: dict[str, str]

    @classmethod
    def of(cls, bundle: Bundle, form: Form) -> _Graphs:
        post = bundle.read_onnx(form.post) if form.post else bundle.graph("post")
        session = OnnxRuntime().open(post)
        taken = frozenset(spec.name for spec in session.signature.inputs)
        session.close()
        settings = dict(ALWAYS)
        if not form.settings.get("denormals", True):
            settings["session.set_denormal_as_zero"] = "1"
        level = _LEVELS.get(str(form.settings.get("optimization")), ALL)
        return cls(bundle.graph("pre"), bundle.read_onnx(form.file), post, taken, level, settings)

    def jobs(self, case: _Case, first: int) -> list[Job]:
        """One for each of `STAGES`; `first` is the number of the first of them."""
        here = {name: array[:1] for name, array in case.raw.items()} | dict(case.carried)
        here = {name: array for name, array in here.items() if name in self.taken}
        there = {
            name: Earlier(first + 1, index, array[:1])
            for index, (name, array) in enumerate(case.raw.items())
            if name in self.taken
        }
        answers = tuple(case.answer)
        return [
            Job(self.pre, case.decoded, tuple(case.prepared), settings=ALWAYS),
            Job(self.net, case.fed, tuple(case.raw), self.level, self.settings),
            Job(self.post, here, answers, settings=ALWAYS),
            Job(self.post, {**here, **there}, answers, settings=ALWAYS),
        ]


def _replayed(
    bundle: Bundle, form: Form, nothing: Replay, cases: list[_Case], seconds: float, tell: Note
) -> Replay:
    """All stages of all cases there in one go; then those whose network is given something else there."""
    graphs = _Graphs.of(bundle, form)
    each = len(STAGES)
    jobs = [job for number, case in enumerate(cases) for job in graphs.jobs(case, each * number)]
    ran = run(nothing.machine, jobs, seconds=seconds, tell=tell)
    done = len(ran.outputs) // each
    if not done:
        raise ModelFailed(f"{nothing.machine}: not one item was done in {seconds:g} s")
    gave = [dict(zip(STAGES, ran.outputs[each * n : each * n + each], strict=True)) for n in range(done)]
    spent = ran.seconds
    moved = [number for number in range(done) if not same_bits(gave[number]["pre"], cases[number].prepared)]
    if moved:
        again = [_moved(bundle, cases[number], gave[number]["pre"]) for number in moved]
        jobs = [job for at, case in enumerate(again) for job in graphs.jobs(case, each * at)]
        second = run(nothing.machine, jobs, seconds=seconds, tell=tell)
        spent += second.seconds
        for number, answer in zip(moved, second.outputs[each - 1 :: each], strict=False):
            gave[number]["answer"] = answer
    return _found(bundle, nothing, cases, gave, ran.engine, spent)


def _found(
    bundle: Bundle,
    nothing: Replay,
    cases: list[_Case],
    gave: list[dict[str, dict[str, Array]]],
    engine: str,
    seconds: float,
) -> Replay:
    golden = bundle.manifest.golden or Golden("", generated=True, cases=())
    options = {option.name: option.default for option in bundle.manifest.options}
    done = cases[: len(gave)]
    stages = {}
    for stage in STAGES:
        pairs = [(made[stage], case.gave(stage)) for made, case in zip(gave, done, strict=True)]
        stages[stage] = _agreement(stage, pairs, golden, thresholds_of(options))
    changed = [_changed(made["answer"], case.answer) for made, case in zip(gave, done, strict=True)]
    told = [each for each in changed if each is not None]
    return msgspec.structs.replace(
        nothing,
        same=all(stage.same for stage in stages.values()),
        reason=""
        if len(done) == len(cases)
        else f"the time was enough for {len(done)} of {len(cases)} items",
        engine=engine,
        cases=len(done),
        asked=len(cases),
        stages=stages,
        labels_compared=len(told),
        labels_changed=sum(told),
        seconds=round(seconds, 1),
    )


def _agreement(
    stage: str, pairs: Sequence[tuple[Tensors, Tensors]], golden: Golden, thresholds: Thresholds
) -> Agreement:
    tolerance = {
        "pre": golden.pre,
        "net": golden.net,
        "post": golden.post,
        "answer": end_to_end_tolerance(golden),
    }[stage]
    kind = "end_to_end" if stage == "answer" else stage
    parities = [
        parity
        for got, want in pairs
        for parity in compared(kind, got, "", want, tolerance, thresholds).values()
    ]
    apart = [_apart(got[name], want[name]) for got, want in pairs for name in want]
    bad = next((parity for parity in parities if not parity.ok), None)
    return Agreement(
        same=all(same_bits(got, want) for got, want in pairs),
        within=bad is None,
        max_abs=max((each[0] for each in apart), default=0.0),
        share=max((each[1] for each in apart), default=0.0),
        reason=str(bad) if bad is not None else "",
    )


def same_bits(got: Tensors, want: Tensors) -> bool:
    """Whether two sets of tensors are the same, NaNs and the sign of zero included."""
    return got.keys() == want.keys() and all(
        got[name].shape == array.shape
        and dtype_name(got[name]) == dtype_name(array)
        and (
            got[name].tolist() == array.tolist()
            if dtype_name(array) == "string"
            else np.ascontiguousarray(got[name]).tobytes() == np.ascontiguousarray(array).tobytes()
        )
        for name, array in want.items()
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


def _changed(got: Tensors, want: Tensors) -> bool | None:
    """Whether the answer names something else; None for one that names nothing."""
    if (best := best_class(want)) is not None:
        return best_class(got) != best
    named = [name for name, array in want.items() if array.dtype.kind != "f"]
    if not named:
        return None
    return any(not same_bits({name: got[name]}, {name: want[name]}) for name in named if name in got)


def _moved(bundle: Bundle, case: _Case, prepared: Tensors) -> _Case:
    """The case, with what is prepared there."""
    batch = {name: array[None] for name, array in prepared.items()}
    return msgspec.structs.replace(
        case,
        prepared=prepared,
        carried={name: batch[name] for name in case.carried},
        fed=_rows(bundle, {name: batch[name] for name in batch if name not in case.carried}),
    )


def _rows(bundle: Bundle, row: Tensors) -> Tensors:
    """One row as a batch of the size that the network was made for, filled up with copies of it."""
    info = bundle.manifest.graphs.net
    fixed = info.signature.inputs[0].shape[0]
    if info.batch or not isinstance(fixed, int):
        return row
    return {name: np.repeat(array, fixed, axis=0) for name, array in row.items()}


def _golden_inputs(bundle: Bundle) -> list[bytes]:
    golden = bundle.manifest.golden
    return [bundle.read(case.input) for case in golden.cases] if golden else []


def _picked(golden: list[bytes], items: list[bytes], most: int) -> list[bytes]:
    """At most so many, each kind evenly picked."""
    first = min(len(golden), most - min(len(items), most // 2))
    return [*_evenly(golden, first), *_evenly(items, min(len(items), most - first))]


def _evenly(items: list[bytes], count: int) -> list[bytes]:
    return [items[place * len(items) // count] for place in range(count)]


def _refused(bundle: Bundle, form: Form) -> str:
    """Why the form cannot be replayed anywhere; empty where it can."""
    function = bundle.manifest.graphs.net.function
    if function is not None:
        return f"its network is the Python function {function!r}, and only graphs are run on other machines"
    if form.runtime != DEFAULT:
        return f"its network runs on {form.runtime}, and other machines are asked with {DEFAULT} alone"
    return ""
