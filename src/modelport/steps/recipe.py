"""Recipes: steps with parameters, as TOML files, and how a recipe is settled for one network.

Knows the network only by its signature. A recipe ships with Modelport (`recipe_names`) or is a file of
the user's; both are read by the same code.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.columns import check_columns
from ..bundle.manifest import Column, Decode
from ..errors import BundleError, UsageError, did_you_mean
from ..tensors import Signature
from .compile import POST_STEPS, PRE_STEPS
from .fit import Resolved, fit, picture_of
from .fit_items import fit_items
from .image import Layout
from .recipe_files import with_tokenizer, with_words
from .step import PostStep, PreStep, parse_steps

_INSTEAD_OF_SIZE = ("shorter", "longest")
MAX_RECIPE_BYTES = 256 << 10

Parameter = int | float | str | bool | tuple[int, int]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe before it meets a network: its steps still hold "$parameter" where a parameter goes.

    `labels` are the class names where the user gives none; the text "coco" stands for COCO's 80. `columns`
    are those of a table, where the source does not say them.
    """

    name: str = ""
    task: str
    description: str = ""
    decode: Decode = Decode()
    parameters: dict[str, Parameter] = {}
    labels: tuple[str, ...] | str = ()
    columns: tuple[Column, ...] = ()
    files: dict[str, bytes] = {}
    """Files for the bundle by their names, such as the tokenizer; read from beside the recipe's own file."""
    pre: tuple[Any, ...] = ()
    post: tuple[Any, ...] = ()


