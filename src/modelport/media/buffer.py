"""What is handed from a thread that reads to the one that works: bounded, in order."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.1


class Buffer(Generic[T]):
    """Up to `size` items. When it is full the giver waits, or with `newest` the oldest item is dropped."""

    def __init__(self, size: int, *, newest: bool) -> None:
        self.dropped = 0
        self._size = size
        self._newest = newest
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._error: BaseException | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether nobody takes items any more."""
        return self._stopped

    def put(self, item: T) -> bool:
        """Hand one over; False: nobody takes them any more."""
        with self._changed:
            while len(self._items) >= self._size and not self._newest and not self._stopped:
                self._changed.wait(_LOOK_SECONDS)
            if self._stopped:
                return False
            if len(self._items) >= self._size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self) -> T:
        """The oldest item, when there is one.

        Raises:
            StopIteration: there are no more. Whatever `finish` was given, after the last item.
        """
        with self._changed:
            while not self._items and not self._finished and not self._stopped:
                self._changed.wait(_LOOK_SECONDS)
            if self._items and not self._stopped:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None and not self._stopped:
                raise self._error
            raise StopIteration

    def poll(self) -> T | None:
        """The oldest item if there is one now; None: not now, or never more."""
        with self._changed:
            if not self._items or self._stopped:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self, error: BaseException | None = None) -> None:
        """No more items come; `error` is raised to the one who takes, behind the last."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake both sides and end. Takes no lock, so that a signal handler may call it."""
        self._stopped = True
