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

_BUSY = refuses(503, schema=ref("Loading"))
_ANSWER = operation(
    "Classify a picture, or find its objects",
    TAG,
    answers({"anyOf": [array(ref("DetectedObject")), array(ref("Label"))]}, "By falling score."),
    refuses(*BODY, *KEYED, *MODEL, *COMPUTE),
    _BUSY,
    body=takes(
        "The picture's file, or JSON with it in Base64 and parameters.",
        binary=None,
        png=None,
        jpeg=None,
        json=struct({"inputs": BASE64}, parameters={"anyOf": [Parameters, _DETECTING, {"type": "null"}]}),
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
