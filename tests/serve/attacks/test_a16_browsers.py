"""A16: other people's pages, in the browser of somebody who runs a server on their own machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ...colours import picture, served
from .conftest import ALL, Guarded
from .wire import Target, get, head, post

PAGE = {"origin": "https://evil.example", "sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
SIMPLE = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
FRIEND = "https://app.example"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "0.0.0.0:8000", "169.254.169.254"]
)
def test_a_name_that_leads_here_by_rebinding_is_not_ours(target: Target, host: str) -> None:
    for request, method in (
        (get("/v2/models/colours", host=host), "GET"),
        (get("/", host=host), "GET"),
        (get("/static/common.js", host=host), "GET"),
        (post("/predict/colours", picture("red"), host=host), "POST"),
        (head("OPTIONS", "/predict/colours", host=host), "OPTIONS"),
    ):
        reply = target.one(request, method=method)
        assert reply.status == 403 and b"colours" not in reply.body, (host, reply)


def test_our_own_names_are(target: Target) -> None:
    port = target.address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
        assert target.one(get("/v2/health/live", host=host), method="GET").status == 200


@pytest.mark.parametrize("kind", SIMPLE)
def test_simple_posts_of_foreign_pages_are_refused(target: Target, guarded: Guarded, kind: str) -> None:
    """A form or a no-cors fetch needs no leave of the browser; only the server can refuse it."""
    for where, path, more in (
        (target, "/predict/colours", {}),
        (target, "/v2/models/colours/infer", {}),
        (target, "/v2/models/colours.net/infer", {"inference_header_content_length": "2"}),
        (target, "/v2/repository/index", {}),
        (guarded.admin, "/v2/repository/models/colours/unload", guarded.bearer("ops")),
        (guarded.admin, "/api/models/colours/rollout/promote", guarded.bearer("ops")),
    ):
        for page in (
            PAGE,
            {"origin": "null"},
            {"sec_fetch_site": "same-site"},
            {"origin": "http://localhost:3000"},
        ):
            reply = where.one(post(path, b"{}", content_type=kind, **page, **more))
            assert reply.status == 403, (path, page, reply)
            assert "access-control-allow-origin" not in reply.headers


def test_foreign_pages_read_nothing(target: Target) -> None:
    """Not CORS is the rule: a GET is answered, and the browser keeps the answer from the page."""
    for path in ("/v2/models/colours", "/api/models", "/metrics", "/"):
        reply = target.one(get(path, **PAGE), method="GET")
        assert not [name for name in reply.headers if name.startswith("access-control-")], reply.headers
    for method in ("POST", "PUT", "DELETE"):
        asked = {"origin": "https://evil.example", "access_control_request_method": method,
                 "access_control_request_headers": "authorization,content-type"}  # fmt: skip
        reply = target.one(head("OPTIONS", "/predict/colours", **asked), method="OPTIONS")
        assert reply.status in (403, 404, 405) and "access-control-allow-origin" not in reply.headers


def test_pages_cannot_be_framed_and_load_nothing_from_elsewhere(target: Target) -> None:
    for path in ("/", "/models/colours", "/dashboard"):
        headers = target.one(get(path), method="GET").headers
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "default-src 'self'" in policy
        assert "unsafe-inline" not in policy and "unsafe-eval" not in policy
        assert headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
def friendly(repo: Path) -> Iterator[Target]:
    with served(repo, *ALL, "--cors-origin", FRIEND, "--allow-host", "models.example") as (url, process):
        yield Target(url, process.pid)


def test_a_page_that_is_allowed_may_ask_and_no_other(friendly: Target) -> None:
    mine = {"origin": FRIEND, "sec_fetch_site": "cross-site"}
    reply = friendly.one(post("/predict/colours", picture("red"), **mine))
    assert reply.status == 200 and reply.headers["access-control-allow-origin"] == FRIEND
    assert "access-control-allow-credentials" not in reply.headers
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
    reply = friendly.one(head("OPTIONS", "/predict/colours", **mine, **asked), method="OPTIONS")
    assert reply.status == 204 and "authorization" in reply.headers["access-control-allow-headers"]
    assert "content-length" not in reply.headers  # RFC 9110, 8.6
    for other in (
        "https://app.example.evil",
        "https://evil-app.example",
        "http://app.example",
        "null",
        FRIEND.upper(),
    ):
        theirs = {"origin": other, "sec_fetch_site": "cross-site"}
        reply = friendly.one(post("/predict/colours", picture("red"), **theirs))
        assert reply.status == 403 and "access-control-allow-origin" not in reply.headers
        reply = friendly.one(head("OPTIONS", "/predict/colours", **theirs, **asked), method="OPTIONS")
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_page_that_is_allowed_may_use_every_method_and_header(friendly: Target, method: str) -> None:
    """Deadlines and the headers of rollouts, whose names are the operator's."""
    headers = "x-request-timeout-ms, x-canary"
    asked = {"access_control_request_method": method, "access_control_request_headers": headers}
    request = head("OPTIONS", "/track/colours/1", origin=FRIEND, sec_fetch_site="cross-site", **asked)
    reply = friendly.one(request, method="OPTIONS")
    assert reply.status == 204 and method in reply.headers["access-control-allow-methods"].split(", ")
    assert reply.headers["access-control-allow-headers"] == headers


@pytest.mark.parametrize("headers", ["", "x y", "x-a, (x)", "x-a,,x-b"])
def test_what_are_no_names_of_headers_is_not_repeated(friendly: Target, headers: str) -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": headers}
    reply = friendly.one(head("OPTIONS", "/predict/colours", origin=FRIEND, **asked), method="OPTIONS")
    assert reply.status == 204 and "access-control-allow-headers" not in reply.headers


def test_a_page_that_is_allowed_may_put_and_delete(friendly: Target) -> None:
    mine = {"origin": FRIEND, "sec_fetch_site": "cross-site"}
    red = picture("red")
    reply = friendly.one(head("PUT", "/predictions/colours", content_length=len(red), **mine) + red)
    assert reply.status == 200 and reply.headers["access-control-allow-origin"] == FRIEND
    reply = friendly.one(head("DELETE", "/track/colours/1", **mine), method="DELETE")
    assert reply.status != 403 and reply.headers["access-control-allow-origin"] == FRIEND


def test_a_name_that_is_allowed_is_answered(friendly: Target) -> None:
    assert friendly.one(get("/v2/health/live", host="models.example"), method="GET").status == 200
    assert friendly.one(get("/v2/health/live", host="evil.example"), method="GET").status == 403
