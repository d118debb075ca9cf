"""Which recipe a network is packed with: the one that was named, or recognised; or a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import InputError, ModelFailed, UsageError
from ..steps.recipe import Recipe, load_recipe, recipe_names
from ..tensors import Signature, TensorSpec
from .recognise import Recognised, recognise
from .source import Declares, Importer, Reference, faults_of

Note = Callable[[str], None]
DIGITS = 10


def choose_recipe(
    named: Recipe | None,
    importer: Importer,
    source: Any,
    specs: Sequence[TensorSpec],
    tell: Note,
) -> tuple[Recipe, Mapping[str, Any]]:
    """The recipe that was named, stated by the source, or recognised, or `raw` where the network does not
    take a picture; and the parameters that the file itself settles.

    Raises:
        UsageError: it looks as if it takes a picture, and how that is prepared is nothing to guess; or a
            classifier's recipe was named for a detector.
        Unsupported: the importer of a third party fails.
    """
    with faults_of(importer, source):
        return _chosen(named, importer, source, specs, tell)


def _chosen(
    named: Recipe | None, importer: Importer, source: Any, specs: Sequence[TensorSpec], tell: Note
) -> tuple[Recipe, Mapping[str, Any]]:
    stated = importer.declared(source, specs) if isinstance(importer, Declares) else None
    if named is None and stated is not None:
        tell(f"the recipe is read from {stated.why} (--recipe takes another)")
        if stated.assumed:
            tell(stated.assumed)
        labels = stated.labels or stated.recipe.labels
        return msgspec.structs.replace(stated.recipe, labels=labels), stated.settings
    if named is not None and stated is not None:
        if named.name != stated.recipe.name:
            tell(
                f"warning: {stated.why} states how the input is prepared; recipe {named.name!r} is taken "
                "because you said so; if it is wrong, so are the answers"
            )
        return named, {}
    if named is not None:
        try:
            found = _recognised(importer, source, specs)
        except (InputError, ModelFailed):
            found = None  # the user has said what it is
        if found is not None:
            _compare(named, found, tell)
        settled = found.settings if found is not None and found.recipe == named.name else {}
        return named, {key: value for key, value in settled.items() if key in named.parameters}
    found = _recognised(importer, source, specs)
    if found is not None and found.recipe:
        tell(f"recognised: {found.why}; the recipe is {found.recipe} (--recipe takes another)")
        known = load_recipe(found.recipe)
        return msgspec.structs.replace(known, labels=found.labels or known.labels), found.settings
    if found is not None:
        raise _question(found)
    signature = importer.signature(source, specs)
    for spec in signature.inputs if signature is not None else ():
        channels = {spec.shape[axis] for axis in (1, 3)} if len(spec.shape) == 4 else set()
        if channels & {1, 3, 4}:
            raise UsageError(
                f"the network takes a picture by the look of it ({spec.name}: {spec}); how it is prepared "
                "decides the answers",
                hint=_choice(signature, grey=3 not in channels),
            )
    tell("no recipe was given: the network's own tensors go in and out (raw)")
    return load_recipe("raw"), {}


def _compare(named: Recipe, found: Recognised, tell: Note) -> None:
    """Warns of a recipe that is not the one recognised; a file of the user's is told by its head.

    Raises:
        UsageError: the recipe classifies and the network finds objects.
    """
    if not named.post:
        return
    reason = found.why or "; ".join(f"{name} ({why})" if name else why for name, why in found.choices.items())
    likely = [found.recipe] if found.recipe else [name.split()[0] for name in found.choices if name]
    if named.task == "image-classification":
        fitting = " or ".join(f"--recipe {name}" for name in likely) or "--recipe raw"
        raise UsageError(
            f"recipe {named.name!r} is for classifiers, and the network is a detector by the look of it: "
            f"{reason}",
            hint=fitting,
        )
    shipped = recipe_names()
    heads = [_head(load_recipe(name)) for name in likely]
    alike = named.name in likely if named.name in shipped else _head(named) in heads
    if not alike:
        tell(
            f"warning: recognised {f'as {found.recipe}' if found.recipe else 'a detector'}: {reason}; "
            f"recipe {named.name!r} is taken because you said so; if it is wrong, so are the answers"
        )


def _head(recipe: Recipe) -> str:
    """The name of the first step behind the network, which is the head of detectors."""
    first = recipe.post[0] if recipe.post else ""
    return str(next(iter(first), "")) if isinstance(first, dict) else str(first)


def _recognised(importer: Importer, source: Any, specs: Sequence[TensorSpec]) -> Recognised | None:
    """What the network is, where the importer shows it as ONNX before it is converted."""
    graph = getattr(importer, "graph", None)
    # The signature first: it opens the source with what the user says of its inputs.
    signature = importer.signature(source, specs) if graph is not None else None
    model = graph(source) if graph is not None and signature is not None else None
    if model is None or signature is None:
        return None
    words = {entry.key: entry.value for entry in model.metadata_props}

    def probe() -> Reference:
        return importer.load(source, example=None, inputs=specs).reference

    return recognise(signature, words, probe)


def _choice(signature: Signature | None, *, grey: bool) -> str:
    """What a network that takes a picture may be packed with: recipes for what its outputs look like."""
    shapes = [spec.shape for spec in signature.outputs] if signature is not None else []
    task = ""
    if len(shapes) == 1 and len(shapes[0]) == 2:
        task = "image-classification" if not grey else "digit-classification" * (shapes[0][1] == DIGITS)
    elif any(len(shape) == 3 for shape in shapes):
        task = "object-detection"
    known = [load_recipe(name) for name in recipe_names()]
    fitting = [f"--recipe {one.name} ({one.description.rstrip('.')})" for one in known if one.task == task]
    return "; ".join(
        [
            *fitting,
            "--recipe FILE.toml, which modelport fit-steps writes from your own preprocessing function",
            "--recipe raw (tensors as they are)",
        ]
    )


def _question(found: Recognised) -> UsageError:
    known = {name: text for name, text in found.choices.items() if name}
    if not known:
        return UsageError(
            f"the network is a detector by the look of it, but {'; '.join(found.choices.values())}",
            hint="--recipe raw takes and gives its tensors as they are",
        )
    return UsageError(
        "the network is a detector by the look of it; how its pictures are prepared, which decides the "
        "answers, the file does not say",
        hint="; ".join(f"--recipe {name} ({text})" for name, text in known.items()),
    )
