"""A classifier of CatBoost with three classes, in its own .cbm.

python make.py OUT    writes OUT/wines.cbm and OUT/rows.csv, of scikit-learn's wine data
"""

from __future__ import annotations

import sys
from pathlib import Path

import catboost
import numpy as np
from sklearn.datasets import load_wine


def main(out: Path) -> None:
    """Fit, and save the model and some rows."""
    data = load_wine(as_frame=True)
    names = np.array(["barolo", "grignolino", "barbera"])
    model = catboost.CatBoostClassifier(
        iterations=40, depth=4, random_seed=0, thread_count=1, verbose=0, allow_writing_files=False
    )
    model.fit(data.data, names[data.target])
    model.save_model(str(out / "wines.cbm"))
    data.data.iloc[::3].to_csv(out / "rows.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
