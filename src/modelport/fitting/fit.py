"""The whole search: ask the reference, find geometry, kernel, colours and values, prove it on the samples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..errors import InputError, UsageError
from ..steps.compile import compile_pre, reference_pre
from ..steps.image import Channels, Grayscale, Layout
from ..steps.step import PreStep
from ..tensors import Array
from .axes import Order, settle
from .diagnose import nearest
from .finding import Finding
from .geometry import VARIATIONS, Geometry
from .match import Colours, Evidence
from .prove import as_network, prove
from .reference import WORDS, Answers, Reference, Takes
from .samples import Sample, find_samples, make_probes
from .search import Fit, gray, search, search_among
from .values import Values, recognise

Note = Callable[[str], None]
_OWN_PICTURES = 6
GREY_FROM_FILES = (
    "it has the files decoded in grey: of a JPEG that is its own luminance, a level or two from the grey of "
    "its colours, and there is no step that gives it"
)


class _Asked(msgspec.Struct, frozen=True, eq=False):
    """The samples and probes with what the reference made of them, channels last."""

    samples: Sequence[Sample]
    outputs: Sequence[Array | None]
    raw: Sequence[Array | None]
    order: Order
    answers: Answers

    def pairs(self) -> list[tuple[Sample, Array]]:
        """Those that have an output."""
        return [(s, o) for s, o in zip(self.samples, self.outputs, strict=True) if o is not None]


def fit_steps(
    reference: str,
    samples: str | Path,
    *,
    takes: Takes = "auto",
    python: str | None = None,
    limit: int = 32,
    probes: bool = True,
    seconds: float = 600.0,
    progress: Note | None = None,
) -> Finding:
    """The steps that the function `reference` is.

    Args:
        reference: `FILE.py:FUNCTION`; it takes one picture and returns one array or tensor.
        samples: a folder of pictures, of which at most `limit` are used.
        takes: how the function is given a picture; `auto` tries.
        python: the interpreter that runs it; this one by default.
        probes: whether it is asked about made pictures too: noise, flat colours, one with EXIF.
        seconds: how long it may take altogether.
        progress: told what is being done.

    Raises:
        UsageError, NotFound, InputError, Unsupported: it cannot be asked, or gives no pictures.
    """
    tell: Note = progress or (lambda note: None)
    asked_for = Reference.parse(reference, python)
    with tempfile.TemporaryDirectory(prefix="modelport-probes-") as folder:
        own = find_samples(Path(samples), limit)
        tell(f"calling {asked_for} on {len(own)} samples")
        asked = _ask(asked_for, own, make_probes(own, Path(folder)) if probes else [], takes, seconds)
        if asked.answers.random:
            raise InputError(
                f"{asked_for} gives different answers for one picture: it holds something random",
                at=own[0].name,
                hint="the preprocessing of evaluation is wanted, without augmentation",
            )
        evidence = _evidence(asked)
        tell("looking for geometry, kernel, colours and values")
        fits, near = search(evidence)
        if not fits and probes:
            fits = search_among(near, [each for each in evidence if each.probe in ("", "copy")])
        found = _of_fits(fits, asked, evidence) if fits else _of_nearest(evidence, near, asked)
        if not found.ok and asked_for.reads_grey() and all(gray(each.output) for each in evidence):
            found = msgspec.structs.replace(found, why=(GREY_FROM_FILES, *found.why))
    return msgspec.structs.replace(
        found, reference=str(asked_for), notes=(*_notes_on(asked, evidence), *found.notes)
    )


def _ask(
    reference: Reference, own: list[Sample], probes: list[Sample], takes: Takes, seconds: float
) -> _Asked:
    everything = [*own, *probes]
    answers = reference.ask(everything, takes, seconds)
    names = [sample.name for sample in everything]
    order, outputs = settle(answers.outputs, names, len(own))
    return _Asked(everything, outputs, answers.outputs, order, answers)


def _evidence(asked: _Asked) -> list[Evidence]:
    """What the search looks at: made pictures and copies, or the samples where there are none."""
    pairs = asked.pairs()
    made = [pair for pair in pairs if pair[0].probe in ("noise", "copy", "flat")]
    own = [pair for pair in pairs if not pair[0].probe]
    upright = [pair for pair in own if pair[0].sideways is None] or own
    if not any(sample.probe == "copy" for sample, _ in made):
        made += _varied(upright)
    return [Evidence(sample.name, sample.pixels, output, sample.probe) for sample, output in made]


def _varied(pairs: list[tuple[Sample, Array]]) -> list[tuple[Sample, Array]]:
    """A few of the samples: of different sizes first, and small ones."""
    small = sorted(pairs, key=lambda pair: pair[0].pixels.size)
    sizes: set[tuple[int, ...]] = set()
    new: list[tuple[Sample, Array]] = []
    rest: list[tuple[Sample, Array]] = []
    for pair in small:
        (rest if pair[0].pixels.shape in sizes else new).append(pair)
        sizes.add(pair[0].pixels.shape)
    return [*new, *rest][:_OWN_PICTURES]


def _of_fits(fits: list[Fit], asked: _Asked, evidence: Sequence[Evidence]) -> Finding:
    """The first fit that can be made whole; the others are named."""
    judged = [(fit, recognise(fit.table), _gaps(fit)) for fit in fits]
    order = sorted(range(len(judged)), key=lambda i: (len(judged[i][2]), i))
    fit, values, gaps = judged[order[0]]
    also = [fits[i].named() for i in order[1:] if len(judged[i][2]) <= len(gaps)]
    also += [f"the colours as {colours}" for colours in fit.also]
    if values.problem:
        gaps = [*gaps, values.problem]
    moves = fit.geometry.steps(fit.kernel, fit.order, fit.fill)
    steps = _whole(moves, fit.gray_first, fit.colours, len(fit.planes), values, asked.order)
    kernel = fit.kernel if fit.geometry.resizes else ""
    notes = []
    if kernel and not any(_is_resized(fit.geometry, each) for each in evidence):
        notes.append("no picture is resized: the kernel cannot be known, and any does")
    words = (fit.geometry, kernel, fit.order, fit.colours, fit.gray_first)
    return _finding(asked, words, values, steps, gaps, also, notes)


def _of_nearest(evidence: Sequence[Evidence], near: Sequence[Geometry], asked: _Asked) -> Finding:
    """The nearest recipe, and what stands between."""
    found = nearest(evidence, near)
    if found is None:
        return _unknown(asked)
    values = recognise(found.table)
    moves = found.geometry.steps(found.kernel, found.order, None)
    steps = _whole(moves, found.gray_first, found.colours, len(found.planes), values, asked.order)
    gap = (
        f"{found.instead}. The nearest is {found.kernel}: off by up to {found.largest:.3g} levels, "
        f"by more than half a level in {found.share:.1%} of values"
    )
    words = (found.geometry, found.kernel, found.order, found.colours, found.gray_first)
    gaps = [gap, *([values.problem] if values.problem else [])]
    return _finding(asked, words, values, steps, gaps, [], [])


def _unknown(asked: _Asked) -> Finding:
    """Nothing of the picture is seen in the output."""
    first = as_network(next(raw for raw in asked.raw if raw is not None), asked.order)
    return Finding(
        reference="", takes=asked.answers.way, ok=False, geometry="unknown", kernel="", colours="", values="",
        layout=asked.order, output=f"{first.dtype.name}{list(first.shape)}",
        why=(
            "no resize, crop and frame of the picture comes near the output: a warp, a crop elsewhere than "
            "in the middle, a mirrored picture or features have no steps",
        ),
    )  # fmt: skip


def _is_resized(geometry: Geometry, each: Evidence) -> bool:
    placement = geometry.placement(*each.sizes[0])
    return placement.resized != placement.box[2:]


def _gaps(fit: Fit) -> list[str]:
    """What of a fit no step makes."""
    found = []
    if fit.geometry.variation:
        found.append(f"{VARIATIONS[fit.geometry.variation]}; there is no step for that")
    if fit.colours == "other":
        names = "red", "green", "blue", "grey"
        found.append("the channels are " + ", ".join(names[plane] for plane in fit.planes))
    if not fit.one_map:
        found.append("every picture has values of its own: it is normalised by its own mean or range")
    if fit.border:
        found.append(fit.border)
    return found


def _whole(
    moves: tuple[PreStep, ...],
    gray_first: bool,
    colours: Colours,
    channels: int,
    values: Values,
    order: Order,
) -> tuple[PreStep, ...]:
    """All steps, from the decoded picture to the network's tensor."""
    gray = [Grayscale(3 if channels == 3 else 1)] if colours == "gray" else []
    turned = [Channels("bgr")] if colours == "bgr" else []
    before, after = (gray, []) if gray_first else ([], gray)
    return (*before, *moves, *after, *turned, *values.steps, Layout(order))


