"""MLflow's scoring protocol."""

from __future__ import annotations

from .build import (
    ANYTHING,
    BODY,
    COMPUTE,
    KEYED,
    MODEL,
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

TAG = "MLflow"

_ERROR = ref("MlflowError")
# The connection answers in this server's own words.
_EITHER = {"anyOf": [_ERROR, ref("Error")]}
_PARAMS = {
    "params": {
        "type": ["object", "null"],
        "properties": {"top_k": {"type": "integer", "minimum": 1}},
        "description": "`top_k`, and the bundle's options.",
    }
}
_SPLIT = struct({"data": array(array(ANYTHING))}, columns=array(ANYTHING), index=array(ANYTHING))
_ROW = {"type": "object"}


def _form(name: str, schema: Fragment) -> Fragment:
    return struct({name: schema}) | {
        "title": name,
        "properties": {name: schema, **_PARAMS},
        "additionalProperties": False,
    }


SCHEMAS: Fragment = {
    "MlflowError": struct({"error_code": TEXT, "message": TEXT}),
    "Invocation": {
        "description": "Exactly one of four forms; numbers may be NaN and Infinity, in the reply too.",
        "anyOf": [
            _form("dataframe_split", _SPLIT),
            _form("dataframe_records", array(_ROW)),
            _form("instances", array(ANYTHING)),
            _form("inputs", ANYTHING),
        ],
    },
    "Predictions": struct({"predictions": array(ANYTHING)}),
}

_INVOKE = operation(
    "Predict a table's rows",
    TAG,
    answers(ref("Predictions"), "One prediction a row.", Server_Timing=TIMED),
    refuses(*BODY, *MODEL, *COMPUTE, 501, schema=_ERROR),
    refuses(*KEYED),
    refuses(400, 413, schema=_EITHER),
    body=takes(
        "A table, rows or columns. Of several models a path without a name is refused.",
        json=ref("Invocation"),
        csv=TEXT,
    ),
    parameters=(TIMEOUT, OPTIONS),
)
_TEXT = {"text/plain": {"schema": TEXT}}
_PING = operation(
    "Whether every model answers",
    TAG,
    {
        200: {"description": "They do.", "content": _TEXT},
        503: {"description": "One does not.", "content": _TEXT},
    },
)

_OPERATIONS: Operations = {
    "GET /ping": _PING,
    "GET /health": _PING,
    "GET /version": operation(
        "This server's version", TAG, {200: {"description": "The version.", "content": _TEXT}}
    ),
    "POST /invocations": _INVOKE,
    "POST /invocations/{name}": _INVOKE,
    "POST /invocations/{name}/{version}": _INVOKE,
}

TABLES: Tables = {"dialects.mlflow": _OPERATIONS}
