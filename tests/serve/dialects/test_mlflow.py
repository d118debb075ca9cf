"""MLflow's scoring protocol, asked by mlflow's own client and by hand."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import parser

import modelport
from modelport import __version__
from modelport.serve.dialects import mlflow

from ...colours import LABELS, pack_colours, picture
from .live import live
from .tensor_models import HEAD, pack_tensor_models

ROUTES = [*mlflow.OPEN_ROUTES, *mlflow.ROUTES]
IRIS = HEAD + (
    "g (float[N, 1] width, int64[N, 1] count, string[N, 1] kind) "
    "=> (float[N, 1] area, string[N, 1] said) "
    "{ many = Cast<to=1>(count) area = Mul(width, many) said = Identity(kind) }"
)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    pack_colours(folder, version="1")
    pack_colours(folder, version="2")
    modelport.pack(parser.parse_model(IRIS), out=folder / "repo", name="iris", recipe="raw")
    return pack_tensor_models(folder)


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with live(repo, ROUTES) as address:
        yield address


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
        # Whatever the tests before did to it, the server still answers.
        assert best(client.post("/invocations/colours", json={"inputs": [text("green")]})) == ["green"]


def text(colour: str) -> str:
    return base64.b64encode(picture(colour)).decode()


def best(reply: httpx.Response) -> list[str]:
    return [ranked[0]["label"] for ranked in predictions(reply)]


def predictions(reply: httpx.Response) -> list[Any]:
    assert reply.status_code == 200, reply.text
    assert list(reply.json()) == ["predictions"]
    found: list[Any] = reply.json()["predictions"]
    return found


def ask(http: httpx.Client, model: str, **body: Any) -> list[Any]:
    return predictions(http.post(f"/invocations/{model}", json=body))


# -- mlflow's own client -------------------------------------------------------------------------------------

CLIENT = """
import sys
import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

host, port = sys.argv[1].removeprefix("http://").split(":")
client = ScoringServerClient(host, int(port))
client.wait_server_ready(timeout=30)
assert client.get_version() == sys.argv[2], client.get_version()

table = pd.DataFrame({"c": [5.0, 6.0], "b": [3.0, np.nan], "a": [1.0, 2.0]})
answer = client.invoke(table)
assert np.array_equal(answer.get_predictions("ndarray"), table.to_numpy() * 2, equal_nan=True), answer

array = np.arange(6, dtype=np.float32).reshape(2, 3)
frame = client.invoke(array).get_predictions()
assert frame.shape == (2, 3) and np.array_equal(frame.to_numpy(), array * 2), frame
try:
    client.invoke(array, params={"top_k": 3})
except Exception as problem:
    assert "error code 400" in str(problem) and '"error_code":"BAD_REQUEST"' in str(problem), problem
else:
    raise AssertionError("refused it should be")
try:
    client.invoke(pd.DataFrame({"a": [1.0]}))
except Exception as problem:
    assert "error code 400" in str(problem) and "columns" in str(problem), problem
else:
    raise AssertionError("refused it should be")
