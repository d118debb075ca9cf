"""The model card that a bundle gets where its maker wrote none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bundle.manifest import Manifest
from ..errors import NotFound
from ..tensors import TensorSpec

SHOWN_LABELS = 20


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
    picture = manifest.decode.kind == "image"
    source = manifest.lineage.source
    lines = [f"# {manifest.name} {manifest.version}", ""]
    lines += [manifest.description or f"A model for {manifest.task}.", ""]
    lines += ["## In and out", ""]
    takes = "a picture (JPEG, PNG, WebP, …)" if picture else ", ".join(map(_named, manifest.inputs))
    lines += [f"- takes {takes}", f"- gives {', '.join(map(_named, manifest.outputs))}"]
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
        kind = "made-up" if manifest.golden.generated else "recorded"
        lines += ["## Proof", ""]
        lines += [f"{len(manifest.golden.cases)} {kind} inputs are replayed by `modelport verify`.", ""]
    item = "picture.png" if picture else "item.npz"
    lines += ["## How to call it", "", "```sh", f"modelport predict {manifest.name} {item}"]
    lines += [f"curl --data-binary @{item} http://localhost:8000/predict/{manifest.name}", "```", ""]
    return "\n".join(lines)


def _named(spec: TensorSpec) -> str:
    return f"`{spec.name}` {spec}"
