"""A version's model card: that of the bundle as it was, with the new version's number and its variants."""

from __future__ import annotations

from collections.abc import Sequence

from ..bundle.manifest import Variant
from ..bundle.store import Bundle

CARD = "README.md"
BEGIN, END = "<!-- variants -->", "<!-- end of variants -->"
"""Around what was written here: a later search writes it anew, and leaves the rest as it is."""


def card_of(start: Bundle, version: str, variants: Sequence[Variant]) -> dict[str, bytes | None]:
    """The card's file for a new version; nothing where `start` has none.

    Args:
        start: what the version is derived from.
        version: the new one's.
        variants: all of the new version, in its order.
    """
    if CARD not in start.manifest.files:
        return {}
    text = start.read(CARD).decode(errors="replace")
    name = start.manifest.name
    head = f"# {name} {start.manifest.version}\n"
    if text.startswith(head):
        text = f"# {name} {version}\n{text[len(head) :]}"
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if begin else ""
    listed = "\n".join(_line(variant) for variant in variants)
    whole = f"{before.rstrip()}\n\n{BEGIN}\n## Variants\n\n"
    whole += (
        "Forms of the network that answer in its place, where they are chosen for a machine; the first that\n"
    )
    whole += "fits is taken, and `--variant packed` is the network as it was packed.\n\n"
    whole += f"{listed}\n{END}\n{after.lstrip()}"
    return {CARD: whole.encode()}


def _line(variant: Variant) -> str:
    title = variant.figures.get("title")
    said = [f"- `{variant.name}`" + (f": {title}" if title else "")]
    where = variant.machine or "any machine"
    said.append(f"chosen for {where}" if variant.chosen else f"of {where}, with `--variant` alone")
    said.append(f"on {variant.runtime}")
    figures, judgement = (variant.figures.get(part) or {} for part in ("figures", "judgement"))
    if ratio := figures.get("ratio"):
        ends = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        said.append(f"{ratio['value']:.2f} of the packed network's latency ({ends})")
    if "loss" in judgement:
        metric, ends = judgement["metric"], f"{judgement['low']:.2f} to {judgement['high']:.2f}"
        said.append(f"{judgement['loss']:.2f} points of {metric} lost ({ends})")
    return ", ".join(said)
