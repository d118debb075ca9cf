"""onnx's own evaluator in NumPy: slow, and all that runs what is too new or too old for ONNX Runtime."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
from onnx import ModelProto

from ..errors import ModelFailed
from ..runtimes.session import run_in_parts
from ..tensors import Array, Tensors
from .batch import made_up, sizes_to_try
from .canonical import signature_of
from .source import Reference


def evaluator(model: ModelProto) -> Reference:
    """The model as a function of any number of rows, whatever number it was made for.

    Raises:
        ModelFailed: by the function, where an operator has no implementation or fails.
    """
    from onnx.reference import ReferenceEvaluator

    build = cache(lambda: ReferenceEvaluator(model))
    names = [value.name for value in model.graph.output]

    def run(batch: Tensors) -> dict[str, Array]:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                results = build().run(names, dict(batch))
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as problem:
            raise ModelFailed(f"onnx's reference evaluator failed: {problem}") from problem
        return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}

    weights = {tensor.name for tensor in model.graph.initializer}
    first = next(value for value in model.graph.input if value.name not in weights)
    rows = next((dim.dim_value for dim in first.type.tensor_type.shape.dim), 0)
    return run if rows < 1 else lambda batch: run_in_parts(run, batch, rows)


def not_evaluated(model: ModelProto) -> str | None:
    """Why the evaluator does not run the model on anything; None where it does."""
    own = ModelProto()
    own.CopyFrom(model)
    weights = {tensor.name for tensor in own.graph.initializer}
    inputs = [value for value in own.graph.input if value.name not in weights]
    del own.graph.input[:]
    own.graph.input.extend(inputs)
    run, reason = evaluator(own), ""
    signature = signature_of(own)
    for sizes in sizes_to_try(signature):
        try:
            run(made_up(signature, 1, sizes))
        except ModelFailed as problem:
            reason = problem.message
            continue
        return None
    return reason
