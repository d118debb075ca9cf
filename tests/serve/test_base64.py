"""Pictures as base64 in the protocol's JSON, which carries no bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelport.serve.base64_text import is_base64_of_picture

from ..colours import LABELS, pack_colours, picture, served

ENCODED = [base64.b64encode(picture(colour)).decode() for colour in LABELS]
BASE64 = {"parameters": {"content_type": "base64"}}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    repo = pack_colours(tmp_path_factory.mktemp("base64"))
    with served(repo, "--executors", "1") as (url, _), httpx.Client(base_url=url, timeout=30) as client:
        yield client


def infer(http: httpx.Client, data: list[str], **more: Any) -> httpx.Response:
    entry = {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data, **more}
    return http.post("/v2/models/colours/infer", json={"inputs": [entry]})


def test_the_content_type_base64_is_decoded(http: httpx.Client) -> None:
    for data in (ENCODED, [f"data:image/png;base64,{text}" for text in ENCODED]):
        reply = infer(http, data, **BASE64)
        assert reply.status_code == 200, reply.text
        labels = next(each for each in reply.json()["outputs"] if each["name"] == "labels")
        width = labels["shape"][1]
        assert labels["data"][::width] == LABELS


def test_what_is_said_to_be_base64_and_is_not(http: httpx.Client) -> None:
    reply = infer(http, [ENCODED[0], "***"], **BASE64)
    assert reply.status_code == 400
    assert "not base64" in reply.json()["error"] and "$.inputs[0].data[1]" in reply.json()["error"]


def test_base64_that_is_not_said_to_be_is_refused_with_what_to_do(http: httpx.Client) -> None:
    for data in (ENCODED, [f"data:image/png;base64,{ENCODED[0]}"]):
        reply = infer(http, data)
        assert reply.status_code == 415
        said = reply.json()["error"]
        assert "got the base64 of one" in said
        assert '"parameters": {"content_type": "base64"}' in said and "/predict" in said
    other = infer(http, ["a text that is no picture at all"])
    assert other.status_code == 415 and "base64" not in other.json()["error"]


def test_an_empty_body_is_called_empty(http: httpx.Client) -> None:
    reply = http.post("/v2/models/colours/infer")
    assert reply.status_code == 400 and "the body is empty" in reply.json()["error"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_base64_of_pictures_is_known_by_its_start(kind: str) -> None:
    data = picture("red", kind=kind)
    assert not is_base64_of_picture(data)
    assert is_base64_of_picture(base64.b64encode(data))
    assert not is_base64_of_picture(base64.b64encode(b"a text that is no picture at all"))
    assert not is_base64_of_picture(b"")
