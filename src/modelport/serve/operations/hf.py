"""Hugging Face's inference API."""

from __future__ import annotations

from ..dialects.hf import Parameters
from .build import (
    BASE64,
    BODY,
    COMPUTE,
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

TAG = "Hugging Face"

_PIXEL = {"type": "integer"}
SCHEMAS: Fragment = {
    "Loading": struct(
        {"error": TEXT}, estimated_time=NUMBER | {"description": "Seconds; while the model loads."}
    ),
    "DetectedObject": struct(
        {
            "score": NUMBER,
            "label": TEXT,
            "box": struct({"xmin": _PIXEL, "ymin": _PIXEL, "xmax": _PIXEL, "ymax": _PIXEL}),
        }
    ),
}
_DETECTING = struct(
    threshold={"type": ["number", "null"], "description": "The bundle's option `score_threshold`."}
) | {"title": "Of a detector: threshold, and the bundle's options"}

_PARAMETERS: Fragment = {"anyOf": [Parameters, _DETECTING, {"type": "null"}]}
_TABLE: Fragment = {"type": "object", "additionalProperties": array({})}
_BEST = array({"anyOf": [TEXT, NUMBER, array(NUMBER), {"type": "null"}]}) | {"title": "Of a table"}

_BUSY = refuses(503, schema=ref("Loading"))
_ANSWER = operation(
    "Classify a picture, texts or rows, or find a picture's objects",
    TAG,
    answers(
        {"anyOf": [array(ref("DetectedObject")), array(ref("Label")), array(array(ref("Label"))), _BEST]},
        "By falling score; of texts a list for each, of a table the best label or the value of each row.",
        Server_Timing=TIMED,
    ),
    refuses(*BODY, *KEYED, *MODEL, *COMPUTE),
    _BUSY,
    body=takes(
        "The picture's file, or JSON with it in Base64 and parameters; a text, or JSON with texts; a table.",
        binary=None,
        png=None,
        jpeg=None,
        text=TEXT,
        json={
            "anyOf": [
                struct({"inputs": BASE64}, parameters=_PARAMETERS) | {"title": "A picture"},
                struct({"inputs": {"anyOf": [TEXT, array(TEXT)]}}, parameters=_PARAMETERS)
                | {"title": "A text, or texts"},
                struct({"table": _TABLE}) | {"title": "A table"},
                struct({"inputs": struct({"data": _TABLE})}) | {"title": "A table, as the widgets sent it"},
            ]
        },
    ),
    parameters=(TIMEOUT, OPTIONS),
)
_HEALTH = operation(
    "Whether a model answers",
    TAG,
    answers(struct({"status": {"const": "ok"}}), "It does."),
    refuses(*KEYED, 404),
    _BUSY,
)
_INFO = operation(
    "What a model is",
    TAG,
    answers(struct({"model_id": TEXT, "model_version": TEXT, "model_sha": TEXT, "model_pipeline_tag": TEXT})),
    refuses(*KEYED, 404),
)

_OPERATIONS: Operations = {
    "POST /hf/{name}": _ANSWER,
    "POST /hf/{name}/{version}": _ANSWER,
    "POST /models/{name}": _ANSWER,
    "POST /models/{name}/{version}": _ANSWER,
    "GET /hf/{name}/health": _HEALTH,
    "GET /hf/{name}/{version}/health": _HEALTH,
    "GET /hf/{name}/info": _INFO,
    "GET /hf/{name}/{version}/info": _INFO,
}
TABLES: Tables = {"dialects.hf": _OPERATIONS}
