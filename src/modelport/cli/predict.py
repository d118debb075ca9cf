"""`modelport predict`: pictures, videos, cameras and streams from the shell; one answer each."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from ..bundle.store import Bundle
from ..runtimes.machine import PACKED
from .bundle_options import (
    conf_option,
    iou_option,
    options_of,
    runtime_of,
    runtime_option,
    trust_option,
    variant_option,
)
from .predict_inputs import Item, items_of
from .predict_names import read_names
from .render import console, grid, json_option, tracked, write_json
from .stopping import Stop

if TYPE_CHECKING:
    from ..runtimes.pipeline import Pipeline
    from .predict_rows import Rows
    from .predict_run import Answering, Line

TABLE_LINES = 40
"""A table of more answers than this is printed line by line as they come."""
_SHOWN = 5

F = TypeVar("F", bound=Callable[..., Any])
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


def _saving(function: F) -> F:
    """The options that keep something beside the answers."""
    for option in (
        click.option("--timing", is_flag=True, help="Write the time of each answer on what --save keeps."),
        click.option("--save-crops", type=_FOLDER, help="What is in each box: DIRECTORY/LABEL/NAME-N.jpg."),
        click.option("--save-coco", type=_FILE, help="All boxes in one COCO JSON file."),
        click.option("--save-conf", is_flag=True, help="Scores as a sixth column of --save-txt."),
        click.option("--save-txt", type=_FOLDER, help="Boxes as YOLO label files."),
        click.option(
            "--save",
            type=click.Path(path_type=Path),
            help="Directory of annotated pictures and .mp4 videos; of rows and texts a CSV of them.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("bundle", type=click.Path())
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("--text", "texts", multiple=True, help="A text, in place of an INPUT.")
@click.option("--row", "rows", multiple=True, metavar="JSON", help="A table's row, in place of an INPUT.")
@click.option("--top", type=click.IntRange(1), help="Show the best N labels or boxes only.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the bundle.")
@conf_option
@iou_option
@click.option("--classes", metavar="NAME,…", help="Keep boxes of these classes only, by name or number.")
@_saving
@click.option(
    "--fps",
    type=click.FloatRange(0, 1000, min_open=True),
    help="Frames a second to look at; all unless said.",
)
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames of each video or stream.")
@click.option(
    "--reconnect", type=click.IntRange(0), default=5, show_default=True, help="Tries for a cut stream."
)
@click.option("--threads", type=click.IntRange(1), help="Items answered side by side. [default: cores]")
@runtime_option
@variant_option
@trust_option
@json_option
def command(bundle: str, inputs: tuple[str, ...], top: int | None, as_json: bool, **given: Any) -> int:
    """Answer each INPUT with BUNDLE.

    An INPUT is a file, a directory, a glob, a video, the number of a camera, an http, https or rtsp
    address, or - for one name or address a line on stdin. Videos and streams give one answer a frame. For a
    bundle of tables it is a .csv, .json or .jsonl file of rows, for one of texts also a .txt file with a text
    on each line, or - for either on stdin.

    With - a line is answered as soon as it is read, several at a time where there are more. What cannot be
    answered gives an error in its own place and the rest go on; the exit code is then 3. Ctrl-C ends with
    everything written so far.
    """
    if not inputs and not given["texts"] and not given["rows"]:
        raise click.UsageError("Missing argument 'INPUT...'.")
    if "-" in inputs and len(inputs) > 1:
        raise click.UsageError("- reads the names from standard input: give no other INPUT")
    stop = Stop()
    with contextlib.ExitStack() as opened:
        loaded = Bundle.open(bundle)
        kind = loaded.manifest.decode.kind
        if kind in ("table", "text"):
            return _rows(opened, loaded, stop, inputs, top, as_json, given)
        if given["texts"] or given["rows"]:
            raise click.UsageError(f"{loaded.manifest.name} takes neither texts nor rows")
        items = [] if "-" in inputs else list(items_of(inputs, kind))
        run = _opened(opened, loaded, stop, items, given)
        opened.enter_context(stop.listening())
        report = Report(top, as_json=as_json, table="-" not in inputs and not any(i.moving for i in items))
        if "-" in inputs:
            lines = run.named(read_names())
        else:
            still = 0 if any(item.moving for item in items) else len(items)
            lines = tracked(run.lines(items), still, "predict")
        report.show(opened.enter_context(contextlib.closing(lines)))
    return report.end(run, interrupted=stop.wanted)


def _rows(
    opened: contextlib.ExitStack,
    bundle: Bundle,
    stop: Stop,
    inputs: tuple[str, ...],
    top: int | None,
    as_json: bool,
    given: dict[str, Any],
) -> int:
    """Answer the rows or texts of a bundle that takes such."""
    from .predict_rows import Rows, check_given, sources_of

    check_given(given, bundle)
    sources = sources_of(inputs, given["texts"], given["rows"], bundle)
    options = options_of(bundle, given["options"], conf=given["conf"], iou=given["iou"])
    pipeline = _loaded(opened, bundle, given["threads"] or 1, given)
    run = Rows(pipeline, stop, options, given["save"])
    opened.enter_context(stop.listening())
    report = Report(top, as_json=as_json, table=True)
    report.show(opened.enter_context(contextlib.closing(run.lines(sources))))
    run.close()
    return report.end(run, interrupted=stop.wanted)


def _opened(
    opened: contextlib.ExitStack, bundle: Bundle, stop: Stop, items: list[Item], given: dict[str, Any]
) -> Answering:
    """The bundle loaded, with the user's options judged before anything is read."""
    from ..engine.cores import usable_cores
    from ..media.kinds import kind_of
    from .predict_keep import Keeper, Wanted
    from .predict_run import Answering, Playing, classes_of

    options = options_of(bundle, given["options"], conf=given["conf"], iou=given["iou"])
    classes = classes_of(bundle, given["classes"]) if given["classes"] else None
    wanted = Wanted(
        save=given["save"],
        txt=given["save_txt"],
        scores=given["save_conf"],
        coco=given["save_coco"],
        crops=given["save_crops"],
        timing=given["timing"],
    )
    keeper = opened.enter_context(Keeper(wanted, bundle))
    # Frames of a live source are answered one at a time: there the network gets all threads.
    live = any(item.moving and kind_of(item.name) in ("stream", "camera") for item in items)
    threads = given["threads"] or usable_cores()
    pipeline = _loaded(opened, bundle, threads if live else 1, given)
    playing = Playing(given["fps"], given["frames"], given["reconnect"])
    workers = 1 if live else threads
    return Answering(
        pipeline, keeper, stop, options=options, classes=classes, playing=playing, workers=workers
    )


