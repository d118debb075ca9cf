"""Where the server is and how it is spoken to: what a client is made with, judged once.

Nothing here opens a file or a connection, but for `TLS.context`.
"""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

import msgspec

from .._version import __version__
from ..errors import UsageError
from .http1 import Encoding, header_lines
from .retry import Retries

if TYPE_CHECKING:
    import ssl

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""Further headers of every request; a function is asked before each (a trace's `traceparent`, say)."""

DEFAULT_URL = "http://127.0.0.1:8000"
MAX_REPLY = 1 << 30
"""Bytes of one reply, unless told otherwise."""


class Unset(enum.Enum):
    """An argument that was not given, where None means something."""

    UNSET = "not given"


UNSET: Literal[Unset.UNSET] = Unset.UNSET
Timeout = float | None | Literal[Unset.UNSET]
"""Seconds for the whole call; None: no limit; not given: the client's own."""


class Address(msgspec.Struct, frozen=True):
    """A server's URL, taken apart."""

    scheme: Literal["http", "https", "grpc", "grpcs"]
    host: str
    port: int
    prefix: str
    """What every path begins with, without a slash at its end; usually empty."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.prefix}"

    @property
    def netloc(self) -> str:
        """Host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme in ("https", "grpcs")


class TLS(msgspec.Struct, frozen=True, kw_only=True):
    """What a secure connection is checked with, and shows of itself. Paths of PEM files.

    There is no switch that turns the check off: a server with a certificate of its own making is trusted by
    naming that certificate as `ca`.
    """

    ca: str | Path | None = None
    """The authorities to trust; without it those of the system."""
    cert: str | Path | None = None
    """This client's certificate, with its chain."""
    key: str | Path | None = None
    """Its private key, if it is in a file of its own."""

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise UsageError("TLS(key=…) is a certificate's key", hint="TLS(cert=…, key=…)")

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            UsageError: one is missing, or holds something else.
        """
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except OSError as problem:  # ssl.SSLError is one
            raise UsageError(
                f"TLS(ca={self.ca!s}, cert={self.cert!s}, key={self.key!s}): {problem}", hint="PEM files"
            ) from problem
        context.set_alpn_protocols(["http/1.1"])
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The bytes of `ca`, key and `cert`, as grpc takes them.

        Raises:
            UsageError: a file cannot be read.
        """
        try:
            ca, cert, key = (Path(p).read_bytes() if p else None for p in (self.ca, self.cert, self.key))
        except OSError as problem:
            raise UsageError(f"TLS: {problem}", hint="PEM files") from problem
        return ca, key or cert, cert


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a client is told when it is made."""

    address: Address
    key: str | None
    timeout: float | None
    retries: Retries
    connections: int
    connect_timeout: float
    headers: Headers | None
    compression: Encoding | None
    tls: TLS
    max_reply: int

    def always(self) -> bytes:
        """The header lines of every request."""
        lines = [("Host", self.address.netloc), ("User-Agent", f"modelport-client/{__version__}")]
        if self.compression:
            lines.append(("Accept-Encoding", self.compression))
        if self.key is not None:
            lines.append(("Authorization", f"Bearer {self.key}"))
        return header_lines(lines)

    def further(self) -> Mapping[str, str]:
        """The caller's own headers for the next request."""
        if self.headers is None:
            return {}
        return self.headers() if callable(self.headers) else self.headers

    def seconds(self, timeout: Timeout) -> float | None:
        """The time that one call has.

        Raises:
            UsageError: no positive number.
        """
        return self.timeout if isinstance(timeout, Unset) else positive(timeout, "timeout")


def settings_of(
    url: str,
    *,
    key: str | None,
    timeout: float | None,
    retries: int | Retries,
    connections: int,
    connect_timeout: float,
    headers: Headers | None,
    compression: Encoding | None,
    tls: TLS | None,
    max_reply: int,
) -> Settings:
    """Judge what a client is made with.

    Raises:
        UsageError: something of it makes no sense.
    """
    address = address_of(url)
    if connections < 1 or max_reply < 1:
        raise UsageError(f"connections={connections}, max_reply={max_reply}: expected 1 or more")
    if compression not in (None, "gzip", "deflate"):
        raise UsageError(f"compression={compression!r}: expected 'gzip', 'deflate' or None")
    if tls is not None and not address.secure:
        raise UsageError(f"tls is given and {address} is not secure", hint=f"{address.scheme}s://…")
    settings = Settings(
        address=address,
        key=key,
        timeout=positive(timeout, "timeout"),
        retries=retries if isinstance(retries, Retries) else Retries(most=retries),
        connections=connections,
        connect_timeout=positive(connect_timeout, "connect_timeout") or math.inf,
        headers=headers,
        compression=compression,
        tls=tls or TLS(),
        max_reply=max_reply,
    )
    settings.always()  # a key that HTTP does not carry is refused here and not at the first call
    if isinstance(headers, Mapping):
        header_lines(headers)
    return settings


def address_of(url: str) -> Address:
    """A URL taken apart.

    Raises:
        UsageError: another scheme, no host, or parts that have no meaning here.
    """
    hint = "http://HOST:PORT, https://HOST, grpc://HOST:PORT or grpcs://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise UsageError(f"{url!r} is not a URL: {problem}", hint=hint) from problem
    scheme, host = parts.scheme, parts.hostname
    if scheme not in ("http", "https", "grpc", "grpcs") or not host:
        raise UsageError(f"{url!r} is not a server's URL", hint=hint)
    if parts.username is not None:  # the URL is not repeated: it holds a secret
        raise UsageError("the URL has a user in it", hint="a key is given as key=…")
    if parts.query or parts.fragment:
        raise UsageError(f"expected scheme, host, port and perhaps a path in the URL, got {url!r}", hint=hint)
    grpc = scheme.startswith("grpc")
    prefix = parts.path.rstrip("/")
    if grpc and (prefix or port is None):
        raise UsageError(f"{url!r}: gRPC has a port and no path", hint=hint)
    if not host.isascii() or not (host.replace(":", "").replace(".", "").replace("-", "").isprintable()):
        raise UsageError(f"{url!r}: the host is not ASCII", hint="give an international name in punycode")
    default = 443 if scheme == "https" else 80
    return Address(scheme, host, port if port is not None else default, quote(prefix, safe="/%"))  # type: ignore[arg-type]


def positive(value: float | None, name: str) -> float | None:
    """A number of seconds, or None.

    Raises:
        UsageError: zero, negative, or no number. Infinity is None.
    """
    if value is None or value == math.inf:
        return None
    if not value > 0:
        raise UsageError(f"{name}={value!r}: expected seconds above 0, or None for no limit")
    return float(value)


def owner() -> int:
    """The process that a connection belongs to: a child that was forked must not use its parent's."""
    return os.getpid()
