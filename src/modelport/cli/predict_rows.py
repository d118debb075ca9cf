"""`modelport predict` on rows of tables and on texts: in files, on standard input, or in the command."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..bundle.store import Bundle
from ..errors import ModelportError, NotFound, UsageError
from ..media.outputs import write_whole
from ..runtimes.pipeline import Pipeline
from ..steps.records import TABLE_SUFFIXES, TEXT_SUFFIXES, Record, records_of
from ..tensors import Array
from .predict_inputs import meant_by, nothing
from .predict_run import Line, line_of
from .stopping import Stop

CHUNK = 256
"""Rows that are answered together."""
STDIN = "-"
_PICTURES_ONLY = ("classes", "save_txt", "save_conf", "save_coco", "save_crops", "timing", "fps", "frames")


class Source:
    """Where some records come from: a file, standard input (`-`), or the command itself."""

    def __init__(self, name: str, data: bytes | None = None, problem: str = "") -> None:
        self.name = name
        self._data = data
        self._problem = problem

    def records(self, bundle: Bundle) -> list[Record]:
        """The items in it, in order.

        Raises:
            NotFound, InputError, TooLarge: it cannot be read.
        """
        manifest = bundle.manifest
        if self._problem:
            raise NotFound(self._problem)
        if self._data is not None:
            fields = {"text": self._data.decode(errors="replace")} if manifest.decode.kind == "text" else {}
            return [Record(self._data, fields, 1)]
        if self.name == STDIN:
            data, suffix = sys.stdin.buffer.read(), ".txt" if manifest.decode.kind == "text" else ""
        else:
            data, suffix = _read(Path(self.name)), Path(self.name).suffix.lower()
        return records_of(data, suffix, manifest.decode, manifest.columns)


def sources_of(
    inputs: Sequence[str], texts: Sequence[str], rows: Sequence[str], bundle: Bundle
) -> list[Source]:
    """What the arguments mean; a directory means the files in it, a glob those that it matches.

    Raises:
        UsageError: a text for a table or the other way round. NotFound: a directory without such files, or a
        glob without files, which is all there is.
    """
    table = bundle.manifest.decode.kind == "table"
    if table and texts:
        raise UsageError(
            f"{bundle.manifest.name} takes rows, not texts", hint="--row '{\"column\": value, …}'"
        )
    if rows and not table:
        raise UsageError(f"{bundle.manifest.name} takes texts, not rows", hint='--text "…"')
    suffixes = TABLE_SUFFIXES if table else TEXT_SUFFIXES
    found = [Source("--row" if table else "--text", given.encode()) for given in (*texts, *rows)]
    for given in inputs:
        meant = meant_by(given, suffixes)
        if meant is None:
            found.append(Source(given))
            continue
        files, _ = meant
        if not files:
            problem = nothing(given, f"{', '.join(suffixes)} files")
            if len(inputs) + len(texts) + len(rows) == 1:
                raise NotFound(problem)
            found.append(Source(given, problem=problem))
        found += [Source(file) for file in files]
    return found


def check_given(given: Mapping[str, Any], bundle: Bundle) -> None:
    """Refuse options that mean something for pictures alone.

    Raises:
        UsageError: one was given, or `--save` names a folder.
    """
    for name in _PICTURES_ONLY:
        if given.get(name):
            raise UsageError(f"--{name.replace('_', '-')} is for pictures; {bundle.manifest.name} takes none")
    save = given.get("save")
    if save is not None and save.is_dir():
        raise UsageError(f"{save} is a folder; --save keeps rows in one file", hint="--save answers.csv")


class Rows:
    """A loaded bundle that answers records; what `--save` keeps is written at the end."""

    def __init__(self, pipeline: Pipeline, stop: Stop, options: Mapping[str, Any], save: Path | None) -> None:
        self.failures: Counter[int] = Counter()
        self.notes: list[str] = []
        self._pipeline = pipeline
        self._stop = stop
        self._options = dict(options)
        self._save = save
        self._kept: list[tuple[Record, Line]] = []

    def lines(self, sources: Iterable[Source]) -> Generator[Line, None, None]:
        """A line for each record, in order."""
        for source in sources:
            if self._stop.wanted:
                return
            try:
                records = source.records(self._pipeline.bundle)
            except ModelportError as problem:
                self.failures[problem.exit_code] += 1
                yield line_of(self._pipeline, source.name, error=str(problem))
                continue
            self._note_extra(source, records)
            rest = iter(records)
            while chunk := list(islice(rest, CHUNK)):
                if self._stop.wanted:
                    return
                yield from self._answered(source, chunk)

    def close(self) -> None:
        """Write what is kept.

        Raises:
            UsageError: it cannot be written.
        """
        if self._save is not None and self._kept:
            write_whole(self._save, table_of(self._kept))

    def _answered(self, source: Source, records: list[Record]) -> Generator[Line, None, None]:
        start = time.perf_counter()
        decoded: list[dict[str, Array] | ModelportError] = []
        for record in records:
            try:
                decoded.append(self._pipeline.decode(record.data))
            except ModelportError as problem:
                decoded.append(problem)
        answers = self._answers([each for each in decoded if not isinstance(each, ModelportError)])
        ms = round((time.perf_counter() - start) * 1e3 / len(records), 3)
        waiting = iter(answers)
        for record, item in zip(records, decoded, strict=True):
            found = item if isinstance(item, ModelportError) else next(waiting)
            line = line_of(self._pipeline, source.name, row=record.line)
            if isinstance(found, ModelportError):
                self.failures[found.exit_code] += 1
                if (found.at or "").startswith("line "):
                    found.at = None  # the line of one record, which is not the file's
                line.error = str(found)
            else:
                line.answer, line.ms = self._pipeline.readable(found), ms
            if self._save is not None:
                self._kept.append((record, line))
            yield line

    def _answers(self, items: list[dict[str, Array]]) -> list[dict[str, Array] | ModelportError]:
        """All together, or where that fails each by itself."""
        try:
            return list(self._pipeline.answer_many(items, self._options))
        except ModelportError as problem:
            if len(items) == 1:
                return [problem]
        return [answer for item in items for answer in self._answers([item])]

    def _note_extra(self, source: Source, records: Sequence[Record]) -> None:
        columns = {column.name for column in self._pipeline.bundle.manifest.columns}
        extra = [name for name in records[0].fields if name not in columns] if columns else []
        if extra:
            self.notes.append(f"{source.name}: not used: {', '.join(extra)}")


def table_of(kept: Sequence[tuple[Record, Line]]) -> bytes:
    """CSV of the records as they came, with the answers added: `answer` and `score`, or each value's name.

    A name that the records have themselves gets `predicted_` in front.
    """
    own = list(dict.fromkeys(name for record, _ in kept for name in record.fields))
    answers = [{"error": line.error} if line.error else answer_cells(line.answer) for _, line in kept]
    added = list(dict.fromkeys(name for cells in answers for name in cells))
    names = [f"predicted_{name}" if name in own else name for name in added]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*own, *names])
    for (record, _), cells in zip(kept, answers, strict=True):
        writer.writerow([*(record.fields.get(n, "") for n in own), *(cells.get(n, "") for n in added)])
    return buffer.getvalue().encode()


def answer_cells(answer: Any) -> dict[str, Any]:
    """An answer as cells by name: the best label and its score, or every value."""
    if isinstance(answer, list):
        best = answer[0] if answer else {"label": "", "score": ""}
        return {"answer": best["label"], "score": best["score"]}
    return dict(answer)


def _read(path: Path) -> bytes:
    if not path.exists():
        raise NotFound(f"no such file: {path}")
    try:
        return path.read_bytes()
    except OSError as problem:
        raise NotFound(f"{path} cannot be read: {problem.strerror or problem}") from problem
