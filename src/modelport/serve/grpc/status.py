"""gRPC's statuses for errors, from the HTTP statuses that every error has."""

from __future__ import annotations

import logging
from typing import NamedTuple

import grpc

from ...errors import ModelportError
from .. import refusal as http

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
"""What is not here is INTERNAL."""

APART = (413, 415)
"""The statuses that INVALID_ARGUMENT does not tell from a 400: what HTTP would say is then beside it."""
MAX_WORDS = 1000
"""Characters of a status message: it travels in a header, and clients refuse headers over 8 KiB."""


class Refusal(NamedTuple):
    """How a call ends that went wrong: the arguments of grpc's `abort`."""

    code: grpc.StatusCode
    words: str
    trailing: tuple[tuple[str, str], ...]


def refusal(problem: Exception, method: str) -> Refusal:
    """The status of an exception, which is logged where the server is to blame."""
    if not isinstance(problem, ModelportError):
        log.error("%s failed", method, exc_info=problem)
        return Refusal(grpc.StatusCode.INTERNAL, "internal error; the server's log says more", ())
    status, words, headers = http.refusal(problem, method)
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS - 1] + "…"
    trailing = [(name.lower(), value) for name, value in headers.items()]
    if status in APART:
        trailing.append(("x-http-status", str(status)))
    retry_after = getattr(problem, "retry_after", None)
    if retry_after is not None:
        # The words of gRPC's own retries.
        trailing.append(("grpc-retry-pushback-ms", str(round(retry_after * 1000))))
    return Refusal(STATUS.get(status, grpc.StatusCode.INTERNAL), words, tuple(trailing))
