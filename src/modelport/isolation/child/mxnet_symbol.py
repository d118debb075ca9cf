"""An MXNet network (a symbol and its parameters) to ONNX, and its own executor to compare with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .converter import NotConverted, Refused
from .frames import Array
from .mxnet_export import export, onnx_name
from .mxnet_rewrite import ones_of, read_symbol, rewritten, weights_of
from .mxnet_sizes import Sizes, reason

KEPT_EXECUTORS = 4


class Converter:
    """`open` converts; `run` computes a batch with MXNet, from the symbol as it is in the file."""

    def __init__(self) -> None:
        self.symbol: Any = None
        self.weights: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        """MXNet's names of the outputs -> ONNX's."""
        self.executors: dict[Any, Any] = {}

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            return self.open(Path(fields["symbol"]), Path(fields["weights"]), fields["inputs"])
        return {}, self.run(arrays)

    def open(
        self, symbol: Path, weights: Path, said: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the network is (JSON), and the ONNX file as uint8[bytes].

        Args:
            symbol, weights: the two files.
            said: what the user says that the network takes: name, dtype, shape.

        Raises:
            Refused: damaged, or not of one network. NotConverted: layers that nothing here converts.
            Unclear: neither the files nor the user say what it takes.
        """
        read_symbol(symbol.name, symbol.read_bytes())
        mx = _mxnet()
        self.symbol = _symbol(mx, symbol)
        held = _weights(mx, weights)
        described = rewritten(json.loads(self.symbol.tojson()))
        plain = mx.sym.load_json(json.dumps(described))
        taken = [*plain.list_arguments(), *plain.list_auxiliary_states()]
        self.weights = {name: held[name] for name in taken if name in held}
        free = [name for name in taken if name not in held]
        _compare(symbol.name, weights.name, free, sorted(set(held) - set(taken)), described, said)
        ones = {name: mx.nd.ones_like(self.weights[name]) for name in ones_of(described) & set(self.weights)}
        search = Sizes(mx, plain, self.weights, (symbol.name, weights.name))
        inputs = search.inputs(free, described, said)
        sizes, outputs = search.outputs(inputs)
        self.names = {name: onnx_name(name) for name in outputs}
        slopes = search.ranks(described, sizes)
        model = export(plain, {**self.weights, **ones}, inputs, sizes, outputs, slopes)
        notes = [f"{len(held) - len(self.weights)} of the arrays in {weights.name} are not the network's"]
        about = {
            "kind": "mxnet",
            "framework": f"mxnet {mx.__version__}",
            "notes": [*search.notes, *(notes if len(held) > len(self.weights) else [])],
        }
        return about, {"onnx": np.frombuffer(model.SerializeToString(), np.uint8)}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Inputs to outputs by their names in ONNX, as MXNet computes them."""
        mx = _mxnet()
        key = tuple((name, array.shape, array.dtype.name) for name, array in arrays.items())
        if key not in self.executors:
            while len(self.executors) >= KEPT_EXECUTORS:
                self.executors.pop(next(iter(self.executors)))
            self.executors[key] = self._bound(mx, arrays)
        given = {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
        try:
            results = [each.asnumpy() for each in self.executors[key].forward(is_train=False, **given)]
        except mx.base.MXNetError as problem:
            raise Refused(f"MXNet does not run it: {reason(problem)}") from problem
        names = [self.names[name] for name in self.symbol.list_outputs()]
        return dict(zip(names, results, strict=True))

    def _bound(self, mx: Any, arrays: Mapping[str, Array]) -> Any:
        """The network bound to arrays of these shapes."""
        types = {name: array.dtype for name, array in arrays.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        executor = self.symbol.simple_bind(mx.cpu(), grad_req="null", type_dict=types, **shapes)
        auxiliary = set(self.symbol.list_auxiliary_states())
        arguments = {name: each for name, each in self.weights.items() if name not in auxiliary}
        states = {name: each for name, each in self.weights.items() if name in auxiliary}
        executor.copy_params_from(arguments, states, allow_extra_params=True)
        return executor


def _mxnet() -> Any:
    """The framework, without the fusing of layers that lets some networks fail at their second run."""
    os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"
    import mxnet

    return mxnet


def _symbol(mx: Any, path: Path) -> Any:
    try:
        return mx.sym.load(str(path))
    except mx.base.MXNetError as problem:
        said = reason(problem)
        if "is not registered" in said:
            raise NotConverted(
                f"{path.name}: {said.rpartition(': ')[2]} in MXNet {mx.__version__}",
                "build the network from operators of MXNet's own",
            ) from problem
        raise Refused(f"{path.name} is not a whole MXNet symbol: {said}") from problem


def _weights(mx: Any, path: Path) -> dict[str, Any]:
    try:
        held = mx.nd.load(str(path))
    except (mx.base.MXNetError, UnicodeDecodeError) as problem:
        raise Refused(f"{path.name} is cut short or damaged: {reason(problem)}") from problem
    if not isinstance(held, dict):
        raise Refused(f"{path.name} holds arrays without names", "save it with HybridBlock.export or Module")
    return {name.removeprefix("arg:").removeprefix("aux:"): array for name, array in held.items()}


def _compare(
    symbol: str,
    weights: str,
    free: list[str],
    unused: list[str],
    described: dict[str, Any],
    said: list[dict[str, Any]],
) -> None:
    """That the weights are the symbol's.

    Raises:
        Refused: some are missing.
    """
    inputs = {each["name"] for each in said}
    inputs = inputs if inputs <= set(free) else set()  # a wrong name is told of elsewhere
    certain = weights_of(described)
    missing = [name for name in free if name in certain or (inputs and name not in inputs)]
    if not missing and (free or not unused):
        return
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    stray = f", and holds {len(unused)} that it does not know ({unused[0]} …)" if unused else ""
    raise Refused(
        f"{weights} is not of {symbol}: it lacks {shown or 'everything'}{stray}",
        "give the two files that were saved together",
    )
