"""The file: written whole, by one at a time, and never believed when it is damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modelport.bundle.layout import find_bundles, locate
from modelport.errors import BundleError, Unavailable, Unsupported
from modelport.rollout import change as changes
from modelport.rollout import state as files
from modelport.rollout.change import Change, Conflict, State
from modelport.rollout.figures import Latency, Observed
from modelport.rollout.plan import Canary, Plan, Policy, Shadow
from modelport.rollout.state import DAMAGED, FILE, LOCK, change, load, stamp

from ..colours import pack_colours

PLAN = Plan(
    model="m",
    stable="1",
    canary=Canary(version="2", weight=0.1, header="X-Canary", value="yes", sticky="X-User"),
    shadow=Shadow(version="2", sample=0.5),
    policy=Policy(min_agreement=0.99, max_difference=0.1),
)
WHOLE = State(
    revision=3,
    plan=PLAN,
    since=1700000000.25,
    baseline=Observed(10, 1, Latency({3: 4, 7: 5})),
    history=(Change(1.5, "set", "cli", "what", "why", PLAN),),
)


def put(state: State) -> Any:
    return lambda _: state


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    assert load(tmp_path) is None and stamp(tmp_path) is None
    assert change(tmp_path, put(WHOLE)) == WHOLE
    assert load(tmp_path) == WHOLE
    text = (tmp_path / FILE).read_text()
    assert json.loads(text)["format"] == "modelport-rollout/1" and text.endswith("}\n")
    assert sorted(os.listdir(tmp_path)) == [LOCK, FILE]


def test_the_stamp_changes_with_the_file(tmp_path: Path) -> None:
    edit = partial(changes.set_plan, plan=PLAN, now=1.0, by="cli")
    change(tmp_path, edit)
    before = stamp(tmp_path)
    change(tmp_path, edit)  # the same plan: nothing is written
    assert stamp(tmp_path) == before
    change(tmp_path, partial(changes.promote, now=2.0, by="cli"))
    assert stamp(tmp_path) != before


def test_who_saw_another_revision_changes_nothing(tmp_path: Path) -> None:
    change(tmp_path, put(WHOLE), expected=0)
    with pytest.raises(Conflict, match="revision 3, not 2") as caught:
        change(tmp_path, partial(changes.promote, now=1.0, by="cli"), expected=2)
    assert caught.value.http_status == 409
    assert load(tmp_path) == WHOLE
    change(tmp_path, partial(changes.promote, now=1.0, by="cli"), expected=3)


HEAD = b'{"format": "modelport-rollout/1", '


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "damaged"),
        (b"{}", "its format is ''"),
        (b'{"format": 1}', "damaged"),
        (b'{"format": "other"}', "its format is 'other'"),
        (HEAD + b'"revison": 1}', "revison"),
        (HEAD + b'"plan": {"model": "m", "stable": "1", "canary": {"version": "1"}}}', "already"),
        (HEAD + b'"plan": {"model": "m", "stable": "../1"}}', "not the name of a version"),
        (HEAD + b'"plan": {"model": "m", "stable": "1", "canary": {"version": "2", "weight": 9}}}', "got 9"),
        (HEAD + b'"baseline": {"requests": -1}}', "baseline.requests"),
        (HEAD + b'"baseline": {"requests": 1, "errors": 2}}', "2 errors"),
        (HEAD + b'"baseline": {"latency": {"counts": {"100000": 1}}}}', "baseline.latency"),
        (b"[" * 100_000, "damaged"),
        (b" " * (files.MAX_BYTES + 1), "over 4194304 bytes"),
    ],
)
def test_a_damaged_file_is_told_and_never_overwritten_unasked(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / FILE).write_bytes(data)
    for attempt in (lambda: load(tmp_path), lambda: change(tmp_path, put(WHOLE))):
        with pytest.raises(BundleError) as caught:
            attempt()
        assert words in str(caught.value) and "--clear" in str(caught.value)
    assert (tmp_path / FILE).read_bytes() == data
    assert change(tmp_path, put(WHOLE), over_damage=True) == WHOLE
    assert (tmp_path / DAMAGED).read_bytes() == data and load(tmp_path) == WHOLE


def test_a_newer_format_is_told_apart_from_damage(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"format": "modelport-rollout/2", "more": []}')
    with pytest.raises(BundleError, match="install a newer Modelport"):
        load(tmp_path)


def test_a_folder_of_that_name_is_damage(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(BundleError, match="damaged"):
        load(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(tmp_path, put(WHOLE))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unsupported, match="No space left"):
            change(tmp_path, partial(changes.promote, now=1.0, by="cli"))
    assert load(tmp_path) == WHOLE
    assert sorted(os.listdir(tmp_path)) == [LOCK, FILE]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="cannot write"):
        change(tmp_path / "none", put(WHOLE))


def test_a_lock_that_another_holds_is_waited_for_and_then_told(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        for patience in (0.0, 0.2):
            with pytest.raises(Unavailable, match="another process is changing"):
                change(tmp_path, put(WHOLE), patience=patience)
    finally:
        holder.kill()  # with its process goes the lock
        holder.communicate()
    assert change(tmp_path, put(WHOLE), patience=5.0) == WHOLE


HOLD = """
import sys
from pathlib import Path
from modelport.rollout import state

with state._locked(Path(sys.argv[1]), 5.0):
    print("held", flush=True)
    sys.stdin.read()
"""

WRITER = """
import sys
from pathlib import Path
from modelport.rollout import change as changes
from modelport.rollout.plan import Canary, Plan
from modelport.rollout.state import change, load

folder, version, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(times):
    plan = Plan(model="m", stable="1", canary=Canary(version=version, weight=number / 1000))
    change(folder, lambda state: changes.set_plan(state, plan, now=1.0, by="cli"), patience=60.0)
    assert load(folder).revision > number
"""


def test_writers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    times, writers = 15, ["2", "3", "4"]
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), version, str(times)])
        for version in writers
    ]
    reads = 0
    while any(writer.poll() is None for writer in running):
        found = load(tmp_path)  # never half a file
        reads += found is not None
    assert [writer.wait(60) for writer in running] == [0, 0, 0]
    end = load(tmp_path)
    assert end is not None and reads
    assert end.revision == len(end.history) == times * len(writers)
    for version in writers:
        weights = [line.what.rsplit(" ", 1)[1] for line in end.history if f"canary {version} at" in line.what]
        assert weights == [f"{number / 1000:.3g}" for number in range(times)]


def test_a_repository_does_not_take_it_for_a_version(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    folder = repo / "colours"
    change(folder, put(WHOLE))
    (folder / FILE).replace(folder / "kept")
    (folder / FILE).write_text("{")
    change(folder, put(WHOLE), over_damage=True)
    assert {LOCK, FILE, DAMAGED} <= set(os.listdir(folder))
    assert find_bundles(repo) == [folder / "1"] and locate(folder) == folder / "1" == locate(repo)
