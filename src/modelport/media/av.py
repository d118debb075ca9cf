"""PyAV (FFmpeg's libraries), imported when a video is read or written and not before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..errors import ModelportError, Unsupported

INSTALL = "pip install 'modelport[video]'"


def load_av() -> Any:
    """The module `av`.

    Raises:
        Unsupported: it is not installed, or does not load; with the command that installs it.
    """
    try:
        import av
        import av.error
        import av.logging
    except ImportError as problem:
        raise Unsupported(f"video needs PyAV, which does not load: {problem}", hint=INSTALL) from problem
    # FFmpeg tells of every damaged block on standard error; what matters is counted or raised.
    av.logging.set_level(None)
    return av


@contextlib.contextmanager
def translated(to: type[ModelportError], what: str, hint: str | None = None) -> Iterator[None]:
    """FFmpeg's errors as `to`, with `what` failed in front of FFmpeg's own words.

    Raises:
        OSError: the disk's own no (full, no right to write) stays what it is.
    """
    av = load_av()
    try:
        yield
    except av.error.FFmpegError as problem:
        words = problem.strerror or str(problem)
        raise to(f"{what}: {words}", hint=hint) from problem
