"""The dialects in the real server: by default, with keys, and TorchServe's management on its own port."""

from __future__ import annotations

import base64
import shutil
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelport.serve.guard.keys import Scope

from ...administration import added_key
from ...colours import pack_colours, picture, served
from .tensor_models import pack_tensor_models

RED = picture("red")
ROWS = {"instances": [{"b64": base64.b64encode(RED).decode()}]}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def bearer(name: str, file: Path, *scopes: Scope, **more: Any) -> dict[str, str]:
    """A new key in `file`, as a header."""
    return {"Authorization": f"Bearer {added_key(file, name, *scopes, **more)}"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    pack_colours(folder, version="1")
    pack_colours(folder, version="2")
    return pack_tensor_models(folder, "row")


def test_all_of_them_answer_by_default_on_one_port(bundles: Path) -> None:
    with served(bundles) as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        prediction = http.post("/v1/models/colours:predict", json=ROWS).json()["predictions"][0]
        assert prediction["labels"][0] == "red"
        assert next(iter(http.put("/predictions/colours", content=RED).json())) == "red"
        assert http.post("/invocations/colours", json=ROWS).json()["predictions"][0][0]["label"] == "red"
        assert http.get("/ping").status_code == http.get("/health").status_code == 200
        assert http.get("/monitoring/prometheus/metrics").text.startswith("# HELP")
        assert http.get("/version").status_code == 200 and http.options("/").json()["openapi"] == "3.0.1"
        # Server-wide words for what no dialect answers; the pages are where they were.
        assert http.get("/predictions/colours").json() == {"error": "Method Not Allowed"}
        assert http.get("/models/colours").headers["content-type"].startswith("text/html")
        # A deadline reaches the engine past dialects that do not know of it.
        late = http.post("/predictions/colours", content=RED, headers={"X-Request-Timeout-Ms": "0.000001"})
        assert late.status_code in (503, 504)
        assert late.json()["type"] in ("ServiceUnavailableException", "RequestTimeoutException")


def test_nothing_is_managed_on_the_main_port(bundles: Path) -> None:
    with served(bundles) as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        for method, path in (
            ("POST", "/models?url=colours/1"),
            ("PUT", "/models/colours?min_worker=0"),
            ("PUT", "/models/colours/1/set-default"),
            ("DELETE", "/models/colours"),
            ("DELETE", "/models/colours/2"),
            ("GET", "/models/colours/all"),
        ):
            reply = http.request(method, path)
            assert reply.status_code in (404, 405), (method, path)
            assert "status" not in reply.text[:20] and "modelName" not in reply.text
        assert next(iter(http.put("/predictions/colours", content=RED).json())) == "red"


def test_keys_stand_before_every_dialect_and_before_its_management(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    admin = bearer("ops", file, "admin")
    infer = bearer("app", file, "infer")
    of_row = bearer("rows", file, "infer", models=("row",))
    port = free_port()
    options = ("--keys", str(file), "--admin-port", str(port))
    paths = ("/v1/models/colours:predict", "/predictions/colours", "/invocations/colours")
    with (
        served(bundles, *options) as (url, _),
        httpx.Client(base_url=url, timeout=30) as http,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as management,
    ):
        for path in paths:
            body = RED if "/predictions" in path else None
            ask = {"content": body} if body else {"json": ROWS}
            assert http.post(path, **ask).status_code == 401
            assert http.post(path, **ask, headers=infer).status_code == 200
            assert http.post(path, **ask, headers=of_row).status_code == 403
        row = {"inputs": [[1, 2, 3]]}
        assert http.post("/invocations/row", json=row, headers=of_row).json() == {"predictions": [[2, 4, 6]]}
        # A key for some models cannot ask where the path names none.
        assert http.post("/invocations", json=row, headers=of_row).status_code == 403
        for open_to_all in ("/ping", "/health", "/version", "/api-description"):
            assert http.get(open_to_all).status_code == 200, open_to_all
        for headers, status in (({}, 401), (infer, 403), (admin, 200)):
            assert management.get("/models", headers=headers).status_code == status
            reply = management.put("/models/colours?min_worker=1", headers=headers)
            assert reply.status_code == status
        site = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
        for method, path in (("POST", "/models?url=colours/1"), ("DELETE", "/models/colours")):
            assert management.request(method, path, headers=admin | site).status_code == 403


def test_a_version_is_rolled_out_by_hand_as_with_torchserve(bundles: Path, tmp_path: Path) -> None:
    repo, file = tmp_path / "repo", tmp_path / "keys.json"
    shutil.copytree(bundles / "colours" / "1", repo / "colours" / "1")
    admin, port = bearer("ops", file, "admin"), free_port()
    options = ("--keys", str(file), "--open", "infer", "--admin-port", str(port), "--watch", "0")
    with (
        served(repo, *options) as (url, _),
        httpx.Client(base_url=url, timeout=30) as http,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=admin) as management,
    ):

        def answers() -> str:
            reply = http.post("/predict/colours", content=RED).json()
            assert reply["answer"][0]["label"] == "red"
            return str(reply["version"])

        shutil.copytree(bundles / "colours" / "2", repo / "colours" / "2")
        registered = management.post("/models", params={"url": "colours/2"})
        assert registered.status_code == 200, registered.text
        assert answers() == "1"
        assert http.put("/predictions/colours/2", content=RED).status_code == 200
        assert management.put("/models/colours/2/set-default").status_code == 200
        assert answers() == "2"
        assert management.delete("/models/colours/1").status_code == 200
        assert answers() == "2"
        assert [v["modelVersion"] for v in management.get("/models/colours/all").json()] == ["2"]
