"""Names: a model's own, and others for inputs and outputs whose names the steps use themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import msgspec
import onnx

from ..bundle.manifest import check_version
from ..bundle.rules import NETWORK_SUFFIX
from ..errors import UsageError
from ..steps.compile import ANSWER_NAMES
from ..steps.placement import PLACEMENT
from ..tensors import Array, Signature, Tensors
from .canonical import rename
from .onnx import one_file
from .source import Imported, as_path, function_of


def free_names(imported: Imported, own: Container[str], *, answers: bool) -> Imported:
    """The network with its inputs and outputs called otherwise where the steps need their names.

    Args:
        imported: the network.
        own: the names of inputs that the decoded item's tensors need, such as `image`.
        answers: whether there are steps after the network, which name what they make.
    """
    new = clashes(imported.signature, own, answers=answers)
    if not new:
        return imported
    if imported.function is not None:
        raise UsageError(
            f"the steps of the recipe use the names {', '.join(new)} themselves",
            hint=f"call the arguments and outputs of {imported.function!r} otherwise",
        )
    model = rename(onnx.load_model_from_string(imported.onnx), list(new), list(new.values()))
    back = {public: own for own, public in new.items()}

    def reference(batch: Tensors) -> dict[str, Array]:
        outputs = imported.reference({back.get(name, name): array for name, array in batch.items()})
        return {new.get(name, name): array for name, array in outputs.items()}

    changed = ", ".join(f"{old} became {public}" for old, public in new.items())
    return msgspec.structs.replace(
        imported,
        onnx=one_file(model),
        signature=renamed(imported.signature, new),
        reference=reference,
        notes=(*imported.notes, f"names that the steps use: {changed}"),
    )


def clashes(signature: Signature, own: Container[str], *, answers: bool) -> dict[str, str]:
    """The names that the steps need for themselves -> what the network's own are called instead."""
    new: dict[str, str] = {}
    taken = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    made: Container[str] = {*ANSWER_NAMES, PLACEMENT.name} if answers else ()
    for specs, clash, prefix in ((signature.inputs, own, "net"), (signature.outputs, made, "raw")):
        for spec in specs:
            if spec.name in clash:
                new[spec.name] = _unused(f"{prefix}_{spec.name}", taken)
    return new


def renamed(signature: Signature, new: Mapping[str, str]) -> Signature:
    """The signature with some names changed."""
    inputs, outputs = (
        tuple(msgspec.structs.replace(spec, name=new.get(spec.name, spec.name)) for spec in specs)
        for specs in (signature.inputs, signature.outputs)
    )
    return Signature(inputs, outputs)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def model_name(name: str | None, source: Any) -> str:
    """The name given, or one from the source's, in the alphabet of names."""
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
            raise UsageError(f"{name!r} is no model name", hint="letters, digits, '.', '_' and '-'")
        if name.endswith(NETWORK_SUFFIX):
            raise UsageError(
                f"{name!r} is how servers call the network of {name.removesuffix(NETWORK_SUFFIX)!r}"
            )
        return name
    path, named = as_path(source), function_of(source)
    stem = named[1] if named else path.stem if path is not None else type(source).__name__
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:128]
    return cleaned.removesuffix(NETWORK_SUFFIX) or "model"


def free_place(model: Path, version: str) -> Path:
    """The place of a new bundle, `REPO/NAME/VERSION`.

    Args:
        model: `REPO/NAME`.

    Raises:
        UsageError: there is one already, or it is no version.
    """
    check_version(version)
    target = model / version
    for folder in (target.parent.parent, target.parent):
        if os.path.lexists(folder) and not folder.is_dir():
            raise UsageError(f"{folder} is not a folder", hint="give the model repository to write into")
    if os.path.lexists(target):
        raise UsageError(
            f"{target} exists; a bundle is never changed",
            hint="choose another version: --model-version (version= in Python); if it was a mistake and "
            "nothing serves it, the folder may be deleted",
        )
    return target
