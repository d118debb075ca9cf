"""The live versions of every model: which are loaded, which failed and why, which one a name means.

A repository on disk is looked at again whenever it changes. A new version takes over when it answers and
not before; the old one then finishes what it has taken and gives its memory back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..bundle.store import Bundle
from ..errors import BundleError, ModelportError, NotFound
from ..monitor.metrics import Metrics, ModelMetrics
from .arena import Arena
from .disk import Broken, Files, damaged, files_in, fingerprint, read_repository
from .entry import Entries, Entry, check_whole, mark_wanted, named, renewed, to_answer, unfinished
from .model import LiveModel
from .retiring import Retiring
from .settings import EngineSettings
from .tasks import Operations, nobody, to_the_end
from .unanswered import refused, taken_over, unknown_version

log = logging.getLogger("modelport.engine")


class Repository:
    """Models by name and version; the newest ready version answers for a bare name.

    Args:
        source: the folder of a model repository, or bundles.
        settings: how models are run.
        metrics: where versions are counted.
        keep: newest versions of a model that are loaded; 0 for all.
        arena: memory shared with the executors; by default one is made.
    """

    def __init__(
        self,
        source: Path | Sequence[Bundle],
        settings: EngineSettings | None = None,
        *,
        metrics: Metrics | None = None,
        keep: int = 1,
        arena: Arena | None = None,
    ) -> None:
        self.settings = settings or EngineSettings()
        self.metrics = metrics or Metrics()
        self.arena = arena or Arena()
        self.folder = source if isinstance(source, Path) else None
        self.broken: list[Broken] = []
        """What is in the folder and is no bundle: told by the index, and in the log."""
        self.let_go: set[tuple[str, str]] = set()
        """Which of these, by name and version, were unloaded by name: not loaded when they are whole."""
        self.also_wanted: Callable[[str], Iterable[str]] = lambda name: ()
        """Versions of a model that a rollout needs loaded beside the newest; the one that answers first."""
        self.choose: Callable[[str], str | None] = lambda name: None
        """The version that a bare name means for the request at hand; None for the newest."""
        self.on_ready: Callable[[LiveModel], None] = lambda model: None
        """Called with a version before it answers its first request."""
        self.on_retired: Callable[[LiveModel], None] = lambda model: None
        """Called with a version that answers no more."""
        self.tell_others: Callable[[str, str, str | None], Awaitable[None]] = nobody
        """Called with what was done by name here, where other processes serve the same models."""
        self.operations = Operations()
        self._keep = keep
        self._entries: Entries = {}
        self._defaults: dict[str, str] = {}
        self._ready: dict[str, LiveModel] = {}
        self._lock = asyncio.Lock()
        self._seen: Files = frozenset()
        self._retiring = Retiring()
        self._given = () if isinstance(source, Path) else tuple(source)

    # -- life ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Know what there is, before any of it is loaded."""
        async with self._lock:
            await self._read()

    async def open(self) -> None:
        """Load what the policy wants; a version that does not load is kept with its reason."""
        await self._scan(swap=False)

    @to_the_end
    async def rescan(self) -> None:
        """Look at the folder again: load what is new and wanted, unload what is not wanted any more."""
        await self._scan(swap=True)

    async def _scan(self, *, swap: bool) -> None:
        async with self._lock:
            # Before the bundles: what comes between the two is then seen as a change.
            self._seen = await self._fingerprint()
            await self._read()
            # Every model for itself: a slow one, or one that breaks this, does not keep the others waiting.
            work = [self._apply(name, swap=swap) for name in self.names()]
            for done in await asyncio.gather(*work, return_exceptions=True):
                if done is not None:
                    raise done

    async def changed(self) -> bool:
        """Whether the folder is another one than when it was read."""
        return self._seen != await self._fingerprint()

    async def close(self) -> None:
        """Finish what every model has taken and end its executors; what still loads is cut off."""
        await self.operations.cancel()
        async with self._lock:
            for entry in self.entries():
                self._retire(entry)
            await self._retiring.finished()
        self.arena.close()

    @to_the_end
    async def load(self, name: str, version: str | None = None, *, tell: bool = True) -> None:
        """Load a version (the newest, by default), from the disk as it is now; it then stays loaded.

        Raises:
            NotFound: no such model or version.
            ModelportError: it is damaged or does not load, with the reason; what answered before still does.
        """
        async with self._lock:
            await self._read()
            check_whole(self.broken, self._entries.get(name, {}), name, version)
            entry = named(self._versions(name), name, version)
            if entry.replacement is not None:
                entry.replacement.failed = False
                entry = await self._replaced(entry)
            elif entry.model is None:
                # Where no version answers its callers are being refused: that is no time to step back.
                await self._load(entry, swap=name in self._ready)
            loaded = entry.model is not None and entry.replacement is None
            if loaded or not tell:  # where it fails the others are not told, and all want the same
                mark_wanted(self._entries[name], entry, version)
                self.let_go -= damaged(self.broken, name, version)
            await self._apply(name, swap=True)
        if not loaded:
            raise BundleError(f"{name!r} version {entry.version} did not load: {entry.reason}")
        if tell:
            await self.tell_others("load", name, version)

    @to_the_end
    async def unload(self, name: str, version: str | None = None, *, tell: bool = True) -> None:
        """Unload a version, or all of them; it stays unloaded until it is asked for by name.

        Raises:
            NotFound: no such model or version.
        """
        async with self._lock:
            known, broken = self._entries.get(name, {}), damaged(self.broken, name, version)
            entries = [each for each in known.values() if version in (None, each.version)]
            if not entries and not broken:
                self.entry(name, version)  # which says what there is
            self.let_go |= broken
            for entry in entries:
                entry.wanted = False
                self._retire(entry, "unloaded")
        await self._retiring.finished()
        if tell:
            await self.tell_others("unload", name, version)

    @to_the_end
    async def set_default(self, name: str, version: str | None, *, tell: bool = True) -> None:
        """Let a bare name mean `version`, until it is unloaded, also where newer ones come; None: the newest.

        Raises:
            NotFound: no such version. Unavailable: it is not loaded.
        """
        if version is None:
            self._defaults.pop(name, None)
        else:
            self.model(name, version)
            self._defaults[name] = version
        self._refresh(name)
        if tell:
            await self.tell_others("set_default", name, version)

    # -- asked ---------------------------------------------------------------------------------------------

    def default(self, name: str) -> str | None:
        """The version that a bare name was made to mean; None for the newest."""
        return self._defaults.get(name)

    def entries(self) -> list[Entry]:
        """Every version of every model, by name, oldest version first."""
        return [entry for name in sorted(self._entries) for entry in self._entries[name].values()]

    def names(self) -> list[str]:
        """The models' names."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        """Whether there is a model of that name, loaded or not."""
        return name in self._entries

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        return list(self._versions(name))

    def entry(self, name: str, version: str | None = None) -> Entry:
        """One version, or without `version` what a bare name means (the newest at all if none is ready).

        Raises:
            NotFound: no such model or version.
        """
        versions = self._versions(name)
        if version is None:
            version = self.choose(name)
        if version is not None:
            if version not in versions:
                raise unknown_version(versions, name, version)
            return versions[version]
        live = self._ready.get(name)
        if live is not None and live.version in versions:
            return versions[live.version]
        return list(versions.values())[-1]

    def model(self, name: str, version: str | None = None) -> LiveModel:
        """The live model that answers.

        Raises:
            NotFound: no such model or version, or it is not one of those to load.
            Unavailable: it is not ready.
        """
        if version is None:
            live = self._ready.get(name)
            if live is not None:
                chosen = self.choose(name)
                if chosen is None or chosen == live.version:
                    return live
                found = self._entries[name].get(chosen)
                # A version that a rollout names and that is gone does not fail anybody's request.
                return found.model if found and found.model else live
        entry = self.entry(name, version)
        if entry.model is None:
            raise refused(self._entries[name], entry, version)
        return entry.model

    def ready(self) -> bool:
        """Whether every model that is wanted has a version that answers."""
        return all(
            (live := self._ready.get(name)) is not None and live.healthy
            for name in self._entries
            if name in self._ready or any(self._to_answer(name))
        )

    def pids(self) -> list[int]:
        """The process ids of all executors."""
        return [pid for entry in self.entries() if entry.model for pid in entry.model.pids()]

    # -- inside ----------------------------------------------------------------------------------------------

    async def _fingerprint(self) -> Files:
        """What tells the folder from another one; always the same where there is none."""
        if self.folder is None:
            return frozenset()
        return await asyncio.to_thread(fingerprint, self.folder, unfinished(self.broken, self.entries()))

    async def _read(self) -> None:
        """Bring the entries up to date with what is on the disk."""
        bundles: Sequence[Bundle] = self._given
        if self.folder is not None:
            bundles, broken = await asyncio.to_thread(read_repository, self.folder)
            for each in broken:
                if each not in self.broken:
                    log.error("model %s version %s is no bundle: %s", each.name, each.version, each.reason)
            self.broken = broken
        self._entries = renewed(self._entries, bundles, {each.path for each in self.broken}, self.let_go)
        self.let_go.intersection_update((each.name, each.version) for each in self.broken)
        for counted in self.metrics.models():
            self._forget(counted)

    async def _apply(self, name: str, *, swap: bool) -> None:
        """Load what a rollout names, the newest versions, as many as are kept, and those asked for; then let
        the others go."""
        # Before the newest: while the one that is to answer loads, nobody gets another one's answers.
        for entry in filter(None, map(self._entries[name].get, self.also_wanted(name))):
            if entry.wanted is not False and not (entry.removed or entry.failed or entry.model):
                await self._load(entry, swap=swap)
        stay: list[Entry] = []
        for entry in self._to_answer(name):
            entry = await self._replaced(entry)
            if entry.model is None and not entry.failed:
                await self._load(entry, swap=swap)
            if entry.model is not None:
                stay.append(entry)
        taken = taken_over(self._entries[name], self.also_wanted(name), self._ready.get(name))
        for entry in list(self._entries[name].values()):
            entry.elsewhere = False
            if entry.model is not None and entry not in stay:
                self._retire(entry, "removed" if entry.removed else taken)
            if entry.model is None and entry.wanted is None and not entry.failed:
                entry.superseded = True
            if entry.removed:
                del self._entries[name][entry.version]
        if not self._entries[name]:
            del self._entries[name]
        self._refresh(name)

    def _to_answer(self, name: str) -> Iterator[Entry]:
        """The versions of a model that are to answer: see `to_answer`."""
        also = frozenset(self.also_wanted(name))
        # The default may change while versions load.
        return to_answer(
            self._entries[name], self._keep, lambda each: each in also or each == self._defaults.get(name)
        )

    async def _replaced(self, entry: Entry) -> Entry:
        """The entry that answers: another bundle that took this one's place, once that is loaded."""
        other = entry.replacement
        if other is None or entry.model is None:
            return entry
        if not other.failed:
            await self._load(other, swap=True)
        if other.model is None:
            entry.reason = f"the bundle that took its place on the disk did not load: {other.reason}"
            return entry
        other.wanted = entry.wanted
        self._entries[entry.name][entry.version] = other
        self._retire(entry, "its bundle was replaced")
        return other

    async def _load(self, entry: Entry, *, swap: bool) -> None:
        files = await asyncio.to_thread(files_in, entry.bundle.path)
        entry.state, entry.reason = "LOADING", ""
        try:
            model = await LiveModel.open(
                entry.bundle,
                self.settings,
                self.arena,
                self.metrics.model(entry.name, entry.version),
                complete=swap,
            )
        except (ModelportError, OSError) as problem:
            # Callers see this: without the place, which is a path here.
            entry.reason = problem.message if isinstance(problem, ModelportError) else "it cannot be read"
            entry.state, entry.failed, entry.files = "UNAVAILABLE", True, files
            log.error("model %s version %s did not load: %s", entry.name, entry.version, problem)
            return
        except BaseException:
            # It was cut off, or something is broken here: that says nothing of the bundle.
            entry.state = "UNAVAILABLE"
            raise
        entry.failed = entry.superseded = False
        entry.model, entry.state, entry.reason = model, "READY", ""
        log.info("model %s version %s answers, by %s", entry.name, entry.version, model.runs)
        self.on_ready(model)
        self._refresh(entry.name)

    def _retire(self, entry: Entry, reason: str = "") -> None:
        """Take a version out of service, and close it when it is through with what it took."""
        model = entry.model
        if model is None:
            return
        entry.model = entry.replacement = None
        entry.reason = reason
        entry.state = "UNLOADING"

        def ended() -> None:
            self.on_retired(model)
            log.info("model %s version %s ended%s", entry.name, entry.version, reason and f": {reason}")
            if entry.state == "UNLOADING":
                entry.state = "UNAVAILABLE"
            self._forget(model.metrics)

        self._retiring.add(model, ended)
        self._refresh(entry.name)

    def _forget(self, metrics: ModelMetrics) -> None:
        """End the series of a version, unless one that answers, loads, drains or failed counts there."""
        if self._retiring.counts(metrics):
            return
        entry = self._entries.get(metrics.name, {}).get(metrics.version)
        if entry is None or (entry.model is None and not entry.failed and entry.state != "LOADING"):
            self.metrics.forget(metrics.name, metrics.version)
        elif entry.model is None:
            metrics.executors = 0

    def _refresh(self, name: str) -> None:
        """Work out what a bare name means now."""
        versions = self._entries.get(name, {})
        chosen = self._defaults.get(name)
        live = [entry.model for entry in versions.values() if entry.model is not None]
        for model in live:
            model.metrics.ready = True
        default = next((model for model in live if model.version == chosen), None)
        if default is None:
            self._defaults.pop(name, None)
        if live:
            self._ready[name] = default or live[-1]
        else:
            self._ready.pop(name, None)

    def _versions(self, name: str) -> dict[str, Entry]:
        if name not in self._entries:
            raise NotFound(f"unknown model {name!r}", hint=f"known: {', '.join(self.names()) or 'none'}")
        return self._entries[name]
