"""How the items of one kind get to the network when a bundle is made: the graph, and native code beside it.

One place for pictures, tensors, rows of a table and texts, so that packing asks nobody what an item is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..bundle.columns import TEXT, TOKENS
from ..bundle.manifest import Column, Decode
from ..errors import UsageError
from ..steps.compile import (
    IMAGE,
    CompiledGraph,
    compile_identity,
    compile_pre,
    compile_table,
    compile_text,
    compile_tokens,
    reference_carried,
    reference_pre,
    reference_table,
    reference_text,
)
from ..steps.placement import PLACEMENT
from ..steps.recipe import Recipe
from ..steps.row_files import decode_row, made_up_rows
from ..steps.step import PreStep
from ..steps.texts import Tokenizer, decode_text
from ..steps.vector import clashing
from ..tensors import Array, Signature, Tensors, TensorSpec
from .golden import Input, decoder, made_up_pictures, made_up_tensors
from .source import Imported

MADE_UP_ROWS = 8
MADE_UP_TEXTS = (
    "the quick brown fox jumps over the lazy dog",
    "Not bad at all: a warm, funny and moving film.",
    "dull , slow and far too long",
    "",
    "Ünïcödé, 你好, emoji 🙂 and numbers like 3.14",
    "one\ttab, two\nlines  and   many spaces",
    "yes",
    "word " * 200,
)
"""Short and long, with and without what tokenizers stumble over."""


class Items(msgspec.Struct, frozen=True):
    """What an item is, in one bundle."""

    decode: Decode
    columns: tuple[Column, ...] = ()
    files: Mapping[str, bytes] = {}

    @classmethod
    def of(cls, recipe: Recipe, imported: Imported) -> Items:
        """As the recipe has it; columns are those of the recipe, else those of the source."""
        columns = recipe.columns or imported.columns if recipe.decode.kind == "table" else ()
        return cls(recipe.decode, columns, {**imported.files, **recipe.files})

    def tokenizer(self) -> bytes:
        """The file that `Decode.tokenizer` names.

        Raises:
            UsageError: neither the recipe nor the source has it.
        """
        name = self.decode.tokenizer or ""
        if name not in self.files:
            raise UsageError(f"the tokenizer {name!r} is not there", at="$.decode.tokenizer")
        return self.files[name]

    def own_names(self, net: Signature, steps: Sequence[Any]) -> set[str]:
        """The names of the network's inputs that the item's own tensors need."""
        names = {spec.name for spec in net.inputs}
        if self.decode.kind == "image":
            return names & {IMAGE.name, PLACEMENT.name}
        if self.decode.kind == "table":
            return clashing(self.columns, net.inputs, stacked=bool(steps))
        if self.decode.kind == "text" and self.decode.tokenizer is not None:
            return {spec.name for spec in net.inputs if spec.name in TOKENS and spec.dtype != "int64"}
        if self.decode.kind == "text" and (steps or net.inputs[0].shape[1:] != TEXT.shape):
            return names & {TEXT.name}
        return set()

    def compiled(
        self, steps: Sequence[PreStep], net: Signature, carried: Sequence[TensorSpec]
    ) -> CompiledGraph:
        """The graph from one item to the network's inputs.

        Raises:
            UsageError: the steps do not fit.
        """
        kind = self.decode.kind
        if kind == "image":
            return compile_pre(steps, net.inputs[0].name, carried=carried)
        if kind == "table":
            return compile_table(self.columns, steps, net.inputs)
        if kind == "text" and self.decode.tokenizer is not None:
            fixed = self.decode.padding == "max_length"
            return compile_tokens(net.inputs, self.decode.max_length if fixed else "length")
        if kind == "text":
            return compile_text(steps, net.inputs[0])
        return compile_identity([_item(spec) for spec in net.inputs])

    def native_decoder(self, pre: Signature) -> Callable[[bytes], dict[str, Array]]:
        """How one encoded item becomes what `pre` takes."""
        decode = self.decode
        if decode.kind == "table":
            return lambda data: decode_row(data, decode, self.columns)
        if decode.kind == "text" and decode.tokenizer is not None:
            names = [spec.name for spec in pre.inputs]
            tokenizer = Tokenizer(self.tokenizer(), decode, names)
            return lambda data: tokenizer.tokens(decode_text(data, decode))
        if decode.kind == "text":
            return lambda data: decode_text(data, decode)
        return decoder(decode, pre.inputs)

    def native_pre(
        self, steps: Sequence[PreStep], net: Signature, around: Sequence[str]
    ) -> Callable[[Tensors], dict[str, Array]]:
        """What the graph computes, in native code.

        Args:
            steps: those before the network.
            net: the network's signature.
            around: what is carried around it.
        """
        kind, first = self.decode.kind, net.inputs[0]

        def pre(decoded: Tensors) -> dict[str, Array]:
            if kind == "image":
                image = decoded[IMAGE.name]
                return {first.name: reference_pre(steps, image)} | reference_carried(steps, image, around)
            if kind == "table":
                return reference_table(self.columns, steps, net.inputs, decoded)
            if kind == "text" and self.decode.tokenizer is None:
                return {first.name: reference_text(steps, first, decoded[TEXT.name])}
            if kind == "text":
                made = compile_tokens(net.inputs, "length").signature
                pairs = zip(made.inputs, made.outputs, strict=True)
                return {spec.name: decoded[own.name].astype(spec.dtype) for own, spec in pairs}
            return dict(decoded)

        return pre

    def made_up(self, net: Signature, sizes: Mapping[str, int], *, objects: bool) -> list[Input]:
        """Seeded items where the user gave none.

        Args:
            net: the network's signature.
            sizes: the size of every named dimension behind the first axis.
            objects: whether the network finds objects in pictures.
        """
        if self.decode.kind == "image":
            return made_up_pictures(objects=objects)
        if self.decode.kind == "table":
            rows = made_up_rows(self.columns, MADE_UP_ROWS)
            return [
                Input(msgspec.json.encode({k: v for k, v in row.items() if v is not None}), ".json")
                for row in rows
            ]
        if self.decode.kind == "text":
            return [Input(text.encode(), ".txt") for text in MADE_UP_TEXTS]
        return made_up_tensors(net, sizes)


def _item(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.dtype, spec.shape[1:])
