"""`modelport.json` as types: the annotations are the parser, the validator and the JSON Schema.

Knows the words of a bundle and nothing of files; `docs/spec/bundle-v2.md` is its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from ..errors import BundleError, UsageError
from ..tensors import Signature, TensorSpec

FORMAT: Final = "modelport-bundle"
FORMAT_VERSION = 2
READS = (1, 2)
"""Every version that was ever written: what is newer has a default that says what the older one meant."""
MANIFEST = "modelport.json"
MAX_MANIFEST_BYTES = 4 << 20

# Python's `$` also matches before a final newline; JSON Schema's does not, so its patterns go without this.
_PYTHON_END = r"(?!\n)"
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$" + _PYTHON_END)]
Version = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" + _PYTHON_END)]
OptionName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$" + _PYTHON_END)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$" + _PYTHON_END)]
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Colour = Annotated[int, msgspec.Meta(ge=0, le=255)]
# The largest integer that every JSON reader, JavaScript's among them, holds exactly.
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Least = Annotated[int, msgspec.Meta(ge=8)]
Setting = bool | int | float | str
"""What a runtime's setting may be."""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle: its digest and its size in bytes."""

    sha256: Sha256
    size: Count


class GraphInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ONNX graph: its file and signature.

    `function` is set where the file is Python and no graph: the name of the function in it, which takes and
    gives arrays by name. Only `net` may be one.

    `batch` is true where the first axis of every input and output is a batch of any size; `pre` takes
    one item without a batch axis, so there it is false.
    """

    file: FilePath
    batch: bool
    signature: Signature
    function: str | None = None


class Graphs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The three graphs that a decoded item passes through."""

    pre: GraphInfo
    net: GraphInfo
    post: GraphInfo


class Decode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the host does before `pre`: `image` bytes to uint8[H, W, 3], `tensors` taken as they are, a row of
    a `table` to one tensor for each column, or `text` to string[1] or, with a tokenizer, to token ids.

    `background` is the colour that transparency is composited on; limits are in pixels and bytes of
    one encoded item. `tokenizer` is a file of the bundle that the library `tokenizers` reads; it,
    `max_length` (tokens; longer texts are cut), `padding` and `pad_token` are for text alone.
    """

    kind: Literal["image", "tensors", "table", "text"] = "image"
    background: tuple[Colour, Colour, Colour] = (255, 255, 255)
    max_pixels: Limit = 100_000_000
    max_bytes: Limit = 64 << 20
    tokenizer: FilePath | None = None
    max_length: Limit = 512
    padding: Literal["none", "max_length"] = "none"
    """With "max_length" every text becomes that many tokens; the attention mask is 0 where it was padded."""
    pad_token: str = "[PAD]"


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the rows that a bundle of kind `table` takes."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    dtype: Literal["float32", "float64", "int64", "string", "bool"]
    categories: tuple[str, ...] = ()
    """The texts that a `string` column may hold, in the order of their indices; any text where empty."""
    minimum: float | None = None
    maximum: float | None = None
    """The smallest and largest number that is taken, both included."""
    missing: bool = False
    """Whether a value may be missing: NaN in floats, the empty text in strings; others cannot miss."""
    typical: bool | int | float | str | None = None
    """A value to start a form and made-up rows with: the training data's median or commonest."""
    description: str = ""
    unseen: bool = False
    """Whether categories that are not listed and numbers beyond the range are taken too: then they only say
    what was seen in training, and the network handles the others."""


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The steps as data, from which `pre.onnx` and `post.onnx` were compiled; for people and tools."""

    pre: tuple[dict[str, dict[str, Any]], ...] = ()
    post: tuple[dict[str, dict[str, Any]], ...] = ()


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`|got - expected| <= absolute + relative * |expected|`, element by element (NumPy's allclose)."""

    absolute: NotNegative = 0.0
    relative: NotNegative = 0.0


class GoldenCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One recorded case: the input file, and an .npz with the taps.

    The arrays in `taps` are named `decoded.NAME`, `pre.NAME`, `raw.NAME`, `answer.NAME`.
    """

    name: str
    input: FilePath
    taps: FilePath


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cases recorded from the source framework, and how close a replay must come at each tap."""

    source: str
    """The framework that gave `raw`, with its version: `torch 2.13.0`."""
    generated: bool
    """True where the inputs were made up because the user gave none."""
    cases: tuple[GoldenCase, ...]
    decode: Tolerance = Tolerance()
    pre: Tolerance = Tolerance()
    net: Tolerance = Tolerance(1e-4, 1e-4)
    post: Tolerance = Tolerance(1e-5, 1e-5)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the network came from."""

    format: str
    framework: str
    file: str | None = None
    sha256: Sha256 | None = None


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source of a packed bundle, or the digest of the bundle that this one was derived from."""

    source: Source | None = None
    parent: Sha256 | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another form of the network, or another way of running it, with its measured figures.

    `machine` is the class of machine that they are of and that its answers are known on, such as
    `x86_64-avx512vnni`; empty where they are the same on any. A reader takes the first `chosen` one for its
    own class whose runtime it has before `net`. Variants may share a file, which may be that of `net`.
    """

    name: Name
    file: FilePath
    figures: dict[str, Any] = {}
    machine: str = ""
    chosen: bool = False
    runtime: Name = "onnxruntime"
    """What runs it; `pre` and `post` stay with ONNX Runtime, on which their bytes were proven."""
    settings: dict[str, Setting] = {}
    """Of that runtime, by its own names."""
    portable: tuple[Name, ...] = ()
    """As of the manifest, of a pipeline with this form of the network."""
    outputs: tuple[str, ...] = ()
    """Values of the file's graph that are its outputs in this form, float32; its own where none are named."""
    post: FilePath | None = None
    """The graph that makes answers of this form's outputs, where they are not those of `net`; its outputs and
    options are those of `graphs.post`."""
    pre: FilePath | None = None
    """The graph that prepares items for this form, where it is not that of `net`; it takes and gives the
    tensors of `graphs.pre`, perhaps of other sizes."""
    prepares: tuple[dict[str, dict[str, Any]], ...] = ()
    """The steps as data, from which this form's own `pre` was compiled."""
    reduced: tuple[Least, Least] | None = None
    """JPEG pictures are decoded at an eighth, a quarter or a half of their sides, the least that leaves this
    [height, width]; None decodes them whole."""

    @property
    def files(self) -> dict[str, str]:
        """Its files, by the field that names them."""
        said = {"file": self.file, "pre": self.pre, "post": self.post}
        return {field: name for field, name in said.items() if name is not None}

    @property
    def batch(self) -> int:
        """The batch with the best throughput, as `optimize` recorded it in `figures`; 0 where it did not."""
        figures = self.figures.get("figures")
        batch = figures.get("batch") if isinstance(figures, dict) else None
        return batch if isinstance(batch, int) and not isinstance(batch, bool) and batch > 0 else 0


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number that a caller may set for one request: an input of `post` that has a default.

    In the graph it is a scalar input with an initializer; `default` is that initializer's value.
    """

    name: OptionName
    dtype: Literal["float32", "int64", "bool"]
    default: bool | int | float
    minimum: int | float | None = None
    maximum: int | float | None = None
    description: str = ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a reader needs to run a bundle and to trust it."""

    format: Literal["modelport-bundle"] = FORMAT
    format_version: int = FORMAT_VERSION
    name: Name
    version: Version
    task: str
    description: str = ""
    created: str
    producer: str
    decode: Decode
    columns: tuple[Column, ...] = ()
    graphs: Graphs
    steps: Steps = Steps()
    options: tuple[Option, ...] = ()
    labels: FilePath | None = None
    golden: Golden | None = None
    variants: tuple[Variant, ...] = ()
    portable: tuple[Name, ...] = ()
    """Classes of machines on which every stage, replayed, gave the same bits; empty where nobody asked."""
    lineage: Lineage = Lineage()
    files: dict[FilePath, File]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What one decoded item is."""
        return self.graphs.pre.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the answer is."""
        return self.graphs.post.signature.outputs

    @property
    def carried(self) -> tuple[TensorSpec, ...]:
        """What `pre` makes that the network does not take: it goes around it, to `post`."""
        taken = {spec.name for spec in self.graphs.net.signature.inputs}
        return tuple(spec for spec in self.graphs.pre.signature.outputs if spec.name not in taken)


def decode_manifest(data: bytes) -> Manifest:
    """Parse and validate; the format and its version are judged before anything else.

    Raises:
        BundleError: too long, not JSON, an object with a key twice, another format or version, an
            unknown or missing field, or a value of the wrong type, with the JSON path.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST} is {len(data)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, ValueError, RecursionError) as problem:
        raise BundleError(f"{MANIFEST} is not a manifest: {problem}") from problem
    if head.format != FORMAT:
        raise BundleError(f"{MANIFEST} has format {head.format!r}; expected {FORMAT!r}", at="$.format")
    if head.format_version not in READS:
        raise BundleError(
            f"bundle format version {head.format_version}; this Modelport reads "
            f"{' and '.join(map(str, READS))}",
            at="$.format_version",
            hint="install a newer Modelport" if head.format_version > FORMAT_VERSION else None,
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        # Where a key stands twice, one reader takes the first and another the last: they would read
        # two bundles from one digest. msgspec takes the last without a word, so the keys are asked here.
        json.loads(data, object_pairs_hook=_refuse_doubles)
    except (msgspec.DecodeError, ValueError, RecursionError) as problem:
        raise BundleError(f"{MANIFEST}: {problem}") from problem
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Readable JSON, indented by two, ending in a newline; the same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `modelport.json`."""
    text = json.dumps(msgspec.json.schema(Manifest))
    schema: dict[str, Any] = json.loads(text.replace(json.dumps(_PYTHON_END)[1:-1], ""))
    manifest = schema["$defs"]["Manifest"]
    # A reader must find these two to know what it reads; the types have defaults only for writers.
    manifest["properties"]["format"] = {"const": FORMAT}
    manifest["properties"]["format_version"] = {"const": FORMAT_VERSION}
    manifest["required"] = ["format", "format_version", *manifest["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{FORMAT}:{FORMAT_VERSION}",
        "title": f"Modelport bundle, format version {FORMAT_VERSION}: {MANIFEST}",
        **schema,
    }


class _Head(msgspec.Struct):
    format: str
    format_version: int


def _refuse_doubles(pairs: Sequence[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BundleError(f"{MANIFEST} has the key {key!r} twice in one object")
        seen.add(key)


def check_version(given: str) -> None:
    """That a bundle may have this version.

    Raises:
        UsageError: it may not.
    """
    try:
        msgspec.convert(given, Version)
    except msgspec.ValidationError:
        hint = "letters, digits, `.`, `_` and `-`, the first a letter or a digit, at most 64"
        raise UsageError(f"{given!r} is no version of a bundle", hint=hint) from None
