"""From errors to statuses: the one table, for every way a request is answered."""

from __future__ import annotations

import logging
import math

from ..errors import ModelportError, Unauthorized, Unavailable

log = logging.getLogger("modelport.serve")


def refusal(problem: ModelportError, asked: str) -> tuple[int, str, dict[str, str]]:
    """The status, the words for the caller, and headers.

    Args:
        asked: method and path, for the log.
    """
    headers = {}
    if isinstance(problem, Unavailable):
        headers["Retry-After"] = str(math.ceil(problem.retry_after))
    elif problem.http_status >= 500:
        log.warning("%a: %s", asked[:200], problem)
    if isinstance(problem, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    # What went wrong on this side may name its places (paths); those stay in the log.
    words = str(problem) if problem.http_status < 500 else problem.message
    return problem.http_status, words, headers
