"""`/predict`, the server's own API."""

from __future__ import annotations

from ...engine.model import Timing
from .build import (
    BASE64,
    BODY,
    COMPUTE,
    KEYED,
    MODEL,
    TEXT,
    TIMEOUT,
    Fragment,
    Operations,
    Tables,
    answers,
    array,
    operation,
    ref,
    refuses,
    struct,
    takes,
)

TAG = "Predict"

SCHEMAS: Fragment = {
    "Label": struct({"label": TEXT, "score": {"type": ["number", "null"]}}),
    "Answer": {
        "description": "Labels by falling score; of a bundle without labels its answer's tensors by name.",
        "anyOf": [array(ref("Label")), {"type": "object"}],
    },
    "Prediction": struct({"model": TEXT, "version": TEXT, "answer": ref("Answer"), "timing_ms": Timing}),
}

_INPUTS = {"type": "object", "description": "Tensors by name, as nested lists."}
_PICTURE = struct({"image": BASE64}) | {"title": "A picture"}
_TENSORS = struct({"inputs": _INPUTS}) | {"title": "Tensors"}
ITEM = takes(
    "One item: a picture's file, told by its first bytes (whatever is neither JSON nor a form), or for a "
    "bundle that takes tensors a .npy, a .npz or JSON.",
    binary=None,
    png=None,
    jpeg=None,
    form=struct({"file": {"type": "string", "format": "binary"}}),
    json={"anyOf": [_PICTURE, _TENSORS]},
)

_PREDICT = operation(
    "Answer one item",
    TAG,
    answers(ref("Prediction"), Server_Timing="Milliseconds by stage."),
    refuses(*BODY, *KEYED, *MODEL, *COMPUTE),
    body=ITEM,
    parameters=(TIMEOUT,),
)

_OPERATIONS: Operations = {"POST /predict/{name}": _PREDICT, "POST /predict/{name}/{version}": _PREDICT}
TABLES: Tables = {"predict": _OPERATIONS}
