"""Rows of any origin become one tensor for each column, or a refusal that names the column."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.bundle.columns import check_columns
from modelport.bundle.manifest import Column, Decode
from modelport.errors import BundleError, InputError, TooLarge
from modelport.steps.records import records_of
from modelport.steps.row_files import decode_row, decode_rows, made_up_rows, typical_value
from modelport.steps.rows import columns_of, rows_of

DECODE = Decode(kind="table", max_bytes=4096)
COLUMNS = (
    Column("age", "int64", minimum=0, maximum=120, typical=40),
    Column("pay", "float32", missing=True),
    Column("job", "string", categories=("clerk", "smith"), missing=True),
    Column("at home", "bool"),
)
ROW = {"age": 30, "pay": 2.5, "job": "smith", "at home": True}


def values(row: dict[str, Any]) -> list[Any]:
    """One decoded row as a list."""
    return [row[column.name].item() for column in COLUMNS]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROW),
        json.dumps([30, 2.5, "smith", True]),
        "30,2.5,smith,true",
        "30;2.5;smith;yes",
        "30\t2.5\tsmith\t1\n",
        "age,pay,job,at home\n30,2.5,smith,1\n",
        '\ufeffat home,"job",pay,age\r\ntrue,"smith",2.5,30.0\r\n',
        json.dumps({name: [value] for name, value in ROW.items()}),
        json.dumps(ROW | {"age": 30.0, "at home": 1}),
    ],
)
def test_every_form_says_the_same(text: str) -> None:
    row = decode_row(text.encode(), DECODE, COLUMNS)
    assert [array.shape for array in row.values()] == [(1,)] * 4
    assert [row[c.name].dtype.kind for c in COLUMNS] == ["i", "f", "O", "b"]
    assert values(row) == [30, 2.5, "smith", True]


@pytest.mark.parametrize(
    "text",
    [
        '{"age": 30, "at home": false}',
        '{"age":30,"pay":null,"job":null,"at home":false}',
        "30,,,0",
        "30,NaN,,f",
    ],
)
def test_what_is_missing_is_nan_and_the_empty_text(text: str) -> None:
    age, pay, job, home = values(decode_row(text.encode(), DECODE, COLUMNS))
    assert (age, job, home) == (30, "", False)
    assert math.isnan(pay)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"age": 30, "at hom": true}', "there is no column 'at hom' at `$` — hint: did you mean 'at home'?"),
        ('{"age": 30}', "the column 'at home' is missing; expected true or false"),
        ('{"age": "30", "at home": true}', "the column 'age' takes a whole number from 0 to 120, got '30'"),
        ('{"age": 30.5, "at home": true}', "got 30.5"),
        ('{"age": true, "at home": true}', "got True"),
        ('{"age": null, "at home": true}', "the column 'age' has no value"),
        ('{"age": 121, "at home": true}', "got 121, which is out of range at `$.age`"),
        (
            '{"age": 1e300, "at home": true}',
            "the column 'age' takes a whole number from 0 to 120, got 1e+300",
        ),
        (
            '{"age": 1, "pay": 1e40, "at home": true}',
            "the column 'pay' takes a number, or nothing, got 1e+40",
        ),
        (
            '{"age": 1, "job": "pilot", "at home": true}',
            "has no category 'pilot'; expected one of clerk, smith",
        ),
        (
            '{"age": 1, "job": 3, "at home": true}',
            "the column 'job' takes one of clerk, smith, or nothing, got 3",
        ),
        ('{"age": 1, "at home": 2}', "the column 'at home' takes true or false, got 2"),
        ('{"age": [1], "at home": true}', "got [1]"),
        ("[30, 2.5, true]", "expected 4 values (age, pay, job, at home), got 3"),
        ("30,2.5,smith", "expected 4 values"),
        ("age,pay\n1,2", "the column 'at home' is missing"),
        ("age,pay,job,at home,extra\n1,2,smith,1,3", "there is no column 'extra'"),
        ("age,age,job,at home\n1,2,smith,1", "the header has the column 'age' twice"),
        ("age,pay,job,at home", "a header line and no row"),
        ("age,pay,job,at home\n1,2,smith", "3 values under 4 columns at `line 2`"),
        ("1,x,smith,1", "the column 'pay' takes a number, or nothing, got 'x' at `line 1, column 'pay'`"),
        ('"1,2', "not CSV"),
        ("", "empty"),
        ("[]", "expected 4 values"),
        ("3", "expected 4 values"),
        ('{"age": 1', "not JSON"),
        ('[{"age": 1, "at home": true}, {"age": 2, "at home": true}]', "expected one row, got 2"),
    ],
)
def test_a_refusal_names_the_column(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        decode_row(text.encode(), DECODE, COLUMNS)
    assert said in str(refused.value)


def test_of_many_rows_the_wrong_one_is_placed() -> None:
    with pytest.raises(InputError, match=r"\$\[1\]\.age"):
        rows_of([ROW, ROW | {"age": 130}, ROW], COLUMNS)
    with pytest.raises(InputError, match=r"\$\.age\[1\]"):
        columns_of({"age": [1, 200], "at home": [True, True]}, COLUMNS)
    with pytest.raises(InputError, match="one length"):
        columns_of({"age": [1, 2], "at home": [True]}, COLUMNS)
    with pytest.raises(TooLarge):
        decode_rows(b" " * 5000, DECODE, COLUMNS)


def test_what_was_not_seen_in_training_passes_where_the_network_handles_it() -> None:
    columns = (
        Column("age", "float32", minimum=0, maximum=120, unseen=True),
        Column("job", "string", categories=("clerk",), unseen=True),
    )
    row = decode_row(b'{"age": 130, "job": "pilot"}', DECODE, columns)
    assert [row["age"].item(), row["job"].item()] == [130, "pilot"]


def test_free_text_may_be_empty_and_holds_no_nul() -> None:
    columns = (Column("name", "string"),)
    assert decode_row(b'{"name": ""}', DECODE, columns)["name"].item() == ""
    with pytest.raises(InputError, match="NUL"):
        decode_row(b'{"name": "a\\u0000b"}', DECODE, columns)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with contextlib.suppress(InputError, TooLarge):
        decode_rows(data, DECODE, COLUMNS)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 120),
            st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.none() | st.sampled_from(["clerk", "smith"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_json_by_name_in_order_by_column_and_csv_agree(rows: list[tuple[Any, ...]]) -> None:
    names = [column.name for column in COLUMNS]
    wide = Decode(kind="table")
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    by_name = decode_rows(json.dumps(objects).encode(), wide, COLUMNS)
    in_order = decode_rows(json.dumps([list(row) for row in rows]).encode(), wide, COLUMNS)
    columns = {name: [row[name] for row in objects] for name in names}
    by_column = columns_of(columns, COLUMNS)
    lines = [
        ",".join("" if v is None else repr(v) if isinstance(v, float) else str(v) for v in row)
        for row in rows
    ]
    as_csv = decode_rows("\n".join([",".join(names), *lines]).encode(), wide, COLUMNS)
    for name in names:
        want = by_name[name]
        assert want.shape == (len(rows), 1)
        for other in (in_order, by_column, as_csv):
            np.testing.assert_array_equal(other[name], want)


def test_made_up_rows_are_taken_and_the_first_is_typical() -> None:
    rows = made_up_rows(COLUMNS, 20)
    rows_of(rows, COLUMNS)
    assert rows[0] == {column.name: typical_value(column) for column in COLUMNS}
    assert {row["job"] for row in rows[1:]} >= {"clerk", "smith", None}
    assert made_up_rows(COLUMNS, 20) == rows


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("a", "int64", categories=("x",)), "categories, which only a string column has"),
        (Column("a", "string", minimum=1), "a range, which only numbers have"),
        (Column("a", "float32", minimum=2, maximum=1), "holds nothing"),
        (Column("a", "float32", minimum=math.inf), "without an end"),
        (Column("a", "int64", missing=True), "may miss"),
        (Column("a", "string", categories=("x", "x")), "a category twice"),
        (Column("a", "string", categories=("",)), "stands for a missing value"),
        (Column("a", "string", categories=("x",), typical="y"), "has no category 'y'"),
        (Column("a", "float32", maximum=1, typical=2.0), "beyond its range"),
        (Column("a", "int64", typical="x"), "its typical value is 'x'"),
        (Column("a\nb", "int64"), "control character"),
    ],
)
def test_columns_that_make_no_sense_are_refused(column: Column, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        check_columns([column])
    with pytest.raises(BundleError, match="stands twice"):
        check_columns([COLUMNS[0], COLUMNS[0]])


def test_files_of_rows_keep_every_field_and_every_fault_in_its_line() -> None:
    text = "id,age,pay,job,at home\n1,30,2.5,smith,1\n2,130,2.5,smith,1\n3,31,,,no\n"
    first, second, third = records_of(text.encode(), ".csv", DECODE, COLUMNS)
    assert json.loads(first.data) == ROW
    assert first.fields["id"] == "1"
    with pytest.raises(InputError, match="130"):
        decode_row(second.data, DECODE, COLUMNS)
    assert json.loads(third.data) == {"age": 31, "at home": False}
    lines = records_of(
        b'{"age": 1, "at home": true}\n\n{"age": 2, "at home": true}\n', ".jsonl", DECODE, COLUMNS
    )
    assert [(record.line, json.loads(record.data)["age"]) for record in lines] == [(1, 1), (3, 2)]
