"""What is told of a process that native code ends: the reason that it left, or what it wrote last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelport.errors import InputError, ModelFailed, Unsupported
from modelport.isolation.child.converter import NotConverted, Refused, last_words
from modelport.isolation.worker import Limits, Worker


def aborting(folder: Path, *, after: str) -> Worker:
    """A process that does what `after` says as soon as it is asked anything, and aborts."""
    code = f"import os, sys; sys.stdin.buffer.read(1); {after}; os.abort()"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
        )
    return Worker(process, folder, Limits(), {})


@pytest.mark.parametrize(
    ("problem", "error"),
    [(NotConverted("no rule for: svd", "leave it out"), Unsupported), (Refused("cut short"), InputError)],
)
def test_the_reason_that_a_process_left_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: NotConverted | Refused, error: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    last_words(problem)
    with pytest.raises(error, match=str(problem)) as told:
        aborting(tmp_path, after="0").call({"do": "open"})
    assert getattr(told.value, "hint", None) == problem.hint


def test_what_was_taken_back_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    last_words(NotConverted("no rule for: svd"))
    last_words(None)
    with pytest.raises(ModelFailed, match=r"died \(status -6\): native trouble"):
        aborting(tmp_path, after="print('native trouble', file=sys.stderr, flush=True)").call({"do": "open"})


@pytest.mark.parametrize("words", ["[]", "{", '"x"', "null", "\x00" * 9000])
def test_words_that_are_none_are_not_believed(tmp_path: Path, words: str) -> None:
    (tmp_path / "last_words.json").write_text(words)
    with pytest.raises(ModelFailed, match="died"):
        aborting(tmp_path, after="0").call({"do": "open"})
