"""A4: no alias, spelling, method, header or protocol leads past the key."""

from __future__ import annotations

import json
import time

import pytest

from modelport.serve.guard.keys import Keys, new_key, update, without

from .conftest import Guarded
from .wire import Target, head

ANSWERS = [
    "/predict/colours",
    "/predict/colours/1",
    "/v2/models/colours/infer",
    "/v2/models/colours.net/infer",
    "/v2/models/colours/versions/1/infer",
    "/v1/models/colours:predict",
    "/v1/models/colours/versions/1:predict",
    "/predictions/colours",
    "/predictions/colours/1",
    "/invocations",
    "/api/predict/colours",
    "/models/colours",
    "/",
]
SECRETS = [
    "/api/models",
    "/api/models/colours",
    "/api/models/colours/1/samples/0",
    "/v2/models/colours",
    "/v2/models",
]
FIGURES = ["/metrics", "/api/dashboard", "/v2/models/colours/stats", "/monitoring/prometheus/metrics"]
CHANGES = [
    "/v2/repository/models/colours/unload",
    "/v2/repository/models/colours/load",
    "/api/models/colours/rollout",
    "/api/models/colours/rollout/promote",
    "/models/colours",
]
# Who may see what without a key: whether the server is well, and the pages with their files.
OPEN = ("/v2/health/live", "/v2/health/ready", "/", "/models", "/dashboard", "/docs", "/static/")
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]


def spellings(path: str) -> list[str]:
    """Other ways to write a path, of which a proxy, a filter or a router may take some for the same."""
    last = path.rsplit("/", 1)
    return [
        path,
        path + "/",
        path + "?x=1",
        path + ";x=1",
        path + "%20",
        path + "%00",
        path + "/.",
        path.upper(),
        "/" + path,
        "/." + path,
        "/x/.." + path,
        "/static/.." + path,
        "/static/..%2f" + path[1:],
        path.replace("/", "//"),
        path.replace("/", "%2f"),
        path.replace("o", "%6f"),
        path.replace("o", "%256f"),
        f"{last[0]}/%2e/{last[1]}",
        f"http://127.0.0.1{path}",
    ]


def is_open(path: str, body: bytes) -> bool:
    """A page, or a word about health; nothing about a model."""
    return path.split("?")[0].startswith(OPEN) and b"colours" not in body


@pytest.mark.parametrize("path", ANSWERS + SECRETS + FIGURES + CHANGES)
def test_without_a_key_nothing_but_pages_and_health_is_answered(guarded: Guarded, path: str) -> None:
    for target in (guarded.public, guarded.admin):
        for method in METHODS:
            for spelling in spellings(path) if method in ("GET", "POST") else [path]:
                request = head(method, spelling, content_length=0, connection="close")
                reply = target.one(request, method=method)
                fine = reply.status in (400, 401, 404, 405, 415) or is_open(spelling, reply.body)
                assert fine, (method, spelling, reply.status, reply.body[:200])


TRICKS = [
    {"x_original_url": "/v2/health/live"},
    {"x_rewrite_url": "/v2/health/live"},
    {"x_forwarded_for": "127.0.0.1", "x_real_ip": "127.0.0.1"},
    {"x_http_method_override": "GET"},
    {"authorization": "Basic YWRtaW46YWRtaW4="},
    {"authorization": "Bearer"},
    {"authorization": "Bearer null"},
    {"authorization": "Bearer mpk_"},
    {"authorization": "EAS x", "content_md5": "0" * 32},
    {"x_api_key": ""},
    {"cookie": "modelport=admin; key=x"},
    {"upgrade": "websocket", "connection": "upgrade"},
    {"connection": "authorization, close"},
]


@pytest.mark.parametrize(
    "path", ["/predict/colours", "/v2/models/colours/infer", "/v2/models/colours.net/infer"]
)
def test_no_header_stands_in_for_a_key(guarded: Guarded, path: str) -> None:
    for trick in TRICKS:
        for length in ({}, {"inference_header_content_length": "2"}):
            reply = guarded.public.one(head("POST", path, content_length=2, **trick, **length) + b"{}")
            assert reply.status == 401, (trick, reply)
            assert reply.headers["www-authenticate"].startswith("Bearer")


def ask(target: Target, method: str, path: str, body: bytes = b"{}", **headers: str) -> int:
    request = head(method, path, content_length=len(body), content_type="application/json", **headers)
    return target.one(request + body, method=method).status


def test_each_key_opens_its_own_door_alone(guarded: Guarded) -> None:
    doors = {
        "ci": (guarded.public, "GET", "/api/models"),
        "watch": (guarded.public, "GET", "/metrics"),
        "ops": (guarded.admin, "GET", "/api/models/colours"),
    }
    for owner in doors:
        for name, (target, method, path) in doors.items():
            status = ask(target, method, path, **guarded.bearer(owner))
            assert (status == 200) == (name == owner), (owner, path, status)
            assert status in (200, 403)


def test_administration_is_not_on_the_port_for_answers(guarded: Guarded) -> None:
    for path in CHANGES:
        for method in ("POST", "PUT", "DELETE"):
            status = ask(guarded.public, method, path, **guarded.bearer("ops"))
            assert status in (400, 403, 404, 405), (method, path, status)
    assert ask(guarded.public, "GET", "/v2/models/colours/ready", **guarded.bearer("ci")) == 200


def test_a_key_for_one_model_reaches_no_other(guarded: Guarded) -> None:
    mine = guarded.bearer("sum only")
    assert ask(guarded.public, "GET", "/v2/models/sum", **mine) == 200
    assert ask(guarded.public, "GET", "/v2/models/sum.net", **mine) == 200
    assert ask(guarded.public, "GET", "/v2/models/sum/stats", **mine) == 200
    for spelling in spellings("/v2/models/stats"):
        assert ask(guarded.public, "GET", spelling, **mine) in (400, 403, 404), spelling
    request = head("GET", "/api/models", **mine)
    (told,) = json.loads(guarded.public.one(request, method="GET").body)["models"]
    assert told["name"] == "sum"
    for path in ANSWERS:
        for spelling in spellings(path):
            status = ask(guarded.public, "POST", spelling, **mine)
            assert status in (400, 403, 404, 405), (spelling, status)


def test_a_key_that_is_revoked_opens_nothing_a_second_later(guarded: Guarded) -> None:
    made: list[str] = []

    def change(keys: Keys) -> Keys:
        keys, text = new_key("brief", ("infer",), keys=keys)
        made.append(text)
        return keys

    def becomes(status: int) -> None:
        until = time.monotonic() + 20
        while ask(guarded.public, "GET", "/api/models", x_api_key=made[0]) != status:
            assert time.monotonic() < until
            time.sleep(0.2)

    update(guarded.path, change)
    becomes(200)
    update(guarded.path, lambda keys: without(keys, "brief"))
    becomes(401)
    guarded.path.with_suffix(".new").write_text("{")
    good = guarded.path.read_bytes()
    guarded.path.with_suffix(".new").replace(guarded.path)
    time.sleep(1.5)
    assert ask(guarded.public, "GET", "/api/models", **guarded.bearer("ci")) == 200
    assert ask(guarded.public, "GET", "/api/models") == 401
    guarded.path.write_bytes(good)
