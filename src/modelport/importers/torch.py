"""PyTorch: `nn.Module` objects, TorchScript files, and `torch.export` programs.

Nothing is ever unpickled: a checkpoint or a pickled module is told by its content and refused, with what
to do instead.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..errors import InputError, ModelFailed, Unsupported, UsageError
from ..runtimes.session import run_in_parts
from ..tensors import Array, Signature, Tensors, TensorSpec
from .batch import BATCH, made_up, sizes_to_try, with_batch
from .canonical import canonical, signature_of
from .checkpoint import kind_of_file, refused_pickle
from .onnx import one_file
from .quiet import FAILURES, FILE_FAILURES, first_line, quiet, silenced
from .source import Imported, as_path, describe, of_module, zip_members
from .torch_export import Network, evaluating, exports

_INSTALL = "pip install 'modelport[torch]'"


class TorchImporter:
    """Exports with torch's own exporters, the newer one first; the reference is the network itself."""

    def recognises(self, source: Any) -> bool:
        """Modules and programs by their type; files by the members of their zip, or a pickle's magic."""
        if of_module(source, "keras", "Model"):
            return False  # with torch as its backend it is a module as well
        if of_module(source, "torch", "Module") or of_module(source, "torch", "ExportedProgram"):
            return True
        return kind_of_file(source) is not None

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """The given inputs, a program's own, or a picture with as many channels as the first convolution
        takes; the sizes of the last are names."""
        if inputs:
            return Signature(tuple(inputs), ())
        network = _network(source)
        if network.specs:
            return Signature(network.specs, ())
        channels = _first_channels(network.module)
        if channels is None or len(network.names) != 1:
            return None
        spec = TensorSpec(network.names[0], "float32", (BATCH, channels, "height", "width"))
        return Signature((spec,), ())

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Export to ONNX and prove the batch axis.

        Raises:
            Unsupported: torch is missing, the file holds no network, or neither exporter follows it.
            UsageError: nothing says what the network takes.
            InputError: the file is damaged.
        """
        network = _network(source)
        torch = _torch()
        feeds = _feeds(network, example, inputs)
        reference, notes = _reference(torch, network, tuple(feeds))
        outputs = tuple(reference(feeds))
        failures: list[str] = []
        best: Imported | None = None
        for label, export in exports(torch, network):
            try:
                with quiet(), silenced(1):
                    proto = export(feeds, inputs, outputs)
            except FAILURES as problem:
                failures.append(f"{label}: {first_line(problem)}")
                continue
            own, changed = canonical(_with_names(proto, inputs))
            model, batch, batch_notes = with_batch(own, reference, feeds)
            said = (f"exported by {label}",) + (("after " + "; ".join(failures),) if failures else ())
            found = Imported(
                onnx=one_file(model),
                signature=signature_of(model),
                batch=batch,
                reference=reference,
                framework=f"torch {torch.__version__.split('+')[0]}",
                format=network.format,
                notes=(*notes, *said, *changed, *batch_notes),
            )
            if batch:
                return found
            best = best or found
            failures.append(f"{label}: {'; '.join(batch_notes)}")
        if best is None:
            raise Unsupported(
                f"torch cannot export {describe(source)}: {'; '.join(failures)}",
                hint="export it to ONNX yourself and pack the .onnx file",
            )
        return best


def _with_names(model: onnx.ModelProto, inputs: Sequence[TensorSpec]) -> onnx.ModelProto:
    """The user's names for open dimensions in place of the exporter's; `model` is changed."""
    given = {spec.name: spec for spec in inputs}
    names: dict[str, str] = {}
    for value in model.graph.input:
        if value.name in given:
            for dim, wanted in zip(value.type.tensor_type.shape.dim, given[value.name].shape, strict=False):
                if dim.dim_param and isinstance(wanted, str):
                    names[dim.dim_param] = wanted
    if names:
        del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
    return model


def _torch() -> Any:
    try:
        import onnxscript  # noqa: F401
        import torch
        import torch.onnx
    except ImportError as problem:
        raise Unsupported(f"reading PyTorch models needs torch ({problem})", hint=_INSTALL) from problem
    return torch


def _network(source: Any) -> Network:
    kind = kind_of_file(source)
    if kind == "pickle":
        raise refused_pickle(Path(source))
    torch = _torch()
    path = as_path(source)
    if kind == "pt2" and path is not None:
        source = _load_program(torch, path)
    elif kind == "torchscript" and path is not None:
        source = _load_script(torch, path)
    if of_module(source, "torch", "ExportedProgram"):
        return _program_network(source)
    names = _forward_names(source)
    if of_module(source, "torch", "ScriptModule"):
        return Network(source, source, "torchscript", names)
    return Network(source, source, "nn.Module", names)


def _load_script(torch: Any, path: Path) -> Any:
    try:
        with quiet():
            return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as problem:
        raise InputError(f"{path} is a damaged TorchScript file: {first_line(problem)}") from problem


def _load_program(torch: Any, path: Path) -> Any:
    """A `torch.export` program, read without pickles.

    torch's own reader falls back to unpickling whatever its safe reader refuses; the environment
    variable below takes that away from it, and objects it unpickles by another way are refused here.
    """
    from pickle import UnpicklingError

    for member in zip_members(path):
        for part, what in (("/custom_obj_", "a custom object"), ("/opaque_obj_", "a pickled object")):
            if part in member:
                raise Unsupported(f"{path} holds {what} ({member}); it is not unpickled")
        if "/aotinductor/" in member:
            raise Unsupported(f"{path} holds compiled code ({member})", hint="save it with torch.export.save")
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        with quiet():
            return torch.export.load(str(path))
    except UnpicklingError as problem:
        raise Unsupported(f"{path} holds pickled objects; it is not unpickled") from problem
    except FILE_FAILURES as problem:
        raise InputError(f"{path} is not a torch.export program: {first_line(problem)}") from problem
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _program_network(program: Any) -> Network:
    specs: list[TensorSpec] = []
    wanted = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in wanted:
            value = node.meta["val"]
            if not hasattr(value, "shape"):
                raise Unsupported(f"the program's input {node.name!r} is not a tensor")
            shape = [
                dim if isinstance(dim, int) else (BATCH if axis == 0 else str(dim))
                for axis, dim in enumerate(value.shape)
            ]
            specs.append(TensorSpec(node.name, str(value.dtype).removeprefix("torch."), tuple(shape)))
    first = specs[0].shape[0] if specs and specs[0].shape else None
    rows = first if isinstance(first, int) else None
    names = tuple(spec.name for spec in specs)
    return Network(program.module(), program, "pt2", names, tuple(specs), rows)


def _forward_names(module: Any) -> tuple[str, ...]:
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


def _first_channels(module: Any) -> int | None:
    """The input channels of the first convolution, by its weight [out, in / groups, height, width]."""
    modules = dict(module.named_modules())
    for name, parameter in module.named_parameters():
        owner, _, leaf = name.rpartition(".")
        if parameter.ndim == 4 and leaf == "weight":
            return int(parameter.shape[1]) * int(getattr(modules.get(owner), "groups", 1))
    return None


def _feeds(
    network: Network, example: Mapping[str, Array] | None, inputs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """At least two rows for the exporter (it takes one row as a batch of exactly one), in order.

    Raises:
        UsageError: neither an example nor a specification, or another number of inputs than the network's.
    """
    specs = tuple(inputs) or network.specs
    if example is None:
        if not specs:
            raise UsageError(
                f"nothing says what the network takes ({', '.join(network.names) or 'no inputs'})",
                hint="--input 'x:float32[batch,3,224,224]', or a recipe that fixes it",
            )
        signature = Signature(specs, ())
        example = made_up(signature, network.rows or 2, next(sizes_to_try(signature)))
    if network.names and len(example) < len(network.names):
        raise UsageError(f"the network takes {', '.join(network.names)}; got {', '.join(example)}")
    rows = network.rows or 2
    return {
        name: np.resize(array, (rows, *array.shape[1:])).astype(array.dtype, copy=False)
        for name, array in example.items()
    }


def _reference(
    torch: Any, network: Network, order: tuple[str, ...]
) -> tuple[Callable[[Tensors], dict[str, Array]], tuple[str, ...]]:
    """The network as a function of a batch, always in evaluation mode; and notes."""
    module = network.module
    was_training = bool(getattr(module, "training", False)) and network.format != "pt2"
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), "cpu")

    def once(batch: Tensors) -> dict[str, Array]:
        # A copy, because a network may write into its input.
        tensors = [torch.from_numpy(np.array(batch[name], order="C")).to(device) for name in order]
        try:
            with evaluating(network), torch.inference_mode(), quiet():
                results = module(*tensors)
        except FAILURES as problem:
            raise ModelFailed(f"the network failed in torch: {first_line(problem)}") from problem
        return _named(torch, results)

    def run(batch: Tensors) -> dict[str, Array]:
        return once(batch) if network.rows is None else run_in_parts(once, batch, network.rows)

    return run, ("was in training mode; packed in evaluation mode",) if was_training else ()


def _named(torch: Any, results: Any) -> dict[str, Array]:
    """Outputs by name: a mapping's keys, `output` for a tensor, `output_0` and so on for several.

    Raises:
        Unsupported: something that is not a tensor.
    """
    if isinstance(results, torch.Tensor):
        pairs = [("output", results)]
    elif isinstance(results, Mapping):
        pairs = [(str(key), value) for key, value in results.items() if value is not None]
    elif isinstance(results, (list, tuple)):
        flat, _ = torch.utils._pytree.tree_flatten(results)
        tensors = [value for value in flat if value is not None]
        pairs = [(f"output_{i}" if len(tensors) > 1 else "output", value) for i, value in enumerate(tensors)]
    else:
        raise Unsupported(f"the network returns a {type(results).__name__}", hint="return tensors")
    for name, value in pairs:
        if not isinstance(value, torch.Tensor):
            raise Unsupported(f"the network's output {name!r} is a {type(value).__name__}, not a tensor")
    return {name: value.detach().cpu().numpy() for name, value in pairs}
