"""Golden cases replayed: does a bundle, here and now, give what the source framework gave?

Every stage is run on what was recorded before it, so that a difference is blamed on the stage that makes
it; then everything is run from the encoded file to the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..bundle.manifest import Golden, GoldenCase, Tolerance
from ..bundle.store import Bundle
from ..errors import BundleError, InputError, ModelFailed
from ..runtimes.form import DEFAULT
from ..runtimes.npz import read_npz
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors
from .agreement import agree
from .answering import Answering, answering
from .detections import Thresholds, are_detections, compare_detections, thresholds_of
from .parity import Parity, compare, compare_answers, worst_of

STAGES = ("decode", "pre", "net", "post", "end_to_end")
"""In the order an item passes them; `end_to_end` is all of them together."""
TAPS = ("decoded", "pre", "raw", "answer")
"""What is recorded after each stage: the first part of the names in a case's .npz."""
MAX_TAPS_BYTES = 2 << 30
SCHEMA = "modelport.verify/1"


class Divergence(msgspec.Struct, frozen=True):
    """The first place where a replay is not what was recorded."""

    case: str
    tap: str
    """The stage that makes the difference: one of `STAGES`."""
    tensor: str
    parity: Parity
    tolerance: Tolerance

    def __str__(self) -> str:
        tensor = f", tensor {self.tensor!r}" if self.tensor else ""
        return f"{self.tap}, case {self.case!r}{tensor}: {self.parity}"