"""
PLACE = Path.home() / ".cache" / "modelport-bench" / "venv" / "mlflow" / "bin" / "python"


def test_by_mlflows_own_client(tmp_path: Path) -> None:
    python = Path(os.environ.get("MODELPORT_TEST_MLFLOW", PLACE))
    if not python.exists():
        pytest.skip(f"no mlflow at {python}: python -m venv …; pip install mlflow-skinny pandas scipy")
    with live(pack_tensor_models(tmp_path, "row"), ROUTES) as url:
        command = [str(python), "-W", "ignore", "-c", CLIENT, url, __version__]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# -- by hand -------------------------------------------------------------------------------------------------


def test_pictures_in_every_form(http: httpx.Client) -> None:
    red, blue = text("red"), text("blue")
    for body in (
        {"dataframe_split": {"columns": ["image"], "index": [0, 1], "data": [[red], [blue]]}},
        {"dataframe_split": {"data": [[red], [blue]]}},
        {"dataframe_records": [{"photo": red}, {"photo": blue}]},
        {"instances": [{"b64": red}, {"image": blue}]},
        {"inputs": [red, {"b64": blue}]},
        {"inputs": {"image": [red, blue]}},
    ):
        assert best(http.post("/invocations/colours", json=body)) == ["red", "blue"], body
    (whole,) = ask(http, "colours/1", inputs=[red])
    assert [set(row) for row in whole] == [{"label", "score"}] * 3
    assert sum(row["score"] for row in whole) == pytest.approx(1)
    assert ask(http, "colours", inputs=[red], params={"top_k": 1}) == [whole[:1]]
    csv = http.post(
        "/invocations/colours", content=f"image\n{red}\n{blue}\n", headers={"Content-Type": "text/csv"}
    )
    assert best(csv) == ["red", "blue"]


def test_the_network_alone(http: httpx.Client) -> None:
    asked = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    for body in (
        {"inputs": asked.tolist()},
        {"inputs": {"x": asked.tolist()}},
        {"instances": asked.tolist()},
    ):
        assert np.allclose(ask(http, "colours.net", **body), asked.mean((2, 3)) * 20, atol=1e-4)


def test_columns_are_inputs_by_name_or_the_elements_of_a_vector(http: httpx.Client) -> None:
    split = {"columns": ["b", "a"], "data": [[[3, 2, 1], [1, 2, 3]], [[1, 1, 1], [0, 0, 0]]]}
    expected = [
        {"total": [4, 4, 4], "difference": [-2, 0, 2]},
        {"total": [1, 1, 1], "difference": [-1, -1, -1]},
    ]
    assert ask(http, "pair", dataframe_split=split) == expected
    records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
    assert ask(http, "pair", dataframe_records=records) == expected
    assert ask(http, "pair", inputs={"a": [[1, 2, 3]], "b": [[3, 2, 1]]}) == expected[:1]
    named = {"columns": ["x"], "data": [[[1, 2, 3]]]}
    flat = {"columns": ["long", "wide", "high"], "data": [[1, 2, 3], [4, 5, None]]}
    assert ask(http, "row", dataframe_split=named) == [[2, 4, 6]]
    reply = http.post("/invocations/row", json={"dataframe_split": flat})
    assert np.array_equal(predictions(reply), [[2, 4, 6], [8, 10, np.nan]], equal_nan=True)
    assert reply.text == '{"predictions": [[2.0, 4.0, 6.0], [8.0, 10.0, NaN]]}'


def test_a_table_of_several_kinds(http: httpx.Client) -> None:
    expected = [{"area": [3.0], "said": ["a, b"]}, {"area": [8.0], "said": ["grün"]}]
    split = {"columns": ["kind", "width", "count"], "data": [["a, b", 1.5, 2], ["grün", 2.0, 4]]}
    assert ask(http, "iris", dataframe_split=split) == expected
    for csv in (
        'kind,width,count\n"a, b",1.5,2\ngrün,2,4\n',
        '\ufeffwidth,count,kind\r\n1.5,2,"a, b"\r\n\r\n2.0,4,grün',
    ):
        for kind in ("text/csv", "text/csv; charset=utf-8", "Text/CSV; charset=UTF-8"):
            reply = http.post("/invocations/iris", content=csv.encode(), headers={"Content-Type": kind})
            assert predictions(reply) == expected
    missing = http.post(
        "/invocations/iris", content="width,count,kind\n,2,x\n", headers={"Content-Type": "text/csv"}
    )
    assert missing.json()["predictions"][0]["area"] == [pytest.approx(np.nan, nan_ok=True)]


ROW = {"columns": ["x"], "data": [[[1, 2, 3]]]}
BAD: dict[str, tuple[str, Any, str]] = {
    "no JSON": ("row", "{", "not JSON"),
    "a list": ("row", [[1, 2, 3]], "expected a JSON object"),
    "nothing": ("row", {}, "exactly one of"),
    "two forms": ("row", {"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}, "exactly one of"),
    "another key": ("row", {"inputs": [[1, 2, 3]], "signature_name": "x"}, "'signature_name'"),
    "split of a list": ("row", {"dataframe_split": []}, "got an array"),
    "split without data": ("row", {"dataframe_split": {"columns": []}}, "got 'columns'"),
    "split with more": ("row", {"dataframe_split": ROW | {"dtypes": 1}}, "'dtypes'"),
    "split of texts": ("row", {"dataframe_split": {"columns": ["x"], "data": ["a"]}}, "a list of rows"),
    "columns that are none": ("row", {"dataframe_split": {"columns": 5, "data": [[1]]}}, "got a number"),
    "rows of two lengths": ("row", {"dataframe_split": {"data": [[1, 2, 3], [1]]}}, "data[1]"),
    "no rows": ("row", {"dataframe_split": {"columns": ["x"], "data": []}}, "no rows"),
    "no records": ("row", {"dataframe_records": []}, "no rows"),
    "records of texts": ("row", {"dataframe_records": ["a"]}, "a list of objects"),
    "records that differ": (
        "row",
        {"dataframe_records": [{"x": [1, 2, 3]}, {"y": 1}]},
        "of the first record",
    ),
    "unknown columns": ("pair", {"dataframe_split": {"columns": ["a", "c"], "data": [[1, 2]]}}, "got a, c"),
    "a column twice": ("pair", {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "got a, a"),
    "odd columns": ("pair", {"dataframe_split": {"columns": [[], {}], "data": [[1, 2]]}}, "columns a, b"),
    "too few elements": ("row", {"dataframe_split": {"data": [[1, 2]]}}, "or 3 columns of its elements"),
    "half a pair": ("row", '{"dataframe_records": [{"\\ud800": NaN}]}', "not JSON"),
    "null for an integer": (
        "iris",
        {"dataframe_records": [{"width": 1.0, "count": None, "kind": "x"}]},
        "expected int64",
    ),
    "two columns of pictures": ("colours", {"dataframe_split": {"data": [["", ""]]}}, "one column of base64"),
    "no base64": ("colours", {"inputs": ["*"]}, "$.inputs[0]"),
    "params that are none": ("row", {"inputs": [[1, 2, 3]], "params": 5}, "got a number"),
    "an unknown parameter": ("colours", {"inputs": [""], "params": {"k": 1}}, "known: top_k"),
    "top_k of zero": ("colours", {"inputs": [""], "params": {"top_k": 0}}, "1 or more"),
    "top_k that is true": ("colours", {"inputs": [""], "params": {"top_k": True}}, "1 or more"),
    "top_k of no classification": ("row", {"inputs": [[1, 2, 3]], "params": {"top_k": 1}}, "top_k is for"),
}
BAD_CSV = {
    "empty": ("", "empty"),
    "only names": ("a,b\n", "no rows"),
    "uneven": ("width,count,kind\n1,2\n", "expected 3 values, got 2"),
    "half a quote": ('width,count,kind\n1,2,"x', "not CSV"),
    "no UTF-8": (b"width,count,kind\n1,2,\xff\n", "not CSV"),
    "no number": ("width,count,kind\nwide,2,x\n", "expected float32, got 'wide'"),
    "no integer": ("width,count,kind\n1,2.5,x\n", "expected int64, got '2.5'"),
    "an integer without end": ("width,count,kind\n1," + "9" * 9000 + ",x\n", "expected int64"),
    "a field without end": ("kind\n" + "x" * 200_000, "not CSV"),
}


def refused(reply: httpx.Response, status: int, code: str) -> str:
    assert reply.status_code == status, reply.text
    assert list(reply.json()) == ["error_code", "message"] and reply.json()["error_code"] == code
    return str(reply.json()["message"])


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_in_words(http: httpx.Client, case: str) -> None:
    model, body, words = BAD[case]
    content = body if isinstance(body, str) else json.dumps(body)
    reply = http.post(f"/invocations/{model}", content=content, headers={"Content-Type": "application/json"})
    assert words in refused(reply, 400, "BAD_REQUEST")


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_refused_in_words(http: httpx.Client, case: str) -> None:
    body, words = BAD_CSV[case]
    reply = http.post("/invocations/iris", content=body, headers={"Content-Type": "text/csv"})
    assert words in refused(reply, 400, "BAD_REQUEST")


def test_csv_that_expands_is_refused_before_it_does(http: httpx.Client) -> None:
    body = b"," * (6 << 20)
    reply = http.post("/invocations/iris", content=body, headers={"Content-Type": "text/csv"})
    assert "values" in refused(reply, 413, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("application/vnd.apache.parquet", "Parquet is not read here"),
        ("image/png", "image/png"),
        ("text/csv; charset=latin-1", "UTF-8"),
        ("application/json; format=pandas-split", "format=pandas-split"),
    ],
)
def test_media_types_that_are_not_read(http: httpx.Client, kind: str, words: str) -> None:
    reply = http.post("/invocations/row", content=b"x", headers={"Content-Type": kind})
    assert words in refused(reply, 415, "BAD_REQUEST")


def test_which_model_is_meant(http: httpx.Client, repo: Path, tmp_path: Path) -> None:
    several = refused(http.post("/invocations", json={"inputs": []}), 404, "RESOURCE_DOES_NOT_EXIST")
    assert "say which" in several and "colours" in several
    for path in ("nope", "colours/9"):
        refused(http.post(f"/invocations/{path}", json={"inputs": []}), 404, "RESOURCE_DOES_NOT_EXIST")
    with live(repo, ROUTES, home="colours") as url:
        assert best(httpx.post(f"{url}/invocations", json={"inputs": [text("blue")]}, timeout=30)) == ["blue"]
    with live(pack_tensor_models(tmp_path, "row"), ROUTES) as url:
        assert predictions(httpx.post(f"{url}/invocations", json={"inputs": [[1, 2, 3]]}, timeout=30)) == [
            [2, 4, 6]
        ]


def test_health(http: httpx.Client, tmp_path: Path) -> None:
    for path in ("/ping", "/health"):
        assert (http.get(path).status_code, http.get(path).text) == (200, "\n")
    assert http.get("/version").text == __version__
    repo = pack_colours(tmp_path)
    net = repo / "colours" / "1" / "net.onnx"
    net.write_bytes(net.read_bytes()[:-1] + b"\x00")
    with live(repo, ROUTES) as url:
        assert httpx.get(f"{url}/ping", timeout=30).status_code == 503
        reply = httpx.post(f"{url}/invocations", json={"inputs": [text(LABELS[0])]}, timeout=30)
        refused(reply, 503, "TEMPORARILY_UNAVAILABLE")
        assert reply.headers["retry-after"]
