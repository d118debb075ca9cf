"""The contract of importers as a test that anybody runs: built-in importers pass it, and plugins should.

from modelport.testing import check_importer

def test_my_importer(tmp_path):
    check_importer(MyImporter, save_a_model(tmp_path / "model.mine"), frameworks=["myframework"])
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx

from .errors import InputError, ModelFailed, ModelportError, Unsupported
from .importers.batch import close_rows, made_up, run_session, sizes_to_try
from .importers.canonical import DOMAINS, MAX_IR, MAX_OPSET, nodes_of, opset_of, signature_of, tensors_of
from .importers.golden import npz
from .importers.source import (
    Imported,
    Importer,
    Permission,
    SourceOptions,
    TakesOptions,
    TakesPermission,
    parse_input,
)
from .runtimes.onnxruntime import OnnxRuntime
from .tensors import Array, Signature, TensorSpec

ROWS = 3
CUTS = (0.35, 0.9)
"""Shares of a file that its truncated copies keep."""
MAX_SENTENCE = 1500


class ContractBroken(AssertionError):
    """What an importer does that it must not, each in a line."""


class _Case(msgspec.Struct, frozen=True):
    """An importer with everything that it is asked with."""

    importer: Callable[[], Importer]
    source: Path
    specs: tuple[TensorSpec, ...]
    permission: Permission
    options: SourceOptions | None
    example: Mapping[str, Array] | None

    def new(self, permission: Permission | None = None) -> Importer:
        """A new importer that was told what it may do."""
        made = self.importer()
        if isinstance(made, TakesPermission):
            made.permit(permission or self.permission)
        if self.options is not None and isinstance(made, TakesOptions):
            made.choose(self.options)
        return made

    def load(self, source: Path | None = None) -> Imported:
        return self.new().load(source or self.source, example=self.example, inputs=self.specs)


def _loaded(case: _Case) -> tuple[Signature | None, Imported]:
    """What an importer tells beforehand, and what it makes; ContractBroken where another error comes out."""
    one = case.new()
    try:
        told = one.signature(case.source, case.specs)
        return told, one.load(case.source, example=case.example, inputs=case.specs)
    except ModelportError:
        raise
    except Exception as problem:
        raise ContractBroken(f"it lets an error out: {type(problem).__name__}: {problem}") from problem


def check_importer(
    importer: Callable[[], Importer] | str,
    source: str | Path,
    *,
    frameworks: Sequence[str] = (),
    inputs: Sequence[str] = (),
    example: Mapping[str, Array] | None = None,
    options: SourceOptions | None = None,
    code: bool = False,
    isolate: bool = False,
    renamed: bool = True,
    others: Sequence[str | Path] = (),
) -> Imported:
    """Hold an importer to its contract with one sound source; what it imported.

    Checked: a source is recognised by its content and nothing else is; the framework is not imported into
    this process; the signature told beforehand is that of the graph; the graph is one that every engine runs;
    it answers as the framework does, row by row and in batches, and the same each time; copies that are cut
    short are refused in words; a source that is code is not opened without being allowed.

    Args:
        importer: the class, or its entry point (`package.module:Class`).
        source: the file or folder.
        frameworks: modules that must not be imported here, such as `["torch"]`.
        inputs: as `modelport pack --input`, where the source does not say what it takes.
        example: a prepared batch, where random numbers are no sensible input.
        options: what has to be said of the source beside its path.
        code: whether the source is code, so that it has to be refused without `Permission(trust=True)`.
        isolate: whether a private environment may be made.
        renamed: whether a copy under another name has to be recognised; False where names tie files together.
        others: further files that are not the importer's.

    Raises:
        ContractBroken: with every point that does not hold.
        ModelportError: the source does not load at all.
    """
    maker = _named(importer) if isinstance(importer, str) else importer
    permission = Permission(trust=code, isolate=isolate)
    specs = tuple(parse_input(text) for text in inputs)
    case = _Case(maker, Path(source), specs, permission, options, example)
    told, imported = _loaded(case)
    with tempfile.TemporaryDirectory(prefix="modelport-contract-") as name:
        folder = Path(name)
        broken = [
            *_recognition(case, folder, renamed, others),
            *_graph(imported, told),
            *_answers(case, imported),
            *_again(case, imported, frameworks, folder),
            *_truncated(case, imported, folder),
            *(_trust(case) if code else ()),
        ]
    if broken:
        raise ContractBroken("\n".join([f"{_title(case)} breaks the contract of importers:", *broken]))
    return imported


def _named(entry: str) -> Callable[[], Importer]:
    module, _, attribute = entry.partition(":")
    found: Callable[[], Importer] = getattr(importlib.import_module(module), attribute)
    return found


def _title(case: _Case) -> str:
    return f"{getattr(case.importer, '__name__', case.importer)} on {case.source}"


def _recognition(case: _Case, folder: Path, renamed: bool, others: Sequence[str | Path]) -> Iterator[str]:
    if not case.new().recognises(case.source):
        yield "- it does not recognise the source that it loads"
    if renamed:
        copy = _copy(case.source, folder / "no-name-at-all")
        if not case.new().recognises(copy):
            yield "- a copy under another name is not recognised: the content has to decide"
    suffix = case.source.suffix
    wrong = {
        "empty": b"",
        "text": b"some words\n",
        "zeros": bytes(512),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    }
    for name, data in wrong.items():
        path = folder / f"{name}{suffix}"
        path.write_bytes(data)
        if case.new().recognises(path):
            yield f"- a file of {name} with the ending {suffix!r} is recognised"
    (folder / f"hollow{suffix}").mkdir()
    for other in (folder / f"hollow{suffix}", folder / "missing", object(), *map(Path, others)):
        try:
            if case.new().recognises(other):
                yield f"- {other} is recognised, and is not the importer's"
        except Exception as problem:  # noqa: BLE001  # whatever it is, it must not come out
            yield f"- recognises({other!r}) raises {problem!r}"


_HOST = """
import json, sys
from pathlib import Path
from modelport import testing
from modelport.runtimes.npz import read_npz
from modelport.importers.source import Permission, SourceOptions, parse_input
said = json.loads(sys.argv[1])
options = SourceOptions(**said["options"]) if said["options"] else None
if options is not None and options.weights:
    import msgspec
    options = msgspec.structs.replace(options, weights=Path(options.weights))
