"""A network that torch runs, whatever it was read from: what it takes, how it is run, and how it is exported.

The module `torch` is handed in, so that nothing here needs it before it is used.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .converter import NotConverted, first_line
from .frames import Array

BATCH = "batch"
OPSET, NEWEST = 18, 20
DYNAMO, TS2EP, TRACED = "torch.export", "torch.export of TorchScript", "TorchScript tracing"


class NotRun(Exception):
    """The network raised while torch ran it."""

    kind = "refused"
    hint = None


class Spec(NamedTuple):
    """One input; a dimension without a fixed size is a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Network:
    """A network that torch can run, with what its own form says of it."""

    module: Any
    """What is called with tensors: a module, a script module or a program's module."""
    exported: Any
    """What the exporters are given: the same, or the exported program."""
    format: str
    """`nn.Module`, `torchscript`, `pt2` or `state_dict`."""
    names: tuple[str, ...]
    """Names of the positional inputs."""
    specs: tuple[Spec, ...] = ()
    """Inputs, where the form says them."""
    rows: int | None = None
    """The only number of rows that it takes, where there is one."""
    notes: tuple[str, ...] = ()
    quantised: bool = False
    """Whether values become whole numbers of 8 bits on the way."""


def module_network(module: Any, kind: str, notes: tuple[str, ...] = ()) -> Network:
    """A module or a script module."""
    return Network(module, module, kind, forward_names(module), notes=notes)


def program_network(program: Any) -> Network:
    """An exported program.

    Raises:
        NotConverted: an input that is not a tensor.
    """
    specs: list[Spec] = []
    wanted = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in wanted:
            value = node.meta["val"]
            if not hasattr(value, "shape"):
                raise NotConverted(f"the program's input {node.name!r} is not a tensor")
            shape = tuple(
                dim if isinstance(dim, int) else (BATCH if axis == 0 else str(dim))
                for axis, dim in enumerate(value.shape)
            )
            specs.append(Spec(node.name, str(value.dtype).removeprefix("torch."), shape))
    first = specs[0].shape[0] if specs and specs[0].shape else None
    rows = first if isinstance(first, int) else None
    return Network(program.module(), program, "pt2", tuple(s.name for s in specs), tuple(specs), rows)


def forward_names(module: Any) -> tuple[str, ...]:
    """The names of the arguments of `forward` that have no default."""
    schema = getattr(module.forward, "schema", None)
    if schema is not None:
        return tuple(a.name for a in schema.arguments[1:] if not a.has_default_value())
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty
    )


def first_channels(module: Any) -> int | None:
    """The input channels of the first convolution, by its weight [out, in / groups, height, width]."""
    modules = dict(module.named_modules())
    for name, parameter in module.named_parameters():
        owner, _, leaf = name.rpartition(".")
        if parameter.ndim == 4 and leaf == "weight":
            return int(parameter.shape[1]) * int(getattr(modules.get(owner), "groups", 1))
    return None


def compute(torch: Any, network: Network, batch: Sequence[Array]) -> dict[str, Array]:
    """The outputs for one batch of positional inputs, always in evaluation mode.

    Raises:
        NotConverted: an output that is not a tensor. NotRun: the network itself raised.
    """
    try:
        with evaluating(network), torch.inference_mode():
            results = network.module(*tensors(torch, network, batch))
    except MemoryError:
        raise
    except Exception as problem:  # a network raises whatever its author wrote
        shapes = ", ".join(f"{array.dtype}{list(array.shape)}" for array in batch)
        raise NotRun(f"the network failed in torch on {shapes}: {last_line(problem)}") from problem
    return named(torch, results)


def named(torch: Any, results: Any) -> dict[str, Array]:
    """Outputs by name: a mapping's keys, `output` for a tensor, `output_0` and so on for several.

    Raises:
        NotConverted: something that is not a tensor.
    """
    if isinstance(results, torch.Tensor):
        pairs = [("output", results)]
    elif isinstance(results, Mapping):
        pairs = [(str(key), value) for key, value in results.items() if value is not None]
    elif isinstance(results, (list, tuple)):
        flat, _ = torch.utils._pytree.tree_flatten(results)
        kept = [value for value in flat if value is not None]
        pairs = [(f"output_{i}" if len(kept) > 1 else "output", value) for i, value in enumerate(kept)]
    else:
        raise NotConverted(f"the network returns a {type(results).__name__}", hint="return tensors")
    for name, value in pairs:
        if not isinstance(value, torch.Tensor):
            raise NotConverted(f"the network's output {name!r} is a {type(value).__name__}, not a tensor")
    return {name: value.detach().cpu().numpy() for name, value in pairs}


