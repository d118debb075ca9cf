"""What the stages of a bundle give on another machine, each given there what it is given here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import onnx

from ..bundle.store import Bundle
from ..emulation.jobs import ALL, Earlier, Job
from ..emulation.machine import Ran, run
from ..runtimes.form import Form
from ..runtimes.onnxruntime import UNWANTED, OnnxRuntime
from ..runtimes.pipeline import Pipeline, graph_of
from ..tensors import Array, Tensors, dtype_name

STAGES = ("pre", "net", "post", "answer")
"""The graphs, each on what this machine gives before it, and then all of them there."""
ALWAYS = {"optimization.disable_specified_optimizers": ";".join(UNWANTED)}
"""What every graph is opened with here."""
_LEVELS = {"none": 0, "basic": 1, "extended": 2}

_EIGHT_BIT = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinear")

Gave = dict[str, dict[str, Array]]
"""By stage, what it gave for one item."""


class Case(msgspec.Struct, frozen=True, eq=False):
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
    def of(cls, pipeline: Pipeline, item: bytes) -> Case:
        decoded = pipeline.decode(item)
        prepared = pipeline.pre(decoded)
        batch = {name: array[None] for name, array in prepared.items()}
        carried = {name: batch[name] for name in pipeline.carried}
        fed = _rows(pipeline.bundle, {name: batch[name] for name in batch if name not in carried})
        raw = pipeline.net(fed)
        answer = pipeline.post({name: array[:1] for name, array in raw.items()} | carried)
        return cls(decoded, prepared, carried, fed, raw, answer)


class Graphs(msgspec.Struct, frozen=True, eq=False):
    """The three graphs of a form, and how its network is opened."""

    bundle: Bundle
    pre: bytes
    net: bytes
    post: bytes
    taken: frozenset[str]
    """What `post` takes."""
    level: int
    settings: dict[str, str]
    eight_bit: bool

    @classmethod
    def of(cls, bundle: Bundle, form: Form) -> Graphs:
        post = graph_of(bundle, "post", form)
        session = OnnxRuntime().open(post)
        taken = frozenset(spec.name for spec in session.signature.inputs)
        session.close()
        settings = dict(ALWAYS)
        if not form.settings.get("denormals", True):
            settings["session.set_denormal_as_zero"] = "1"
        level = _LEVELS.get(str(form.settings.get("optimization")), ALL)
        net = graph_of(bundle, "net", form)
        kinds = {node.op_type for node in onnx.load_model_from_string(net).graph.node}
        eight_bit = any(kind.startswith(_EIGHT_BIT) for kind in kinds)
        return cls(bundle, graph_of(bundle, "pre", form), net, post, taken, level, settings, eight_bit)

    def jobs(self, case: Case, first: int) -> list[Job]:
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


def gave(
    machine: str,
    graphs: Graphs,
    cases: Sequence[Case],
    seconds: float,
    tell: Callable[[str], None],
    count: Callable[[int], None] = lambda done: None,
) -> tuple[list[Gave], Ran]:
    """What every stage gives there for each case, as many of them as the time is enough for.

    All goes in one run; where `pre` gives something else there, the rest follows from it in another.
    `count` is told how many cases are done.

    Raises:
        Unsupported: the machine cannot be emulated here. ModelFailed: a graph does not run there.
    """
    each = len(STAGES)
    told = [0]

    def counted(jobs: int) -> None:
        if jobs // each > told[-1]:
            told.append(jobs // each)
            count(told[-1])

    ran = run(machine, _jobs(graphs, cases), seconds=seconds, tell=tell, count=counted)
    done = len(ran.outputs) // each
    found = [dict(zip(STAGES, ran.outputs[each * n : each * n + each], strict=True)) for n in range(done)]
    moved = [n for n in range(done) if not same_bits(found[n]["pre"], cases[n].prepared)]
    if moved:
        again = [_moved(graphs, cases[number], found[number]["pre"]) for number in moved]
        second = run(machine, _jobs(graphs, again), seconds=seconds, tell=tell)
        for number, answer in zip(moved, second.outputs[each - 1 :: each], strict=False):
            found[number]["answer"] = answer
        ran = msgspec.structs.replace(ran, seconds=ran.seconds + second.seconds)
    return found, ran


def _jobs(graphs: Graphs, cases: Sequence[Case]) -> list[Job]:
    return [job for number, case in enumerate(cases) for job in graphs.jobs(case, len(STAGES) * number)]


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


def _moved(graphs: Graphs, case: Case, prepared: Tensors) -> Case:
    """The case, with what is prepared there."""
    batch = {name: array[None] for name, array in prepared.items()}
    return msgspec.structs.replace(
        case,
        prepared=prepared,
        carried={name: batch[name] for name in case.carried},
        fed=_rows(graphs.bundle, {name: batch[name] for name in batch if name not in case.carried}),
    )


def _rows(bundle: Bundle, row: Tensors) -> Tensors:
    """One row as a batch of the size that the network was made for, filled up with copies of it."""
    info = bundle.manifest.graphs.net
    fixed = info.signature.inputs[0].shape[0]
    if info.batch or not isinstance(fixed, int):
        return row
    return {name: np.repeat(array, fixed, axis=0) for name, array in row.items()}
