"""Weights without a network (a state_dict), the user's code that builds one, and pickled modules."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import RENAMED, load
from .converter import NotConverted, Refused, Unclear

USUAL = ("state_dict", "model_state_dict", "ema_state_dict", "model", "net", "network", "weights", "params")
"""Where training scripts keep the weights among an epoch's number and an optimiser's state."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and trainers put before every name."""
MAX_HEADER = 100 << 20
SHOWN = 4
SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class Builder:
    """`FILE.py:NAME` or `package.module:NAME`: what makes the network that weights are for."""

    def __init__(self, text: str) -> None:
        """Runs the user's file.

        Raises:
            Unclear: another form, or a name that is not there. Refused: the file itself fails.
        """
        self.text = text
        target, _, name = text.rpartition(":")
        self.name = name.removesuffix("()")
        if not target or not self.name.isidentifier():
            raise Unclear(f"expected FILE.py:NAME, got {text!r}", "--class net.py:Net")
        self.module = _imported(target)
        if not hasattr(self.module, self.name):
            here = [
                name
                for name, value in vars(self.module).items()
                if callable(value) and getattr(value, "__module__", "") == self.module.__name__
            ]
            raise Unclear(f"{target} has no {self.name!r}", f"it has: {', '.join(here)}" if here else None)
        self.maker = getattr(self.module, self.name)

    @property
    def torchvision(self) -> bool:
        """Whether it is one of torchvision's own networks."""
        return str(self.module.__name__).split(".")[0] == "torchvision"

    def network(self, torch: Any, **settings: Any) -> Any:
        """A new network, its weights as it makes them.

        Raises:
            Unclear: it needs arguments. Refused: it fails, or makes no network.
        """
        if isinstance(self.maker, torch.nn.Module):
            return self.maker
        needed = [
            name
            for name, parameter in inspect.signature(self.maker).parameters.items()
            if parameter.default is inspect.Parameter.empty
            and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        ]
        if needed:
            raise Unclear(
                f"{self.text} needs arguments: {', '.join(needed)}",
                "write a function without arguments that builds the network as it was trained, "
                "def make(): return Net(…), and say --class FILE.py:make",
            )
        try:
            made = self.maker(**settings)
        except Exception as problem:
            raise Refused(f"{self.text} failed: {type(problem).__name__}: {problem}") from problem
        if not isinstance(made, torch.nn.Module):
            raise Refused(f"{self.text} gave no torch.nn.Module but {type(made).__name__}")
        return made

    def stand_in(self, module: str, name: str) -> Any:
        """The user's class for a name in a pickle; None for names of torch and of Python's own library."""
        root = module.split(".")[0]
        if root in ("torch", "torchvision") or (root != "__main__" and root in sys.stdlib_module_names):
            return None
        found = getattr(self.module, name, None)
        return found if isinstance(found, type) else None


