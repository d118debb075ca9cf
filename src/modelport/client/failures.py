"""What went wrong, in Modelport's own errors, and whether another attempt may be made. No I/O.

Inference changes nothing on the server, so a request may be repeated when its connection was refused, or
lost before a byte of the answer came, and when the server asks to come back (429, 503). Nothing else is
repeated: a request that fails on its own merits fails again, and one that failed in the middle of its
answer may be what broke the server.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from ..errors import (
    DeadlineExceeded,
    Forbidden,
    InputError,
    ModelFailed,
    ModelportError,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
    UsageError,
)

MOST_WORDS = 2000
"""Characters of a server's words that are kept."""


class BadReply(ModelportError):
    """What came back is not what the protocol says; the other side is no such server, or broken."""

    exit_code = 3
    http_status = 502


class Failed(Exception):
    """One attempt failed: `error` is what the caller would see."""

    def __init__(self, error: ModelportError, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        """Whether another attempt is safe and may help."""
        self.after = after
        """Seconds that the server asks to wait before, if it said so."""


STATUSES: dict[int, type[ModelportError]] = {
    400: InputError,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    408: DeadlineExceeded,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InputError,
    429: RateLimited,
    500: ModelFailed,
    501: Unsupported,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
"""HTTP status -> the error it becomes. Others: 4xx InputError, 3xx UsageError, the rest BadReply."""

COME_BACK = (429, 503)
"""The statuses after which another attempt may be made."""


def failed_status(
    status: int, body: Any, about: str, *, retry_after: str | None = None, location: str | None = None
) -> Failed:
    """A reply that is not a success.

    Args:
        body: the reply's bytes; `{"error": "…"}` by the protocol.
        about: what was asked, for the message if the reply has no words of its own.
        retry_after: the header `Retry-After`, in seconds or as a date.
    """
    if 300 <= status < 400:
        return Failed(
            UsageError(
                f"{about}: the server answered {status}, moved to {location or 'nowhere'}",
                hint="give the client the address that the server itself answers at",
            )
        )
    kind = STATUSES.get(status, InputError if 400 <= status < 500 else BadReply)
    words = _words(body) or f"{about}: the server answered {status} without saying why"
    after = seconds_of(retry_after)
    if issubclass(kind, Unavailable):
        error: ModelportError = kind(words, retry_after=1.0 if after is None else after)
    else:
        error = kind(words)
    return Failed(error, again=status in COME_BACK, after=after if status in COME_BACK else None)


def seconds_of(retry_after: str | None) -> float | None:
    """`Retry-After` as seconds from now (RFC 9110, 10.2.3): a number, or a date. Nonsense is None."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _seconds_to_date(retry_after)
    return max(0.0, seconds) if seconds < 1e9 else None  # not-a-number is not smaller either


def _seconds_to_date(text: str) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return float("nan")


def _words(body: Any) -> str:
    """The server's own words: `error` of a JSON object, or plain text; a page of HTML has none."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = bytes(body[: 4 * MOST_WORDS]).decode(errors="replace").strip()
        return "" if text.startswith("<") else text[:MOST_WORDS]
    error = said.get("error") if isinstance(said, dict) else None
    return error[:MOST_WORDS] if isinstance(error, str) else ""


def cannot_connect(address: str, problem: OSError) -> Failed:
    """No connection came about."""
    if isinstance(problem, TimeoutError):
        reason = "nothing answers there in time"
    else:
        reason = problem.strerror or str(problem) or type(problem).__name__
    return Failed(
        Unavailable(
            f"cannot connect to {address}: {reason}",
            hint="is the server running there? modelport serve REPO --port PORT starts one",
        ),
        again=True,
    )


def cannot_trust(address: str, problem: Exception) -> Failed:
    """The server's certificate is not one that this client trusts, or the other side speaks no TLS."""
    return Failed(
        Unavailable(
            f"no secure connection to {address}: {problem}",
            hint="name the authority that signed its certificate: tls=TLS(ca='ca.pem')",
        )
    )


def cut_before(address: str, problem: BaseException | None) -> Failed:
    """The connection was lost before a byte of the answer came."""
    why = f": {problem}" if problem is not None and str(problem) else ""
    return Failed(
        Unavailable(
            f"{address} closed the connection before it answered{why}",
            hint="the server was stopped or restarted; its log says more",
        ),
        again=True,
    )


def cut_within(address: str, got: int) -> Failed:
    """The connection was lost in the middle of the answer."""
    return Failed(
        Unavailable(
            f"{address} closed the connection in the middle of its answer, after {got} bytes",
            hint="the server's log says why; the request was not repeated, it may be what broke the server",
        )
    )


class Busy(TimeoutError):
    """The time was over before there was a connection to use."""


def too_late(about: str, timeout: float, why: str = "") -> Failed:
    """The time that the caller gave is over."""
    more = f" ({why})" if why else ""
    return Failed(
        DeadlineExceeded(
            f"{about}: no answer within {timeout:g} s{more}", hint="give it more time: timeout=SECONDS"
        )
    )
