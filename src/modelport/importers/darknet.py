"""Darknet networks: a description (`.cfg`) and weights (`.weights`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..isolation.worker import Limits
from ..steps.recipe import Recipe, load_recipe
from ..tensors import TensorSpec
from .pair import Kind, PairImporter, find_pair, head_of
from .source import Declared

HEAD = 64 << 10
MEMORY_BYTES = 6 << 30
FIRST = re.compile(r"\ufeff?\s*(?:[#;][^\n]*\n\s*)*\[(net|network)\]")
SECTION = re.compile(r"^[ \t]*\[\w+\]", re.MULTILINE)
VERSIONS = ((0, 1), (0, 2))
MAX_NAMES_BYTES = 1 << 20
COCO = 80
GREY = 127
"""What Darknet fills with is 0.5, between two bytes."""


def is_description(path: Path) -> bool:
    """Whether a file is text whose first section is the network's, with layers behind it."""
    head = head_of(path, HEAD)
    text = head.decode("utf-8", errors="replace")
    return b"\0" not in head and FIRST.match(text) is not None and len(SECTION.findall(text)) > 1


def is_weights(path: Path) -> bool:
    """Whether a file has Darknet's header, which is three small numbers (and no sign of its own)."""
    head = head_of(path, 16)
    numbers = [int.from_bytes(head[at : at + 4], "little") for at in (0, 4, 8)]
    return len(head) == 16 and (numbers[0], numbers[1]) in VERSIONS and numbers[2] <= 10


def _weights_of(description: Path) -> Sequence[str]:
    """Names that the weights may have: training adds `_final`, `_best`, `_last` or a number."""
    stem = description.stem
    return [
        f"{stem}.weights",
        *(f"{stem}_{end}.weights" for end in ("best", "final", "last")),
        f"{stem}_*.weights",
    ]


def _descriptions_of(weights: Path) -> Sequence[str]:
    stem = re.sub(r"_(best|final|last|\d+)$", "", weights.stem)
    return list(dict.fromkeys([f"{weights.stem}.cfg", f"{stem}.cfg"]))


KIND = Kind(
    network="a Darknet network's description (.cfg)",
    weights="a Darknet network's weights (.weights)",
    is_network=is_description,
    is_weights=is_weights,
    weights_of=_weights_of,
    network_of=_descriptions_of,
)


class DarknetImporter(PairImporter):
    """Converted section by section; compared with what OpenCV 4 computes."""

    environment = "opencv4"
    converter = "darknet"
    what = "a Darknet network"
    kind = KIND
    limits = Limits(memory_bytes=MEMORY_BYTES)

    def question(self, path: Path) -> dict[str, Any]:
        """Where the two files are, and the class names beside them.

        Raises:
            NotFound: one is missing. UsageError: a folder of several. InputError: not such a file.
        """
        description, weights = find_pair(KIND, path, self.options.weights)
        files = {"cfg": str(description.resolve()), "weights": str(weights.resolve())}
        return {**files, "names": _names(description)}

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """How Darknet itself prepares a picture for such a network: RGB, divided by 255."""
        opened = self.open(source, inputs)
        stated = opened.about.get("declared")
        if not isinstance(stated, dict) or stated.get("channels") != 3:
            return None
        if stated.get("task") == "classification":
            return Declared(_classifier(), "its cfg: Darknet's own preparation of classifiers")
        letterbox = bool(stated.get("letterbox"))
        how = "letterbox" if letterbox else "stretched"
        recipe = _detector(letterbox, coco=int(stated["classes"]) == COCO)
        return Declared(recipe, f"its cfg: Darknet's own preparation ({how}) and its heads")


def _detector(letterbox: bool, *, coco: bool) -> Recipe:
    known = load_recipe("yolov8")
    moved = (
        {
            "letterbox": {
                "size": "$size",
                "fill": GREY,
                "kernel": "opencv-linear",
                "scaleup": True,
                "center": True,
            }
        }
        if letterbox
        else {"resize": {"size": "$size", "kernel": "opencv-linear"}}
    )
    return msgspec.structs.replace(
        known,
        name="darknet",
        description="A detector of Darknet's.",
        labels=known.labels if coco else (),
        pre=(moved, *known.pre[1:]),
    )


def _classifier() -> Recipe:
    """The shorter side to the network's, and its middle; no mean."""
    known = load_recipe("imagenet")
    pre = tuple(step for step in known.pre if not (isinstance(step, dict) and "normalize" in step))
    parameters = {**known.parameters, "crop_fraction": 1.0, "kernel": "opencv-linear"}
    return msgspec.structs.replace(
        known, name="darknet", description="A classifier of Darknet's.", pre=pre, parameters=parameters
    )


def _names(description: Path) -> list[str]:
    """The class names in `.names` beside the description."""
    own = description.with_suffix(".names")
    found = [own] if own.is_file() else sorted(description.parent.glob("*.names"))
    if len(found) != 1 or found[0].stat().st_size > MAX_NAMES_BYTES:
        return []
    lines = found[0].read_text("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
