"""Repository index, statistics, configuration, classification and time limits."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

from ..answers import error_text, read_answer, refused, refused_each
from ..http import Reply
from ..subject import Subject, request
from ..tensors import Array
from ..verdict import NotOffered, Wrong, check, expect
from .basics import UNKNOWN


def _works(reply: Reply) -> bool:
    return reply.status == 200


def _index(subject: Subject, body: bytes | dict[str, Any]) -> list[dict[str, Any]]:
    reply = subject.link.post("v2/repository/index", body)
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    data = reply.json()
    fine = isinstance(data, list) and all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in data
    )
    expect(fine, f"not a list of objects with names: {reply.shown()}")
    return list(data)


def _offers_index(subject: Subject) -> None:
    subject.offers("model_repository", works=_works(subject.link.post("v2/repository/index", {})))


@check(
    "repository",
    "POST v2/repository/index lists every model with its name, version and state",
    source="Triton",
)
def index(subject: Subject) -> None:
    _offers_index(subject)
    entries = _index(subject, {})
    mine = [entry for entry in entries if entry["name"] == subject.model.name]
    expect(bool(mine), f"{subject.model.name!r} is not listed")
    for entry in mine:
        version, state = entry.get("version", ""), entry.get("state", "READY")
        expect(isinstance(version, str), f"`version` is {version!r}")
        below = f"/versions/{quote(version, safe='')}" if version else ""
        ready = subject.link.get(f"{subject.model.path}{below}/ready").status == 200
        # One that is not loaded may be listed, too, in whatever state it is in.
        which = f"version {version}" if version else "the model"
        expect(state == "READY" or not ready, f"{which} is ready, and its state is {state!r}")
    states = [entry.get("state", "READY") for entry in mine]
    expect("READY" in states, f"the model answers, and its states are {states}")


@check("repository", "the index may be asked for with an empty body", source="Triton", should=True)
def empty_body(subject: Subject) -> None:
    _offers_index(subject)
    _index(subject, b"")


@check("repository", 'with {"ready": true} only ready models are listed', source="Triton")
def only_ready(subject: Subject) -> None:
    _offers_index(subject)
    entries = _index(subject, {"ready": True})
    expect(any(entry["name"] == subject.model.name for entry in entries), "a ready model is not listed")
    expect(
        all(entry.get("state", "READY") == "READY" for entry in entries), "one is listed that is not ready"
    )


@check("repository", "an index request that is no JSON is refused", source="Triton", should=True)
def malformed(subject: Subject) -> None:
    _offers_index(subject)
    reply = subject.link.post("v2/repository/index", b"{", {"Content-Type": "application/json"})
    expect(400 <= reply.status < 500, f"got {reply.shown()}")


def _stats(subject: Subject, path: str) -> dict[str, Any]:
    reply = subject.link.get(path)
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    data = reply.json()
    entries = data.get("model_stats") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise Wrong("`model_stats` is missing")
    mine = [entry for entry in entries if entry.get("name") == subject.model.name]
    expect(bool(mine), f"nothing about {subject.model.name!r}")
    return dict(mine[-1])


def _offers_stats(subject: Subject) -> None:
    subject.offers("statistics", works=_works(subject.link.get(f"{subject.model.path}/stats")))


@check("statistics", "GET v2/models/NAME/stats has counts and times of inferences", source="Triton")
def fields(subject: Subject) -> None:
    _offers_stats(subject)
    read_answer(subject.infer(request(subject.model)))
    entry = _stats(subject, f"{subject.model.path}/stats")
    for key in ("inference_count", "execution_count", "last_inference"):
        expect(isinstance(entry.get(key), int), f"`{key}` is {entry.get(key)!r}")
    times = entry.get("inference_stats")
    expect(isinstance(times, dict), "`inference_stats` is missing")
    assert isinstance(times, dict)
    for key in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        each = times.get(key)
        fine = isinstance(each, dict) and all(isinstance(each.get(unit), int) for unit in ("count", "ns"))
        expect(fine, f"`inference_stats.{key}` is {each!r}")


@check("statistics", "an inference raises the counts by its rows", source="Triton")
def counting(subject: Subject) -> None:
    _offers_stats(subject)
    path = f"{subject.model.path}/stats"
    read_answer(subject.infer(request(subject.model)))
    before = _stats(subject, path)
    for _ in range(3):
        read_answer(subject.infer(request(subject.model)))
    deadline = time.monotonic() + 5
    while True:
        after = _stats(subject, path)
        answered = (
            after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
        )
        rows = after["inference_count"] - before["inference_count"]
        if answered >= 3 or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    expect(answered >= 3, f"three requests raised `success.count` by {answered}")
    expect(rows >= 3, f"three requests of two rows raised `inference_count` by {rows}")


@check("statistics", "GET v2/models/stats has them for every model", source="Triton")
def all_models(subject: Subject) -> None:
    _offers_stats(subject)
    _stats(subject, "v2/models/stats")


@check("statistics", "statistics of a model that is not there are an error", source="Triton")
def unknown_stats(subject: Subject) -> None:
    _offers_stats(subject)
    refused(subject.link.get(f"v2/models/{UNKNOWN}/stats"), "statistics of an unknown model")


def _config(subject: Subject) -> dict[str, Any]:
    path = f"{subject.model.path}/config"
    subject.offers("model_configuration", works=_works(subject.link.get(path)))
    reply = subject.link.get(path)
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    data = reply.json()
    expect(isinstance(data, dict), "not an object")
    return dict(data)


@check("config", "GET v2/models/NAME/config is the model's configuration in JSON", source="Triton")
def config(subject: Subject) -> None:
    data = _config(subject)
    expect(data.get("name") == subject.model.name, f"`name` is {data.get('name')!r}")
    expect(isinstance(data.get("max_batch_size"), int), f"`max_batch_size` is {data.get('max_batch_size')!r}")


@check(
    "config", "its inputs and outputs are those of the metadata, without the batch dimension", source="Triton"
)
def agrees_with_metadata(subject: Subject) -> None:
    data = _config(subject)
    batched = int(data.get("max_batch_size", 0)) > 0
    for key, tensors in (("input", subject.model.inputs), ("output", subject.model.outputs)):
        entries = {entry["name"]: entry for entry in data.get(key, []) if "name" in entry}
        for tensor in tensors:
            expect(tensor.name in entries, f"`{key}` has no {tensor.name!r}")
            kind = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
            entry = entries[tensor.name]
            expect(
                entry.get("data_type") == kind, f"{tensor.name!r} is {entry.get('data_type')!r}, not {kind}"
            )
            dims = [int(size) for size in entry.get("dims", [])]
            want = list(tensor.shape[batched:])
            expect(dims == want, f"{tensor.name!r} has dims {dims}, the metadata says {want}")


@check("config", "the configuration of a model that is not there is an error", source="Triton")
def unknown_config(subject: Subject) -> None:
    _config(subject)
    refused(subject.link.get(f"v2/models/{UNKNOWN}/config"), "the configuration of an unknown model")


def _classified(subject: Subject, count: Any) -> Reply:
    wanted = [{"name": _scores(subject).name, "parameters": {"classification": count}}]
    return subject.infer(request(subject.model, outputs=wanted))


def _scores(subject: Subject) -> Any:
    """An output that is a row of numbers for each row of the batch."""
    for tensor in subject.model.outputs:
        array = subject.answer.outputs.get(tensor.name)
        if tensor.datatype.startswith("FP") and array is not None and array.ndim == 2 and array.shape[1] > 1:
            return tensor
    raise NotOffered("the model has no scores")


def _offers_classes(subject: Subject) -> Array:
    subject.offers("classification")
    return subject.answer.outputs[_scores(subject).name]


@check(
    "classification",
    "the best n of each row come as BYTES `value:index[:label]`, best first",
    source="Triton",
)
def best(subject: Subject) -> None:
    scores = _offers_classes(subject)
    told = read_answer(_classified(subject, 2))
    (name,) = told.outputs
    array = told.outputs[name]
    expect(told.datatypes[name] == "BYTES", f"came as {told.datatypes[name]}")
    expect(array.shape == (len(scores), 2), f"shape {list(array.shape)}, expected {[len(scores), 2]}")
    for row, line in zip(scores, array, strict=True):
        wanted = sorted(row.tolist(), reverse=True)[:2]
        for item, value in zip(line, wanted, strict=True):
            match = re.fullmatch(rb"(-?[\d.eE+-]+):(\d+)(:.*)?", item, re.DOTALL)
            expect(match is not None, f"{item!r} is not value:index[:label]")
            assert match is not None
            expect(abs(float(match[1]) - value) <= 1e-4 * max(1, abs(value)), f"{item!r}, expected {value}")
            expect(abs(row[int(match[2])] - value) < 1e-6, f"{item!r}: that class has {row[int(match[2])]}")


@check("classification", "asking for more classes than there are gives those that there are", source="Triton")
def more_than_there_are(subject: Subject) -> None:
    scores = _offers_classes(subject)
    (array,) = read_answer(_classified(subject, 2**31 - 1)).outputs.values()
    expect(array.shape == scores.shape, f"shape {list(array.shape)}, expected {list(scores.shape)}")


@check("classification", "a count that is no positive number is refused", source="Triton")
def odd_count(subject: Subject) -> None:
    _offers_classes(subject)
    odd = (-1, "two", 1.5)
    refused_each((_classified(subject, count), f"classification {count!r}") for count in odd)


def _timed(subject: Subject, timeout: Any) -> Reply:
    return subject.infer(request(subject.model, parameters={"timeout": timeout}))


@check("timeout", "a `timeout` that is long enough (microseconds) changes nothing", source="Triton")
def generous(subject: Subject) -> None:
    read_answer(_timed(subject, 30_000_000))
    read_answer(_timed(subject, 0))


@check("timeout", "a request that cannot make its `timeout` is answered, or refused in form", source="Triton")
def impossible(subject: Subject) -> None:
    reply = _timed(subject, 1)
    if reply.status == 200:
        read_answer(reply)
        return
    error_text(reply)
    expect(reply.status in (408, 429, 499, 503, 504), f"got {reply.shown()}", should=True)


@check("timeout", "a `timeout` that is no number of microseconds is refused", source="Triton", should=True)
def malformed_timeout(subject: Subject) -> None:
    subject.offers("schedule_policy", works=_obeys(subject))
    refused_each((_timed(subject, value), f"timeout {value!r}") for value in ("soon", -5, 1.5))


def _obeys(subject: Subject) -> bool:
    """Whether a timeout does anything here."""
    try:
        return _timed(subject, 1).status != 200
    except Wrong:
        return True
