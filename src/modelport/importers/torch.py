"""PyTorch: modules and programs in memory, and files, which another process opens.

Files are TorchScript (`.pt`, `.ptl`), exported programs (`.pt2`), weights with the class that they are for
(`.pth`, `.safetensors`), and pickled modules. Either way the same converter
(`isolation.child.torch_files`) exports with torch's own exporters, the newer one first, and the reference is
the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from ..errors import InputError, ModelFailed, Unsupported, UsageError
from ..isolation.child import torch_network
from ..isolation.child.converter import FAILURES, NotConverted, first_line
from ..isolation.child.torch_files import Converter
from ..isolation.worker import Worker
from ..runtimes.session import run_in_parts
from ..tensors import Array, Signature, Tensors, TensorSpec, numpy_dtype
from .batch import BATCH, made_up, sizes_to_try, with_batch
from .canonical import canonical, signature_of
from .checkpoint import kind_of_file
from .converted import ConvertedImporter
from .isolated import how_confined, open_worker
from .onnx import one_file
from .quiet import quiet, silenced
from .source import Cost, Declared, Imported, as_path, describe, of_module
from .torch_trust import permitted
from .torchvision_recipe import recipe_of

_INSTALL = "pip install 'modelport[torch]'"

Answer = tuple[dict[str, Any], dict[str, Array]]
Ask = Callable[[dict[str, Any], Mapping[str, Array]], Answer]


class Held(msgspec.Struct, frozen=True):
    """A network that a converter holds, in this process or in another."""

    source: Any
    ask: Ask
    question: dict[str, Any]
    framework: str
    kind: str
    names: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    rows: int | None
    channels: int | None
    exporters: tuple[str, ...]
    notes: tuple[str, ...]
    costs: list[Cost]
    quantised: bool = False
    transforms: Mapping[str, Any] | None = None


class TorchImporter(ConvertedImporter):
    """Opens a file in a process of its own; computes with an object where it is."""

    environment = "torch"
    converter = "torch_files"
    what = "a PyTorch file"
    takes = frozenset({"builder"})

    def __init__(self) -> None:
        super().__init__()
        self._held: Held | None = None

    def recognises(self, source: Any) -> bool:
        """Modules and programs by their type; files by the members of their zip, or their first bytes."""
        if of_module(source, "keras", "Model"):
            return False  # with torch as its backend it is a module as well
        if of_module(source, "torch", "Module") or of_module(source, "torch", "ExportedProgram"):
            return True
        return kind_of_file(source) is not None

    def graph(self, source: Any) -> onnx.ModelProto | None:
        """None: what it is converted with, its inputs' sizes, the recipe says."""
        return None

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """The given inputs, a program's own, or a picture with as many channels as the first convolution
        takes; the sizes of the last are names."""
        held = self.hold(source)
        if inputs:
            return Signature(tuple(inputs), ())
        if held.specs:
            return Signature(held.specs, ())
        if held.channels is None or len(held.names) != 1:
            return None
        spec = TensorSpec(held.names[0], "float32", (BATCH, held.channels, "height", "width"))
        return Signature((spec,), ())

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """The recipe of torchvision's transforms, where the weights or the class's file have some."""
        held = self.hold(source)
        if held.transforms is None:
            return None

        def prepare(image: Array) -> Array:
            return held.ask({"do": "prepare"}, {"image": image})[1]["prepared"]

        return recipe_of(held.transforms, prepare, self.permission.tell)

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Export to ONNX and prove the batch axis.

        Raises:
            Unsupported: torch is missing, the file holds no network, or no exporter follows it.
            UsageError: nothing says what the network takes.
            InputError: the file is damaged.
        """
        held = self.hold(source)
        feeds = _feeds(held, example, inputs)

        def reference(batch: Tensors) -> dict[str, Array]:
            def once(part: Tensors) -> dict[str, Array]:
                return held.ask({"do": "run"}, dict(part))[1]

            return once(batch) if held.rows is None else run_in_parts(once, batch, held.rows)

        failures: list[str] = []
        hint: str | None = None
        best: Imported | None = None
        for exporter in held.exporters:
            try:
                found = _exported(held, exporter, feeds, inputs, reference, failures)
            except Unsupported as problem:
                failures.append(problem.message)
                hint = hint or problem.hint
                continue
            if found.batch:
                return found
            best = best or found
            failures.append(f"{exporter}: {found.notes[-1] if found.notes else 'no batch axis'}")
        if best is None:
            raise Unsupported(
                f"torch cannot export {describe(source)}: {'; '.join(failures)}",
                hint=hint or "export it to ONNX yourself and pack the .onnx file",
            )
        return best

    def hold(self, source: Any) -> Held:
        """The source in a converter; a second question finds it there.

        Raises:
            Unsupported: it may not be opened, or torch is missing. InputError: it is damaged.
        """
        if self._held is None or self._held.source is not source:
            self._held = self._in_memory(source) if as_path(source) is None else self._in_worker(source)
        return self._held

    def _in_memory(self, source: Any) -> Held:
        torch = _torch()
        converter = Converter()
        if of_module(source, "torch", "ExportedProgram"):
            with _told():
                network = torch_network.program_network(source)
        else:
            kind = "torchscript" if of_module(source, "torch", "ScriptModule") else "nn.Module"
            network = torch_network.module_network(source, kind)
            if getattr(source, "training", False):
                said = ("was in training mode; packed in evaluation mode",)
                network = torch_network.module_network(source, kind, said)
        converter.hold(network)

        def ask(fields: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
            with _told(), quiet(), silenced(1):
                return converter.answer(fields, dict(arrays))

        return _held(source, ask, {}, {}, converter.look(torch), ())

    def _in_worker(self, source: Any) -> Held:
        path = Path(source)
        kind = kind_of_file(source) or ""
        builder = _absolute(self.options.builder)
        kind = permitted(path, kind, builder, self.permission)
        trusted = self.permission.trust
        question = {"path": str(path.resolve()), "kind": kind, "builder": builder, "trusted": trusted}
        worker: Worker = open_worker(self.converter, self.environment, self.permission, self.limits)

        def ask(fields: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
            return worker.call(fields, arrays)

        try:
            about, _ = ask({"do": "look", **question}, {})
        except (InputError, Unsupported, UsageError) as problem:
            raise type(problem)(f"{path}: {problem.message}", hint=problem.hint) from problem
        return _held(source, ask, question, about, about, (how_confined(worker),))


def _held(
    source: Any,
    ask: Ask,
    question: dict[str, Any],
    cost: Mapping[str, Any],
    about: Mapping[str, Any],
    notes: tuple[str, ...],
) -> Held:
    """What a converter said, checked: it may be of a process that is not trusted."""
    specs = []
    for name, dtype, shape in about.get("specs") or ():
        numpy_dtype(str(dtype))
        dims = tuple(dim if isinstance(dim, int) else str(dim)[:100] for dim in shape)
        specs.append(TensorSpec(str(name), str(dtype), dims))
    rows, channels = about.get("rows"), about.get("channels")
    said = tuple(str(note)[:500] for note in about.get("notes") or ())
    transforms = about.get("transforms")
    held = Held(
        source=source,
        ask=ask,
        question=question,
        framework=str(about.get("framework"))[:200],
        kind=str(about.get("kind"))[:40],
        names=tuple(str(name) for name in about.get("names") or ()),
        specs=tuple(specs),
        rows=rows if isinstance(rows, int) else None,
        channels=channels if isinstance(channels, int) else None,
        exporters=tuple(str(name) for name in about.get("exporters") or ()),
        notes=(*said, *notes),
        costs=[],
        quantised=about.get("quantised") is True,
        transforms=transforms if isinstance(transforms, dict) else None,
    )
    _count(held, cost)
    return held


def _count(held: Held, about: Mapping[str, Any]) -> None:
    seconds, peak = about.get("seconds"), about.get("peak_bytes")
    if isinstance(seconds, (int, float)) and isinstance(peak, int):
        held.costs.append(Cost(float(seconds), peak))


def _exported(
    held: Held,
    exporter: str,
    feeds: Mapping[str, Array],
    inputs: Sequence[TensorSpec],
    reference: Callable[[Tensors], dict[str, Array]],
    failures: Sequence[str],
) -> Imported:
    """The network by one exporter, with its batch axis proven or not."""
    specs = [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in inputs]
    request = {"do": "open", **held.question, "exporter": exporter, "inputs": specs}
    about, arrays = held.ask(request, feeds)
    _count(held, about)
    try:
        proto = onnx.load_model_from_string(arrays["onnx"].tobytes())
    except Exception as problem:  # protobuf's errors have no common base
        raise InputError(f"torch gave a damaged network: {problem}") from problem
    own, changed = canonical(_with_names(proto, inputs))
    model, batch, batch_notes = with_batch(own, reference, feeds)
    said = (f"exported by {exporter}",) + (("after " + "; ".join(failures),) if failures else ())
    return Imported(
        onnx=one_file(model),
        signature=signature_of(model),
        batch=batch,
        reference=reference,
        framework=held.framework,
        format=held.kind,
        notes=(*held.notes, *said, *changed, *batch_notes),
        cost=_total(held.costs),
        quantised=held.quantised,
    )


def _total(costs: Sequence[Cost]) -> Cost | None:
    if not costs:
        return None
    return Cost(sum(cost.seconds for cost in costs), max(cost.peak_bytes for cost in costs))


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


@contextmanager
def _told() -> Iterator[None]:
    """What a converter in this process raises, as it would come from another."""
    try:
        yield
    except NotConverted as problem:
        raise Unsupported(str(problem), hint=problem.hint) from problem
    except torch_network.NotRun as problem:
        raise ModelFailed(str(problem)) from problem
    except FAILURES as problem:
        raise ModelFailed(f"torch failed: {first_line(problem)}") from problem


def _absolute(builder: str) -> str:
    """`FILE.py:NAME` with the file's whole path: the other process is in a folder of its own."""
    target, _, name = builder.rpartition(":")
    return f"{Path(target).resolve()}:{name}" if target.endswith(".py") else builder


def _feeds(held: Held, example: Mapping[str, Array] | None, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """At least two rows for the exporter (it takes one row as a batch of exactly one), in order.

    Raises:
        UsageError: neither an example nor a specification, or another number of inputs than the network's.
    """
    specs = tuple(inputs) or held.specs
    if example is None:
        if not specs:
            raise UsageError(
                f"nothing says what the network takes ({', '.join(held.names) or 'no inputs'})",
                # A recipe settles the sizes of a picture where a first convolution says that it is one.
                hint=f"--input '{next(iter(held.names), 'x')}:float32[batch,3,224,224]' with its own sizes"
                + ", or a recipe that fixes them" * (held.channels is not None),
            )
        signature = Signature(specs, ())
        example = made_up(signature, held.rows or 2, next(sizes_to_try(signature)))
    if held.names and len(example) < len(held.names):
        raise UsageError(f"the network takes {', '.join(held.names)}; got {', '.join(example)}")
    rows = held.rows or 2
    return {
        name: np.resize(array, (rows, *array.shape[1:])).astype(array.dtype, copy=False)
        for name, array in example.items()
    }
