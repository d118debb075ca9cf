"""A running server says which form of a network answers, and on what."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import onnx
import pytest

from modelport.bundle.manifest import Variant
from modelport.importers.pack import pack

from ..runtimes.test_form import times
from .test_logs_served import logging_server


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two versions: version 2 answers by a variant."""
    where = tmp_path_factory.mktemp("answerer")
    onnx.save(onnx.load_model_from_string(times(2)), where / "times.onnx")
    plain = pack(where / "times.onnx", out=where / "repo")
    variants = (Variant("thrice", "other.onnx", chosen=True),)
    plain.derive(where / "repo" / "times" / "2", {"other.onnx": times(3)}, version="2", variants=variants)
    return where / "repo"


def test_the_log_the_api_the_metrics_and_the_dashboard_name_what_answers(repo: Path, tmp_path: Path) -> None:
    options = ["--versions", "all", "--executors", "1", "--log-format", "text"]
    with (
        logging_server(repo, tmp_path / "stderr", *options) as (_, address),
        httpx.Client(base_url=f"http://{address}", timeout=30) as http,
    ):
        answers = {version: http.get(f"/api/models/times/{version}").json() for version in "12"}
        shown = http.get("/api/dashboard").json()["versions"]
        metrics = http.get("/metrics").text
    found = {version: (about["variant"], about["runtime"]) for version, about in answers.items()}
    assert found == {"1": ("packed", "onnxruntime"), "2": ("thrice", "onnxruntime")}
    words = {"1": "the network as packed on onnxruntime", "2": "variant thrice on onnxruntime"}
    assert {each["figures"]["version"]: each["runs"] for each in shown} == words
    log = (tmp_path / "stderr").read_text()
    for version, said in words.items():
        assert f"model times version {version} answers, by {said}\n" in log
    (line,) = re.findall(r'modelport_model_info\{.*version="2".*', metrics)
    assert 'variant="thrice"' in line and 'runtime="onnxruntime"' in line
