"""A real server answers rows in every form and dialect, and says what is wrong by the column's name."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.client import AsyncClient, Client
from modelport.errors import InputError, NotFound

HOUSE = {"rooms": 3, "age": 3, "near": "ISLAND", "garden": True}
WORTH = 90.0  # 10 * 3 - 3 + 5 * 2 + 3 + 50
SMITH = {"age": 40, "job": "smith"}
SURE = 1 / (1 + np.exp(-2.0))


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as made:
        made.wait_until_ready()
        yield made


def ask(url: str, path: str, body: Any, kind: str = "application/json") -> Any:
    """The reply to a POST, as JSON; a refusal's words behind its status."""
    data = (
        body
        if isinstance(body, bytes)
        else body.encode()
        if isinstance(body, str)
        else json.dumps(body).encode()
    )
    request = urllib.request.Request(url + path, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as problem:
        return f"{problem.code} {problem.read().decode()}"


def get(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=30) as reply:
        return json.load(reply)


def form(boundary: str, **fields: str) -> bytes:
    """A multipart form."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return "".join([*parts, f"--{boundary}--\r\n"]).encode()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (HOUSE, "application/json"),
        ([3, 3, None, "ISLAND", True], "application/json"),
        ("rooms=3&age=3&income=&near=ISLAND&garden=on", "application/x-www-form-urlencoded"),
        (HOUSE, "application/x-www-form-urlencoded"),
        (form("xx", rooms="3", age="3", near="ISLAND", garden="true"), "multipart/form-data; boundary=xx"),
    ],
)
def test_one_row_has_one_answer(url: str, body: Any, kind: str) -> None:
    reply = ask(url, "/predict/houses", body, kind)
    assert reply["answer"] == {"value": WORTH}
    assert reply["timing_ms"]["total"] > 0


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ([HOUSE, HOUSE | {"rooms": 4}], "application/json"),
        ([[3, 3, None, "ISLAND", True], [4, 3, None, "ISLAND", True]], "application/json"),
        ({"rooms": [3, 4], "age": [3, 3], "near": ["ISLAND"] * 2, "garden": [True] * 2}, "application/json"),
        ("rooms,age,income,near,garden\n3,3,,ISLAND,1\n4,3,,ISLAND,1\n", "text/csv"),
        ("3,3,,ISLAND,1\n4,3,,ISLAND,1\n", "text/plain"),
        (form("x", file="3,3,,ISLAND,1\n4,3,,ISLAND,1\n"), "multipart/form-data; boundary=x"),
    ],
)
def test_several_rows_have_an_answer_each(url: str, body: Any, kind: str) -> None:
    assert ask(url, "/predict/houses/1", body, kind)["answers"] == [{"value": WORTH}, {"value": WORTH + 10}]


def test_a_box_that_is_not_ticked_is_false(url: str) -> None:
    body = "rooms=3&age=3&near=ISLAND"
    assert ask(url, "/predict/houses", body, "application/x-www-form-urlencoded")["answer"] == {
        "value": WORTH - 3
    }


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (
            HOUSE | {"age": 130},
            "application/json",
            "the column 'age' takes a whole number from 0 to 120, got 130",
        ),
        ([HOUSE, HOUSE | {"age": "x"}], "application/json", "got 'x' at `$[1].age`"),
        (HOUSE | {"attic": 1}, "application/json", "there is no column 'attic'"),
        ({"rooms": 3}, "application/json", "the column 'age' is missing"),
        ("rooms,age\n3,3\n", "text/csv", "is missing"),
        ("a=1&a=2", "application/x-www-form-urlencoded", "comes twice"),
        (b"", "text/csv", "the body is empty"),
        (b"\xff\xfe\x00", "application/octet-stream", "not UTF-8"),
        (form("x", file="+2AA-"), "multipart/form-data; boundary=x; charset=utf-7", "malformed"),
        (form("x", near="+2AA-"), "multipart/form-data; boundary=x; charset=utf-7", "malformed"),
        ([], "application/json", "expected 5 values"),
    ],
)
def test_a_refusal_names_the_column(url: str, body: Any, kind: str, said: str) -> None:
    reply = ask(url, "/predict/houses", body, kind)
    assert reply.startswith("400 ") and said in json.loads(reply[4:])["error"]


def test_ten_thousand_rows_go_together(url: str) -> None:
    random = np.random.default_rng(3)
    rows = [
        [round(float(a), 3), round(float(b), 3)]
        for a, b in zip(random.uniform(4, 8, 10_000), random.uniform(2, 5, 10_000), strict=True)
    ]
    answers = ask(url, "/predict/flowers", rows)["answers"]
    assert len(answers) == 10_000
    for place in (0, 4321, 9999):
        assert answers[place] == ask(url, "/predict/flowers", rows[place])["answer"]


def test_tensorflow_serving(url: str) -> None:
    rows = ask(url, "/v1/models/people:predict", {"instances": [SMITH, {"age": 40, "job": "pilot"}]})
    assert [row["labels"][0] for row in rows["predictions"]] == ["yes", "no"]
    columns = ask(
        url, "/v1/models/people:predict", {"inputs": {"age": [[40], [0]], "job": ["smith", "clerk"]}}
    )
    np.testing.assert_allclose(columns["outputs"]["scores"][0][0], SURE, rtol=1e-6)
    assert ask(url, "/v1/models/houses:predict", {"instances": [HOUSE]}) == {"predictions": [WORTH]}
    assert ask(url, "/v1/models/houses:regress", {"examples": [HOUSE]}) == {"result": [WORTH]}
    found = ask(url, "/v1/models/people:classify", {"examples": [SMITH]})
    assert found["result"][0][0][0] == "yes"
    refused = ask(url, "/v1/models/people:predict", {"instances": [SMITH, {"age": 400, "job": "smith"}]})
    assert "got 400" in refused and "$.instances[1].age" in refused
    signature = get(url, "/v1/models/people/metadata")["metadata"]["signature_def"]["signature_def"]
    assert {name: each["dtype"] for name, each in signature["serving_default"]["inputs"].items()} == {
        "age": "DT_INT64", "job": "DT_STRING",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["job", "age"], "data": [["smith", 40]]}},
        {"dataframe_records": [SMITH]},
        {"instances": [SMITH]},
        {"inputs": {"age": [40], "job": ["smith"]}},
    ],
)
def test_mlflow(url: str, body: Any) -> None:
    (found,) = ask(url, "/invocations/people", body)["predictions"]
    if isinstance(found, list):
        found = {"labels": [row["label"] for row in found], "scores": [row["score"] for row in found]}
    assert found["labels"] == ["yes", "no"]
    np.testing.assert_allclose(found["scores"][0], SURE, rtol=1e-6)


def test_mlflow_csv(url: str) -> None:
    assert ask(
        url, "/invocations/houses", "near,garden,rooms,age,income\nISLAND,true,3,3,\n", "text/csv"
    ) == {"predictions": [WORTH]}


def test_hugging_face(url: str) -> None:
    assert ask(url, "/hf/people", {"table": {"age": ["40", "0"], "job": ["smith", "clerk"]}}) == ["yes", "no"]
    assert ask(url, "/hf/houses", {"inputs": {"data": {name: [value] for name, value in HOUSE.items()}}}) == [
        WORTH
    ]
    assert "expected lists of values" in ask(url, "/hf/people", {"inputs": "hello"})


def test_the_hub_client_asks_a_table(url: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(model=f"{url}/hf/people")
    assert client.tabular_classification({"age": ["40"], "job": ["smith"]}) == ["yes"]


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
def test_pai_eas(url: str, kind: str) -> None:
    reply = ask(url, "/api/predict/houses", HOUSE, kind)
    assert reply == {"model": "houses", "version": "1", "answer": {"value": WORTH}}
    two = ask(url, "/api/predict/houses", [HOUSE, HOUSE | {"rooms": 4}], kind)
    assert two["answers"] == [{"value": WORTH}, {"value": WORTH + 10}]
    refused = ask(url, "/api/predict/houses", [HOUSE, HOUSE | {"age": "x"}], kind)
    assert refused.startswith("400 ") and "$[1].age" in refused


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("rooms,age,income,near,garden\n3,3,,ISLAND,1\n4,3,,ISLAND,1\n", "text/csv"),
        ("\n3,3,,ISLAND,1\n4,3,,ISLAND,1\n", "application/octet-stream"),
        (form("x", file="3,3,,ISLAND,1\n4,3,,ISLAND,1\n"), "multipart/form-data; boundary=x"),
    ],
)
def test_pai_eas_takes_csv(url: str, body: Any, kind: str) -> None:
    assert ask(url, "/api/predict/houses", body, kind)["answers"] == [{"value": WORTH}, {"value": WORTH + 10}]


def test_pai_eas_takes_a_form(url: str) -> None:
    body, kind = "rooms=3&age=3&income=&near=ISLAND&garden=on", "application/x-www-form-urlencoded"
    assert ask(url, "/api/predict/houses", body, kind)["answer"] == {"value": WORTH}


def test_the_open_inference_protocol_has_an_input_for_each_column(url: str, client: Client) -> None:
    about = get(url, "/v2/models/houses")
    assert [(each["name"], each["datatype"], each["shape"]) for each in about["inputs"]] == [
        ("rooms", "FP32", [-1, 1]),
        ("age", "INT64", [-1, 1]),
        ("income", "FP32", [-1, 1]),
        ("near", "BYTES", [-1, 1]),
        ("garden", "BOOL", [-1, 1]),
    ]
    inputs = [
        {"name": "rooms", "datatype": "FP64", "shape": [2], "data": [3, 4]},
        {"name": "age", "datatype": "INT64", "shape": [2, 1], "data": [3, 3]},
        {"name": "near", "datatype": "BYTES", "shape": [2, 1], "data": ["ISLAND", "ISLAND"]},
        {"name": "garden", "datatype": "BOOL", "shape": [2, 1], "data": [True, True]},
    ]
    reply = ask(url, "/v2/models/houses/infer", {"inputs": inputs})
    assert reply["outputs"][0]["data"] == [WORTH, WORTH + 10]
    refused = ask(url, "/v2/models/houses/infer", {"inputs": inputs[1:]})
    assert "missing input 'rooms'" in refused
    # In binary, as the client sends tensors; text is BYTES.
    result = client.infer(
        "houses",
        {
            "rooms": np.array([[3], [4]], np.float32),
            "age": np.array([[3], [3]], np.int64),
            "income": np.array([[np.nan], [1]], np.float32),
            "near": np.array([["ISLAND"], [""]], object),
            "garden": np.array([[True], [False]]),
        },
    )
    assert result["value"][0] == WORTH
    assert result["value"][1] == 40 - 3 + 20 + 50
    with pytest.raises(InputError, match="no category 'SEA'"):
        client.infer(
            "houses",
            {
                "rooms": np.array([[3]], np.float32),
                "age": np.array([[3]]),
                "near": np.array([["SEA"]], object),
                "garden": np.array([[True]]),
            },
        )


class Frame:
    """What a pandas DataFrame is to the client."""

    def __init__(self, **columns: list[Any]) -> None:
        self.columns = columns

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def test_the_client_sends_rows_and_frames(client: Client) -> None:
    assert client.predict("houses", HOUSE).value == WORTH
    assert client.predict("houses", HOUSE | {"income": float("nan"), "rooms": np.float32(3)}).value == WORTH
    both = client.predict("people", [SMITH, {"age": 0, "job": "clerk"}])
    assert [each.top.label for each in both] == ["yes", "no"]
    framed = client.predict("people", Frame(age=[np.int64(40), 0], job=["smith", "clerk"]))
    assert [each.answer for each in framed] == [each.answer for each in both]
    with pytest.raises(InputError, match="got 130"):
        client.predict("houses", HOUSE | {"age": 130})
    with pytest.raises(InputError, match="no single number"):
        _ = client.predict("people", SMITH).value
    with pytest.raises(NotFound):
        client.predict("nobody", SMITH)
    many = list(client.predict_many("houses", [HOUSE, HOUSE | {"age": 130}]))
    assert isinstance(many[1], InputError)


async def test_the_asyncio_client_too(url: str) -> None:
    async with AsyncClient(url) as client:
        assert (await client.predict("houses", HOUSE)).value == WORTH
        assert len(await client.predict("people", [SMITH, SMITH])) == 2


def test_over_grpc(tables: Path) -> None:
    pytest.importorskip("grpc")
    from ..serve.grpc.running import grpc_served

    with grpc_served(tables) as address, Client(f"grpc://{address}") as client:
        assert client.predict("houses", HOUSE).value == WORTH
        both = client.predict("people", [SMITH, {"age": 0, "job": "clerk"}])
        assert [each.top.label for each in both] == ["yes", "no"]
        with pytest.raises(InputError, match="got 130"):
            client.predict("houses", HOUSE | {"age": 130})


def test_the_page_is_told_of_the_columns(url: str) -> None:
    about = get(url, "/api/models/houses")
    assert about["kind"] == "table"
    assert about["columns"][2] | {"typical": None} == {
        "name": "income", "dtype": "float32", "categories": [], "minimum": None, "maximum": None,
        "missing": True, "typical": None, "description": "", "unseen": False,
    }  # fmt: skip
    with urllib.request.urlopen(f"{url}/models/houses", timeout=30) as reply:
        assert b'id="row"' in reply.read()


def test_here_and_there_evaluate_alike(url: str, tables: Path, tmp_path: Path) -> None:
    import modelport

    data = tmp_path / "people.csv"
    data.write_text("age,job,label\n40,smith,yes\n3,clerk,no\n90,pilot,no\n20,baker,yes\n300,smith,yes\n")
    here = modelport.evaluate(tables / "people", data, replicates=0)
    there = modelport.evaluate(tables / "people", data, url=url, replicates=0)
    named = modelport.evaluate("people", data, url=url, replicates=0)
    assert here.metrics == there.metrics == named.metrics
    assert here.outcomes == there.outcomes == named.outcomes
    assert (
        [failure.item for failure in here.failed] == ["row 6"] == [failure.item for failure in there.failed]
    )


def test_the_openapi_document_knows_each_table_s_rows(url: str) -> None:
    import jsonschema

    document = get(url, "/openapi.json")
    schemas = document["components"]["schemas"]
    rows = {each["title"]: each for each in schemas["Row"]["anyOf"]}
    assert set(rows) == {"A row of houses", "A row of flowers", "A row of people"}
    houses = rows["A row of houses"]
    jsonschema.validate(HOUSE, houses)
    for wrong in ({"age": 130}, {"near": "SEA"}, {"garden": None}, {"attic": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(HOUSE | wrong, houses)
    jsonschema.validate(HOUSE | {"income": None}, houses)
    jsonschema.validate({"age": 1, "job": "pilot"}, rows["A row of people"])
    reply = {"$ref": "#/components/schemas/PredictionList", "components": document["components"]}
    jsonschema.validate(ask(url, "/predict/houses", [HOUSE]), reply)
