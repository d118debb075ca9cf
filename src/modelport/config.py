"""Defaults that a project or a machine sets: files and the environment. Knows keys, not verbs.

A flag wins over the environment (`MODELPORT_SERVE_PORT`), that over the project's file (`modelport.toml`,
or `[tool.modelport]` in `pyproject.toml`, in the current directory), that over the built-in default. In
a file each verb has a table: `[serve]`, `port = 9000`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from .errors import UsageError, did_you_mean

PREFIX = "MODELPORT"
PROJECT_FILE = "modelport.toml"
MAX_FILE_BYTES = 1 << 20


class Settings(msgspec.Struct, frozen=True):
    """What a project file sets: verb -> option -> value, and where it came from."""

    origin: str
    verbs: dict[str, dict[str, Any]]


def project_settings(folder: Path) -> Settings:
    """The settings of the project in `folder`; empty where it has none.

    Raises:
        UsageError: the file is not TOML, or a verb's settings are no table.
    """
    own = folder / PROJECT_FILE
    if own.is_file():
        return _settings(_read(own), PROJECT_FILE)
    shared = folder / "pyproject.toml"
    if shared.is_file():
        tables = _read(shared).get("tool", {}).get("modelport", {})
        return _settings(tables, "pyproject.toml [tool.modelport]")
    return Settings("", {})


def check_known(settings: Settings, verbs: Iterable[str], verb: str, options: Iterable[str]) -> None:
    """Refuse a table that is no verb's, and in the table of `verb` what is none of its `options`.

    Raises:
        UsageError: with the nearest spelling.
    """
    for name in settings.verbs:
        _check_name(name, verbs, f"verb in {settings.origin}")
    for name in settings.verbs.get(verb, {}):
        _check_name(name, options, f"option of {verb} in {settings.origin}")


def environment_name(verb: str, option: str) -> str:
    """The variable that sets an option: `MODELPORT_SERVE_PORT`."""
    return f"{PREFIX}_{verb}_{option}".upper()


def origins(settings: Settings, options: Mapping[str, Iterable[str]]) -> list[tuple[str, str, str]]:
    """Every value that is not a built-in default: (`serve.port`, value, where it comes from)."""
    found = []
    for verb, names in options.items():
        for name in names:
            variable = environment_name(verb, name)
            if variable in os.environ:
                found.append((f"{verb}.{name}", os.environ[variable], variable))
            elif name in settings.verbs.get(verb, {}):
                found.append((f"{verb}.{name}", str(settings.verbs[verb][name]), settings.origin))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path.name} is over {MAX_FILE_BYTES} bytes")
        return tomllib.loads(data.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"cannot read {path.name}: {problem}") from problem


def _settings(tables: Any, origin: str) -> Settings:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f"expected a table for each verb in {origin}", hint="[serve] then port = 9000")
    return Settings(origin, tables)


def _check_name(name: str, known: Iterable[str], what: str) -> None:
    if name not in (names := list(known)):
        raise UsageError(f"no {what} is called {name!r}", hint=did_you_mean(name, names))
