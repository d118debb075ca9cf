"""`modelport keys`: who may call a server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from ..errors import UsageError
from ..serve.guard.keys import SCOPES, Key, Keys, Scope, new_key, read_keys, update, without
from .render import console, grid, json_option, write_json

DEFAULT_FILE = "modelport-keys.json"
_DAYS = re.compile(r"([0-9]{1,5})d")

file_option = click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help=f"The keys file, if not the one that `keys --file` names.  [default: {DEFAULT_FILE}]",
)


@click.group()
@click.option(
    "--file",
    default=DEFAULT_FILE,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The keys file; `modelport serve --keys FILE` reads it.",
)
@click.pass_context
def command(context: click.Context, file: Path) -> None:
    """Add, list and revoke the keys of a server's callers.

    The file holds a salted hash of each key, never the key. A running server notices changes within a
    second or two.
    """
    context.obj = file


@command.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("infer",),
    show_default=True,
    type=click.Choice(SCOPES),
    help="What it is for; may be given several times. No scope includes another.",
)
@click.option("--rate", help="At most so often: 100/s, 600/min, 1000/h or 5000/d.")
@click.option("--models", help="Only these models, separated by commas.")
@click.option("--expires", help="Until a day (2027-01-31, at its end in UTC) or for a number of days (90d).")
@click.option(
    "--signing", is_flag=True, help="For PAI-EAS clients, which sign: KEEPS THE KEY ITSELF in the file."
)
@file_option
@json_option
@click.pass_context
def add(
    context: click.Context,
    name: str,
    scopes: tuple[Scope, ...],
    rate: str | None,
    models: str | None,
    expires: str | None,
    signing: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Make a key for NAME and print it, this once.

    The file is made if it is not there.
    """
    path, made = file or context.obj, []
    now = datetime.now(UTC).replace(microsecond=0)

    def change(keys: Keys) -> Keys:
        keys, text = new_key(
            name,
            tuple(dict.fromkeys(scopes)),
            keys=keys,
            rate=rate,
            models=_names(models),
            created=now,
            expires=_moment(expires, now),
            signing=signing,
        )
        made.append(text)
        return keys

    keys = update(path, change)
    if as_json:
        write_json({"schema": "modelport.keys.add/1", "key": made[0], **_facts(keys.find(name))})
        return
    click.echo(made[0])
    click.echo(f"the key of {name} is above, and nowhere else: {path} holds a hash of it", err=True)


@command.command("list")
@file_option
@json_option
@click.pass_context
def list_(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Show who has a key, and what for."""
    keys, _ = read_keys(file or context.obj)
    if as_json:
        write_json({"schema": "modelport.keys.list/1", "keys": [_facts(key) for key in keys.keys]})
        return
    console().print(
        grid(
            ["name", "scopes", "models", "rate", "created", "expires"],
            [
                (
                    key.name,
                    ", ".join(key.scopes),
                    ", ".join(key.models) if key.models is not None else "all",
                    key.rate or "no limit",
                    f"{key.created:%Y-%m-%d}" if key.created else "",
                    _expiry(key),
                )
                for key in keys.keys
            ],
        )
    )


@command.command()
@click.argument("name")
@file_option
@click.pass_context
def revoke(context: click.Context, name: str, file: Path | None) -> None:
    """Take the key of NAME away."""
    path = file or context.obj
    read_keys(path)  # a file that is not there is not made by taking something out of it
    update(path, lambda keys: without(keys, name))
    click.echo(f"{name} is revoked; running servers notice within a second or two", err=True)


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"expected names separated by commas, got {text!r}")
    return names


def _moment(text: str | None, now: datetime) -> datetime | None:
    """When a key ends.

    Raises:
        UsageError: neither a day nor a number of days, or in the past.
    """
    if text is None:
        return None
    if days := _DAYS.fullmatch(text):
        return now + timedelta(days=int(days[1]))
    try:
        end = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as problem:
        raise UsageError(f"expected a day (2027-01-31) or a number of days (90d), got {text!r}") from problem
    if end <= now:
        raise UsageError(f"{text} is over")
    return end


def _expiry(key: Key) -> str:
    if key.expires is None:
        return "never"
    over = key.expires <= datetime.now(UTC)
    return f"{key.expires:%Y-%m-%d %H:%M} UTC" + (" (over)" if over else "")


def _facts(key: Key) -> dict[str, object]:
    """What may be shown of a key: all but the hash and the key."""
    return {
        "name": key.name,
        "scopes": key.scopes,
        "models": key.models,
        "rate": key.rate,
        "created": key.created,
        "expires": key.expires,
        "signing": key.signing is not None,
    }
