"""The form of a reply that its caller wants: content negotiation by Accept (RFC 9110, 12.5.1). No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NotAcceptable
from .compress import quality


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """The media type to answer in: the one with the highest `q`, of equals the first that is offered.

    Args:
        accept: the request's Accept, several fields joined by commas; None or empty accepts everything.
        offered: media types in lower case, without parameters.

    Raises:
        NotAcceptable: none of them is accepted.
    """
    ranges = [_range(part) for part in (accept or "").lower().split(",") if part.strip()]
    if accept is None or not ranges:
        return offered[0]
    best = max(offered, key=lambda kind: _liked(kind, ranges))
    if _liked(best, ranges) <= 0:
        raise NotAcceptable(
            f"Accept is {accept[:80]!r}; this is answered in {', '.join(offered)}",
            hint=f"Accept: {offered[0]}",
        )
    return best


def _range(part: str) -> tuple[str, float]:
    """A media range without its parameters, and its `q`; one that cannot be read counts as refused."""
    name, *parameters = part.split(";")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return name.strip(), quality(value.strip())
    return name.strip(), 1.0


def _liked(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The `q` of the most specific range that holds a media type; 0 where none does."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        found = [q for name, q in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
