"""The pages: a list of the models, one page for each made from its task, and the JSON they read."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ..bundle.manifest import GoldenCase, Manifest
from ..bundle.store import Bundle
from ..engine.entry import Entry
from ..engine.repository import Repository
from ..engine.wire import Runs
from ..errors import NotFound
from ..steps.row_files import typical_value
from .frame import STATIC, Files, page
from .guard.guard import ANYBODY
from .predict import json_response

PAGES = {
    "digit-classification": "digits",
    "image-classification": "classifier",
    "object-detection": "detector",
    "tabular-classification": "table",
    "tabular-regression": "table",
    "text-classification": "text",
}
"""Task -> page; every other task has the page of what it takes."""
_OF_KIND = {"table": "table", "text": "text"}

_IMAGE_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
}


async def home(request: Request) -> Response:
    """GET /: the list of models, or the one model that this server is for."""
    if request.app.state.home:
        return RedirectResponse(f"/models/{request.app.state.home}")
    return page("index")


async def model_list(request: Request) -> Response:
    """GET /models"""
    return page("index")


async def model_page(request: Request) -> Response:
    """GET /models/{name}[/{version}]; of a model that is not here, the list of those that are, as a 404."""
    try:
        entry = _entry(request)
    except NotFound:
        return page("index", status=404)
    return page(page_of(entry.bundle.manifest), model=True)


def page_of(manifest: Manifest) -> str:
    """The page of a model: that of its task, where it takes what such a page sends."""
    found = _OF_KIND.get(manifest.decode.kind)
    if found is not None:
        return found
    named = PAGES.get(manifest.task, "tensors")
    return "tensors" if named in _OF_KIND.values() else named


async def list_models(request: Request) -> Response:
    """GET /api/models: every model's default version; of those that the caller may ask."""
    repository: Repository = request.app.state.repository
    principal = request.scope.get("state", {}).get("principal", ANYBODY)
    names = [name for name in repository.names() if principal.may_ask(name)]
    models = [_summary(repository, repository.entry(name)) for name in names]
    return json_response({"models": models})


async def describe_model(request: Request) -> Response:
    """GET /api/models/{name}[/{version}]: what its page shows."""
    repository: Repository = request.app.state.repository
    entry = _entry(request)
    bundle = _bundle(entry)
    manifest = bundle.manifest
    source = manifest.lineage.source
    about = {
        "labels": bundle.labels(),
        "options": manifest.options,
        "kind": manifest.decode.kind,
        "columns": [
            msgspec.structs.replace(column, typical=typical_value(column)) for column in manifest.columns
        ],
        "samples": [
            {"name": case.name, "url": f"/api/models/{entry.name}/{entry.version}/samples/{number}"}
            for number, case in enumerate(_cases(entry))
        ],
        "card": _card(entry),
        "source": {"format": source.format, "framework": source.framework} if source else None,
        "golden": _golden(entry),
        "digest": bundle.digest,
    }
    return json_response(_summary(repository, entry) | about)


async def sample(request: Request) -> Response:
    """GET /api/models/{name}/{version}/samples/{number}: a golden case's input file."""
    entry, number = _entry(request), request.path_params["number"]
    cases = _cases(entry)
    if number >= len(cases):
        raise NotFound(f"model {entry.name!r} has {len(cases)} samples")
    data = _bundle(entry).read(cases[number].input)
    kind = next((kind for magic, kind in _IMAGE_TYPES.items() if data.startswith(magic)), None)
    return Response(data, media_type=kind or "application/octet-stream")


def _entry(request: Request) -> Entry:
    repository: Repository = request.app.state.repository
    return repository.entry(request.path_params["name"], request.path_params.get("version"))


def _bundle(entry: Entry) -> Bundle:
    """What answers, also where another bundle lies in its place by now; else what is on the disk."""
    return entry.model.bundle if entry.model is not None else entry.bundle


def _cases(entry: Entry) -> tuple[GoldenCase, ...]:
    """Golden inputs serve as samples, unless they were made up or are not pictures."""
    manifest = entry.bundle.manifest
    if manifest.golden is None or manifest.golden.generated or manifest.decode.kind != "image":
        return ()
    return manifest.golden.cases


def _golden(entry: Entry) -> dict[str, Any] | None:
    golden = entry.bundle.manifest.golden
    if golden is None:
        return None
    return {"cases": len(golden.cases), "source": golden.source, "generated": golden.generated}


def _card(entry: Entry) -> str:
    if "README.md" not in entry.bundle.manifest.files:
        return ""
    return _bundle(entry).read("README.md").decode(errors="replace")


def _summary(repository: Repository, entry: Entry) -> dict[str, Any]:
    manifest = entry.bundle.manifest
    runs = entry.model.runs if entry.model else Runs()
    return {
        "name": manifest.name,
        "version": manifest.version,
        "versions": repository.versions(manifest.name),
        "task": manifest.task,
        "description": manifest.description,
        "page": f"/models/{manifest.name}",
        "inputs": manifest.inputs,
        "outputs": manifest.outputs,
        "state": "ready" if entry.model else "failed" if entry.failed else "not loaded",
        "reason": entry.reason,
        "variant": runs.variant,
        "runtime": runs.runtime,
    }


FILES: list[BaseRoute] = [Mount("/static", Files(directory=STATIC))]
"""What pages are made of."""

ROUTES: list[BaseRoute] = [
    Route("/", home),
    Route("/models", model_list),
    Route("/models/{name}", model_page),
    Route("/models/{name}/{version}", model_page),
    *FILES,
]
"""The pages and their files: for everybody, they say nothing of the models."""

API_ROUTES: list[BaseRoute] = [
    Route("/api/models", list_models),
    Route("/api/models/{name}", describe_model),
    Route("/api/models/{name}/{version}", describe_model),
    Route("/api/models/{name}/{version}/samples/{number:int}", sample),
]
"""What the pages ask, for those who may ask for answers."""
