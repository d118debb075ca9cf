"""What a server has: its models, what they take, and which of them the checks can use."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

from ..errors import NotFound
from .answers import HEADER_LENGTH, Answer, read_answer
from .http import Link, Reply
from .rpc import Rpc
from .tensors import SPEAKABLE, Array, flat_json, same, sample, to_bytes
from .verdict import NotOffered, Wrong

MAX_MODELS = 64
_SIZES = (1, 8, 32)
"""What free dimensions besides the first are tried as."""


@dataclass(frozen=True)
class Tensor:
    """One input or output as the metadata has it; -1 for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A model, and values that it answers to."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    given: dict[str, Array] = field(default_factory=dict)
    echoes: dict[str, str] = field(default_factory=dict)
    """Inputs that come back as they were: input's name -> output's."""

    @property
    def path(self) -> str:
        """Under the server's root."""
        return f"v2/models/{quote(self.name, safe='')}"

    @property
    def batched(self) -> bool:
        """Whether the first dimension of every input is free."""
        return all(tensor.shape[:1] == (-1,) for tensor in self.inputs)

    @property
    def numeric(self) -> bool:
        """Whether every input can be said in JSON's numbers."""
        return all(tensor.datatype in SPEAKABLE for tensor in self.inputs)


def request(model: Model, values: dict[str, Array] | None = None, **more: Any) -> dict[str, Any]:
    """A JSON request with flat data; `more` are further fields of it."""
    given = values or model.given
    kinds = {tensor.name: tensor.datatype for tensor in model.inputs}
    entries = [
        {"name": name, "shape": list(array.shape), "datatype": kinds[name], "data": flat_json(array)}
        for name, array in given.items()
    ]
    return {**more, "inputs": entries}


def binary_request(
    model: Model, values: dict[str, Array] | None = None, **more: Any
) -> tuple[dict[str, Any], bytes]:
    """The JSON and the bytes behind it of a request whose tensors are all in binary."""
    kinds = {tensor.name: tensor.datatype for tensor in model.inputs}
    entries, blobs = [], []
    for name, array in (values or model.given).items():
        blobs.append(to_bytes(array))
        size = {"binary_data_size": len(blobs[-1])}
        entries.append(
            {"name": name, "shape": list(array.shape), "datatype": kinds[name], "parameters": size}
        )
    return {**more, "inputs": entries}, b"".join(blobs)


