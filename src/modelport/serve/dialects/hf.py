"""Hugging Face's inference API: classifiers, detectors and tables, as `InferenceClient` asks.

`POST /hf/NAME` and `POST /models/NAME` (the hosted API's path) take a picture's bytes, whatever the
Content-Type says, or JSON `{"inputs": base64, "parameters": {…}}`. A classifier knows the parameters `top_k`
and `function_to_apply` and answers `[{"label", "score"}]`; a detector knows `threshold` and its bundle's
options and answers `[{"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}]`, in whole pixels. Best
first.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...bundle.manifest import Manifest
from ...engine.entry import Entry
from ...engine.model import LiveModel
from ...engine.repository import Repository
from ...errors import InputError, Unavailable
from ...tensors import Tensors
from ..base64_text import PICTURES, decode_base64
from ..body import off_loop, read_body
from ..options import chosen, of_query
from ..predict import json_response
from ..rows import is_record
from . import hf_records
from .items import DETECTION

Function = Literal["softmax", "sigmoid", "none"]
THRESHOLD = "score_threshold"
"""The bundle's option that a detection's `threshold` means."""
TOP_K = 5
"""Labels in an answer where the caller does not say how many, as in transformers' pipeline."""


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """What a caller may ask of an image classification."""

    top_k: int | None = None
    function_to_apply: Function | None = None


class Asked(msgspec.Struct):
    """The JSON form of a request; `options` and the like are the hosted API's and mean nothing here."""

    inputs: str
    parameters: dict[str, Any] | None = None


async def answer(request: Request) -> Response:
    """POST /hf/{name}[/{version}], /models/{name}[/{version}]"""
    repository: Repository = request.app.state.repository
    name, version = request.path_params["name"], request.path_params.get("version")
    entry = repository.entry(name, version)
    if entry.model is None:
        return not_ready(entry)
    body = await read_body(request, request.app.state.max_body)
    model = repository.model(name, version)
    if is_record(model.bundle.manifest):
        return await _records(model, body, of_query(request.scope["query_string"]))
    check_task(model.bundle.manifest)
    kind = request.headers.get("content-type", "")
    picture, given = await off_loop(lambda data: parse(data, kind), body)
    query = of_query(request.scope["query_string"]) if model.bundle.manifest.options else {}
    if model.bundle.manifest.task == DETECTION:
        options = chosen(model, query, of_detection(model.bundle.manifest, given))
        return json_response(detections(model, (await model.answer(picture, options=options)).tensors))
    parameters = of_classification(given)
    check_function(model.bundle.manifest, parameters.function_to_apply)
    answered = await model.answer(picture, options=chosen(model, query))
    ranking = ranked(model, answered.tensors)
    return json_response(ranking[: parameters.top_k or TOP_K])


async def _records(model: LiveModel, body: bytes, query: dict[str, str]) -> Response:
    """Texts: `[{"label", "score"}]` for each. Rows: the best label or the value of each."""
    asked = await off_loop(lambda data: hf_records.parse(data, model), body)
    given = {name: value for name, value in (asked.parameters or {}).items() if value is not None}
    options = chosen(model, query) if model.bundle.manifest.options else None
    if model.bundle.manifest.decode.kind == "table":
        return json_response(await hf_records.rows(model, asked, options))
    parameters = of_classification(given)
    check_function(model.bundle.manifest, parameters.function_to_apply)
    answers = await hf_records.texts(model, asked, options)
    top = parameters.top_k or TOP_K
    return json_response([ranked(model, tensors)[:top] for tensors in answers])


async def health(request: Request) -> Response:
    """GET /hf/{name}[/{version}]/health: 200 when the model answers, else 503."""
    entry = _entry(request)
    return not_ready(entry) if entry.model is None else json_response({"status": "ok"})


async def info(request: Request) -> Response:
    """GET /hf/{name}[/{version}]/info, as `InferenceClient.get_endpoint_info` asks."""
    entry = _entry(request)
    return json_response(
        {
            "model_id": entry.name,
            "model_version": entry.version,
            "model_sha": entry.bundle.digest,
            "model_pipeline_tag": entry.bundle.manifest.task,
        }
    )


def parse(body: bytes, content_type: str) -> tuple[bytes, dict[str, Any]]:
    """The picture and the parameters. A picture is told by its first bytes, whatever it is declared as.

    Raises:
        InputError: an empty body, malformed JSON, or inputs that are not base64.
    """
    if not body:
        raise InputError("the body is empty", hint="send the bytes of a picture")
    declared = "json" in content_type.lower()
    if body.startswith(PICTURES) or not (declared or body[:64].lstrip().startswith(b"{")):
        return body, {}
    asked = _decode(body)
    if asked.inputs.startswith(("http://", "https://")):
        raise InputError(
            "inputs is an address, and this server fetches nothing", at="$.inputs", hint="send the picture"
        )
    return decode_base64(asked.inputs, "$.inputs"), asked.parameters or {}


def of_classification(given: dict[str, Any]) -> Parameters:
    """The parameters of an image classification.

    Raises:
        InputError: an unknown one, or one out of its range.
    """
    try:
        parameters = msgspec.convert(given, Parameters)
    except msgspec.ValidationError as problem:
        known = ", ".join(Parameters.__struct_fields__)
        raise InputError(f"{problem}", at="$.parameters", hint=f"known: {known}") from problem
    if parameters.top_k is not None and parameters.top_k < 1:
        raise InputError(f"top_k is {parameters.top_k}; expected 1 or more", at="$.parameters.top_k")
    return parameters


