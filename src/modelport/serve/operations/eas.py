"""PAI-EAS's service API."""

from __future__ import annotations

from ..dialects.eas_tensors import DT_NAMES
from .build import (
    BINARY,
    BODY,
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
    header,
    operation,
    ref,
    refuses,
    struct,
)
from .predict import ITEM

TAG = "PAI-EAS"

_TENSOR = struct(
    {
        "name": TEXT,
        "shape": array({"type": "integer", "minimum": -1}),
        "type": {"enum": sorted(DT_NAMES.values())},
    }
)

SCHEMAS: Fragment = {
    "EasAnswer": struct({"model": TEXT, "version": TEXT, "answer": ref("Answer")}) | {"title": "Of one item"},
    "EasAnswers": struct({"model": TEXT, "version": TEXT, "answers": array(ref("Answer"))})
    | {"title": "Of several rows or texts: an answer for each, in order"},
    "EasSignature": struct({"signature_name": TEXT, "inputs": array(_TENSOR), "outputs": array(_TENSOR)}),
}

_MD5 = header("Content-MD5", "Of a signed request: the body's MD5, hexadecimal.")
_ANSWER = answers({"anyOf": [ref("EasAnswer"), ref("EasAnswers")]}, Server_Timing=TIMED)
_ANSWER[200]["content"][BINARY] = {
    "schema": {"description": "To a protobuf: the reply of the same processor, with the network's outputs."}
}
_PREDICT = operation(
    "Ask a service",
    TAG,
    _ANSWER,
    refuses(*BODY, *KEYED, *MODEL, 408, 450, 500, 501),
    body=ITEM
    | {
        "description": "A PredictRequest of EAS's TensorFlow or PyTorch processor, or the ONNX processor's "
        f"DataProto, for the network alone. Or what /predict takes. {ITEM['description']}"
    },
    parameters=(_MD5, TIMEOUT, OPTIONS),
)
_SIGNATURE = operation(
    "What a service's network takes and gives",
    TAG,
    answers(ref("EasSignature")),
    refuses(*KEYED, 404),
)

_PATHS = ("/api/predict/{name}", "/api/predict/{name}/", "/api/predict/{name}/{version}")
_OPERATIONS: Operations = {
    f"{method} {path}": operation
    for path in _PATHS
    for method, operation in (("POST", _PREDICT), ("GET", _SIGNATURE))
}
TABLES: Tables = {"dialects.eas": _OPERATIONS}
