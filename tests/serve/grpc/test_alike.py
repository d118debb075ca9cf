"""HTTP (JSON, and binary on the short path) and gRPC on one server: the same words, figures and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from ...colours import pack_colours, served
from .test_serve import free_port

BATCH = np.zeros((1, 3, 8, 8), np.float32)
STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
ZEROS = {stage: {"count": 0, "ns": 0} for stage in STAGES}

Both = tuple[triton_http.InferenceServerClient, triton.InferenceServerClient]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """HTTP's and gRPC's of a server that has `colours` 10, and 2 that it never loaded."""
    folder = tmp_path_factory.mktemp("alike")
    repo = pack_colours(folder, version="2")
    pack_colours(folder, version="10")
    port = free_port()
    with (
        served(repo, "--grpc-port", str(port), "--executors", "1") as (url, _),
        triton_http.InferenceServerClient(urlsplit(url).netloc) as http,
        triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        yield http, client


def refused(ask: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as raised:
        ask()
    return str(raised.value.status()), str(raised.value.message())


def given(module: Any, *, binary: bool = True) -> Any:
    tensor = module.InferInput("x", list(BATCH.shape), "FP32")
    if module is triton:
        return tensor.set_data_from_numpy(BATCH)
    return tensor.set_data_from_numpy(BATCH, binary_data=binary)


@pytest.mark.parametrize(
    ("model", "version", "words"),
    [
        ("colours.net", "7", "Request for unknown model: 'colours.net' version 7 is not found"),
        ("none.net", "", "Request for unknown model: 'none.net' is not found"),
        ("colours.net", "2", "Request for unknown model: 'colours.net' version 2 is not found"),
    ],
)
def test_what_is_not_here_is_told_in_the_same_words(
    clients: Both, model: str, version: str, words: str
) -> None:
    http, client = clients
    in_binary = refused(lambda: http.infer(model, [given(triton_http)], model_version=version))
    tensors = [given(triton_http, binary=False)]
    in_json = refused(lambda: http.infer(model, tensors, model_version=version))
    by_grpc = refused(lambda: client.infer(model, [given(triton)], model_version=version))
    assert in_binary == in_json and in_json[1].startswith(words)
    status = {"404": "StatusCode.NOT_FOUND", "503": "StatusCode.UNAVAILABLE"}[in_json[0]]
    assert by_grpc == (status, in_json[1])


def test_what_is_not_here_is_not_ready(clients: Both) -> None:
    for client in clients:
        assert client.is_model_ready("colours") and client.is_model_ready("colours.net", "10")
        assert not client.is_model_ready("none") and not client.is_model_ready("colours", "7")
        assert not client.is_model_ready("colours", "2")


def test_statistics_are_of_every_version_and_complete(clients: Both) -> None:
    http, client = clients
    http.infer("colours.net", [given(triton_http)])
    for name, version, versions in (("colours.net", "", ["2", "10"]), ("colours", "2", ["2"])):
        told = http.get_inference_statistics(name, version)["model_stats"]
        assert [(each["name"], each["version"]) for each in told] == [(name, each) for each in versions]
        assert told[0]["inference_stats"].items() >= ZEROS.items() and told[0]["inference_count"] == 0
        assert all(each["inference_stats"]["success"]["count"] > 0 for each in told[1:])
        message = client.get_inference_statistics(name, version)
        assert [(each.name, each.version) for each in message.model_stats] == [(name, v) for v in versions]
        for ours, theirs in zip(message.model_stats, told, strict=True):
            assert ours.HasField("inference_stats")
            assert ours.inference_stats.success.count == theirs["inference_stats"]["success"]["count"]
            assert ours.inference_count == theirs["inference_count"]
    everything = {(each["name"], each["version"]) for each in http.get_inference_statistics()["model_stats"]}
    assert everything == {("colours", "10"), ("colours.net", "10")}
    assert refused(lambda: http.get_inference_statistics("none"))[0] == "404"


def remote(tensor: Any, size: int) -> Any:
    tensor.set_shared_memory("region", size)
    return tensor


def test_tensors_in_shared_memory_are_unsupported(clients: Both) -> None:
    def told(client: Any, module: Any) -> list[tuple[str, str]]:
        inputs = [remote(module.InferInput("x", list(BATCH.shape), "FP32"), BATCH.nbytes)]
        outputs = [remote(module.InferRequestedOutput("logits"), 12)]
        return [
            refused(lambda: client.infer("colours.net", inputs)),
            refused(lambda: client.infer("colours.net", [given(module)], outputs=outputs)),
        ]

    words = [f"shared memory is not supported, at `$.{side}[0]`" for side in ("inputs", "outputs")]
    assert told(clients[0], triton_http) == [("501", each) for each in words]
    assert told(clients[1], triton) == [("StatusCode.UNIMPLEMENTED", each) for each in words]