def _loaded(opened: contextlib.ExitStack, bundle: Bundle, threads: int, given: dict[str, Any]) -> Pipeline:
    """The bundle loaded in the form that is asked for, with a note where that was judged otherwise."""
    from ..runtimes.form import overruled
    from ..runtimes.pipeline import Pipeline

    runtime = runtime_of(given["trust"], given["runtime"], bundle)
    pipeline = Pipeline.open(bundle, threads=threads, runtime=runtime, variant=given["variant"])
    opened.enter_context(pipeline)
    if note := overruled(bundle, pipeline.form):
        click.echo(f"note: {note}", err=True)
    return pipeline


class Report:
    """Prints lines as they come, a table of few ones at the end, and how fast it went."""

    def __init__(self, top: int | None, *, as_json: bool, table: bool) -> None:
        self._top = top
        self._as_json = as_json
        self._table = table
        self._shown: list[Line] = []
        self._times: deque[float] = deque(maxlen=10_000)
        self._start = time.perf_counter()
        self._answered = 0
        self._by = ""

    def show(self, lines: Iterable[Line]) -> None:
        """Print them all."""
        for line in lines:
            self._by = _answerer(line)
            if not line.error:
                self._answered += 1
                self._times.append(line.ms)
            self._line(line)

        if self._shown and len(self._shown) < TABLE_LINES:
            self._print_table()

    def end(self, run: Answering | Rows, *, interrupted: bool) -> int:
        """Say on standard error how it went; the exit code."""
        for note in run.notes:
            click.echo(note, err=True)
        if self._answered > 1:
            seconds = time.perf_counter() - self._start
            click.echo(
                f"{self._answered} answered in {seconds:.1f} s: {self._answered / seconds:.1f} a second, "
                f"{statistics.median(self._times):.1f} ms each (median)"
                + (f", by {self._by}" if self._by else ""),
                err=True,
            )
        if run.failures:
            click.echo(f"{run.failures.total()} could not be answered", err=True)
        if interrupted:
            click.echo("interrupted", err=True)
            return 130
        return max(run.failures) if run.failures else 0

    def _line(self, line: Line) -> None:
        if isinstance(line.answer, list) and self._top:
            line.answer = line.answer[: self._top]
        if self._as_json:
            write_json(line, lines=True)
        elif not self._table or len(self._shown) >= TABLE_LINES:
            click.echo("\t".join(_cells(line, "  ")))
        else:
            self._shown.append(line)
            if len(self._shown) == TABLE_LINES:
                self._print_table()

    def _print_table(self) -> None:
        rows = [_cells(line, "\n") for line in self._shown]
        answer = f"answer by {self._by}" if self._by else "answer"
        console().print(grid(["file", answer, "ms"], rows))


def _answerer(line: Line) -> str:
    """`variant heads`, `variant fast on openvino`, `the network as packed`; empty where there is but one."""
    form = "the network as packed" if line.variant == PACKED else line.variant and f"variant {line.variant}"
    return f"{form} on {line.runtime}" if line.runtime else form


def _cells(line: Line, between: str) -> tuple[str, ...]:
    where = line.file
    if line.frame is not msgspec.UNSET:
        where = f"{line.file}\t{line.frame}\t{line.seconds:.2f}"
    elif line.row is not msgspec.UNSET:
        where = line.file if line.file.startswith("--") else f"{line.file}:{line.row}"
    if line.error:
        return where, f"error: {line.error}", ""
    if (
        isinstance(line.answer, dict)
        and set(line.answer) == {"value"}
        and isinstance(line.answer["value"], float)
    ):
        return where, f"{line.answer['value']:.6g}", f"{line.ms:.1f}"
    if not isinstance(line.answer, list):
        return where, msgspec.json.encode(line.answer).decode(), f"{line.ms:.1f}"
    found = line.answer
    if found and all("box" not in entry for entry in found):
        text = "  ".join(f"{entry['label']} {entry['score']:.3f}" for entry in found[:_SHOWN])
        return where, text, f"{line.ms:.1f}"
    texts = [f"{one['label']} {one['score']:.3f} {_box(one['box'])}" for one in found]
    return where, between.join(texts) or "nothing found", f"{line.ms:.1f}"


def _box(box: list[float]) -> str:
    return "[" + " ".join(f"{value:.0f}" for value in box) + "]"
