"""TorchServe's management API: what is registered here is a bundle of the repository that is loaded.

A model's `url` is its place in the repository, `NAME/VERSION`; nothing is ever fetched. How many executors a
model has is the engine's affair: scaling to none unloads, scaling to any loads, and the reply says how many
there are.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...bundle.layout import locate
from ...engine.entry import Entry
from ...engine.model import LiveModel
from ...engine.repository import Repository
from ...errors import BundleError, InputError, NotFound, ParityFailed, Unsupported, UsageError
from ..body import read_body
from .items import decode_object, repository_of, stable_version
from .torchserve_api import MANAGEMENT, description
from .torchserve_replies import Refused, check_known, indented, no_version, torchserve
from .torchserve_workers import describe

PAGE = 100
"""Models on one page, and the most that may be asked for."""
_MAX_BODY = 64 << 10
_INTEGER = re.compile(r"-?[0-9]{1,9}")
# A name and a version as bundles have them: no scheme, no absolute path, no `..` fits.
_PLACE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})(?:/([A-Za-z0-9][A-Za-z0-9._-]{0,63}?)(?:\.zip)?)?/?")


@torchserve
async def list_models(request: Request) -> Response:
    """GET /models: the registered models, a page at a time."""
    limit = _integer(request.query_params.get("limit", ""), PAGE)
    start = max(0, _integer(request.query_params.get("next_page_token", ""), 0))
    repository = repository_of(request)
    names = [name for name in repository.names() if _registered(repository, name)]
    end = start + (limit if 1 <= limit <= PAGE else PAGE)
    models = [
        {"modelName": name, "modelUrl": _place(repository, repository.entry(name))}
        for name in names[start:end]
    ]
    more = {"nextPageToken": str(end)} if end < len(names) else {}
    return indented(more | {"models": models})


@torchserve
async def describe_model(request: Request) -> Response:
    """GET /models/{name}[/{version}]: an array of one version, or of `all`."""
    registered, name, version = _of_registered(request)
    repository = repository_of(request)
    if version == "all":
        chosen = registered
    else:
        version = version or stable_version(request, name)
        chosen = [entry for entry in registered if entry.version == version]
        if not chosen:
            raise no_version(name, version)
    customized = request.query_params.get("customized", "").lower() == "true"
    return indented([describe(entry, _place(repository, entry), customized=customized) for entry in chosen])


@torchserve
async def register(request: Request) -> Response:
    """POST /models?url=NAME/VERSION: load a bundle; the bare name goes on meaning what it meant."""
    asked = await _parameters(request)
    url = asked.get("url", "")
    if not url:
        raise Refused(400, "BadRequestException", "Parameter url is required.")
    repository = repository_of(request)
    name, version = await _in_repository(repository, url)
    if asked.get("model_name", name) != name:
        raise InputError(
            f"the bundle at {url!r} is called {name!r}, not {asked['model_name']!r}",
            hint="leave model_name out; `modelport pack --name` gives a bundle its name",
        )
    if _is_live(repository, name, version):
        raise Refused(
            409, "ConflictStatusException", f"Model version {version} is already registered for model {name}"
        )
    model = await _load(request, name, version)
    return indented(
        {"status": f'Model "{name}" Version: {version} registered with {len(model.pids())} initial workers'}
    )


@torchserve
async def scale(request: Request) -> Response:
    """PUT /models/{name}[/{version}]: load, or with no worker unload; the engine chooses how many."""
    repository, name, given = _meant(request)
    asked = request.query_params
    least = _integer(asked.get("min_worker", ""), 1)
    most = _integer(asked.get("max_worker", ""), least)
    if least < 0:
        raise InputError(f"min_worker is {least}; expected 0 or more")
    if most < least:
        raise Refused(400, "BadRequestException", "max_worker cannot be less than min_worker.")
    version = given or stable_version(request, name)
    of = f"for model: {name}" + (f", version: {given}" if given else "")
    if most == 0:
        if _is_live(repository, name, version):
            await repository.unload(name, version)
        return indented({"status": f"Workers scaled to 0 {of}"})
    model = repository.entry(name, version).model or await _load(request, name, version)
    count = len(model.pids())
    said = "" if least <= count <= most else f" (the engine chooses; {least} to {most} were asked for)"
    return indented({"status": f"Workers scaled to {count} {of}{said}"})


@torchserve
async def set_default(request: Request) -> Response:
    """PUT /models/{name}/{version}/set-default"""
    repository, name, version = _meant(request)
    traffic = getattr(request.app.state, "traffic", None)
    if traffic is not None and name in traffic:
        raise Refused(
            409,
            "ConflictStatusException",
            f"A rollout decides which version of model {name} answers",
            hint="modelport rollout promote, or end the rollout",
        )
    await repository.set_default(name, str(version))
    return indented({"status": f'Default version successfully updated for model "{name}" to "{version}"'})


@torchserve
async def unregister(request: Request) -> Response:
    """DELETE /models/{name}[/{version}]: unload; the default version only when it is the last."""
    registered, name, given = _of_registered(request)
    repository, default = repository_of(request), stable_version(request, name)
    version = given or default
    if version not in (entry.version for entry in registered):
        raise no_version(name, version)
    if len(registered) == 1:
        # Every version, or the policy would load an older one in its place.
        await repository.unload(name)
    elif version == default:
        raise Refused(403, "InvalidModelVersionException", f"Cannot remove default version for model {name}")
    else:
        await repository.unload(name, version)
    return indented({"status": f'Model "{name}" unregistered'})


@torchserve
async def api_description(request: Request) -> Response:
    """OPTIONS / and GET /api-description: what TorchServe says of these routes, as OpenAPI 3.0.1."""
    return indented(description(MANAGEMENT))


# -- what is asked -------------------------------------------------------------------------------------------


def _meant(request: Request) -> tuple[Repository, str, str | None]:
    """The model that a path means, and the version if the path has one.

    Raises:
        Refused: the repository has none such.
    """
    repository = repository_of(request)
    name, version = request.path_params["name"], request.path_params.get("version")
    check_known(repository, name, None if version == "all" else version)
    return repository, name, version


def _of_registered(request: Request) -> tuple[list[Entry], str, str | None]:
    """The same of a model that has versions registered, and these.

    Raises:
        Refused: it has none.
    """
    repository, name, version = _meant(request)
    registered = _registered(repository, name)
    if not registered:
        raise Refused(404, "ModelNotFoundException", f"Model not found: {name}")
    return registered, name, version


async def _parameters(request: Request) -> dict[str, str]:
    """The query's parameters, or those of a JSON body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return dict(request.query_params)
    asked = decode_object(await read_body(request, _MAX_BODY))
    return {name: value for name, value in asked.items() if isinstance(value, str)}


