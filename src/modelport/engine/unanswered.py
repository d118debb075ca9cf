"""What is said of versions that do not answer, to those who ask for them and in the index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import ModelportError, NotFound, Unavailable
from .entry import Entry
from .model import LiveModel

_LEFT_OUT = "not one of the versions to load"


def unknown_version(versions: Mapping[str, Entry], name: str, version: str) -> NotFound:
    """There is no such version."""
    known = ", ".join(versions)
    return NotFound(f"model {name!r} has no version {version!r}", hint=f"it has {known}")


def refused(versions: Mapping[str, Entry], entry: Entry, version: str | None) -> ModelportError:
    """Why `entry` does not answer somebody who asked for `version`, or by the bare name (None).

    NotFound is what waiting does not change.
    """
    model = f"model {entry.name!r}"
    if entry.superseded and entry.state != "LOADING":
        return NotFound(
            f"{model} version {entry.version} is not loaded: {entry.reason or _LEFT_OUT}",
            hint="load it by name, serve with --versions 2, or name it in a rollout",
        )
    told = [each for each in reversed(list(versions.values())) if version is None and not each.superseded]
    if len(told) < 2:
        return Unavailable(f"{model} version {entry.version} is not ready: {_why(entry)}")
    # By the bare name any of them would have done, and the newest may never have answered.
    reasons = "; ".join(f"version {each.version}: {_why(each)}" for each in told[:4])
    return Unavailable(f"{model} is not ready: {reasons}")


def taken_over(versions: Mapping[str, Entry], planned: Iterable[str], live: LiveModel | None) -> str:
    """Why a version ends that is not to be loaded any more: what answers now, which may be an older one.

    Args:
        planned: the versions of a rollout, the one that answers first.
        live: what answers where there is no rollout.
    """
    stable = next(iter(planned), None)
    if stable in versions:
        return f"version {stable} took over"
    return _LEFT_OUT if live is None else f"version {live.version} took over"


def _why(entry: Entry) -> str:
    return entry.reason or entry.state.lower()
