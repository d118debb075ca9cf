"""Triton's gRPC client against the server in a process of its own."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from modelport import __version__

from ...colours import LABELS, picture
from .conftest import DATATYPES


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as connected:
        yield connected
        # Whatever the tests before did to it, the server still answers.
        assert ask_colour(connected, "green") == "green"


def given(name: str, array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    return triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def ask_colour(client: triton.InferenceServerClient, colour: str) -> str:
    data = np.array([picture(colour)], object)
    labels = client.infer("colours", [given("image", data, "BYTES")]).as_numpy("labels")
    return str(labels[0][0].decode())


def sample(datatype: str, rows: int = 2) -> np.ndarray[Any, Any]:
    if datatype == "BYTES":
        texts = [f"text {i} äöü ✓".encode() for i in range(rows * 3 - 1)]
        return np.array([b"", *texts], object).reshape(rows, 3)
    kind = np.dtype(DATATYPES[datatype][1])
    if kind == np.bool_:
        return np.arange(rows * 3).reshape(rows, 3) % 2 == 0
    if kind.kind == "f":
        values = [0.0, -1.5, np.nan, np.inf, -np.inf, float(np.finfo(kind).max)]
        return np.resize(np.array(values, kind), (rows, 3))
    limits = np.iinfo(kind)
    return np.resize(np.array([limits.min, limits.max, 0, 1, 7], kind), (rows, 3))


def everything(rows: int = 2) -> list[triton.InferInput]:
    return [given(f"in_{name.lower()}", sample(name, rows), name) for name in DATATYPES]


def status(raised: pytest.ExceptionInfo[InferenceServerException]) -> str:
    return str(raised.value.status()).removeprefix("StatusCode.")


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("colours") and client.is_model_ready("colours.net", "2")
    about = client.get_server_metadata()
    assert (about.name, about.version) == ("modelport", __version__)
    assert {"classification", "statistics", "model_configuration"} <= set(about.extensions)
    colours = client.get_model_metadata("colours", as_json=True)
    assert colours["versions"] == ["2", "10"] and colours["platform"] == "modelport_bundle"
    assert colours["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "-1", "3"]}]
    network = client.get_model_metadata("colours.net")
    assert network.inputs[0].shape == [-1, 3, 8, 8] and network.platform == "onnxruntime_onnx"
    assert {i.name: i.datatype for i in client.get_model_metadata("every").inputs} == {
        f"in_{name.lower()}": name for name in DATATYPES
    }


def test_what_is_not_here(client: triton.InferenceServerClient) -> None:
    assert not client.is_model_ready("none") and not client.is_model_ready("colours", "7")
    for ask in (
        lambda: client.get_model_metadata("none"),
        lambda: client.get_model_metadata("colours", "7"),
        lambda: client.get_model_config("none"),
        lambda: client.get_inference_statistics("none"),
        lambda: client.infer("none", everything()),
        lambda: client.infer("colours", everything(), model_version="7"),
        lambda: client.infer("colours.net.net", everything()),
        lambda: client.infer("", everything()),
    ):
        with pytest.raises(InferenceServerException, match="Request for unknown model") as raised:
            ask()
        assert status(raised) == "NOT_FOUND"


def test_config_without_the_batch_axis(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("every").config
    assert (config.name, config.max_batch_size, config.backend) == ("every", 8, "modelport")
    assert config.HasField("dynamic_batching") and not config.model_transaction_policy.decoupled
    kinds = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in config.input}
    assert kinds["in_fp32"] == (11, [3]) and kinds["in_bytes"] == (13, [3]) and len(kinds) == len(DATATYPES)
    whole = client.get_model_config("colours", "2").config
    assert (whole.max_batch_size, list(whole.input[0].dims)) == (0, [-1, -1, 3])


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_bit_for_bit(client: triton.InferenceServerClient, datatype: str) -> None:
    name = datatype.lower()
    answer = client.infer("every", everything(), outputs=[triton.InferRequestedOutput(f"out_{name}")])
    (output,) = answer.get_response().outputs
    assert (output.name, output.datatype, list(output.shape)) == (f"out_{name}", datatype, [2, 3])
    got, sent = answer.as_numpy(f"out_{name}"), sample(datatype)
    assert got.dtype == sent.dtype
    assert got.tolist() == sent.tolist() if datatype == "BYTES" else got.tobytes() == sent.tobytes()


def test_all_outputs_raw_in_the_models_order(client: triton.InferenceServerClient) -> None:
    reply = client.infer("every.net", everything(5), request_id="a request").get_response()
    assert [output.name for output in reply.outputs] == [f"out_{name.lower()}" for name in DATATYPES]
    assert len(reply.raw_output_contents) == len(DATATYPES)
    assert not any(output.HasField("contents") for output in reply.outputs)
    assert (reply.model_name, reply.model_version, reply.id) == ("every.net", "1", "a request")


def test_outputs_in_the_order_asked_for(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("out_int8", "out_bool")]
    reply = client.infer("every", everything(), outputs=wanted).get_response()
    assert [output.name for output in reply.outputs] == ["out_int8", "out_bool"]


def test_pictures_alone_and_several(client: triton.InferenceServerClient) -> None:
    for colour in LABELS:
        assert ask_colour(client, colour) == colour
    several = np.array([picture(colour) for colour in LABELS], object)
    answer = client.infer("colours", [given("image", several, "BYTES")])
    assert [row[0].decode() for row in answer.as_numpy("labels")] == LABELS
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[..., 2] = 200
    one = client.infer("colours", [given("image", pixels, "UINT8")], model_version="2")
    assert one.as_numpy("labels")[0] == b"blue" and one.get_response().model_version == "2"
    two = client.infer("colours", [given("image", np.stack([pixels, pixels]), "UINT8")])
    assert two.as_numpy("scores").shape == (2, 3) and two.get_response().model_version == "10"


def test_the_network_alone_and_the_best_classes(client: triton.InferenceServerClient) -> None:
    batch = np.zeros((2, 3, 8, 8), np.float32)
    batch[0, 1], batch[1, 2] = 1, 1
    inputs = [given("x", batch, "FP32")]
    logits = client.infer("colours.net", inputs).as_numpy("logits")
    assert logits.tolist() == [[0, 20, 0], [0, 0, 20]]
    best = triton.InferRequestedOutput("logits", class_count=2)
    rows = client.infer("colours.net", inputs, outputs=[best]).as_numpy("logits")
    assert rows.tolist() == [
        [b"20.000000:1:green", b"0.000000:0:red"],
        [b"20.000000:2:blue", b"0.000000:0:red"],
    ]
    with pytest.raises(InferenceServerException, match="classification") as raised:
        client.infer("every", everything(), outputs=[triton.InferRequestedOutput("out_bytes", class_count=1)])
    assert status(raised) == "INVALID_ARGUMENT"


def test_statistics_count_what_was_answered(client: triton.InferenceServerClient) -> None:
    def counted() -> Any:
        (found,) = client.get_inference_statistics("every.net").model_stats
        assert (found.name, found.version) == ("every.net", "1")
        return found

    before = counted()
    for _ in range(3):
        client.infer("every", everything(2))
    after = counted()
    assert after.inference_count - before.inference_count == 6
    assert 1 <= after.execution_count - before.execution_count <= 3
    spent = after.inference_stats
    assert spent.success.count - before.inference_stats.success.count == 3
    assert spent.success.ns > spent.compute_infer.ns > 0 and after.last_inference > 0
    assert any(size.batch_size == 2 and size.compute_infer.ns > 0 for size in after.batch_stats)
    names = {(m.name, m.version) for m in client.get_inference_statistics().model_stats}
    versions = {("colours", "2"), ("colours", "10"), ("every", "1"), ("slow", "1")}
    assert names == versions | {(f"{name}.net", version) for name, version in versions}
    assert [m.version for m in client.get_inference_statistics("colours").model_stats] == ["2", "10"]


def test_index_and_the_refusal_to_load(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index().models
    assert {(m.name, m.version, m.state) for m in index} >= {
        ("colours", "2", "READY"),
        ("colours.net", "10", "READY"),
        ("slow", "1", "READY"),
    }
    for ask in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="explicit model load / unload") as raised:
            ask("colours")
        assert status(raised) == "UNAVAILABLE"
    assert client.is_model_ready("colours")


def test_settings_are_shown_and_not_changed(client: triton.InferenceServerClient) -> None:
    assert client.get_trace_settings(as_json=True) == {"settings": {"trace_level": {"value": ["OFF"]}}}
    assert client.update_trace_settings(settings={"trace_level": "OFF"}).settings["trace_level"].value == [
        "OFF"
    ]
    assert client.get_log_settings().settings["log_error"].bool_param
    for change in (
        lambda: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}),
        lambda: client.update_trace_settings(settings={"trace_file": "/etc/passwd"}),
        lambda: client.update_log_settings({"log_file": "/etc/passwd"}),
    ):
        with pytest.raises(InferenceServerException, match="cannot be changed") as raised:
            change()
        assert status(raised) == "UNIMPLEMENTED"


def test_shared_memory_is_not_mapped(client: triton.InferenceServerClient) -> None:
    remote = triton.InferInput("x", [1, 1], "FP32")
    remote.set_shared_memory("region", 4)
    output = triton.InferRequestedOutput("y")
    output.set_shared_memory("region", 4)
    local = given("x", np.ones((1, 1), np.float32), "FP32")
    for ask in (
        lambda: client.get_system_shared_memory_status(),
        lambda: client.register_system_shared_memory("region", "/modelport", 4),
        lambda: client.unregister_system_shared_memory(),
        lambda: client.get_cuda_shared_memory_status(),
        lambda: client.register_cuda_shared_memory("region", b"AAAA", 0, 4),
        lambda: client.unregister_cuda_shared_memory("region"),
        lambda: client.infer("slow", [remote]),
        lambda: client.infer("slow", [local], outputs=[output]),
    ):
        with pytest.raises(InferenceServerException, match="shared memory is not supported") as raised:
            ask()
        assert status(raised) == "UNIMPLEMENTED"


def test_compressed_messages_are_read(client: triton.InferenceServerClient) -> None:
    for algorithm in ("gzip", "deflate"):
        answer = client.infer("every", everything(64), compression_algorithm=algorithm)
        assert answer.as_numpy("out_int64").shape == (64, 3)


def test_a_request_that_cannot_be_in_time_is_refused(client: triton.InferenceServerClient) -> None:
    slow = [given("x", np.ones((1, 1), np.float32), "FP32")]
    assert client.infer("slow", slow, timeout=60_000_000).as_numpy("y") == 1
    with pytest.raises(InferenceServerException) as raised:
        client.infer("slow", slow, timeout=1)
    assert status(raised) in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    with pytest.raises(InferenceServerException) as raised:
        client.infer("slow", slow, client_timeout=0.02)
    assert status(raised) in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert (
        client.infer("slow", slow, priority=3, sequence_id=5, parameters={"mine": "yes"}).as_numpy("y") == 1
    )


def test_a_callers_cancelled_request_is_given_up(client: triton.InferenceServerClient) -> None:
    slow = [given("x", np.ones((1, 1), np.float32), "FP32")]
    heard: queue.Queue[InferenceServerException | None] = queue.Queue()
    call = client.async_infer("slow", slow, callback=lambda result, error: heard.put(error))
    call.cancel()
    error = heard.get(timeout=30)
    assert error is not None and "CANCELLED" in str(error.status())


def test_wrong_inputs_are_refused_in_words(client: triton.InferenceServerClient) -> None:
    good = np.ones((1, 1), np.float32)
    for inputs, words in (
        ([given("z", good, "FP32")], "unexpected input 'z'"),
        ([], "missing input 'x'"),
        ([given("x", good.astype(np.float64), "FP64")], "expected float32"),
        ([given("x", np.ones((1, 2), np.float32), "FP32")], "expected float32"),
        ([given("x", np.ones((0, 1), np.float32), "FP32")], "row"),
        ([given("x", good, "FP32"), given("x", good, "FP32")], "given twice"),
    ):
        with pytest.raises(InferenceServerException, match=words) as raised:
            client.infer("slow", inputs)
        assert status(raised) == "INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="unknown output 'nothing'; known: y") as raised:
        client.infer("slow", [given("x", good, "FP32")], outputs=[triton.InferRequestedOutput("nothing")])
    assert status(raised) == "INVALID_ARGUMENT"
    others = [each for each in everything(1) if each.name() != "in_bytes"]
    no_text = given("in_bytes", np.array([[b"\xff"] * 3], object), "BYTES")
    with pytest.raises(InferenceServerException, match="not UTF-8"):
        client.infer("every", [*others, no_text])
