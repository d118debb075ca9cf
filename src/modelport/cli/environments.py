"""What `modelport doctor --envs` does: private environments listed, made beforehand, and cleared."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from ..emulation import machine as machines
from ..isolation import environments
from .render import console, grid, write_json


def show(*, as_json: bool) -> None:
    """Every environment on the disk, and those that would be made when they are needed."""
    there = _listed()
    known = [environments.table(name) for name in environments.names()]
    fetched = [(one.name, one.megabytes, one.purpose, one.licence) for one in known]
    fetched += [(one.name, one.megabytes, one.purpose, one.licence) for one in machines.kept()]
    if as_json:
        about = [
            {"name": name, "purpose": purpose, "licence": licence, "megabytes": megabytes}
            for name, megabytes, purpose, licence in fetched
        ]
        write_json(_report(there) | {"known": about})
        return
    rows = [(one.name, _state(one), _size(one.bytes), one.path) for one in there]
    ready = {one.name for one in there if one.made and one.current}
    rows += [
        (name, "not made", f"about {megabytes} MB", f"to {purpose}")
        for name, megabytes, purpose, _ in fetched
        if name not in ready
    ]
    console().print(grid(["environment", "state", "size", ""], rows))
    if there:
        click.echo("clear one with: modelport doctor --envs --clear NAME (or all)", err=True)


def clear(name: str, *, as_json: bool) -> None:
    """Remove environments, and say which."""
    gone = environments.clear(name)
    if as_json:
        write_json(_report(gone))
        return
    for one in gone:
        click.echo(f"cleared {one.path} ({_size(one.bytes)})")
    if not gone:
        click.echo("there was none")


def make(name: str, *, as_json: bool) -> None:
    """Make one before it is needed, as where there will be no network later."""
    for machine in machines.kept():
        if machine.name == name:
            machines.make(name, lambda step: click.echo(step, err=True))
            folder = machine.folder
            break
    else:
        wanted = environments.table(name)
        environments.make(wanted, lambda step: click.echo(step, err=True))
        folder = wanted.folder
    if as_json:
        write_json(_report([one for one in _listed() if one.path == str(folder)]))
    else:
        click.echo(f"ready: {folder}")


def _listed() -> list[environments.Environment]:
    """Those of frameworks, and what other machines are emulated with."""
    kept = {str(one.folder) for one in machines.kept()}
    return [
        msgspec.structs.replace(one, current=True) if one.path in kept else one
        for one in environments.listed()
    ]


def _report(found: list[environments.Environment]) -> dict[str, Any]:
    return {
        "schema": "modelport.environments/1",
        "folder": str(environments.root()),
        "environments": [msgspec.to_builtins(one) for one in found],
    }


def _state(one: environments.Environment) -> str:
    if not one.made:
        return "cut short: never used"
    return "ready" if one.current else "superseded"


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
