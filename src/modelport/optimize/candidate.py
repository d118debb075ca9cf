"""What the search looks at: bundles made of the START by passes, with what was found out about each."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec
import onnx

from ..bundle.store import Bundle
from ..errors import InputError, ModelportError, Unsupported, UsageError
from ..importers.canonical import check, signature_of
from ..runtimes.form import DEFAULT
from ..runtimes.pipeline import Pipeline
from ..runtimes.session import Settings
from ..steps.compile import carried_by, compile_post, compile_pre
from ..steps.step import PostStep, PreStep, step_data
from ..tensors import Signature
from .calibration import Calibration
from .rewriting import sort

START = "start"
"""The id of the bundle that everything is compared with: its network as it is."""
LONGEST = 64
"""Letters of a version, as `bundle.manifest.Version` has it."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where nothing more can be written."""


class NotApplicable(Exception):
    """A pass has nothing to do on this network, or cannot do it; the text says why."""


class Candidate(msgspec.Struct, frozen=True):
    """A bundle with another network, or another way of running it, and how it was made."""

    id: str
    title: str
    bundle: Bundle
    passes: tuple[str, ...]
    """The ids of the steps that made it of the START, one after the other."""
    notes: tuple[str, ...] = ()
    """What the passes say of it: which nodes went, which stayed float."""
    runtime: str = DEFAULT
    settings: Settings = {}
    machine_bound: bool = False
    """Whether it runs, or answers alike, on this class of machine alone."""
    variant: str = ""
    """The form of its own bundle that it is; empty for the network as that has it."""

    @property
    def reduced(self) -> tuple[int, int] | None:
        """The least height and width that photos are decoded at; None where they are decoded whole."""
        forms = {each.name: each for each in self.bundle.manifest.variants}
        return forms[self.variant].reduced if self.variant else None

    def then(self, step: str, title: str) -> Candidate:
        """The same under the name that it has with one more step, by the step's id and title."""
        return msgspec.structs.replace(
            self, id=f"{self.id}-{step}", title=f"{self.title}, {title}", passes=(*self.passes, step)
        )


class Made(msgspec.Struct, frozen=True):
    """A network that a pass made, and what is to be said of it."""

    network: onnx.ModelProto
    notes: tuple[str, ...] = ()
    runtime: str = DEFAULT
    settings: Settings = {}
    """What it is to be run on, and how."""
    machine_bound: bool = False
    """Whether it runs, or answers alike, on this class of machine alone."""
    post: tuple[PostStep, ...] | None = None
    """The steps that make answers of its outputs, where these are others than the network's were."""
    pre: tuple[PreStep, ...] | None = None
    """The steps that prepare what it takes, where that has other sizes; `post` is told then too."""


class Pass(Protocol):
    """One way of changing a network. A pass never touches what it is given."""

    name: ClassVar[str]

    @property
    def id(self) -> str:
        """Short, of letters, digits and `-`; another one for other settings."""
        ...

    @property
    def title(self) -> str:
        """In a few words, for people."""
        ...

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        """The changed network.

        Raises:
            NotApplicable: there is nothing that it could change, or it does not take this network. What else
            it raises is told in its entry as a failure.
        """
        ...


def opened(candidate: Candidate, threads: int = 1) -> Pipeline:
    """The candidate as it is judged and measured: its network on its runtime, with its settings.

    Raises:
        Unsupported: the runtime is not here, or refuses the bundle. UsageError: it has no such setting.
    """
    return Pipeline.open(
        candidate.bundle,
        threads=threads,
        variant=candidate.variant,
        runtime=candidate.runtime,
        settings=candidate.settings,
    )


def network_of(bundle: Bundle) -> onnx.ModelProto:
    """The bundle's network, a copy of its own."""
    return onnx.load_model_from_string(bundle.graph("net"))


def apply(
    step: Pass, start: Bundle, calibration: Calibration, folder: Path, before: Sequence[str] = ()
) -> Candidate:
    """A bundle in `folder` with the network that `step` makes of that of `start`.

    Args:
        before: the ids of the steps that made `start`.

    Raises:
        NotApplicable: see `Pass.apply`; also where the network's inputs or outputs would change, and where
        the pass fails in a way of its own. Unsupported: as the pass says. OSError: the disk is full.
    """
    network = network_of(start)
    try:
        made, files, changes = _made(step, start, network, calibration)
    except (NotApplicable, Unsupported):
        raise
    except Exception as problem:  # a pass of a third party raises what it likes, and ours may have a bug
        if disk_is_full(problem):
            raise
        raise NotApplicable(f"the pass failed: {in_a_line(problem)}") from problem
    try:
        bundle = start.derive(folder / step.id, files, version=version_after(start, step.id), **changes)
    except ModelportError as problem:
        if disk_is_full(problem):
            raise
        raise NotApplicable(problem.message) from problem
    return Candidate(
        step.id,
        step.title,
        bundle,
        (*before, step.id),
        made.notes,
        made.runtime,
        dict(made.settings),
        made.machine_bound,
    )


