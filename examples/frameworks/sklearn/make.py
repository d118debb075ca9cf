"""A whole pipeline of scikit-learn: text and numbers with gaps, encoders, boosted trees; as a skops file.

python make.py OUT    writes OUT/tips.skops and OUT/rows.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 1000
DAYS = ("Thu", "Fri", "Sat", "Sun")


def table() -> tuple[pd.DataFrame, np.ndarray]:
    """Bills of a restaurant, and whether the tip was generous."""
    random = np.random.default_rng(0)
    bill = random.gamma(4.0, 6.0, ROWS)
    party = random.integers(1, 7, ROWS)
    day = random.choice(DAYS, ROWS)
    time = random.choice(["Lunch", "Dinner"], ROWS)
    leaning = 0.08 * (bill - 24) - 0.4 * (party - 3) + (day == "Sun") - 0.7 * (time == "Lunch")
    generous = random.random(ROWS) < 1 / (1 + np.exp(-leaning))
    rows = pd.DataFrame({"total_bill": bill.round(2), "party_size": party, "day": day, "time": time})
    rows.loc[random.random(ROWS) < 0.05, "total_bill"] = np.nan
    rows.loc[random.random(ROWS) < 0.05, "time"] = np.nan
    return rows, np.where(generous, "generous", "usual")


def main(out: Path) -> None:
    """Fit, and save the pipeline and some rows."""
    rows, tips = table()
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["total_bill", "party_size"]),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
            ["day", "time"],
        ),
        sparse_threshold=0,
    )
    model = make_pipeline(prepared, HistGradientBoostingClassifier(max_iter=40, random_state=0))
    model.fit(rows, tips)
    skops.io.dump(model, out / "tips.skops")
    rows.head(64).to_csv(out / "rows.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
