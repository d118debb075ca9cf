"""A5: the server makes no requests for its callers: addresses in inputs are text, or refused."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .wire import Target, as_json, post

PLACES = [
    "/predict/colours",
    "/v2/models/colours/infer",
    "/predictions/colours",
    "/v1/models/colours:predict",
    "/invocations",
    "/api/predict/colours",
    "/",
]


@contextmanager
def trap() -> Iterator[tuple[str, list[bytes]]]:
    """An address on which nobody should knock, and who did."""
    knocks: list[bytes] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def watch() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    knocks.append(connection.recv(1000))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png", knocks
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def bodies(url: str) -> dict[str, tuple[bytes, str]]:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
    xxe = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "{url}">]><x>&e;</x>'
    form = (
        f'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n{url}\r\n'
        f'--b\r\nContent-Disposition: form-data; name="data"; filename="{url}"\r\n'
        f"Content-Type: message/external-body; access-type=URL; URL={url}\r\n\r\n{url}\r\n--b--\r\n"
    )
    oip = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [url]}]}
    return {
        "image": (as_json({"image": url}), "application/json"),
        "image_url": (as_json({"image": {"url": url}}), "application/json"),
        "inputs": (as_json({"inputs": url}), "application/json"),
        "instances": (as_json({"instances": [{"b64": url}, {"url": url}]}), "application/json"),
        "bytes": (as_json(oip), "application/json"),
        "data": (
            as_json({"image": "data:image/png;base64," + base64.b64encode(url.encode()).decode()}),
            "application/json",
        ),
        "data that is none": (as_json({"image": f"data:text/uri-list,{url}"}), "application/json"),
        "plain": (url.encode(), "text/plain"),
        "uri list": (url.encode(), "text/uri-list"),
        "svg": (svg.encode(), "image/svg+xml"),
        "xml": (xxe.encode(), "application/xml"),
        "form": (form.encode(), "multipart/form-data; boundary=b"),
        "fields": (f"url={url}&image={url}".encode(), "application/x-www-form-urlencoded"),
    }


@pytest.mark.parametrize("form", bodies("x"))
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_addresses_in_a_request_are_not_followed(target: Target, form: str, scheme: str) -> None:
    with trap() as (url, knocks):
        body, kind = bodies(url if scheme == "http" else "file:///etc/passwd")[form]
        for path in PLACES:
            reply = target.one(post(path, body, content_type=kind))
            assert 400 <= reply.status < 500, (path, reply)
            assert b"root:" not in reply.body
        for header in (
            "referer",
            "x_forwarded_host",
            "content_location",
            "x_original_url",
            "origin",
            "traceparent",
        ):
            target.one(post("/predict/colours", body, content_type=kind, **{header: url}))
        assert knocks == []