def _imported(target: str) -> Any:
    path = Path(target)
    if path.suffix != ".py":
        try:
            return importlib.import_module(target)
        except Exception as problem:  # a package raises whatever it met
            where = "install it into the environment that torch is in"
            if target.partition(".")[0] == "torchvision":
                import torch

                release = torch.__version__.partition("+")[0]
                where = f"install torchvision, in the release that goes with torch {release}"
            raise NotConverted(
                f"{target} cannot be imported: {str(problem).splitlines()[0] if str(problem) else problem!r}",
                f"{where}; or give a file that builds the network: --class FILE.py:NAME",
            ) from problem
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Unclear(f"{target} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise Refused(f"{target} fails when it is run: {type(problem).__name__}: {problem}") from problem
    return module


def read_weights(torch: Any, path: str, *, trusted: bool) -> Any:
    """What a file of weights holds; objects other than tensors and plain values only where it is trusted.

    Raises:
        Refused: damaged, or with objects that no file of weights needs.
    """
    from pickle import UnpicklingError

    with open(path, "rb") as stream:
        head = stream.read(9)
    if is_safetensors(head):
        return _safetensors(torch, path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as problem:
        if trusted:
            return load(torch, path, (), lambda module, name: None)
        lines = [line.strip() for line in str(problem).splitlines() if "GLOBAL" in line]
        raise Refused(
            f"it holds more than tensors: {lines[0][:200] if lines else 'a damaged pickle'}",
            "--trust opens it with an allow-list; or save the state_dict alone",
        ) from problem
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as problem:
        raise Refused(f"it cannot be read as weights: {str(problem).splitlines()[0][:200]}") from problem


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is one of safetensors: a length, and a JSON object of it."""
    return len(head) >= 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER


def _safetensors(torch: Any, path: str) -> dict[str, Any]:
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        held: dict[str, Any] = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            dtype = getattr(torch, SAFETENSORS[about["dtype"]])
            begin, end = about["data_offsets"]
            part = bytearray(data[8 + length + begin : 8 + length + end])
            empty = torch.empty(about["shape"], dtype=dtype)
            if empty.numel() * empty.element_size() != end - begin or len(part) != end - begin:
                raise Refused(f"{name} has {len(part)} bytes, and needs another number: it is cut short")
            held[name] = torch.frombuffer(part, dtype=dtype).reshape(about["shape"]) if part else empty
    except (ValueError, KeyError, TypeError) as problem:
        raise Refused(f"no safetensors file: {type(problem).__name__}: {problem}") from problem
    return held


class Absent:
    """Stands for an object of a class whose code is not here: it is made, filled, and does nothing."""

    named = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Whatever the class takes."""

    def __setstate__(self, state: Any) -> None:
        """Whatever it held."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """As a mapping's items are filled in."""

    def append(self, value: Any) -> None:
        """As a list's items are filled in."""

    def extend(self, values: Any) -> None:
        """As a list's items are filled in."""


def read_module(torch: Any, path: str, builder: Builder | None) -> Any:
    """What a checkpoint with pickled classes holds: names of torch and of the user's file are looked up, and
    objects of any other are `Absent`: trainers keep their settings beside the weights.

    Raises:
        Refused: it names something that no checkpoint needs.
    """
    roots = ("torchvision",) if builder is not None and builder.torchvision else ()
    here = (*sys.stdlib_module_names, *RENAMED, "torch", "numpy", *roots)

    def stand_in(module: str, name: str) -> Any:
        found = builder.stand_in(module, name) if builder is not None else None
        if found is None and module.split(".")[0] not in here:
            return type(name.rpartition(".")[2], (Absent,), {"named": f"{module}.{name}"})
        return found

    return load(torch, path, roots, stand_in)


def refuse_absent(held: Any, builder: Builder | None) -> None:
    """Refuses a checkpoint whose network is of a class that is not here.

    Raises:
        Refused: naming the class.
    """
    inside = list(held.values()) if isinstance(held, Mapping) else [held]
    absent = [each.named for each in inside if isinstance(each, Absent)]
    if absent:
        file = f"{builder.text.rpartition(':')[0]} has none" if builder else "its code is not in the file"
        raise Refused(
            f"the checkpoint is of the class {absent[0]}, and {file}",
            "give the file that defines it: --class FILE.py:NAME --trust",
        )


def module_in(torch: Any, held: Any) -> Any:
    """The network among what a checkpoint holds; None where there is none."""
    if isinstance(held, torch.nn.Module):
        return held
    if isinstance(held, Mapping):
        for key in ("ema", *USUAL):
            if isinstance(held.get(key), torch.nn.Module):
                return held[key]
    return None


def state_in(torch: Any, held: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The weights among what a checkpoint holds, and notes.

    Raises:
        Refused: there are none. Unclear: there are several and none has a usual name.
    """
    if _is_state(torch, held):
        return dict(held), ()
    if not isinstance(held, Mapping):
        raise Refused(f"it holds a {type(held).__name__}, and no weights by name")
    there = [key for key, value in held.items() if _is_state(torch, value)]
    usual = [key for key in USUAL if key in there]
    if not there:
        raise Refused(f"it holds no weights by name, but {', '.join(map(str, list(held)[:SHOWN]))}")
    if not usual and len(there) > 1:
        raise Unclear(f"it holds several sets of weights: {', '.join(map(str, there))}", "save one of them")
    key = usual[0] if usual else there[0]
    others = [str(other) for other in held if other != key]
    return dict(held[key]), (f"the weights are those under {key!r} (beside {', '.join(others[:SHOWN])})",)


def _is_state(torch: Any, held: Any) -> bool:
    return (
        isinstance(held, Mapping)
        and len(held) > 0
        and all(isinstance(key, str) for key in held)
        and any(isinstance(value, torch.Tensor) for value in held.values())
        and not any(isinstance(value, (Mapping, torch.nn.Module)) for value in held.values())
    )


def filled(torch: Any, builder: Builder, state: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The builder's network with these weights, in evaluation mode; and notes.

    Raises:
        Refused: names or shapes that differ, told by name.
    """
    network = builder.network(torch)
    wanted = network.state_dict()
    state, notes = _without_prefix(state, wanted)
    other = [key for key in wanted if key in state and _shape(state[key]) != _shape(wanted[key])]
    if other and builder.torchvision and (heads := [key for key in other if key.endswith("weight")]):
        # As many classes as the weights have; torchvision's networks all take this.
        network = builder.network(torch, num_classes=len(state[heads[-1]]))
        wanted = network.state_dict()
        other = [key for key in wanted if key in state and _shape(state[key]) != _shape(wanted[key])]
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    if missing or unexpected or other:
        said = [f"{len(missing)} are missing ({_some(missing)})"] if missing else []
        said += [f"{len(unexpected)} are not in it ({_some(unexpected)})"] if unexpected else []
        shapes = [f"{key} is {_shape(state[key])}, not {_shape(wanted[key])}" for key in other]
        said += [f"{len(other)} have another shape ({_some(shapes, '; ')})"] if other else []
        raise Refused(
            f"the weights are not those of {builder.text}: of its {len(wanted)} tensors {'; '.join(said)}",
            "build the network as it was trained: def make(): return Net(…), --class FILE.py:make",
        )
    network.load_state_dict(state, strict=False)
    return network.eval(), notes


def _without_prefix(
    state: dict[str, Any], wanted: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state) and not any(k.startswith(prefix) for k in wanted):
            cut = {key.removeprefix(prefix): value for key, value in state.items()}
            return cut, (f"{prefix!r} before every name was left out",)
    return state, ()


def _shape(value: Any) -> list[int]:
    return list(getattr(value, "shape", ()))


def _some(names: list[str], between: str = ", ") -> str:
    return between.join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
