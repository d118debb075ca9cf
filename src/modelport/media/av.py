"""PyAV (FFmpeg's libraries), imported when a video is read or written and not before."""

from __future__ import annotations

from typing import Any

from ..errors import Unsupported

INSTALL = "pip install 'modelport[video]'"
_OLDEST = 17  # before, the colours of written video are mixed up


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
    if int(av.__version__.partition(".")[0]) < _OLDEST:
        raise Unsupported(f"video needs PyAV {_OLDEST} or newer, got {av.__version__}", hint=INSTALL)
    # FFmpeg tells of every damaged block on standard error; what matters is counted or raised.
    av.logging.set_level(None)
    return av
