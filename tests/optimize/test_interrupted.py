"""A search that is ended, has no room, or finds nothing: what is said, what is left, and that it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.store import Bundle
from modelport.errors import BundleError, InputError, Unavailable, UsageError
from modelport.optimize import search as searching
from modelport.optimize.candidate import Pass
from modelport.optimize.clock import Clock, Told, silent
from modelport.optimize.plan import Plan
from modelport.optimize.repeat import repeat
from modelport.optimize.run import optimize
from modelport.optimize.search import Search

from .networks import packed, pictures
from .test_search import Broken

DRIVER = """
import resource, signal, sys
from pathlib import Path
from modelport.errors import ModelportError
from modelport.optimize import search
from modelport.optimize.passes.half import Half
from modelport.optimize.run import optimize
from modelport.optimize.plan import Plan
from modelport.optimize.search import Search

# A test run that was started in the background hands an ignored SIGINT down.
signal.signal(signal.SIGINT, signal.default_int_handler)
Search.passes = lambda self: iter([Half()])
search.ways = lambda candidate: iter(())
bundle, data, out, full_at = sys.argv[1:]

def tell(told):
    print(told.text, flush=True)
    if full_at and full_at in told.text:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

plan = Plan(gate="estimate", margin=2.0)
try:
    optimize(bundle, data, out=out, labelled=data, plan=plan, tell=tell)
except ModelportError as problem:
    sys.exit(f"{type(problem).__name__}: {problem}")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture(scope="module")
def start(place: Path) -> Bundle:
    return packed(place)


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return pictures(place / "pictures", 45)


def run(start: Bundle, data: Path, out: Path, full_at: str = "") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", DRIVER, str(start.path), str(data), str(out), full_at]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_a_search_that_was_ended_goes_on(
    start: Bundle, data: Path, tmp_path: Path, end: signal.Signals
) -> None:
    ended = run(start, data, tmp_path)
    assert ended.stdout is not None
    for line in ended.stdout:
        if line.startswith("measuring"):
            ended.send_signal(end)
            break
    ended.communicate(timeout=120)
    assert ended.returncode != 0
    work = next((tmp_path / "colours" / ".optimize").iterdir())
    kept = next(work.glob("*/fp16/modelport.json"))
    made = kept.stat()
    assert list(work.glob("*/fp16.judgement.json")) and not (tmp_path / "colours" / "2").exists()
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        from modelport.optimize.passes.half import Half

        patch.setattr(Search, "passes", lambda self: iter([Half()]))
        patch.setattr(searching, "ways", lambda candidate: iter(()))

        def tell(told: Told) -> None:
            said.append(told.text)
            assert not kept.exists() or kept.stat().st_mtime_ns == made.st_mtime_ns

        plan = Plan(gate="estimate", margin=2.0)
        report = optimize(start, data, out=tmp_path, labelled=data, plan=plan, tell=tell)
    assert "asking the bundle as it was packed" not in said  # what was judged is not judged again
    assert any(text.startswith("going on from ") for text in said)
    assert {entry.id for entry in report.entries} >= {"start", "fp16"}
    assert not work.exists()
    start.verify_files()


@pytest.mark.parametrize("full_at", ["reading the items", "making it", "comparing its answers", "measuring"])
def test_a_full_disk_is_said_and_nothing_is_left(
    full_at: str, start: Bundle, data: Path, tmp_path: Path
) -> None:
    before = sorted(path.relative_to(start.path) for path in start.path.rglob("*"))
    full = run(start, data, tmp_path, full_at)
    said, err = full.communicate(timeout=120)
    assert full_at in said and full.returncode == 1
    assert "Traceback" not in err and "Unavailable: cannot write what was found: File too large" in err, err
    assert not (tmp_path / "colours" / "2").exists()
    assert sorted(path.relative_to(start.path) for path in start.path.rglob("*")) == before
    start.verify_files()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_repository_that_cannot_be_written_is_said(start: Bundle, data: Path, tmp_path: Path) -> None:
    (tmp_path / "colours").mkdir(mode=0o500)
    with pytest.raises((Unavailable, BundleError)):
        optimize(start, data, out=tmp_path)


def test_a_gate_that_nothing_passes(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Pass] = [Broken()]
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter(tried))
    monkeypatch.setattr(searching, "ways", lambda candidate: iter(()))
    report = optimize(start, data, out=tmp_path, labelled=data, plan=Plan(gate="estimate"))
    assert report.chosen == "start" and report.written == ""
    assert [entry.status for entry in report.entries] == ["start", "refused", "skipped"]
    assert report.entries[2].id == "photos-16x16"
    assert "beyond 0.5" in report.entries[1].reason
    assert not (tmp_path / "colours" / "2").exists()
    page = (tmp_path / "colours" / "2.report" / "report.html").read_text()
    assert "data:image/png;base64," in page and "Refused, and not measured: broken-scale." in page
    with pytest.raises(UsageError, match="nothing was chosen; name one of broken-scale"):
        repeat(report)
    start.verify_files()


def test_items_of_another_size_are_refused(tmp_path: Path) -> None:
    import onnx

    import modelport

    from .networks import network

    onnx.save(network(), tmp_path / "raw.onnx")
    bundle = modelport.pack(tmp_path / "raw.onnx", out=tmp_path / "repo", recipe="raw")
    items = tmp_path / "items"
    items.mkdir()
    for number in range(10):
        np.save(items / f"{number}.npy", np.full((3, 8, 8), number, np.float32))
    with pytest.raises(InputError, match="none of 10 items can be read"):
        Search(bundle, items, None, tmp_path / "work", Plan(), silent)
    bundle.verify_files()


def test_the_clock_keeps_to_the_budget() -> None:
    told: list[Told] = []
    clock = Clock(100.0, told.append)
    clock.say("begin")
    assert 99 < told[-1].left <= 100 and not clock.over
    clock.expect(3)
    clock.step()
    clock.say("next")
    assert (told[-1].done, told[-1].of) == (1, 4)
    assert told[-1].left <= 100
    spent = Clock(0.0, silent)
    assert spent.over and spent.left == 0
