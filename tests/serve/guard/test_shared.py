"""Buckets that processes share: one allowance, whoever is asked."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from modelport.serve.guard.rate import Bucket, Rate
from modelport.serve.guard.shared import CELLS, SharedBuckets

from ...colours import pack_colours, picture, served

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process serves on Windows")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SharedBuckets.create(tmp_path / "rates")
    return tmp_path / "rates"


def test_two_openings_are_one_bucket_and_each_name_has_its_own(path: Path) -> None:
    here, there = SharedBuckets(path), SharedBuckets(path)
    rate = Rate(4, 1.0)
    assert [each.take("ada", rate, 10.0) for each in (here, there, here, there)] == [0.0] * 4
    assert here.take("ada", rate, 10.0) == there.take("ada", rate, 10.0) == pytest.approx(0.25)
    assert there.take("bob", rate, 10.0) == 0.0
    assert there.take("ada", rate, 10.3) == 0.0


def test_it_is_the_same_bucket_as_in_one_process(path: Path) -> None:
    shared, rate = SharedBuckets(path), Rate(5, 2.0)
    alone = Bucket(rate)
    for step in range(200):
        now = 50 + step * 0.13
        assert shared.take("x", rate, now) == alone.take(now)


def test_more_callers_than_cells_are_still_answered(path: Path) -> None:
    shared, rate = SharedBuckets(path), Rate(1, 3600.0)
    for number in range(CELLS + 5000):
        shared.take(f"caller {number}", rate, 1.0)
    assert shared.take(f"caller {CELLS + 4999}", rate, 1.0) > 0, "the latest are known"
    assert path.stat().st_size < 2 << 20


def _takes(path: Path, rounds: int) -> int:
    shared = SharedBuckets(path)
    return sum(shared.take("all", Rate(500, 3600.0), 7.0) == 0.0 for _ in range(rounds))


def test_processes_at_once_take_each_token_once(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        taken = pool.starmap(_takes, [(path, 400)] * 3)
    assert sum(taken) == 500


def test_a_rate_holds_over_all_workers(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    keys = tmp_path / "keys.json"
    made = subprocess.run(
        [sys.executable, "-m", "modelport", "keys", "add", "ci", "--rate", "6/h", "--file", str(keys)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    with served(repo / "colours", "--workers", "2", "--keys", str(keys)) as (url, _):
        codes = []
        for _ in range(24):  # a new connection each, so that both workers are asked
            request = urllib.request.Request(
                f"{url}/predict/colours", picture("red"), {"Authorization": f"Bearer {key}"}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    codes.append(answer.status)
            except urllib.error.HTTPError as problem:
                codes.append(problem.code)
    assert codes.count(200) == 6 and codes.count(429) == 18
