"""The site's files as they are sent."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from modelport.serve.frame import STATIC, Files, page, sent


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[Mount("/static", Files(directory=STATIC))]))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("common.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_a_file_is_sent_once(client: TestClient, name: str, kind: str) -> None:
    reply = client.get(f"/static/{name}")
    assert reply.status_code == 200 and reply.content == sent(STATIC / name)
    assert reply.headers["content-type"].split(";")[0] == kind
    etag = reply.headers["etag"]
    again = client.get(f"/static/{name}", headers={"If-None-Match": etag})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == etag
    assert client.get(f"/static/{name}", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head(f"/static/{name}")
    assert head.status_code == 200 and int(head.headers["content-length"]) == len(reply.content)


@pytest.mark.parametrize("path", ["nothing.js", "../frame.py", "%2e%2e/frame.py", ""])
def test_nothing_else_is_there(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_a_page_has_its_own_script_and_asks_for_all_others_early() -> None:
    html = bytes(page("classifier", model=True, status=404).body).decode()
    assert '<body class="classifier">' in html
    assert '<script type="module" src="/static/classifier.js"></script>' in html
    for name in ("answer", "calls", "camera", "card", "common", "intake"):
        assert f'<link rel="modulepreload" href="/static/{name}.js">' in html
    assert page("index", status=404).status_code == 404
