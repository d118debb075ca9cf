"""Token buckets that several processes share: one rate for a caller, whichever worker it reaches.

A file of cells is mapped by every worker; a cell holds whose bucket it is and when that is full again. A full
bucket says nothing, so its cell is free: nobody has to be forgotten, and the file never grows.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from hashlib import blake2b
from math import inf
from pathlib import Path

from .rate import Bucket, Rate

CELLS = 1 << 16
"""Callers below their full allowance that are known at once; 1 MiB of cells."""
PROBES = 32
_SALT = 16
_CELL = struct.Struct("<Qd")


class SharedBuckets:
    """The buckets of one server. Every process opens the file by itself."""

    def __init__(self, path: Path) -> None:
        """Map the file that `create` made.

        Raises:
            OSError: it is not there.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._cells = mmap.mmap(self._file, _SALT + CELLS * _CELL.size)
        self._salt = self._cells[:_SALT]

    @staticmethod
    def create(path: Path) -> None:
        """A file of free cells. The salt keeps callers from choosing addresses that share a cell."""
        with path.open("xb") as file:
            file.write(secrets.token_bytes(_SALT))
            file.truncate(_SALT + CELLS * _CELL.size)

    def take(self, who: str, rate: Rate, now: float) -> float:
        """As `Bucket.take`, for the bucket of `who`. `now` is on a clock that the processes share."""
        import fcntl  # not on Windows, where one process serves

        mark = int.from_bytes(blake2b(who.encode(), digest_size=8, key=self._salt).digest(), "little") or 1
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            place, full_at = self._find(mark, now)
            bucket = Bucket(rate, full_at)
            wait = bucket.take(now)
            if not wait:
                _CELL.pack_into(self._cells, place, mark, bucket.full_at)
            return wait
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _find(self, mark: int, now: float) -> tuple[int, float]:
        """The cell of `mark` and its moment; else a free one, else the one that is full again the soonest."""
        best, soonest = _SALT, inf
        for probe in range(PROBES):
            place = _SALT + (mark + probe) % CELLS * _CELL.size
            owner, full_at = _CELL.unpack_from(self._cells, place)
            if owner == mark:
                return place, full_at
            free_at = full_at if owner and full_at > now else -inf
            if free_at < soonest:
                best, soonest = place, free_at
        return best, -inf


class SharedBucket(Bucket):
    """One of the shared buckets, by its owner's name."""

    __slots__ = ("_buckets", "_who")

    def __init__(self, rate: Rate, who: str, buckets: SharedBuckets) -> None:
        super().__init__(rate)
        self._who = who
        self._buckets = buckets

    def take(self, now: float) -> float:
        return self._buckets.take(self._who, self.rate, now)
