"""What the importers have in common whose framework runs in another process.

An importer says how its sources are recognised, which environment and which converter (a module in
`isolation.child`) open them, and whether they are code. This side never imports the framework: it gets an
ONNX file, checks it like any other, and compares it with what the other process computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import onnx
from google.protobuf.message import DecodeError

from ..errors import InputError, Unsupported, UsageError
from ..isolation.worker import Limits, Worker
from ..tensors import Array, Signature, Tensors, TensorSpec
from .batch import with_batch
from .canonical import canonical, signature_of
from .isolated import how_confined, open_worker
from .onnx import one_file
from .source import Cost, Declared, Imported, Permission, SourceOptions, as_path

MAX_TEXT = 500
"""Characters of a sentence from the other process, which is not trusted."""
MAX_NOTES = 50

Specs = tuple[TensorSpec, ...]


class Opened(msgspec.Struct, frozen=True):
    """A source that another process holds open."""

    path: Path
    inputs: Specs
    worker: Worker
    graph: onnx.ModelProto
    """As it was converted, with its metadata."""
    own: onnx.ModelProto
    """In canonical form."""
    changed: tuple[str, ...]
    """Notes on what that changed."""
    about: dict[str, Any]
    """The converter's answer: see `isolation.child.converter.Converter`."""

    def reference(self, batch: Tensors) -> dict[str, Array]:
        """The network's outputs for a batch, computed by the framework that the source is of."""
        return self.worker.call({"do": "run"}, dict(batch))[1]


class ConvertedImporter:
    """Opens a source once, when something of it is first asked for; the process ends with the importer."""

    environment: str
    """The private environment's name, taken where the current one lacks what its table needs."""
    converter: str
    """The module in `isolation.child`; of a plugin the absolute path of a file with a `Converter` in it."""
    what: str
    """The source in a few words, for messages: `a Caffe network`."""
    takes: frozenset[str] = frozenset()
    """Which of `SourceOptions` mean something here."""
    limits = Limits()

    def __init__(self) -> None:
        self.permission = Permission()
        self.options = SourceOptions()
        self._opened: Opened | None = None

    def recognises(self, source: Any) -> bool:
        """Whether this is the importer for `source`, told by its content, without the framework."""
        raise NotImplementedError

    def danger(self, path: Path) -> Unsupported | None:
        """The refusal of a source that is code and that the user does not trust; None where it is data."""
        return None

    def question(self, path: Path) -> dict[str, Any]:
        """What the converter is told beside the path and the inputs; whatever JSON holds."""
        return {}

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """The recipe that the source states; None where it states none."""
        return None

    def permit(self, permission: Permission) -> None:
        """What the user allows."""
        self.permission = permission

    def choose(self, options: SourceOptions) -> None:
        """What the user says of the source.

        Raises:
            UsageError: an option that means nothing for such a source.
        """
        flags = {"weights": "--weights", "signature": "--signature", "builder": "--class"}
        for name, flag in flags.items():
            if getattr(options, name) and name not in self.takes:
                known = ", ".join(flags[each] for each in flags if each in self.takes)
                raise UsageError(f"{flag} means nothing for {self.what}", hint=known and f"it takes {known}")
        self.options = options

    def graph(self, source: Any) -> onnx.ModelProto | None:
        """The converted network with its metadata, for recognising what it is."""
        return self.open(source).graph

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """Inputs and outputs of the converted network."""
        return signature_of(self.open(source, inputs).own)

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Check the conversion, and prove its batch axis against the framework.

        Raises:
            Unsupported: it may not be opened, cannot be converted, or nothing here can.
            InputError: it is damaged, or not what it looks like.
        """
        opened = self.open(source, inputs)
        model, batch, batch_notes = with_batch(opened.own, opened.reference, example)
        return Imported(
            onnx=one_file(model),
            signature=signature_of(model),
            batch=batch,
            reference=opened.reference,
            framework=str(opened.about.get("framework", ""))[:200],
            format=str(opened.about.get("kind", ""))[:40],
            notes=(
                *_texts(opened.about, "notes"),
                how_confined(opened.worker),
                *opened.changed,
                *batch_notes,
            ),
            labels=_texts(opened.about, "labels", limit=None),
            cost=_cost(opened.about),
            quantised=opened.about.get("quantised") is True,
        )

    def open(self, source: Any, inputs: Sequence[TensorSpec] | None = None) -> Opened:
        """The source in its process; a second question finds it open.

        Args:
            source: a path.
            inputs: what the user says that the network takes; None where any will do that was said before.

        Raises:
            Unsupported, InputError: see `load`.
        """
        path = as_path(source)
        if path is None:
            raise Unsupported(f"{self.what} is read from a file", hint="save it, and give the path")
        had = self._opened
        if had is not None and had.path == path and inputs in (None, had.inputs):
            return had
        specs = tuple(inputs or ())
        if not self.permission.trust and (refusal := self.danger(path)) is not None:
            raise refusal
        question = {
            "do": "open",
            "path": str(path.resolve()),
            "inputs": [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs],
        }
        question |= self.question(path)
        worker = open_worker(self.converter, self.environment, self.permission, self.limits)
        about, arrays = worker.call(question)
        graph = _graph(path, arrays)
        self._opened = Opened(path, specs, worker, graph, *canonical(graph), about)
        return self._opened


def _graph(path: Path, arrays: Mapping[str, Array]) -> onnx.ModelProto:
    if "onnx" not in arrays:
        raise InputError(f"{path}: the converter gave no network")
    try:
        graph = onnx.load_model_from_string(arrays["onnx"].tobytes())
    except DecodeError as problem:
        raise InputError(f"{path}: the converter gave a damaged network: {problem}") from problem
    return graph


def _texts(about: Mapping[str, Any], key: str, *, limit: int | None = MAX_NOTES) -> tuple[str, ...]:
    found = about.get(key)
    return tuple(str(text)[:MAX_TEXT] for text in found[:limit]) if isinstance(found, list) else ()


def _cost(about: Mapping[str, Any]) -> Cost | None:
    seconds, peak = about.get("seconds"), about.get("peak_bytes")
    if not isinstance(seconds, (int, float)) or not isinstance(peak, int):
        return None
    return Cost(float(seconds), peak)