def recipe_names() -> list[str]:
    """The recipes that ship with Modelport, in alphabetical order."""
    names = (entry.name for entry in _folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by name, or from a file: anything with a folder in it or ending in `.toml` is a path.

    Raises:
        UsageError: no such recipe or file, not TOML, or an unknown key, step or parameter; `at` holds
            the file and the place, the hint the nearest spelling.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        path = Path(name_or_path)
        return _parse(_read(path), path.stem, text, path.parent)
    names = recipe_names()
    if text not in names:
        raise UsageError(
            f"no recipe named {text!r}; there are {', '.join(names)}",
            hint=did_you_mean(text, names, otherwise="a file of your own: its path, ending in .toml"),
        )
    return _parse((_folder() / f"{text}.toml").read_bytes(), text, f"recipe {text}")


def resolve(
    recipe: Recipe,
    *,
    net: Signature,
    overrides: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    normalised_output: bool = False,
    columns: Sequence[Column] = (),
) -> Resolved:
    """The steps of `recipe` for one network, and notes on what was decided.

    Args:
        net: the network's inputs and outputs; the first axis of each is the batch.
        overrides: parameters by name; text is taken for the number that a parameter is.
        labels: class names, one for each class; where empty, the recipe's own.
        normalised_output: whether the network already ends in a softmax or sigmoid.
        columns: a row's, where the recipe is for a table.

    Raises:
        UsageError: an unknown parameter, a network that the recipe does not fit (size, channels, axes,
            datatype, number of classes), or steps that do not fit each other.
    """
    given = _given(recipe, overrides or {})
    if given.get("size"):
        given |= {name: "" for name in _INSTEAD_OF_SIZE if name in recipe.parameters and name not in given}
    where = f"recipe {recipe.name}"
    notes: list[str] = []
    pre: tuple[PreStep, ...] = ()
    if recipe.decode.kind == "image":
        pre = parse_steps(_filled(recipe.pre, recipe.parameters | given, where), PRE_STEPS, f"{where} $.pre")
        orders = [step.order for step in pre if isinstance(step, Layout)] or ["hwc"]
        shape = picture_of(net, None if orders[0] == "auto" else orders[0])
        if "size" in recipe.parameters and "size" not in given:
            if shape.sides is None and recipe.parameters["size"]:
                notes.append(f"the network takes any size; {recipe.parameters['size']} is used")
            elif shape.sides is not None:
                given |= _sized(recipe, given, shape.sides, shape.order)
        pre = parse_steps(_filled(recipe.pre, recipe.parameters | given, where), PRE_STEPS, f"{where} $.pre")
        pre = tuple(Layout(shape.order) if step == Layout("auto") else step for step in pre)
    elif recipe.pre and recipe.decode.kind == "tensors":
        raise UsageError(f"recipe {recipe.name!r} takes tensors and has steps for pictures", at="$.pre")
    else:
        pre = parse_steps(_filled(recipe.pre, recipe.parameters | given, where), PRE_STEPS, f"{where} $.pre")
        pre = fit_items(pre, net.inputs, recipe.decode, columns, notes)
    post = parse_steps(_filled(recipe.post, recipe.parameters | given, where), POST_STEPS, f"{where} $.post")
    return fit(
        pre,
        post,
        net=net,
        pictures=recipe.decode.kind == "image",
        labels=tuple(labels),
        own_labels=labels_of(recipe),
        normalised_output=normalised_output,
        notes=notes,
        task=recipe.task,
    )


def labels_of(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's own class names.

    Raises:
        UsageError: a list of names that does not ship with Modelport.
    """
    if not isinstance(recipe.labels, str):
        return recipe.labels
    lists = [entry.name for entry in _folder().iterdir() if entry.name.endswith(".txt")]
    if f"{recipe.labels}.txt" not in lists:
        known = ", ".join(sorted(name.removesuffix(".txt") for name in lists))
        raise UsageError(f"no list of labels named {recipe.labels!r}; there is {known}", at="labels")
    return tuple((_folder() / f"{recipe.labels}.txt").read_text("utf-8").splitlines())


def _sized(
    recipe: Recipe, given: Mapping[str, Parameter], sides: tuple[int, int], order: str
) -> dict[str, Parameter]:
    """The parameters that a network of fixed sides settles: `size`, in place of `shorter` and `longest`."""
    if sides[0] != sides[1] and {1, 3} & set(sides):
        raise UsageError(
            f"as {order!r} the network takes pictures of {sides[0]} x {sides[1]}: its channels are elsewhere",
            hint='layout = "auto" puts them where the network has them',
        )
    settled: dict[str, Parameter] = {"size": sides[0] if sides[0] == sides[1] else sides}
    settled |= {name: "" for name in _INSTEAD_OF_SIZE if name in recipe.parameters}
    if sides[0] != sides[1]:
        try:
            parse_steps(_filled(recipe.pre, {**recipe.parameters, **given, **settled}, ""), PRE_STEPS, "")
        except UsageError as problem:
            raise UsageError(
                f"the network takes pictures of {sides[0]} x {sides[1]}; "
                f"recipe {recipe.name!r} makes squares",
                hint="write a recipe of your own with both sides in it",
            ) from problem
    return settled


def _folder() -> Any:
    return resources.files(__package__) / "recipes"


def _read(path: Path) -> bytes:
    """The file, unless it is far too large to be a recipe."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECIPE_BYTES + 1)
    except OSError as problem:
        raise UsageError(
            f"the recipe cannot be read: {problem.strerror or problem}", at=str(path)
        ) from problem
    if len(data) > MAX_RECIPE_BYTES:
        raise UsageError(f"over {MAX_RECIPE_BYTES} bytes: this is no recipe", at=str(path))
    return data


def _parse(data: bytes, name: str, where: str, folder: Path | None = None) -> Recipe:
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UsageError(f"not a TOML file: {problem}", at=where) from problem
    known = [field.name for field in msgspec.structs.fields(Recipe) if field.name != "files"]
    for key in table:
        if key not in known:
            raise UsageError(f"unknown key {key!r}", at=where, hint=did_you_mean(key, known))
    try:
        recipe = msgspec.convert({"name": name} | with_words(table, folder, where), Recipe)
        if recipe.columns:
            check_columns(recipe.columns)
    except msgspec.ValidationError as problem:
        raise UsageError(f"not a recipe: {problem}", at=where) from problem
    except BundleError as problem:
        raise UsageError(problem.message, at=f"{where} {problem.at}") from problem
    recipe = with_tokenizer(recipe, folder, where)
    for side, steps, table_of in (("pre", recipe.pre, PRE_STEPS), ("post", recipe.post, POST_STEPS)):
        _check_keys(steps, table_of, f"{where} $.{side}")
    # With the defaults every step must be whole.
    parse_steps(_filled(recipe.pre, recipe.parameters, where), PRE_STEPS, f"{where} $.pre")
    parse_steps(_filled(recipe.post, recipe.parameters, where), POST_STEPS, f"{where} $.post")
    labels_of(recipe)
    return recipe


def _check_keys(
    steps: Sequence[Any], known: Mapping[str, type[PreStep] | type[PostStep]], where: str
) -> None:
    """Refuse unknown parameters of steps by their nearest spelling; the rest `parse_steps` judges."""
    for index, item in enumerate(steps):
        if not isinstance(item, dict) or len(item) != 1:
            continue
        step, parameters = next(iter(item.items()))
        if step not in known or not isinstance(parameters, dict):
            continue
        fields = [field.encode_name for field in msgspec.structs.fields(known[step])]
        for key in parameters:
            if key not in fields:
                raise UsageError(
                    f"step {step!r} has no parameter {key!r}",
                    at=f"{where}[{index}]",
                    hint=did_you_mean(key, fields),
                )


def _filled(steps: Sequence[Any], values: Mapping[str, Parameter], where: str) -> list[Any]:
    """The steps with every "$parameter" replaced; one that is the empty text leaves its key out."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            # The words of a vocabulary may begin with a dollar themselves.
            filled = {key: item if key == "words" else fill(item) for key, item in value.items()}
            return {
                key: item for key, item in filled.items() if not (item == "" and _is_parameter(value[key]))
            }
        if isinstance(value, list | tuple):
            return [fill(item) for item in value]
        if not _is_parameter(value):
            return value
        if value[1:] not in values:
            raise UsageError(
                f"{value!r} is used and not in [parameters]",
                at=where,
                hint=did_you_mean(value[1:], values),
            )
        return values[value[1:]]

    return [fill(step) for step in steps]


def _is_parameter(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _given(recipe: Recipe, overrides: Mapping[str, Any]) -> dict[str, Parameter]:
    """The overrides, each of the type that the parameter's default has."""
    given: dict[str, Parameter] = {}
    for key, value in overrides.items():
        if key not in recipe.parameters:
            known = list(recipe.parameters)
            raise UsageError(
                f"recipe {recipe.name!r} has no parameter {key!r}; it has {', '.join(known) or 'none'}",
                at=key,
                hint=did_you_mean(key, known) if known else None,
            )
        default = recipe.parameters[key]
        kind: Any = type(default)
        try:
            if key == "size" and isinstance(value, str) and re.fullmatch(r"\[[\d, ]+\]", value):
                given[key] = msgspec.json.decode(value, type=tuple[int, int])
            elif key == "size" and not isinstance(value, list | tuple):
                given[key] = msgspec.convert(value, int, strict=False)
            elif key == "size":
                given[key] = msgspec.convert(value, tuple[int, int])
            else:
                given[key] = msgspec.convert(value, kind, strict=False)
        except (msgspec.ValidationError, msgspec.DecodeError) as problem:
            kind = int if key == "size" else kind
            raise UsageError(f"parameter {key!r} is {kind.__name__}, got {value!r}", at=key) from problem
    return given
