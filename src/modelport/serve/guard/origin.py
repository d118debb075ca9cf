"""Which names and which pages may talk to this server: against DNS rebinding and foreign pages. No I/O.

A browser sends requests for every page it has open, and a server on the loopback is in its reach. Headers
that a page cannot forge give it away: `Host` is the name in the page's address (under DNS rebinding the
attacker's, though it leads here), and `Origin` or `Sec-Fetch-Site` says whose page asks.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address

from ...errors import Forbidden, UsageError
from .eas import Headers

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing here, and without CORS a foreign page cannot read what they answer."""

# Names without a port, or an address, bracketed if it is IPv6 (RFC 9110, 7.2).
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")

ALLOW_METHODS = "GET, POST, PUT, DELETE"
# Names of headers (RFC 9110, 5.6.2).
_HEADERS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
EXPOSE_HEADERS = "inference-header-content-length, retry-after, server-timing, x-request-id"


@lru_cache(512)
def allowed_host(host: str | None, bound: str, names: tuple[str, ...] = ()) -> bool:
    """Whether a request with this `Host` is meant for a server that listens on `bound`.

    Args:
        host: the header's value; None if there is none (no browser leaves it out).
        bound: the address listened on. On a loopback address only `localhost` and loopback addresses are
            this server's names, besides `names`.
        names: the server's names (without port), for one that is reached through a proxy or that
            listens on every address and shall answer to these alone.
    """
    if host is None:
        return True
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].rstrip(".").lower()
    if name in {each.lower() for each in names}:
        return True
    if is_loopback(bound) or names:
        return is_loopback(name)
    return True


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    name = name.strip("[]")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def check_site(method: str, headers: Headers, origins: Collection[str] = ()) -> None:
    """Refuse a request that a page of another origin makes the browser send, if it could change something.

    Args:
        origins: those that are allowed to all the same.

    Raises:
        Forbidden: the browser says that the page is another's.
    """
    if method in SAFE_METHODS:
        return
    # Before Origin: behind a proxy that changes Host, only this header knows that the page is our own.
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none") or (site is None and origin is None) or origin in origins:
        return
    if site is None and origin is not None and same_origin(origin, headers.get("host")):
        return
    who = f"pages of {origin[:120]!r}" if origin else "a page of another origin"
    raise Forbidden(f"{who} may not do this", hint="serve with --cors-origin to allow an origin")


def check_origin(text: str) -> str:
    """An origin as browsers send it, for `--cors-origin`.

    Raises:
        UsageError: anything but scheme://host[:port]; `*` above all.
    """
    scheme, _, host = text.partition("://")
    if scheme.lower() not in ("http", "https") or not _HOST.fullmatch(host):
        raise UsageError(
            f"expected an origin, scheme://host[:port] and nothing more, got {text!r}",
            hint="https://app.example.com; `*` is not taken: it would let every page in the world in",
        )
    if text != text.lower():
        raise UsageError(f"browsers send origins in lower case, got {text!r}", hint=text.lower())
    return text


def cors_headers(origin: str | None, origins: Collection[str]) -> list[tuple[str, str]]:
    """What a reply needs so that a page of `origin` may read it; empty for pages that may not."""
    if not origins:
        return []
    # Whether or not this origin may: a cache must not give one's reply to another.
    vary = ("vary", "origin")
    if origin not in origins or origin is None:
        return [vary]
    return [
        vary,
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", EXPOSE_HEADERS),
    ]


def preflight(headers: Headers, origins: Collection[str]) -> list[tuple[str, str]]:
    """The headers that answer a browser's `OPTIONS`; none that allow where the origin may not.

    A page that may ask may send every header: those by which a rollout chooses have names of the operator's.
    """
    allowed = cors_headers(headers.get("origin"), origins)
    if len(allowed) < 2:
        return allowed
    asked = headers.get("access-control-request-headers") or ""
    return [
        *allowed[:2],
        ("access-control-allow-methods", ALLOW_METHODS),
        *([("access-control-allow-headers", asked)] if _HEADERS.fullmatch(asked) else []),
        ("access-control-max-age", "600"),
    ]


def same_origin(origin: str, host: str | None) -> bool:
    """Whether an origin is this server, by its own `Host`. The scheme is left out: a proxy may end TLS."""
    return host is not None and origin.partition("://")[2].lower() == host.lower()
