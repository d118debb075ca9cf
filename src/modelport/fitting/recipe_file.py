"""A finding as a recipe: TOML that `pack --recipe` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from ..files import write_whole
from ..steps.image import CenterCrop, Pad, both_sides
from ..steps.recipe import Recipe, load_recipe
from ..steps.resize import Letterbox, Resize
from .finding import Finding, plain_steps


def recipe_text(finding: Finding, post_of: str) -> str:
    """The recipe's file.

    Args:
        post_of: the recipe whose steps after the network it gets, with their parameters.

    Raises:
        UsageError: no such recipe.
    """
    other = load_recipe(post_of)
    parameters = _used(other, finding)
    lines = [f"# Written by `modelport fit-steps` from {finding.reference}."]
    lines += [f"# {line}" for line in _said(finding)]
    lines += [f"task = {_toml(other.task)}", f"description = {_toml(_description(finding))}"]
    if other.labels:
        lines.append(f"labels = {_toml(other.labels)}")
    lines += ["", "pre = [", *(f"  {_toml(step)}," for step in plain_steps(finding.steps)), "]"]
    lines += ["post = [", *(f"  {_toml(step)}," for step in other.post), "]"]
    if parameters:
        lines += ["", "[parameters]", *(f"{name} = {_toml(value)}" for name, value in parameters.items())]
    return "\n".join(lines) + "\n"


def write_recipe(finding: Finding, path: Path, post_of: str) -> None:
    """Write it, whole or not at all, and read it back.

    Raises:
        UsageError: no such recipe for the post-processing. InputError: the file cannot be written.
    """
    text = recipe_text(finding, post_of)
    if path.suffix != ".toml":
        raise UsageError(f"a recipe's name ends in .toml, got {path.name!r}", at="--output")
    try:
        write_whole(path, text.encode())
    except OSError as problem:
        raise InputError(f"cannot write: {problem.strerror}", at=str(path)) from problem
    load_recipe(path)


def _said(finding: Finding) -> list[str]:
    lines = [f"Not what the reference is: {reason}" for reason in finding.why]
    if finding.proof is not None:
        lines.append(proof_text(finding))
    return lines


def proof_text(finding: Finding) -> str:
    """How far the steps are proven, in a sentence."""
    proof = finding.proof
    if proof is None:
        return "no sample could be compared"
    if proof.equal == proof.samples:
        return f"equal to the last bit on {proof.samples} of {proof.samples} samples"
    if proof.largest_levels < 1e-3:
        return (
            f"the same pixels on {proof.samples} of {proof.samples} samples; "
            f"values differ by at most {proof.largest:.2g} (rounding)"
        )
    return (
        f"{proof.equal} of {proof.samples} samples are equal; the largest difference is {proof.largest:.3g} "
        f"({proof.largest_levels:.3g} levels, {proof.worst}), "
        f"{proof.share:.2%} of values are off by more than half a level"
    )


def _description(finding: Finding) -> str:
    parts = [finding.geometry, finding.kernel, finding.colours, finding.values]
    return "; ".join(part for part in parts if part)


def steps_text(finding: Finding) -> list[str]:
    """The steps as a recipe has them, one a line."""
    return [_toml(step) for step in plain_steps(finding.steps)]


def _used(recipe: Recipe, finding: Finding) -> dict[str, Any]:
    """The parameters that the steps after the network use; `size` as it was found."""
    text = json.dumps(recipe.post)
    found = {name: value for name, value in recipe.parameters.items() if f'"${name}"' in text}
    if "size" in found:
        for step in finding.steps:
            if isinstance(step, Resize | Letterbox | CenterCrop | Pad) and step.size is not None:
                height, width = both_sides(step.size)
                found["size"] = height if height == width else (height, width)
    return found


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