def version_after(bundle: Bundle, step: str) -> str:
    """The version of what a step makes of a bundle: the end of both names, by which they differ."""
    return f"{bundle.manifest.version}-{step}"[-LONGEST:].lstrip("._-")


def in_a_line(problem: BaseException) -> str:
    """What was raised; of somebody else's code its kind, and the first line that it says."""
    if isinstance(problem, ModelportError):
        return str(problem)
    lines = str(problem).strip().splitlines() or ["it says no more"]
    return f"{type(problem).__name__}: {lines[0][:300]}"


def disk_is_full(problem: BaseException) -> bool:
    """Whether it is the system's word that nothing more can be written, or comes of it."""
    return any(isinstance(each, OSError) and each.errno in FULL for each in (problem, problem.__cause__))


def _made(
    step: Pass, start: Bundle, network: onnx.ModelProto, calibration: Calibration
) -> tuple[Made, dict[str, bytes], dict[str, Any]]:
    """What a pass makes of `network`; of the bundle the files and the manifest's fields that change."""
    made = step.apply(network, calibration)
    sort(made.network.graph)
    try:
        check(made.network)
    except InputError as problem:
        raise NotApplicable(f"what it made is broken: {problem.message}") from problem
    files, changes = _changes(start, made)
    files[start.manifest.graphs.net.file] = made.network.SerializeToString(deterministic=True)
    return made, files, changes


def _changes(start: Bundle, made: Made) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The graphs around the network that are others, and what of the manifest a pass changes.

    Raises:
        NotApplicable: the network's inputs or outputs are others, and the answer is not made anew.
    """
    graphs, after = start.manifest.graphs, signature_of(made.network)
    before = graphs.net.signature
    if made.post is None:
        if _public(before) != _public(after):
            raise NotApplicable(f"it changes what the network takes or gives: {_shown(after)}")
        return {}, {}
    if _public(Signature(before.inputs, ())) != _public(Signature(after.inputs, ())):
        raise NotApplicable(f"it changes what the network takes: {_shown(after)}")
    own = {spec.name for spec in before.outputs}
    carried = tuple(spec for spec in graphs.post.signature.inputs if spec.name not in own)
    try:
        compiled = compile_post(made.post, (*after.outputs, *carried), start.labels())
    except UsageError as problem:
        raise NotApplicable(f"the answer needs what is left out: {problem.message}") from problem
    if compiled.signature.outputs != graphs.post.signature.outputs:
        raise NotApplicable(f"it changes the answer: {_shown(compiled.signature)}")
    files = {graphs.post.file: compiled.data}
    pre, steps = graphs.pre, msgspec.structs.replace(start.manifest.steps, post=tuple(step_data(made.post)))
    if made.pre is not None:
        given = compile_pre(made.pre, pre.signature.outputs[0].name, carried=carried_by(made.post))
        files[pre.file] = given.data
        pre = msgspec.structs.replace(pre, signature=given.signature)
        steps = msgspec.structs.replace(steps, pre=tuple(step_data(made.pre)))
    return files, {
        "graphs": msgspec.structs.replace(
            graphs,
            pre=pre,
            net=msgspec.structs.replace(graphs.net, signature=after),
            post=msgspec.structs.replace(graphs.post, signature=compiled.signature),
        ),
        "steps": steps,
        "golden": None,  # they were recorded of the outputs that it had
    }


def _public(signature: Any) -> list[tuple[str, str, int]]:
    return [(spec.name, spec.dtype, len(spec.shape)) for spec in (*signature.inputs, *signature.outputs)]


def _shown(signature: Any) -> str:
    return ", ".join(f"{spec.name} {spec}" for spec in (*signature.inputs, *signature.outputs))


def computing(candidate: Candidate) -> tuple[str, ...]:
    """The same for candidates of one network, however it is run."""
    manifest = candidate.bundle.manifest
    graphs = manifest.graphs
    return tuple(manifest.files[graph.file].sha256 for graph in (graphs.pre, graphs.net, graphs.post))


def identity(candidate: Candidate) -> tuple[object, ...]:
    """The same for candidates that compute the same in the same way."""
    return (
        *computing(candidate),
        candidate.runtime,
        tuple(sorted(candidate.settings.items())),
        candidate.reduced,
    )


def same_network(one: Candidate, other: Candidate) -> bool:
    """Whether both are one bundle for ONNX Runtime, settings aside."""
    return one.bundle.digest == other.bundle.digest and one.runtime == other.runtime == DEFAULT