def _integer(text: str, otherwise: int) -> int:
    """A number, or `otherwise` for what is none, as TorchServe reads its parameters."""
    return int(text) if _INTEGER.fullmatch(text) else otherwise


async def _in_repository(repository: Repository, url: str) -> tuple[str, str]:
    """The name and version of the bundle at a place in the repository.

    Raises:
        Refused: an address, a path that leads elsewhere, or no bundle there.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        raise Refused(
            400,
            "InvalidArchiveURLException",
            f"Given URL {url} does not match any allowed URL(s)",
            hint="nothing is fetched here; name a bundle of the repository: url=NAME/VERSION",
        )
    found = _PLACE.fullmatch(url)
    if found is None:
        words = "Relative path is not allowed in url" if ".." in url else "Model not found at"
        raise Refused(404, "ModelNotFoundException", f"{words}: {url}", hint="url=NAME/VERSION")
    name, version = found[1], found[2]
    if version is None:
        version = await asyncio.to_thread(_newest, repository, name)
    if version is None:
        raise Refused(404, "ModelNotFoundException", f"Model not found at: {url}")
    return name, version


def _newest(repository: Repository, name: str) -> str | None:
    """The newest version of a model on the disk as it is now."""
    if repository.folder is None:
        return repository.versions(name)[-1] if name in repository else None
    try:
        return locate(Path(repository.folder) / name).name.removesuffix(".zip")
    except (NotFound, UsageError, BundleError):
        return None


# -- what is done --------------------------------------------------------------------------------------------


async def _load(request: Request, name: str, version: str) -> LiveModel:
    """Load a version without letting it take over: callers of the bare name stay where they are.

    Raises:
        Refused: it is not there, or does not load.
    """
    repository = repository_of(request)
    if _registered(repository, name):
        default = stable_version(request, name)
        if default != version and _is_live(repository, name, default):
            await repository.set_default(name, default)
    try:
        await repository.load(name, version)
    except NotFound as problem:
        raise Refused(404, "ModelNotFoundException", f"Model not found at: {name}/{version}") from problem
    except (BundleError, ParityFailed, Unsupported) as problem:
        raise Refused(500, "InvalidModelException", problem.message) from problem
    return repository.model(name, version)


def _registered(repository: Repository, name: str) -> list[Entry]:
    """The versions that TorchServe would call registered: those that answer, come, or failed to."""
    versions = repository.versions(name) if name in repository else ()
    return [
        entry
        for entry in (repository.entry(name, version) for version in versions)
        if entry.model is not None or entry.state == "LOADING" or entry.failed
    ]


def _is_live(repository: Repository, name: str, version: str) -> bool:
    known = name in repository and version in repository.versions(name)
    return known and repository.entry(name, version).model is not None


def _place(repository: Repository, entry: Entry) -> str:
    """Where a bundle is within the repository, never where that is on this machine."""
    if repository.folder is not None and entry.bundle.path.is_relative_to(repository.folder):
        place = entry.bundle.path.relative_to(repository.folder).as_posix()
        if place != ".":
            return place
    return f"{entry.name}/{entry.version}"


ADMIN_ROUTES: list[BaseRoute] = [
    Route("/", api_description, methods=["OPTIONS"]),
    Route("/api-description", api_description, methods=["GET"]),
    Route("/models", list_models, methods=["GET"]),
    Route("/models", register, methods=["POST"]),
    *(
        Route(path, endpoint, methods=[method])
        for path in ("/models/{name}", "/models/{name}/{version}")
        for method, endpoint in (("GET", describe_model), ("PUT", scale), ("DELETE", unregister))
    ),
    Route("/models/{name}/{version}/set-default", set_default, methods=["PUT"]),
]