class Report(msgspec.Struct, frozen=True):
    """What a replay found."""

    ok: bool
    name: str
    version: str
    digest: str
    source: str
    """The framework that the cases were recorded from."""
    generated: bool
    """Whether the inputs were made up, because whoever packed gave none."""
    cases: int
    taps: dict[str, Parity]
    """The worst parity of each stage over all cases and tensors."""
    first_divergence: Divergence | None = None
    reason: str = ""
    labels_compared: int = 0
    """Cases that are answered with a class: its label or index, or the largest of a network's outputs."""
    labels_agreeing: int = 0
    """Those of them whose class is the recorded one, from the encoded file to the answer."""
    answering: Answering | None = None
    """What answers here in the packed network's place, which is no part of `ok`; None where no variant is
    chosen for this machine."""

    @property
    def max_difference(self) -> float:
        """The largest absolute difference between the network here and in the source framework."""
        return self.taps["net"].max_abs if "net" in self.taps else 0.0

    def summary(self) -> str:
        """The finding as a sentence."""
        if not self.ok:
            return f"not the same model: {self.first_divergence or self.reason}"
        inputs = "generated inputs" if self.generated else "recorded inputs"
        return (
            f"the network answers as in {self.source}, and everything else as it was recorded: "
            f"{self.cases} {inputs}, largest difference in the network {self.max_difference:.3g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's name."""
        here = self.answering.to_dict() if self.answering is not None else None
        plain = {"schema": SCHEMA, **msgspec.to_builtins(self), "max_difference": self.max_difference}
        return {**plain, "answering": here}


class _Finding(msgspec.Struct, frozen=True):
    case: str
    stage: str
    tensor: str
    parity: Parity
    same_class: bool | None = None
    """Whether the answer names the recorded class; told once for each case."""


def verify(
    bundle: Bundle | str | os.PathLike[str], *, runtime: str | None = None, threads: int = 1
) -> Report:
    """Check every digest, then replay every golden case on the network as it was packed.

    Where a variant answers on this machine in its place, that one is asked as well, and what it answers is in
    `Report.answering`: it is another network, so that this is no part of `ok`.

    Args:
        bundle: the bundle, or where it is.
        runtime: the engine that runs the network, ONNX Runtime unless said.
        threads: threads of one network run.

    Raises:
        BundleError: damaged, or a case's recording cannot be read.
        Unsupported: the runtime does not run the bundle.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle)
    bundle.verify_files()
    golden = bundle.manifest.golden
    if golden is None or not golden.cases:
        return _report(bundle, golden, [], "no golden cases")
    with Pipeline.open(bundle, threads=threads, runtime=runtime, lowered=False, variant="") as pipeline:
        report = replay(pipeline)
    for variant in bundle.manifest.variants:
        if not report.ok or not variant.outputs or runtime not in (None, variant.runtime):
            continue
        with Pipeline.open(bundle, threads=threads, lowered=False, variant=variant.name) as pipeline:
            other = replay(pipeline)
        if not other.ok:
            report = msgspec.structs.replace(other, reason=f"variant {variant.name!r}: {other.reason}")
    recorded = (
        (bundle.read(case.input), read_taps(bundle.read(case.taps), case.taps)["answer"])
        for case in golden.cases
    )
    here = answering(bundle, recorded, runtime=runtime, threads=threads)
    return msgspec.structs.replace(report, answering=here)


def replay(pipeline: Pipeline, cases: Sequence[int] | None = None) -> Report:
    """Replay golden cases (all, or those with these numbers) on a pipeline that is loaded already.

    Raises:
        BundleError: a case's recording cannot be read.
    """
    bundle = pipeline.bundle
    golden = bundle.manifest.golden
    if golden is None or not golden.cases:
        return _report(bundle, golden, [], "no golden cases")
    chosen = golden.cases if cases is None else [golden.cases[number] for number in cases]
    findings: list[_Finding] = []
    for case in chosen:
        findings += _replay(pipeline, golden, case)
    return _report(bundle, golden, findings)


def end_to_end_tolerance(golden: Golden) -> Tolerance:
    """What the network and the steps after it may differ by together; softmax and sigmoid do not widen it."""
    return Tolerance(golden.net.absolute + golden.post.absolute, golden.net.relative + golden.post.relative)


def read_taps(data: bytes, at: str) -> dict[str, dict[str, Array]]:
    """The recorded arrays: tap -> name -> array; those of `raw` and `answer` have a batch axis of one row.

    Raises:
        BundleError: the .npz is damaged, or a tap is missing or unknown.
    """
    try:
        arrays = read_npz(data, limit=MAX_TAPS_BYTES)
    except InputError as problem:
        raise BundleError(problem.message, at=at) from problem
    taps: dict[str, dict[str, Array]] = {tap: {} for tap in TAPS}
    for name, array in arrays.items():
        tap, _, tensor = name.partition(".")
        if tap not in taps or not tensor:
            raise BundleError(f"unknown tap {name!r}; expected {'.…, '.join(TAPS)}.…", at=at)
        taps[tap][tensor] = array
    for tap, tensors in taps.items():
        if not tensors:
            raise BundleError(f"nothing was recorded at {tap!r}", at=at)
    return taps


def _replay(pipeline: Pipeline, golden: Golden, case: GoldenCase) -> list[_Finding]:
    encoded = pipeline.bundle.read(case.input)
    taps = read_taps(pipeline.bundle.read(case.taps), case.taps)
    carried = _batch({name: taps["pre"][name] for name in pipeline.carried if name in taps["pre"]})
    stages: tuple[tuple[str, Callable[[], Tensors], Tensors, Tolerance], ...] = (
        ("decode", lambda: pipeline.decode(encoded), taps["decoded"], golden.decode),
        ("pre", lambda: pipeline.pre(taps["decoded"]), taps["pre"], golden.pre),
        ("net", lambda: pipeline.net(_batch(taps["pre"])), taps["raw"], golden.net),
        ("post", lambda: pipeline.post(taps["raw"] | carried), taps["answer"], golden.post),
        (
            "end_to_end",
            lambda: _batch(pipeline.answer(pipeline.decode(encoded))),
            taps["answer"],
            end_to_end_tolerance(golden),
        ),
    )
    options = pipeline.bundle.manifest.options
    thresholds = thresholds_of({option.name: option.default for option in options})
    found: list[_Finding] = []
    for stage, run, want, tolerance in stages:
        if pipeline.variant and (stage == "net" or (stage == "end_to_end" and not _same_network(pipeline))):
            continue  # another form of the network differs by design, and was judged when it was made
        if pipeline.form.reduced is not None and stage in ("decode", "end_to_end"):
            continue  # whole pictures were recorded
        if pipeline.form.post is not None and stage == "post":
            continue  # it takes other tensors than were recorded
        if pipeline.form.pre is not None and stage in ("pre", "end_to_end"):
            continue  # it makes others
        got, problem = _ran(run)
        same = agree(got, want) if stage == "end_to_end" else None
        for tensor, parity in compared(stage, got, problem, want, tolerance, thresholds).items():
            found.append(_Finding(case.name, stage, tensor, parity, same))
            same = None
    return found


def _same_network(pipeline: Pipeline) -> bool:
    """Whether what runs is the network that was packed, wherever it ends."""
    form = pipeline.form
    return (form.file, form.runtime) == (pipeline.bundle.manifest.graphs.net.file, DEFAULT)


def _ran(run: Callable[[], Tensors]) -> tuple[Tensors, str]:
    """What the stage gives, or nothing and why it failed."""
    try:
        return run(), ""
    except (InputError, ModelFailed) as problem:
        return {}, problem.message


def compared(
    stage: str,
    got: Tensors,
    problem: str,
    want: Tensors,
    tolerance: Tolerance,
    thresholds: Thresholds,
) -> Mapping[str, Parity]:
    if problem:
        # The recording is what the stage took when it was made: that it does not now is a difference.
        return {"": Parity(False, 0.0, 0.0, 0, 0, None, problem)}
    if stage in ("post", "end_to_end"):
        if are_detections(want):
            return compare_detections(got, want, tolerance, thresholds)
        return compare_answers(got, want, tolerance)
    missing = {
        name: Parity(False, 0.0, 0.0, 0, 0, None, f"there is no {name!r}") for name in want if name not in got
    }
    return missing | {name: compare(got[name], want[name], tolerance) for name in want if name in got}


def _report(bundle: Bundle, golden: Golden | None, findings: Iterable[_Finding], reason: str = "") -> Report:
    found = list(findings)
    taps: dict[str, Parity] = {}
    first: _Finding | None = None
    for stage in STAGES:
        here = [finding for finding in found if finding.stage == stage]
        worst = worst_of({str(number): finding.parity for number, finding in enumerate(here)})
        if worst is None:
            continue
        taps[stage] = worst[1]
        first = first or next((finding for finding in here if not finding.parity.ok), None)
    divergence = None
    if first is not None and golden is not None:
        allowed = {
            "decode": golden.decode,
            "pre": golden.pre,
            "net": golden.net,
            "post": golden.post,
            "end_to_end": end_to_end_tolerance(golden),
        }
        divergence = Divergence(first.case, first.stage, first.tensor, first.parity, allowed[first.stage])
    classes = [finding.same_class for finding in found if finding.same_class is not None]
    return Report(
        ok=divergence is None and not reason,
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        digest=bundle.digest,
        source=golden.source if golden else "",
        generated=golden.generated if golden else False,
        cases=len(golden.cases) if golden else 0,
        taps=taps,
        first_divergence=divergence,
        reason=reason or (str(divergence) if divergence else ""),
        labels_compared=len(classes),
        labels_agreeing=sum(classes),
    )


def _batch(item: Tensors) -> dict[str, Array]:
    return {name: array[None] for name, array in item.items()}
