"""The one table from errors to gRPC statuses."""

from __future__ import annotations

import logging
import math

import grpc

from ...errors import ModelportError, Unavailable, Unsupported

log = logging.getLogger("modelport.serve")

STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""HTTP status of an error class -> gRPC status; what is not here is INTERNAL."""

MAX_WORDS = 1000
"""Characters of a status message: it travels in a header, and clients refuse headers over 8 KiB."""

Refusal = tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]


def refusal(problem: Exception, method: str) -> Refusal:
    """Code, words and trailing metadata for an exception, which is logged where the server is to blame."""
    if not isinstance(problem, ModelportError):
        log.error("%s failed", method, exc_info=problem)
        return grpc.StatusCode.INTERNAL, "internal error; the server's log says more", ()
    # Refusals come by the thousand when a server is asked too much; they are counted, not logged.
    if problem.http_status >= 500 and not isinstance(problem, Unavailable | Unsupported):
        log.warning("%s: %s", method, problem)
    # What went wrong on this side may name its places (paths); those stay in the log.
    words = str(problem) if problem.http_status < 500 else problem.message
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS - 1] + "…"
    return STATUS.get(problem.http_status, grpc.StatusCode.INTERNAL), words, _pause(problem)


def _pause(problem: ModelportError) -> tuple[tuple[str, str], ...]:
    """When to come again: for people and our client in seconds, for gRPC's own retries in milliseconds."""
    seconds = getattr(problem, "retry_after", None)
    if seconds is None:
        return ()
    return ("retry-after", str(math.ceil(seconds))), ("grpc-retry-pushback-ms", str(round(seconds * 1000)))
