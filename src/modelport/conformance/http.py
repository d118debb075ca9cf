"""One HTTP/1.1 request on a plain socket, and what came back, as it came.

No client library stands between, so that a head may lie and an odd reply is seen. Reads at most
`MAX_REPLY` bytes, for at most `timeout` seconds between two of them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import UsageError
from .verdict import Wrong

MAX_REPLY = 64 << 20


class Reply(NamedTuple):
    """A reply, with its header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as RFC 8259 has it: UTF-8, and no NaN or Infinity.

        Raises:
            Wrong: it is not JSON.
        """
        return strict_json(self.body)

    def shown(self) -> str:
        """The status and the start of the body, for a reason."""
        text = self.body[:120].decode("utf-8", "replace").replace("\n", " ")
        return f"{self.status} {text}".strip()


def strict_json(data: bytes) -> Any:
    """JSON without the extensions that Python's reader takes.

    Raises:
        Wrong: it is not JSON.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        return json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as problem:
        raise Wrong(f"the body is not JSON ({problem}): {data[:60]!r}") from problem


class Link:
    """Where a server is, and how to ask it.

    Args:
        url: `http://HOST:PORT[/prefix]` or https. timeout: seconds to wait for each piece of a reply.

    Raises:
        UsageError: not such a URL.
    """

    def __init__(self, url: str, *, timeout: float = 20.0, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not a server's URL", hint="http://127.0.0.1:8000")
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        self.prefix = parts.path.rstrip("/")
        self.timeout = timeout
        self.headers = dict(headers or {})

    def get(self, path: str, **headers: str) -> Reply:
        """GET, with header names' underscores as dashes."""
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(
        self, path: str, body: bytes | dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> Reply:
        """POST of bytes, or of an object as JSON (with its content type unless one is given)."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("POST", path, body, headers)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own.

        Raises:
            Wrong: no reply, or one that is not HTTP.
        """
        length = {} if body is None else {"Content-Length": str(len(body))}
        head = self.head(method, path, {"Connection": "close", **length, **(headers or {})})
        with self.connect() as stream:
            return self.told(stream, head + (body or b""), method)

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """The bytes of a request's head; a header that is the empty string is left out."""
        lines = {"Host": f"{self.host}:{self.port}", "Accept": "*/*", **self.headers, **headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        return f"{method} {self.prefix}/{path} HTTP/1.1\r\n{text}\r\n".encode("latin-1")

    def connect(self) -> socket.socket:
        """A fresh connection.

        Raises:
            Wrong: nobody answers there.
        """
        try:
            stream = socket.create_connection((self.host, self.port), timeout=self.timeout)
        except OSError as problem:
            raise Wrong(f"no connection to {self.host}:{self.port}: {problem}") from problem
        if not self.tls:
            return stream
        return ssl.create_default_context().wrap_socket(stream, server_hostname=self.host)

    def told(self, stream: socket.socket, data: bytes, method: str = "POST") -> Reply:
        """Send `data` on a connection and read one reply; the server may answer before it has it all.

        Raises:
            Wrong: no reply in time, or one that is not HTTP.
        """
        began = time.monotonic()
        with contextlib.suppress(OSError):  # it may have answered and closed: the reply tells
            stream.sendall(data)
        reply = http.client.HTTPResponse(stream, method=method)
        try:
            reply.begin()
            body = reply.read(MAX_REPLY) if reply.length is None else reply.read()
        except TimeoutError as problem:
            raise Wrong(f"no answer within {time.monotonic() - began:.0f} s") from problem
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise Wrong(
                f"the connection ended without a whole answer ({type(problem).__name__})"
            ) from problem
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, body)
