"""The first axis as a batch of any size: rewritten where a model fixes it, and proven by running both.

A model is taken as batched only where three rows together give what each row gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, numpy_helper

from ..errors import BundleError, InputError, ModelFailed
from ..runtimes.onnxruntime import OnnxRuntime, OnnxRuntimeSession
from ..runtimes.session import run_in_parts
from ..tensors import Array, Signature, Tensors, TensorSpec, numpy_dtype
from .canonical import nodes_of, signature_of

ROWS = 3
BATCH = "batch"
SIDES = (32, 224, 64, 16, 8, 4, 1)
"""Sizes tried for dimensions that have a name only."""
DATA_DEPENDENT = frozenset({"NonZero", "NonMaxSuppression", "Compress", "Unique", "Loop", "If", "Scan"})

Run = Callable[[Tensors], dict[str, Array]]


def with_batch(
    model: ModelProto, run: Run, example: Mapping[str, Array] | None = None
) -> tuple[ModelProto, bool, tuple[str, ...]]:
    """The model with a dynamic batch axis where that can be proven.

    Args:
        model: in canonical form; not altered.
        run: the source's own way of computing any number of rows, to compare with.
        example: a prepared batch, where the caller has one; made up where not.

    Returns:
        the model, whether the first axis of every input and output is a batch of any size, and notes.
    """
    signature = signature_of(model)
    firsts = [spec.shape[0] if spec.shape else None for spec in signature.inputs]
    if None in firsts:
        return model, False, ("an input has no axes, so there is no batch axis",)
    fixed = {size for size in firsts if isinstance(size, int)}
    if len(fixed) > 1 or (fixed and len(fixed) != len(set(firsts))):
        return model, False, (f"the inputs' first axes differ ({firsts}), so there is no batch axis",)
    reason = ""
    for candidate in _candidates(model, next(iter(fixed), None)):
        reason, rows = _disproof(candidate, run, example)
        if not reason:
            note = (f"the batch of {next(iter(fixed))} became a batch of any size",) if fixed else ()
            return _named_outputs(candidate, rows), True, note
    if fixed:
        return model, False, (f"the batch stays {next(iter(fixed))}: {reason}",)
    return _fixed_at_one(model), False, (f"the batch is run row by row: {reason}",)


def made_up(signature: Signature, rows: int, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Seeded inputs: normal floats, zeros and ones for whole numbers (valid in any vocabulary), text.

    Args:
        signature: what the network takes.
        rows: the size of every first axis.
        sizes: the size of every other named dimension.
    """
    random = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = (rows, *(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape[1:]))
        dtype = numpy_dtype(spec.dtype)
        if dtype.kind == "f":
            tensors[spec.name] = random.standard_normal(shape).astype(dtype)
        elif dtype.kind == "O":
            tensors[spec.name] = np.array(random.choice(["a", "b", "c"], shape), dtype=object)
        elif spec.dtype == "uint8":
            tensors[spec.name] = random.integers(0, 256, shape).astype(dtype)
        else:
            tensors[spec.name] = random.integers(0, 2, shape).astype(dtype)
    return tensors


def sizes_to_try(signature: Signature) -> Iterator[dict[str, int]]:
    """Sizes for the named dimensions behind the first axis: all alike, from the likeliest on."""
    names = {dim for spec in signature.inputs for dim in spec.shape[1:] if isinstance(dim, str)}
    if not names:
        yield {}
        return
    for side in SIDES:
        yield dict.fromkeys(names, side)


def close_rows(got: Array, want: Array) -> bool:
    """Whether two float or exact arrays agree as closely as another batch size makes them (1e-3, of the
    largest magnitude 1e-4)."""
    if got.shape != want.shape:
        return False
    if want.dtype.kind != "f":
        return bool(np.array_equal(got, want))
    finite = np.abs(want[np.isfinite(want)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(got, want, rtol=1e-3, atol=1e-4 * max(scale, 1e-6), equal_nan=True))


def _candidates(model: ModelProto, fixed: int | None) -> Iterator[ModelProto]:
    """The model with its batch axis named; where it was fixed, with two ways of freeing the reshapes."""
    if fixed is None:
        yield _named_batch(model, None, 0)
        return
    for free in (0, -1):
        yield _named_batch(model, fixed, free)


def _named_batch(model: ModelProto, fixed: int | None, free: int) -> ModelProto:
    """A copy with the first axis of every input and output called `batch`.

    Reshapes of computed values to a constant shape that begins with the fixed batch get `free` (0: as
    the value has it; -1: whatever is left) there instead.
    """
    own = ModelProto()
    own.CopyFrom(model)
    for value in (*own.graph.input, *own.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_param = BATCH
    if fixed is not None:
        # They say the old size.
        del own.graph.value_info[:]
        _free_reshapes(own, fixed, free)
    return own


def _free_reshapes(model: ModelProto, fixed: int, free: int) -> None:
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.type == AttributeProto.TENSOR
    }
    computed = {value.name for value in graph.input}
    for index, node in enumerate(graph.node):
        if not computed.intersection(node.input):
            continue
        computed.update(node.output)
        if node.op_type != "Reshape" or node.input[0] not in computed:
            continue
        if len(node.input) < 2 or node.input[1] not in constants:
            continue
        target = numpy_helper.to_array(constants[node.input[1]]).copy()
        if _allows_zero(node):
            if 0 in target:
                continue
            del node.attribute[:]
        if target.size < 1 or target[0] != fixed or (free == -1 and -1 in target[1:]):
            continue
        target[0] = free
        name = f"modelport_shape_{index}"
        graph.initializer.append(numpy_helper.from_array(target, name))
        node.input[1] = name


def _allows_zero(node: NodeProto) -> bool:
    return any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)


