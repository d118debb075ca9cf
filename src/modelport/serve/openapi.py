"""The OpenAPI 3.1 document of a running server, made of its routes and of the tables in `operations`.

A route is in the document if it is mounted, whichever dialects that are; its words come from the tables.
A third party's route, which no table knows, is described by its docstring.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from .._version import __version__
from ..bundle.manifest import Column, Manifest
from ..engine.repository import Repository
from .frame import page
from .guard.scope import scope_of
from .operations import eas, hf, mlflow, oip, pages, predict, rollout, tfs, torchserve, track
from .operations.build import ERROR, OPTIONS, Fragment, query
from .predict import json_response

TABLES = (oip, predict, track, tfs, hf, mlflow, torchserve, eas, rollout, pages)
"""In the order of the page."""

_REFS = "#/components/schemas/{name}"
_INFO = {
    "title": "Modelport",
    "version": __version__,
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "description": (
        'Every error is `{"error": …}` but where a dialect has words of its own. Bodies may come with '
        "Content-Encoding gzip or deflate; replies are compressed where Accept-Encoding asks for it (of "
        "those under /v2 the answers to infer). The connection itself answers 400, 408, 413, 414, 431 and "
        "505 where a request is none."
    ),
}
_SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `modelport keys`, for servers that were given keys.",
    }
}
_PARAMETERS: dict[str, tuple[str, Fragment]] = {
    "name": (
        "A model; `NAME.net` is the network of NAME alone, where tensors are asked.",
        {"type": "string"},
    ),
    "version": ("A version of it; the newest that is ready, where a path has none.", {"type": "string"}),
    "label": ("`stable`, or `canary` while a version is tried beside it.", {"enum": ["stable", "canary"]}),
    "number": ("Which, from 0 on.", {"type": "integer", "minimum": 0}),
    "path": ("A path below this one.", {"type": "string"}),
}


async def show(request: Request) -> Response:
    """GET /openapi.json: this server's document."""
    repository: Repository = request.app.state.repository
    ready = [entry for entry in repository.entries() if entry.model]
    examples = {"name": ready[0].name, "version": ready[0].version} if ready else {}
    manifests = [entry.bundle.manifest for entry in ready]
    made = document(request.app.routes, examples, option_parameters(manifests))
    if "Row" in made["components"]["schemas"] and (rows := row_schemas(manifests)):
        made["components"]["schemas"]["Row"]["anyOf"] = rows
    return json_response(made)


async def docs(request: Request) -> Response:
    """GET /docs: the page that shows it."""
    return page("docs")


ROUTES: list[BaseRoute] = [Route("/openapi.json", show), Route("/docs", docs)]
"""For everybody: what a server can do is no secret."""


def operations() -> dict[tuple[str, str], Fragment]:
    """All tables in one: by module of `serve` and `"METHOD /path"`."""
    return {
        (module, key): each
        for table in TABLES
        for module, described in table.TABLES.items()
        for key, each in described.items()
    }


def module_of(route: BaseRoute) -> str:
    """The module whose function answers, as the tables name it; a mount is of the pages."""
    if isinstance(route, Mount):
        return "pages"
    return str(getattr(getattr(route, "endpoint", None), "__module__", "")).removeprefix(f"{__package__}.")


def methods(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, BaseRoute]]:
    """`"METHOD /path"` of each route, without the HEADs that follow from GETs; a mount is `GET …/{path}`."""
    for route in routes:
        if isinstance(route, Route):
            for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
                yield f"{method} {route.path_format}", route
        elif isinstance(route, Mount):
            yield f"GET {route.path}/{{path}}", route


def option_parameters(manifests: Iterable[Manifest]) -> list[Fragment]:
    """The query parameters that the options of some bundles make; the first bundle's where names meet."""
    found: dict[str, Fragment] = {}
    kinds = {"float32": "number", "int64": "integer", "bool": "boolean"}
    for manifest in manifests:
        for option in manifest.options:
            schema: Fragment = {"type": kinds[option.dtype], "default": option.default}
            limits = {"minimum": option.minimum, "maximum": option.maximum}
            schema |= {name: limit for name, limit in limits.items() if limit is not None}
            words = f"Option of {manifest.name}: {option.description}"
            found.setdefault(option.name, query(option.name, words, schema))
    return list(found.values())


def row_schemas(manifests: Iterable[Manifest]) -> list[Fragment]:
    """What a row of each table is: its columns with their types, ranges and categories."""
    return [
        {
            "title": f"A row of {manifest.name}",
            "type": "object",
            "properties": {column.name: _column(column) for column in manifest.columns},
            "required": [column.name for column in manifest.columns if not column.missing],
            "additionalProperties": False,
        }
        for manifest in manifests
        if manifest.columns
    ]


