"""How far a figure can be off by chance: bounds on shares, on differences of shares and on quantiles. Pure.

Every `z` is a normal deviate: `deviate(0.001)` gives the bound that chance passes once in a thousand times.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from statistics import NormalDist

from .figures import Latency

FIRST_LOOK = 8
"""Requests of the candidate before anything is judged."""
LOOK_GROWTH = 1.25
"""Each look waits for so many times the requests of the one before."""


def deviate(alpha: float) -> float:
    """The z that a standard normal variable passes with probability `alpha`, one-sided."""
    return NormalDist().inv_cdf(1.0 - max(alpha, 1e-15))


def look_number(requests: int) -> int:
    """Which look a number of requests allows: 0 below FIRST_LOOK, one more at each 1.25 times as many."""
    return bisect_right(_LOOKS, requests)


def look_at(number: int) -> int:
    """The requests at which a look, counted from 1, is taken."""
    return math.ceil(FIRST_LOOK * LOOK_GROWTH ** (number - 1) - 1e-9)


# Up to 10^20 requests.
_LOOKS = [look_at(number) for number in range(1, 200)]


def look_alpha(alpha: float, number: int) -> float:
    """What the look of that number, counted from 1, may spend of `alpha`: alpha / (k (k + 1)).

    Who looks often enough at pure chance sees anything (Armitage, McPherson, Rowe: Repeated significance
    tests on accumulating data, JRSS A 132, 1969). The sum over all k of 1 / (k (k + 1)) is 1, so by Boole's
    inequality the chance of one false alarm in any number of looks is at most `alpha`, whatever the looks
    have in common.
    """
    return alpha / (number * (number + 1))


def wilson(hits: int, total: int, z: float) -> tuple[float, float]:
    """Bounds on a share of which `hits` of `total` were seen; (0, 1) where nothing was.

    With p = hits / total the score interval (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n): E. B. Wilson,
    Probable inference, the law of succession, and statistical inference, JASA 22 (1927). Unlike the usual
    p ± z √(p(1-p)/n) it holds for few requests and for no errors at all.
    """
    if not total:
        return 0.0, 1.0
    share, square = hits / total, z * z
    centre = share + square / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    scale = 1 + square / total
    # Exactly 0 and 1 at the ends, where rounding may leave a hair.
    low = 0.0 if hits == 0 else max((centre - half) / scale, 0.0)
    high = 1.0 if hits == total else min((centre + half) / scale, 1.0)
    return low, high


def difference(hits: int, total: int, base_hits: int, base_total: int, z: float) -> tuple[float, float]:
    """Bounds on the first share minus the second.

    With d = p₁ - p₂ and Wilson's bounds (l, u) of each:
    d - √((p₁ - l₁)² + (u₂ - p₂)²) and d + √((u₁ - p₁)² + (p₂ - l₂)²).
    Method 10 of R. G. Newcombe, Interval estimation for the difference between independent proportions:
    comparison of eleven methods, Statistics in Medicine 17 (1998), 873-890.

    Where nothing is known of the second share, it is taken to be 0: whoever has nothing to be compared with
    is compared with what never fails.
    """
    if not total:
        return -1.0, 1.0
    low, high = wilson(hits, total, z)
    share = hits / total
    if not base_total:
        return low, high
    base_low, base_high = wilson(base_hits, base_total, z)
    base = base_hits / base_total
    gap = share - base
    below = math.hypot(share - low, base_high - base)
    above = math.hypot(high - share, base - base_low)
    return max(gap - below, -1.0), min(gap + above, 1.0)


def quantile_bounds(latency: Latency, share: float, z: float) -> tuple[float | None, float | None]:
    """Bounds on a quantile, in seconds, without a word on how the durations are spread.

    Of n durations those of rank nq ± z √(nq(1-q)) hold the q-quantile between them: how many lie below it is
    binomial (W. J. Conover, Practical Nonparametric Statistics, 3rd edition, 1999, section 3.2). None where
    there is no such rank: a 99th percentile has an upper bound only from about 99 z² durations on.
    """
    total = latency.total
    middle = total * share
    half = z * math.sqrt(total * share * (1 - share))
    return latency.rank(math.floor(middle - half)), latency.rank(math.ceil(middle + half))
