"""Names on standard input, read ahead by a thread so that several can be answered at a time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

from ..errors import InputError
from ..media.buffer import Buffer

_AHEAD = 64
_LONGEST = 1 << 20


def read_names() -> Buffer[str]:
    """A buffer that fills with the lines of standard input as they come, without empty ones."""
    names: Buffer[str] = Buffer(_AHEAD, newest=False)
    threading.Thread(target=_read, args=(names,), name="names", daemon=True).start()
    return names


def _read(names: Buffer[str]) -> None:
    try:
        for line in _lines():
            if (name := line.rstrip("\r\n")) and not names.put(name):
                return
    except BaseException as problem:  # noqa: BLE001 - raised again where the names are taken
        names.finish(problem)
    else:
        names.finish()


def _lines() -> Iterator[str]:
    try:
        source = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        yield from sys.stdin or ()
        return
    # Not through sys.stdin: a thread that waits inside its buffer keeps the process from ending.
    rest = b""
    while data := os.read(source, 1 << 16):
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST:
            raise InputError(f"a line of standard input is over {_LONGEST} bytes")
        for line in whole:
            yield line.decode(errors="replace")
    yield rest.decode(errors="replace")
