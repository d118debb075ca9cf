"""A repository's folder, looked at now and then."""

from __future__ import annotations

import asyncio
import logging

from ..errors import ModelportError
from .repository import Repository

log = logging.getLogger("modelport.engine")


async def watch(repository: Repository, every: float) -> None:
    """Look at the folder every `every` seconds, and again at everything when something there changed."""
    while repository.folder is not None:
        await asyncio.sleep(every)
        try:
            if await repository.changed():
                await repository.rescan()
        except (ModelportError, OSError) as problem:
            log.error("the repository cannot be read: %s", problem)
        except Exception:
            # Whatever it was, the next look may find it gone; nobody would see that watching had ended.
            log.exception("while the repository was looked at")
