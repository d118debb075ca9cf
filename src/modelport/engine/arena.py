"""Memory that the server and its executors share: large request bodies are received straight into it.

The memory has no name that another process could open; the executors inherit its descriptor.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import defaultdict

MIN_SLOT = 64 << 10
"""Bodies below this many bytes go through the socket: a copy costs less than a slot."""
_LARGE = 4 << 20


class Slot:
    """A piece of the arena that one request holds until it is released."""

    __slots__ = ("_arena", "offset", "size", "view")

    def __init__(self, arena: Arena, offset: int, size: int, view: memoryview) -> None:
        self._arena = arena
        self.offset = offset
        self.size = size
        self.view = view

    def release(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self.size:
            self._arena.give_back(self.offset, self.size)
            self.size = 0


class Arena:
    """Slots in sizes of powers of two, from a mapping of `size` bytes that uses memory only where touched."""

    def __init__(self, size: int = 1 << 30) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("modelport", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        os.ftruncate(self.descriptor, size)
        self.size = size
        self._map = mmap.mmap(self.descriptor, size)
        self._view = memoryview(self._map)
        self._top = 0
        self._free: dict[int, list[int]] = defaultdict(list)

    def take(self, size: int) -> Slot | None:
        """A slot of at least `size` bytes, or None when the arena is full: the caller then does without."""
        room = max(MIN_SLOT, 1 << (size - 1).bit_length())
        free = self._free[room]
        if free:
            offset = free.pop()
        elif self._top + room <= self.size:
            offset = self._top
            self._top += room
        else:
            return None
        return Slot(self, offset, room, self._view[offset : offset + room])

    def give_back(self, offset: int, size: int) -> None:
        """Make a slot free for the next body of its size; a large one's memory is the system's until then."""
        if size >= _LARGE and hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE, offset, size)
        self._free[size].append(offset)

    def in_use(self) -> int:
        """Bytes that are held now."""
        return self._top - sum(size * len(offsets) for size, offsets in self._free.items())

    def close(self) -> None:
        """Unmap and close, unless a slot is still looked at; the memory goes with the process then."""
        try:
            self._view.release()
            self._map.close()
        except BufferError:
            return
        os.close(self.descriptor)
