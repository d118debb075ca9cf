"""One version of one model, as a repository keeps it: its bundle, whether it answers, and why not."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..bundle.store import Bundle
from .disk import Files, files_in
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
    """Whether it was let go for a newer one: it does not come back by waiting."""
    removed: bool = False
    """Whether it is gone from the folder."""
    wanted: bool | None = None
    """Asked for by name (True), or unloaded by name (False); None leaves it to the version policy."""

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


def renewed(old: Entry | None, bundle: Bundle) -> Entry:
    """The entry of a version that was found on the disk: the one there was, as long as nothing changed."""
    if old is None:
        return Entry(bundle)
    same = old.bundle.digest == bundle.digest
    if old.model is not None:
        if same:
            old.replacement = None
        elif old.replacement is None or not _unchanged(old.replacement, bundle):
            old.replacement = Entry(bundle, wanted=old.wanted)
        return old
    if same and old.failed and not _unchanged(old, bundle):
        return Entry(bundle, wanted=old.wanted)
    return old if same else Entry(bundle)


def _unchanged(entry: Entry, bundle: Bundle) -> bool:
    """Whether trying it again would give the same."""
    if entry.bundle.digest != bundle.digest:
        return False
    return not entry.failed or entry.files == files_in(bundle.path)
