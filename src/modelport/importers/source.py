"""What comes in: a file or an object, recognised by its content, and what every importer makes of it.

Knows no framework. A file name's ending decides nothing here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from .. import plugins
from ..bundle.manifest import Column
from ..errors import InputError, ModelportError, Unsupported, UsageError
from ..steps.recipe import Recipe
from ..tensors import Array, Signature, Tensors, TensorSpec, numpy_dtype
from . import strange

Reference = Callable[[Tensors], dict[str, Array]]
"""A batch of the network's inputs to its outputs, computed by the framework that it came from."""

MAX_ONNX_BYTES = (2 << 30) - (1 << 20)
"""Protobuf ends at 2 GiB; a bundle's network is one file."""

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class Cost(msgspec.Struct, frozen=True):
    """What it took to open and convert a source."""

    seconds: float
    """By the wall clock, the framework's own import among them."""
    peak_bytes: int
    """The most memory that the process had."""


class Imported(msgspec.Struct, frozen=True):
    """A network as one ONNX file, and the source's own way of running it, to compare with."""

    onnx: bytes
    signature: Signature
    batch: bool
    """Whether the first axis of every input and output takes any number of rows; proven by running."""
    reference: Reference
    framework: str
    """With its version: `torch 2.13.0`."""
    format: str
    """`onnx`, `nn.Module`, `torchscript`, `pt2`, `ultralytics`, `yolov5`, `keras` or `h5`."""
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Class names that the file itself holds, or none."""
    cost: Cost | None = None
    """What the conversion took, where another process measured it."""
    columns: tuple[Column, ...] = ()
    """The columns of the table that it was trained on, where the source says; else none."""
    function: str | None = None
    """The function's name, where the source stays Python; `onnx` is its file then, and no graph."""
    files: Mapping[str, bytes] = {}
    """Further files for the bundle, such as the tokenizer that `Decode.tokenizer` names."""
    quantised: bool = False
    """Whether values become whole numbers of 8 bits on the way: what differs in a float's last bit may then
    be rounded to another of 127 or 255 steps."""


class Permission(msgspec.Struct, frozen=True):
    """What the user allows for sources that are code."""

    trust: bool = False
    """Opening them, in a process of its own."""
    isolate: bool = False
    """Making a private environment for that where the current one will not do."""
    ask: Callable[[str], bool] | None = None
    """Asks the user a question to be answered with yes or no; None where nobody is there."""
    tell: Callable[[str], None] = lambda note: None
    """Told what is being done that takes long."""
    making: list[float] = []
    """Seconds that went into private environments, the question and its answer among them: one for each."""


class SourceOptions(msgspec.Struct, frozen=True):
    """What the user says of a source that the source does not say itself."""

    weights: Path | None = None
    """The other file of a pair, where it does not lie beside the source under its usual name."""
    signature: str = ""
    """Which of a SavedModel's signatures; of a frozen graph, its outputs with commas between them."""
    builder: str = ""
    """What builds the network that weights are for: `FILE.py:NAME`, a class or a function."""


class Declared(msgspec.Struct, frozen=True):
    """The recipe that a source states itself."""

    recipe: Recipe
    why: str
    """Where the source says it, in a few words: `its image processor`."""
    settings: dict[str, Any] = {}
    labels: tuple[str, ...] = ()
    assumed: str = ""
    """What the source does not say and the recipe takes for granted: a sentence for whoever packs it."""


