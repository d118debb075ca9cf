"""Where what another machine needs is kept: beside the private environments, made once and never half."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ..isolation.environments import MARKER, locked, root


def folder(name: str, *parts: str) -> Path:
    """The place of this name and of what it is made of: another one for other versions."""
    return root() / f"{name}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"


def made(place: Path) -> bool:
    """Whether it is wholly made."""
    return (place / MARKER).is_file()


@contextlib.contextmanager
def making(place: Path, tell: Callable[[str], None]) -> Iterator[Path | None]:
    """An empty folder to be filled now; None where it is made already. What fails is taken away again.

    Raises:
        Unsupported: this system has no locks between processes.
    """
    if made(place):
        yield None
        return
    with locked(place, tell=lambda: tell(f"waiting: another process is making {place.name}")):
        if made(place):
            yield None
            return
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            yield place
            marker = place / f".{MARKER}"
            marker.write_text(json.dumps({"name": place.name.rpartition("-")[0]}))
            marker.rename(place / MARKER)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
