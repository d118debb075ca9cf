"""What a search leaves: a version with its report or neither, and no work folder that nobody goes on with."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import msgspec
import pytest

from modelport.bundle.store import Bundle
from modelport.optimize import found as keeping
from modelport.optimize import run as running
from modelport.optimize.candidate import START, Candidate, apply
from modelport.optimize.found import LOCK, Found
from modelport.optimize.outcome import Report
from modelport.optimize.passes.half import Half
from modelport.optimize.report import write_report
from modelport.optimize.run import _written

from .reports import entry, made_up
from .test_passes_more import NOTHING


def test_a_version_is_written_with_its_report_or_not_at_all(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = (entry(START, "start", 1.0), entry("fp16", "chosen", 0.5))
    report = msgspec.structs.replace(made_up(), entries=entries, chosen="fp16", written="")
    made: dict[str, Candidate] = {"fp16": apply(Half(), start, NOTHING, tmp_path)}
    folder = tmp_path / "out" / "colours"

    def full(place: Path, report: Report) -> None:
        assert not (folder / "2").exists()  # nobody serves it yet
        write_report(place, report)
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(running, "write_report", full)
        with pytest.raises(OSError, match="no room"):
            _written(start, folder, None, report, made)
    assert not list(folder.iterdir())
    written = _written(start, folder, None, report, made)
    assert (written.written, written.folder) == ("colours/2", "colours/2.report")
    new = Bundle.open(folder / "2")
    new.verify_files()
    assert new.manifest.version == "2" and [each.name for each in new.manifest.variants] == ["fp16"]
    assert {path.name for path in (folder / "2.report").iterdir()} == {
        "report.json",
        "report.html",
        "front.png",
    }


def test_a_search_that_ended_takes_along_what_nobody_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("question", "question-2", "question-3", "other", "older", "mine")
    for name in names:
        (tmp_path / name / "candidate").mkdir(parents=True)
        if name != "mine":  # nothing of a search
            (tmp_path / name / LOCK).touch()
    long_ago = time.time() - keeping.STALE - 60
    for name in ("older", "mine"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    busy = (tmp_path / "question-3" / LOCK).stat().st_ino
    original = keeping._locked
    monkeypatch.setattr(keeping, "_locked", lambda file: os.fstat(file).st_ino != busy and original(file))
    Found(tmp_path / "question").finish()
    assert {path.name for path in tmp_path.iterdir()} == {"question-3", "other", "mine"}