class Importer(Protocol):
    """One framework's way in. Those for sources that are code have `permit(permission)` as well."""

    def recognises(self, source: Any) -> bool:
        """Whether this is the importer for `source`, told without importing the framework."""
        ...

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """What can be told of inputs and outputs before anything is exported; None where nothing can."""
        ...

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Convert.

        Args:
            source: a path, or an object in memory.
            example: one prepared batch for the network, where the caller has one.
            inputs: input specifications that the user gave, or none.

        Raises:
            Unsupported: the framework is missing, or the network cannot be converted.
            InputError: the file is damaged or is not what it looks like.
        """
        ...


@runtime_checkable
class TakesPermission(Protocol):
    """An importer that opens nothing without being allowed to."""

    def permit(self, permission: Permission) -> None:
        """What the user allows, before anything is opened."""
        ...


@runtime_checkable
class TakesOptions(Protocol):
    """An importer with something to choose about a source."""

    def choose(self, options: SourceOptions) -> None:
        """What the user says, before anything is opened.

        Raises:
            UsageError: an option that means nothing for such a source.
        """
        ...


@runtime_checkable
class Declares(Protocol):
    """An importer of sources that may state how their input is prepared."""

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """The recipe that the source states; None where it states none."""
        ...


def find_importer(
    source: Any, permission: Permission | None = None, options: SourceOptions | None = None
) -> Importer:
    """The first importer that recognises `source`, built-in ones before plugins.

    Args:
        source: a path, or an object in memory.
        permission: handed on to the importer where the source is code.
        options: handed on to the importer that has something to choose.

    Raises:
        NotFound: no such file. InputError: a file that is no model. Unsupported: nothing recognises it.
        UsageError: `options` for a source that has nothing to choose.
    """
    path = as_path(source)
    named = function_of(source)
    there = named[0] if named else path
    if there is not None and not there.exists():
        raise strange.absent(str(source), there)
    if path is not None:
        strange.refuse_early(path)
    for name in plugins.table("importers"):
        importer: Importer = plugins.load("importers", name)()
        with faults_of(importer, source):
            its_own = importer.recognises(source)
        if its_own:
            if permission is not None and isinstance(importer, TakesPermission):
                importer.permit(permission)
            _choose(importer, source, options)
            return importer
    if path is not None:
        raise strange.refusal(path)
    raise Unsupported(
        f"{describe(source)} is no model that Modelport reads",
        hint="expected a path, a torch.nn.Module, a keras.Model or an onnx.ModelProto",
    )


@contextlib.contextmanager
def faults_of(importer: Importer, source: Any) -> Iterator[None]:
    """Words for an error that a third party's importer lets out; in one of our own it is a bug, not hidden.

    Raises:
        Unsupported: in place of any error but Modelport's.
    """
    try:
        yield
    except ModelportError:
        raise
    except Exception as problem:
        kind = type(importer)
        if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
            raise
        said = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        raise Unsupported(
            f"the importer {kind.__module__}:{kind.__name__} failed on {describe(source)}: {said}",
            hint="whoever made it sees it with modelport.testing.check_importer",
        ) from problem


def _choose(importer: Importer, source: Any, options: SourceOptions | None) -> None:
    if options is None or options == SourceOptions():
        return
    if not isinstance(importer, TakesOptions):
        raise UsageError(f"{describe(source)} is whole: it takes no --weights, --signature or --class")
    importer.choose(options)


def as_path(source: Any) -> Path | None:
    """The path of a source that is a file; None for objects."""
    return Path(source) if isinstance(source, (str, os.PathLike)) else None


def function_of(source: Any) -> tuple[Path, str] | None:
    """The file and the name of `FILE.py:NAME`; None for any other source."""
    match = re.fullmatch(r"(.+\.py):([A-Za-z_]\w*)", str(source)) if as_path(source) is not None else None
    return (Path(match[1]), match[2]) if match else None


def origin_of(source: Any) -> Path | None:
    """The file or folder that a source is or lies in; None for objects."""
    named = function_of(source)
    return named[0] if named else as_path(source)


def describe(source: Any) -> str:
    """A source in a few words, for messages."""
    path = as_path(source)
    return (
        str(path) if path is not None else f"an object of {type(source).__module__}.{type(source).__name__}"
    )


def file_head(source: Any, size: int = 16) -> bytes:
    """The first bytes of a source that is a file; empty for anything else."""
    path = as_path(source)
    if path is None or not path.is_file():
        return b""
    with path.open("rb") as stream:
        return stream.read(size)


def zip_members(source: Any) -> tuple[str, ...]:
    """The names in a source that is a zip archive; empty for anything else."""
    if file_head(source, 4) not in (b"PK\x03\x04", b"PK\x05\x06"):
        return ()
    try:
        with zipfile.ZipFile(Path(source)) as archive:
            return tuple(archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return ()


def of_module(source: Any, package: str, name: str) -> bool:
    """Whether `source` is an instance of a class `name` defined in `package`; imports nothing."""
    return any(
        kind.__name__ == name and kind.__module__.split(".")[0] == package for kind in type(source).__mro__
    )


def sha256_of(path: Path) -> str:
    """The digest of a file's content; of a folder, that of a list of its files' names and digests."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = (f"{sha256_of(each)}  {each.relative_to(path).as_posix()}\n" for each in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse_input(text: str) -> TensorSpec:
    """An input specification: `x:float32[batch,3,224,224]`.

    Raises:
        UsageError: another form, an unknown datatype, or no dimensions.
    """
    match = re.fullmatch(r"\s*([^\s:\[\]]+)\s*:\s*(\w+)\s*\[([^\[\]]+)\]\s*", text)
    if match is None:
        raise UsageError(f"expected NAME:DTYPE[DIM,…], got {text!r}", hint="x:float32[batch,3,224,224]")
    name, dtype, dims = match.groups()
    try:
        numpy_dtype(dtype)
    except InputError as problem:
        raise UsageError(problem.message, at=text) from problem
    shape: list[int | str] = []
    for dim in (part.strip() for part in dims.split(",")):
        if dim.isdigit() and int(dim) > 0:
            shape.append(int(dim))
        elif re.fullmatch(r"[A-Za-z_]\w*", dim):
            shape.append(dim)
        else:
            raise UsageError(f"{dim!r} is neither a positive size nor a name", at=text)
    return TensorSpec(name, dtype, tuple(shape))
