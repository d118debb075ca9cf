"""Open Inference Protocol v2."""

from __future__ import annotations

from ...tensors import DTYPES_OF_OIP
from .build import (
    ANYTHING,
    BINARY,
    BODY,
    COMPUTE,
    COUNT,
    JSON,
    KEYED,
    MODEL,
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
    takes,
)

TAG = "Open Inference Protocol v2"
_HEADER = "Inference-Header-Content-Length"
_DATATYPE = {"type": "string", "enum": list(DTYPES_OF_OIP)}
_SHAPE = array({"type": "integer", "minimum": 0}, maxItems=16)
_FREE_SHAPE = array({"type": "integer", "minimum": -1})
_SPENT = struct({"count": COUNT, "ns": COUNT})
_BINARY_BODY = {"description": "JSON, then tensors in its order: little-endian, row-major."}

SCHEMAS: Fragment = {
    "InferRequest": struct(
        {"inputs": array(ref("InferInput"))},
        id=TEXT,
        parameters=struct(
            timeout=COUNT | {"description": "Microseconds."}, binary_data_output={"type": "boolean"}
        )
        | {"description": "The protocol's own, and the options of a whole bundle by name."},
        outputs=array(
            struct(
                {"name": TEXT},
                parameters=struct(
                    binary_data={"type": "boolean"}, classification={"type": "integer", "minimum": 1}
                ),
            )
        ),
    ),
    "InferInput": struct(
        {"name": TEXT, "datatype": _DATATYPE, "shape": _SHAPE},
        parameters=struct(binary_data_size=COUNT),
        data=array(ANYTHING) | {"description": "Numbers, booleans or texts, nested or flat."},
    ),
    "InferReply": struct(
        {"model_name": TEXT, "model_version": TEXT, "outputs": array(ref("InferOutput"))}, id=TEXT
    ),
    "InferOutput": struct(
        {"name": TEXT, "datatype": _DATATYPE, "shape": _SHAPE},
        data=array(
            {"type": ["number", "boolean", "string", "null"], "description": "null: not a finite number."}
        ),
        parameters=struct({"binary_data_size": COUNT}),
    ),
    "TensorMetadata": struct({"name": TEXT, "datatype": _DATATYPE, "shape": _FREE_SHAPE}),
    "ModelMetadata": struct(
        {
            "name": TEXT,
            "versions": array(TEXT),
            "platform": TEXT,
            "inputs": array(ref("TensorMetadata")),
            "outputs": array(ref("TensorMetadata")),
        },
        parameters={"type": "object", "additionalProperties": ref("OfferedOption")}
        | {"description": "The bundle's options, where it has any."},
    ),
    "OfferedOption": struct(
        {
            "dtype": {"enum": ["float32", "int64", "bool"]},
            "default": {"type": ["number", "boolean"]},
            "minimum": {"type": ["number", "null"]},
            "maximum": {"type": ["number", "null"]},
            "description": TEXT,
        }
    ),
    "IndexEntry": struct(
        {
            "name": TEXT,
            "version": TEXT,
            "state": {"enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
            "reason": TEXT,
        }
    ),
    "ModelConfig": struct(
        {
            "name": TEXT,
            "platform": TEXT,
            "backend": TEXT,
            "max_batch_size": COUNT,
            "input": array(ref("ConfigTensor")),
            "output": array(ref("ConfigTensor")),
        }
    ),
    "ConfigTensor": struct({"name": TEXT, "data_type": TEXT, "dims": _FREE_SHAPE}),
    "ModelStatistics": struct(
        {"name": TEXT, "version": TEXT},
        last_inference=COUNT | {"description": "Milliseconds since 1970."},
        inference_count=COUNT,
        execution_count=COUNT,
        inference_stats={"type": "object", "additionalProperties": _SPENT},
        batch_stats=array(struct({"batch_size": COUNT})),
    ),
}

_READ = (*KEYED, 404)
_STATISTICS = answers(struct({"model_stats": array(ref("ModelStatistics"))}), "Counts and durations.")
_READY = struct({"name": TEXT, "ready": {"const": True}})


def _infer(of: str) -> Fragment:
    replies = answers(ref("InferReply"), "The outputs.", Server_Timing=TIMED)
    replies[200]["content"][BINARY] = {"schema": _BINARY_BODY}
    return operation(
        f"Ask {of}",
        TAG,
        replies,
        refuses(*BODY, *KEYED, *MODEL, *COMPUTE, also={501: "A tensor in shared memory."}),
        body=takes(
            "`NAME` is the whole bundle (`image`), `NAME.net` its network alone (prepared tensors). "
            f"With {_HEADER} so many bytes of JSON, and tensors behind them.",
            json=ref("InferRequest"),
            binary=_BINARY_BODY,
        ),
        parameters=(
            header(_HEADER, "Bytes of JSON at the body's start; 0: the body is the one tensor.", COUNT),
            TIMEOUT,
        ),
    )


def _of_model(path: str, of: str, counted: str) -> Operations:
    return {
        f"GET {path}": operation(
            f"Inputs and outputs of {of}", TAG, answers(ref("ModelMetadata")), refuses(*_READ)
        ),
        f"GET {path}/ready": operation(
            f"Whether {of} answers", TAG, answers(_READY, "It does."), refuses(*_READ, 503)
        ),
        f"GET {path}/config": operation(
            f"Configuration of {of}, in Triton's words", TAG, answers(ref("ModelConfig")), refuses(*_READ)
        ),
        f"GET {path}/stats": operation(f"Statistics of {counted}", TAG, _STATISTICS, refuses(*_READ)),
        f"POST {path}/infer": _infer(of),
    }


_TRACED = answers(struct({"trace_level": array(TEXT)}))
_LOGGED = answers({"type": "object", "additionalProperties": {"type": "boolean"}})


def _trace(path: str) -> Operations:
    return {
        f"GET {path}": operation("Triton's trace settings", TAG, _TRACED, refuses(*_READ)),
        f"POST {path}": operation(
            "Trace settings cannot be changed from afar",
            TAG,
            _TRACED,
            refuses(*BODY, *_READ, 501),
            body=takes(json={"type": "object"}),
        ),
    }


_REGIONS: Operations = {
    f"{method} /v2/{kind}sharedmemory{path}": operation(
        "Shared memory, which callers cannot name here", TAG, refuses(*KEYED, 501)
    )
    for kind in ("system", "cuda")
    for method, path in (
        ("GET", "/status"),
        ("GET", "/region/{region}/status"),
        ("POST", "/region/{region}/register"),
        ("POST", "/region/{region}/unregister"),
        ("POST", "/unregister"),
    )
}

_SERVER = operation(
    "The server, and the protocol's extensions that it has",
    TAG,
    answers(struct({"name": TEXT, "version": TEXT, "extensions": array(TEXT)})),
    refuses(*KEYED),
)
_HEALTH = struct({"ready": {"type": "boolean"}})

_NOT_ALL = "Of several workers one did not do it: the error names it and says why; asking again is safe."

_OPERATIONS: Operations = {
    "GET /v2": _SERVER,
    "GET /v2/": _SERVER,
    "GET /v2/health/live": operation(
        "Whether the server runs", TAG, answers(struct({"live": {"const": True}}), "It does.")
    ),
    "GET /v2/health/ready": operation(
        "Whether every model answers",
        TAG,
        answers(_HEALTH, "They do."),
        {503: {"description": "One does not, or the server stops.", "content": {JSON: {"schema": _HEALTH}}}},
    ),
    "GET /v2/models": operation(
        "The models' names", TAG, answers(struct({"models": array(TEXT)})), refuses(*KEYED)
    ),
    "GET /v2/models/stats": operation("Statistics of every model", TAG, _STATISTICS, refuses(*KEYED)),
    "POST /v2/repository/index": operation(
        "Every version of every model, and its state",
        TAG,
        answers(array(ref("IndexEntry"))),
        refuses(*BODY, *KEYED),
        body=takes(required=False, json=struct(ready={"type": "boolean"})),
    ),
    **_of_model("/v2/models/{name}", "a model", "every version of a model"),
    **_of_model("/v2/models/{name}/versions/{version}", "a version", "a version"),
    "POST /v2/repository/models/{name}/load": operation(
        "Load a model from the repository's folder as it is now",
        TAG,
        answers(None, "It is loaded and answers."),
        refuses(*BODY, *KEYED, *MODEL, *COMPUTE, also={500: f"It does not load. {_NOT_ALL}"}),
        body=takes(
            required=False, json=struct(parameters=struct(version=TEXT) | {"additionalProperties": False})
        ),
    ),
    "POST /v2/repository/models/{name}/unload": operation(
        "Unload a model",
        TAG,
        answers(None, "It finishes what it has taken, and takes no more."),
        refuses(*BODY, *KEYED, *MODEL, also={500: _NOT_ALL}),
        body=takes(
            required=False,
            json=struct(parameters=struct(version=TEXT, unload_dependents={"type": "boolean"})),
        ),
    ),
}
_SETTINGS: Operations = {
    **_trace("/v2/trace/setting"),
    **_trace("/v2/models/{name}/trace/setting"),
    "GET /v2/logging": operation("What is logged", TAG, _LOGGED, refuses(*KEYED)),
    "POST /v2/logging": operation(
        "Log settings cannot be changed from afar",
        TAG,
        _LOGGED,
        refuses(*BODY, *KEYED, 501),
        body=takes(json={"type": "object"}),
    ),
    **_REGIONS,
}
TABLES: Tables = {"v2": _OPERATIONS, "v2_settings": _SETTINGS}
