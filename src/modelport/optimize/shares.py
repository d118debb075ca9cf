"""Shares of items, and what so few items cannot tell: Wilson's score interval.

E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
Statistical Association 22 (1927).
"""

from __future__ import annotations

import math

Z = 1.6449
"""Of the normal distribution: 95 % are below."""
Z_SURE = 2.3263
"""The same of 99 %."""


def unseen(items: int) -> float:
    """The share of all items that may be otherwise where none of so many is, at one-sided 95 %.

    Wilson's upper end for 0 of n: z² / (n + z²). A bootstrap cannot tell: where nothing changed in any item,
    nothing changes in any draw of them.
    """
    return Z * Z / (items + Z * Z)


def answers_needed(margin: float) -> int | None:
    """The fewest items that show a loss to be within the margin, where not one of them changes.

    Args:
        margin: in points, hundredths of the items.

    Returns:
        None: no number of items would.
    """
    return math.ceil(Z * Z * (100 / margin - 1)) if margin > 0 else None


def bounds(hits: float, of: int, z: float = Z) -> tuple[float, float]:
    """The interval of a share, each of its ends one-sided.

    Args:
        z: how sure: `Z` or `Z_SURE`.
    """
    share, less = hits / of, 1 + z * z / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low, high = (middle - spread) / less, (middle + spread) / less
    # Of none and of all the ends are 0 and 1, which rounding misses by a last bit.
    return max(0.0, low) if hits else 0.0, min(1.0, high) if hits < of else 1.0
