"""`modelport predict`: files, directories, globs or names on standard input; one answer each."""

from __future__ import annotations

import glob
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..bundle.store import Bundle
from ..errors import InputError, ModelportError, NotFound, TooLarge
from .render import console, grid, json_option, tracked, write_json

if TYPE_CHECKING:
    from ..runtimes.pipeline import Pipeline

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
TENSOR_SUFFIXES = {".npy", ".npz", ".json"}
TABLE_LINES = 40
"""A table of more answers than this is printed line by line as they come."""


class Line(msgspec.Struct, omit_defaults=True):
    """One file's answer, or why there is none."""

    file: str
    model: str = ""
    version: str = ""
    answer: Any = None
    ms: float = 0.0
    error: str = ""


@click.command()
@click.argument("bundle", type=click.Path())
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--top", type=click.IntRange(1), help="Show the best N labels only.")
@click.option("--threads", type=click.IntRange(1), help="Files answered side by side. [default: cores]")
@json_option
def command(bundle: str, inputs: tuple[str, ...], top: int | None, threads: int | None, as_json: bool) -> int:
    """Answer each INPUT with BUNDLE: files, directories, globs, or - for one file name a line on stdin.

    With - every line is answered as soon as it is read. A file that cannot be answered gives an error in
    its own place and the rest go on; the exit code is then 3.
    """
    from ..runtimes.pipeline import Pipeline

    with Pipeline.open(Bundle.open(bundle)) as pipeline:
        if "-" in inputs:
            if len(inputs) > 1:
                raise click.UsageError("- reads the names from standard input: give no other INPUT")
            lines: Iterable[Line] = _stream(pipeline)
        else:
            files = list(_expand(inputs, pipeline.bundle.manifest.decode.kind))
            lines = tracked(_in_parallel(pipeline, files, threads), len(files), "predict")
        return _print(lines, top, as_json, table="-" not in inputs)


def _stream(pipeline: Pipeline) -> Iterator[Line]:
    """One answer for each line, before the next line is read."""
    while line := sys.stdin.readline():
        if name := line.rstrip("\r\n"):
            yield _answer(pipeline, name)


def _in_parallel(pipeline: Pipeline, files: list[str], threads: int | None) -> Iterator[Line]:
    """Answers in the order of the files, a few of them under way at a time."""
    from ..engine.settings import usable_cores

    workers = threads or usable_cores()
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[Line]] = deque()
        for name in files:
            under_way.append(pool.submit(_answer, pipeline, name))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _answer(pipeline: Pipeline, name: str) -> Line:
    manifest = pipeline.bundle.manifest
    start = time.perf_counter()
    try:
        answer = pipeline.readable(pipeline.answer(pipeline.decode(_read(name, manifest.decode.max_bytes))))
    except ModelportError as problem:
        return Line(name, manifest.name, manifest.version, error=str(problem))
    ms = round((time.perf_counter() - start) * 1e3, 2)
    return Line(name, manifest.name, manifest.version, answer, ms)


def _read(name: str, limit: int) -> bytes:
    path = Path(name)
    try:
        if path.is_dir():
            raise InputError(f"{name} is a directory; expected a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise NotFound(f"cannot read {name!r}: {reason}") from problem
    if len(data) > limit:
        raise TooLarge(f"{name} is over {limit} bytes, the most this bundle decodes")
    return data


def _expand(inputs: tuple[str, ...], kind: str) -> Iterator[str]:
    """The files that the arguments mean; what is not there stays, to give its error in its place.

    Raises:
        NotFound: a directory or a glob with no file of a kind that the bundle decodes.
    """
    suffixes = IMAGE_SUFFIXES if kind == "image" else TENSOR_SUFFIXES
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        elif not path.exists() and glob.has_magic(given):
            found = sorted(name for name in glob.glob(given, recursive=True) if Path(name).is_file())
        else:
            found = [given]
        if not found:
            raise NotFound(f"no file in {given!r} has one of the endings {', '.join(sorted(suffixes))}")
        yield from found


def _print(lines: Iterable[Line], top: int | None, as_json: bool, *, table: bool) -> int:
    failed = 0
    shown: list[Line] = []
    for line in lines:
        failed += bool(line.error)
        if isinstance(line.answer, list) and top:
            line.answer = line.answer[:top]
        if as_json:
            write_json(line, lines=True)
        elif not table or len(shown) >= TABLE_LINES:
            click.echo("\t".join(_cells(line)))
        else:
            shown.append(line)
            if len(shown) == TABLE_LINES:
                console().print(grid(["file", "answer", "ms"], map(_cells, shown)))
    if shown and len(shown) < TABLE_LINES:
        console().print(grid(["file", "answer", "ms"], map(_cells, shown)))
    if failed:
        click.echo(f"{failed} could not be answered", err=True)
    return InputError.exit_code if failed else 0


def _cells(line: Line) -> tuple[str, str, str]:
    if line.error:
        return line.file, f"error: {line.error}", ""
    if isinstance(line.answer, list):
        text = "  ".join(f"{entry['label']} {entry['score']:.3f}" for entry in line.answer[:5])
    else:
        text = msgspec.json.encode(line.answer).decode()
    return line.file, text, f"{line.ms:.1f}"
