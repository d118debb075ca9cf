"""What a network's signature asks of steps, and whether given steps answer it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from ..errors import UsageError
from ..tensors import Signature, TensorSpec
from .compile import carried_by, compile_post, compile_pre
from .heads import Head
from .image import Cast, CenterCrop, both_sides
from .post import Labels, Sigmoid, Softmax, Squeeze, TopK
from .resize import Resize
from .step import PostStep, PreStep
from .tables import Binary


class Resolved(msgspec.Struct, frozen=True):
    """Steps that fit one network, the class names to go with them, and what was decided on the way."""

    pre: tuple[PreStep, ...]
    post: tuple[PostStep, ...]
    notes: tuple[str, ...]
    labels: tuple[str, ...] = ()


Order = Literal["chw", "hwc", "hw", "flat"]


class PictureShape(msgspec.Struct, frozen=True):
    """The order of a network's picture axes (a `layout` order), and height and width where both are fixed."""

    order: Order
    sides: tuple[int, int] | None


def picture_of(net: Signature, order: Order | None = None) -> PictureShape:
    """How the network takes pictures; `order` says so where the shape alone does not.

    Raises:
        UsageError: not one input, no picture, or an order of axes that the shape leaves open.
    """
    if len(net.inputs) != 1:
        names = ", ".join(spec.name for spec in net.inputs)
        raise UsageError(f"the recipe feeds one input, the network has {len(net.inputs)}: {names}", hint=_RAW)
    spec = net.inputs[0]
    item = spec.shape[1:]
    order = order or _order(spec)
    if order == "flat" and len(item) == 1:
        return PictureShape(order, _flat_sides(item[0]))
    axes = (1, 2) if order == "chw" else (0, 1)
    if order == "flat" or len(item) != len(order):
        raise UsageError(f"layout {order!r} does not go with the network's input {spec.name} {spec}")
    height, width = (item[axis] for axis in axes)
    fixed = isinstance(height, int) and isinstance(width, int)
    return PictureShape(order, (int(height), int(width)) if fixed else None)


_RAW = "the recipe `raw` takes the network's own tensors"


def _order(spec: TensorSpec) -> Order:
    """The layout that the shape of an input, batch first, tells."""
    item = spec.shape[1:]
    if len(item) == 1:
        return "flat"
    if len(item) == 2:
        return "hw"
    if len(item) != 3:
        raise UsageError(f"the network's input {spec.name} {spec} is no picture", hint=_RAW)
    first, last = item[0] in (1, 3), item[2] in (1, 3)
    if first != last:
        return "chw" if first else "hwc"
    if first or any(isinstance(side, str) for side in (item[0], item[2])):
        raise UsageError(
            f"the network's input {spec.name} {spec} does not say which axis is the channels",
            hint="--set layout=chw (PyTorch) or --set layout=hwc (TensorFlow)",
        )
    raise UsageError(
        f"the network's input {spec.name} {spec} has neither 1 nor 3 channels first or last", hint=_RAW
    )


