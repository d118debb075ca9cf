"""Hugging Face's inference API."""

from __future__ import annotations

from ..dialects.hf import Asked
from .build import (
    BODY,
    COMPUTE,
    KEYED,
    MODEL,
    NUMBER,
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

SCHEMAS: Fragment = {
    "Loading": struct(
        {"error": TEXT}, estimated_time=NUMBER | {"description": "Seconds; while the model loads."}
    )
}

_BUSY = refuses(503, schema=ref("Loading"))
_CLASSIFY = operation(
    "Classify a picture",
    TAG,
    answers(array(ref("Label")), "Labels by falling score."),
    refuses(*BODY, *KEYED, *MODEL, *COMPUTE),
    _BUSY,
    body=takes(
        "The picture's file, or JSON with it in Base64 and parameters.",
        binary=None,
        png=None,
        jpeg=None,
        json=Asked,
    ),
    parameters=(TIMEOUT,),
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
    "POST /hf/{name}": _CLASSIFY,
    "POST /hf/{name}/{version}": _CLASSIFY,
    "POST /models/{name}": _CLASSIFY,
    "POST /models/{name}/{version}": _CLASSIFY,
    "GET /hf/{name}/health": _HEALTH,
    "GET /hf/{name}/{version}/health": _HEALTH,
    "GET /hf/{name}/info": _INFO,
    "GET /hf/{name}/{version}/info": _INFO,
}
TABLES: Tables = {"dialects.hf": _OPERATIONS}
