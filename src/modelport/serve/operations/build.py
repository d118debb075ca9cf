"""The few pieces that operations are built of: replies, bodies, parameters, and the words of each status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fragment = dict[str, Any]
"""A part of an OpenAPI document; a msgspec type in it stands for its schema."""

Operations = Mapping[str, Fragment]
"""`"METHOD /path"` -> operation, the path as the route spells it, without converters."""

Tables = Mapping[str, Operations]
"""Module of `modelport.serve` whose functions answer -> its operations."""

JSON = "application/json"
BINARY = "application/octet-stream"
HTML = "text/html; charset=utf-8"

ERROR: Fragment = {
    "type": "object",
    "properties": {
        "error": {
            "type": "string",
            "description": "What was expected, what came, where, and what to do.",
        }
    },
    "required": ["error"],
}

_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
_WORDS: dict[int, str] = {
    400: "Malformed, or not what the model takes.",
    401: "No key, or one that is not known.",
    403: "The key, the caller's address or its page may not do this.",
    404: "No such model, version or path.",
    406: "Nothing here answers in a form that Accept allows.",
    408: "The time for it was over.",
    409: "It changed in the meantime.",
    413: "Over the limit of bytes or pixels, as it came or unpacked.",
    415: "Nothing here reads these bytes, this Content-Type or this Content-Encoding.",
    429: "This caller asks more often than it may.",
    450: "The queue is full.",
    500: "The network itself failed, or a bug.",
    501: "Nothing installed here can do this.",
    503: "Not now: stopping, a full queue, or a model that is not ready.",
    504: "The deadline passed.",
}
_LATER = frozenset([408, 429, 450, 503, 504])

KEYED = (401, 403, 429)
"""What a route answers whose callers are asked for keys, or held to a rate."""
BODY = (400, 413, 415)
"""What a route answers that reads a body."""
MODEL = (404, 503)
"""What a route answers that needs a model that is ready."""
COMPUTE = (500, 504)
"""What a route answers that runs one."""


def ref(name: str) -> Fragment:
    """A schema that a table's SCHEMAS name."""
    return {"$ref": f"#/components/schemas/{name}"}


def operation(
    summary: str,
    tag: str,
    *replies: Mapping[int, Fragment],
    body: Fragment | None = None,
    parameters: tuple[Fragment, ...] = (),
    description: str = "",
) -> Fragment:
    """One method of one path.

    Args:
        replies: by status; what several of them say of one status holds as the last says.
        parameters: those of the query and the headers; those of the path follow from it.
    """
    made: Fragment = {"summary": summary, "tags": [tag]}
    if description:
        made["description"] = description
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = body
    merged = {status: reply for each in replies for status, reply in each.items()}
    made["responses"] = {str(status): merged[status] for status in sorted(merged)}
    return made


def answers(
    schema: Any, words: str = "The answer.", *, status: int = 200, kind: str = JSON, **headers: str
) -> dict[int, Fragment]:
    """The reply of a success: its schema (None: no body), and headers with what they say."""
    made: Fragment = {"description": words}
    if schema is not None:
        made["content"] = {kind: {"schema": schema}}
    if headers:
        made["headers"] = {
            name.replace("_", "-"): {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    return {status: made}


def refuses(*statuses: int, schema: Any = None, also: Mapping[int, str] | None = None) -> dict[int, Fragment]:
    """The refusals of a route, in the words above or in `also`'s."""
    words = _WORDS | dict(also or {})
    made: dict[int, Fragment] = {}
    for status in (*statuses, *(also or ())):
        made[status] = {
            "description": words[status],
            "content": {JSON: {"schema": schema or ref("Error")}},
        }
        if status in _LATER:
            made[status]["headers"] = _RETRY
    return made


def takes(words: str = "", *, required: bool = True, **kinds: Any) -> Fragment:
    """A request's body: keyword by keyword a media type (see `MEDIA`) and its schema; None: bytes."""
    content = {MEDIA[name]: {"schema": {} if schema is None else schema} for name, schema in kinds.items()}
    made: Fragment = {"required": required, "content": content}
    if words:
        made["description"] = words
    return made


MEDIA = {
    "json": JSON,
    "binary": BINARY,
    "form": "multipart/form-data",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "csv": "text/csv",
    "text": "text/plain",
    "urlencoded": "application/x-www-form-urlencoded",
}


def header(name: str, words: str, schema: Fragment | None = None) -> Fragment:
    """A request's header, which may be left out."""
    return _parameter(name, "header", words, schema)


def query(name: str, words: str, schema: Fragment | None = None) -> Fragment:
    """A query parameter, which may be left out."""
    return _parameter(name, "query", words, schema)


def struct(required: Mapping[str, Any] | None = None, **optional: Any) -> Fragment:
    """An object: properties that are always there, and others that may be."""
    must = dict(required or {})
    made: Fragment = {"type": "object", "properties": must | optional}
    if must:
        made["required"] = list(must)
    return made


def array(of: Any, **limits: Any) -> Fragment:
    """A list of one kind of thing."""
    return {"type": "array", "items": of, **limits}


TEXT: Fragment = {"type": "string"}
NUMBER: Fragment = {"type": "number"}
COUNT: Fragment = {"type": "integer", "minimum": 0}
ANYTHING: Fragment = {}
BASE64: Fragment = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "Base64 of a picture's file.",
}


def _parameter(name: str, place: str, words: str, schema: Fragment | None) -> Fragment:
    return {"name": name, "in": place, "description": words, "schema": schema or TEXT}


TIMED = "Milliseconds by stage, and `batch`: how many rows ran together."
"""What the header Server-Timing says, on each answer of a model."""

OPTIONS: Fragment = {"x-modelport-options": True}
"""Among the parameters: where the options of the bundles that are served are listed."""

TIMEOUT = header(
    "X-Request-Timeout-Ms",
    "How long the caller waits; what would take longer is refused at once.",
    {"type": "integer", "minimum": 1, "maximum": 999_999_999},
)
