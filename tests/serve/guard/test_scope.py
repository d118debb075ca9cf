"""Guards before routes: whatever path leads to an endpoint leads through its guard (A3, A4)."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Message

from modelport.errors import ModelportError
from modelport.serve.guard.eas import signature
from modelport.serve.guard.guard import Guard, Needs
from modelport.serve.guard.scope import scope_of, scoped

from .test_guard import Bench, bearer

reached: list[str] = []


async def infer(request: Request) -> Response:
    body = await request.body()
    reached.append(request.path_params.get("name", "?"))
    return JSONResponse({"principal": request.state.principal.name, "bytes": len(body)})


async def load(request: Request) -> Response:
    reached.append("load")
    return PlainTextResponse("loaded", 202)


async def fail(request: Request) -> Response:
    raise ZeroDivisionError


async def refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ModelportError)
    return JSONResponse({"error": problem.message}, problem.http_status)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    reached.clear()
    return Bench(tmp_path)


def client(bench: Bench, *, origins: tuple[str, ...] = ()) -> httpx.AsyncClient:
    (bench.path.parent / "static").mkdir(exist_ok=True)
    (bench.path.parent / "static" / "page.html").write_text("page")
    guard = bench.guard()
    answers = [
        Route("/v2/models/{name}/infer", infer, methods=["POST"]),
        Route("/v1/models/{model}:predict", infer, methods=["POST"]),
        Route("/invocations", infer, methods=["POST"]),
        Route("/v2/models", infer),
        Route("/api/predict/{service}", infer, methods=["POST"]),
        Mount("/alias", routes=[Route("/{name}", infer, methods=["POST"])]),
    ]
    admin = [
        Route("/v2/repository/models/{name}/load", load, methods=["POST"]),
        Route("/fail", fail, methods=["POST"]),
    ]
    static = [Mount("/static", StaticFiles(directory=bench.path.parent / "static"))]
    routes = [
        *scoped(answers, "infer", guard, origins=origins),
        *scoped(admin, "admin", guard, origins=origins),
        *scoped(static, "open", guard),
    ]
    app = Starlette(routes=routes, exception_handlers={ModelportError: refused})
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


SPELLINGS = [
    "/v2/models/digits/infer",
    "/v2/models/digits%2einfer/infer",
    "/v2/models/%64igits/infer",
    "/alias/digits",
    "/v1/models/digits:predict",
    "/invocations",
    "/v2/models/digits/infer?key=x",
    "/v2//models/digits/infer",
    "//v2/models/digits/infer",
    "/V2/MODELS/digits/INFER",
    "/v2/models/digits/infer/",
    "/alias/../invocations",
    "/static/../v2/models/digits/infer",
    "/static/..%2fv2/models/digits/infer",
    "/v2/models/digits/infer;x=1",
    "/v2/repository/models/digits/load",
    "/v2/repository/models/digits/load/",
    "/v2/repository/%6dodels/x/load",
    "/v2/models",
    "/v2/models/",
    "/fail",
]
TRICKS: list[dict[str, str]] = [
    {},
    bearer("wrong"),
    {"upgrade": "websocket", "connection": "upgrade"},
    {"x-original-url": "/static/page.html"},
    {"x-http-method-override": "GET"},
]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "MADEUP"]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_no_spelling_and_no_method_reaches_an_endpoint_without_a_key(bench: Bench, path: str) -> None:
    bench.add("ci")
    async with client(bench) as http:
        for method in METHODS:
            for headers in TRICKS:
                reply = await http.request(method, path, headers=headers, content=b"{}")
                assert reply.status_code in (401, 404, 405, 307), (method, path, headers, reply.status_code)
                if reply.status_code == 307:  # to the path without its slash, which asks for a key too
                    assert reply.headers["location"].rstrip("/") + "/" == f"http://127.0.0.1{path}"
    assert reached == []


@pytest.mark.parametrize("path", SPELLINGS)
async def test_a_key_for_answers_administrates_nothing(bench: Bench, path: str) -> None:
    key = bench.add("ci")
    async with client(bench) as http:
        for method in METHODS:
            await http.request(method, path, headers=bearer(key))
    assert "load" not in reached


async def test_with_its_key_each_route_answers_and_pages_need_none(bench: Bench) -> None:
    ci, ops = bench.add("ci"), bench.add("ops", "admin")
    async with client(bench) as http:
        reply = await http.post("/v2/models/digits/infer", headers=bearer(ci), content=b"1234")
        assert reply.json() == {"principal": "ci", "bytes": 4}
        assert (await http.post("/alias/digits", headers=bearer(ci))).json()["principal"] == "ci"
        assert (await http.post("/v2/repository/models/x/load", headers=bearer(ops))).status_code == 202
        assert (await http.post("/v2/models/digits/infer", headers=bearer(ops))).status_code == 403
        assert (await http.get("/static/page.html")).text == "page"
        assert (await http.get("/static/../keys.json")).status_code == 404


async def test_a_key_for_one_model_finds_no_way_to_another(bench: Bench) -> None:
    key = bench.add("ci", models=["digits"])
    async with client(bench) as http:
        for path in ("/v2/models/digits/infer", "/v2/models/digits.net/infer", "/v1/models/digits:predict",
                     "/v2/models/%64igits/infer", "/api/predict/digits"):  # fmt: skip
            assert (await http.post(path, headers=bearer(key))).status_code == 200, path
        reached.clear()
        for path in ("/v2/models/other/infer", "/v1/models/other:predict", "/v2/models/other.net/infer",
                     "/v2/models/digits.net.net/infer", "/api/predict/other"):  # fmt: skip
            reply = await http.post(path, headers=bearer(key))
            assert reply.status_code == 403 and "not for the model" in reply.json()["error"], path
        # Where the route names no model, the body might; and what is behind a mount is not known before it.
        for path in ("/invocations", "/alias/digits", "/alias/other"):
            reply = await http.post(path, headers=bearer(key))
            assert reply.status_code == 403 and "names no model" in reply.json()["error"], path
        assert reached == []
        assert (await http.get("/v2/models", headers=bearer(key))).status_code == 200


async def test_administration_is_written_down_and_writes_no_lines_of_its_own(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    key = bench.add("ops", "admin")
    with caplog.at_level(logging.INFO, "modelport.audit"):
        async with client(bench) as http:
            await http.post(
                "/v2/repository/models/x%0d%0aadmin_action%20principal=root/load", headers=bearer(key)
            )
            await http.post("/fail", headers=bearer(key))
            await http.post("/v2/repository/models/" + "x" * 5000 + "/load", headers=bearer(key))
            await http.post("/fail")
    first, second, third = caplog.records  # without a key nothing is done, and nothing is written
    assert (
        "\n" not in first.getMessage() and "\r" not in first.getMessage() and "\\r\\n" in first.getMessage()
    )
    assert (first.principal, first.status, first.method) == ("ops", 202, "POST")  # type: ignore[attr-defined]
    assert second.status == 500 and second.event == "admin_action"  # type: ignore[attr-defined]
    assert len(third.getMessage()) < 400 and key not in caplog.text


@pytest.mark.parametrize("path", ["/v2/repository/models/x/load", "/v2/models/digits/infer"])
async def test_a_page_of_another_origin_cannot_send_a_simple_post(bench: Bench, path: str) -> None:
    """A16: `text/plain` needs no preflight, so the browser sends it without asking."""
    key = bench.add("ops", "admin", "infer")
    page = {"origin": "https://evil.example", "content-type": "text/plain", "sec-fetch-site": "cross-site"}
    async with client(bench, origins=("https://app.example",)) as http:
        for headers in (page, page | bearer(key)):
            assert (await http.post(path, headers=headers, content=b"{}")).status_code == 403
        assert reached == []
        ours = bearer(key) | {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
        assert (await http.post(path, headers=ours)).status_code in (200, 202)
        friend = bearer(key) | {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
        expected = 403 if "repository" in path else 200  # no origin is ever allowed to administrate
        assert (await http.post(path, headers=friend)).status_code == expected


async def test_a_signed_request_is_taken_with_the_body_that_was_signed(bench: Bench) -> None:
    token = bench.add("eas", signing=True)
    body, date, path = b"\0" * 5000, "Mon, 01 Jun 2026 12:00:00 GMT", "/api/predict/digits"
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    right = signature(token, "POST", md5, "application/octet-stream", date, path)
    headers = {
        "authorization": f"EAS {right}",
        "content-md5": md5,
        "content-type": "application/octet-stream",
        "date": date,
    }
    async with client(bench) as http:
        assert (await http.post(path, headers=headers, content=body)).json() == {
            "principal": "eas",
            "bytes": 5000,
        }
        reached.clear()
        assert (await http.post(path, headers=headers, content=body + b"x")).status_code == 401
        assert (await http.post(path, headers=headers, content=b"")).status_code == 401
        assert (await http.post("/api/predict/other", headers=headers, content=body)).status_code == 401
        assert (await http.put("/invocations", headers=headers, content=body)).status_code == 405
        for name, value in (("date", "Mon, 01 Jun 2026 12:00:01 GMT"), ("content-type", "text/plain"),
                            ("content-md5", hashlib.md5(b"x", usedforsecurity=False).hexdigest()),
                            ("content-md5", ""), ("authorization", f"EAS A{right}"),
                            ("authorization", "EAS "), ("authorization", "EAS \u00e4")):  # fmt: skip
            reply = await http.post(path, headers=headers | {name: value.encode("latin-1")}, content=body)
            assert reply.status_code == 401, (name, value)
        assert (await http.post(path, headers={"authorization": token}, content=body)).status_code == 200
    assert reached == ["?"]


async def test_a_key_that_is_not_for_signing_signs_nothing(bench: Bench) -> None:
    token = bench.add("ci")
    bench.add("eas", signing=True)
    md5 = hashlib.md5(b"", usedforsecurity=False).hexdigest()
    made = signature(token, "POST", md5, "", "", "/api/predict/digits")
    async with client(bench) as http:
        headers = {"authorization": f"EAS {made}", "content-md5": md5}
        assert (await http.post("/api/predict/digits", headers=headers)).status_code == 401


def test_every_route_says_what_it_asks_and_unknown_kinds_are_not_taken() -> None:
    guard = Guard()
    route = Route("/x", infer)
    (own,) = scoped([route], "infer", guard)
    assert scope_of(own) == "infer"
    assert scope_of(route) is None  # the one given is not changed: it may be mounted elsewhere
    for odd in (WebSocketRoute("/x", infer), Host("x", Starlette()), type("Own", (Route,), {})("/x", infer)):
        with pytest.raises(TypeError, match="cannot put a guard"):
            scoped([odd], "open", guard)


async def test_who_was_let_in_on_the_way_here_is_not_counted_twice(bench: Bench) -> None:
    key = bench.add("ci", rate="1/h", models=["digits"])
    guard = bench.guard()
    principal = guard.authorize(bearer(key), "infer", model="digits")  # takes the one token there is

    async def ask(path: str, needs: Needs) -> int:
        sent: list[int] = []
        route = Route("/v2/models/{name}/infer", infer, methods=["POST"])
        app = Starlette(routes=scoped([route], needs, guard), exception_handlers={ModelportError: refused})

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        state = {"exchange": SimpleNamespace(principal=principal)}
        headers = [(b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
        await app(scope | {"state": state}, receive, send)
        return sent[0]

    assert await ask("/v2/models/digits/infer", "infer") == 200
    # For another model or another scope the guard is asked again, and there is no token left.
    assert await ask("/v2/models/other/infer", "infer") == 429
    assert await ask("/v2/models/digits/infer", "admin") == 429
