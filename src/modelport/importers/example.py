"""What is known of a network before and after it is converted, from pictures of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..steps.compile import PRE_STEPS, reference_pre
from ..steps.fit_items import fit_items
from ..steps.recipe import Recipe, labels_of, resolve
from ..steps.step import parse_steps
from ..tensors import Array, Signature, TensorSpec
from . import golden as cases
from .batch import BATCH
from .items import Items
from .names import clashes, renamed
from .source import Imported


def example_for(
    signature: Signature | None, recipe: Recipe, settings: Mapping[str, Any], labels: Sequence[str]
) -> dict[str, Array] | None:
    """Two pictures as the network will get them: for exporters that trace, and for proofs.

    Raises:
        UsageError: the recipe does not fit what is known of the network.
    """
    if signature is None:
        return None
    outputs = signature.outputs
    if not outputs:
        # What comes out is known after the export only; the steps before the network do not depend on it.
        count = len(labels) or len(labels_of(recipe)) or 1000
        outputs = (TensorSpec("output", "float32", (BATCH, count)),)
    net = Signature(signature.inputs, outputs)
    own = Items(recipe.decode).own_names(net, recipe.pre)
    net = renamed(net, clashes(net, own, answers=bool(recipe.post)))
    resolved = resolve(recipe, net=net, overrides=settings, labels=labels)
    decode = cases.decoder(recipe.decode, ())
    picture = decode(cases.made_up_pictures()[1].data)["image"]
    # Of one size, since a recipe may leave the size to the picture: as it is, and upside down as a negative.
    negative = np.ascontiguousarray(255 - picture[::-1])
    rows = [reference_pre(resolved.pre, each) for each in (picture, negative)]
    return {signature.inputs[0].name: np.stack(rows)}


def item_example(signature: Signature | None, recipe: Recipe) -> dict[str, Array] | None:
    """A prepared row or text as a batch of one, where the recipe alone says how it is prepared; else None."""
    items = Items(recipe.decode, recipe.columns, recipe.files)
    known = recipe.columns if recipe.decode.kind == "table" else recipe.decode.kind == "text"
    if signature is None or not known or recipe.parameters:
        return None
    net = renamed(signature, clashes(signature, items.own_names(signature, recipe.pre), answers=False))
    pre = parse_steps(recipe.pre, PRE_STEPS, "$.pre")
    pre = fit_items(pre, net.inputs, recipe.decode, recipe.columns, [])
    decode = items.native_decoder(items.compiled(pre, net, ()).signature)
    item = items.native_pre(pre, net, ())(decode(items.made_up(net, {}, objects=False)[0].data))
    return {spec.name: item[own.name][None] for spec, own in zip(signature.inputs, net.inputs, strict=True)}


def normalised(imported: Imported, example: Mapping[str, Array] | None) -> bool:
    """Whether the network's own answers are probabilities already, on several inputs.

    Not asked of networks that take open sizes without an example: what they are given is unknown here.
    """
    outputs = imported.signature.outputs
    if len(outputs) != 1 or outputs[0].dtype not in ("float16", "float32", "float64"):
        return False
    # Numbers or pixels: half of a token's number would be another token.
    if example is None or any(
        array.dtype.kind != "f" and array.dtype.itemsize > 1 for array in example.values()
    ):
        return False
    random = np.random.default_rng(1)
    rows = {
        name: np.concatenate(
            [array, array[::-1] * 0.5, random.permutation(array.ravel()).reshape(array.shape)]
        )
        for name, array in example.items()
    }
    rows = {name: array.astype(example[name].dtype) for name, array in rows.items()}
    raw = imported.reference(rows)[outputs[0].name].astype(np.float64)
    raw = raw.reshape(len(raw), -1)
    return bool(raw.shape[1] > 1 and (raw >= 0).all() and np.allclose(raw.sum(axis=1), 1, atol=1e-3))
