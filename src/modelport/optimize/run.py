"""`modelport optimize`: search, choose, write the new version and the report."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.layout import newest_version, version_key
from ..bundle.manifest import check_version
from ..bundle.store import Bundle
from ..engine.cores import usable_cores
from ..errors import InputError, ModelportError, Unavailable, Unsupported, UsageError
from ..runtimes.machine import machine_class
from ..sampling import evenly
from .bench.plan import versions_of
from .candidate import FULL, LONGEST, START, Candidate, opened
from .choose import in_order, machine_note
from .clock import Tell, silent
from .elsewhere import note_of, settled_everywhere
from .enough import nearest
from .outcome import Asked, Entry, Report
from .plan import Plan
from .report import write_report
from .search import Search
from .stages import STAGES, settle, staged
from .start import TOOLS
from .variants import beside, write_version

WORK = ".optimize"
"""In the repository: what a search that was interrupted goes on with."""
ASKED, LITTLE = 4, 0.2
"""Items that the network's share of a call is measured on, and the share that is called little."""
AGAIN = "run the same again: it goes on where it was"
EVALUATION = (("--split", "split"), ("--column", "target"), ("--map", "renamed"))
"""Options of the command line, and what `evaluate` calls them."""


def optimize(
    bundle: str | os.PathLike[str] | Bundle,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    labelled: str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    new_version: str | None = None,
    tell: Tell = silent,
) -> Report:
    """Search for a smaller and faster form of the bundle's network, and write it as a new version.

    Args:
        bundle, data: what is optimized; items like those that it will see.
        out: the model repository; `OUT/NAME/VERSION` is written, with the report beside the bundle in
            `OUT/NAME/VERSION.report`.
        labelled: data with known answers; without it agreement with the bundle's own answers is judged.
        plan: margin, gate, time, portability.
        new_version: by default the next number that neither a bundle nor a report has.
        tell: told what is being done.

    Raises:
        InputError: data that says nothing. UsageError: the version exists or is none, `out` is a file, or the
        plan tells of labelled data what these have not. NotFound: no such bundle or data. Unsupported: its
        network is a Python function.
    """
    plan = plan or Plan()
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    folder = Path(out) / opened.manifest.name
    _check_graph(opened)
    _check_folder(folder)
    if new_version is not None:
        check_version(new_version)
        _check_free(folder / new_version)
    else:
        next(_free(folder, opened.manifest.version))
    truth = Path(labelled) if labelled is not None else None
    _check_evaluation(opened, truth, plan)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        search = Search(opened, Path(data), truth, folder / WORK, plan, tell)
        entries, made = search.run()
        items = search.calibration.items
        entries, best = settled_everywhere(entries, made, items, search.clock, plan.portable)
        report = _report(search, entries, best, _command(opened, data, labelled, out, plan))
        report = _written(opened, folder, new_version, report, made)
    except OSError as problem:
        raise _ended(problem, folder, missing) from problem
    except ModelportError as problem:
        cause = problem.__cause__
        if isinstance(cause, OSError) and cause.errno in FULL:
            raise _ended(cause, folder, missing) from problem
        with contextlib.suppress(OSError):  # nothing is in them where all was refused at the start
            for place in missing:
                place.rmdir()
        raise
    search.found.finish()
    return report


def _ended(problem: OSError, folder: Path, missing: Sequence[Path] = ()) -> ModelportError:
    """What the system refused, as what it was: no room, a file of the search's own, one that was given."""
    said, place = problem.strerror or str(problem), problem.filename
    if problem.errno in FULL:
        hint = f"make room there (or set TMPDIR), and {AGAIN}"
        return Unavailable(f"cannot write what was found: {said} ({place or folder})", hint=hint)
    if place is None or isinstance(place, int):
        return Unavailable(f"the system ended the search: {said}", hint=AGAIN)
    path = Path(os.path.abspath(os.fsdecode(place)))
    own = [Path(os.path.abspath(each)) for each in (folder, tempfile.gettempdir())]
    if any(path.is_relative_to(each) for each in own):
        return Unavailable(f"cannot write what was found: {said} ({path})", hint=AGAIN)
    if path in [Path(os.path.abspath(each)) for each in missing]:
        return InputError(f"cannot write to {path}: {said}", hint="give -o a folder that can be written")
    return InputError(f"cannot read {path}: {said}", hint=f"see to it that it can be read, and {AGAIN}")


