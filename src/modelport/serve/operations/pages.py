"""The pages, the JSON they read, and what the server tells of itself."""

from __future__ import annotations

from ...bundle.manifest import Option
from ...tensors import TensorSpec
from ..watch import Figures
from .build import (
    BINARY,
    COUNT,
    HTML,
    KEYED,
    TEXT,
    Fragment,
    Operations,
    Tables,
    answers,
    array,
    operation,
    ref,
    refuses,
    struct,
)

TAG = "Pages"
WATCH = "Watching"

_SUMMARY: Fragment = {
    "name": TEXT,
    "version": TEXT,
    "versions": array(TEXT),
    "task": TEXT,
    "description": TEXT,
    "page": TEXT,
    "inputs": array(TensorSpec),
    "outputs": array(TensorSpec),
    "state": {"enum": ["ready", "failed", "not loaded"]},
    "reason": TEXT,
    "variant": TEXT
    | {"description": "The form of the network that answers: a variant, or `packed`; empty where none does."},
    "runtime": TEXT | {"description": "What runs it; empty where nothing does."},
}
_OR_NULL = {"type": ["object", "null"]}

SCHEMAS: Fragment = {
    "ModelSummary": struct(_SUMMARY),
    "ModelPage": struct(
        _SUMMARY
        | {
            "labels": array(TEXT),
            "options": array(Option) | {"description": "What a caller may set for one request."},
            "samples": array(struct({"name": TEXT, "url": TEXT})),
            "card": TEXT | {"description": "The model card, Markdown."},
            "source": _OR_NULL | {"properties": {"format": TEXT, "framework": TEXT}},
            "golden": _OR_NULL
            | {"properties": {"cases": COUNT, "source": TEXT, "generated": {"type": "boolean"}}},
            "digest": TEXT,
        }
    ),
}

_HTML = answers(TEXT, "A page.", kind=HTML)
_LOST: dict[int, Fragment] = {404: {"description": "No such model.", "content": {HTML: {"schema": TEXT}}}}
_PAGE = operation("A model's page", TAG, _HTML, _LOST)
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", BINARY)
_ABOUT = operation("What a model's page shows", TAG, answers(ref("ModelPage")), refuses(*KEYED, 404))

_PAGES: Operations = {
    "GET /": operation("The first page: the models, or the one this server is for", TAG, _HTML),
    "GET /models": operation("The page of all models", TAG, _HTML),
    "GET /models/{name}": _PAGE,
    "GET /models/{name}/{version}": _PAGE,
    "GET /static/{path}": operation(
        "A file of the pages",
        TAG,
        {200: {"description": "The file.", "content": {"*/*": {"schema": {}}}}},
        refuses(404),
    ),
    "GET /api/models": operation(
        "The models", TAG, answers(struct({"models": array(ref("ModelSummary"))})), refuses(*KEYED)
    ),
    "GET /api/models/{name}": _ABOUT,
    "GET /api/models/{name}/{version}": _ABOUT,
    "GET /api/models/{name}/{version}/samples/{number}": operation(
        "A golden case's picture",
        TAG,
        {200: {"description": "The file.", "content": {kind: {"schema": {}} for kind in _PICTURES}}},
        refuses(*KEYED, 404),
    ),
}

_DOCS: Operations = {
    "GET /docs": operation("This page", TAG, _HTML),
    "GET /openapi.json": operation("This document", TAG, answers({"type": "object"})),
}

_METRICS = operation(
    "Counts and durations for Prometheus",
    WATCH,
    {
        200: {
            "description": "Prometheus text, or OpenMetrics where it is asked for.",
            "content": {"text/plain": {"schema": TEXT}, "application/openmetrics-text": {"schema": TEXT}},
        }
    },
    refuses(*KEYED),
)
_WATCH: Operations = {
    "GET /dashboard": operation("A page that shows what the server does now", WATCH, _HTML),
    "GET /api/dashboard": operation(
        "The figures of that page, since the start", WATCH, answers(Figures), refuses(*KEYED)
    ),
    "GET /metrics": _METRICS,
    "GET /monitoring/prometheus/metrics": _METRICS,  # of the dialect `tfs`
}

TABLES: Tables = {"pages": _PAGES, "openapi": _DOCS, "watch": _WATCH}
