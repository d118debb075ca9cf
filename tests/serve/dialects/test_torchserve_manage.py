"""TorchServe's management API. The words that are compared were captured from TorchServe 0.12.0."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema
import pytest

from modelport.engine.scheduler import Scheduler
from modelport.serve.dialects import torchserve, torchserve_workers

from ...colours import pack_colours, picture
from .live import live
from .tensor_models import pack_tensor_models

# Captured: the keys of a described version, and the types of their values.
DESCRIBED: dict[str, type] = {
    "modelName": str,
    "modelVersion": str,
    "modelUrl": str,
    "runtime": str,
    "minWorkers": int,
    "maxWorkers": int,
    "batchSize": int,
    "maxBatchDelay": int,
    "responseTimeout": int,
    "startupTimeout": int,
    "maxRetryTimeoutInSec": int,
    "clientTimeoutInMills": int,
    "parallelType": str,
    "parallelLevel": int,
    "deviceType": str,
    "continuousBatching": bool,
    "useJobTicket": bool,
    "useVenv": bool,
    "stateful": bool,
    "sequenceMaxIdleMSec": int,
    "sequenceTimeoutMSec": int,
    "maxNumSequence": int,
    "maxSequenceJobQueueSize": int,
    "loadedAtStartup": bool,
    "workers": list,
    "jobQueueStatus": dict,
}
WORKER: dict[str, type] = {
    "id": str,
    "startTime": str,
    "status": str,
    "memoryUsage": int,
    "pid": int,
    "gpu": bool,
    "gpuUsage": str,
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of colours, and three other models."""
    folder = tmp_path_factory.mktemp("bundles")
    for version in ("1", "2", "3"):
        pack_colours(folder, version=version)
    return pack_tensor_models(folder, "pair", "row", "sum")


@pytest.fixture
def repo(bundles: Path, tmp_path: Path) -> Path:
    """A repository with version 1 of colours, which tests put more into."""
    shutil.copytree(bundles / "colours" / "1", tmp_path / "repo" / "colours" / "1")
    return tmp_path / "repo"


@pytest.fixture
def http(repo: Path) -> Iterator[httpx.Client]:
    routes = [*torchserve.ADMIN_ROUTES, *torchserve.ROUTES]
    with live(repo, routes) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def add(bundles: Path, repo: Path, place: str) -> None:
    shutil.copytree(bundles / place, repo / place)


