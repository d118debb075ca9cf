"""Ctrl-C and SIGTERM as a wish to end: what was begun is finished, and what was written stays whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the user wants an end. The first signal asks for it; a second one interrupts at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._waiting = False
        self._then: list[Callable[[], None]] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take the signals while the block runs; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            signal.signal(number, self._signalled)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def calling(self, function: Callable[[], None]) -> Iterator[None]:
        """Call `function` when the end is wanted; it runs inside a signal handler."""
        self._then.append(function)
        try:
            yield
        finally:
            self._then.remove(function)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """While the block waits for somebody else, a signal raises KeyboardInterrupt at once."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.wanted or self._waiting:
            raise KeyboardInterrupt
        self.wanted = True
        for function in self._then:
            function()
