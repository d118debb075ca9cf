"""What the graph of a table computes is what native code computes, for one row and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.bundle.manifest import Column
from modelport.errors import UsageError
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.steps.compile import (
    POST_STEPS,
    PRE_STEPS,
    compile_post,
    compile_table,
    reference_post,
    reference_table,
)
from modelport.steps.rows import rows_of
from modelport.steps.step import parse_steps
from modelport.tensors import TensorSpec

COLUMNS = (
    Column("a", "float32", missing=True),
    Column("b", "int64"),
    Column("c", "string", categories=("x", "y", "zß"), missing=True, unseen=True),
    Column("d", "bool"),
    Column("e", "float64"),
)
STEPS = ["vector", {"normalize": {"mean": [1, 2, 0, 0, 3], "std": [1, 3, 1, 1, 0.7]}}, {"scale": {"by": 0.3}}]
MATRIX = (TensorSpec("x", "float32", ("batch", 5)),)
NAMED = (
    TensorSpec("a", "float32", ("batch", 1)),
    TensorSpec("net_b", "float32", ("batch", 1)),
    TensorSpec("net_c", "float64", ("batch", 1)),
    TensorSpec("net_d", "int32", ("batch",)),
    TensorSpec("e", "float64", ("batch", 1)),
)

rows = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.floats(width=32, allow_nan=False),
            "b": st.integers(-(1 << 40), 1 << 40),
            "c": st.none() | st.sampled_from(["x", "y", "zß", "other"]),
            "d": st.booleans(),
            "e": st.floats(-1e30, 1e30),
        }
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(
    ("steps", "inputs"),
    [(["vector"], MATRIX), (STEPS, MATRIX), ([], NAMED)],
    ids=["vector", "steps", "named"],
)
@settings(max_examples=40, deadline=None)
@given(records=rows)
def test_graph_and_native_code_agree(
    steps: list[Any], inputs: tuple[TensorSpec, ...], records: list[Any]
) -> None:
    parsed = parse_steps(steps, PRE_STEPS, "$")
    compiled = compile_table(COLUMNS, parsed, inputs)
    table = rows_of(records, COLUMNS)
    batch = reference_table(COLUMNS, parsed, inputs, table)
    session = OnnxRuntime().open(compiled.data)
    for row in range(len(records)):
        item = {name: array[row] for name, array in table.items()}
        got = session.run(item)
        want = reference_table(COLUMNS, parsed, inputs, item)
        for name, array in got.items():
            np.testing.assert_array_equal(array, want[name])
            np.testing.assert_array_equal(array, batch[name][row])
            assert array.dtype == want[name].dtype == batch[name].dtype


@pytest.mark.parametrize(
    ("columns", "inputs", "steps", "said"),
    [
        ((Column("a", "string"),), (TensorSpec("a", "float32", ("n", 1)),), [], "text without categories"),
        ((Column("a", "float32"),), (TensorSpec("a", "int64", ("n", 1)),), [], "as int64; it is float32"),
        ((Column("a", "float32"),), (TensorSpec("b", "float32", ("n", 1)),), [], "the columns are a"),
        ((Column("a", "float32"),), (TensorSpec("a", "float32", ("n", 2)),), [], "a row has one value"),
        ((Column("a", "string"),), MATRIX, ["vector"], "text without categories"),
        ((Column("a", "float32"),), MATRIX, ["lower"], "the first step of a table is `vector`"),
        ((Column("a", "float32"),), MATRIX, ["vector", "vector"], "vector stands first"),
        (
            (Column("a", "string", categories=("x",), missing=True),),
            (TensorSpec("a", "int64", ("n", 1)),),
            [],
            "no value for that",
        ),
    ],
)
def test_what_does_not_fit_is_refused(columns: Any, inputs: Any, steps: list[Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compile_table(columns, parse_steps(steps, PRE_STEPS, "$"), inputs)


@pytest.mark.parametrize(
    ("steps", "outputs", "raw"),
    [
        (["sigmoid", "binary", "top_k"], {"p": ("batch", 1)}, {"p": [[0.3], [-2.0]]}),
        ([{"binary": {"of": "p"}}], {"p": ("batch",), "q": ("batch",)}, {"p": [0.25, 1.0], "q": [0.0, 1.0]}),
        ([{"predicted": {}}], {"y": ("batch", 1)}, {"y": [[3.0], [4.5]]}),
        ([{"predicted": {"scale": 2.5, "offset": -1}}], {"y": ("batch", 3)}, {"y": [[1, 2, 3], [4, 5, 6]]}),
        ([{"drop": "q"}], {"p": ("batch", 2), "q": ("batch",)}, {"p": [[0, 1], [2, 3]], "q": [0, 1]}),
    ],
)
def test_steps_after_the_network_agree(
    steps: list[Any], outputs: dict[str, Any], raw: dict[str, Any]
) -> None:
    parsed = parse_steps(steps, POST_STEPS, "$")
    arrays = {name: np.array(value, np.float32) for name, value in raw.items()}
    compiled = compile_post(parsed, [TensorSpec(n, "float32", shape) for n, shape in outputs.items()])
    got = OnnxRuntime().open(compiled.data).run(arrays)
    want = reference_post(parsed, arrays)
    assert got.keys() == want.keys()
    for name, array in got.items():
        np.testing.assert_allclose(array, want[name], rtol=1e-6)
        assert array.dtype == want[name].dtype
        assert array.shape == want[name].shape
