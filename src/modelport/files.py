"""Files that others give, read with a bound."""

from __future__ import annotations

from pathlib import Path

from .errors import NotFound, TooLarge


def read_limited(path: Path, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        NotFound: it cannot be read. TooLarge: over `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise NotFound(f"cannot read {path.name!r}: {reason}") from problem
    if len(data) > limit:
        raise TooLarge(f"{path.name} is over {limit} bytes")
    return data
