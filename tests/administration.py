"""Keys for a server, and its port for administration."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from modelport.serve.guard.keys import Keys, Scope, new_key, update


def added_key(file: Path, name: str, *scopes: Scope, **more: Any) -> str:
    """A new key in a file of keys; `more` as `new_key` has it."""
    made: list[str] = []

    def change(keys: Keys) -> Keys:
        keys, text = new_key(name, scopes, keys=keys, **more)
        made.append(text)
        return keys

    update(file, change)
    return made[0]


def administration(folder: Path) -> tuple[str, str, tuple[str, ...]]:
    """The port's address, a key of the scope `admin`, and what `modelport serve` is told of both.

    Args:
        folder: where the file of keys is written.
    """
    key = added_key(folder / "keys.json", "ops", "admin")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    options = ("--keys", str(folder / "keys.json"), "--open", "infer", "--admin-port", str(port))
    return f"http://127.0.0.1:{port}", key, options
