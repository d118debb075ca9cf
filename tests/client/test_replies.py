"""The protocol's replies: what servers really send, and what no server should."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.client import replies
from modelport.client.failures import BadReply
from modelport.client.values import InferResult, Label, Timing, prediction_of, server_timing
from modelport.errors import InputError, ModelportError
from modelport.serve.oip import InferRequest, encode_response
from modelport.tensors import Array, TensorSpec, object_array

FLOATS = np.arange(6, dtype=np.float32).reshape(2, 3)


def infer(
    head: dict[str, Any], *blobs: bytes, length: str | None = "", sent_id: str | None = None, **more: str
) -> InferResult:
    text = json.dumps(head).encode()
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    if length is not None:
        headers["inference-header-content-length"] = length or str(len(text))
    return replies.infer(text + b"".join(blobs), headers, sent_id, 0.5)


def output(**more: Any) -> dict[str, Any]:
    return {"name": "y", "datatype": "FP32", "shape": [2, 3]} | more


def binary(size: int = 24, **more: Any) -> dict[str, Any]:
    return output(parameters={"binary_data_size": size}, **more)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_what_our_server_writes_is_read(as_bytes: bool) -> None:
    tensors: dict[str, Array] = {
        "f": FLOATS,
        "h": np.array([1.5, -2], np.float16),
        "b": np.array([[True], [False]]),
        "t": object_array([b"a", b"", "é".encode()], [3]),
        "empty": np.zeros((0, 4), np.int64),
        "scalar": np.array(7, np.uint8),
    }
    request = InferRequest({}, "an id", None, as_bytes, None)
    body, length = encode_response(tensors, request, model="m", version="3")
    headers = {} if length is None else {"inference-header-content-length": str(length)}
    got = replies.infer(body, headers, "an id", 0.0)
    assert (got.model, got.version, got.id) == ("m", "3", "an id")
    assert list(got) == list(tensors) and len(got) == len(tensors)
    for name, array in tensors.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        assert np.array_equal(got[name], array)


def test_the_nulls_of_other_servers_are_as_good_as_absent() -> None:
    got = infer(
        {
            "model_name": "m",
            "model_version": None,
            "id": None,
            "parameters": None,
            "outputs": [output(data=[0, 1, 2, 3, 4, 5], parameters=None)],
        },
        length=None,
    )
    assert np.array_equal(got["y"], FLOATS) and got.version == "" and got.id is None


REFUSED: dict[str, tuple[dict[str, Any], bytes, str | None]] = {
    "no outputs": ({}, b"", None),
    "an object of outputs": ({"outputs": {}}, b"", None),
    "neither data nor size": ({"outputs": [output()]}, b"", None),
    "too few bytes": ({"outputs": [binary()]}, bytes(20), ""),
    "too many bytes": ({"outputs": [binary()]}, bytes(25), ""),
    "a size that does not fit": ({"outputs": [binary(20)]}, bytes(20), ""),
    "a negative size": ({"outputs": [binary(-1)]}, bytes(24), ""),
    "a size that is true": ({"outputs": [binary(True)]}, bytes(24), ""),
    "a size as text": (
        {"outputs": [output(parameters={"binary_data_size": "24"})]},
        bytes(24),
        "",
    ),
    "an output twice": ({"outputs": [binary(), binary()]}, bytes(48), ""),
    "a huge shape": ({"outputs": [binary(24, shape=[1 << 40, 1 << 40])]}, bytes(24), ""),
    "a negative shape": ({"outputs": [binary(24, shape=[-2, -3])]}, bytes(24), ""),
    "an unknown datatype": ({"outputs": [binary(24, datatype="FP31")]}, bytes(24), ""),
    "header length over the body": ({"outputs": []}, b"", "9999"),
    "header length of text": ({"outputs": []}, b"", "ten"),
    "header length with zeros": ({"outputs": []}, b"", "0" * 20 + "9999"),
    "header length negative": ({"outputs": []}, b"", "-1"),
    "header length inside the JSON": ({"outputs": []}, b"", "3"),
    "header length of another digit": ({"outputs": []}, b"", "²"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_reply_that_lies_is_refused(name: str) -> None:
    head, blob, length = REFUSED[name]
    with pytest.raises(BadReply):
        infer(head, blob, length=length)


def test_the_answer_to_another_request_is_refused() -> None:
    head = {"id": "b", "outputs": [binary()]}
    with pytest.raises(BadReply, match="'a'"):
        infer(head, FLOATS.tobytes(), sent_id="a")
    assert infer(head, FLOATS.tobytes(), sent_id="b").id == "b"
    assert infer({"outputs": [binary()]}, FLOATS.tobytes(), sent_id="a").id is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "datatype", "shape", "data", "outputs", "parameters", "answer", "model_stats"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.binary(max_size=40), st.none() | st.text(max_size=5) | st.integers(-3, 200).map(str))
def test_any_json_is_a_reply_or_refused(value: Any, blob: bytes, length: str | None) -> None:
    body = msgspec.json.encode(value) + blob
    headers = {} if length is None else {"inference-header-content-length": length}
    for read in (
        lambda: replies.infer(body, headers, None, 0.0),
        lambda: replies.prediction(body),
        lambda: replies.metadata(body),
        lambda: replies.server(body),
        lambda: replies.states(body),
        lambda: replies.statistics(body),
    ):
        try:
            read()
        except BadReply:
            continue


@given(st.data())
def test_a_changed_byte_is_never_more_than_a_refusal(data: st.DataObject) -> None:
    body, length = encode_response(
        {"y": FLOATS, "t": object_array([b"abc"], [1])},
        InferRequest({}, None, None, True, None),
        model="m",
        version="1",
    )
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = replies.infer(changed, {"inference-header-content-length": str(length)}, None, 0.0)
    except BadReply:
        return
    assert all(isinstance(array, np.ndarray) for array in got.values())


def test_deep_json_is_refused_and_does_not_overflow() -> None:
    for body in (
        b"[" * 100_000,
        b'{"outputs":' * 50_000,
        b'{"outputs":[{"name":"y","data":' + b"[" * 100_000,
    ):
        with pytest.raises(BadReply):
            replies.infer(body, {}, None, 0.0)
        with pytest.raises(BadReply):
            replies.prediction(body)


def test_classes_are_read_with_colons_in_their_labels() -> None:
    texts = object_array([b"0.75:3:cat: grey", b"0.25:1"], [1, 2])
    got = InferResult({"y": texts, "z": object_array([b"nine"], [1])}, model="m", version="1")
    best, second = got.classes("y")[0]
    assert (best.score, best.index, best.label) == (0.75, 3, "cat: grey")
    assert (second.score, second.index, second.label) == (0.25, 1, "")
    with pytest.raises(InputError, match="no classes"):
        got.classes("z")
    with pytest.raises(KeyError, match="has no output 'yy'"):
        got["yy"]
    assert "object[1, 2]" in repr(got)


def test_predictions_with_labels_and_without() -> None:
    body = (
        b'{"model": "m", "version": "1", "answer": [{"label": "a", "score": 1, "shade": []}], '
        b'"timing_ms": {"net": 2.0, "new": 1}, "new": 1}'
    )
    got = replies.prediction(body, 0.5)
    assert got.top == Label("a", 1.0) and got.labels == ("a",) and got.scores == (1.0,)
    assert got.timing == Timing(net=0.002, round_trip=0.5)
    bare = replies.prediction(b'{"model": "m", "version": "1", "answer": {"y": [[1, 2]]}}')
    assert bare.outputs["y"].tolist() == [[1, 2]] and bare.answer == ()
    with pytest.raises(InputError, match="no labels") as refused:
        _ = bare.top
    assert "y" in str(refused.value)
    gaps = replies.prediction(b'{"model": "m", "version": "1", "answer": {"y": [1, null], "t": ["a"]}}')
    assert (
        gaps.outputs["y"][0] == 1 and np.isnan(gaps.outputs["y"][1]) and gaps.outputs["t"].tolist() == ["a"]
    )
    for answer in ('{"y": [[1], [2, 3]]}', '{"y": ["a", null]}', '{"y": {}}', '[{"label": 5}]', "5", "null"):
        with pytest.raises(BadReply):
            replies.prediction(f'{{"model": "m", "version": "1", "answer": {answer}}}'.encode())


def test_tensors_become_the_prediction_that_the_server_would_write() -> None:
    labelled: dict[str, Array] = {
        "scores": np.array([0.75, 0.25], np.float32),
        "indices": np.array([1, 0]),
        "labels": object_array([b"b", b"a"], [2]),
    }
    got = prediction_of(InferResult(labelled, model="m", version="1"))
    assert got.answer == (Label("b", 0.75), Label("a", 0.25)) and got.outputs == {}
    del labelled["labels"]
    assert prediction_of(InferResult(labelled, model="m", version="1")).labels == ("1", "0")
    del labelled["indices"]
    bare = prediction_of(InferResult(labelled, model="m", version="1"))
    assert bare.answer == () and list(bare.outputs) == ["scores"]


def test_a_batch_of_one_loses_its_axis_and_other_batches_are_refused() -> None:
    got = InferResult({"y": FLOATS[:1], "t": object_array([b"a"], [1])}, model="m", version="1")
    bare = replies.stripped(got)
    assert bare["y"].shape == (3,) and bare["t"].shape == () and bare["t"].item() == b"a"
    for wrong in (FLOATS, np.float32(1)):
        with pytest.raises(BadReply, match="one item"):
            replies.stripped(InferResult({"y": np.asarray(wrong)}, model="m", version="1"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Timing(round_trip=2.0)),
        ("", Timing(round_trip=2.0)),
        ("net;dur=1.5, total;dur=2", Timing(net=0.0015, total=0.002, round_trip=2.0)),
        ('queue;desc="a, b";dur="3",x;dur=1', Timing(queue=0.003, round_trip=2.0)),
        ("net;dur=abc, post;dur=4, pre", Timing(post=0.004, round_trip=2.0)),
        (";;;,,,=;dur", Timing(round_trip=2.0)),
    ],
)
def test_server_timing(header: str | None, expected: Timing) -> None:
    assert server_timing(header, 2.0) == expected


@given(st.text() | st.text('adur=;,"0.9 \t', max_size=60))
def test_any_server_timing_is_read_or_passed_over(header: str) -> None:
    assert all(0 <= stage < 1e10 for stage in msgspec.structs.astuple(server_timing(header, 0.0)))


def test_metadata_index_and_statistics_as_triton_and_kserve_write_them() -> None:
    got = replies.metadata(
        b'{"name":"m","versions":["1"],"platform":"onnxruntime_onnx",'
        b'"inputs":[{"name":"x","datatype":"BF16","shape":[-1,3]}],"outputs":null}'
    )
    assert got.inputs == (TensorSpec("x", "bf16", (-1, 3)),) and got.outputs == ()
    assert replies.states(b'[{"name":"m"},{"name":"n","version":"2","state":"READY","reason":""}]')[1].ready
    assert not replies.states(b'[{"name":"m"}]')[0].ready
    (row,) = replies.statistics(
        b'{"model_stats":[{"name":"m","version":"1","last_inference":1500,"inference_count":4,'
        b'"execution_count":2,"inference_stats":{"success":{"count":4,"ns":2000000000},"fail":{"count":0,"ns":0}},'
        b'"response_stats":{},"batch_stats":[{"batch_size":2,"compute_infer":{"count":2,"ns":1000000}}],'
        b'"memory_usage":[]}]}'
    )
    assert row.last_inference == 1.5 and row.stages["success"].seconds == 2.0
    assert row.batches[0].compute_infer.seconds == 0.001


def test_every_refusal_is_one_of_ours() -> None:
    assert issubclass(BadReply, ModelportError) and BadReply.http_status == 502
