"""Which version answers a request, and which one listens. Pure: the chance is handed in."""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

from .plan import CLIENT_ADDRESS, Canary, Plan


class Headers(Protocol):
    """A request's headers, looked up by lower-case names."""

    def get(self, name: str, /) -> str | None:
        """The value, or None."""
        ...


def choose(plan: Plan, *, key: str | None, headers: Headers, draw: float) -> str:
    """The version that answers.

    The header that forces the canary comes first; then the key, if there is one; then chance. A key has
    one place in [0, 1) for each candidate, and the canary takes the places below its weight: raising the
    weight moves callers to the canary and none back, lowering it the other way round. Each new candidate
    deals the places anew, so that it is not always the same callers who try.

    Args:
        key: what `sticky_key` gives; None for a request that belongs to nobody.
        headers: anything with `.get(lower-case name)`.
        draw: evenly spread over [0, 1).
    """
    canary = plan.canary
    if canary is None:
        return plan.stable
    if canary.header is not None and headers.get(canary.header) == canary.value:
        return canary.version
    place = draw if key is None else place_of(plan.model, canary.version, key)
    return canary.version if place < canary.weight else plan.stable


def sticky_key(canary: Canary | None, headers: Headers, client: str | None) -> str | None:
    """What keeps a caller with one version: the header's value or the address; None where it sent none."""
    if canary is None or canary.sticky is None:
        return None
    if canary.sticky == CLIENT_ADDRESS:
        return client
    return headers.get(canary.sticky)


def listener(plan: Plan, answering: str, draw: float) -> str | None:
    """The version to ask too, or None. Only what the stable version answers is shadowed.

    Args:
        answering: the version that answers.
        draw: evenly spread over [0, 1), and not the one that `choose` was given.
    """
    shadow = plan.shadow
    if shadow is None or answering != plan.stable or draw >= shadow.sample:
        return None
    return shadow.version


def place_of(model: str, version: str, key: str) -> float:
    """A key's place in [0, 1): the same in every process and on every machine, and even over keys."""
    data = f"{model}\0{version}\0{key}".encode(errors="surrogatepass")
    digest = blake2b(data, digest_size=8).digest()
    # 53 bits: as many as a float holds, so that the result never rounds up to 1.
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53
