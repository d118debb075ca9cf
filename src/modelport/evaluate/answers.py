"""Who answers the items: a bundle's own pipeline here, or a running server. Both give the same tensors."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..bundle.manifest import Column, Decode
from ..bundle.options import check_options
from ..bundle.store import Bundle
from ..client.sync import Client
from ..errors import BundleError, InputError, NotFound, Unavailable, UsageError
from ..files import read_limited
from ..runtimes.pipeline import Pipeline
from ..steps.decode import picture_size
from ..steps.row_files import decode_row
from ..steps.texts import decode_text
from ..tensors import Array, Tensors, TensorSpec, dtype_name, object_array
from .data.item import Item

Option = float | int | bool

_DESCRIBE_SECONDS = 30.0
_MAX_DESCRIPTION = 64 << 20


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The model that is evaluated, as far as its data and its answers need it."""

    name: str
    version: str
    digest: str
    task: str
    labels: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    """What one item is, without a batch axis."""
    pictures: bool
    """Whether items are encoded pictures."""
    options: tuple[str, ...] = ()
    """The names of the bundle's options."""
    decode: Decode = Decode()
    columns: tuple[Column, ...] = ()


class Answer(msgspec.Struct, frozen=True, eq=False):
    """One item's answer without the batch axis, and the size of its picture (0 x 0 for tensors)."""

    tensors: Mapping[str, Array]
    width: int = 0
    height: int = 0


Answerer = Callable[[Item], Answer]
"""Raises InputError, NotFound or ModelFailed for what is the item's own fault."""


def subject_of(bundle: Bundle) -> Subject:
    """What a bundle says of itself."""
    manifest = bundle.manifest
    return Subject(
        name=manifest.name,
        version=manifest.version,
        digest=bundle.digest,
        task=manifest.task,
        labels=bundle.labels(),
        inputs=manifest.inputs,
        pictures=manifest.decode.kind == "image",
        options=tuple(option.name for option in manifest.options),
        decode=manifest.decode,
        columns=manifest.columns,
    )


class _Named(msgspec.Struct):
    name: str


class _Description(msgspec.Struct):
    name: str
    version: str
    task: str
    inputs: list[TensorSpec]
    labels: list[str] = []
    digest: str = ""
    options: list[_Named] = []
    kind: Literal["image", "tensors", "table", "text"] = "image"
    columns: list[Column] = []


def subject_at(url: str, model: str, version: str | None, key: str | None) -> Subject:
    """What a server says of one of its models; a server of Modelport's, over HTTP.

    Raises:
        Unavailable: no server. NotFound: no such model. UsageError: an address of another kind.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"a model is described over http:// or https:// only, not at {url!r}",
            hint="give the bundle's own path: it says what the model is",
        )
    path = "/".join(urllib.parse.quote(part, safe="") for part in (model, version) if part)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{url.rstrip('/')}/api/models/{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_DESCRIBE_SECONDS) as reply:
            found = msgspec.convert(json.loads(reply.read(_MAX_DESCRIPTION)), _Description)
    except urllib.error.HTTPError as problem:
        raise NotFound(f"{url} has no model {model!r} to describe: {problem}") from problem
    except OSError as problem:
        raise Unavailable(f"no server answers at {url}: {problem}") from problem
    except (ValueError, msgspec.ValidationError) as problem:
        raise BundleError(f"{url} describes {model!r} in an unknown way: {problem}") from problem
    return Subject(
        name=found.name,
        version=found.version,
        digest=found.digest,
        task=found.task,
        labels=tuple(found.labels),
        inputs=tuple(found.inputs),
        options=tuple(option.name for option in found.options),
        pictures=[(spec.name, spec.dtype, len(spec.shape)) for spec in found.inputs]
        == [("image", "uint8", 3)],
        decode=Decode(found.kind) if found.kind in ("table", "text") else Decode(),
        columns=tuple(found.columns),
    )


def here(pipeline: Pipeline, options: Mapping[str, Option]) -> Answerer:
    """Answers by a bundle's own stages in this process; they may be asked for by several threads at once.

    Raises:
        InputError: an option that the bundle does not have.
    """
    manifest = pipeline.bundle.manifest
    given = check_options(manifest, options)

    def answer(item: Item) -> Answer:
        if isinstance(item.source, bytes):
            return Answer(pipeline.answer(pipeline.decode(item.source), given or None))
        if isinstance(item.source, Path):
            decoded = pipeline.decode(read_limited(item.source, manifest.decode.max_bytes))
        else:
            decoded = item.source
            manifest.graphs.pre.signature.check_inputs(decoded)
        height, width = decoded["image"].shape[:2] if isinstance(item.source, Path) else (0, 0)
        return Answer(pipeline.answer(decoded, given or None), width, height)

    return answer


@contextlib.contextmanager
def at_server(
    subject: Subject, url: str, *, key: str | None, connections: int, options: Mapping[str, Option]
) -> Iterator[Answerer]:
    """Answers by a server, through the Open Inference Protocol: the same tensors as the bundle's own."""
    with Client(url, key=key, connections=connections, timeout=120.0, retries=4) as client:

        def answer(item: Item) -> Answer:
            width = height = 0
            if isinstance(item.source, Path):
                data = read_limited(item.source, subject.decode.max_bytes)
                width, height = picture_size(data, subject.decode)
                inputs: dict[str, Array] = {"image": object_array([data], [1])}
            elif isinstance(item.source, bytes):
                row = _decoded(item.source, subject)
                inputs = {name: array[None] for name, array in row.items()}
            else:
                inputs = {name: array[None] for name, array in item.source.items()}
            result = client.infer(subject.name, inputs, version=subject.version, parameters=dict(options))
            return Answer(_first_row(result), width, height)

        yield answer


def _decoded(data: bytes, subject: Subject) -> dict[str, Array]:
    """A row or a text as a server takes it; what a tokenizer makes of a text is the server's."""
    if subject.decode.kind == "text":
        return decode_text(data, subject.decode)
    return decode_row(data, subject.decode, subject.columns)


def _first_row(result: Tensors) -> dict[str, Array]:
    rows = {}
    for name, array in result.items():
        if array.ndim == 0 or len(array) != 1:
            raise InputError(f"output {name!r} has shape {list(array.shape)} for one item")
        row = np.asarray(array[0])
        if dtype_name(row) == "string":
            texts = [each.decode() if isinstance(each, bytes) else str(each) for each in row.flat]
            row = object_array(texts, row.shape)
        rows[name] = row
    return rows
