"""TensorFlow Serving's REST API: predict, classify, regress, status and metadata, by version or label.

`NAME` is the whole bundle: pictures as `{"b64": …}`, or the tensors that a bundle without pictures takes.
`NAME.net` is the network alone.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...bundle.layout import version_key
from ...bundle.manifest import Manifest
from ...bundle.rules import NETWORK_SUFFIX as NET
from ...engine.entry import Entry
from ...engine.model import LiveModel
from ...engine.wire import Options
from ...errors import InputError, NotFound
from ...tensors import Tensors, TensorSpec
from ..body import off_loop, read_body
from ..options import chosen, of_query
from ..predict import json_response
from ..rows import is_record, item_specs
from ..watch import metrics_text
from .items import (
    DETECTION,
    answer_columns,
    answer_rows,
    decode_object,
    find_live,
    is_picture,
    json_reply,
    kind_of,
    repository_of,
    stable_version,
    values_of,
)

SIGNATURE = "serving_default"
DTYPES = {
    "bool": "DT_BOOL",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "string": "DT_STRING",
}
"""Datatype name here -> in TensorFlow."""
STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNLOADING": "UNLOADING", "UNAVAILABLE": "END"}


async def predict(request: Request) -> Response:
    """POST …:predict: rows (`instances`) to `predictions`, or columns (`inputs`) to `outputs`."""
    model, net = _live(request)
    asked, size = await _asked(request)
    if len(asked.keys() & {"instances", "inputs"}) != 1:
        raise InputError("expected either `instances` (rows) or `inputs` (columns)", at="$")
    options = _options(model, net, request)
    if "instances" in asked:
        rows = asked["instances"]
        answers = await answer_rows(model, net, rows, at="$.instances", size=size, options=options)
        return await json_reply(lambda: {"predictions": [values_of(answer) for answer in answers]}, answers)
    columns = asked["inputs"]
    outputs = await answer_columns(model, net, columns, at="$.inputs", size=size, options=options)
    return await json_reply(lambda: {"outputs": values_of(outputs)}, [outputs])


async def classify(request: Request) -> Response:
    """POST …:classify: each example's labels with their scores."""
    model, net, answers = await _examples(request)
    return await json_reply(lambda: {"result": [_ranked(model, net, each) for each in answers]}, answers)


async def regress(request: Request) -> Response:
    """POST …:regress: each example's one number."""
    _, _, answers = await _examples(request)
    return await json_reply(lambda: {"result": [_number(answer) for answer in answers]}, answers)


async def status(request: Request) -> Response:
    """GET /v1/models/NAME: the state of every version, or of the one that is asked for."""
    name, version = _meant(request)
    repository = repository_of(request)
    try:
        known = [repository.entry(name, each) for each in repository.versions(name)]
        entries = [repository.entry(name, version)] if version else known
    except NotFound as problem:
        raise NotFound(f"Could not find any versions of model {name}", hint=problem.hint) from problem
    # Versions that were never asked for are unknown to TensorFlow Serving too.
    said = entries if version else [each for each in entries if each.state != "UNAVAILABLE" or each.reason]
    return json_response({"model_version_status": [_status(entry) for entry in said or entries]})


