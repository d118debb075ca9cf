"""A detector in each dialect: what its clients know as a detection, and the bundle's options."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelport.errors import InputError
from modelport.serve.dialects import hf

from ...boxes import SCENE, pack_boxes, picture_with
from ...colours import served

PICTURE = picture_with(SCENE)
B64 = base64.b64encode(PICTURE).decode()
FOUND = {label: [float(value) for value in box] for label, *box in SCENE}
BOXES = {label: dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)) for label, *box in SCENE}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    repo = pack_boxes(tmp_path_factory.mktemp("dialects"))
    with served(repo, "--executors", "1") as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def post(http: httpx.Client, path: str, **more: Any) -> Any:
    reply = http.post(path, **more)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("path", ["/hf/boxes", "/hf/boxes/1", "/models/boxes"])
def test_the_hub_client_detects(http: httpx.Client, path: str, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")
    url = str(http.base_url).rstrip("/") + path
    client = hub.InferenceClient(model=url, provider="hf-inference", token="hf_not_a_secret", timeout=30)
    (tmp_path / "scene.png").write_bytes(PICTURE)
    for given in (PICTURE, tmp_path / "scene.png"):
        answer = client.object_detection(given)
        assert {each.label: vars(each.box) for each in answer} == BOXES
        assert all(each.score == pytest.approx(0.8, abs=0.01) for each in answer)
    assert client.object_detection(PICTURE, threshold=0.9) == []
    assert len(client.object_detection(PICTURE, threshold=0.5)) == 3
    with pytest.raises(errors.HfHubHTTPError, match="0 to 1"):
        client.object_detection(PICTURE, threshold=50)


def test_hugging_faces_shape(http: httpx.Client) -> None:
    for answer in (
        post(http, "/hf/boxes", content=PICTURE),
        post(http, "/hf/boxes", json={"inputs": B64, "parameters": {"threshold": None}}),
        post(http, "/hf/boxes", json={"inputs": B64, "parameters": {"threshold": 0.1, "multi_label": False}}),
    ):
        assert [set(each) for each in answer] == [{"score", "label", "box"}] * 3
        assert {each["label"]: each["box"] for each in answer} == BOXES
        assert all(type(value) is int for each in answer for value in each["box"].values())
    assert len(post(http, "/hf/boxes?iou_threshold=1", content=PICTURE)) == 6
    assert http.get("/hf/boxes/info").json()["model_pipeline_tag"] == "object-detection"


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"top_k": 1}, "no option"),
        ({"threshold": "high"}, "0 to 1"),
        ({"threshold": 0.1, "score_threshold": 0.2}, "one option"),
        ({"threshold": [0.1]}, "0 to 1"),
    ],
)
def test_parameters_that_a_detector_does_not_know(http: httpx.Client, parameters: Any, says: str) -> None:
    reply = http.post("/hf/boxes", json={"inputs": B64, "parameters": parameters})
    assert reply.status_code == 400 and says in reply.json()["error"], reply.text


def test_an_answer_without_boxes_is_no_detection() -> None:
    class Model:
        name = "odd"

        def readable(self, tensors: Any) -> Any:
            return {"y": [1]}

    with pytest.raises(InputError, match="no detection"):
        hf.detections(Model(), {})  # type: ignore[arg-type]


def test_tensorflow_serving_gives_the_tensors(http: httpx.Client) -> None:
    rows = post(http, "/v1/models/boxes:predict", json={"instances": [{"b64": B64}, {"b64": B64}]})
    for row in rows["predictions"]:
        assert row["count"] == 3 and len(row["boxes"]) == 300
        assert dict(zip(row["labels"][:3], row["boxes"][:3], strict=True)) == FOUND
    columns = {"inputs": {"image": [{"b64": B64}]}}
    assert post(http, "/v1/models/boxes:predict?iou_threshold=1", json=columns)["outputs"]["count"] == [6]
    outputs = http.get("/v1/models/boxes/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert set(outputs["serving_default"]["outputs"]) == {"boxes", "scores", "classes", "labels", "count"}
    reply = http.post("/v1/models/boxes:classify", json={"examples": [{"image": {"b64": B64}}]})
    assert reply.status_code == 400 and "classification" in reply.json()["error"]
    reply = http.post("/v1/models/boxes:predict?threshold=1", json={"instances": [{"b64": B64}]})
    assert reply.status_code == 400 and "score_threshold" in reply.json()["error"]


def test_torchserve_answers_as_its_object_detector(http: httpx.Client) -> None:
    for answer in (
        post(http, "/predictions/boxes", content=PICTURE),
        post(http, "/predictions/boxes", files={"data": PICTURE}),
        post(http, "/predictions/boxes", json={"data": B64}),
    ):
        assert [each.pop("score") for each in answer] == [pytest.approx(0.8, abs=0.01)] * 3
        assert {label: box for each in answer for label, box in each.items()} == FOUND
    assert post(http, "/predictions/boxes?score_threshold=0.9", content=PICTURE) == []
    form = {"files": {"data": PICTURE}, "data": {"iou_threshold": "1"}}
    assert len(post(http, "/predictions/boxes/1", **form)) == 6
    reply = http.post("/predictions/boxes?threshold=1", content=PICTURE)
    assert reply.status_code == 400 and "score_threshold" in reply.json()["message"]


def test_mlflow_predicts_a_list_of_objects(http: httpx.Client) -> None:
    for body in (
        {"instances": [{"b64": B64}]},
        {"inputs": [B64]},
        {"dataframe_split": {"columns": ["image"], "data": [[B64]]}},
        {"dataframe_records": [{"image": B64}]},
    ):
        (row,) = post(http, "/invocations", json=body)["predictions"]
        assert {each["label"]: each["box"] for each in row} == FOUND
        (row,) = post(http, "/invocations/boxes", json=body | {"params": {"iou_threshold": 1}})["predictions"]
        assert len(row) == 6
    top = {"instances": [{"b64": B64}], "params": {"top_k": 1}}
    assert len(post(http, "/invocations", json=top)["predictions"][0]) == 1
    table = f"image\n{B64}\n"
    csv = {"content": table, "headers": {"Content-Type": "text/csv"}}
    assert post(http, "/invocations?score_threshold=0.9", **csv)["predictions"] == [[]]
    reply = http.post("/invocations", json={"instances": [{"b64": B64}], "params": {"threshold": 1}})
    assert reply.status_code == 400 and "score_threshold" in reply.json()["message"]


def test_eas_answers_as_predict_does(http: httpx.Client) -> None:
    answer = post(http, "/api/predict/boxes", content=PICTURE)["answer"]
    assert {each["label"]: each["box"] for each in answer} == FOUND
    assert post(http, "/api/predict/boxes?score_threshold=0.9", content=PICTURE)["answer"] == []
    body = json.dumps({"image": B64, "parameters": {"iou_threshold": 1}})
    headers = {"Content-Type": "application/json"}
    assert len(post(http, "/api/predict/boxes/1", content=body, headers=headers)["answer"]) == 6
    assert http.post("/api/predict/boxes?x=1", content=PICTURE).status_code == 400
