"""A18: no request ends a process; a process that ends is replaced, and what is said of health is true."""

from __future__ import annotations

import os
import signal
import time

import psutil

from .conftest import check_health
from .wire import Target, get


def executors(target: Target) -> list[psutil.Process]:
    """The processes under the server, without those that are ending."""
    found = psutil.Process(target.pid).children(recursive=True)
    return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]


def test_an_executor_that_is_killed_again_and_again_is_replaced(target: Target) -> None:
    before = len(executors(target))
    assert before, "this server has no executors to kill"
    for _ in range(3):
        for victim in executors(target):
            # Only processes that this very server started.
            os.kill(victim.pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while True:
            try:
                check_health(target)
                break
            except (AssertionError, OSError):
                assert time.monotonic() < until
                time.sleep(0.2)
    until = time.monotonic() + 60
    while len(executors(target)) < before:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert len(executors(target)) <= before + 1
    assert target.one(get("/v2/health/ready"), method="GET").status == 200