async def metadata(request: Request) -> Response:
    """GET …/metadata: the signature."""
    name, version = _meant(request)
    net = request.path_params["name"].endswith(NET)
    try:
        entry = repository_of(request).entry(name, version)
    except NotFound as problem:
        raise _unknown(name, version, problem) from problem
    manifest = entry.bundle.manifest
    outputs = manifest.graphs.net.signature.outputs if net else manifest.outputs
    signature = {
        "inputs": {spec.name: _tensor(spec) for spec in _inputs(manifest, net)},
        "outputs": {spec.name: _tensor(spec) for spec in outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return json_response(
        {
            "model_spec": {
                "name": request.path_params["name"],
                "signature_name": "",
                "version": entry.version,
            },
            "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
        }
    )


# -- which model ---------------------------------------------------------------------------------------------


def _meant(request: Request) -> tuple[str, str | None]:
    """The model's name (without `.net`) and the version that the path means; None for a bare name."""
    name: str = request.path_params["name"].removesuffix(NET)
    label = request.path_params.get("label")
    if label is not None:
        return name, _labelled(request, name, label)
    version: str | None = request.path_params.get("version")
    repository = repository_of(request)
    # Clients that mean no version in particular ask for the version 0.
    if version == "0" and not (name in repository and "0" in repository.versions(name)):
        return name, None
    return name, version


def _labelled(request: Request, name: str, label: str) -> str:
    """The version that has a label: `stable` answers for the bare name, `canary` is the one tried beside it.

    Raises:
        NotFound: no such model, or no version has that label now.
    """
    try:
        stable = stable_version(request, name)
        if label == "stable":
            return stable
        canary = _canary(request, name, stable) if label == "canary" else None
    except NotFound as problem:
        raise _unknown(name, None, problem) from problem
    if canary is None:
        raise NotFound(
            f"Unrecognized servable version label: {label}",
            hint="`stable` is what the bare name means, `canary` the version that is tried beside it",
        )
    return canary


def _canary(request: Request, name: str, stable: str) -> str | None:
    """The rollout's candidate; without a rollout the newest version that answers, where that is another."""
    traffic = getattr(request.app.state, "traffic", None)
    plan = traffic.report(name).plan if traffic is not None else None
    if plan is not None:
        return plan.canary.version if plan.canary else None
    repository = repository_of(request)
    newer = [
        version
        for version in repository.versions(name)
        if repository.entry(name, version).model and version_key(version) > version_key(stable)
    ]
    return newer[-1] if newer else None


def _live(request: Request) -> tuple[LiveModel, bool]:
    name, version = _meant(request)
    try:
        model, _ = find_live(request, name, version)
    except NotFound as problem:
        raise _unknown(name, version, problem) from problem
    return model, request.path_params["name"].endswith(NET)


def _unknown(name: str, version: str | None, problem: NotFound) -> NotFound:
    """In TensorFlow Serving's words, which its clients' users search for."""
    wanted = f"Specific({name}, {version})" if version else f"Latest({name})"
    return NotFound(f"Servable not found for request: {wanted}", hint=problem.hint)


# -- what is asked -------------------------------------------------------------------------------------------


async def _asked(request: Request) -> tuple[dict[str, Any], int]:
    """The request's object, and the bytes that it was read from."""
    body = await read_body(request, request.app.state.max_body)
    asked = await off_loop(decode_object, body)
    signature = asked.get("signature_name", "")
    if signature not in ("", SIGNATURE):
        raise InputError(
            f"Serving signature name {signature!r} not found in signature def",
            at="$.signature_name",
            hint=f"leave it out, or say {SIGNATURE}",
        )
    return asked, len(body)


async def _examples(request: Request) -> tuple[LiveModel, bool, list[dict[str, Any]]]:
    """The model and its answers to `examples`; what `context` holds is part of each."""
    model, net = _live(request)
    asked, size = await _asked(request)
    examples, context = asked.get("examples"), asked.get("context", {})
    if not isinstance(context, dict):
        raise InputError(f"expected an object, got {kind_of(context)}", at="$.context")
    if not isinstance(examples, list) or not all(isinstance(each, dict) for each in examples):
        raise InputError("expected a list of objects with values by name", at="$.examples")
    rows = [context | example for example in examples]
    options = _options(model, net, request)
    return model, net, await answer_rows(model, net, rows, at="$.examples", size=size, options=options)


def _options(model: LiveModel, net: bool, request: Request) -> Options | None:
    """The bundle's options, which this protocol has no words for: from the address's query."""
    return None if net else chosen(model, of_query(request.scope["query_string"]))


def _ranked(model: LiveModel, net: bool, answer: Tensors) -> list[list[Any]]:
    """An answer's labels with their scores."""
    ranked = model.readable(answer)
    if net or not isinstance(ranked, list) or model.bundle.manifest.task == DETECTION:
        raise _no_such_method("classify", "classification")
    return [[row["label"], row["score"]] for row in ranked]


def _number(answer: Tensors) -> float:
    (array,) = answer.values() if len(answer) == 1 else (None,)
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        raise _no_such_method("regress", "regression")
    return float(array.item())


def _no_such_method(method: str, kind: str) -> InputError:
    return InputError(
        f"Expected {kind} signature method_name to be tensorflow/serving/{method}. "
        "Was: tensorflow/serving/predict",
        hint="ask :predict",
    )


# -- what is told --------------------------------------------------------------------------------------------


def _status(entry: Entry) -> dict[str, Any]:
    state, reason = entry.standing()
    wrong = entry.failed or state != entry.state
    return {
        "version": entry.version,
        "state": STATES[state],
        "status": {
            "error_code": "UNAVAILABLE" if wrong else "OK",
            "error_message": reason if wrong else "",
        },
    }


def _inputs(manifest: Manifest, net: bool) -> tuple[TensorSpec, ...]:
    if is_picture(manifest, net):
        return (TensorSpec("image", "string", ("batch",)),)
    if is_record(manifest, net):
        return item_specs(manifest)
    if net or not manifest.steps.pre:
        return manifest.graphs.net.signature.inputs
    return tuple(TensorSpec(spec.name, spec.dtype, ("batch", *spec.shape)) for spec in manifest.inputs)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = ["-1" if isinstance(size, str) else str(size) for size in spec.shape]
    return {
        "dtype": DTYPES[spec.dtype],
        "tensor_shape": {"dim": [{"size": size, "name": ""} for size in sizes], "unknown_rank": False},
        "name": f"{spec.name}:0",
    }


_MODEL = "/v1/models/{name}"
_PATHS = (_MODEL, _MODEL + "/versions/{version}", _MODEL + "/labels/{label}")
ROUTES: list[BaseRoute] = [
    *(
        Route(f"{path}:{endpoint.__name__}", endpoint, methods=["POST"])
        for path in _PATHS
        for endpoint in (predict, classify, regress)
    ),
    *(Route(path + "/metadata", metadata, methods=["GET"]) for path in _PATHS),
    *(Route(path, status, methods=["GET"]) for path in _PATHS),
]
METRICS_ROUTES: list[BaseRoute] = [Route("/monitoring/prometheus/metrics", metrics_text)]
"""Where TensorFlow Serving has its figures by default; here they are this server's own."""