def _written(
    start: Bundle, folder: Path, given: str | None, report: Report, made: Mapping[str, Candidate]
) -> Report:
    """The report as it was written, and with it the new version where there is something better.

    The version is made in the report's folder and put in its place at the end, so that there is none without
    a report.
    """
    target = _taken(folder, start.manifest.version, given)
    place = _report_folder(target)
    entries = [_repeatable(entry, Path(os.path.abspath(place))) for entry in report.entries]
    report = msgspec.structs.replace(report, entries=tuple(entries), folder=f"{folder.name}/{place.name}")
    try:
        if report.chosen != START:
            new = write_version(start, place / target.name, entries, made, report.chosen)
            notes = [*report.notes, beside(new, set(made), report.chosen), _not_newest(folder, target.name)]
            report = msgspec.structs.replace(
                report, written=f"{folder.name}/{target.name}", notes=tuple(filter(None, notes))
            )
        write_report(place, report)
        if report.written:
            (place / target.name).rename(target)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return report


def _not_newest(folder: Path, written: str) -> str:
    """That another version is what a repository answers by; empty where the one that is written is."""
    newest = newest_version(folder)
    if newest is None or version_key(newest) <= version_key(written):
        return ""
    return (
        f"version {newest} is newer than {written}: it is what `serve` answers by where no version is asked "
        "for; --model-version gives another"
    )


def _taken(folder: Path, current: str, given: str | None) -> Path:
    """The version to write, whose report's folder was made now: nobody else takes the same.

    Raises:
        UsageError: the version that was given exists.
    """
    for name in [given] if given is not None else _free(folder, current):
        with contextlib.suppress(FileExistsError):
            _report_folder(folder / name).mkdir(parents=True)
            return folder / name
    _check_free(folder / (given or ""))
    raise AssertionError("a version that is taken exists")


def _check_free(target: Path) -> None:
    for place in (target, _report_folder(target)):
        if os.path.lexists(place):
            raise UsageError(
                f"{place} exists; a bundle is never changed", hint="give another --model-version"
            )


def _check_graph(bundle: Bundle) -> None:
    """That there is a graph to change."""
    net = bundle.manifest.graphs.net
    if net.function is not None:
        raise Unsupported(
            f"the network of {bundle.manifest.name} is the Python function {net.function!r}, and only "
            "graphs are optimized",
            hint="modelport bench --trust says where its time goes",
        )


