"""A12: JSON that two readers understand differently, or that no tensor holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .wire import Target, as_json, post

INFER = "/v2/models/sum/infer"
GOOD = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'


def total(target: Target, body: bytes) -> Any:
    """The status, or the sum that was answered."""
    reply = target.one(post(INFER, body))
    return json.loads(reply.body)["outputs"][0]["data"] if reply.status == 200 else reply.status


def test_the_plain_request_is_answered(target: Target) -> None:
    assert total(target, GOOD) == [10.0]


NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "+1",
    "01",
    ".5",
    "1.",
    "0x10",
    "1e",
    "--1",
    "1_0",
    "1e999",
    "-1e999",
    '"1"',
    "true",
    "null",
    "[1]",
    "{}",
    "1 2",
    "\u0661",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_no_number_is_refused(target: Target, number: str) -> None:
    """The Open Inference Protocol is JSON, and JSON has no NaN; tensors in binary may hold it."""
    for place in (b"1", b"4"):
        assert total(target, GOOD.replace(b"[1,2,3,4]", b"[1,2,3,4]".replace(place, number.encode()))) == 400


LARGE = [10**19, 2**64, 10**30, 10**400, -(10**400), 1e308, -1e308, 2**127, 3.5e38]


@pytest.mark.parametrize("number", LARGE, ids=lambda number: str(number)[:8])
def test_numbers_beyond_the_datatype_are_refused_or_become_infinite(target: Target, number: float) -> None:
    """As NumPy and C have it for floats; integers never wrap round."""
    got = total(
        target, GOOD.replace(b"[1,", b"[%d," % number if isinstance(number, int) else b"[%r," % number)
    )
    assert got == 400 or isinstance(got, list), got
    entry = {"name": "x", "datatype": "INT64", "shape": [1, 4], "data": [number, 2, 3, 4]}
    assert target.one(post(INFER, as_json({"inputs": [entry]}))).status == 400


def test_a_sum_that_is_not_finite_is_still_json(target: Target) -> None:
    reply = target.one(post(INFER, GOOD.replace(b"[1,2,3,4]", b"[3e38,3e38,3e38,3e38]")))
    assert reply.status in (200, 400)
    if reply.status == 200:
        value = json.loads(reply.body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert value["outputs"][0]["data"] == [None]


@pytest.mark.parametrize("number", ["256", "-1", "1e3", "1.5", "255.0"])
def test_integers_do_not_wrap_round(target: Target, number: str) -> None:
    text = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,1,3],"data":[%s,0,0]}]}'
    assert target.one(post("/v2/models/colours/infer", text % number.encode())).status == 400
    assert target.one(post("/v2/models/colours/infer", text % b"255")).status == 200


X = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
TWICE = {
    "an input": as_json({"inputs": [X, X]}),
    "an input, with other data": as_json({"inputs": [X, X | {"data": [9, 9, 9, 9]}]}),
    "an output": as_json({"inputs": [X], "outputs": [{"name": "total"}, {"name": "total"}]}),
    "an output, in two forms": as_json(
        {
            "inputs": [X],
            "outputs": [{"name": "total"}, {"name": "total", "parameters": {"binary_data": True}}],
        }
    ),
}


@pytest.mark.parametrize("name", TWICE)
def test_nothing_is_given_or_asked_twice(target: Target, name: str) -> None:
    assert total(target, TWICE[name]) == 400


def test_of_a_key_that_stands_twice_no_part_is_mixed_with_another(target: Target) -> None:
    """The last one counts, as in nearly every reader; or it is refused."""
    body = GOOD.replace(b'"shape":[1,4]', b'"shape":[7,7],"shape":[1,4]')
    assert total(target, body) in ([10.0], 400)
    body = GOOD.replace(b'"data":[1,2,3,4]', b'"data":[1,2,3,4],"data":[5,5,5,5]')
    assert total(target, body) in ([20.0], 400)
    body = GOOD[:-1] + b',"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[5,5,5,5]}]}'
    assert total(target, body) in ([20.0], 400)


BROKEN = {
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "utf-16": GOOD.decode().encode("utf-16"),
    "utf-32": GOOD.decode().encode("utf-32"),
    "invalid utf-8": GOOD.replace(b'"x"', b'"\xff"'),
    "overlong utf-8": GOOD.replace(b'"x"', b'"\xc1\xb8"'),
    "half a surrogate": GOOD.replace(b'"x"', b'"\\ud800"'),
    "nul in the name": GOOD.replace(b'"x"', b'"x\\u0000"'),
    "escaped name with a tail": GOOD.replace(b'"x"', b'"x\\u200b"'),
    "raw newline": GOOD.replace(b'"x"', b'"x\n"'),
    "trailing text": GOOD + b"x",
    "two values": GOOD + GOOD,
    "trailing nul": GOOD + b"\0",
    "comment": GOOD[:-1] + b"/* */}",
    "trailing comma": GOOD.replace(b"4]", b"4,]"),
    "single quotes": GOOD.replace(b'"', b"'"),
    "unquoted": GOOD.replace(b'"inputs"', b"inputs"),
    "cut": GOOD[:-5],
    "a list": b"[" + GOOD + b"]",
    "text": as_json(GOOD.decode()),
    "nothing": b"",
    "space": b" \n\t",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_json_object_is_400_in_every_dialect(target: Target, name: str) -> None:
    assert total(target, BROKEN[name]) == 400
    for path in ("/predict/sum", "/v1/models/sum:predict", "/invocations", "/api/predict/sum", "/models/sum"):
        reply = target.one(post(path, BROKEN[name], content_type="application/json"))
        assert reply.status in (400, 404, 405, 415), (path, reply)


def test_an_escaped_name_is_the_name(target: Target) -> None:
    assert total(target, GOOD.replace(b'"x"', b'"\\u0078"')) == [10.0]