def _column(column: Column) -> Fragment:
    kinds = {"int64": "integer", "bool": "boolean", "string": "string"}
    kind = kinds.get(column.dtype, "number")
    made: Fragment = {"type": [kind, "null"] if column.missing else kind}
    limits = {"minimum": column.minimum, "maximum": column.maximum}
    if column.unseen:
        limits = {}
    elif column.categories:
        made["enum"] = [*column.categories, *([None] if column.missing else [])]
    made |= {name: limit for name, limit in limits.items() if limit is not None}
    if column.typical is not None:
        made["examples"] = [column.typical]
    if column.description:
        made["description"] = column.description
    return made


def document(
    routes: Iterable[BaseRoute],
    examples: Mapping[str, str] | None = None,
    options: Sequence[Fragment] = (),
) -> Fragment:
    """The document for these routes.

    Args:
        examples: by path parameter, a value that this server knows.
        options: the parameters that stand for the bundles' options; see `option_parameters`.
    """
    known = operations()
    paths: dict[str, Fragment] = {}
    for key, route in methods(routes):
        method, _, path = key.partition(" ")
        # Of two routes on one path the first one answers.
        described = known.get((module_of(route), key))
        paths.setdefault(path, {}).setdefault(
            method.lower(), _operation(key, route, described, examples or {}, options)
        )
    schemas: Fragment = {"Error": ERROR}
    for table in TABLES:
        schemas |= getattr(table, "SCHEMAS", {})
    made = {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in _tags(paths)],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SECURITY},
    }
    return _with_types(made)


def _operation(
    key: str,
    route: BaseRoute,
    known: Mapping[str, Any] | None,
    examples: Mapping[str, str],
    options: Sequence[Fragment],
) -> Fragment:
    path = key.partition(" ")[2]
    made = dict(known) if known else _undescribed(route)
    names = re.findall(r"{(\w+)}", path)
    words = key.replace("{", "by_").replace("}", "") + ("slash" if path.endswith("/") else "")
    made["operationId"] = re.sub(r"\W+", "_", words).lower()
    of_path = [_path_parameter(name, examples.get(name)) for name in names]
    asked = [each for each in made.get("parameters", ()) if each is not OPTIONS]
    if len(asked) != len(made.get("parameters", ())):
        asked += options
    made["parameters"] = [*of_path, *asked]
    if not made["parameters"]:
        del made["parameters"]
    needs = scope_of(route)
    if needs is not None and needs != "open":
        # Nobody administrates without a key; the rest asks for one only where the server has keys.
        made["security"] = [{"key": []}] if needs == "admin" else [{}, {"key": []}]
        made["x-modelport-scope"] = needs
    return made


def _path_parameter(name: str, example: str | None) -> Fragment:
    words, schema = _PARAMETERS.get(name, ("", {"type": "string"}))
    made: Fragment = {"name": name, "in": "path", "required": True, "schema": schema}
    if words:
        made["description"] = words
    if example is not None:
        made["example"] = example
    return made


def _undescribed(route: BaseRoute) -> Fragment:
    words = (getattr(getattr(route, "endpoint", None), "__doc__", None) or "").strip().partition("\n")[0]
    return {
        "summary": words or "A route of a plugin",
        "tags": ["Plugins"],
        "responses": {"default": {"description": "See the plugin's own documentation."}},
    }


def _tags(paths: Mapping[str, Fragment]) -> list[str]:
    used = {tag for path in paths.values() for each in path.values() for tag in each["tags"]}
    order = [tag for each in operations().values() for tag in each["tags"]]
    return [tag for tag in dict.fromkeys((*order, *sorted(used))) if tag in used]


def _with_types(made: Fragment) -> Fragment:
    """The document with msgspec's types as schemas among its components."""
    types: dict[type, None] = {}

    def collect(value: Any) -> None:
        if isinstance(value, type):
            types[value] = None
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(inner)

    def replaced(value: Any) -> Any:
        if isinstance(value, type):
            return refs[value]
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in value.items()}
        return [replaced(inner) for inner in value] if isinstance(value, list) else value

    collect(made)
    found, components = msgspec.json.schema_components(types, ref_template=_REFS)
    refs = dict(zip(types, found, strict=True))
    whole: Fragment = replaced(made)
    whole["components"]["schemas"] = _used(whole["paths"], whole["components"]["schemas"] | components)
    return whole


def _used(paths: Fragment, schemas: Fragment) -> Fragment:
    """Those schemas that the paths lead to."""
    found: Fragment = {}
    waiting = _named(paths)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting |= _named(schemas[name])
    return {name: found[name] for name in sorted(found)}


def _named(value: Any) -> set[str]:
    """The schemas that a fragment refers to."""
    if isinstance(value, dict):
        own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_named, value.values()))
    return set().union(*map(_named, value)) if isinstance(value, list) else set()
