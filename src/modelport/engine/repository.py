"""The live versions of every model: which are loaded, which failed and why, which one a name means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ..bundle.layout import version_key
from ..bundle.store import Bundle
from ..errors import ModelportError, NotFound, Unavailable
from .model import LiveModel, usable_cores

log = logging.getLogger("modelport.engine")


class Entry(msgspec.Struct):
    """One version of one model: `model` is there when it is ready, `reason` when it is not."""

    bundle: Bundle
    model: LiveModel | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.bundle.manifest.version


class Repository:
    """Models by name and version; the newest ready version answers for a bare name.

    Args:
        bundles: what to load; `open` loads it.
        max_rows: the most rows in one batch of the network.
        threads: threads of one network run; by default the cores of this process.
    """

    def __init__(self, bundles: Sequence[Bundle], *, max_rows: int = 32, threads: int | None = None) -> None:
        self._entries: dict[str, dict[str, Entry]] = {}
        for bundle in sorted(bundles, key=lambda b: version_key(b.manifest.version)):
            self._entries.setdefault(bundle.manifest.name, {})[bundle.manifest.version] = Entry(bundle)
        self._max_rows = max_rows
        self._threads = threads or usable_cores()
        # Decoding and preparing are single-threaded per item and release the GIL: one thread a core.
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="modelport-pre")

    async def open(self) -> None:
        """Load every version; one that does not load is kept with its reason and the rest go on."""
        for entry in self.entries():
            try:
                # Inside the loop's thread, since a live model belongs to its loop; loading is start-up work.
                entry.model = LiveModel.open(
                    entry.bundle, self._pool, max_rows=self._max_rows, threads=self._threads
                )
            except ModelportError as problem:
                entry.reason = problem.message  # callers see this: without the place, which is a path here
                log.error("model %s version %s did not load: %s", entry.name, entry.version, problem)

    async def close(self) -> None:
        """Finish what every model has taken and free it."""
        await asyncio.gather(*(entry.model.close() for entry in self.entries() if entry.model))
        self._pool.shutdown(wait=True)

    def entries(self) -> list[Entry]:
        """Every version of every model, by name, oldest version first."""
        return [entry for name in sorted(self._entries) for entry in self._entries[name].values()]

    def names(self) -> list[str]:
        """The models' names."""
        return sorted(self._entries)

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        return list(self._versions(name))

    def entry(self, name: str, version: str | None = None) -> Entry:
        """One version, or without `version` the newest ready one (the newest at all if none is ready).

        Raises:
            NotFound: no such model or version.
        """
        versions = self._versions(name)
        if version is not None:
            if version not in versions:
                known = ", ".join(versions)
                raise NotFound(f"model {name!r} has no version {version!r}", hint=f"it has {known}")
            return versions[version]
        ready = [entry for entry in versions.values() if entry.model]
        return (ready or list(versions.values()))[-1]

    def model(self, name: str, version: str | None = None) -> LiveModel:
        """The live model that answers.

        Raises:
            NotFound: no such model or version.
            Unavailable: it did not load.
        """
        entry = self.entry(name, version)
        if entry.model is None:
            raise Unavailable(f"model {name!r} version {entry.version} is not ready: {entry.reason}")
        return entry.model

    def ready(self) -> bool:
        """Whether every model has a version that answers."""
        return all(self.entry(name).model for name in self._entries)

    def _versions(self, name: str) -> dict[str, Entry]:
        if name not in self._entries:
            raise NotFound(f"unknown model {name!r}", hint=f"known: {', '.join(self.names()) or 'none'}")
        return self._entries[name]
