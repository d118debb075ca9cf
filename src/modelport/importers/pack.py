"""A trained model and its pre- and post-processing become one bundle, and are proven to be the same model."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from .._version import __version__
from ..bundle.manifest import Golden, GraphInfo, Graphs, Lineage, Manifest, Source, Steps
from ..bundle.store import Bundle, labels_file, write_bundle
from ..errors import InputError, ParityFailed, Unsupported
from ..steps.compile import CompiledGraph, carried_by, compile_post, reference_post
from ..steps.heads import Head
from ..steps.recipe import Recipe, load_recipe, resolve
from ..steps.step import PostStep, PreStep, step_data
from ..tensors import TensorSpec
from ..verify.replay import Report, verify
from . import golden as cases
from .batch import BATCH, sizes_to_try, why_no_batch
from .card import model_card
from .choose import choose_recipe
from .conversion import Conversion, conversion
from .ending import ending_early
from .example import example_for, item_example, normalised
from .items import Items
from .labels import read_labels
from .names import free_names, free_place, model_name
from .ranges import seen_in
from .source import (
    Imported,
    Importer,
    Permission,
    SourceOptions,
    describe,
    faults_of,
    find_importer,
    origin_of,
    parse_input,
    sha256_of,
)
from .tolerances import chosen_golden

Note = Callable[[str], None]
"""Told, in a sentence, what was decided on the way."""
Stage = Callable[[str, float], None]
"""Told what is being done, and the share of the whole that lies behind."""


class Prepared(msgspec.Struct, frozen=True):
    """Everything that is settled before a case is recorded."""

    recipe: Recipe
    imported: Imported
    items: Items
    pre_steps: tuple[PreStep, ...]
    post_steps: tuple[PostStep, ...]
    pre: CompiledGraph
    post: CompiledGraph
    labels: tuple[str, ...]
    converted: float
    """When the network was converted, by the monotonic clock."""

    @property
    def detector(self) -> bool:
        """Whether the answer is of found objects."""
        return any(isinstance(step, Head) for step in self.post_steps)


def pack(
    source: Any,
    *,
    out: str | os.PathLike[str],
    name: str | None = None,
    version: str = "1",
    recipe: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    golden: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    settings: Mapping[str, Any] | None = None,
    inputs: Sequence[str] | None = None,
    card: str | os.PathLike[str] | None = None,
    description: str = "",
    task: str | None = None,
    progress: Note | None = None,
    stage: Stage | None = None,
    permission: Permission | None = None,
    options: SourceOptions | None = None,
    report: Callable[[Conversion], None] | None = None,
) -> Bundle:
    """Convert, compile, record golden cases, write `OUT/NAME/VERSION`, and replay it before it is there.

    Args:
        source: a path, `FILE.py:NAME`, or an object in memory, such as a `torch.nn.Module`.
        out: the model repository; made if missing.
        name, version: by default the file's or class's name, and 1; an existing version is never replaced.
        recipe: a recipe's name or file; by default detectors are recognised; without pictures it is `raw`.
        labels: class names, or a file of them (a line each, or a JSON list or map).
        golden: files or directories to record cases from, at most 16; made up where none are given.
        settings: the recipe's parameters to set.
        inputs: what the network takes, where the source does not say: `x:float32[batch,3,224,224]`.
        card: a model card: Markdown text, or a path of it; made where none is given.
        description, task: one line about the model, and what it does; the recipe's task by default.
        progress, stage, report: told of decisions; of what is being done, with its share; of what it took.
        permission: whether a source that is code may be opened, and a private environment made for that.
        options: what the source does not say itself: the other file of a pair, a signature, a class.

    Raises:
        ParityFailed: the converted model is not the same model; nothing was written.
        UsageError, InputError, NotFound, Unsupported: what was given cannot be packed; nothing was written.
    """
    tell, doing, permission = progress or _silent, stage or _silent, permission or Permission()
    name, named = model_name(name, source), _named_recipe(recipe)
    begun, specs = _clock(permission), tuple(parse_input(text) for text in inputs or ())
    importer = find_importer(source, permission, options)
    target = free_place(Path(out) / name, version)
    doing("reading the model", 0.0)
    chosen, settled = choose_recipe(named, importer, source, specs, tell)
    prepared = _prepare(importer, source, specs, chosen, labels, {**settled, **(settings or {})}, tell, doing)
    doing("recording golden cases", 0.6)
    proof, files, recorded = _proof(prepared, golden, tell)
    manifest = _manifest(_described(prepared, golden, tell), source, name, version, description, task, proof)
    manifest, files = _ending_early(prepared, manifest, recorded, files, tell)
    doing("proving that it is the same model", 0.8)
    bundle, replayed = _write_proven(target, manifest, files | _files(prepared, manifest, card), tell)
    if report is not None:
        took = prepared.converted - sum(permission.making) - begun
        report(conversion(prepared.imported, took, bundle, proof, replayed))
    doing("done", 1.0)
    return bundle


def _ending_early(
    prepared: Prepared,
    manifest: Manifest,
    recorded: Sequence[cases.Recorded],
    files: dict[str, bytes],
    tell: Note,
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the files with a variant that leaves its last layers out, where there is one."""
    early = ending_early(prepared.imported, prepared.post_steps, prepared.labels, manifest, recorded)
    if early is None:
        return manifest, files
    tell(early.told)
    return msgspec.structs.replace(manifest, variants=(early.variant,)), files | early.files


