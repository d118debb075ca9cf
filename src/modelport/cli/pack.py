"""`modelport pack`: a trained model and its preprocessing become one bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.progress import Progress

from ..errors import ModelportError, NotFound, UsageError
from .render import console, facts, json_option, progress, write_json

if TYPE_CHECKING:
    from ..importers.conversion import Conversion
    from ..importers.source import Permission, SourceOptions


@click.command()
@click.argument("source", type=click.Path())
@click.argument("more", nargs=-1, type=click.Path(), metavar="")
@click.option(
    "-o", "--out", required=True, type=click.Path(), help="Model repository to write REPO/NAME/VERSION in."
)
@click.option("--name", help="The model's name. [default: from SOURCE]")
@click.option("--model-version", default="1", show_default=True, help="The version to write.")
@click.option(
    "--recipe",
    help="Pre- and post-processing: digits, imagenet, imagenet-caffe, imagenet-tf, raw; for detectors, which "
    "are recognised where this is left out, yolov5, yolov5-raw, yolov8, yolov10, yolox, nanodet, ssd, detr, "
    "rtdetr; or a .toml file.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the recipe.")
@click.option("--labels", type=click.Path(), help="Class names: a line each, or a JSON list or map.")
@click.option(
    "--golden",
    multiple=True,
    type=click.Path(),
    help="Files or a directory to record golden cases from; --golden photos/*.jpg works.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SPEC",
    help="What the network takes, where SOURCE does not say: 'x:float32[batch,3,224,224]'.",
)
@click.option(
    "--weights",
    type=click.Path(),
    help="The other file of a pair, where it does not lie beside SOURCE under its usual name.",
)
@click.option(
    "--signature", metavar="NAME", help="A SavedModel's signature, or the outputs of a frozen graph."
)
@click.option(
    "--class",
    "builder",
    metavar="FILE.py:NAME",
    help="What builds the network that SOURCE holds weights for: a class or a function; needs --trust.",
)
@click.option("--card", type=click.Path(), help="A model card (Markdown) to put in the bundle.")
@click.option("--description", default="", help="One line about the model.")
@click.option(
    "--trust",
    is_flag=True,
    help="Open a SOURCE that is code (a pickle, such as a .pt "
    "checkpoint of Ultralytics), in a confined process.",
)
@click.option(
    "--isolate",
    is_flag=True,
    help="Make a private environment, without asking, where one is needed for SOURCE.",
)
@json_option
def command(source: str, as_json: bool, **options: Any) -> None:
    """Pack SOURCE into the model repository OUT, and prove that the packed model is the same.

    SOURCE is told by its content: a file or folder of ONNX, PyTorch, Keras, TensorFlow, PaddlePaddle,
    MXNet, Caffe, Darknet, scikit-learn, XGBoost, LightGBM, CatBoost or Hugging Face, or FILE.py:NAME.
    What is code needs --trust. The recipe is compiled to standard ONNX
    operators; golden cases are recorded from the source framework and replayed; a conversion that is not the
    same model is refused (exit code 1).
    """
    from ..importers.pack import pack

    notes: list[str] = []
    measured: list[Conversion] = []

    def note(text: str) -> None:
        notes.append(text)
        if text.startswith("warning: "):
            # At once, since what follows may end in an error that it explains.
            click.secho(text, err=True, fg="yellow", bold=True)

    said, arguments = _said(options), _arguments(options)
    try:
        with progress(f"pack {Path(source).name}", 100) as bar:

            def doing(what: str, share: float) -> None:
                bar.update(bar.task_ids[0], description=what, completed=round(share * 100))

            bundle = pack(
                source,
                progress=note,
                stage=doing,
                permission=permission(bar, trust=options["trust"], isolate=options["isolate"]),
                options=said,
                report=measured.append,
                **arguments,
            )
    except ModelportError:
        # What was decided on the way explains the error.
        _print_notes(notes)
        raise
    manifest = bundle.manifest
    cases = len(manifest.golden.cases) if manifest.golden else 0
    if as_json:
        about = {"schema": "modelport.pack/1", "path": str(bundle.path), "name": manifest.name}
        about |= {"version": manifest.version, "digest": bundle.digest}
        write_json(about | {"golden_cases": cases, "conversion": measured[0], "notes": notes})
        return
    _print_notes(notes)
    rows = [
        ("bundle", str(bundle.path)),
        ("digest", bundle.digest),
        ("golden", f"{cases} cases, all replayed"),
        *conversion_rows(measured[0]),
        ("next", f"modelport serve {options['out']}" + (" --trust" if manifest.graphs.net.function else "")),
    ]
    console().print(facts(f"packed {manifest.name} version {manifest.version}", rows))


def _print_notes(notes: list[str]) -> None:
    for text in notes:
        if not text.startswith("warning: "):
            click.echo(f"note: {text}", err=True)


def conversion_rows(measured: Conversion) -> list[tuple[str, str]]:
    """What the conversion took and how close it came, as rows of the closing table."""
    dtypes, floats = ", ".join(measured.dtypes), any(dtype.startswith("float") for dtype in measured.dtypes)
    allowed, where = measured.tolerance, "a process of its own" if measured.own_process else "this process"
    peak = f", at most {measured.peak_bytes / 2**20:.0f} MB in {where}" if measured.peak_bytes else ""
    share = f"{allowed.absolute:.2g} + {allowed.relative:.2g} of the value" if floats else "none"
    rows = [
        ("from", f"{measured.source} ({measured.format})"),
        ("conversion", f"{measured.seconds:.1f} s{peak}; the bundle has {_size(measured.bytes)}"),
        ("difference", f"at most {measured.max_difference:.2g} (allowed for {dtypes}: {share})"),
    ]
    if measured.labels_compared:
        inputs = "made-up inputs" if measured.generated else "golden inputs"
        agreeing = f"{measured.labels_agreeing} of {measured.labels_compared} {inputs}"
        rows.append(("same class", agreeing))
    return rows


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def permission(bar: Progress, *, trust: bool, isolate: bool) -> Permission:
    """What the flags allow; a person at a terminal is asked, and sees what takes long."""
    from ..importers.source import Permission

    def ask(question: str) -> bool:
        bar.stop()
        try:
            return click.confirm(question, err=True)
        finally:
            bar.start()

    def tell(step: str) -> None:
        if sys.stderr.isatty():
            bar.update(bar.task_ids[0], description=escape(step))
        else:
            click.echo(step, err=True)

    someone = sys.stdin.isatty() and sys.stderr.isatty()
    return Permission(trust=trust, isolate=isolate, ask=ask if someone else None, tell=tell)


def _said(options: dict[str, Any]) -> SourceOptions:
    """What the flags say of the source beside its path."""
    from ..importers.source import SourceOptions

    weights = Path(options["weights"]) if options["weights"] else None
    if weights is not None and not weights.exists():
        raise NotFound(f"no such file: {weights}")
    return SourceOptions(weights, options["signature"] or "", options["builder"] or "")


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Flags as `modelport.pack` takes them: what was not given is None."""
    return {
        "out": options["out"],
        "name": options["name"],
        "version": options["model_version"],
        "recipe": options["recipe"],
        "labels": options["labels"],
        "golden": _golden(options["golden"], options["more"]),
        "settings": parse_settings(options["settings"]),
        "inputs": list(options["inputs"]) or None,
        "card": Path(options["card"]) if options["card"] else None,
        "description": options["description"],
    }


def _golden(given: tuple[str, ...], more: tuple[str, ...]) -> list[str] | None:
    """All golden inputs: the shell turns `--golden *.jpg` into one flag with a value and loose files.

    Raises:
        click.UsageError: loose files without --golden.
    """
    if more and not given:
        raise click.UsageError(f"unexpected argument {more[0]!r}; one SOURCE is packed at a time")
    return [*given, *more] or None


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`size=227` as {"size": 227}: numbers and true/false are read as such, the rest is text.

    Raises:
        UsageError: no `=`.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {setting!r}: expected KEY=VALUE")
        parsed[key] = _value(value)
    return parsed


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