def _check_folder(folder: Path) -> None:
    """That no file is in the way of a folder."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if there.exists() and not there.is_dir():
        raise UsageError(f"{there} is a file; -o takes a folder")


def _check_evaluation(bundle: Bundle, labelled: Path | None, plan: Plan) -> None:
    """That what is said of the labelled data has a meaning."""
    for option, name in EVALUATION:
        if name in plan.evaluation and labelled is None:
            raise UsageError(f"{option} tells of the data of --eval, which is not given")
    if "target" in plan.evaluation and bundle.manifest.decode.kind == "image":
        name = bundle.manifest.name
        raise UsageError(f"--column names a column of a table, and {name} takes pictures")


def _report(search: Search, entries: list[Entry], best: str, command: str) -> Report:
    """What was found, and under what circumstances."""
    figures = {entry.id: entry.figures for entry in entries if entry.figures is not None}
    notes = (
        *search.calibration.notes,
        *search.notes,
        machine_note(figures),
        _share_note(search),
        note_of(entries),
        *_advice(entries, search.plan),
        _by_agreement(entries) if search.labelled is None and best == START else "",
        _late(entries) if best == START else "",
    )
    return Report(
        bundle=search.bundle.manifest.name,
        version=search.bundle.manifest.version,
        digest=search.bundle.digest,
        machine=machine_class(),
        cores=usable_cores(),
        versions=versions_of(TOOLS),
        data=search.data.name,
        items=len(search.calibration.items),
        labelled=search.labelled.name if search.labelled is not None else "",
        margin=search.plan.margin,
        asked=_asked(search),
        entries=tuple(in_order(entries)),
        chosen=best,
        command=command,
        notes=tuple(filter(None, notes)),
        seconds=round(search.clock.spent, 1),
    )


def _share_note(search: Search) -> str:
    """A warning where the network is so little of a call that no form of it changes the latency."""
    seconds = np.zeros(4)
    with opened(search.start) as pipeline:
        for item in evenly(search.calibration.items, ASKED):
            settle(pipeline, [item])
            seconds += np.array(staged(pipeline, [item])[1])
    share = seconds[STAGES.index("net")] / seconds.sum()
    if share >= LITTLE:
        return ""
    most, whole = STAGES[int(seconds.argmax())], float(seconds.max() / seconds.sum())
    parts = f"the network is {share:.0%} of a call and {most} {whole:.0%}"
    return f"{parts}: no form of the network changes the latency much"


def _repeatable(entry: Entry, folder: Path) -> Entry:
    if entry.status == "skipped":
        return entry
    command = shlex.join(["modelport", "repeat", str(folder), entry.id])
    return msgspec.structs.replace(entry, command=command)


def _asked(search: Search) -> Asked:
    plan = search.plan
    return Asked(
        bundle=os.path.abspath(search.bundle.path),
        data=os.path.abspath(search.data),
        labelled=os.path.abspath(search.labelled) if search.labelled is not None else "",
        gate=plan.gate,
        portable=plan.portable,
        seconds=plan.seconds,
        evaluation=plan.evaluation,
    )


def _advice(entries: list[Entry], plan: Plan) -> list[str]:
    """What to do where candidates are neither shown to be right nor wrong."""
    judged = {
        entry.id: entry.judgement
        for entry in entries
        if entry.status == "undecided" and entry.judgement is not None
    }
    if not judged:
        return []
    kind = "labelled items" if any(each.by == "accuracy" for each in judged.values()) else "items"
    one_or_many = "1 candidate loses" if len(judged) == 1 else f"{len(judged)} candidates lose"
    return [
        f"{one_or_many} no more than {plan.margin:g} points as far as can be seen, which these items are too "
        f"few to show; {nearest(judged, plan.margin, kind)}, and --gate estimate takes them as they look"
    ]


def _by_agreement(entries: list[Entry]) -> str:
    """What to do where answers that differ are why nothing was chosen; empty where none do."""
    judged = [entry for entry in entries if entry.status in ("refused", "undecided")]
    if not any(entry.judgement is not None and entry.judgement.loss > 0 for entry in judged):
        return ""
    return (
        "without labels each answer that differs from the bundle's own counts as lost, the better ones too; "
        "labelled data (--eval) judge accuracy itself, which may lose less or nothing"
    )


def _late(entries: list[Entry]) -> str:
    """That nothing was chosen of those that there was time for; empty where there was time for all."""
    late = sum(entry.status == "skipped" and "time budget" in entry.reason for entry in entries)
    if not late:
        return ""
    were = "1 candidate was" if late == 1 else f"{late} candidates were"
    return f"{were} not tried for want of time: a longer --budget tries more"


def _free(folder: Path, current: str) -> Iterator[str]:
    """The versions behind this one, as `version_key` orders them, that neither a bundle nor a report has.

    Raises:
        UsageError: they would be too long.
    """
    for number in count(1):
        name = str(int(current) + number) if current.isdigit() else f"{current}.{number}"
        if len(name) > LONGEST:
            raise UsageError(
                f"no version behind {current} has a name: {LONGEST} letters are the most",
                hint="give --model-version",
            )
        target = folder / name
        if not os.path.lexists(target) and not os.path.lexists(_report_folder(target)):
            yield name


def _report_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.report")


def _command(bundle: Bundle, data: Any, labelled: Any, out: Any, plan: Plan) -> str:
    """What repeats the search, from any folder."""
    words = ["modelport", "optimize", os.path.abspath(bundle.path), "--data", os.path.abspath(data)]
    words += ["--eval", os.path.abspath(labelled)] if labelled is not None else []
    words += ["--max-drop", f"{plan.margin:g}", "--gate", plan.gate]
    words += ["--portable"] if plan.portable else []
    words += ["--budget", f"{plan.seconds:g}s"]
    for option, name in EVALUATION:
        value = plan.evaluation.get(name, ())
        values = [f"{one}={other}" for one, other in value.items()] if isinstance(value, dict) else [value]
        words += [word for each in values if each != () for word in (option, str(each))]
    return shlex.join([*words, "-o", os.path.abspath(out)])
