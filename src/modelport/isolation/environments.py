"""Virtual environments of Modelport's own, made from pinned tables, kept, listed and cleared.

One lies in `ROOT/NAME-DIGEST`, the digest being that of its table and of the Python it was made with; a
change of either makes another. It counts as made once its marker is written, which is the last thing that
happens: one that was cut short is never used, and is made anew. Locks keep two processes from making the
same one, and a used one from being cleared. Knows nothing of what runs in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from ..errors import NotFound, Unsupported, did_you_mean
from . import installing

VARIABLE = "MODELPORT_ENVIRONMENTS"
"""Where they are kept, in place of the user's cache."""
MARKER = "modelport-environment.json"
GROUP = "modelport.environments"

Note = Callable[[str], None]


class Install(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call of pip."""

    requirements: tuple[str, ...]
    alone: bool = False
    """Without what they depend on."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One environment's pinned set."""

    name: str
    purpose: str
    licence: str
    megabytes: int
    needs: dict[str, str]
    """Distribution, or several with `|` between them of which one will do -> the version from which on it is
    enough."""
    install: tuple[Install, ...]
    below: dict[str, str] = {}
    """Distribution -> the version from which on the current environment will no longer do."""
    python_below: str = ""
    """The first version of Python that the pinned set has no packages for."""

    @property
    def digest(self) -> str:
        """Of the pins and of the Python that they are installed for."""
        pins = msgspec.json.encode([self.install, sysconfig.get_platform(), sys.version_info[:2]])
        return hashlib.sha256(pins).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where this environment is, or would be."""
        return root() / f"{self.name}-{self.digest}"


class Environment(msgspec.Struct, frozen=True):
    """One that is on the disk."""

    name: str
    path: str
    bytes: int
    made: bool
    """False: it was cut short while it was made, and is never used."""
    current: bool
    """Whether this version of Modelport, with this Python, would use it."""


def root() -> Path:
    """The folder of all private environments: $MODELPORT_ENVIRONMENTS, or in the user's cache."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modelport" / "environments"


def table(name: str) -> Table:
    """The pinned set of one environment, Modelport's own or a plugin's.

    Raises:
        NotFound: there is none of this name. Unsupported: a plugin's that does not load.
    """
    own, added = _own(), _plugins()
    if name not in own and name in added:
        return _plugin_table(added[name])
    if name not in own:
        raise NotFound(f"no environment is called {name!r}", hint=did_you_mean(name, names()))
    data = tomllib.loads((files(__package__) / "tables" / f"{name}.toml").read_text())
    return msgspec.convert({"name": name, **data}, Table)


def names() -> list[str]:
    """All environments that there are tables for."""
    return sorted({*_own(), *_plugins()})


def _own() -> list[str]:
    tables = (files(__package__) / "tables").iterdir()
    return [entry.name.removesuffix(".toml") for entry in tables if entry.name.endswith(".toml")]


def _plugins() -> dict[str, EntryPoint]:
    """Tables of plugins: entry points of the group `modelport.environments`, each a `Table` of that name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _plugin_table(point: EntryPoint) -> Table:
    try:
        found = point.load()
    except (ImportError, AttributeError) as problem:
        raise Unsupported(
            f"the environment {point.name!r} of a plugin ({point.value}) does not load: {problem}"
        ) from problem
    if not isinstance(found, Table) or found.name != point.name:
        raise Unsupported(
            f"the environment {point.name!r} of a plugin ({point.value}) is no Table of this name",
            hint="modelport.isolation.environments.Table(name=…, needs=…, install=…)",
        )
    return found


def lacks(wanted: Table) -> list[str]:
    """What the current environment lacks of what `wanted` needs, as `name >= version` (and `, < version`)."""
    missing = []
    for distributions, least in wanted.needs.items():
        below = wanted.below.get(distributions)
        there = (_version_of(name) for name in distributions.split("|"))
        enough = any(
            found and found >= _numbers(least) and (below is None or found < _numbers(below))
            for found in there
        )
        if not enough:
            name = distributions.split("|")[0]
            missing.append(f"{name} >= {least}" + (f", < {below}" if below else ""))
    return missing


def python_of(wanted: Table) -> Path | None:
    """The interpreter of a private environment that is wholly made; None where there is none."""
    python = wanted.folder / "bin" / "python"
    return python if (wanted.folder / MARKER).is_file() and python.exists() else None


def make(wanted: Table, tell: Note) -> Path:
    """The interpreter of the environment, made now unless another process has just done it.

    Args:
        wanted: its pinned set.
        tell: told of every step.

    Raises:
        Unsupported: pip cannot be reached or fails, or the system is one that this does not work on.
    """
    folder = wanted.folder
    if (python := python_of(wanted)) is not None:
        return python  # also while somebody uses it
    refuse_python(wanted)
    with locked(
        folder, tell=lambda: tell(f"waiting: another process is making the environment {wanted.name}")
    ):
        if (python := python_of(wanted)) is not None:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        try:
            for number, step in enumerate(wanted.install):
                if number == 0:
                    installing.new(folder, tell)
                installing.install(folder, step.requirements, alone=step.alone, tell=tell)
            marker = folder / f".{MARKER}"
            marker.write_text(json.dumps({"name": wanted.name, "python": sys.version.split()[0]}))
            marker.rename(folder / MARKER)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder / "bin" / "python"


def refuse_python(wanted: Table) -> None:
    """Raises Unsupported where the pinned set has no packages for the Python that runs this."""
    here = sys.version_info[:2]
    if wanted.python_below and here >= _numbers(wanted.python_below):
        raise Unsupported(
            f"the environment {wanted.name} needs a Python below {wanted.python_below}, and this is "
            f"{here[0]}.{here[1]}",
            hint="pack with an older Python; the bundle is served with any",
        )


def listed() -> list[Environment]:
    """Every private environment on the disk, also cut-short and superseded ones."""
    found = []
    for folder in _folders():
        name = folder.name.rpartition("-")[0]
        current = name in names() and table(name).folder == folder
        made = (folder / MARKER).is_file()
        found.append(Environment(name, str(folder), _bytes_of(folder), made, current))
    return found


def clear(name: str) -> list[Environment]:
    """Remove the environments of this name, or with `all` every one; what was removed.

    Raises:
        NotFound: there is none. Unsupported: one is in use.
    """
    there = listed()
    chosen = [one for one in there if name in (one.name, Path(one.path).name, "all")]
    if not chosen and name != "all":
        known = sorted({one.name for one in there})
        hint = f"there: {', '.join(known)}" if known else "there is none at all"
        raise NotFound(f"no private environment is called {name!r}", hint=hint)
    for one in chosen:
        folder = Path(one.path)
        with locked(folder, wait=False):
            (folder / MARKER).unlink(missing_ok=True)  # first, so that what is half gone is never used
            shutil.rmtree(folder)
    return chosen


@contextlib.contextmanager
def locked(
    folder: Path, *, shared: bool = False, wait: bool = True, tell: Callable[[], None] | None = None
) -> Iterator[int]:
    """Hold the lock of an environment: shared while it is used, alone while it is made or removed.

    Yields:
        the lock's file descriptor: a process that inherits it holds the lock as long as it lives.

    Raises:
        Unsupported: it is held, and `wait` is false; or this system has no such locks.
    """
    fcntl: Any
    try:
        import fcntl
    except ImportError as problem:
        raise Unsupported(
            "private environments need Linux or macOS",
            hint="install what is missing into the current environment",
        ) from problem
    folder.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError as problem:
            if not wait:
                raise Unsupported(f"{folder} is in use", hint="try again when that is done") from problem
            if tell is not None:
                tell()
            fcntl.flock(file, kind)
        yield file.fileno()


def _folders() -> list[Path]:
    if not root().is_dir():
        return []
    return sorted(one for one in root().iterdir() if one.is_dir() and "-" in one.name)


def _bytes_of(folder: Path) -> int:
    """What the files take on the disk, a file with several names once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for place, _, inside in os.walk(folder):
        for name in inside:
            about = os.lstat(os.path.join(place, name))
            if (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                total += about.st_blocks * 512
    return total


def _version_of(distribution: str) -> tuple[int, ...]:
    """The installed version; empty where there is none."""
    try:
        return _numbers(version(distribution))
    except PackageNotFoundError:
        return ()


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    numbers = []
    for part in text.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
