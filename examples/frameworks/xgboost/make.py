"""A classifier of XGBoost, in its own UBJSON.

python make.py OUT    writes OUT/tumours.ubj and OUT/rows.csv, of scikit-learn's breast cancer data
"""

from __future__ import annotations

import sys
from pathlib import Path

import xgboost
from sklearn.datasets import load_breast_cancer


def main(out: Path) -> None:
    """Fit, and save the booster and some rows."""
    rows, kinds = load_breast_cancer(return_X_y=True, as_frame=True)
    model = xgboost.XGBClassifier(n_estimators=40, max_depth=4, random_state=0, n_jobs=1)
    model.fit(rows, kinds)
    model.save_model(out / "tumours.ubj")
    (out / "labels.txt").write_text("malignant\nbenign\n")
    rows.iloc[::9].to_csv(out / "rows.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
