"""TorchServe's inference API, and its management API on the port for administration."""

from __future__ import annotations

from .build import (
    ANYTHING,
    COUNT,
    JSON,
    KEYED,
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
    query,
    ref,
    refuses,
    struct,
    takes,
)

TAG = "TorchServe"
MANAGE = "TorchServe management"

_ERROR = ref("TorchServeError")
# The connection, and the guard before the route, answer in this server's own words.
_EITHER = {"anyOf": [_ERROR, ref("Error")]}

SCHEMAS: Fragment = {
    "TorchServeError": struct({"code": COUNT, "type": TEXT, "message": TEXT}),
    "TorchServeStatus": struct({"status": TEXT}),
    "TorchServeModel": struct(
        {
            "modelName": TEXT,
            "modelVersion": TEXT,
            "modelUrl": TEXT,
            "runtime": TEXT,
            "minWorkers": COUNT,
            "maxWorkers": COUNT,
            "batchSize": COUNT,
            "workers": array(
                struct({"id": TEXT, "startTime": TEXT, "status": TEXT, "memoryUsage": COUNT, "pid": COUNT})
            ),
            "jobQueueStatus": struct({"remainingCapacity": {"type": "integer"}, "pendingRequests": COUNT}),
        }
    ),
}


def _refuses(*statuses: int) -> dict[int, Fragment]:
    """TorchServe's errors, and this server's before the route."""
    return refuses(*statuses, schema=_ERROR) | refuses(*KEYED) | refuses(400, 413, schema=_EITHER)


_STATUS = answers(ref("TorchServeStatus"))
_ITEM = takes(
    "A picture's file or a form's, Base64 in `data` of a form or of JSON; a text; or JSON as the model "
    "takes it.",
    binary=None,
    png=None,
    jpeg=None,
    form=struct(data={"type": "string", "format": "binary"}),
    urlencoded=struct({"data": TEXT}),
    json=ANYTHING,
)
_PREDICT = operation(
    "Ask a model",
    TAG,
    answers(
        ANYTHING,
        "A classification is {label: probability}, a detection a list of {label: box, score}, anything else "
        "nested lists.",
        Server_Timing=TIMED,
    ),
    _refuses(404, 415, 500, 501, 503, 504),
    body=_ITEM,
    parameters=(TIMEOUT, OPTIONS),
)
_EXPLAIN = operation("Explanations, which are not made here", TAG, _refuses(404, 501))
_PING = operation(
    "Whether every model answers",
    TAG,
    answers(ref("TorchServeStatus")),
    {500: {"description": "One does not.", "content": {JSON: {"schema": ref("TorchServeStatus")}}}},
)
_DESCRIPTION = operation("What TorchServe says of its routes", TAG, answers({"type": "object"}))

_INFERENCE: Operations = {
    "GET /ping": _PING,
    "POST /ping": _PING,
    "OPTIONS /": _DESCRIPTION,
    "GET /api-description": _DESCRIPTION,
    **{
        f"{method} /{what}/{path}": made
        for what, made in (("predictions", _PREDICT), ("explanations", _EXPLAIN))
        for path in ("{name}", "{name}/{version}")
        for method in ("POST", "PUT")
    },
}

_MANAGED = operation(
    "What TorchServe says of these routes", MANAGE, answers({"type": "object"}), refuses(*KEYED)
)
_WORKERS = (
    query("min_worker", "0 with max_worker 0 unloads; the engine chooses how many there are."),
    query("max_worker", "At least min_worker."),
)
_DESCRIBE = operation(
    "Describe a version, or `all`",
    MANAGE,
    answers(array(ref("TorchServeModel"))),
    _refuses(404),
    parameters=(query("customized", "`true`: the bundle's own words too."),),
)
_SCALE = operation(
    "Load, or with no worker unload", MANAGE, _STATUS, _refuses(404, 500, 501, 503), parameters=_WORKERS
)
_UNREGISTER = operation("Unload", MANAGE, _STATUS, _refuses(403, 404, 500))

_MANAGEMENT: Operations = {
    "OPTIONS /": _MANAGED,
    "GET /api-description": _MANAGED,
    "GET /models": operation(
        "The registered models",
        MANAGE,
        answers(struct({"models": array(struct({"modelName": TEXT, "modelUrl": TEXT}))}, nextPageToken=TEXT)),
        _refuses(),
        parameters=(query("limit", "1 to 100."), query("next_page_token", "As the page before said.")),
    ),
    "POST /models": operation(
        "Load a bundle of the repository",
        MANAGE,
        _STATUS,
        _refuses(404, 409, 415, 500, 501, 503),
        parameters=(
            query("url", "NAME/VERSION, a place in the repository. Nothing is fetched."),
            query("model_name", "The bundle's own name, if it is given at all."),
        ),
    ),
    **{
        f"{method} /models/{path}": made
        for path in ("{name}", "{name}/{version}")
        for method, made in (("GET", _DESCRIBE), ("PUT", _SCALE), ("DELETE", _UNREGISTER))
    },
    "PUT /models/{name}/{version}/set-default": operation(
        "Let the bare name mean this version", MANAGE, _STATUS, _refuses(404, 409, 500, 503)
    ),
}

TABLES: Tables = {"dialects.torchserve": _INFERENCE, "dialects.torchserve_manage": _MANAGEMENT}
