"""Where bundles are: one by its path, and all of a model repository (`REPO/NAME/VERSION`).

In a repository a bundle is the folder `NAME/VERSION/` or the archive `NAME/VERSION.zip`; names that
begin with a dot are passed over (a bundle being written is called so), and so is whatever is neither.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import BundleError, ModelportError, NotFound, UsageError
from .archive import ZipFiles
from .directory import DirectoryFiles
from .manifest import MANIFEST, decode_manifest

_SUFFIX = ".zip"


def files_of(path: Path) -> DirectoryFiles | ZipFiles:
    """The files of the bundle at `path`, a directory or an archive.

    Links in `path` itself are resolved here, once: where a link such as `current` is moved to another
    version, whoever has it open goes on reading the version that was opened.
    """
    resolved = path.resolve()
    return DirectoryFiles(resolved) if resolved.is_dir() else ZipFiles(resolved)


def locate(path: Path) -> Path:
    """The one bundle that `path` means: a bundle, `REPO/NAME` (its newest version), or a `REPO` of one.

    Raises:
        NotFound: nothing there; the hint says what there is.
        UsageError: a repository of several models.
        BundleError: something there that is no bundle.
    """
    if not path.exists():
        archive = path.with_name(path.name + _SUFFIX) if path.name else path
        if archive.is_file():
            return archive
        raise _missing(path)
    if not path.is_dir():
        return _archive(path)
    if os.path.lexists(path / MANIFEST):
        return path
    versions = _versions(path)
    if versions:
        return versions[-1]
    models = _models(path)
    if len(models) == 1:
        return _versions(models[0])[-1]
    if models:
        names = ", ".join(model.name for model in models)
        raise UsageError(f"{str(path)!r} holds {len(models)} models: {names}", hint=f"open {models[0]}, say")
    raise BundleError(
        f"no bundle in {str(path)!r}: it has no {MANIFEST} and no NAME/VERSION folders that have one",
        hint="`modelport pack` writes a bundle",
    )


def find_bundles(repo: str | os.PathLike[str], *, claims: bool = True) -> list[Path]:
    """Every bundle of a model repository, by name, then oldest version first; none is opened.

    Args:
        repo: `REPO`, or `REPO/NAME` for one model of it.
        claims: whether two that claim one name and version are an error; else all are returned.

    Raises:
        NotFound: no such folder, or it has no `NAME/VERSION/` and no `NAME/VERSION.zip` (a bundle itself
            has none).
        BundleError: two bundles whose manifests claim one name and version.
    """
    folder = Path(repo)
    models = _models(folder) if folder.is_dir() else []
    if not models and folder.is_dir() and not os.path.lexists(folder / MANIFEST):
        models = [folder]
    found = [version for model in models for version in _versions(model)]
    if not found:
        raise NotFound(
            f"no model repository at {str(folder)!r}", hint="expected a folder of NAME/VERSION/ folders"
        )
    owners: dict[tuple[str, str], Path] = {}
    for path in found if claims else ():
        claim = _claim(path)
        owner = owners.setdefault(claim, path) if claim else path
        if claim and owner != path:
            raise BundleError(
                f"{claim[0]} {claim[1]} is claimed twice, by {owner} and by {path}",
                at=str(folder),
                hint=f"a new version says so in its own {MANIFEST}; a copy of a folder does not make one",
            )
    return found


def newest_version(model: Path) -> str | None:
    """The newest of a model's versions in a repository; None where there is none."""
    found = _versions(model) if model.is_dir() else []
    return _version_name(found[-1]) if found else None


def version_key(version: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Orders versions as people read them: `9` < `10`, `1.9` < `1.10`, `2.0-rc1` < `2.0` < `2.0.1`.

    A version is cut into numbers and words. At one place a word comes before the end of the version,
    the end before a number; the spelling itself breaks ties (`1` and `01`). A leading `v` counts for
    nothing.
    """
    parts: list[tuple[int, int, str]] = []
    for part in re.findall(r"[0-9]+|[^0-9._+-]+", re.sub(r"^[vV](?=[0-9])", "", version)):
        # Longer than any number that means something, and than what `int` would take.
        number = int(part) if part[0] in "0123456789" and len(part) <= 64 else None
        parts.append((0, 0, part) if number is None else (2, number, ""))
    return (*parts, (1, 0, "")), version


def _archive(path: Path) -> Path:
    if not path.is_file():
        raise BundleError(f"{str(path)!r} is neither a folder nor a regular file")
    if path.name == MANIFEST:
        return path.parent
    if path.suffix.lower() != _SUFFIX:
        raise BundleError(
            f"{str(path)!r} is not a bundle: expected a folder with a {MANIFEST}, or a .zip of one",
            hint=f"if it is a trained model: modelport pack {path} --recipe RECIPE -o REPO",
        )
    return path


def _missing(path: Path) -> ModelportError:
    hint = None
    if path.parent.is_dir():
        known = [_version_name(at) for at in _versions(path.parent)]
        what = "versions"
        if not known:
            known, what = [at.name for at in _models(path.parent)], "models"
        if known:
            hint = f"{what} in {path.parent}: {', '.join(known)}"
    return NotFound(f"no bundle at {str(path)!r}", hint=hint)


def _models(repo: Path) -> list[Path]:
    return [path for path in _visible(repo) if path.is_dir() and _versions(path)]


def _versions(model: Path) -> list[Path]:
    """The bundles directly in a folder, oldest first; a link to one that is here too is left out."""
    found = [path for path in _visible(model) if _is_version(path)]
    real = {path.resolve() for path in found if not path.is_symlink()}
    found = [path for path in found if not path.is_symlink() or path.resolve() not in real]
    return sorted(found, key=lambda path: (version_key(_version_name(path)), path.name))


def _is_version(path: Path) -> bool:
    if path.is_dir():
        return os.path.lexists(path / MANIFEST)
    return path.suffix == _SUFFIX and path.is_file()


def _version_name(path: Path) -> str:
    return path.name if path.is_dir() else path.name.removesuffix(_SUFFIX)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as problem:
        raise BundleError(f"cannot list {str(folder)!r}: {problem.strerror}") from problem


def _claim(path: Path) -> tuple[str, str] | None:
    """The name and version in a bundle's manifest; None where it cannot be read: opening it says why."""
    try:
        manifest = decode_manifest(files_of(path).manifest())
    except BundleError:
        return None
    return manifest.name, manifest.version