def _clock(permission: Permission) -> float:
    """The monotonic clock, with what went into private environments so far taken off."""
    return time.monotonic() - sum(permission.making)


def _silent(*_: Any) -> None:
    """Where nobody wants to be told."""


def _named_recipe(recipe: str | os.PathLike[str] | None) -> Recipe | None:
    if recipe is None:
        return None
    return load_recipe(recipe if isinstance(recipe, str) else Path(recipe))


def _write_proven(
    target: Path, manifest: Manifest, files: Mapping[str, bytes], tell: Note
) -> tuple[Bundle, Report]:
    """Write beside the target, replay, and only then give it its name; the bundle, and what was found."""
    absent = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".packing-", dir=target.parent))
    except OSError as problem:
        said = f"cannot write into {target.parent}: {problem.strerror or problem}"
        raise InputError(said, hint="give -o (out= in Python) a folder that can be written") from problem
    try:
        written = write_bundle(staging / "bundle", manifest, files)
        report = verify(written, runtime="onnxruntime" if manifest.graphs.net.function is None else "python")
        if not report.ok:
            divergence = report.first_divergence
            raise ParityFailed(
                f"the packed model is not the same model as in {report.source}: {report.reason}",
                at=divergence.tap if divergence else None,
                hint="nothing was written; what differs is the stage named above",
            )
        tell(report.summary())
        os.rename(staging / "bundle", free_place(target.parent, target.name))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in absent:
            # A bundle that was written, here or meanwhile by somebody else, keeps its folders.
            with contextlib.suppress(OSError):
                folder.rmdir()
    return Bundle.open(target), report


def _prepare(
    importer: Importer,
    source: Any,
    specs: Sequence[TensorSpec],
    recipe: Recipe,
    labels: Any,
    settings: Mapping[str, Any],
    tell: Note,
    doing: Stage,
) -> Prepared:
    """Convert the network and settle the recipe on it."""
    pictures = recipe.decode.kind == "image"
    names = read_labels(labels) if labels is not None else ()
    with faults_of(importer, source):
        known = importer.signature(source, specs)
    example = example_for(known, recipe, settings, names) if pictures else item_example(known, recipe)
    doing(f"converting {describe(source)}", 0.1)
    with faults_of(importer, source):
        imported = importer.load(source, example=example, inputs=specs)
    converted = time.monotonic()
    for note in imported.notes:
        tell(note)
    imported = _batched(imported)
    items = Items.of(recipe, imported)
    own = items.own_names(imported.signature, recipe.pre)
    imported = free_names(imported, own, answers=bool(recipe.post))
    doing("compiling the steps", 0.5)
    resolved = resolve(
        recipe,
        net=imported.signature,
        overrides=settings,
        labels=names or imported.labels,
        normalised_output=normalised(imported, example),
        columns=items.columns,
    )
    for note in resolved.notes:
        tell(note)
    carried = carried_by(resolved.post)
    pre = items.compiled(resolved.pre, imported.signature, carried)
    # The answer is worked out for any number of rows, also where the network takes one at a time.
    raw = [TensorSpec(spec.name, spec.dtype, (BATCH, *spec.shape[1:])) for spec in imported.signature.outputs]
    raw += [TensorSpec(spec.name, spec.dtype, (BATCH, *spec.shape)) for spec in carried]
    post = compile_post(resolved.post, raw, resolved.labels)
    return Prepared(
        recipe, imported, items, resolved.pre, resolved.post, pre, post, resolved.labels, converted
    )


