"""A network that torch runs, to ONNX, by the exporters that torch has. The module `torch` is handed in."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import onnx

from ..tensors import Array, TensorSpec
from .batch import BATCH

OPSET = 18


class Network(msgspec.Struct, frozen=True):
    """A network that torch can run, with what its own form says of it."""

    module: Any
    """What is called with tensors: a module, a script module or a program's module."""
    exported: Any
    """What `torch.onnx.export` is given: the same, or the exported program."""
    format: str
    names: tuple[str, ...]
    """Names of the positional inputs."""
    specs: tuple[TensorSpec, ...] = ()
    """Inputs, where the form says them."""
    rows: int | None = None
    """The only number of rows that it takes, where there is one."""


Export = Callable[[Mapping[str, Array], Sequence[TensorSpec], Sequence[str]], onnx.ModelProto]


def exports(torch: Any, network: Network) -> Iterator[tuple[str, Export]]:
    """torch's exporters in the order they are tried. The newer one does not take TorchScript."""
    if network.format != "torchscript":
        yield "torch.export", lambda *a: _export_dynamo(torch, network, *a)
    if network.format != "pt2":
        yield "TorchScript tracing", lambda *a: _export_traced(torch, network, *a)


def _export_dynamo(
    torch: Any,
    network: Network,
    feeds: Mapping[str, Array],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    options: dict[str, Any] = {}
    if network.format != "pt2":
        open_axes = _open_axes(feeds, inputs)
        dynamic = torch.export.Dim.DYNAMIC
        options["dynamic_shapes"] = tuple(dict.fromkeys(open_axes[name], dynamic) for name in feeds)
    with evaluating(network):
        program = torch.onnx.export(
            network.exported,
            () if network.format == "pt2" else arguments(torch, network, feeds),
            None,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(feeds),
            output_names=list(outputs),
            **options,
        )
    model: onnx.ModelProto = program.model_proto
    return model


def _export_traced(
    torch: Any,
    network: Network,
    feeds: Mapping[str, Array],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    axes = _open_axes(feeds, inputs)
    axes |= {name: {0: BATCH} for name in outputs}
    with evaluating(network):
        torch.onnx.export(
            network.exported,
            arguments(torch, network, feeds),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(feeds),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def arguments(torch: Any, network: Network, feeds: Mapping[str, Array]) -> tuple[Any, ...]:
    tensors = (*network.module.parameters(), *network.module.buffers())
    device = next((tensor.device for tensor in tensors), "cpu")
    return tuple(torch.from_numpy(np.array(array, order="C")).to(device) for array in feeds.values())


def _open_axes(feeds: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> dict[str, dict[int, str]]:
    """The axes of each input that stay open: the first, and those that the user gave a name."""
    given = {spec.name: spec for spec in inputs}
    axes: dict[str, dict[int, str]] = {}
    for name in feeds:
        shape = given[name].shape[1:] if name in given else ()
        named = {axis: dim for axis, dim in enumerate(shape, 1) if isinstance(dim, str)}
        axes[name] = {0: BATCH, **named}
    return axes


@contextlib.contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Evaluation mode for the length of a block; afterwards every submodule is as it was."""
    if network.format == "pt2":
        yield
        return
    # Modules frozen for mobile have no such flag.
    before = [(m, m.training) for m in network.module.modules() if hasattr(m, "training")]
    if before:
        network.module.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
