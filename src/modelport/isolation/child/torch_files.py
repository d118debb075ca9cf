"""PyTorch's files to ONNX: TorchScript, exported programs, weights with the code that builds their network,
and pickled modules. Objects in memory are held here as well, by the process that they are in."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from .converter import NotConverted, Refused, Unclear, first_line
from .frames import Array
from .torch_explained import explained
from .torch_network import (
    Network,
    Spec,
    compute,
    export,
    exporters,
    first_channels,
    module_network,
    program_network,
)
from .torch_quantized import has_dynamic_layers, unpacked
from .torch_transforms import Known, known
from .torch_weights import Builder, filled, module_in, read_module, read_weights, refuse_absent, state_in

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Converter:
    """`look` reads the source and tells what it takes; `open` exports it; `run` computes with torch."""

    def __init__(self) -> None:
        self.network: Network | None = None
        self.about: dict[str, Any] = {}
        self.transforms: Known | None = None

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which.

        `look` and `open` have `path` and `kind` (`torchscript`, `pt2`, `weights` or `pickle`), perhaps
        `builder` and `trusted`. `open` may say one `exporter`; its arrays are a batch of at least two rows.
        """
        import torch

        if fields["do"] == "run":
            return {}, compute(torch, self._held(), [arrays[name] for name in self.about["order"]])
        if fields["do"] == "prepare":
            assert self.transforms is not None, "no transforms are known"
            return {}, {"prepared": self.transforms.prepared(arrays["image"])}
        if self.network is None:
            self.network = self._read(torch, fields)
        if fields["do"] == "look":
            return self.look(torch), {}
        inputs = [Spec(one["name"], one["dtype"], tuple(one["shape"])) for one in fields.get("inputs", ())]
        feeds = arrays or _zeros(self.network, inputs)
        onnx = self.export(torch, str(fields.get("exporter", "")), feeds, inputs)
        return dict(self.about), {"onnx": onnx}

    def hold(self, network: Network) -> None:
        """Take a network that is in memory already."""
        self.network = network
        self.transforms = known("", None, network.module)

    def look(self, torch: Any) -> dict[str, Any]:
        """What the network takes, as JSON."""
        network = self._held()
        self.about |= {
            "framework": f"torch {torch.__version__.split('+')[0]}",
            "kind": network.format,
            "names": list(network.names),
            "specs": [[spec.name, spec.dtype, list(spec.shape)] for spec in network.specs],
            "rows": network.rows,
            "channels": first_channels(network.module) if network.format != "pt2" else None,
            "exporters": list(exporters(network)),
            "notes": list(network.notes),
            "quantised": network.quantised,
            "transforms": self.transforms.told() if self.transforms is not None else None,
        }
        return self.about

    def export(self, torch: Any, exporter: str, feeds: dict[str, Array], inputs: list[Spec]) -> Array:
        """The ONNX file as uint8[bytes].

        Raises:
            NotConverted: no exporter follows the network; the message names the operator.
        """
        network = self._held()
        self.look(torch)
        self.about["order"] = list(feeds)
        outputs = tuple(compute(torch, network, list(feeds.values())))
        failures: list[str] = []
        hint: str | None = None
        for name in (exporter,) if exporter else exporters(network):
            try:
                proto = export(torch, network, name, feeds, inputs, outputs)
            except Exception as problem:  # noqa: BLE001  # torch's exporters raise whatever they met
                said, advice = explained(torch, network, name, feeds, problem)
                failures.append(f"{name}: {said}")
                hint = hint or advice
                continue
            self.about["exporter"] = name
            return np.frombuffer(proto.SerializeToString(), np.uint8)
        raise NotConverted("; ".join(failures), hint)

    def _held(self) -> Network:
        assert self.network is not None, "nothing was opened"
        return self.network

    def _read(self, torch: Any, fields: dict[str, Any]) -> Network:
        path, kind = str(fields["path"]), str(fields["kind"])
        if kind == "torchscript":
            return _script(torch, path)
        if kind == "pt2":
            return _program(torch, path)
        builder = Builder(str(fields["builder"])) if fields.get("builder") else None
        trusted = bool(fields.get("trusted"))
        if kind == "pickle" and trusted:
            held = read_module(torch, path, builder)
        else:
            held = read_weights(torch, path, trusted=trusted)
        if (module := module_in(torch, held)) is not None:
            self.transforms = known("", builder, module)
            return module_network(module.float().eval(), "nn.Module")
        try:
            state, notes = state_in(torch, held)
        except Refused:
            refuse_absent(held, builder)
            raise
        if builder is None:
            raise Unclear(
                f"it holds weights and no network ({len(state)} tensors: {', '.join(list(state)[:3])} …)",
                "say what builds the network: --class FILE.py:NAME",
            )
        module, said = filled(torch, builder, state)
        self.transforms = known(path, builder, module)
        return module_network(module, "state_dict", (*notes, *said))


def _script(torch: Any, path: str) -> Network:
    try:
        module = torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError) as problem:
        raise Refused(f"a damaged TorchScript file: {first_line(problem)}") from problem
    network = module_network(module, "torchscript")
    if not has_dynamic_layers(module):
        return network
    note = "linear layers are quantised while they run, each batch by its own range"
    own = unpacked(torch, torch.jit.load(path, map_location="cpu"))
    return replace(network, exported=own, notes=(note,), quantised=True)


def _program(torch: Any, path: str) -> Network:
    """An exported program, read without pickles.

    torch's own reader falls back to unpickling whatever its safe reader refuses; the environment variable
    below takes that away from it.
    """
    from pickle import UnpicklingError

    os.environ[FORCE] = "1"
    try:
        return program_network(torch.export.load(path))
    except UnpicklingError as problem:
        raise NotConverted("it holds pickled objects; they are not opened") from problem
    except (NotConverted, MemoryError):
        raise
    except Exception as problem:  # its reader raises whatever it met
        raise Refused(f"not a torch.export program: {first_line(problem)}") from problem


def _zeros(network: Network, inputs: list[Spec]) -> dict[str, Array]:
    """Two rows of zeros, where nobody has an example.

    Raises:
        Unclear: nothing says what the network takes.
    """
    specs = inputs or list(network.specs)
    if not specs or any(isinstance(dim, str) for spec in specs for dim in spec.shape[1:]):
        raise Unclear("nothing says what the network takes", "--input 'x:float32[batch,3,224,224]'")
    rows = network.rows or 2
    return {spec.name: np.zeros((rows, *map(int, spec.shape[1:])), spec.dtype) for spec in specs}
