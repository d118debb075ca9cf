"""What an inference request means, whatever brought it: which model, which part of it, and the answer.

A bundle answers under two names: `NAME` is the whole of it, one encoded or decoded item or several in,
the answer out; `NAME.net` is the network alone, a batch of prepared tensors in, raw outputs out. Knows
nothing of HTTP or gRPC.
"""

from __future__ import annotations

import asyncio
import math
import time

from ..bundle.rules import NETWORK_SUFFIX as NET
from ..engine.caller import caller
from ..engine.entry import Entry
from ..engine.model import LiveModel, stack
from ..engine.repository import Repository
from ..engine.wire import Options
from ..errors import InputError, NotFound, UnsupportedMedia
from ..tensors import Array, Tensors, TensorSpec, dtype_name, object_array
from .aside import aside
from .base64_text import is_base64_of_picture
from .oip import InferRequest
from .options import of_parameters
from .rows import answer_tensors, is_record, item_specs

MAX_ITEMS = 256
"""Items in one request to a whole bundle."""


def find(repository: Repository, name: str, version: str | None) -> tuple[Entry, bool]:
    """The version that a name means, and whether the network alone is meant.

    Raises:
        NotFound: no such model or version, in Triton's wording, which its clients' users search for.
    """
    net = name.endswith(NET)
    try:
        return repository.entry(name.removesuffix(NET) if net else name, version), net
    except NotFound as problem:
        raise _unknown(name, version, problem) from problem


def live(repository: Repository, name: str, version: str | None) -> tuple[LiveModel, bool]:
    """The live model that answers to a name, and whether the network alone is meant.

    Raises:
        NotFound: as `find`. Unavailable: it is not loaded.
    """
    net = name.endswith(NET)
    try:
        return repository.model(name.removesuffix(NET) if net else name, version), net
    except NotFound as problem:
        raise _unknown(name, version, problem) from problem


def _unknown(name: str, version: str | None, problem: NotFound) -> NotFound:
    where = f" version {version}" if version else ""
    return NotFound(f"Request for unknown model: {name!r}{where} is not found", hint=problem.hint)


def due(timeout: float | None) -> float:
    """When the answer to the request at hand must be there, on time.monotonic's clock.

    It is the earlier of what the caller says in the request and beside it (the header, `grpc-timeout`);
    math.inf where neither is said, and the server's own then counts.

    Args:
        timeout: what the request says, in seconds from now.
    """
    asking = caller.get()
    deadline = math.inf if asking is None else asking.deadline
    return deadline if timeout is None else min(deadline, time.monotonic() + timeout)


async def run(model: LiveModel, asked: InferRequest, net: bool, deadline: float) -> dict[str, Array]:
    """Answer a request: every output by name, in the order that the model has them.

    Args:
        net: the network alone, instead of the whole bundle.
        deadline: on time.monotonic's clock; math.inf for none.

    Raises:
        InputError: the inputs are not what the model takes, or an output is asked for that there is not.
        Unavailable: it cannot answer in time.
    """
    _check_outputs(model, asked, net)
    if net:
        return await model.infer(await _as_text(asked.inputs), deadline=deadline)
    options = of_parameters(model, asked.parameters)
    if is_record(model.bundle.manifest):
        return await answer_tensors(model, asked.inputs, deadline=deadline, options=options)
    if model.bundle.manifest.decode.kind == "tensors":
        return await model.answer_rows(await _as_text(asked.inputs), deadline=deadline, options=options)
    return await _whole(model, asked.inputs, deadline, options)


def _check_outputs(model: LiveModel, asked: InferRequest, net: bool) -> None:
    """Before the model runs: what nobody can be given is not computed."""
    manifest = model.bundle.manifest
    known = [spec.name for spec in (manifest.graphs.net.signature.outputs if net else manifest.outputs)]
    for index, output in enumerate(asked.outputs or ()):
        if output.name not in known:
            unknown = f"unknown output {output.name[:100]!r}; known: {', '.join(known)}"
            raise InputError(unknown, at=f"$.outputs[{index}]")


async def _whole(
    model: LiveModel, inputs: Tensors, deadline: float, options: Options | None
) -> dict[str, Array]:
    """Pictures: `image` as UINT8[H, W, 3], UINT8[n, H, W, 3], or BYTES[n] of encoded files."""
    if set(inputs) != {"image"}:
        raise InputError(f"expected one input `image`, got {', '.join(inputs) or 'none'}", at="$.inputs")
    image = inputs["image"]
    encoded = dtype_name(image) == "string"
    if encoded:
        image = image.reshape(-1)
    elif dtype_name(image) != "uint8" or image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise InputError(
            f"expected UINT8[H, W, 3], UINT8[n, H, W, 3] or BYTES[n] holding image files, got "
            f"{dtype_name(image)}{list(image.shape)}",
            at="$.inputs.image",
        )
    if not encoded and image.ndim == 3:
        one = await model.answer_decoded({"image": image}, deadline=deadline, options=options)
        return one.tensors
    if not 1 <= len(image) <= MAX_ITEMS:
        raise InputError(f"{len(image)} items; expected 1 to {MAX_ITEMS}", at="$.inputs.image")
    if encoded:
        work = [model.answer(item, deadline=deadline, options=options) for item in image]
    else:
        work = [model.answer_decoded({"image": item}, deadline=deadline, options=options) for item in image]
    try:
        done = await asyncio.gather(*work)
    except UnsupportedMedia as problem:
        if encoded and any(map(is_base64_of_picture, image)):
            raise _still_base64() from problem
        raise
    return stack([answered.tensors for answered in done])


def _still_base64() -> UnsupportedMedia:
    """What is said of text that would be a picture if somebody decoded it."""
    return UnsupportedMedia(
        "expected a picture, got the base64 of one",
        at="$.inputs.image",
        hint='in JSON, give the input "parameters": {"content_type": "base64"}; or send the file itself, '
        "in the binary form or to /predict",
    )


def specs(entry: Entry, net: bool) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What a name takes and gives: a whole picture bundle speaks of one item, everything else of a batch."""
    manifest = entry.bundle.manifest
    if net:
        return manifest.graphs.net.signature.inputs, manifest.graphs.net.signature.outputs
    if is_record(manifest):
        return item_specs(manifest), manifest.outputs
    if manifest.decode.kind == "tensors":
        return manifest.graphs.net.signature.inputs, manifest.outputs
    item = tuple(TensorSpec(spec.name, spec.dtype, spec.shape[1:]) for spec in manifest.outputs)
    return manifest.inputs, item


def raw_specs(model: LiveModel, net: bool) -> tuple[TensorSpec, ...]:
    """What the body of a raw binary request may hold."""
    if net or model.bundle.manifest.decode.kind == "tensors":
        return model.bundle.manifest.graphs.net.signature.inputs
    if is_record(model.bundle.manifest):
        return item_specs(model.bundle.manifest)
    return (TensorSpec("image", "string", ("batch",)),)


async def _as_text(inputs: Tensors) -> dict[str, Array]:
    """BYTES come off the wire as bytes; the runtime's strings are text."""
    size = sum(array.nbytes for array in inputs.values() if array.dtype.kind == "O")
    return await aside(lambda: {name: _decode_strings(array, name) for name, array in inputs.items()}, size)


def _decode_strings(array: Array, name: str) -> Array:
    if array.dtype.kind != "O":
        return array
    try:
        return object_array([item.decode() for item in array.flat], array.shape)
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}", at=f"$.inputs.{name}") from problem
