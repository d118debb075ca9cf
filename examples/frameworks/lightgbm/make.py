"""A regressor of LightGBM with a column of categories, in its own text.

python make.py OUT    writes OUT/progress.txt and OUT/rows.csv, of scikit-learn's diabetes data
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import pandas as pd
from sklearn.datasets import load_diabetes


def main(out: Path) -> None:
    """Fit, and save the booster and some rows."""
    rows, progress = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    rows["sex"] = pd.Categorical(rows["sex"].map({1.0: "one", 2.0: "other"}))
    model = lightgbm.LGBMRegressor(n_estimators=60, num_leaves=8, random_state=0, n_jobs=1, verbose=-1)
    model.fit(rows, progress)
    model.booster_.save_model(out / "progress.txt")
    rows.iloc[::8].to_csv(out / "rows.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
