"""`/predict`, the server's own API."""

from __future__ import annotations

from ...engine.model import Timing
from .build import (
    ANYTHING,
    BASE64,
    BODY,
    COMPUTE,
    COUNT,
    KEYED,
    MODEL,
    NUMBER,
    OPTIONS,
    TEXT,
    TIMED,
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

RED = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mM8ISfC"
    "wMDAxMDAwMDAAAAMlgD+Dhoy1AAAAABJRU5ErkJggg=="
)
"""A picture of two by two red pixels, in Base64."""

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
    "Prediction": struct({"model": TEXT, "version": TEXT, "answer": ref("Answer"), "timing_ms": Timing})
    | {"title": "Of one item"},
    "PredictionList": struct(
        {"model": TEXT, "version": TEXT, "answers": array(ref("Answer")), "timing_ms": Timing}
    )
    | {"title": "Of a list or a CSV of rows, or a list of texts: an answer for each, in order"},
    "Row": {
        "type": "object",
        "description": "A row of a table, by column name; what may miss may be left out.",
    },
}

_INPUTS = {"type": "object", "description": "Tensors by name, as nested lists."}
_CHOSEN = {"type": "object", "description": "The bundle's options by name, as in the query."}
_PICTURE = struct({"image": BASE64}, parameters=_CHOSEN) | {"title": "A picture"}
_TENSORS = struct({"inputs": _INPUTS}, parameters=_CHOSEN) | {"title": "Tensors"}
_LIST = array(ANYTHING) | {"title": "A row in the columns' order"}
_ROWS = array({"anyOf": [ref("Row"), _LIST]}) | {"title": "Rows"}
_COLUMNS = {"type": "object", "additionalProperties": array(ANYTHING), "title": "Lists of values by column"}
_WORDS = struct({"text": TEXT}) | {"title": "A text"}
_TEXTS = array({"anyOf": [TEXT, _WORDS]}) | {"title": "Texts"}
ITEM = takes(
    "One item: a picture's file, told by its first bytes (whatever is neither JSON nor a form); for a bundle "
    "that takes tensors a .npy, a .npz or JSON; for a table rows as JSON, CSV (with or without a line "
    "of names) or a form's fields; for texts the text itself, or JSON. A picture form's other fields are "
    "options, as in the query.",
    binary=None,
    png=None,
    jpeg=None,
    csv=TEXT,
    text=TEXT,
    urlencoded={"type": "object", "description": "A row's columns, or `text`."},
    form=struct(file={"type": "string", "format": "binary"}),
    json={"anyOf": [_PICTURE, _TENSORS, ref("Row"), _LIST, _ROWS, _COLUMNS, _WORDS, _TEXTS, TEXT]},
)
ITEM["content"]["application/json"]["example"] = {"image": RED}

_REPLY = answers({"anyOf": [ref("Prediction"), ref("PredictionList")]}, Server_Timing=TIMED)
for _kind in ("image/jpeg", "image/png"):
    _REPLY[200]["content"][_kind] = {
        "schema": {"description": "Of a detector, where Accept prefers it: the picture with its objects."}
    }
_PREDICT = operation(
    "Answer an item, or rows and texts together",
    TAG,
    _REPLY,
    refuses(*BODY, *KEYED, *MODEL, *COMPUTE, 406),
    body=ITEM,
    parameters=(TIMEOUT, OPTIONS),
)

_OPERATIONS: Operations = {"POST /predict/{name}": _PREDICT, "POST /predict/{name}/{version}": _PREDICT}
TABLES: Tables = {"predict": _OPERATIONS}