def _proof(
    prepared: Prepared, golden: Any, tell: Note
) -> tuple[Golden, dict[str, bytes], list[cases.Recorded]]:
    """The golden cases with their tolerances, their files, and what was recorded."""
    recorded, generated = _record(prepared, golden, tell)
    tolerances, notes = chosen_golden(
        recorded, prepared.imported, prepared.pre, generated=generated, detector=prepared.detector
    )
    for note in notes:
        tell(note)
    pictures = prepared.items.decode.kind == "image"
    if (
        pictures
        and (not generated or prepared.detector)
        and (doubt := cases.one_answer(recorded, generated=generated))
    ):
        tell(doubt)
    named, files = cases.files_of(recorded)
    return msgspec.structs.replace(tolerances, cases=named), files, recorded


def _record(prepared: Prepared, golden: Any, tell: Note) -> tuple[list[cases.Recorded], bool]:
    """The cases, and whether their inputs were made up."""
    items, signature = prepared.items, prepared.imported.signature
    around = [spec.name for spec in carried_by(prepared.post_steps)]
    if golden is not None:
        inputs, notes = cases.given_inputs(golden, items.decode, items.columns)
        for note in notes:
            tell(note)
    else:
        inputs = items.made_up(signature, next(sizes_to_try(signature)), objects=prepared.detector)
    recorded = list(
        cases.record(
            inputs,
            decode=items.native_decoder(prepared.pre.signature),
            pre=items.native_pre(prepared.pre_steps, signature, around),
            net=prepared.imported.reference,
            post=lambda raw: reference_post(prepared.post_steps, raw, prepared.labels),
            raw=signature.outputs,
            carried=around,
        )
    )
    if len(recorded) < len(inputs):
        tell(f"the inputs are large: golden cases are recorded from the first {len(recorded)}")
    if golden is None:
        tell(f"no golden inputs were given: {len(recorded)} were made up")
    return recorded, golden is None


def _batched(imported: Imported) -> Imported:
    """Refuses a network whose inputs and outputs do not share a first axis.

    Raises:
        Unsupported: there is no batch axis, not even of a fixed size.
    """
    firsts = [spec.shape[:1] for spec in (*imported.signature.inputs, *imported.signature.outputs)]
    if imported.batch or (len(set(firsts)) == 1 and firsts[0] and isinstance(firsts[0][0], int)):
        return imported
    shown = ", ".join(
        f"{spec.name} {spec}" for spec in (*imported.signature.inputs, *imported.signature.outputs)
    )
    raise Unsupported(
        f"the first axis of every input and output must be the batch: {shown}",
        hint=why_no_batch(imported.onnx, imported.notes),
    )


def _described(prepared: Prepared, golden: Any, tell: Note) -> Prepared:
    """With the ranges of the user's rows, where the source does not say a column's."""
    items = prepared.items
    if golden is None or not items.columns:
        return prepared
    columns = seen_in(items.columns, golden, items.decode)
    if seen := sum(old != new for old, new in zip(items.columns, columns, strict=True)):
        tell(f"the ranges of {seen} columns are those of the golden rows: the training's table has its own")
    return msgspec.structs.replace(prepared, items=msgspec.structs.replace(items, columns=columns))


def _manifest(
    prepared: Prepared,
    source: Any,
    name: str,
    version: str,
    description: str,
    task: str | None,
    proof: Golden,
) -> Manifest:
    imported, path = prepared.imported, origin_of(source)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    origin = Source(
        format=imported.format,
        framework=imported.framework,
        file=path.name if path is not None else None,
        sha256=sha256_of(path) if path is not None else None,
    )
    return Manifest(
        name=name,
        version=version,
        task=task or prepared.recipe.task,
        description=description,
        created=now.replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        producer=f"modelport {__version__}",
        decode=prepared.recipe.decode,
        columns=prepared.items.columns,
        graphs=Graphs(
            pre=GraphInfo("pre.onnx", False, prepared.pre.signature),
            net=GraphInfo(
                "net.onnx" if imported.function is None else "net.py",
                imported.batch,
                imported.signature,
                imported.function,
            ),
            post=GraphInfo("post.onnx", True, prepared.post.signature),
        ),
        steps=Steps(tuple(step_data(prepared.pre_steps)), tuple(step_data(prepared.post_steps))),
        options=prepared.post.options,
        labels="labels.txt" if prepared.labels else None,
        golden=proof,
        lineage=Lineage(source=origin),
        files={},
    )


def _files(prepared: Prepared, manifest: Manifest, card: Any) -> dict[str, bytes]:
    files = {
        "pre.onnx": prepared.pre.data,
        manifest.graphs.net.file: prepared.imported.onnx,
        "post.onnx": prepared.post.data,
        "README.md": model_card(manifest, prepared.labels, card).encode(),
    }
    if prepared.labels:
        files["labels.txt"] = labels_file(prepared.labels)
    if prepared.recipe.decode.tokenizer is not None:
        files[prepared.recipe.decode.tokenizer] = prepared.items.tokenizer()
    return files
