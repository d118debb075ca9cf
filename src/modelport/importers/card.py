"""The model card that a bundle gets where its maker wrote none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.manifest import Column, Manifest
from ..errors import NotFound
from ..steps.rows import expected
from ..tensors import TensorSpec

SHOWN_LABELS = 20
SHOWN_COLUMNS = 40
_TAKES = {"image": "a picture (JPEG, PNG, WebP, …)", "table": "a row of these columns", "text": "a text"}
_ITEMS = {"image": "picture.png", "tensors": "item.npz", "table": "rows.csv", "text": "text.txt"}
"""What an item's file may be called, by the kind of items."""
_TYPES = {"table": "text/csv", "text": "text/plain"}


def model_card(manifest: Manifest, labels: Sequence[str], card: Any = None) -> str:
    """The card given (Markdown text, or a path of it), or one made from the manifest.

    Raises:
        NotFound: a path that is no file.
    """
    if isinstance(card, os.PathLike) or (isinstance(card, str) and "\n" not in card and card.endswith(".md")):
        path = Path(card)
        if not path.is_file():
            raise NotFound(f"no model card {path}")
        return path.read_text(encoding="utf-8")
    if isinstance(card, str):
        return card
    return _made(manifest, labels)


def _made(manifest: Manifest, labels: Sequence[str]) -> str:
    kind = manifest.decode.kind
    source = manifest.lineage.source
    lines = [f"# {manifest.name} {manifest.version}", ""]
    lines += [manifest.description or f"A model for {manifest.task}.", ""]
    lines += ["## In and out", ""]
    takes = _TAKES.get(kind) or ", ".join(map(_named, manifest.inputs))
    lines += [f"- takes {takes}"]
    lines += [f"  - `{column.name}`: {_column(column)}" for column in manifest.columns[:SHOWN_COLUMNS]]
    left = len(manifest.columns) - SHOWN_COLUMNS
    lines += [f"  - and {left} more columns"] if left > 0 else []
    lines += [f"- gives {', '.join(map(_named, manifest.outputs))}"]
    net = manifest.graphs.net.signature
    lines += [f"- the network alone: {', '.join(map(_named, net.inputs))}"]
    lines += [f"  to {', '.join(map(_named, net.outputs))}", ""]
    if labels:
        more = f", … ({len(labels)} in `labels.txt`)" if len(labels) > SHOWN_LABELS else ""
        lines += ["## Labels", "", ", ".join(labels[:SHOWN_LABELS]) + more, ""]
    if source is not None:
        lines += ["## Where it comes from", ""]
        lines += [f"- {source.format}, {source.framework}" + (f", `{source.file}`" if source.file else "")]
        lines += [f"- SHA-256 of the source: `{source.sha256}`"] if source.sha256 else []
        lines += [""]
    if manifest.golden is not None:
        made = "made-up" if manifest.golden.generated else "recorded"
        lines += ["## Proof", ""]
        lines += [f"{len(manifest.golden.cases)} {made} inputs are replayed by `modelport verify`.", ""]
    item = _ITEMS[kind]
    lines += ["## How to call it", "", "```sh", f"modelport predict {manifest.name} {item}"]
    typed = f"-H 'Content-Type: {_TYPES[kind]}' " if kind in _TYPES else ""
    lines += [f"curl {typed}--data-binary @{item} http://localhost:8000/predict/{manifest.name}", "```", ""]
    return "\n".join(lines)


def _named(spec: TensorSpec) -> str:
    return f"`{spec.name}` {spec}"


def _column(column: Column) -> str:
    said = expected(msgspec.structs.replace(column, unseen=False))
    return f"{said}: {column.description}" if column.description else said
