"""PaddlePaddle's inference models: a program (`.json`, or the older `.pdmodel`) and `.pdiparams`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..tensors import Array, TensorSpec
from .paddle_recipe import Stated, stated_beside
from .pair import Kind, PairImporter, find_pair, head_of
from .source import Declared, Imported, as_path

HEAD = 256
PARENT_OF_ALL = b"\x08\x00\x10" + b"\xff" * 9 + b"\x01"
"""How the first block of a ProgramDesc begins: its index is 0, and its parent's is -1."""


def is_program(path: Path) -> bool:
    """Whether a file is a PIR program, or a ProgramDesc."""
    head = head_of(path, HEAD)
    if head.lstrip()[:1] == b"{":
        return b'"base_code"' in head and b'"pir"' in head
    return head[:1] == b"\x0a" and PARENT_OF_ALL in head[2:20]


def is_parameters(path: Path) -> bool:
    """Whether a file is tensors of PaddlePaddle, one after another."""
    head = head_of(path, 21)
    # Two versions and a level of nesting that are 0, the size of a description, and its first tag.
    return len(head) == 21 and not any(head[:16]) and 0 < head[16] < 128 and head[17:] == b"\0\0\0\x08"


def _parameters_of(program: Path) -> Sequence[str]:
    if program.name == "__model__":
        return ("__params__",)
    return (f"{program.stem}.pdiparams",)


def _programs_of(parameters: Path) -> Sequence[str]:
    if parameters.name == "__params__":
        return ("__model__",)
    return (f"{parameters.stem}.json", f"{parameters.stem}.pdmodel")


def _whole(program: Path) -> bool:
    """Whether a PIR program has no parameters, and so no second file."""
    if not program.is_file() or not is_program(program):
        return False
    text = program.read_bytes()
    return text.lstrip()[:1] == b"{" and re.search(rb'"#"\s*:\s*"p"', text) is None


KIND = Kind(
    network="a program of PaddlePaddle",
    weights="a file of PaddlePaddle's parameters",
    is_network=is_program,
    is_weights=is_parameters,
    weights_of=_parameters_of,
    network_of=_programs_of,
)


class PaddleImporter(PairImporter):
    """Converted by paddle2onnx; compared with PaddlePaddle's predictor."""

    environment = "paddle"
    converter = "paddle_program"
    what = "a PaddlePaddle model"
    kind = KIND

    def question(self, path: Path) -> dict[str, Any]:
        """Where the two files are.

        Raises:
            NotFound: one is missing. UsageError: a folder of several. InputError: not such a file.
        """
        if self.options.weights is None and _whole(path):
            return {"program": str(path.resolve()), "weights": ""}
        program, weights = find_pair(KIND, path, self.options.weights)
        return {"program": str(program.resolve()), "weights": str(weights.resolve())}

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """What PaddleClas' and PaddleX's `inference.yml` says, where one lies beside the program."""
        stated = self._stated(source)
        if stated is not None and stated.problem:
            self.permission.tell(f"{stated.file} {stated.problem}: no recipe is taken from it")
        return stated.declared() if stated is not None else None

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """As every conversion; the classes' names are those beside the program."""
        imported = super().load(source, example=example, inputs=inputs)
        stated = self._stated(source)
        return imported if stated is None else msgspec.structs.replace(imported, labels=stated.labels)

    def _stated(self, source: Any) -> Stated | None:
        path = as_path(source)
        return stated_beside(Path(self.question(path)["program"])) if path is not None else None