def _disproof(
    candidate: ModelProto, run: Run, example: Mapping[str, Array] | None
) -> tuple[str, dict[str, Array]]:
    """Why the candidate is not the model with a batch axis, or "" and the outputs of `ROWS` rows."""
    try:
        session = OnnxRuntime().open(candidate.SerializeToString())
    except BundleError as problem:
        return problem.message, {}
    try:
        reason = "no input was found that it runs on"
        for batch in _batches(session.signature, example):
            try:
                together = session.run(batch)
            except (ModelFailed, InputError) as problem:
                reason = problem.message
                continue
            return _differing_row(session, run, batch, together), together
        return reason, {}
    finally:
        session.close()


def _batches(signature: Signature, example: Mapping[str, Array] | None) -> Iterator[dict[str, Array]]:
    """Batches of `ROWS` different rows."""
    if example is not None:
        if all(len(example[spec.name]) >= ROWS for spec in signature.inputs):
            yield {spec.name: example[spec.name][:ROWS] for spec in signature.inputs}
        grown: dict[str, Array] = {}
        for spec in signature.inputs:
            rows = np.resize(example[spec.name], (ROWS, *example[spec.name].shape[1:]))
            if rows.dtype.kind == "f":
                # The rows must differ, or a row that leaks into its neighbours would not show.
                rows = (rows * np.array([1, 0.5, -0.25]).reshape(-1, *[1] * (rows.ndim - 1))).astype(
                    rows.dtype
                )
            grown[spec.name] = rows
        yield grown
    for sizes in sizes_to_try(signature):
        yield made_up(signature, ROWS, sizes)


def _differing_row(
    session: OnnxRuntimeSession, run: Run, batch: Tensors, together: Mapping[str, Array]
) -> str:
    for name, array in together.items():
        if array.ndim == 0 or len(array) != ROWS:
            return f"{ROWS} rows give an output {name!r} of shape {list(array.shape)}"
    for row in range(ROWS):
        alone = {name: array[row : row + 1] for name, array in batch.items()}
        try:
            pairs = (("alone", session.run(alone)), ("in the source", run(alone)))
        except (ModelFailed, InputError) as problem:
            return problem.message
        for (where, want), name in product(pairs, together):
            if name not in want or not close_rows(together[name][row : row + 1], want[name]):
                return f"row {row} of {name!r} is not what it is {where}"
    return ""


def _named_outputs(model: ModelProto, rows: Mapping[str, Array]) -> ModelProto:
    """The model with output sizes filled in where they are unnamed and cannot depend on the data."""
    inputs = signature_of(model).inputs
    open_inputs = any(isinstance(dim, str) for spec in inputs for dim in spec.shape[1:])
    if open_inputs or any(node.op_type in DATA_DEPENDENT for node in nodes_of(model)):
        known: Mapping[str, Array] = {}
    else:
        known = rows
    for value in model.graph.output:
        shape = value.type.tensor_type.shape
        if value.name in rows and len(shape.dim) != rows[value.name].ndim:
            value.type.tensor_type.shape.Clear()
            for _ in range(rows[value.name].ndim):
                shape.dim.add()
        for axis, dim in enumerate(shape.dim):
            if axis == 0:
                dim.Clear()
                dim.dim_param = BATCH
            elif value.name in known and not dim.dim_value:
                dim.Clear()
                dim.dim_value = known[value.name].shape[axis]
            elif not dim.dim_value and not dim.dim_param:
                dim.dim_param = f"{value.name}.{axis}"
    onnx.checker.check_model(model)
    return model


def _fixed_at_one(model: ModelProto) -> ModelProto:
    """A copy whose first axes say 1, for a model that says any size and does not keep its word."""
    own = ModelProto()
    own.CopyFrom(model)
    for value in (*own.graph.input, *own.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].Clear()
            value.type.tensor_type.shape.dim[0].dim_value = 1
    return own


def run_session(session: OnnxRuntimeSession) -> Run:
    """A session as a function of any number of rows, whatever number the graph was made for."""
    first: TensorSpec = session.signature.inputs[0]
    fixed = first.shape[0] if first.shape else None
    if not isinstance(fixed, int):
        return session.run
    return lambda batch: run_in_parts(session.run, batch, fixed)


def why_no_batch(graph: bytes, notes: Sequence[str]) -> str | None:
    """A hint for a network without a batch axis.

    Args:
        graph: the network as ONNX.
        notes: what was found out on the way.
    """
    if b"NonMaxSuppression" in graph:
        return (
            "it suppresses boxes itself, which makes one list of those of all pictures: export it without "
            "(PaddleDetection: -o exclude_nms=True; Ultralytics: nms=False)"
        )
    return "; ".join(note for note in notes if "batch" in note) or "; ".join(notes) or None
