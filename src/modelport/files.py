"""Files that others give, read with a bound."""

from __future__ import annotations

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