def of_detection(manifest: Manifest, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an object detection as the bundle's options; a null counts as left out.

    Raises:
        InputError: the threshold is given by both of its names.
    """
    found = {name: value for name, value in given.items() if value is not None}
    if "threshold" in found and "threshold" not in {option.name for option in manifest.options}:
        if THRESHOLD in found:
            raise InputError(
                f"threshold and {THRESHOLD} are one option; expected one of them", at="$.parameters"
            )
        found[THRESHOLD] = found.pop("threshold")
    return found


def detections(model: LiveModel, tensors: Tensors) -> list[dict[str, Any]]:
    """One item's answer as Hugging Face's pipeline has it: whole pixels, cut off as it cuts them off.

    Raises:
        InputError: the bundle's answer holds no boxes.
    """
    found = model.readable(tensors)
    if not isinstance(found, list) or not all("box" in each for each in found):
        raise InputError(
            f"the answer of {model.name!r} ({', '.join(tensors)}) is no detection",
            hint=f"POST /predict/{model.name}",
        )
    return [
        {
            "score": each["score"],
            "label": each["label"],
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), map(int, each["box"]), strict=True)),
        }
        for each in found
    ]


def check_task(manifest: Manifest) -> None:
    """Refuse bundles that are not asked with pictures.

    Raises:
        InputError: another kind of bundle, with where to ask it.
    """
    if manifest.decode.kind != "image":
        raise InputError(
            f"{manifest.name!r} takes tensors; this API answers image classification and object detection",
            hint=f"POST /predict/{manifest.name}, or /v2/models/{manifest.name}/infer",
        )


def check_function(manifest: Manifest, wanted: Function | None) -> None:
    """Refuse a function that is not the one compiled into the bundle: its raw outputs are gone by then.

    Raises:
        InputError: another function, with the one that the bundle applies.
    """
    has = applied(manifest)
    if wanted is not None and wanted != has:
        says = f"applies {has!r} to the network's output" if has else "does not say what it applies"
        raise InputError(
            f"function_to_apply is {wanted!r}, and the bundle {manifest.name!r} {says}",
            at="$.parameters.function_to_apply",
            hint=f"leave it out, or ask {manifest.name}.net under /v2 for the raw outputs",
        )


def applied(manifest: Manifest) -> Function | None:
    """What a bundle's steps do to the network's output before they rank it; None where they do not say."""
    names = [name for step in manifest.steps.post for name in step]
    functions: list[Function] = [name for name in get_args(Function) if name in names]
    if not names or len(functions) > 1:
        return None
    return functions[0] if functions else "none"


def ranked(model: LiveModel, tensors: Tensors) -> list[dict[str, Any]]:
    """One item's answer as `[{"label", "score"}]`, best first; not-a-number comes last.

    Raises:
        InputError: the bundle's answer is no classification.
    """
    ranking = model.readable(tensors)
    if not isinstance(ranking, list):
        ranking = _classes(model, tensors)
    return sorted(ranking, key=lambda row: math.inf if math.isnan(row["score"]) else -row["score"])


def _classes(model: LiveModel, tensors: Tensors) -> list[dict[str, Any]]:
    """A bundle that leaves its scores in the order of the classes."""
    scores = tensors.get("scores", next(iter(tensors.values())) if len(tensors) == 1 else None)
    labels = model.bundle.labels()
    if scores is None or scores.ndim != 1 or scores.dtype.kind != "f":
        raise InputError(
            f"the answer of {model.name!r} ({', '.join(tensors)}) is no classification",
            hint=f"POST /predict/{model.name}",
        )
    named = labels if len(labels) == len(scores) else [f"LABEL_{index}" for index in range(len(scores))]
    return [{"label": name, "score": float(score)} for name, score in zip(named, scores, strict=True)]


def not_ready(entry: Entry) -> Response:
    """503: with `estimated_time` (seconds) while it loads, with the reason when it will not."""
    if entry.state != "LOADING":
        raise Unavailable(f"model {entry.name!r} version {entry.version} is not ready: {entry.reason}")
    problem = Unavailable(f"Model {entry.name} is currently loading")
    body = {"error": problem.message, "estimated_time": problem.retry_after}
    return json_response(body, 503, {"Retry-After": str(math.ceil(problem.retry_after))})


def _decode(body: bytes) -> Asked:
    try:
        return msgspec.json.decode(body, type=Asked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f"the body is neither a picture nor a request for one: {problem}",
            hint='send a picture, or {"inputs": "<base64>", "parameters": {…}}',
        ) from problem


def _entry(request: Request) -> Entry:
    repository: Repository = request.app.state.repository
    return repository.entry(request.path_params["name"], request.path_params.get("version"))


_PATHS = ("/hf/{name}", "/hf/{name}/{version}")
ROUTES = [
    *(Route(path + "/health", health, methods=["GET"]) for path in _PATHS),
    *(Route(path + "/info", info, methods=["GET"]) for path in _PATHS),
    *(
        Route(path, answer, methods=["POST"])
        for path in (*_PATHS, "/models/{name}", "/models/{name}/{version}")
    ),
]