def _flat_sides(size: int | str) -> tuple[int, int] | None:
    for channels in (1, 3):
        if isinstance(size, int) and size % channels == 0:
            side = math.isqrt(size // channels)
            if side * side * channels == size:
                return side, side
    return None


def fit(
    pre: Sequence[PreStep],
    post: Sequence[PostStep],
    *,
    net: Signature,
    pictures: bool,
    labels: tuple[str, ...],
    own_labels: tuple[str, ...],
    normalised_output: bool,
    notes: Sequence[str],
    task: str = "",
) -> Resolved:
    """The steps as the network needs them: a cast added, what it has no use for dropped, each with a note.

    Raises:
        UsageError: what the steps make is not what the network takes, or the other way round.
    """
    said = list(notes)
    _check_outputs(post, net, task)
    steps = _pre_for(pre, net.inputs[0], said) if pictures else tuple(pre)
    names = labels or _own_labels(post, own_labels, net, said)
    after = _post_for(post, net, names, normalised_output, said)
    carried = carried_by(after)
    if carried and not pictures:
        raise UsageError("boxes are mapped back to a picture, and the recipe takes tensors", at="$.post")
    if carried:
        compile_pre(steps, net.inputs[0].name, carried=carried)
    around = [TensorSpec(spec.name, spec.dtype, ("batch", *spec.shape)) for spec in carried]
    compile_post(after, [*net.outputs, *around], names)
    return Resolved(steps, after, tuple(said), names)


def _pre_for(pre: Sequence[PreStep], spec: TensorSpec, notes: list[str]) -> tuple[PreStep, ...]:
    """The steps, ending in the network's datatype and shape."""
    for before, step in pairwise(pre):
        if isinstance(before, Resize) and isinstance(step, CenterCrop):
            _check_frame(before, step)
    steps = tuple(pre)
    made = compile_pre(steps, spec.name).signature.outputs[0]
    if made.dtype == "float32" and spec.dtype in ("float16", "float64"):
        steps = (*steps, Cast(spec.dtype))  # type: ignore[arg-type]
        notes.append(f"the network takes {spec.dtype}: a `cast` was added")
        made = compile_pre(steps, spec.name).signature.outputs[0]
    want = TensorSpec(spec.name, spec.dtype, spec.shape[1:])
    alike = len(want.shape) == len(made.shape) and all(
        isinstance(a, str) or isinstance(b, str) or a == b
        for a, b in zip(want.shape, made.shape, strict=True)
    )
    if made.dtype != want.dtype or not alike:
        raise UsageError(
            f"the steps make {made}, the network's input {spec.name} takes {want} for each item",
            at="$.pre",
            hint=_pre_hint(made, want),
        )
    return steps


def _pre_hint(made: TensorSpec, want: TensorSpec) -> str:
    """The likely reason."""
    if made.dtype != want.dtype:
        return f"a recipe of your own whose steps end in {want.dtype}"
    counts = [
        [side for side in (*spec.shape[:1], *spec.shape[2:]) if side in (1, 3)] for spec in (made, want)
    ]
    if counts == [[3], [1]]:
        return "the network takes grey pictures: `digits`, or a recipe of your own with `grayscale`"
    if counts == [[1], [3]]:
        return (
            "the network takes colour: `imagenet`, or a recipe of your own with {grayscale = {channels = 3}}"
        )
    return "--set size=…, or --set layout=chw or hwc"


def _check_frame(resize: Resize, crop: CenterCrop) -> None:
    """Refuse a crop that is sure to go over the edge: nobody means the black frame."""
    wanted = both_sides(crop.size)
    made = resize.target(1000, 1000)  # a square shows the sides that are fixed
    if resize.longer is None and (made[0] < wanted[0] or made[1] < wanted[1]):
        raise UsageError(
            f"`resize` makes {made[0]} x {made[1]} pixels and `center_crop` wants {wanted[0]} x {wanted[1]}",
            at="$.pre",
            hint="a larger --set resize=…, or a smaller --set size=…",
        )


def _own_labels(
    post: Sequence[PostStep], own: tuple[str, ...], net: Signature, notes: list[str]
) -> tuple[str, ...]:
    """The recipe's class names, where the network has as many classes."""
    output, heads = _scored_output(post, net), [step for step in post if isinstance(step, Head)]
    if not own or (output is None and not heads):
        return ()
    classes = heads[0].classes(net.outputs) if heads else _classes(output, post) if output else None
    if heads and classes is None:
        notes.append("the network does not say how many classes it has: no names without --labels")
        return ()
    if heads and classes == len(own):
        many = f"{classes} classes and no names for them" if classes != 1 else "one class and no name for it"
        notes.append(f"the network has {many}: the recipe's {'are' if classes != 1 else 'is'} used")
    if classes in (None, len(own)):
        return own
    notes.append(f"the network has {classes} classes, so the recipe's {len(own)} labels are not used")
    return ()


def _post_for(
    post: Sequence[PostStep], net: Signature, labels: Sequence[str], normalised: bool, notes: list[str]
) -> tuple[PostStep, ...]:
    output = _scored_output(post, net)
    steps = list(post)
    for step in post:
        if normalised and isinstance(step, Softmax | Sigmoid):
            steps.remove(step)
            steps = [
                TopK(other.k, step.of) if isinstance(other, TopK) and other.of is None else other
                for other in steps
            ]
            notes.append(f"`{step.name}` was dropped: the network's output is normalised already")
        elif isinstance(step, Labels) and not labels:
            steps.remove(step)
            notes.append("`labels` was dropped: there are no class names, the answer has indices only")
    for head in post:
        if isinstance(head, Head):
            _check_labels(labels, head.classes(net.outputs), f"`{head.name}`")
    if output is None:
        return tuple(steps)
    classes = _classes(output, post)
    _check_labels(labels, classes, f"the output {output.name!r} ({output})")
    if classes == 1 and any(isinstance(step, Softmax) for step in steps):
        raise UsageError(
            f"the output {output.name!r} ({output}) has one class, and the softmax of one number is always 1",
            at="$.post",
            hint="a recipe of your own with `sigmoid` in place of `softmax`",
        )
    if len(output.shape) > 2 and all(side == 1 for side in output.shape[2:]):
        steps.insert(0, Squeeze(output.name))
        notes.append(f"output {output.name} {output}: the axes of size 1 are dropped")
    return tuple(steps)


def _check_outputs(post: Sequence[PostStep], net: Signature, task: str) -> None:
    """Refuses a head whose axes are swapped, and a classifier's steps on more than a row of scores."""
    for head in post:
        if isinstance(head, Head) and head.numbers_axis is not None:
            _check_axes(head, net)
    output = _scored_output(post, net)
    if task != "image-classification" or output is None:
        return
    if len(output.shape) > 2 and sum(side != 1 for side in output.shape[1:]) > 1:
        raise UsageError(
            f"a classifier gives [batch, classes]; the output {output.name!r} is {output}",
            at="$.post",
            hint="detectors are recognised without --recipe, or --recipe yolov5, yolov8, …; "
            "--recipe raw gives the network's own outputs",
        )


def _check_axes(head: Head, net: Signature) -> None:
    of, axis = getattr(head, "of", None), head.numbers_axis or 0
    found = [spec for spec in net.outputs if len(spec.shape) == 3 and of in (None, spec.name)]
    if len(found) != 1:
        return
    numbers, places = found[0].shape[axis], found[0].shape[3 - axis]
    if not (isinstance(numbers, int) and isinstance(places, int)) or numbers <= max(places, _MANY):
        return
    other = "yolov8" if axis == 2 else "yolov5"
    raise UsageError(
        f"`{head.name}` would read the output {found[0].name!r} ({found[0]}) as {numbers} numbers at each of "
        f"{places} places: the axes look swapped",
        at="$.post",
        hint=f"--recipe {other} takes the other order; without --recipe a detector is recognised",
    )


_MANY = 256
"""Tiny pictures have fewer places than there are classes; nothing is swapped there."""


def _check_labels(labels: Sequence[str], classes: int | None, where: str) -> None:
    if labels and classes is not None and len(labels) != classes:
        raise UsageError(
            f"{len(labels)} labels for the {classes} classes of {where}",
            at="labels",
            hint="one line for each class, in the network's order" + _off_by_one(labels, classes),
        )


def _scored_output(post: Sequence[PostStep], net: Signature) -> TensorSpec | None:
    """The output that the first scoring step works on; nothing where it is not said which."""
    for step in post:
        if isinstance(step, Softmax | Sigmoid | TopK | Binary):
            found = [spec for spec in net.outputs if step.of in (None, spec.name)]
            return found[0] if len(found) == 1 else None
    return None


def _classes(output: TensorSpec, post: Sequence[PostStep]) -> int | None:
    """How many classes there are names for: two where one probability stands for both."""
    if any(isinstance(step, Binary) for step in post):
        return 2
    shape = [side for axis, side in enumerate(output.shape) if axis < 2 or side != 1]
    return shape[-1] if len(shape) > 1 and isinstance(shape[-1], int) else None


def _off_by_one(labels: Sequence[str], classes: int) -> str:
    extra = len(labels) == classes + 1 and labels[0].strip().lower() in (
        "background",
        "dummy",
        "__background__",
    )
    return f"; leave out the first line, {labels[0]!r}: this network has no such class" if extra else ""
