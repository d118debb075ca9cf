"""Parts of a pipeline that skl2onnx converts: asked for in float64, then in float32, and proven by running.

skl2onnx is known to convert some estimators wrongly without saying so; a part is taken only where ONNX
Runtime gives what scikit-learn gives.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array
from .onnx_writer import ML, ML_OPSET, OPSET, Block, Writer

ROWS = 64
CLOSE = {"float64": 1e-6, "float32": 1e-3}
"""How close a part must come to scikit-learn, of the largest magnitude, by the precision it computes in."""


def borrowed(writer: Writer, part: Any, block: Block, *, classifier: bool, want: Any = None) -> Block:
    """The part's output for a block of numbers, float64 [batch, width].

    Args:
        writer: the graph.
        part: a fitted transformer or estimator of scikit-learn.
        block: what it takes.
        classifier: whether its second output, the scores, is taken.
        want: a function of float64 [rows, columns] to what the part must give, [rows, width].

    Raises:
        NotConverted: skl2onnx does not know it, or converts it to something else.
    """
    rows = _rows(part, block.width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that a matrix has not
        expected = _matrix((want or part.transform)(rows))
    problems = []
    for dtype in ("float64", "float32"):
        try:
            model = _converted(part, block.width, dtype, classifier)
            got = _run(model, rows.astype(dtype), classifier)
        except Exception as problem:  # noqa: BLE001  # whatever skl2onnx and ONNX Runtime raise, another way is tried
            problems.append(_line(problem))
            continue
        if got.shape != expected.shape:
            got = np.hstack([-got, got]) if got.shape[1] == 1 and expected.shape[1] == 2 else got
        if got.shape != expected.shape:
            problems.append(f"skl2onnx gives {list(got.shape)} for {list(expected.shape)}")
            continue
        scale = max(float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)), 1e-6)
        if np.allclose(got, expected, rtol=0, atol=CLOSE[dtype] * scale, equal_nan=True):
            return _grafted(writer, model, block, dtype, classifier, expected.shape[1])
        worst = float(np.nanmax(np.abs(got - expected)))
        problems.append(f"skl2onnx's conversion gives other numbers (by up to {worst:.3g})")
    raise NotConverted(
        f"{type(part).__name__} is not converted: {problems[0]}",
        "replace this step of the pipeline by one that is; the documentation lists them",
    )


def _converted(part: Any, width: int, dtype: str, classifier: bool) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if dtype == "float64" else FloatTensorType
    settings: dict[str, Any] = {
        "initial_types": [("x", kind([None, width]))],
        "target_opset": {"": OPSET, ML: ML_OPSET},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            options = {id(part): {"zipmap": False}} if classifier else None
            return convert_sklearn(part, options=options, **settings)
        except NameError:  # for estimators that have no such option, and need none
            return convert_sklearn(part, **settings)


def _run(model: Any, rows: Array, classifier: bool) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return _matrix(session.run(None, {"x": rows})[1 if classifier else 0])


def _grafted(writer: Writer, model: Any, block: Block, dtype: str, classifier: bool, width: int) -> Block:
    fed = block.name if dtype == "float64" else writer.cast(block.name, dtype)
    wanted = model.graph.output[1 if classifier else 0].name
    name = writer.cast(writer.graft(model, {"x": fed}, wanted), "float64")
    if classifier and width == 2 and _one_score(model, wanted):
        name = writer.op("Concat", writer.op("Neg", name), name, axis=1)
    return Block(writer.op("Reshape", name, writer.constant([-1, width], "int64")), False, width)


def _one_score(model: Any, wanted: str) -> bool:
    shape = next(value for value in model.graph.output if value.name == wanted).type.tensor_type.shape
    return len(shape.dim) == 2 and shape.dim[1].dim_value == 1


def _rows(part: Any, width: int) -> Array:
    """Seeded rows around what the part was fitted on, as far as it can be seen."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((ROWS, width))
    for name in ("mean_", "center_", "data_min_"):
        middle = getattr(part, name, None)
        if middle is not None and np.shape(middle) == (width,):
            return np.asarray(rows + middle)
    return rows


def _matrix(value: Any) -> Array:
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value, np.float64)
    return array.reshape(len(array), -1)


def _line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__)[:200]
