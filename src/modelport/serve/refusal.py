"""From errors to statuses, and from statuses to what is counted: for every way a request is answered."""

from __future__ import annotations

import logging
import math

from ..errors import ModelFailed, ModelportError, Unauthorized, Unavailable

log = logging.getLogger("modelport.serve")

MAX_WORDS = 2000
"""Characters of an error; a name that the caller chose may be in it."""

_REASONS = {
    404: "not_found",
    406: "unsupported",
    408: "timeout",
    413: "too_large",
    414: "too_large",
    415: "unsupported",
    431: "too_large",
    501: "unsupported",
    503: "unavailable",
    504: "deadline",
    505: "invalid",
}
_ELSEWHERE = frozenset([401, 403, 429, 499])
"""What the guard counts, which knows more of it than the status; and callers that are gone."""


def reason_of(status: int) -> str | None:
    """As what an error of this status is counted; None where it is none, or counted by others."""
    if status < 400 or status in _ELSEWHERE:
        return None
    return _REASONS.get(status, "invalid" if status < 500 else "other")


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
        headers["WWW-Authenticate"] = problem.challenge
    return problem.http_status, words_for(problem), headers


def words_for(problem: ModelportError) -> str:
    """What a caller is told: not this side's places (paths, nodes of graphs), and not at any length."""
    if isinstance(problem, ModelFailed):
        return "the model failed on this input; the server's log says more"
    words = str(problem) if problem.http_status < 500 else problem.message
    return words if len(words) <= MAX_WORDS else f"{words[:MAX_WORDS]}…"
