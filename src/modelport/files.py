"""Files: those that others give, read with a bound; our own, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .errors import NotFound, TooLarge


def read_limited(path: Path | str, limit: int, called: str = "") -> bytes:
    """A file's bytes.

    Args:
        called: what the errors call it; by default its name without the folder.

    Raises:
        NotFound: it cannot be read. TooLarge: over `limit` bytes.
    """
    called = called or Path(path).name
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise NotFound(f"cannot read {called!r}: {reason}") from problem
    if len(data) > limit:
        raise TooLarge(f"{called} is over {limit} bytes")
    return data


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; an existing one is replaced.

    Raises:
        OSError: it cannot be written there; nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
