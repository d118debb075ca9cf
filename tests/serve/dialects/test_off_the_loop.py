"""Large bodies and answers are read and written in threads, so that nobody else waits for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest

from modelport.serve import rows as table_rows
from modelport.serve import v2
from modelport.serve.aside import LOOP_BYTES
from modelport.serve.dialects import hf, hf_records, items, mlflow, tfs, torchserve

from ...tables.conftest import pack_tables
from .live import live
from .tensor_models import pack_tensor_models

ROWS = 8000
WORK: list[tuple[ModuleType, str]] = [
    (v2, "parse_request"),
    (v2, "encode_response"),
    (v2, "decode_json"),
    (tfs, "decode_object"),
    (mlflow, "decode_object"),
    (mlflow, "of_csv"),
    (mlflow, "of_split"),
    (mlflow, "rows_of_table"),
    (torchserve, "decode_json"),
    (items, "batch_of_rows"),
    (items, "batch_of_columns"),
    (items, "rows_of"),
    (items, "_encoded"),
    (hf_records, "parse"),
    (hf_records, "columns_of"),
    (table_rows, "rows_of"),
    (table_rows, "columns_of"),
    (table_rows, "split"),
]
INFER = "/v2/models/row.net/infer"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repo = pack_tensor_models(tmp_path_factory.mktemp("aside"), "row")
    routes = [*tfs.ROUTES, *mlflow.ROUTES, *torchserve.ROUTES]
    with live(repo, routes, stopping=lambda: False) as url:
        yield url


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with tables."""
    repo = pack_tables(tmp_path_factory.mktemp("tables"))
    with live(repo, [*tfs.ROUTES, *hf.ROUTES], stopping=lambda: False) as url:
        yield url


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, bool]]:
    """What was done, and whether in a thread beside the event loop's."""
    found: set[tuple[str, bool]] = set()

    def watch(module: ModuleType, name: str) -> None:
        work = getattr(module, name)

        def noted(*args: Any, **more: Any) -> Any:
            found.add((name, asyncio._get_running_loop() is None))
            return work(*args, **more)

        monkeypatch.setattr(module, name, noted)

    for module, name in WORK:
        watch(module, name)
    return found


def rows(count: int) -> list[list[float]]:
    return [[number, 0.5, -number] for number in range(count)]


def infer(count: int) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [count, 3], "data": rows(count)}
    return json.dumps({"inputs": [tensor]}).encode()


def table(count: int) -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["a", "b", "c"], "data": rows(count)}}).encode()


def csv(count: int) -> bytes:
    return "\n".join(["a,b,c", *(",".join(map(str, row)) for row in rows(count))]).encode()


def answers(reply: httpx.Response) -> list[float]:
    """All numbers of an answer, in their order."""
    assert reply.status_code == 200, reply.text[:300]
    found: list[float] = []

    def look(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                look(each)
        else:
            found.append(value)

    said = reply.json()
    look(said["outputs"][0]["data"] if "model_version" in said else next(iter(said.values())))
    return found


ASKED = {
    "v2": (INFER, infer, {"parse_request", "encode_response"}),
    "tfs rows": (
        "/v1/models/row.net:predict",
        lambda count: json.dumps({"instances": rows(count)}).encode(),
        {"decode_object", "batch_of_rows", "rows_of", "_encoded"},
    ),
    "tfs columns": (
        "/v1/models/row.net:predict",
        lambda count: json.dumps({"inputs": {"x": rows(count)}}).encode(),
        {"decode_object", "batch_of_columns", "_encoded"},
    ),
    "mlflow": (
        "/invocations/row.net",
        table,
        {"decode_object", "of_split", "rows_of_table", "batch_of_rows", "rows_of", "_encoded"},
    ),
    "mlflow csv": (
        "/invocations/row.net",
        csv,
        {"of_csv", "rows_of_table", "batch_of_rows", "rows_of", "_encoded"},
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_large_json_is_read_and_written_aside_and_answered_alike(
    url: str, name: str, done: set[tuple[str, bool]]
) -> None:
    path, body, work = ASKED[name]
    kind = {"content-type": "text/csv" if name.endswith("csv") else "application/json"}
    for count, aside in ((3, False), (ROWS, True)):
        data = body(count)
        assert (len(data) > LOOP_BYTES) == aside
        done.clear()
        reply = httpx.post(url + path, content=data, headers=kind, timeout=60)
        assert answers(reply) == [2 * value for row in rows(count) for value in row]
        assert done == {(each, aside) for each in work}


@pytest.mark.parametrize("size", [10, LOOP_BYTES])
def test_torchserve_s_and_the_index_s_json(url: str, done: set[tuple[str, bool]], size: int) -> None:
    row = b'{"data": [1, 2, 3]' + b" " * size + b"}"
    asked = httpx.post(url + "/predictions/row.net", content=row, timeout=60)
    assert asked.json() == [2, 4, 6] and ("decode_json", size == LOOP_BYTES) in done
    done.clear()
    index = httpx.post(url + "/v2/repository/index", content=b"{" + b" " * size + b"}", timeout=60)
    assert index.json()[0]["name"] == "row" and done == {("decode_json", size == LOOP_BYTES)}


def test_numbers_in_binary_are_not_gone_through(url: str, done: set[tuple[str, bool]]) -> None:
    """They are looked at where they are, which takes less than a thread does; texts are taken apart."""
    numbers = bytes(12 * ROWS)
    for datatype, aside in (("FP32", False), ("BYTES", True), ("\\u0042YTES", True)):
        tensor = (
            f'"datatype":"{datatype}","shape":[{ROWS},3],"parameters":{{"binary_data_size":{len(numbers)}}}'
        )
        head = f'{{"inputs":[{{"name":"x",{tensor}}}]}}'.encode()
        done.clear()
        reply = httpx.post(
            url + INFER,
            content=head + numbers,
            headers={"Inference-Header-Content-Length": str(len(head))},
            timeout=60,
        )
        assert reply.status_code == (400 if aside else 200), reply.text[:300]
        assert ("parse_request", aside) in done and ("parse_request", not aside) not in done


COLUMNS: dict[str, tuple[str, str, str, set[str]]] = {
    "hf": ("/hf/people", "table", "", {"parse", "columns_of"}),
    "tfs columns": (
        "/v1/models/people:predict",
        "inputs",
        "outputs",
        {"decode_object", "columns_of", "_encoded"},
    ),
    "tfs rows": (
        "/v1/models/people:predict",
        "instances",
        "predictions",
        {"decode_object", "rows_of", "split", "_encoded"},
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_rows_of_a_large_table_are_gone_through_aside(
    people: str, name: str, done: set[tuple[str, bool]]
) -> None:
    path, key, of, work = COLUMNS[name]
    for count, aside in ((3, False), (ROWS, True)):
        ages, jobs = [20 + row % 50 for row in range(count)], ["smith", "clerk"] * count
        table: Any = {"age": ages, "job": jobs[:count]}
        if key == "instances":
            table = [{"age": age, "job": job} for age, job in zip(ages, jobs, strict=False)]
        done.clear()
        reply = httpx.post(people + path, json={key: table}, timeout=60)
        assert reply.status_code == 200, reply.text[:300]
        found = reply.json()[of] if of else reply.json()
        assert len(found) == count or len(found["labels"]) == count
        assert done == {(each, aside) for each in work}
