"""Encoded items to ask a bundle: those of a folder or file, its golden inputs, or made-up ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from ..bundle.store import Bundle
from ..errors import InputError, ModelportError, NotFound
from ..importers.batch import sizes_to_try
from ..importers.golden import ARRAYS, PICTURES, npz
from ..importers.items import Items as Making
from ..runtimes.form import FUNCTIONS
from ..runtimes.npz import is_npz, read_npz
from ..runtimes.pipeline import Pipeline
from ..sampling import evenly
from ..steps.records import TABLE_SUFFIXES, TEXT_SUFFIXES, records_of
from ..tensors import Array

MOST = 64
"""Items that are kept: more tell nothing new about time, and each is read and prepared once before."""
SUFFIXES = {"image": PICTURES, "table": TABLE_SUFFIXES, "text": TEXT_SUFFIXES}
_SHOWN, _LINE = 3, 100
"""Items that are named where some cannot be read, and the characters that each may take."""


class Items(msgspec.Struct, frozen=True):
    """Items as they were encoded."""

    origin: Literal["data", "golden", "generated"]
    names: tuple[str, ...]
    encoded: tuple[bytes, ...]
    notes: tuple[str, ...] = ()
    """What was left out, and why."""


def items_of(bundle: Bundle, data: Path | None, *, most: int = MOST, trust: bool = False) -> Items:
    """Items of `data`; without it the bundle's golden inputs, or where it has none made-up ones.

    Raises:
        NotFound: no such file, or a folder without one that counts. InputError: nothing in it is an item
        that the bundle decodes.
    """
    if data is not None:
        function = bundle.manifest.graphs.net.function is not None
        return read_items(bundle, data, most=most, runtime=FUNCTIONS if function and trust else None)
    golden = bundle.manifest.golden
    if golden is None or not golden.cases:
        return _made_up(bundle)
    return Items(
        "generated" if golden.generated else "golden",
        tuple(case.name for case in golden.cases),
        tuple(bundle.read(case.input) for case in golden.cases),
    )


def read_items(
    bundle: Bundle,
    data: Path,
    *,
    most: int = MOST,
    prepared: Callable[[dict[str, Array]], None] | None = None,
    runtime: str | None = None,
) -> Items:
    """Items of a folder or of one file, at most `most`, evenly picked; each was decoded and prepared once.

    Pictures and arrays are an item each (a .npz whose arrays have one axis more than the bundle's inputs is
    one an element); rows of tables and texts count one by one.

    Args:
        prepared: given what `pre` makes of each item; it is not kept, since of many it fills the memory.
        runtime: what the bundle is opened with, where it is not ONNX Runtime that can.

    Raises:
        NotFound: no such file, or a folder without one that counts. InputError: nothing in it is an item
        that the bundle decodes, with the first reasons.
    """
    faults: list[str] = []
    found = list(_found(bundle, data, faults))
    picked = evenly(found, most)
    names, encoded = [], []
    with Pipeline.open(bundle, variant="", runtime=runtime) as pipeline:
        for name, read in picked:
            try:
                item = read()
                made = pipeline.pre(pipeline.decode(item))
            except (ModelportError, OSError) as problem:
                faults.append(_fault(name, problem))
                continue
            names.append(name)
            encoded.append(item)
            if prepared is not None:
                prepared(made)
    if not names:
        raise InputError(
            f"{data}: none of {len(faults)} items can be read:{_listed(faults)}",
            hint=f"{bundle.manifest.name} takes {_taken(bundle)}",
        )
    notes = [f"{len(picked)} of {len(found)} items, evenly picked"] if len(picked) < len(found) else []
    if faults:
        notes.append(f"left out, since {len(faults)} cannot be read:{_listed(faults)}")
    return Items("data", tuple(names), tuple(encoded), tuple(notes))


def _fault(name: str, problem: ModelportError | OSError) -> str:
    """What is wrong with an item, on one line; what to do about it is said once for all."""
    said = problem.message if isinstance(problem, ModelportError) else problem.strerror or str(problem)
    line = " ".join(f"{name}: {said}".split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"


def _listed(faults: Sequence[str]) -> str:
    """The first of them, a line each."""
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return "".join(f"\n  {line}" for line in [*faults[:_SHOWN], *more])


Found = tuple[str, Callable[[], bytes]]


def _found(bundle: Bundle, data: Path, faults: list[str]) -> Iterator[Found]:
    """Every item there is, by name, and how it is read; files that hold none go to `faults`."""
    decode = bundle.manifest.decode
    for path in _files(
        data, SUFFIXES.get(decode.kind, ARRAYS), f"{bundle.manifest.name} takes {_taken(bundle)}"
    ):
        name = path.name if path == data else path.relative_to(data).as_posix()
        if decode.kind in ("table", "text"):
            try:
                records = records_of(path.read_bytes(), path.suffix.lower(), decode, bundle.manifest.columns)
            except (ModelportError, OSError) as problem:
                faults.append(_fault(name, problem))
                continue
            yield from ((f"{name}:{each.line}", _given(each.data)) for each in records)
        elif path.suffix.lower() == ".npz" and (rows := _rows(bundle, path)):
            yield from ((f"{name}[{row}]", _given(data)) for row, data in enumerate(rows))
        else:
            yield name, path.read_bytes


def _given(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _files(data: Path, suffixes: Sequence[str], takes: str) -> list[Path]:
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise NotFound(f"no such file or directory: {data}")
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise NotFound(f"no file in {data} ends in one of {', '.join(suffixes)}", hint=takes)
    return found


def _rows(bundle: Bundle, path: Path) -> list[bytes]:
    """The elements of a .npz whose arrays have one axis more than an item's; empty where it is an item."""
    try:
        data = path.read_bytes()
        if not is_npz(data):
            return []
        arrays = read_npz(data, limit=bundle.manifest.decode.max_bytes)
    except (InputError, OSError):
        return []  # reading or decoding it as one item says why
    own = {spec.name: arrays[spec.name] for spec in bundle.manifest.inputs if spec.name in arrays}
    ranks = [own[spec.name].ndim - len(spec.shape) for spec in bundle.manifest.inputs if spec.name in own]
    lengths = {len(array) for array in own.values() if array.ndim}
    if len(own) < len(bundle.manifest.inputs) or set(ranks) != {1} or len(lengths) != 1:
        return []
    return [npz({name: array[row, ...] for name, array in own.items()}) for row in range(lengths.pop())]


def _made_up(bundle: Bundle) -> Items:
    manifest = bundle.manifest
    net = manifest.graphs.net.signature
    making = Making(manifest.decode, manifest.columns)
    objects = manifest.task == "object-detection"
    made = making.made_up(net, next(sizes_to_try(net)), objects=objects)
    names = tuple(f"generated-{number}" for number in range(len(made)))
    return Items("generated", names, tuple(item.data for item in made))


def _taken(bundle: Bundle) -> str:
    kind = bundle.manifest.decode.kind
    if kind == "tensors":
        specs = ", ".join(f"{spec.name} {spec}" for spec in bundle.manifest.inputs)
        return f"arrays ({', '.join(ARRAYS)}): {specs}"
    what = {"image": "pictures", "table": "rows of a table", "text": "texts"}[kind]
    return f"{what} ({', '.join(SUFFIXES[kind])})"
