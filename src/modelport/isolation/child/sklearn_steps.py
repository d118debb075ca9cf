"""What scikit-learn does to columns before the estimator, as ONNX nodes in float64, as scikit-learn computes.

The commonest transformers are written here, in the order of operations that scikit-learn has, so that the
results are equal bit by bit; others are asked of skl2onnx (`sklearn_borrowed`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .columns import is_missing
from .converter import NotConverted
from .onnx_writer import ML, Block, Frame, Writer
from .sklearn_borrowed import borrowed
from .sklearn_text import tfidf, word_counts

Array = Any
UNKNOWN = -1


def transform(writer: Writer, step: Any, frame: Frame) -> Frame:
    """The columns behind a fitted transformer.

    Raises:
        NotConverted: a transformer that neither this nor skl2onnx knows, by name.
    """
    if step is None or isinstance(step, str):
        return [] if step == "drop" else frame
    for kind in type(step).__mro__:
        if kind.__name__ in KNOWN and kind.__module__.split(".")[0] == "sklearn":
            return KNOWN[kind.__name__](writer, step, frame)
    if hasattr(step, "get_support"):
        return writer.pick(frame, [int(index) for index in step.get_support(indices=True)])
    texts = [block for block in frame if block.text]
    if texts:
        raise NotConverted(
            f"{type(step).__name__} on columns of text is not converted",
            "OneHotEncoder, OrdinalEncoder, TargetEncoder and SimpleImputer are",
        )
    return [borrowed(writer, step, writer.matrix(frame), classifier=False)]


def _pipeline(writer: Writer, step: Any, frame: Frame) -> Frame:
    for _, inner in step.steps:
        frame = transform(writer, inner, frame)
    return frame


def _columns(writer: Writer, step: Any, frame: Frame) -> Frame:
    places = step._transformer_to_input_indices
    parts: Frame = []
    for name, inner, _ in step.transformers_:
        taken = places.get(name, [])
        if isinstance(inner, str) and inner == "drop":
            continue
        if len(taken):
            parts += transform(writer, inner, writer.pick(frame, list(taken)))
    return parts


def _union(writer: Writer, step: Any, frame: Frame) -> Frame:
    parts: Frame = []
    for name, inner in step.transformer_list:
        weight = (step.transformer_weights or {}).get(name)
        made = transform(writer, inner, frame)
        parts += made if weight is None else [writer.rows("Mul", writer.matrix(made), weight)]
    return parts


def _standard(writer: Writer, step: Any, frame: Frame) -> Frame:
    block = writer.matrix(frame)
    if step.with_mean:
        block = writer.rows("Sub", block, step.mean_)
    return [writer.rows("Div", block, step.scale_) if step.with_std else block]


def _robust(writer: Writer, step: Any, frame: Frame) -> Frame:
    block = writer.matrix(frame)
    if step.with_centering:
        block = writer.rows("Sub", block, step.center_)
    return [writer.rows("Div", block, step.scale_) if step.with_scaling else block]


def _min_max(writer: Writer, step: Any, frame: Frame) -> Frame:
    block = writer.rows("Add", writer.rows("Mul", writer.matrix(frame), step.scale_), step.min_)
    if step.clip:
        least, most = (writer.constant(float(bound)) for bound in step.feature_range)
        block = Block(writer.op("Clip", block.name, least, most), False, block.width)
    return [block]


def _max_abs(writer: Writer, step: Any, frame: Frame) -> Frame:
    return [writer.rows("Div", writer.matrix(frame), step.scale_)]


FUNCTIONS: dict[str, Callable[[Writer, str], str]] = {
    "log": lambda writer, x: writer.op("Log", x),
    "log1p": lambda writer, x: writer.op("Log", writer.op("Add", x, writer.constant(1.0))),
    "exp": lambda writer, x: writer.op("Exp", x),
    "expm1": lambda writer, x: writer.op("Sub", writer.op("Exp", x), writer.constant(1.0)),
    "log10": lambda writer, x: writer.op("Div", writer.op("Log", x), writer.constant(np.log(10.0))),
    "log2": lambda writer, x: writer.op("Div", writer.op("Log", x), writer.constant(np.log(2.0))),
    "sqrt": lambda writer, x: writer.op("Sqrt", x),
    "square": lambda writer, x: writer.op("Mul", x, x),
    "absolute": lambda writer, x: writer.op("Abs", x),
    "sin": lambda writer, x: writer.op("Sin", x),
    "cos": lambda writer, x: writer.op("Cos", x),
    "sign": lambda writer, x: writer.op("Sign", x),
    "cbrt": lambda writer, x: writer.op(
        "Mul", writer.op("Sign", x), writer.op("Pow", writer.op("Abs", x), writer.constant(1 / 3))
    ),
}
"""NumPy's functions that a FunctionTransformer or a TransformedTargetRegressor may hold."""