specs = tuple(parse_input(text) for text in said["inputs"])
allowed = Permission(trust=said["trust"], isolate=said["isolate"])
case = testing._Case(testing._named(said["importer"]), Path(said["source"]), specs, allowed, options, None)
maker = case.new()
maker.recognises(case.source)
example = read_npz(Path(said["example"]).read_bytes(), limit=4 << 30) if said["example"] else None
Path(said["onnx"]).write_bytes(maker.load(case.source, example=example, inputs=specs).onnx)
there = sorted(name for name in said["frameworks"] if name in sys.modules)
print(json.dumps(there))
"""


def _again(case: _Case, imported: Imported, frameworks: Sequence[str], folder: Path) -> Iterator[str]:
    """Load in a new process, where nothing else imported the framework: the same answers, and none there."""
    maker, written = case.importer, folder / "again.onnx"
    options = msgspec.to_builtins(case.options, enc_hook=str) if case.options is not None else None
    said = {
        "importer": f"{maker.__module__}:{getattr(maker, '__qualname__', '')}",
        "source": str(case.source),
        "inputs": [f"{spec.name}:{spec.dtype}[{','.join(map(str, spec.shape))}]" for spec in case.specs],
        "options": options,
        "trust": case.permission.trust,
        "isolate": case.permission.isolate,
        "frameworks": list(frameworks),
        "onnx": str(written),
        "example": str(folder / "example.npz") if case.example is not None else "",
    }
    if case.example is not None:
        (folder / "example.npz").write_bytes(npz(case.example))
    command = [sys.executable, "-c", _HOST, json.dumps(said)]
    paths = os.pathsep.join(path for path in sys.path if path)
    env = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        yield f"- in a process of its own it does not load: {done.stderr.strip()[-500:]}"
        return
    there = json.loads(done.stdout.splitlines()[-1])
    if there:
        yield f"- it imports {', '.join(there)} into the host process"
    batch = _batch(case, imported)
    if batch is None:
        return
    first, second = OnnxRuntime().open(imported.onnx), OnnxRuntime().open(written.read_bytes())
    got, other = run_session(first)(batch), run_session(second)(batch)
    for name, array in got.items():
        if not np.array_equal(other[name], array, equal_nan=array.dtype.kind == "f"):
            yield f"- converted twice, it gives two answers ({name!r})"


def _graph(imported: Imported, told: Signature | None) -> Iterator[str]:
    model = onnx.load_model_from_string(imported.onnx)
    onnx.checker.check_model(model, full_check=True)
    if signature_of(model) != imported.signature:
        yield f"- the graph takes and gives {signature_of(model)}, the importer says {imported.signature}"
    if opset_of(model) > MAX_OPSET or model.ir_version > MAX_IR:
        yield f"- opset {opset_of(model)} and IR {model.ir_version}; at most {MAX_OPSET} and {MAX_IR}"
    strange = {node.domain for node in nodes_of(model)} - DOMAINS
    if strange:
        yield f"- operators of the domains {', '.join(sorted(strange))}"
    if any(tensor.external_data for tensor in tensors_of(model)):
        yield "- weights that are not inside"
    if told is not None:
        for side, before, after in (
            ("inputs", told.inputs, imported.signature.inputs),
            ("outputs", told.outputs, imported.signature.outputs),
        ):
            # None of a side: what comes out may not be known before it is converted.
            if before and [(spec.name, spec.dtype, len(spec.shape)) for spec in before] != [
                (spec.name, spec.dtype, len(spec.shape)) for spec in after
            ]:
                yield f"- signature() tells {side} that load() does not give: {before} and {after}"
    if not any(letter.isdigit() for letter in imported.framework):
        yield f"- framework is {imported.framework!r}: its version is missing"
    if not imported.format:
        yield "- format is empty"
    for note in imported.notes:
        if len(note.splitlines()) != 1:
            yield f"- a note of several lines: {note[:80]!r}"


def _answers(case: _Case, imported: Imported) -> Iterator[str]:
    session = OnnxRuntime().open(imported.onnx)
    run = run_session(session)
    batch = _batch(case, imported)
    if batch is None:
        yield "- no input was found that the reference runs on; give an example"
        return
    want, again, got = imported.reference(batch), imported.reference(batch), run(batch)
    for spec in imported.signature.outputs:
        if spec.name not in want:
            yield f"- the reference gives no {spec.name!r}"
            continue
        if not close_rows(got[spec.name], want[spec.name]):
            yield f"- {spec.name!r} of the graph is not what the framework gives"
        if not np.array_equal(want[spec.name], again[spec.name], equal_nan=want[spec.name].dtype.kind == "f"):
            yield f"- the reference gives another {spec.name!r} the second time"
    if imported.batch:
        yield from _rows(imported, run, batch)


def _rows(
    imported: Imported, run: Callable[..., dict[str, Array]], batch: Mapping[str, Array]
) -> Iterator[str]:
    """Several rows together are each row alone."""
    rows = {name: np.concatenate([array[:1]] * ROWS) for name, array in batch.items()}
    for array in rows.values():
        if array.dtype.kind == "f":
            array[1:2] = array[1:2] / 2
    for where, compute in (("the graph", run), ("the reference", imported.reference)):
        together = compute(rows)
        for row in range(ROWS):
            alone = compute({name: array[row : row + 1] for name, array in rows.items()})
            for name, array in together.items():
                if len(array) != ROWS or not close_rows(array[row : row + 1], alone[name]):
                    yield f"- batch is true, and row {row} of {name!r} depends on its neighbours in {where}"


def _batch(case: _Case, imported: Imported) -> dict[str, Array] | None:
    if case.example is not None:
        return dict(case.example)
    first = imported.signature.inputs[0].shape[:1]
    rows = first[0] if first and isinstance(first[0], int) else 1
    for sizes in sizes_to_try(imported.signature):
        batch = made_up(imported.signature, rows, sizes)
        try:
            imported.reference(batch)
        except (ModelFailed, InputError):
            continue
        return batch
    return None


def _truncated(case: _Case, imported: Imported, folder: Path) -> Iterator[str]:
    """Copies that are cut short are refused in one line; one that loads gives the same answers."""
    batch = _batch(case, imported)
    for share in CUTS:
        copy = _copy(case.source, folder / f"cut-{share}" / case.source.name)
        files = [copy] if copy.is_file() else [path for path in copy.rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        with largest.open("r+b") as stream:
            stream.truncate(int(largest.stat().st_size * share))
        what = f"a copy of which {largest.name} has {share:.0%}"
        try:
            if not case.new().recognises(copy):
                continue
            loaded = case.load(copy)
        except ModelportError as problem:
            if not isinstance(problem, (InputError, Unsupported)) and problem.exit_code not in (3, 4):
                yield f"- {what} ends with exit code {problem.exit_code}: {problem.message}"
            if len(problem.message.splitlines()) != 1 or len(problem.message) > MAX_SENTENCE:
                yield f"- {what} is refused with more than one line: {problem.message[:200]!r}"
        except Exception as problem:  # noqa: BLE001  # a framework's own error is what is looked for
            yield f"- {what} raises {type(problem).__name__}: {str(problem)[:200]}"
        else:
            same = batch is not None and all(
                close_rows(array, imported.reference(batch)[name])
                for name, array in OnnxRuntime().open(loaded.onnx).run(batch).items()
            )
            if not same:
                yield f"- {what} loads, and answers differently"


def _trust(case: _Case) -> Iterator[str]:
    try:
        case.new(Permission()).load(case.source, example=case.example, inputs=case.specs)
    except Unsupported as problem:
        if "--trust" not in f"{problem.message} {problem.hint}":
            yield f"- the refusal of code does not say --trust: {problem}"
    except ModelportError as problem:
        yield f"- code without trust is refused as {type(problem).__name__}, expected Unsupported: {problem}"
    else:
        yield "- a source that is code is opened without being allowed"


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target