def said(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    assert list(reply.json()) == ["status"]
    return str(reply.json()["status"])


def refused(reply: httpx.Response) -> tuple[int, str, str]:
    error = reply.json()
    assert list(error) == ["code", "type", "message"] and error["code"] == reply.status_code
    return error["code"], error["type"], error["message"].partition(" — hint: ")[0]


def answering(http: httpx.Client, path: str = "colours") -> str:
    """The version that a path means; every one of them answers."""
    reply = http.post(f"/predictions/{path}", content=picture("red"))
    assert reply.status_code == 200 and next(iter(reply.json())) == "red", reply.text
    return str(http.get(f"/models/{path}").json()[0]["modelVersion"])


def test_a_new_version_is_registered_tried_made_the_default_and_the_old_one_goes(
    http: httpx.Client, bundles: Path, repo: Path
) -> None:
    add(bundles, repo, "colours/2")
    assert said(http.post("/models", params={"url": "colours/2"})) in (
        f'Model "colours" Version: 2 registered with {n} initial workers' for n in (1, 2)
    )
    # As in TorchServe, and unlike a version that the server finds by itself: nobody is moved to it.
    assert answering(http) == "1" and answering(http, "colours/2") == "2"
    assert [each["modelVersion"] for each in http.get("/models/colours/all").json()] == ["1", "2"]
    assert refused(http.post("/models?url=colours/2")) == (
        409,
        "ConflictStatusException",
        "Model version 2 is already registered for model colours",
    )
    no = (403, "InvalidModelVersionException", "Cannot remove default version for model colours")
    assert refused(http.delete("/models/colours/1")) == no == refused(http.delete("/models/colours"))
    assert said(http.put("/models/colours/2/set-default")) == (
        'Default version successfully updated for model "colours" to "2"'
    )
    assert answering(http) == "2"
    assert said(http.delete("/models/colours/1")) == 'Model "colours" unregistered'
    assert refused(http.post("/predictions/colours/1", content=picture("red")))[:2] == (
        503,
        "ServiceUnavailableException",
    )
    assert [each["modelVersion"] for each in http.get("/models/colours/all").json()] == ["2"]
    assert said(http.delete("/models/colours")) == 'Model "colours" unregistered'
    assert http.get("/models").json() == {"models": []}
    assert refused(http.get("/models/colours")) == (
        404,
        "ModelNotFoundException",
        "Model not found: colours",
    )
    assert "registered" in said(http.post("/models", params={"url": "colours/1.zip"}))
    assert answering(http) == "1"


def test_a_bare_name_registers_the_newest_on_the_disk(http: httpx.Client, bundles: Path, repo: Path) -> None:
    add(bundles, repo, "colours/2")
    add(bundles, repo, "colours/3")
    assert "Version: 3 registered with" in said(http.post("/models", json={"url": "colours"}))
    assert answering(http) == "1"
    add(bundles, repo, "pair")
    assert 'Model "pair" Version: 1 registered' in said(http.post("/models?url=pair&model_name=pair"))
    pair = {"a": [1, 1, 1], "b": [1, 2, 3]}
    assert http.post("/predictions/pair", json=pair).json()["total"] == [2, 3, 4]


PLACES = {
    # nothing is fetched, from nowhere
    "http://127.0.0.1:1/a.mar": (400, "InvalidArchiveURLException"),
    "https://169.254.169.254/latest/meta-data": (400, "InvalidArchiveURLException"),
    "ftp://127.0.0.1/a.mar": (400, "InvalidArchiveURLException"),
    "file:///etc/passwd": (400, "InvalidArchiveURLException"),
    "file:colours/1": (400, "InvalidArchiveURLException"),
    "s3://bucket/model.mar": (400, "InvalidArchiveURLException"),
    # and nothing outside of the repository is opened
    "/etc/passwd": (404, "ModelNotFoundException"),
    "//host/share": (404, "ModelNotFoundException"),
    "\\\\host\\share": (404, "ModelNotFoundException"),
    "..": (404, "ModelNotFoundException"),
    ".": (404, "ModelNotFoundException"),
    "../outside": (404, "ModelNotFoundException"),
    "colours/..": (404, "ModelNotFoundException"),
    "colours/../../outside": (404, "ModelNotFoundException"),
    "..%2foutside": (404, "ModelNotFoundException"),
    "colours/1/net.onnx": (404, "ModelNotFoundException"),
    "colours/1\0": (404, "ModelNotFoundException"),
    "colours\n/1": (404, "ModelNotFoundException"),
    ".hidden": (404, "ModelNotFoundException"),
    "nope.mar": (404, "ModelNotFoundException"),
    "nope/1": (404, "ModelNotFoundException"),
    "colours/9": (404, "ModelNotFoundException"),
    "a" * 5000: (404, "ModelNotFoundException"),
}


def test_places_that_are_no_bundle_of_the_repository(http: httpx.Client, bundles: Path, repo: Path) -> None:
    shutil.copytree(bundles / "pair" / "1", repo.parent / "outside" / "1")
    for place, expected in PLACES.items():
        reply = http.post("/models", params={"url": place})
        assert refused(reply)[:2] == expected, place
        assert str(repo) not in reply.text
    assert refused(http.post("/models?url=../m.py"))[2] == "Relative path is not allowed in url: ../m.py"
    assert refused(http.post("/models?url=nope.mar"))[2] == "Model not found at: nope.mar"
    for nothing in (
        http.post("/models"),
        http.post("/models", json={}),
        http.post("/models", json={"url": 5}),
    ):
        assert refused(nothing) == (400, "BadRequestException", "Parameter url is required.")
    assert refused(http.post("/models", json=[1]))[:2] == (400, "BadRequestException")
    renamed = refused(http.post("/models?url=colours/1&model_name=other"))
    assert renamed[:2] == (400, "BadRequestException") and "called 'colours'" in renamed[2]
    assert http.get("/models").json() == {"models": [{"modelName": "colours", "modelUrl": "colours/1"}]}


def test_a_bundle_that_does_not_load_is_refused_and_the_old_one_answers(
    http: httpx.Client, bundles: Path, repo: Path
) -> None:
    add(bundles, repo, "colours/2")
    net = repo / "colours" / "2" / "net.onnx"
    net.write_bytes(net.read_bytes()[:-1] + b"\x00")
    reply = http.post("/models?url=colours/2")
    assert refused(reply)[:2] == (500, "InvalidModelException")
    assert "net.onnx" in reply.text and str(repo) not in reply.text
    assert answering(http) == "1"
    failed = http.get("/models/colours/2?customized=true").json()[0]
    assert failed["workers"] == [] and "net.onnx" in failed["customizedMetadata"]["reason"]
    shutil.rmtree(repo / "colours" / "2")
    add(bundles, repo, "colours/2")
    assert "registered" in said(http.post("/models?url=colours/2"))
    assert answering(http, "colours/2") == "2"


def test_a_version_is_described_with_all_that_torchserve_says(http: httpx.Client) -> None:
    (version,) = http.get("/models/colours").json()
    assert {key: type(value) for key, value in version.items()} == DESCRIBED
    assert list(version) == list(DESCRIBED)
    assert version["modelUrl"] == "colours/1" and version["loadedAtStartup"]
    workers = version["workers"]
    assert len(workers) == version["minWorkers"] == version["maxWorkers"] >= 1
    for worker in workers:
        assert {key: type(value) for key, value in worker.items()} == WORKER
        assert worker["status"] == "READY" and worker["memoryUsage"] > 1 << 20
        started = datetime.fromisoformat(worker["startTime"])
        assert 0 <= (datetime.now(started.tzinfo) - started).total_seconds() < 3600
    assert version["jobQueueStatus"] == {"remainingCapacity": 65536, "pendingRequests": 0}
    customized = http.get("/models/colours/1?customized=true").json()[0]
    assert customized["customizedMetadata"]["task"] == "image-classification"
    allowed = inspect.signature(Scheduler.__init__).parameters["max_waiting"].default
    assert allowed == torchserve_workers.MAX_WAITING


def test_scaling_loads_and_unloads_and_says_what_happened(
    http: httpx.Client, bundles: Path, repo: Path
) -> None:
    count = len(http.get("/models/colours").json()[0]["workers"])
    some = f"min_worker={count}&synchronous=true"
    assert said(http.put(f"/models/colours?{some}")) == f"Workers scaled to {count} for model: colours"
    assert said(http.put(f"/models/colours/1?{some}")) == (
        f"Workers scaled to {count} for model: colours, version: 1"
    )
    assert said(http.put("/models/colours?min_worker=99")) == (
        f"Workers scaled to {count} for model: colours (the engine chooses; 99 to 99 were asked for)"
    )
    assert refused(http.put("/models/colours?min_worker=3&max_worker=1")) == (
        400,
        "BadRequestException",
        "max_worker cannot be less than min_worker.",
    )
    assert refused(http.put("/models/colours?min_worker=-1"))[:2] == (400, "BadRequestException")
    assert said(http.put("/models/colours?min_worker=0")) == "Workers scaled to 0 for model: colours"
    assert http.post("/predictions/colours", content=picture("red")).status_code == 503
    assert "Workers scaled to" in said(http.put("/models/colours?min_worker=1"))
    assert answering(http) == "1"


def test_what_is_not_there(http: httpx.Client) -> None:
    gone = "Model version: 9.9 does not exist for model: colours"
    for method, path in (
        ("GET", "/models/nope"),
        ("PUT", "/models/nope"),
        ("DELETE", "/models/nope/1"),
        ("PUT", "/models/nope/1/set-default"),
    ):
        assert refused(http.request(method, path)) == (
            404,
            "ModelNotFoundException",
            "Model not found: nope",
        )
    for method, path in (
        ("GET", "/models/colours/9.9"),
        ("PUT", "/models/colours/9.9"),
        ("DELETE", "/models/colours/9.9"),
        ("PUT", "/models/colours/9.9/set-default"),
    ):
        assert refused(http.request(method, path)) == (404, "ModelVersionNotFoundException", gone)
    assert http.patch("/models").status_code == 405 and http.put("/models").status_code == 405


def test_models_come_a_page_at_a_time(bundles: Path) -> None:
    names = ["colours", "pair", "row", "sum"]
    with live(bundles, torchserve.ADMIN_ROUTES) as url, httpx.Client(base_url=url, timeout=60) as http:
        whole: dict[str, Any] = http.get("/models").json()
        assert [model["modelName"] for model in whole["models"]] == names and "nextPageToken" not in whole
        assert whole["models"][0]["modelUrl"] == "colours/3"
        found: list[str] = []
        token = "0"
        for _ in range(10):
            page = http.get("/models", params={"limit": 3, "next_page_token": token}).json()
            found += [model["modelName"] for model in page["models"]]
            token = page.get("nextPageToken")
            if token is None:
                break
        assert found == names
        assert http.get("/models?limit=2").text.startswith('{\n  "nextPageToken": "2",\n  "models": [')
        for odd in ("limit=x", "limit=0", "limit=-5", "limit=1000", "next_page_token=x", f"limit={'9' * 50}"):
            assert len(http.get(f"/models?{odd}").json()["models"]) == 4, odd
        assert http.get("/models?next_page_token=7").json() == {"models": []}


def test_the_management_api_describes_itself(http: httpx.Client) -> None:
    made = http.options("/").json()
    assert made == http.get("/api-description").json()
    ids = {operation["operationId"] for methods in made["paths"].values() for operation in methods.values()}
    # Captured; TorchServe has /metrics there too, which has its own place here.
    assert ids == {
        "apiDescription",
        "api-description",
        "listModels",
        "registerModel",
        "describeModel",
        "setAutoScale",
        "unregisterModel",
        "version_describeModel",
        "version_setAutoScale",
        "version_unregisterModel",
        "setDefault",
    }
    mounted = {
        (route.path.replace("{name}", "{model_name}").replace("{version}", "{model_version}"), method.lower())
        for route in torchserve.ADMIN_ROUTES
        for method in route.methods - {"HEAD"}
    }
    assert mounted == {(path, method) for path, methods in made["paths"].items() for method in methods}
    jsonschema.validate(made["info"], {"required": ["title", "version"]})


def test_a_default_is_not_set_against_a_rollout(repo: Path) -> None:
    traffic = type("Planned", (SimpleNamespace,), {"__contains__": lambda self, name: name == "colours"})
    state = traffic(stable=lambda name: "1")
    with live(repo, torchserve.ADMIN_ROUTES, traffic=state) as url:
        reply = httpx.put(f"{url}/models/colours/1/set-default", timeout=30)
        assert refused(reply)[:2] == (409, "ConflictStatusException")