def elementwise(writer: Writer, function: Any, x: str, where: str) -> str:
    """One of NumPy's functions on each element.

    Raises:
        NotConverted: a function of the user's own, which is Python and nothing that ONNX holds.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not isinstance(function, np.ufunc) or name not in FUNCTIONS:
        raise NotConverted(
            f"{where} calls the function {getattr(function, '__module__', None) or 'numpy'}.{name}, which "
            "is Python",
            f"NumPy's {', '.join(sorted(FUNCTIONS))} are converted; do the rest before the pipeline",
        )
    return FUNCTIONS[name](writer, x)


def is_identity(step: Any) -> bool:
    """Whether a FunctionTransformer gives what it takes; scikit-learn's own ones only check it."""
    inner = getattr(step.func, "func", step.func)
    own = getattr(inner, "__module__", "").split(".")[0] == "sklearn"
    return step.func is None or (own and getattr(inner, "__name__", "") == "check_array")


def _function(writer: Writer, step: Any, frame: Frame) -> Frame:
    if is_identity(step):
        return frame
    if step.kw_args:
        raise NotConverted("a FunctionTransformer with kw_args is not converted")
    block = writer.matrix(frame)
    return [Block(elementwise(writer, step.func, block.name, "a FunctionTransformer"), False, block.width)]


def _imputer(writer: Writer, step: Any, frame: Frame) -> Frame:
    parts: Frame = []
    flags: Frame = []
    singles = writer.singles(frame)
    for block, value in zip(singles, step.statistics_, strict=True):
        missing = _is_missing(writer, block, step.missing_values)
        flags.append(Block(writer.cast(missing, "float64"), False, 1))
        if is_missing(value):
            if not getattr(step, "keep_empty_features", False):
                continue  # a column that was empty in training is left out
            value = 0.0
        fill = writer.constant([[value]], "string" if block.text else "float64")
        parts.append(Block(writer.op("Where", missing, fill, block.name), block.text, 1))
    if step.indicator_ is not None:
        parts += [flags[int(index)] for index in step.indicator_.features_]
    return parts


def _indicator(writer: Writer, step: Any, frame: Frame) -> Frame:
    singles = writer.singles(frame)
    found = [_is_missing(writer, singles[int(index)], step.missing_values) for index in step.features_]
    return [Block(writer.cast(name, "float64"), False, 1) for name in found]


def _is_missing(writer: Writer, block: Block, mark: Any) -> str:
    """bool [batch, 1]; what is missing from a column of text is the empty text here."""
    if block.text:
        text = "" if is_missing(mark) else str(mark)
        found = writer.op(
            "LabelEncoder", block.name, domain=ML, keys_strings=[text], values_int64s=[1], default_int64=0
        )
        return writer.cast(found, "bool")
    if is_missing(mark):
        return writer.op("IsNaN", block.name)
    return writer.op("Equal", block.name, writer.constant([[float(mark)]]))