class Subject:
    """The server under test.

    Args:
        model: the name of the model to use; by default the first that answers.
        grpc: HOST:PORT of its gRPC side, if it is to be checked.
    """

    def __init__(self, link: Link, *, model: str | None = None, grpc: str | None = None) -> None:
        self.link = link
        self.rpc = Rpc(grpc, link.timeout, link.headers) if grpc else None
        self.models = tuple(self._found(model))
        if not self.models:
            raise NotFound(
                "no model was found",
                hint="the server lists none at v2/models or v2/repository/index: --model",
            )
        first = next((each for each in self.models if each.name == model), None)
        self.model = first or min(self.models, key=_preference)

    @cached_property
    def extensions(self) -> frozenset[str]:
        """What the server announces."""
        try:
            found = self.link.get("v2").json()["extensions"]
            return frozenset(str(each) for each in found)
        except (Wrong, KeyError, TypeError):
            return frozenset()

    def offers(self, *names: str, works: bool = False) -> None:
        """Go on only where one of the names is announced, or where a first try says that it works anyway.

        Raises:
            NotOffered: neither.
        """
        if not works and not self.extensions & set(names):
            raise NotOffered(f"{names[0]} is not announced in v2")

    def infer(self, body: dict[str, Any], model: Model | None = None, **headers: str) -> Reply:
        """A JSON request to a model."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.link.post(f"{(model or self.model).path}/infer", body, named)

    def infer_binary(self, head: dict[str, Any], data: bytes, model: Model | None = None) -> Reply:
        """A request whose JSON is followed by tensors."""
        return self.infer_bytes(_json(head), data, str(len(_json(head))), model)

    def infer_bytes(self, head: bytes, data: bytes, length: str, model: Model | None = None) -> Reply:
        """The same with any head, and any value of Inference-Header-Content-Length."""
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: length}
        return self.link.ask("POST", f"{(model or self.model).path}/infer", head + data, headers)

    @cached_property
    def answer(self) -> Answer:
        """The answer to the model's sample values.

        Raises:
            Wrong: there is none.
        """
        return read_answer(self.infer(request(self.model)))

    def echo(self, datatype: str) -> tuple[Model, str]:
        """A model and its input of a datatype that comes back as it was.

        Raises:
            NotOffered: the server has no such model.
        """
        for model in self.models:
            for tensor in model.inputs:
                if tensor.datatype == datatype and tensor.name in model.echoes:
                    return model, tensor.name
        raise NotOffered(f"no model here gives back a {datatype} input")

    def _found(self, wanted: str | None) -> list[Model]:
        """Every model whose metadata can be read, with values that it answers to."""
        names = [wanted] if wanted else []
        names += [name for name in self._names() if name not in names][:MAX_MODELS]
        return [tried for name in names if (tried := self._tried(name)) is not None]

    def _names(self) -> list[str]:
        names: list[str] = []
        for method, path in (("GET", "v2/models"), ("POST", "v2/repository/index")):
            try:
                reply = self.link.get(path) if method == "GET" else self.link.post(path, {})
                data = reply.json()
            except Wrong:
                continue
            listed = data.get("models") if isinstance(data, dict) else data
            for entry in listed if isinstance(listed, list) else []:
                name = entry.get("name") if isinstance(entry, dict) else entry
                if isinstance(name, str) and name not in names:
                    names.append(name)
        return names

    def _tried(self, name: str) -> Model | None:
        """A model with sample values; those may stay empty where nothing was answered."""
        try:
            reply = self.link.get(f"v2/models/{quote(name, safe='')}")
            data = reply.json()
            model = Model(
                name,
                tuple(str(each) for each in data.get("versions") or ()),
                tuple(_tensor(entry) for entry in data["inputs"]),
                tuple(_tensor(entry) for entry in data["outputs"]),
            )
        except (Wrong, KeyError, TypeError, ValueError, AttributeError):
            return None
        for size in _SIZES:
            given = {each.name: sample(each.datatype, filled(each.shape, size)) for each in model.inputs}
            ready = Model(name, model.versions, model.inputs, model.outputs, given)
            if not given:
                return None
            try:
                answer = self._first_answer(ready)
            except Wrong:
                continue
            return Model(name, model.versions, model.inputs, model.outputs, given, _echoes(given, answer))
        return Model(name, model.versions, model.inputs, model.outputs, ready.given)

    def _first_answer(self, model: Model) -> Answer:
        """By JSON where JSON has a form for the inputs and the outputs, else in binary."""
        if all(each.datatype != "FP16" for each in (*model.inputs, *model.outputs)):
            return read_answer(self.infer(request(model), model))
        head, data = binary_request(model, parameters={"binary_data_output": True})
        return read_answer(self.infer_binary(head, data, model))


def filled(shape: tuple[int, ...], size: int, rows: int = 2) -> list[int]:
    """A shape without free dimensions: `rows` for the first, `size` for the others."""
    return [each if each >= 0 else rows if axis == 0 else size for axis, each in enumerate(shape)]


def _echoes(given: dict[str, Array], answer: Answer) -> dict[str, str]:
    """Inputs that came back: each output is the echo of one input at most."""
    free = dict(answer.outputs)
    found: dict[str, str] = {}
    for name, array in given.items():
        for output, told in free.items():
            if told.dtype == array.dtype and same(told, array):
                found[name] = output
                del free[output]
                break
    return found


def _preference(model: Model) -> tuple[bool, bool, bool, bool]:
    """Least is best: answers, speaks in numbers, in batches, in floats."""
    floats = all(tensor.datatype == "FP32" for tensor in model.inputs)
    return not model.numeric, not model.batched, not floats, bool(model.echoes)


def _tensor(entry: dict[str, Any]) -> Tensor:
    return Tensor(str(entry["name"]), str(entry["datatype"]), tuple(int(size) for size in entry["shape"]))


def _json(head: dict[str, Any]) -> bytes:
    return json.dumps(head).encode()
