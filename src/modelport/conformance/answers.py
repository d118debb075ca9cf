"""An inference answer over HTTP, read strictly: what a client may rely on is checked as it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .http import Reply, strict_json
from .tensors import DATATYPES, Array, from_bytes, from_json
from .verdict import Wrong, expect

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Answer:
    """Outputs by name, in the order of the reply, and its JSON."""

    outputs: dict[str, Array]
    datatypes: dict[str, str]
    binary: frozenset[str]
    """Which of them came in binary."""
    json: dict[str, Any]
    reply: Reply


def read_answer(reply: Reply) -> Answer:
    """The answer in a reply.

    Raises:
        Wrong: not 200, or not what `$inference_response` and the binary extension say; with the place.
    """
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    text, end = reply.body, len(reply.body)
    length = reply.headers.get(HEADER_LENGTH.lower())
    if length is not None:
        expect(length.isdigit() and int(length) <= end, f"{HEADER_LENGTH} of the reply is {length!r}")
        text, end = reply.body[: int(length)], int(length)
    data = strict_json(text)
    expect(isinstance(data, dict), "the reply's JSON is not an object")
    expect(isinstance(data.get("model_name"), str), "`model_name` is missing")
    version = data.get("model_version")
    expect(version is None or isinstance(version, str), f"`model_version` is {version!r}, not a string")
    entries = data.get("outputs")
    expect(isinstance(entries, list) and bool(entries), f"`outputs` is {str(entries)[:40]}")
    outputs: dict[str, Array] = {}
    datatypes: dict[str, str] = {}
    binary: set[str] = set()
    for index, entry in enumerate(entries):
        at = f"$.outputs[{index}]"
        name, datatype, shape = head_of(entry, at)
        expect(name not in outputs, f"output {name!r} came twice")
        datatypes[name] = datatype
        size = (entry.get("parameters") or {}).get("binary_data_size")
        try:
            if size is None:
                expect(entry.get("data") is not None, "neither `data` nor `binary_data_size`")
                outputs[name] = from_json(entry["data"], datatype, shape)
            else:
                expect(isinstance(size, int) and 0 <= size <= len(reply.body) - end, f"size {size!r}")
                outputs[name] = from_bytes(reply.body[end : end + size], datatype, shape)
                end += size
                binary.add(name)
        except Wrong as problem:
            raise Wrong(f"{at}: {problem}") from problem
    expect(end == len(reply.body), f"{len(reply.body) - end} bytes follow the last tensor of the reply")
    return Answer(outputs, datatypes, frozenset(binary), data, reply)


def head_of(entry: Any, at: str) -> tuple[str, str, list[int]]:
    """Name, datatype and shape of an output of a reply.

    Raises:
        Wrong: one is missing or is not what it has to be.
    """
    expect(isinstance(entry, dict), f"{at} is not an object")
    name, datatype, shape = (entry.get(key) for key in ("name", "datatype", "shape"))
    expect(isinstance(name, str), f"{at}.name is {name!r}")
    expect(datatype in DATATYPES, f"{at}.datatype is {datatype!r}")
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    expect(whole, f"{at}.shape is {shape!r}")
    return str(name), str(datatype), list(shape or [])


def error_text(reply: Reply) -> str:
    """The message of `{"error": "…"}`.

    Raises:
        Wrong: the body is something else.
    """
    data = reply.json()
    told = data.get("error") if isinstance(data, dict) else None
    expect(isinstance(told, str) and bool(told), f'no {{"error": "…"}} in {reply.shown()}')
    return str(told)


def refused(reply: Reply, what: str) -> None:
    """Hold a reply to what an error is: a status, a body, and (a "should") the caller's fault told as such.

    Raises:
        Wrong: it was answered as if it were right, or in another form.
    """
    expect(reply.status >= 400, f"{what} was answered with {reply.shown()}")
    error_text(reply)
    expect(reply.status < 500, f"{what}: {reply.status} blames the server for it", should=True)


def refused_each(replies: Iterable[tuple[Reply, str]]) -> None:
    """`refused` for several, lest a lesser breach hides a greater one behind it.

    Raises:
        Wrong: the first that breaks a "must", else the first that breaks a "should".
    """
    lesser: Wrong | None = None
    for reply, what in replies:
        try:
            refused(reply, what)
        except Wrong as problem:
            if not problem.should:
                raise
            lesser = lesser or problem
    if lesser:
        raise lesser