def _finding(
    asked: _Asked,
    words: tuple[Geometry, str, str, Colours, bool],
    values: Values,
    steps: tuple[PreStep, ...],
    gaps: list[str],
    also: list[str],
    notes: list[str],
) -> Finding:
    geometry, kernel, order, colours, gray_first = words
    try:
        compiled = compile_pre(steps, "input").data
    except UsageError as problem:
        raise InputError(f"no graph can be made of the steps that were found: {problem.message}") from problem
    largest_slope = float(np.abs(affine_of_values(values, steps)).max())
    own = [
        (sample, as_network(raw, asked.order))
        for sample, raw in zip(asked.samples, asked.raw, strict=True)
        if raw is not None and not sample.probe and sample.sideways is None
    ]
    proof = prove(compiled, own, largest_slope) if own else None
    why, said = list(gaps), list(notes)
    if proof is not None and not gaps and proof.equal < proof.samples and proof.largest_levels > 1e-3:
        text = (
            f"{proof.samples - proof.equal} of {proof.samples} samples differ, by up to "
            f"{proof.largest_levels:.3g} levels ({proof.worst})"
        )
        if asked.answers.way in ("path", "bytes") and _copies(asked, compiled, largest_slope):
            said.append(
                f"the steps are equal where the samples are PNG; as they are, {text}: the reference "
                "decodes JPEG otherwise than libjpeg-turbo"
            )
        else:
            why.append(text)
    said += _exif(asked, steps)
    first = as_network(next(raw for raw in asked.raw if raw is not None), asked.order)
    width = ", width first as Pillow before version 13" if order != "pillow-13" else ""
    gray = {True: " before the geometry", False: ""}[gray_first]
    return Finding(
        reference="", takes=asked.answers.way, ok=not why, geometry=geometry.text(), kernel=kernel + width,
        colours={"gray": f"grey{gray}"}.get(colours, colours.upper()), values=values.text,
        layout=asked.order, steps=steps, output=f"{first.dtype.name}{list(first.shape)}", proof=proof,
        why=tuple(why), also=tuple(also), notes=tuple(said),
    )  # fmt: skip


