"""`modelport verify --on`: a bundle's stages on other machines, held against what they give here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from ..bundle.store import Bundle
from ..emulation.machine import ALL, machine, machines
from ..errors import Unsupported
from ..verify.portability import Replay, badged, everywhere, portable, replay
from .render import console, grid, write_json

SCHEMA = "modelport.portability/1"
MARKS = {"equal": "equal", "close": "close", "differs": "DIFFERS", "not replayed": "not replayed"}


class Asked(NamedTuple):
    """What the command line says."""

    machines: tuple[str, ...]
    variant: str | None
    data: str | None
    cases: int
    seconds: float
    out: str | None = None


def run(path: str, asked: Asked, *, as_json: bool) -> int:
    """Replay on each machine; the exit code.

    Raises:
        Unsupported: none of the machines can be emulated here.
    """
    bundle = Bundle.open(path)
    bundle.verify_files()
    wanted = (
        machines() if ALL in asked.machines else [machine(name) for name in dict.fromkeys(asked.machines)]
    )
    if not any(each.available for each in wanted):
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in wanted)
        raise Unsupported(f"nothing can be emulated here: {reasons}")
    items = _items(bundle, asked.data, asked.cases)
    found = []
    for each in wanted:
        click.echo(f"{each.name}: {each.title}", err=True)
        found.append(
            replay(
                bundle,
                asked.variant,
                each,
                items=items,
                most=asked.cases,
                seconds=asked.seconds,
                tell=lambda step: click.echo(f"  {step}", err=True),
                count=_counting(),
            )
        )
    if asked.out is not None:
        _write(bundle, found, Path(asked.out))
    if as_json:
        write_json(_report(bundle, found))
    else:
        _print(bundle, found)
    return _code(found, every=ALL not in asked.machines)


def _counting() -> Callable[[int, int], None]:
    """A line for every item that is done, where a person looks at it."""
    begun = time.monotonic()

    def tell(done: int, whole: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"  {done} of {whole} items, {time.monotonic() - begun:.0f} s", err=True)

    return tell


def _code(found: list[Replay], *, every: bool) -> int:
    """0: no answer changes; 1: one does; 4: not replayed where that was asked for by name, or anywhere."""
    if any(each.changes for each in found):
        return 1
    missing = [each for each in found if not each.replayed]
    return Unsupported.exit_code if missing and (every or len(missing) == len(found)) else 0


def _report(bundle: Bundle, found: list[Replay]) -> dict[str, object]:
    same = portable(found)
    return {
        "schema": SCHEMA,
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "digest": bundle.digest,
        "portable": same,
        "everywhere": everywhere(same),
        "machines": [each.to_dict() for each in found],
    }


def _write(bundle: Bundle, found: list[Replay], out: Path) -> None:
    """A new version that says where the bits are the same, which is called as its folder is."""
    if same := portable(found):
        made = badged(bundle, found[0].variant, same, out, out.name)
        click.echo(f"wrote {made.path}: the same bits on {', '.join(same)}", err=True)
    else:
        click.echo(f"no machine gives the same bits, so {out} was not written", err=True)


def _print(bundle: Bundle, found: list[Replay]) -> None:
    rows = [
        (
            each.machine,
            MARKS[each.verdict],
            f"{each.labels_changed} of {each.labels_compared}" if each.labels_compared else "",
            f"{each.seconds:.1f} s" if each.replayed else "",
            each.sentence(),
        )
        for each in found
    ]
    out = console()
    out.print(grid(["machine", "", "answers changed", "took", "compared with this machine"], rows))
    name = f"{bundle.manifest.name} version {bundle.manifest.version}"
    variant = found[0].variant
    form = f"variant {variant}" if variant else "the network as packed"
    same = portable(found)
    if everywhere(same):
        said = "the same bits at every stage on every machine"
    elif any(each.labels_changed for each in found):
        said = "answers change: see the machines marked DIFFERS"
    elif any(each.changes for each in found):
        said = "outputs differ by more than is allowed: see the machines marked DIFFERS"
    elif any(each.replayed for each in found):
        said = "no answer changes"
    else:
        said = "nothing was replayed"
    out.print(f"{name}, {form}: {said}", markup=False, soft_wrap=True)


def _items(bundle: Bundle, data: str | None, most: int) -> tuple[bytes, ...]:
    """At most so many items of a folder or file, evenly picked; what was left out is said."""
    if data is None or bundle.manifest.graphs.net.function is not None:
        return ()  # of a Python function `replay` says that it is run on no other machine
    from ..optimize.items import read_items

    found = read_items(bundle, Path(data), most=most)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    return found.encoded
