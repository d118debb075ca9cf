"""What the importers of models of tables have in common: columns, the recipe, and rows to prove them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.manifest import Column, Decode
from ..errors import InputError, Unsupported
from ..runtimes.onnxruntime import OnnxRuntime
from ..steps.recipe import Recipe
from ..tensors import Array, TensorSpec
from .batch import ROWS
from .converted import ConvertedImporter, Opened
from .source import Declared, Imported

MOST_CLASSES = 20
"""How many an answer lists at most."""
CLASSIFIES, ESTIMATES, READS = "tabular-classification", "tabular-regression", "text-classification"


class TabularImporter(ConvertedImporter):
    """A model whose converter tells its columns, and gives rows for them (`{"do": "samples"}`)."""

    def question(self, path: Path) -> dict[str, Any]:
        """Whether the user trusts the source."""
        return {"trust": self.permission.trust}

    def graph(self, source: Any) -> None:
        """There is nothing to recognise in it: the source says what it is."""
        return

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """A row of the fitted columns, or a text, and an answer of classes or of a number."""
        opened = self.open(source, inputs or None)
        recipe = recipe_of(opened.about, self.environment)
        return Declared(recipe, f"{self.what}, which says what it takes") if recipe is not None else None

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """As every conversion, and compared on made-up rows; with its columns.

        Raises:
            Unsupported: the network is not the model on the made-up rows.
        """
        opened = self.open(source, inputs or None)
        rows = opened.worker.call({"do": "samples"})[1]
        few = {name: array[:ROWS] for name, array in rows.items()}
        imported = super().load(source, example=example or few, inputs=inputs)
        compared = _compared(opened, imported.onnx, rows)
        return msgspec.structs.replace(imported, columns=_columns(opened), notes=(*imported.notes, compared))


def recipe_of(about: Mapping[str, Any], name: str) -> Recipe | None:
    """The recipe for what a converter tells: its task, and how many classes there are."""
    task, labels = about.get("task"), about.get("labels")
    if task not in (CLASSIFIES, ESTIMATES, READS):
        return None
    decode = Decode(kind="text" if task == READS else "table")
    if task == ESTIMATES:
        return Recipe(
            name=name,
            task=task,
            description="A row's columns in, a number out.",
            decode=decode,
            post=("predicted",),
        )
    classes = len(labels) if isinstance(labels, list) else 0
    described = "A text in" if task == READS else "A row's columns in"
    return Recipe(
        name=name,
        task=str(task),
        description=f"{described}, classes with their scores out, best first.",
        decode=decode,
        parameters={"top_k": min(classes, MOST_CLASSES) if classes else 0},
        post=({"top_k": {"k": "$top_k"}}, "labels"),
    )


def _columns(opened: Opened) -> tuple[Column, ...]:
    try:
        return msgspec.convert(opened.about.get("columns") or [], tuple[Column, ...])
    except msgspec.ValidationError as problem:
        raise InputError(f"{opened.path}: the converter's columns cannot be read: {problem}") from problem


def _compared(opened: Opened, data: bytes, rows: Mapping[str, Array]) -> str:
    """How close the network comes to the framework on made-up rows, in a sentence.

    Raises:
        Unsupported: it does not.
    """
    session = OnnxRuntime().open(data)
    try:
        got = session.run(dict(rows))
    finally:
        session.close()
    want = opened.reference(rows)
    count = len(next(iter(rows.values())))
    name = next(iter(want))
    if got[name].shape != want[name].shape:
        raise Unsupported(f"the network gives {list(got[name].shape)} for {list(want[name].shape)}")
    finite = np.isfinite(want[name])
    apart = float(np.abs(got[name] - want[name])[finite].max(initial=0.0))
    scale = float(np.abs(want[name][finite]).max(initial=0.0)) or 1.0
    if not np.array_equal(np.isfinite(got[name]), finite) or apart > 1e-3 * scale:
        raise Unsupported(
            f"the converted network is another model: on {count} made-up rows it is off by up to {apart:.3g}",
            hint="report it, with the estimator's name and its parameters",
        )
    said = f"on {count} made-up rows the network differs from the framework by at most {apart:.2g}"
    if want[name].ndim == 2 and want[name].shape[1] > 1:
        same = int((got[name].argmax(axis=1) == want[name].argmax(axis=1)).sum())
        said += f", and {same} of {count} answers agree"
    return said
