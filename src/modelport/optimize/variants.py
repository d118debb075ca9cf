"""The new version: the network as it was packed, and what is worth keeping as its variants."""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.manifest import Variant
from ..bundle.store import Bundle
from ..emulation.machine import SATURATES
from ..runtimes.machine import ANY, machine_class
from .candidate import START, Candidate
from .card import card_of
from .choose import fallback, faster
from .outcome import Elsewhere, Entry
from .start import without_variants

PORTABLE = (
    START,
    "fp16",
    "simplify",
    "unused",
    "static-shapes",
    "heads",
    "frame",
    "low-rank",
    "ort-offline",
)
"""Passes whose answers do not hang on how a processor multiplies 8-bit numbers."""


def write_version(
    start: Bundle, target: Path, entries: list[Entry], made: Mapping[str, Candidate], best: str
) -> Bundle:
    """Write the network as it was, and what is worth keeping as variants, the best one chosen.

    Variants that `start` has for other classes of machine, or for all of them, stay.
    """
    taken = {best, fallback(entries, made, best)} - {""}
    taken |= _anywhere(entries, made, taken)
    wanted = [entry for entry in entries if entry.status in ("chosen", "kept") or entry.id in taken]
    kept = _kept(start, {entry.id for entry in wanted})
    files = without_variants(start)
    for file in {file for each in kept for file in each.files.values()}:
        files.pop(file, None)
    # A reader takes the first that fits: what was measured on its class comes before what runs on any.
    wanted.sort(key=lambda each: (each.id != best, not _bound(each, made[each.id])))
    own = [_variant(start, entry, made[entry.id], files, entry.id in taken) for entry in wanted]
    elsewhere = [each for each in kept if each.machine != ANY]
    everywhere = [each for each in kept if each.machine == ANY]
    variants = (*elsewhere, *own, *everywhere)
    files |= card_of(start, target.name, variants)
    return start.derive(target, files, version=target.name, variants=variants)


def beside(bundle: Bundle, made: Set[str], best: str) -> str:
    """What a new version has beside the best form, and what for; empty where that is alone.

    Args:
        made: ids of the candidates: other variants were there before.
    """
    own = [each for each in bundle.manifest.variants if each.name in made and each.name != best]
    uses = (
        ("where that one cannot run, or does not hold", [each.name for each in own if each.chosen]),
        ("with --variant alone", [each.name for each in own if not each.chosen]),
    )
    said = [f"{', '.join(names)} ({use})" for use, names in uses if names]
    return f"the version has more forms than {best}: {'; '.join(said)}" if said else ""


def _kept(start: Bundle, made: set[str]) -> list[Variant]:
    """The START's variants that this search says nothing of: those of other machines, and those of all."""
    found = list[Variant]()
    for variant in start.manifest.variants:
        if variant.machine == machine_class() or (variant.machine == ANY and variant.name in made):
            continue  # made anew, or not worth it any more
        if variant.name in made:  # both machines have one of this name
            variant = msgspec.structs.replace(variant, name=f"{variant.name}-{variant.machine}"[:128])
        found.append(variant)
    return found


def _variant(
    start: Bundle, entry: Entry, candidate: Candidate, files: dict[str, bytes | None], chosen: bool
) -> Variant:
    """What a reader takes in the network's place; its file is added to `files` unless it is there already."""
    graphs, own = candidate.bundle.manifest.graphs, start.manifest.graphs
    file = _shared(start, own.net.file, candidate.bundle.read(graphs.net.file), f"net.{entry.id}.onnx", files)
    post = _shared(
        start, own.post.file, candidate.bundle.read(graphs.post.file), f"post.{entry.id}.onnx", files
    )
    pre = _shared(start, own.pre.file, candidate.bundle.read(graphs.pre.file), f"pre.{entry.id}.onnx", files)
    figures: dict[str, Any] = {"title": entry.title, "figures": msgspec.to_builtins(entry.figures)}
    figures |= {"judgement": msgspec.to_builtins(entry.judgement)}
    there = entry.elsewhere
    bound = _bound(entry, candidate)
    return Variant(
        entry.id,
        file,
        figures,
        machine=machine_class() if bound else ANY,
        chosen=chosen,
        runtime=candidate.runtime,
        settings=dict(candidate.settings),
        portable=there.portable if there is not None else (),
        post=post if post != own.post.file else None,
        pre=pre if pre != own.pre.file else None,
        prepares=candidate.bundle.manifest.steps.pre if pre != own.pre.file else (),
        reduced=candidate.reduced,
    )


def _bound(entry: Entry, candidate: Candidate) -> bool:
    """Whether it is for this class of machine alone: what is known to change elsewhere always is."""
    if candidate.machine_bound or (entry.elsewhere is not None and entry.elsewhere.changes):
        return True
    return not (_proven(entry.elsewhere) or entry.id.startswith(PORTABLE))


def _anywhere(entries: list[Entry], made: Mapping[str, Candidate], taken: set[str]) -> set[str]:
    """The fastest for all other machines, where what is taken is for this class alone; nothing else."""
    by_id = {entry.id: entry for entry in entries}
    if START in taken or not all(_bound(by_id[name], made[name]) for name in taken):
        return set()
    ratios = {
        entry.id: entry.figures.ratio
        for entry in faster(entries)
        if entry.status in ("kept", "tie", "dominated") and entry.figures is not None
    }
    free = [name for name in ratios if not _bound(by_id[name], made[name])]
    return {min(free, key=lambda name: ratios[name].value)} if free else set()


def _proven(there: Elsewhere | None) -> bool:
    """Whether no answer changes elsewhere, and the machine was asked on which 8-bit products saturate."""
    if there is None or there.changes:
        return False
    return any(each["machine"] == SATURATES and each["cases"] for each in there.replays)


def _shared(start: Bundle, own: str, data: bytes, name: str, files: dict[str, bytes | None]) -> str:
    """The file with these bytes: the START's, one that is written already, or a new one of this name."""
    if data == start.read(own):
        return own
    known = next((each for each, there in files.items() if there == data), None)
    if known is not None:
        return known
    stem = name.removesuffix(".onnx")
    for number in count(1):
        free = name if number == 1 else f"{stem}-{number}.onnx"
        if files.get(free, b"") is None or free not in start.manifest.files | files:
            break
        if free not in files and start.read(free) == data:
            return free  # of a variant that stays
    files[free] = data
    return free
