"""What must hold inside one manifest: file names, references, the flow through the graphs. No I/O.

The types in `manifest` say what each field is; this module says what the fields must be to each other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from ..errors import BundleError
from ..tensors import OIP_DATATYPES, TensorSpec
from .columns import check_items
from .manifest import MANIFEST, GraphInfo, Manifest

# Windows refuses these in a file name; one bundle has to unpack on every system.
NETWORK_SUFFIX = ".net"
"""`NAME.net` is how servers call the network of the bundle NAME, so no bundle may be called that."""
_FORBIDDEN = frozenset('<>:"|?*')
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))]
)
_SEGMENT_BYTES = 255


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest whose parts do not fit each other.

    Raises:
        BundleError: an unsafe or colliding file name, a reference to a file that is not named, or
            graphs that do not follow from each other; `at` is the JSON path.
    """
    if manifest.name.endswith(NETWORK_SUFFIX):
        raise BundleError(
            f"the name {manifest.name!r} ends in {NETWORK_SUFFIX!r}, which stands for a bundle's network",
            at="$.name",
        )
    check_names(manifest.files)
    for at, name in references(manifest):
        if name not in manifest.files:
            raise BundleError(f"{name!r} is used but not among the bundle's files", at=at)
    _check_once("$.variants", (variant.name for variant in manifest.variants))
    _check_reduced(manifest)
    if manifest.golden is not None:
        _check_once("$.golden.cases", (case.name for case in manifest.golden.cases))
    _check_functions(manifest)
    _check_flow(manifest)
    check_items(manifest)


def _check_functions(manifest: Manifest) -> None:
    """Only the network may be a Python function, and its file says so."""
    for kind, graph in graphs(manifest):
        if graph.function is None:
            continue
        if kind != "net" or not graph.function.isidentifier() or not graph.file.endswith(".py"):
            raise BundleError(
                f"{graph.function!r} of {graph.file!r}: only `net` may be a Python function, of a .py file",
                at=f"$.graphs.{kind}.function",
            )


def _check_reduced(manifest: Manifest) -> None:
    """Only pictures are decoded at a fraction of their sides, and only where no answer is in their pixels."""
    carried = manifest.carried
    for index, variant in enumerate(manifest.variants):
        if variant.reduced is None or (manifest.decode.kind == "image" and not carried):
            continue
        what = (
            f"`pre` carries {carried[0].name!r} of the whole one"
            if carried
            else "the bundle takes no pictures"
        )
        raise BundleError(
            f"variant {variant.name!r} has pictures decoded at a fraction of their sides, and {what}",
            at=f"$.variants[{index}].reduced",
        )


def check_names(names: Iterable[str]) -> None:
    """Refuse file names that are unsafe, or that are one name on a file system that ignores case.

    Raises:
        BundleError: the first name at fault, and why.
    """
    taken = {_folded(MANIFEST): MANIFEST}
    folders: dict[str, str] = {}
    for name in names:
        fault = name_fault(name)
        if fault:
            raise BundleError(f"file name {name!r} {fault}", at="$.files")
        other = taken.setdefault(_folded(name), name)
        if other == MANIFEST:
            raise BundleError(f"the manifest cannot name itself ({name!r})", at="$.files")
        if other != name:
            raise BundleError(f"{other!r} and {name!r} are one file where case is ignored", at="$.files")
        for folder in parents(name):
            other = folders.setdefault(_folded(folder), folder)
            if other != folder:
                raise BundleError(
                    f"{other!r} and {folder!r} are one folder where case is ignored", at="$.files"
                )
    for key, folder in folders.items():
        if key in taken:
            raise BundleError(f"{folder!r} is both a file and a folder", at="$.files")


def name_fault(name: str) -> str | None:
    """Why a file name is refused, as the end of a sentence; None where it is fine.

    A name is a relative POSIX path whose every segment is an ordinary file name on Linux, macOS and
    Windows.
    """
    if "\\" in name:
        return "has a backslash; folders are separated by /"
    if name.startswith("/"):
        return "is absolute"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode normal form C, so two systems may spell it differently"
    for segment in name.split("/"):
        fault = _segment_fault(segment)
        if fault:
            return fault
    return None


def parents(name: str) -> Iterator[str]:
    """The folders above a file: `a`, `a/b` for `a/b/c`."""
    place = name.find("/")
    while place >= 0:
        yield name[:place]
        place = name.find("/", place + 1)


