"""One version of one model, as a repository keeps it: its bundle, whether it answers, and why not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ..bundle.layout import version_key
from ..bundle.store import Bundle
from ..errors import BundleError, NotFound
from .disk import Broken, Files, files_in
from .model import LiveModel

State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


class Entry(msgspec.Struct, eq=False):
    """One version of one model: `model` is there while it answers, `reason` says why it does not."""

    bundle: Bundle
    model: LiveModel | None = None
    reason: str = ""
    state: State = "UNAVAILABLE"
    failed: bool = False
    """Whether it did not load: it is not tried again until its files change, or it is asked for by name."""
    files: Files = frozenset()
    """What its files looked like when it did not load."""
    replacement: Entry | None = None
    """Another bundle that took its place on the disk, until that answers instead."""
    superseded: bool = False
    """Whether it is not among the versions to load: it does not come back by waiting."""
    removed: bool = False
    """Whether it is gone from the folder."""
    wanted: bool | None = None
    """Asked for by name (True), or unloaded by name (False); None leaves it to the version policy."""
    elsewhere: bool = False
    """Whether it answers in another process: told to one that starts, and forgotten once it has loaded."""

    def standing(self) -> tuple[State, str]:
        """Its state and the reason, as everybody is told: one without a living executor answers nobody."""
        if self.model is not None and not self.model.healthy:
            return "UNAVAILABLE", "no executor answers"
        return self.state, self.reason

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.bundle.manifest.version


Entries = dict[str, dict[str, Entry]]
"""By model and version, oldest version first."""


def renewed(
    entries: Entries,
    bundles: Iterable[Bundle],
    damaged: Collection[Path],
    let_go: Collection[tuple[str, str]] = (),
) -> Entries:
    """The entries after a look at the disk: of `bundles`, which were found there, and of what answers still.

    Args:
        damaged: where something was found that is no bundle: what answers from there stays until it is one.
        let_go: names and versions that were unloaded by name while they were damaged.
    """
    found: Entries = {}
    for bundle in bundles:
        name, version = bundle.manifest.name, bundle.manifest.version
        entry = _renewed(entries.get(name, {}).get(version), bundle)
        if (name, version) in let_go and entry.model is None:
            entry.wanted, entry.reason = False, "unloaded"
        found.setdefault(name, {})[version] = entry
    for name, versions in entries.items():
        for version, entry in versions.items():
            if entry.model is not None and version not in found.get(name, {}):
                # It answers from memory until another version can, or what takes its place is whole.
                entry.removed = entry.bundle.path not in damaged
                found.setdefault(name, {})[version] = entry
    return {
        name: dict(sorted(versions.items(), key=lambda each: version_key(each[0])))
        for name, versions in found.items()
    }


def unfinished(broken: Iterable[Broken], entries: Iterable[Entry]) -> list[Path]:
    """Bundles that cannot be read or did not load, as they were: they may be on their way still."""
    tried = [entry.replacement or entry for entry in entries]
    return [each.path for each in broken] + [each.bundle.path for each in tried if each.failed]


def check_whole(
    broken: Iterable[Broken], versions: Mapping[str, Entry], name: str, version: str | None
) -> None:
    """Raises BundleError where what is to be loaded lies damaged on the disk.

    Args:
        broken: what is there and is no bundle.
        versions: the model's that are known, those that answer from memory too.
        version: the one to load; None for the newest.
    """
    known = versions.get(version or "")
    newest = max(map(version_key, versions), default=None)
    for each in broken:
        if version is not None:
            meant = each.version == version or (known is not None and known.bundle.path == each.path)
        else:
            meant = newest is None or version_key(each.version) >= newest
        if each.name == name and meant:
            raise BundleError(
                f"{name!r} version {each.version} is no bundle: {each.reason}",
                hint="put it there again, whole, or load another version; what answered before still does",
            )


def named(versions: Mapping[str, Entry], name: str, version: str | None) -> Entry:
    """The version that is to be loaded by name; None: the newest that is on the disk.

    Raises:
        NotFound: there is none such.
    """
    there = {each.version: each for each in versions.values() if not each.removed}
    chosen = version or next(reversed(there), "")
    if chosen not in there:
        which = f"version {chosen!r}" if chosen else "version on the disk"
        raise NotFound(f"model {name!r} has no {which}", hint=f"it has {', '.join(there) or 'none'}")
    return there[chosen]


def to_answer(versions: Mapping[str, Entry], keep: int, needed: Callable[[str], bool]) -> Iterator[Entry]:
    """The versions that are to answer, newest first: those needed or asked for by name, and the policy's.

    The policy has the newest that load. Where one of them was unloaded by name no older one is loaded in its
    place; one that answers already goes on.

    Args:
        versions: each that comes is loaded before the next is asked for: what does not load holds no place.
        keep: of the newest; 0 for all.
        needed: whether a version is, by a rollout or as the default.
    """
    good = unloaded = 0
    for entry in reversed(list(versions.values())):
        if entry.removed:
            continue
        if entry.wanted is False:
            unloaded += 1
            continue
        held = 0 if entry.model is not None or entry.elsewhere else unloaded
        by_policy = entry.wanted is None and (not keep or good + held < keep)
        if by_policy or entry.wanted or needed(entry.version):
            yield entry
            good += by_policy and versions[entry.version].model is not None


def mark_wanted(versions: Mapping[str, Entry], entry: Entry, version: str | None) -> None:
    """Mark what was loaded by name: `entry` as wanted for ever; without `version` all as the policy wants."""
    entry.wanted = True if version else None
    for each in versions.values():
        if not version and each.wanted is False:
            each.wanted = None


def _renewed(old: Entry | None, bundle: Bundle) -> Entry:
    """The entry of a version that was found on the disk: the one there was, as long as nothing changed."""
    if old is None:
        return Entry(bundle)
    old.removed = False
    if old.model is not None:
        if old.bundle.digest == bundle.digest:
            old.replacement, old.reason = None, ""
        elif old.replacement is None or not _unchanged(old.replacement, bundle):
            old.replacement = Entry(bundle)
        return old
    if _unchanged(old, bundle):
        return old
    return Entry(bundle, wanted=old.wanted, reason="unloaded" if old.wanted is False else "")


def _unchanged(entry: Entry, bundle: Bundle) -> bool:
    """Whether trying it again would give the same."""
    if entry.bundle.digest != bundle.digest:
        return False
    return not entry.failed or entry.files == files_in(bundle.path)
