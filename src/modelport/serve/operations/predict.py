"""`/predict`, the server's own API."""

from __future__ import annotations

from ...engine.model import Timing
from .build import (
    BASE64,
    BODY,
    COMPUTE,
    COUNT,
    KEYED,
    MODEL,
    NUMBER,
    OPTIONS,
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
    "Detection": struct(
        {
            "label": TEXT,
            "class": COUNT,
            "score": NUMBER,
            "box": array(NUMBER, minItems=4, maxItems=4)
            | {"description": "x1, y1, x2, y2 in pixels of the picture as it was sent (EXIF-turned)."},
        }
    ),
    "Answer": {
        "description": "Labels, or a detector's objects, by falling score; of a bundle without either its "
        "answer's tensors by name.",
        "anyOf": [array(ref("Detection")), array(ref("Label")), {"type": "object"}],
    },
    "Prediction": struct({"model": TEXT, "version": TEXT, "answer": ref("Answer"), "timing_ms": Timing}),
}

_INPUTS = {"type": "object", "description": "Tensors by name, as nested lists."}
_CHOSEN = {"type": "object", "description": "The bundle's options by name, as in the query."}
_PICTURE = struct({"image": BASE64}, parameters=_CHOSEN) | {"title": "A picture"}
_TENSORS = struct({"inputs": _INPUTS}, parameters=_CHOSEN) | {"title": "Tensors"}
ITEM = takes(
    "One item: a picture's file, told by its first bytes (whatever is neither JSON nor a form), or for a "
    "bundle that takes tensors a .npy, a .npz or JSON. A form's other fields are options, as in the query.",
    binary=None,
    png=None,
    jpeg=None,
    form=struct({"file": {"type": "string", "format": "binary"}}),
    json={"anyOf": [_PICTURE, _TENSORS]},
)

_REPLY = answers(ref("Prediction"), Server_Timing="Milliseconds by stage.")
for _kind in ("image/jpeg", "image/png"):
    _REPLY[200]["content"][_kind] = {
        "schema": {"description": "Of a detector, where Accept prefers it: the picture with its objects."}
    }
_PREDICT = operation(
    "Answer one item",
    TAG,
    _REPLY,
    refuses(*BODY, *KEYED, *MODEL, *COMPUTE, 406),
    body=ITEM,
    parameters=(TIMEOUT, OPTIONS),
)

_OPERATIONS: Operations = {"POST /predict/{name}": _PREDICT, "POST /predict/{name}/{version}": _PREDICT}
TABLES: Tables = {"predict": _OPERATIONS}
