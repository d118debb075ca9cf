"""How often somebody may ask: token buckets, and a bounded table of them. No clock: `now` is handed in."""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import inf

import msgspec

from ...errors import UsageError

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"(?P<count>[0-9]{1,9})/(?P<unit>s|min|h|d)")
MAX_CALLERS = 16384
"""Addresses that are remembered at once, about 3 MiB of them."""


class Rate(msgspec.Struct, frozen=True):
    """`requests` in each `seconds`; as many may come at once after a pause."""

    requests: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`100/s`, `600/min`, `1000/h`, `5000/d`.

        Raises:
            UsageError: anything else, or none at all (`0/s`).
        """
        found = _RATE.fullmatch(text)
        if found is None or int(found["count"]) == 0:
            raise UsageError(f"expected a rate such as 100/s, 600/min, 1000/h or 5000/d, got {text!r}")
        return cls(int(found["count"]), _UNITS[found["unit"]])

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in _UNITS.items() if seconds == self.seconds)
        return f"{self.requests}/{unit}"


class Bucket:
    """A token bucket, kept as the one moment at which it will be full again.

    It holds `rate.requests` tokens and gains them evenly over `rate.seconds`, so that no window of that
    length sees more than twice the rate, and no long run more than the rate.
    """

    __slots__ = ("_each", "_span", "full_at", "rate")

    def __init__(self, rate: Rate, full_at: float = -inf) -> None:
        self.rate = rate
        self._each = rate.seconds / rate.requests
        self._span = rate.seconds
        self.full_at = full_at

    def take(self, now: float) -> float:
        """Take a token: 0.0 if there was one, else the seconds until there is (and nothing is taken)."""
        full_at = self.full_at
        if full_at < now:
            full_at = now
        full_at += self._each
        # A billionth of the span is rounding, not a request too many.
        wait = full_at - now - self._span
        if wait > self._span * 1e-9:
            return wait
        self.full_at = full_at
        return 0.0


class Callers:
    """One bucket for each client address; of many addresses the longest silent are forgotten.

    Whoever is forgotten starts with a full bucket, which helps only who holds more than `most` addresses,
    and so has as many full buckets anyway.
    """

    def __init__(self, rate: Rate, *, most: int = MAX_CALLERS) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, now: float) -> float:
        """As `Bucket.take`, for the caller at `client` (an IP address)."""
        caller = network(client)
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = Bucket(self._rate)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
        return bucket.take(now)


def network(client: str) -> str:
    """Whom an address stands for: itself, or the /64 of an IPv6 address, all of which one subscriber holds.

    Text that is no address stays as it is.
    """
    return client if ":" not in client else _network(client)


@lru_cache(4096)
def _network(client: str) -> str:
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if not isinstance(address, IPv6Address):
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()
