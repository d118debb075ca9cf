"""A rule of the kind that is written down and never trained.

python make.py OUT    writes OUT/rules.py
"""

from __future__ import annotations

import sys
from pathlib import Path

RULES = '''"""The risk of a payment: its amount against what is usual, and how new the account is."""

import numpy as np

USUAL = 40.0


def risk(amount: "float32[batch]", days: "float32[batch]"):
    """Shares of `fine` and `ask first` for each payment: float32[batch, 2]."""
    large = np.log1p(np.abs(amount)) / np.log1p(USUAL)
    new = np.exp(-np.abs(days) / 30)
    ask = 1 / (1 + np.exp(-(2 * large + 3 * new - 3)))
    return {"shares": np.stack([1 - ask, ask], axis=1).astype(np.float32)}
'''

if __name__ == "__main__":
    (Path(sys.argv[1]) / "rules.py").write_text(RULES)
