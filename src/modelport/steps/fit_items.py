"""What a network's inputs ask of the steps on rows and texts."""

from __future__ import annotations

from collections.abc import Sequence

from ..bundle.columns import TOKENS
from ..bundle.manifest import Column, Decode
from ..errors import UsageError
from ..tensors import TensorSpec
from .compile import compile_table, compile_text
from .image import Cast
from .step import PreStep
from .vector import table_steps


def fit_items(
    pre: tuple[PreStep, ...],
    inputs: Sequence[TensorSpec],
    decode: Decode,
    columns: Sequence[Column],
    notes: list[str],
) -> tuple[PreStep, ...]:
    """The steps as the network needs them: columns stacked and a cast added where it takes that, with notes.

    Args:
        pre: the recipe's steps.
        inputs: the network's, batch first.
        decode: what an item is: "table", "text", or "tensors", of which nothing is asked.
        columns: a row's.
        notes: what was decided is added.

    Raises:
        UsageError: no columns are known, a step does not fit, or the network takes something else.
    """
    if decode.kind == "table":
        if not columns:
            raise UsageError(
                "a table needs columns, and neither the recipe nor the source names them",
                at="$.columns",
                hint="a recipe of your own with [[columns]]: name, dtype, categories, …",
            )
        pre = table_steps(columns, pre, inputs, notes)
        made = compile_table(columns, pre, inputs).signature.outputs
        if pre and not _fits(made, inputs):
            pre = _cast(pre, made[0], inputs, notes)
            made = compile_table(columns, pre, inputs).signature.outputs
        _check(made, inputs)
    elif decode.kind == "text" and decode.tokenizer is not None:
        _check_tokens(pre, inputs)
    elif decode.kind == "text":
        made = compile_text(pre, inputs[0]).signature.outputs
        if not _fits(made, inputs):
            pre = _cast(pre, made[0], inputs, notes)
            made = compile_text(pre, inputs[0]).signature.outputs
        _check(made, inputs)
    return pre


def _cast(
    pre: tuple[PreStep, ...], made: TensorSpec, inputs: Sequence[TensorSpec], notes: list[str]
) -> tuple[PreStep, ...]:
    want = inputs[0].dtype
    possible = {"int64": ("int32", "float32"), "float32": ("float16", "float64")}
    if want not in possible.get(made.dtype, ()):
        return pre
    notes.append(f"the network takes {want}: a `cast` was added")
    return (*pre, Cast(want))  # type: ignore[arg-type]


def _fits(made: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> bool:
    if len(made) != len(inputs):
        return False
    return all(
        have.dtype == want.dtype
        and len(have.shape) == len(want.shape) - 1
        and all(
            isinstance(a, str) or isinstance(b, str) or a == b
            for a, b in zip(have.shape, want.shape[1:], strict=True)
        )
        for have, want in zip(made, inputs, strict=True)
    )


def _check(made: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> None:
    if _fits(made, inputs):
        return
    raise UsageError(
        f"the steps make {_listed(made)} of one item; the network takes {_listed(inputs)}, the batch first",
        at="$.pre",
        hint="columns or steps of a recipe of your own, so that they agree",
    )


def _check_tokens(pre: Sequence[PreStep], inputs: Sequence[TensorSpec]) -> None:
    if pre:
        raise UsageError("a text that a tokenizer cuts goes through no further steps", at="$.pre")
    for spec in inputs:
        if spec.name.removeprefix("net_") not in TOKENS or len(spec.shape) != 2:
            raise UsageError(
                f"a tokenizer makes {', '.join(TOKENS)}, [batch, length]; the network takes "
                f"{spec.name} {spec}",
                at="$.decode.tokenizer",
            )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec}" for spec in specs)