def tensors(torch: Any, network: Network, batch: Sequence[Array]) -> tuple[Any, ...]:
    """Copies on the network's device, because a network may write into its input."""
    held = (*network.module.parameters(), *network.module.buffers())
    device = next((tensor.device for tensor in held), "cpu")
    return tuple(torch.from_numpy(np.array(array, order="C")).to(device) for array in batch)


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


Export = Callable[[Any, Network, Mapping[str, Array], Sequence[Spec], Sequence[str], int], Any]


def exporters(network: Network) -> tuple[str, ...]:
    """torch's exporters in the order they are tried. The newer one does not take TorchScript as it is."""
    if network.format == "torchscript":
        return (TRACED, TS2EP)
    return (DYNAMO,) if network.format == "pt2" else (DYNAMO, TRACED)


def export(
    torch: Any,
    network: Network,
    exporter: str,
    feeds: Mapping[str, Array],
    inputs: Sequence[Spec],
    outputs: Sequence[str],
) -> Any:
    """The network as an ONNX ModelProto; at a newer opset where an operator needs that.

    Args:
        exporter: one of `exporters`.
        feeds: a batch of at least two rows, in the order of the network's inputs.
        inputs: what the user said; names there stay open.
        outputs: their names.

    Raises:
        Whatever torch raises.
    """
    does: Export = {DYNAMO: _dynamo, TS2EP: _of_script, TRACED: _traced}[exporter]
    try:
        return does(torch, network, feeds, inputs, outputs, OPSET)
    except Exception as problem:
        added = re.search(r"was added in version (\d+)", str(problem))
        if added is None or not OPSET < int(added[1]) <= NEWEST:
            raise
        return does(torch, network, feeds, inputs, outputs, int(added[1]))


def _dynamo(
    torch: Any,
    network: Network,
    feeds: Mapping[str, Array],
    inputs: Sequence[Spec],
    outputs: Sequence[str],
    opset: int,
) -> Any:
    options: dict[str, Any] = {}
    if network.format != "pt2":
        open_axes = _open_axes(feeds, inputs)
        dynamic = torch.export.Dim.DYNAMIC
        options["dynamic_shapes"] = tuple(dict.fromkeys(open_axes[name], dynamic) for name in feeds)
    with evaluating(network):
        program = torch.onnx.export(
            network.exported,
            () if network.format == "pt2" else tensors(torch, network, list(feeds.values())),
            None,
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=list(feeds),
            output_names=list(outputs),
            **options,
        )
    return program.model_proto


def _of_script(
    torch: Any,
    network: Network,
    feeds: Mapping[str, Array],
    inputs: Sequence[Spec],
    outputs: Sequence[str],
    opset: int,
) -> Any:
    """A script module as an exported program of these sizes, with torch's own (experimental) converter."""
    from torch._export.converter import TS2EPConverter

    program = TS2EPConverter(network.module, tensors(torch, network, list(feeds.values()))).convert()
    return _dynamo(torch, Network(None, program, "pt2", network.names), feeds, inputs, outputs, opset)


def _traced(
    torch: Any,
    network: Network,
    feeds: Mapping[str, Array],
    inputs: Sequence[Spec],
    outputs: Sequence[str],
    opset: int,
) -> Any:
    import onnx

    buffer = io.BytesIO()
    axes = _open_axes(feeds, inputs)
    axes |= {name: {0: BATCH} for name in outputs}
    with evaluating(network):
        torch.onnx.export(
            network.exported,
            tensors(torch, network, list(feeds.values())),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=list(feeds),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(buffer.getvalue())


def _open_axes(feeds: Mapping[str, Array], inputs: Sequence[Spec]) -> dict[str, dict[int, str]]:
    """The axes of each input that stay open: the first, and those that the user gave a name."""
    given = {spec.name: spec for spec in inputs}
    axes: dict[str, dict[int, str]] = {}
    for name in feeds:
        shape = given[name].shape[1:] if name in given else ()
        open_dims = {axis: dim for axis, dim in enumerate(shape, 1) if isinstance(dim, str)}
        axes[name] = {0: BATCH, **open_dims}
    return axes


def last_line(problem: BaseException) -> str:
    """What went wrong, in one line; TorchScript's interpreter puts its own story first."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("RuntimeError: ", "Error: "))]
    return (said[-1].partition(": ")[2] if said else first_line(problem))[:300]