def codes(writer: Writer, block: Block, categories: Array) -> str:
    """The index of each value among the categories, or UNKNOWN -> int64 [batch, 1].

    A missing category is met by NaN, and in text by the empty text.
    """
    if block.text:
        keys = ["" if is_missing(value) else str(value) for value in categories]
        if len(set(keys)) != len(keys):
            raise NotConverted("a column has both the empty text and a missing value among its categories")
        return writer.op(
            "LabelEncoder",
            block.name,
            domain=ML,
            keys_strings=keys,
            values_int64s=list(range(len(keys))),
            default_int64=UNKNOWN,
        )
    numbers = np.array([np.nan if is_missing(value) else float(value) for value in categories])
    equal = writer.op("Equal", block.name, writer.constant(numbers.reshape(1, -1)))
    if np.isnan(numbers).any():
        other = writer.constant(np.isnan(numbers).reshape(1, -1), "bool")
        equal = writer.op("Or", equal, writer.op("And", writer.op("IsNaN", block.name), other))
    places = writer.constant(np.arange(1, len(numbers) + 1).reshape(1, -1), "int64")
    found = writer.op("Mul", writer.cast(equal, "int64"), places)
    most = writer.op("ReduceMax", found, axes=[1], keepdims=1)
    return writer.op("Sub", most, writer.constant([[1]], "int64"))


def table(writer: Writer, index: str, rows: Array, otherwise: Array) -> str:
    """Row `index` of a table, or `otherwise` where it is UNKNOWN -> float64 [batch, columns]."""
    whole = np.vstack([np.asarray(otherwise, np.float64).reshape(1, -1), np.asarray(rows, np.float64)])
    place = writer.op("Add", index, writer.constant([[1]], "int64"))
    held = writer.op("Gather", writer.constant(whole), place, axis=0)  # [batch, 1, columns]
    return writer.op("Reshape", held, writer.constant([-1, whole.shape[1]], "int64"))


def _one_hot(writer: Writer, step: Any, frame: Frame) -> Frame:
    parts: Frame = []
    for place, (block, known) in enumerate(zip(writer.singles(frame), step.categories_, strict=True)):
        groups = np.arange(len(known))
        width = len(known)
        unknown = UNKNOWN
        if step._infrequent_enabled and step._default_to_infrequent_mappings[place] is not None:
            groups = np.asarray(step._default_to_infrequent_mappings[place])
            width = int(groups.max()) + 1
            if step.handle_unknown in ("infrequent_if_exist", "warn"):
                unknown = width - 1
        rows = np.eye(width)
        other = rows[unknown] if unknown >= 0 else np.zeros(width)
        if step.drop_idx_ is not None and step.drop_idx_[place] is not None:
            left_out = int(step._drop_idx_after_grouping[place])
            rows, other = np.delete(rows, left_out, 1), np.delete(other, left_out)
            width -= 1
        if width:
            name = table(writer, codes(writer, block, known), rows[groups], other)
            parts.append(Block(name, False, width))
    return parts


def _ordinal(writer: Writer, step: Any, frame: Frame) -> Frame:
    parts: Frame = []
    for place, (block, known) in enumerate(zip(writer.singles(frame), step.categories_, strict=True)):
        values = np.arange(len(known), dtype=np.float64)
        if step._infrequent_enabled and step._default_to_infrequent_mappings[place] is not None:
            values = np.asarray(step._default_to_infrequent_mappings[place], np.float64)
            values = np.append(values, [0.0] * (len(known) - len(values)))
        for index, value in enumerate(known):
            if is_missing(value):
                values[index] = float(step.encoded_missing_value)
        other = np.nan if step.unknown_value is None else float(step.unknown_value)
        name = table(writer, codes(writer, block, known), values.reshape(-1, 1), [other])
        parts.append(Block(name, False, 1))
    return parts


def _target(writer: Writer, step: Any, frame: Frame) -> Frame:
    if step.target_type_ == "multiclass":
        raise NotConverted("a TargetEncoder for more than two classes is not converted")
    parts: Frame = []
    for block, known, values in zip(writer.singles(frame), step.categories_, step.encodings_, strict=True):
        rows = np.asarray(values, np.float64).reshape(-1, 1)
        parts.append(Block(table(writer, codes(writer, block, known), rows, [step.target_mean_]), False, 1))
    return parts


KNOWN: dict[str, Callable[[Writer, Any, Frame], Frame]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _columns,
    "FeatureUnion": _union,
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "FunctionTransformer": _function,
    "SimpleImputer": _imputer,
    "MissingIndicator": _indicator,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "TargetEncoder": _target,
    "CountVectorizer": word_counts,
    "TfidfTransformer": tfidf,
}
