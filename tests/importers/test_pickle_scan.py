"""Names in pickles are found without opening them, also where joblib put arrays and compression between."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelport.importers.pickle_scan import scan

pytestmark = pytest.mark.frameworks


class Attack:
    """What runs a program where it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def model() -> Any:
    random = np.random.default_rng(0)
    texts = random.choice(["a", "b", "c"], (60, 1)).astype(object)  # an array of objects in the file
    encoder = OneHotEncoder().fit(texts)
    rows, labels = random.standard_normal((60, 3)), random.integers(0, 2, 60)
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    forests = [
        RandomForestClassifier(3).fit(rows, labels),
        HistGradientBoostingClassifier().fit(rows, labels),
    ]
    return [encoder, scaled, forests]


EXPECTED = {
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
}


@pytest.mark.parametrize(
    "compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str
)
def test_every_name_is_found_whatever_lies_between(compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump([model(), Attack()], path, compress=compress)
    found = scan(path)
    assert found is not None and found.whole
    assert found.names >= EXPECTED
    assert found.harmful == ["posix.system"]
    assert found.packed == ((compress and {"xz": "lzma"}.get(compress[0], compress[0])) or "")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([model(), Attack()], protocol=protocol))
    found = scan(path)
    assert found is not None and found.whole
    assert found.names >= EXPECTED and found.harmful == ["posix.system"]


def test_a_pickle_that_stops_in_the_middle_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(model(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = scan(path)
    assert found is not None and not found.whole and found.names


def test_a_name_that_is_computed_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04\x8c\x02os\x94K\x01\x93.")
    found = scan(path)
    assert found is not None and not found.whole


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"{}", b"x\x9cno deflate", b"\x80"])
def test_other_files_are_no_pickles(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert scan(path) is None
