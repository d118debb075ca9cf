"""Where an executor process begins: at its priority from the first moment, before anything heavy is imported.

What an executor is made of (NumPy, ONNX Runtime, the steps) takes longer to import than a small network takes
to load. Beside a version that answers, all of that steps back. Started by `process.py` as
`python -m modelport.engine.start NICE SPEC`; it imports nothing at its top that takes time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

_NICE = 3


def main() -> None:
    """Load, say so, and answer until the other end of the socket is closed."""
    # The server decides when this process ends (its socket closes); signals to the group are its business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The server's few microseconds between two batches come before the next row: everybody waits for them.
    own = os.nice(_NICE)
    nice, spec = sys.argv[1:]

    def load() -> Callable[[], None]:
        from .executor import opened

        return opened(spec)

    answer = _stepping_back(own, int(nice), load)
    if int(nice):
        _level(own)
    answer()


def _stepping_back(own: int, nice: int, work: Callable[[], R]) -> R:
    """Run `work` in a thread of lower priority: a thread's priority, unlike a process's, ends with it."""
    if not nice or not sys.platform.startswith("linux"):
        return work()
    done: list[R] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + nice)
        done.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if not done:
        sys.exit(1)  # the thread has said why
    return done[0]


def _level(own: int) -> None:
    """Bring threads that were made while it stepped back (of a network on all cores) to the others' priority.

    Where the system lets a process do that: without the right to, they stay behind.
    """
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), own)


if __name__ == "__main__":
    main()
