"""How many cores there are to use: those this process may run on, and its container's share of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelport.engine.cores import quota, usable_cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    return tmp_path / "groups"


def test_a_group_of_version_2_says_its_share(groups: Path, own: Path) -> None:
    write(own, "0::/pods/one\n")
    write(groups / "pods/one/cpu.max", "150000 100000\n")
    assert quota(groups, own) == 1.5


@pytest.mark.parametrize("own_share", ["max 100000\n", "800000 100000\n"])
def test_no_group_has_more_than_those_above_it(groups: Path, own: Path, own_share: str) -> None:
    write(own, "0::/pods/one\n")
    write(groups / "pods/one/cpu.max", own_share)
    write(groups / "pods/cpu.max", "400000 200000\n")
    assert quota(groups, own) == 2


def test_without_a_bound_there_is_none(groups: Path, own: Path) -> None:
    assert quota(groups, own) is None  # no such file: not Linux
    write(own, "0::/\n")
    assert quota(groups, own) is None  # the topmost group says nothing
    write(groups / "cpu.max", "max 100000\n")
    assert quota(groups, own) is None
    write(own, "4:cpu:/\n")
    write(groups / "cpu/cpu.cfs_quota_us", "-1\n")
    write(groups / "cpu/cpu.cfs_period_us", "100000\n")
    assert quota(groups, own) is None


@pytest.mark.parametrize(
    ("controllers", "mounted"), [("cpu", "cpu"), ("cpu,cpuacct", "cpu,cpuacct"), ("cpu,cpuacct", "cpu")]
)
def test_a_group_of_version_1_says_its_share(groups: Path, own: Path, controllers: str, mounted: str) -> None:
    write(own, f"9:memory:/docker/1\n4:{controllers}:/docker/1\n0::/\n")
    write(groups / mounted / "docker/1/cpu.cfs_quota_us", "250000\n")
    write(groups / mounted / "docker/1/cpu.cfs_period_us", "100000\n")
    assert quota(groups, own) == 2.5


@pytest.mark.parametrize("path", ["/docker/1", "/../other"])
def test_in_a_container_the_path_may_be_the_hosts(groups: Path, own: Path, path: str) -> None:
    write(own, f"0::{path}\n")
    write(groups / "cpu.max", "50000 100000\n")
    assert quota(groups, own) == 0.5


@pytest.mark.parametrize(("granted", "cores"), [(None, 8), (0.2, 1), (2.0, 2), (2.5, 3), (64.0, 8)])
def test_a_part_of_a_core_is_a_core(
    monkeypatch: pytest.MonkeyPatch, granted: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("modelport.engine.cores.quota", lambda: granted)
    assert usable_cores() == cores


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group that is granted half a core."""
    top = Path("/sys/fs/cgroup")
    old = top / "cpu"
    made = (old if old.is_dir() else top) / f"modelport-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    try:
        try:
            if old.is_dir():
                (made / "cpu.cfs_quota_us").write_text("50000")
            else:
                (made / "cpu.max").write_text("50000 100000")
        except OSError as problem:
            pytest.skip(f"control groups have no processor time to grant here: {problem}")
        yield made
    finally:
        made.rmdir()


def test_a_process_in_a_container_uses_what_it_is_granted(group: Path) -> None:
    program = "import sys; sys.stdin.read(); from modelport.engine.cores import usable_cores as c; print(c())"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    (group / "cgroup.procs").write_text(str(process.pid))
    told, _ = process.communicate(timeout=60)
    assert told == "1\n"
