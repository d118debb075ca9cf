"""A server's port for administration, with a key for it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from modelport.serve.guard.keys import new_key, update


def administration(folder: Path) -> tuple[str, str, tuple[str, ...]]:
    """The port's address, a key of the scope `admin`, and what `modelport serve` is told of both.

    Args:
        folder: where the file of keys is written.
    """
    made: list[str] = []

    def change(keys: Any) -> Any:
        keys, key = new_key("ops", ("admin",), keys=keys)
        made.append(key)
        return keys

    update(folder / "keys.json", change)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    options = ("--keys", str(folder / "keys.json"), "--open", "infer", "--admin-port", str(port))
    return f"http://127.0.0.1:{port}", made[0], options
