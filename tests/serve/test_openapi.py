"""The OpenAPI document against the routes, against JSON Schema, and against the running server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from modelport import plugins
from modelport.serve import openapi
from modelport.serve.app import create_admin_app, create_app
from modelport.serve.guard.guard import Guard
from modelport.serve.guard.scope import scoped
from modelport.serve.settings import ServeSettings

from ..boxes import pack_boxes
from ..colours import pack_colours, picture, served

HERE = Path(__file__).parent
DIALECTS = tuple(
    name
    for name, target in plugins.table("dialects").items()
    if find_spec(target.replace(":", ".")) is not None
)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "missing_required_header",
    "ignored_auth",
)


@pytest.fixture(scope="module")
def ports() -> dict[str, list[BaseRoute]]:
    """Every route of the two ports, with every dialect on."""
    settings = ServeSettings(apis=DIALECTS)
    app = create_app([], settings)
    admin = create_admin_app(app.state.repository, settings, Guard.open(None))
    return {"main": app.routes, "admin": admin.routes}


@pytest.fixture(scope="module", params=["main", "admin"])
def document(request: pytest.FixtureRequest, ports: dict[str, list[BaseRoute]]) -> dict[str, Any]:
    """What one of them says of itself."""
    return json.loads(json.dumps(openapi.document(ports[request.param])))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_is_described_and_every_description_has_its_route(
    ports: dict[str, list[BaseRoute]],
) -> None:
    mounted = {
        (openapi.module_of(route), key) for routes in ports.values() for key, route in openapi.methods(routes)
    }
    described = {
        (module, key)
        for module, key in openapi.operations()
        if find_spec(f"modelport.serve.{module}") is not None
    }
    assert mounted - described == set(), "add them to a table in serve/operations/"
    assert described - mounted == set(), "no route is there for these"


def test_no_two_tables_say_the_same_thing_twice() -> None:
    modules = [module for table in openapi.TABLES for module in table.TABLES]
    names = [name for table in openapi.TABLES for name in getattr(table, "SCHEMAS", {})]
    assert len(set(modules)) == len(modules) and len(set(names)) == len(names)


def test_only_what_is_mounted_is_in_the_document() -> None:
    app = create_app([], ServeSettings(apis=("v2",)))
    paths = openapi.document(app.routes)["paths"]
    assert "/v2/models/{name}/infer" in paths and "/openapi.json" in paths
    assert not any(path.startswith(("/hf", "/api/predict", "/predict", "/v1")) for path in paths)


def test_the_document_holds_together(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        schema = document["components"]["schemas"][name]
        jsonschema.Draft202012Validator.check_schema(schema)
    unused = [name for name in document["components"]["schemas"] if f"schemas/{name}" not in text]
    assert unused == []
    identities = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identities)) == len(identities)
    tags = [tag["name"] for tag in document["tags"]]
    for method, path, operation in operations(document):
        assert set(operation["tags"]) <= set(tags), path
        assert any(status.startswith("2") or status == "501" for status in operation["responses"]), path
        named = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", path), path
        assert all(reply["description"] for reply in operation["responses"].values()), (method, path)


def test_keys_and_bodies_have_their_refusals(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        statuses = set(operation["responses"])
        scope = operation.get("x-modelport-scope")
        if scope is not None:
            assert {"401", "403", "429"} <= statuses, (method, path)
            assert operation["security"] == ([{"key": []}] if scope == "admin" else [{}, {"key": []}])
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= statuses, (method, path)
        if method == "post" and path.endswith(("/infer", ":predict", "/predict/{name}")):
            assert {"404", "503"} <= statuses, (method, path)
        for status in ("429", "503", "504"):
            if status in statuses and "Retry-After" not in operation["responses"][status].get("headers", {}):
                assert path in ("/v2/health/ready", "/ping", "/health")


def test_a_route_that_no_table_knows_is_described_by_its_docstring() -> None:
    async def odd(request: Request) -> Response:
        """POST /odd: does something odd.

        And more.
        """
        return Response()

    guarded = scoped([Route("/odd/{what}", odd, methods=["POST"])], "infer", Guard.open(None))
    made = openapi.document(guarded)
    operation = made["paths"]["/odd/{what}"]["post"]
    assert operation["summary"] == "POST /odd: does something odd."
    assert operation["parameters"][0]["name"] == "what" and made["tags"] == [{"name": "Plugins"}]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openapi")
    pack_colours(folder, version="1")
    pack_boxes(folder, name="shapes")
    return pack_colours(folder, version="2")


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    options = ("--api", ",".join(DIALECTS), "--versions", "all", "--executors", "1")
    with served(repo, *options) as (address, _):
        yield address


def test_the_document_and_its_page_are_served(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as http:
        document = http.get("/openapi.json").json()
        app = create_app([], ServeSettings(apis=DIALECTS))
        assert document["paths"].keys() == openapi.document(app.routes)["paths"].keys()
        (name, *_) = document["paths"]["/predict/{name}"]["post"]["parameters"]
        assert name["example"] == "colours"
        for path in ("/predict/{name}", "/hf/{name}", "/v1/models/{name}:predict", "/predictions/{name}"):
            described = {p["name"]: p for p in document["paths"][path]["post"]["parameters"]}
            threshold = described["score_threshold"]
            assert threshold["in"] == "query" and "shapes" in threshold["description"]
            assert threshold["schema"] == {"type": "number", "default": 0.25, "minimum": 0.0, "maximum": 1.0}
        assert "x-modelport-options" not in json.dumps(document)
        drawn = document["paths"]["/predict/{name}"]["post"]["responses"]["200"]["content"]
        assert {"application/json", "image/jpeg", "image/png"} <= drawn.keys()
        page = http.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]


def test_schemathesis_finds_nothing(url: str, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    command = [Path(sys.executable).with_name("st"), "--config-file", HERE / "schemathesis.toml", "run"]
    options = ["--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing"]
    options += ["--checks", ",".join(CHECKS), "--no-color", "--generation-database", "none"]
    options += ["--report", "har", "--report-har-path", str(tmp_path / "calls.har")]
    ran = subprocess.run(
        [*command, f"{url}/openapi.json", *options, "--warnings", "off", "--request-timeout", "60"],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    generated = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
    assert generated and int(generated[1]) == int(generated[2]) > 1000
    # It came past the front door: answers were judged too, not refusals alone.
    calls = json.loads((tmp_path / "calls.har").read_text())["log"]["entries"]
    answered = {urlsplit(c["request"]["url"]).path for c in calls if c["response"]["status"] == 200}
    versions = r"/versions/\w+|(?<=/colours)/\w+$|(?<=/shapes)/\w+$"
    answered |= {re.sub(versions, "", path) for path in answered}
    paths = ["/predict/colours", "/hf/colours", "/models/colours", "/api/predict/colours"]
    assert {*paths, "/v2/models/colours.net/infer", "/v1/models/colours.net:predict"} <= answered
    # Whatever it did to the server, it still answers.
    reply = httpx.post(f"{url}/predict/colours", content=picture("blue"), timeout=30)
    assert reply.json()["answer"][0]["label"] == "blue"
