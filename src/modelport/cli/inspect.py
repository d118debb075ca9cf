"""`modelport inspect`: what a bundle says of itself, and whether its files are the ones it names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ..bundle.manifest import Column, Manifest, Option, Variant
from ..bundle.store import Bundle
from ..runtimes.form import DEFAULT
from ..runtimes.machine import ANY
from ..steps.rows import expected
from ..tensors import TensorSpec
from .render import console, facts, grid, json_option, write_json


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--card", is_flag=True, help="Print the model card only.")
@json_option
def command(bundle: str, card: bool, as_json: bool) -> None:
    """Show what BUNDLE (a directory, a .zip, or REPO/NAME) holds. Runs nothing; checks every digest."""
    opened = Bundle.open(bundle)
    opened.verify_files()
    if card:
        has_card = "README.md" in opened.manifest.files
        click.echo(opened.read("README.md").decode(errors="replace") if has_card else "no model card")
        return
    if as_json:
        about: dict[str, Any] = {"schema": "modelport.inspect/1", "path": str(opened.path)}
        write_json(about | {"digest": opened.digest, "manifest": msgspec.to_builtins(opened.manifest)})
        return
    _print(opened)


def _print(bundle: Bundle) -> None:
    manifest = bundle.manifest
    source, network = manifest.lineage.source, manifest.graphs.net.function or ""
    golden = manifest.golden
    rows = [
        ("task", manifest.task),
        ("description", manifest.description),
        ("created", f"{manifest.created} by {manifest.producer}"),
        ("network", network and f"Python function {network!r}, run only with --trust"),
        ("source", f"{source.format} ({source.framework}) {source.file or ''}" if source else "unknown"),
        ("item", _specs(manifest.inputs) if not manifest.columns else ""),
        ("columns", "\n".join(_column(column) for column in manifest.columns)),
        (
            "network",
            f"{_specs(manifest.graphs.net.signature.inputs)} -> "
            f"{_specs(manifest.graphs.net.signature.outputs)}"
            + ("" if manifest.graphs.net.batch else "  (fixed batch)"),
        ),
        ("answer", _specs(manifest.outputs)),
        ("before", " → ".join(_step(step) for step in manifest.steps.pre) or "nothing"),
        ("after", " → ".join(_step(step) for step in manifest.steps.post) or "nothing"),
        ("options", "\n".join(_option(option) for option in manifest.options)),
        ("labels", _labels(bundle.labels())),
        (
            "golden",
            f"{len(golden.cases)} cases from {golden.source}"
            + (" on generated inputs" if golden.generated else "")
            if golden
            else "none",
        ),
        ("variants", "\n".join(_variant(variant, manifest.variants) for variant in manifest.variants)),
        ("the same bits on", ", ".join(manifest.portable)),
        ("digest", f"{bundle.digest} (every file matches)"),
    ]
    out = console()
    out.print(facts(f"{manifest.name} version {manifest.version}", [row for row in rows if row[1]]))
    out.print()
    out.print(grid(["file", "bytes", "sha256"], _files(manifest)))


def _files(manifest: Manifest) -> list[tuple[str, str, str]]:
    """A row for each file; one for all of the golden cases together."""
    cases = manifest.golden.cases if manifest.golden else ()
    golden = {name for case in cases for name in (case.input, case.taps)} & manifest.files.keys()
    rows = [
        (name, str(file.size), file.sha256[:16] + "…")
        for name, file in manifest.files.items()
        if name not in golden
    ]
    if golden:
        size = sum(manifest.files[name].size for name in golden)
        shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
        rows.append(("golden/", f"{_count(len(cases), 'case')}, {_count(len(golden), 'file')}, {shown}", ""))
    return rows


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _variant(variant: Variant, among: Sequence[Variant]) -> str:
    """`heads: net.onnx on onnxruntime, chosen for any machine`; of several chosen ones, which is taken."""
    settings = "".join(f", {name}={json.dumps(value)}" for name, value in variant.settings.items())
    how = f"{variant.file} on {variant.runtime}{settings}"
    if variant.reduced is not None:
        how += f", photos decoded at no less than {variant.reduced[0]} x {variant.reduced[1]}"
    chosen = f", {_chosen(variant, among)}" if variant.chosen else ", with --variant alone"
    same = f", the same bits on {', '.join(variant.portable)}" if variant.portable else ""
    return f"{variant.name}: {how}{chosen}{same}"


def _chosen(variant: Variant, among: Sequence[Variant]) -> str:
    """For which machines; and of those that are chosen for the same ones, which comes first."""
    place = among.index(variant)
    meet = [each for each in among if each.chosen and each.machine in (variant.machine, ANY)]
    before = [each for each in among[:place] if each in meet]
    classes = any(each.chosen and each.machine for each in among[:place])
    machine = variant.machine or ("any other machine" if classes else "any machine")
    if not before:
        return f"chosen {'first ' if len(meet) > 1 else ''}for {machine}"
    if any(each.runtime == DEFAULT for each in before):
        return f"chosen for {machine} after {before[-1].name}"
    runtimes = " or ".join(dict.fromkeys(each.runtime for each in before))
    return f"chosen for {machine} if {runtimes} is not here"


def _specs(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name}: {spec}" for spec in specs)


def _step(step: dict[str, dict[str, Any]]) -> str:
    """`resize(shorter=256, kernel=pillow-bilinear)`; parameters left at null are not shown."""
    ((name, parameters),) = step.items()
    shown = (
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in parameters.items()
        if value is not None
    )
    return f"{name}({', '.join(shown)})"


def _option(option: Option) -> str:
    """`score_threshold = 0.25 (0 to 1): what it does`."""
    low, high = option.minimum, option.maximum
    bounds = f" ({low:g} to {high:g})" if low is not None and high is not None else ""
    text = f": {option.description}" if option.description else ""
    return f"{option.name} = {json.dumps(option.default)}{bounds}{text}"


def _column(column: Column) -> str:
    """`age: a whole number from 0 to 120, typically 40: what it is`."""
    typical = "" if column.typical is None else f", typically {_typical(column)}"
    seen = ", others too" if column.unseen else ""
    text = f" — {column.description}" if column.description else ""
    limits = expected(msgspec.structs.replace(column, unseen=False))
    return f"{column.name}: {column.dtype}, {limits}{seen}{typical}{text}"


def _typical(column: Column) -> str:
    value = column.typical
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _labels(labels: tuple[str, ...]) -> str:
    if not labels:
        return "none"
    # Class names may hold commas themselves.
    shown = " · ".join(labels[:10])
    return f"{len(labels)}: {shown}" + (" · …" if len(labels) > 10 else "")