def affine_of_values(values: Values, steps: tuple[PreStep, ...]) -> Array:
    """How much one level is in values, for each of the last axis."""
    made = []
    for level in (0, 255):
        x = np.full((1, 1, 3), level, np.uint8)
        try:
            for step in values.steps:
                x = step.reference(x)
        except ValueError:
            x = np.full((1, 1, 1), level, np.uint8)
            for step in values.steps:
                x = step.reference(x)
        made.append(x.astype(np.float64))
    return np.asarray((made[1] - made[0]) / 255)


def _copies(asked: _Asked, compiled: bytes, slope: float) -> bool:
    """Whether the steps hold for the samples as PNG."""
    copies = [
        (sample, as_network(raw, asked.order))
        for sample, raw in zip(asked.samples, asked.raw, strict=True)
        if raw is not None and sample.probe == "copy"
    ]
    return bool(copies) and prove(compiled, copies, slope).largest_levels < 1e-3


def _exif(asked: _Asked, steps: tuple[PreStep, ...]) -> list[str]:
    """Whether the reference turns photos as their EXIF orientation says."""
    turned, ignored = 0, 0
    for sample, raw in zip(asked.samples, asked.raw, strict=True):
        if sample.sideways is None or raw is None:
            continue
        want = as_network(raw, asked.order).astype(np.float64)
        off = []
        for pixels in (sample.pixels, sample.sideways):
            made = reference_pre(steps, pixels)
            off.append(np.abs(made - want).mean() if made.shape == want.shape else np.inf)
        turned += off[0] <= off[1]
        ignored += off[1] < off[0]
    if not ignored:
        return []
    affected = sum(1 for sample in asked.samples if sample.sideways is not None and not sample.probe)
    return [
        "the reference ignores the EXIF orientation, so that photos from phones lie on their side; "
        f"Modelport turns them ({affected or 'none'} of the samples)"
    ]


def _notes_on(asked: _Asked, evidence: Sequence[Evidence]) -> list[str]:
    """What is worth knowing about how the function was asked."""
    notes, answers = [], asked.answers
    if answers.way in ("rgb", "bgr"):
        other = "bgr" if answers.way == "rgb" else "rgb"
        notes.append(
            f"it takes an array and was given {answers.way.upper()}; if your code gives it "
            f"{other.upper()}, say --takes {other}"
        )
    first = next(raw for raw in asked.raw if raw is not None)
    if first.dtype == np.float64:
        notes.append("the reference gives float64; it is compared as the float32 that a network takes")
    sizes = {each.source.shape for each in evidence if each.probe != "flat"}
    if len(sizes) == 1:
        notes.append(
            "all pictures are of one size, {} x {}: what follows from the size is open".format(
                *evidence[0].source.shape[:2]
            )
        )
    if all(each.flat for each in evidence):
        notes.append("the pictures are of one colour each: nothing shows how they are resized")
    failed = sum(1 for s, o in zip(asked.samples, asked.outputs, strict=True) if s.probe and o is None)
    if failed:
        notes.append(
            f"{failed} of the made pictures were not taken, or gave another shape; they are left out"
        )
    return notes


__all__ = ["WORDS", "fit_steps"]
