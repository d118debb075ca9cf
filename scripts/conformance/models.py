"""The four models that every contestant of the scorecard serves: the same names, tensors and answers.

`affine` is the one that the checks send requests to; the others give back what they get, so that values can
be compared bit by bit. Needs NumPy alone: it is imported in each contestant's environment.
"""

import numpy as np

WEIGHTS = (np.arange(12).reshape(4, 3) / 4 - 1).astype(np.float32)
ECHOES = {
    "echo": [*(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)), "BOOL", "FP32", "FP64"],
    "echo_fp16": ["FP16"],
    "echo_bytes": ["BYTES"],
}
MODELS = {"affine": ([("x", "FP32", 4)], [("scores", "FP32", 3), ("total", "FP32", 1)])}
MODELS |= {
    name: ([(f"in_{kind}", kind, 4) for kind in kinds], [(f"out_{kind}", kind, 4) for kind in kinds])
    for name, kinds in ECHOES.items()
}
"""Name -> inputs and outputs, each a name, a datatype and the size of a row; the first axis is the batch."""


def compute(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch of answers; raises KeyError for a missing input and ValueError for a wrong shape."""
    taken, _ = MODELS[model]
    if set(inputs) != {name for name, _, _ in taken}:
        raise KeyError(f"inputs are {sorted(inputs)}")
    if model != "affine":
        return {name.replace("in_", "out_", 1): array for name, array in inputs.items()}
    scores = inputs["x"] @ WEIGHTS
    return {"scores": scores, "total": scores.sum(axis=1, keepdims=True)}


def chosen(outputs: dict[str, np.ndarray], wanted: list[str]) -> dict[str, np.ndarray]:
    """The outputs that are asked for, all without any; raises KeyError for one that there is not."""
    return {name: outputs[name] for name in wanted} if wanted else outputs


def metadata(tensors: list[tuple[str, str, int]]) -> list[dict[str, object]]:
    """Tensors as the protocol's metadata has them."""
    return [{"name": name, "datatype": kind, "shape": [-1, size]} for name, kind, size in tensors]
