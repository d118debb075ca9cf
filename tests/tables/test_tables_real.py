"""Real tables: every line is read, missing values too, and the graph prepares them as native code does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.manifest import Column, Decode
from modelport.errors import InputError
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.steps.compile import compile_table, reference_table
from modelport.steps.records import records_of
from modelport.steps.row_files import read_csv
from modelport.steps.vector import Vector
from modelport.tensors import TensorSpec

HOUSING = Path(__file__).parents[3] / "shared" / "data" / "tabular" / "housing_clean.csv"
NEAR = ("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN")
NUMBERS = (
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
)


@pytest.mark.skipif(not HOUSING.is_file(), reason="the table of houses is not here")
def test_twenty_thousand_houses() -> None:
    columns = (
        *(Column(name, "float32", missing=name == "total_bedrooms") for name in NUMBERS),
        Column("ocean_proximity", "string", categories=NEAR),
    )
    data = HOUSING.read_bytes()
    table = read_csv(data, columns)
    assert table.extra == ("median_house_value",)
    rows = table.tensors(columns)
    count = len(rows["longitude"])
    assert count == data.count(b"\n") - 1
    lost = np.flatnonzero(np.isnan(rows["total_bedrooms"][:, 0]))
    assert len(lost) == sum(b",," in line for line in data.splitlines())
    inputs = (TensorSpec("x", "float32", ("batch", 9)),)
    batch = reference_table(columns, (Vector(),), inputs, rows)["x"]
    assert batch.shape == (count, 9)
    session = OnnxRuntime().open(compile_table(columns, (Vector(),), inputs).data)
    for place in (*range(0, count, 997), *lost[:5].tolist()):
        got = session.run({name: array[place] for name, array in rows.items()})["x"]
        np.testing.assert_array_equal(got, batch[place])
    records = records_of(data, ".csv", Decode(kind="table"), columns)
    assert len(records) == count and records[0].fields["median_house_value"] == "452600.0"
    strict = tuple(Column(column.name, column.dtype, column.categories) for column in columns)
    with pytest.raises(InputError, match=f"line {int(lost[0]) + 2}, column 'total_bedrooms'"):
        table.tensors(strict)
