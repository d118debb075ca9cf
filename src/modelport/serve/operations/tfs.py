"""TensorFlow Serving's REST API."""

from __future__ import annotations

from ..dialects.tfs import DTYPES, STATES
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

TAG = "TensorFlow Serving"

_VALUE = ANYTHING | {
    "description": "A number, a text, {b64: …}, nested lists of them, or an object of them by name."
}
_SIGNATURE_NAME = {"enum": ["", "serving_default"]}
_BY_NAME = {"type": "object"}

SCHEMAS: Fragment = {
    "PredictRows": struct({"instances": array(_VALUE)}, signature_name=_SIGNATURE_NAME) | {"title": "Rows"},
    "PredictColumns": struct({"inputs": _VALUE}, signature_name=_SIGNATURE_NAME) | {"title": "Columns"},
    "Examples": struct({"examples": array(_BY_NAME)}, context=_BY_NAME, signature_name=_SIGNATURE_NAME),
    "ServableStatus": struct(
        {
            "version": TEXT,
            "state": {"enum": sorted(set(STATES.values()))},
            "status": struct({"error_code": TEXT, "error_message": TEXT}),
        }
    ),
    "SignatureTensor": struct(
        {
            "dtype": {"enum": sorted(DTYPES.values())},
            "name": TEXT,
            "tensor_shape": struct(
                {"dim": array(struct({"size": TEXT, "name": TEXT})), "unknown_rank": {"const": False}}
            ),
        }
    ),
    "SignatureDef": struct(
        {
            "inputs": _BY_NAME | {"additionalProperties": ref("SignatureTensor")},
            "outputs": _BY_NAME | {"additionalProperties": ref("SignatureTensor")},
            "method_name": TEXT,
        }
    ),
}

_PREDICTED = {
    "anyOf": [
        struct({"predictions": array(_VALUE)}) | {"title": "To rows"},
        struct({"outputs": _VALUE}) | {"title": "To columns"},
    ]
}
_CLASSES = array(array({"type": "array", "items": {"type": ["string", "number"]}}))
_METADATA = struct(
    {
        "model_spec": struct({"name": TEXT, "signature_name": TEXT, "version": TEXT}),
        "metadata": struct(
            {"signature_def": struct({"signature_def": struct({"serving_default": ref("SignatureDef")})})}
        ),
    }
)
_REFUSES = refuses(*BODY, *KEYED, *MODEL, *COMPUTE)
_EXAMPLES = takes("Examples, each with its values by name.", json=ref("Examples"))


def _of(path: str, of: str) -> Operations:
    return {
        f"GET {path}": operation(
            f"States of {of}",
            TAG,
            answers(struct({"model_version_status": array(ref("ServableStatus"))})),
            refuses(*KEYED, 404),
        ),
        f"GET {path}/metadata": operation(
            f"Signature of {of}", TAG, answers(_METADATA), refuses(*KEYED, 404)
        ),
        f"POST {path}:predict": operation(
            f"Ask {of}",
            TAG,
            answers(_PREDICTED, Server_Timing=TIMED),
            _REFUSES,
            body=takes(
                "Rows, or columns by name. Numbers may be NaN and Infinity, in the reply too.",
                json={"anyOf": [ref("PredictRows"), ref("PredictColumns")]},
            ),
            parameters=(TIMEOUT, OPTIONS),
        ),
        f"POST {path}:classify": operation(
            f"Labels and scores by {of}",
            TAG,
            answers(
                struct({"result": _CLASSES}),
                "For each example pairs of a label and its score.",
                Server_Timing=TIMED,
            ),
            _REFUSES,
            body=_EXAMPLES,
            parameters=(TIMEOUT, OPTIONS),
        ),
        f"POST {path}:regress": operation(
            f"One number an example by {of}",
            TAG,
            answers(struct({"result": array({"type": "number"})}), Server_Timing=TIMED),
            _REFUSES,
            body=_EXAMPLES,
            parameters=(TIMEOUT, OPTIONS),
        ),
    }


_OPERATIONS: Operations = {
    **_of("/v1/models/{name}", "a model"),
    **_of("/v1/models/{name}/versions/{version}", "a version"),
    **_of("/v1/models/{name}/labels/{label}", "a labelled version"),
}
TABLES: Tables = {"dialects.tfs": _OPERATIONS}