def references(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Every (JSON path, file name) that the manifest uses outside `files`."""
    for kind, graph in graphs(manifest):
        yield f"$.graphs.{kind}.file", graph.file
    if manifest.labels is not None:
        yield "$.labels", manifest.labels
    if manifest.decode.tokenizer is not None:
        yield "$.decode.tokenizer", manifest.decode.tokenizer
    for index, variant in enumerate(manifest.variants):
        for field, name in variant.files.items():
            yield f"$.variants[{index}].{field}", name
    for index, case in enumerate(manifest.golden.cases if manifest.golden else ()):
        yield f"$.golden.cases[{index}].input", case.input
        yield f"$.golden.cases[{index}].taps", case.taps


def graphs(manifest: Manifest) -> tuple[tuple[str, GraphInfo], ...]:
    """The graphs by their names, in the order an item passes them."""
    return ("pre", manifest.graphs.pre), ("net", manifest.graphs.net), ("post", manifest.graphs.post)


def _segment_fault(segment: str) -> str | None:
    if segment == "":
        return "has an empty segment"
    if segment in (".", ".."):
        return f"has the segment {segment!r}"
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in segment):
        return "has a control character"
    bad = _FORBIDDEN.intersection(segment)
    if bad:
        return f"has {min(bad)!r}, which not every system allows in a file name"
    if segment[-1] in ". ":
        return "has a segment that ends in a dot or a space"
    if segment.split(".")[0].lower() in _DEVICES:
        return "has a segment that is a device on Windows"
    if len(segment.encode()) > _SEGMENT_BYTES:
        return f"has a segment of more than {_SEGMENT_BYTES} bytes"
    return None


def _folded(name: str) -> str:
    """Equal for two names that macOS or Windows may take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _check_once(at: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BundleError(f"the name {name!r} stands twice", at=at)
        seen.add(name)


def _check_flow(manifest: Manifest) -> None:
    """The outputs of `pre` are the inputs of `net`; those of `net` hold the inputs of `post`."""
    for kind, graph in graphs(manifest):
        _check_graph(f"$.graphs.{kind}", graph)
    pre, net, post = manifest.graphs.pre, manifest.graphs.net, manifest.graphs.post
    if pre.batch:
        raise BundleError("`pre` takes one item, so its `batch` is false", at="$.graphs.pre.batch")
    prepared = {spec.name: spec for spec in pre.signature.outputs}
    raw = {spec.name: spec for spec in net.signature.outputs}
    _check_feeds("net", prepared, net.signature.inputs)
    carried = {spec.name: spec for spec in manifest.carried}
    _check_carried(carried, raw, {spec.name for spec in post.signature.inputs})
    _check_feeds("post", raw | carried, post.signature.inputs)
    _check_options(manifest, {spec.name for spec in (*post.signature.inputs, *post.signature.outputs)})


def _check_carried(carried: Mapping[str, TensorSpec], raw: Mapping[str, TensorSpec], post: set[str]) -> None:
    """What `pre` makes beside the network's inputs is carried around it, and `post` takes it."""
    for name in carried:
        at = "$.graphs.pre.signature.outputs"
        if name in raw:
            raise BundleError(f"{name!r} is carried around the network and is an output of it too", at=at)
        if name not in post:
            raise BundleError(f"`pre` gives {name!r}, which neither `net` nor `post` takes", at=at)


def _check_options(manifest: Manifest, taken: set[str]) -> None:
    """Options are inputs of `post` with a default: names of their own, and a default that they may have."""
    _check_once("$.options", (option.name for option in manifest.options))
    for index, option in enumerate(manifest.options):
        at = f"$.options[{index}]"
        if option.name in taken:
            raise BundleError(f"`post` has a tensor {option.name!r} in its signature too", at=at)
        low, high = option.minimum, option.maximum
        if option.dtype == "bool":
            fits = isinstance(option.default, bool) and low is None and high is None
        else:
            fits = not isinstance(option.default, bool) and (
                (low is None or low <= option.default) and (high is None or option.default <= high)
            )
            fits = fits and (option.dtype != "int64" or isinstance(option.default, int))
        if not fits:
            raise BundleError(
                f"the default {option.default!r} of {option.name!r} is no {option.dtype} within its bounds",
                at=at,
            )


def _check_feeds(kind: str, given: dict[str, TensorSpec], wanted: tuple[TensorSpec, ...]) -> None:
    """Names and datatypes only: what the sizes may be is for the runtime to say."""
    for index, spec in enumerate(wanted):
        at = f"$.graphs.{kind}.signature.inputs[{index}]"
        if spec.name not in given:
            raise BundleError(f"nothing before `{kind}` gives its input {spec.name!r}", at=at)
        if given[spec.name].dtype != spec.dtype:
            raise BundleError(
                f"`{kind}` takes {spec.name!r} as {spec.dtype} and is given {given[spec.name].dtype}", at=at
            )


def _check_graph(at: str, graph: GraphInfo) -> None:
    for side, specs in (("inputs", graph.signature.inputs), ("outputs", graph.signature.outputs)):
        place = f"{at}.signature.{side}"
        if not specs:
            raise BundleError(f"a graph without {side}", at=place)
        _check_once(place, (spec.name for spec in specs))
        for index, spec in enumerate(specs):
            _check_spec(f"{place}[{index}]", spec, graph.batch)


def _check_spec(at: str, spec: TensorSpec, batch: bool) -> None:
    if spec.dtype not in OIP_DATATYPES:
        raise BundleError(
            f"unknown datatype {spec.dtype!r}; known: {', '.join(OIP_DATATYPES)}", at=f"{at}.dtype"
        )
    for size in spec.shape:
        if size == "" or (isinstance(size, int) and size < 0):
            raise BundleError(f"expected a size or the name of a dimension, got {size!r}", at=f"{at}.shape")
    if batch and (not spec.shape or isinstance(spec.shape[0], int)):
        raise BundleError(f"`batch` is true but the first axis of {spec} is not open", at=f"{at}.shape")
