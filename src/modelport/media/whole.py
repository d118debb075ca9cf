"""Files that appear under their name when they are complete, and not before."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path


def new_part(path: Path, ending: str = ".part") -> Path:
    """An empty file beside `path`, to be written and renamed; the folders are made.

    Its name starts with a dot and ends with `ending`; its rights are those of any new file.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(4)}{ending}")
    part.open("xb").close()
    return part


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write in, which gets its name at the end of the block; after an error nothing is left."""
    part = new_part(path)
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
