"""A picture from an http or https address: bounded in size and time."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote

from .._version import __version__
from ..errors import InputError, NotFound, TooLarge, Unauthorized, Unavailable
from .kinds import parts_of, shown

FETCH_SECONDS = 15.0
"""How long a server may be silent before a fetch is given up."""


def fetch(url: str, limit: int, *, seconds: float = FETCH_SECONDS) -> bytes:
    """The body of an http(s) address, of at most `limit` bytes.

    Raises:
        InputError: no http(s) address, or a reply that is cut short.
        Unauthorized, NotFound: the server says no (401), or that there is nothing (other 4xx).
        TooLarge: more than `limit` bytes; no more were read.
        Unavailable: no connection, no reply in time, or the server's own error (5xx).
    """
    with _opened(url, seconds) as reply:
        announced = reply.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"{shown(url)} has {announced} bytes; at most {limit} are read")
        try:
            data: bytes = reply.read(limit + 1)
        except (OSError, HTTPException) as problem:
            raise Unavailable(f"{shown(url)} was cut short: {problem!r}") from problem
    if len(data) > limit:
        raise TooLarge(f"{shown(url)} has over {limit} bytes, the most that are read")
    if announced.isdigit() and len(data) < int(announced):
        raise InputError(f"{shown(url)} ended after {len(data)} of {announced} bytes")
    return data


def content_type(url: str, *, seconds: float = FETCH_SECONDS) -> str:
    """The media type an http(s) address announces, in lower case; the body is not read.

    Raises: as `fetch`.
    """
    with _opened(url, seconds) as reply:
        return str(reply.headers.get_content_type()).lower()


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Redirects lead to other http(s) addresses and never to files or ftp."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opened(url: str, seconds: float) -> Any:
    _check(url)
    try:
        request = urllib.request.Request(shown(url), headers={"User-Agent": f"modelport/{__version__}"})
        user, at, _ = parts_of(url).netloc.rpartition("@")
        if at:
            # Not for whomever a redirect leads to.
            token = base64.b64encode(unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {token}")
        return urllib.request.build_opener(_HttpOnly).open(request, timeout=seconds)
    except urllib.error.HTTPError as problem:
        problem.close()
        words = f"{shown(url)} answered {problem.code} {problem.reason}"
        kind = Unauthorized if problem.code == 401 else NotFound if problem.code < 500 else Unavailable
        raise kind(words) from problem
    except (OSError, HTTPException, ValueError) as problem:
        reason = getattr(problem, "reason", None) or problem
        raise Unavailable(f"cannot fetch {shown(url)}: {reason}") from problem


def _check(url: str) -> None:
    parts = parts_of(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"expected an http or https address, got {shown(url)!r}")
