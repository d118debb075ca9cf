"""The short way: the same answers as on the long way, for every request that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.protos import open_inference as oi
from modelport.serve.grpc.answers import cut, varint

from .running import grpc_served

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@pytest.fixture(scope="module")
def stub(repo: Path) -> Iterator[oi.Stub]:
    with grpc_served(repo, "--management") as address, grpc.insecure_channel(address) as channel:
        yield oi.Stub(channel)


def request(
    batch: Floats, identity: str = "", model: str = "colours.net", version: str = "", raw: bool = True
) -> oi.ModelInferRequest:
    """Raw requests may go the short way; typed ones never do."""
    made = oi.ModelInferRequest(model_name=model, model_version=version, id=identity)
    tensor = made.inputs.add(name="x", datatype="FP32", shape=batch.shape)
    if raw:
        made.raw_input_contents.append(batch.tobytes())
    else:
        tensor.contents.fp32_contents.extend(batch.ravel().tolist())
    return made


def batch_of(rows: int, seed: int) -> Floats:
    return np.random.default_rng(seed).random((rows, 3, 8, 8), np.float32)


def test_both_ways_give_the_same_answer(stub: oi.Stub) -> None:
    for round_ in range(3):
        for rows in (1, 2, 7, 8, 9):
            for version in ("", "2", "10"):
                batch, identity = batch_of(rows, 10 * round_ + rows), f"request {round_} ä"
                typed = stub.ModelInfer(request(batch, identity, version=version, raw=False))
                raw = stub.ModelInfer(request(batch, identity, version=version))
                assert raw == typed
                assert raw.outputs[0].shape == [rows, 3] and raw.id == identity
                assert raw.model_version == (version or "10")


def test_large_tensors_through_shared_memory(stub: oi.Stub) -> None:
    for seed in range(4):
        batch = batch_of(150, seed)
        assert batch.nbytes > 100_000
        assert stub.ModelInfer(request(batch)) == stub.ModelInfer(request(batch, raw=False))


def test_outputs_that_are_asked_for_by_name(stub: oi.Stub) -> None:
    batch = batch_of(2, 1)
    asked = request(batch)
    asked.outputs.add(name="logits")
    whole = stub.ModelInfer(request(batch))
    assert stub.ModelInfer(asked) == stub.ModelInfer(asked) == whole
    asked.outputs.add(name="none")
    for _ in range(2):
        with pytest.raises(grpc.RpcError, match="unknown output 'none'"):
            stub.ModelInfer(asked)


def test_the_same_head_with_other_bytes_behind_it(stub: oi.Stub) -> None:
    good = request(batch_of(1, 1))
    for _ in range(3):
        stub.ModelInfer(good)
    for size in (0, 4, 767, 769, 1536):
        bad = request(batch_of(1, 1))
        bad.raw_input_contents[0] = b"\0" * size
        with pytest.raises(grpc.RpcError, match="takes 768 bytes") as raised:
            stub.ModelInfer(bad)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    twice = request(batch_of(1, 1))
    twice.raw_input_contents.append(b"")
    with pytest.raises(grpc.RpcError, match="1 inputs and 2 raw_input_contents"):
        stub.ModelInfer(twice)


def test_a_timeout_counts_on_the_short_way_too(stub: oi.Stub) -> None:
    hasty = request(np.ones((1, 1), np.float32), model="slow")
    hasty.parameters["timeout"].int64_param = 60_000_000
    for _ in range(2):
        stub.ModelInfer(hasty)
    hasty.parameters["timeout"].int64_param = 1
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(hasty)
        assert raised.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    plain = request(np.ones((1, 1), np.float32), model="slow")
    stub.ModelInfer(plain)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(plain, timeout=0.02)
    assert raised.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


def test_a_version_that_is_loaded_again_answers_and_one_that_is_gone_does_not(stub: oi.Stub) -> None:
    asked = request(batch_of(1, 5))
    before = stub.ModelInfer(asked)
    assert stub.ModelInfer(asked) == before
    stub.RepositoryModelUnload(oi.RepositoryModelUnloadRequest(model_name="colours"))
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(asked)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    stub.RepositoryModelLoad(oi.RepositoryModelLoadRequest(model_name="colours"))
    assert stub.ModelInfer(asked) == stub.ModelInfer(asked) == before


messages = st.builds(
    lambda name, version, identity, inputs, outputs, raw, custom: oi.ModelInferRequest(
        model_name=name,
        model_version=version,
        id=identity,
        inputs=[{"name": each, "datatype": "FP32", "shape": [1, 2**40]} for each in inputs],
        outputs=[{"name": each} for each in outputs],
        raw_input_contents=raw,
        parameters={"custom": oi.InferParameter(string_param=custom)} if custom else {},
    ),
    *[st.text(max_size=200)] * 3,
    *[st.lists(st.text(max_size=40), max_size=3)] * 2,
    st.lists(st.binary(max_size=400), max_size=4),
    st.text(max_size=300),
)


@given(messages)
def test_a_request_is_cut_where_its_tensors_begin(message: oi.ModelInferRequest) -> None:
    pieces = cut(message.SerializeToString())
    if not message.raw_input_contents:
        assert pieces is None
        return
    assert pieces is not None
    assert [bytes(tensor) for tensor in pieces.tensors] == list(message.raw_input_contents)
    assert pieces.sizes == tuple(map(len, message.raw_input_contents))
    assert oi.ModelInferRequest.FromString(pieces.identity).id == message.id
    head = oi.ModelInferRequest.FromString(pieces.head)
    assert not head.id
    head.id = message.id
    head.raw_input_contents.extend(message.raw_input_contents)
    assert head == message


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_any_bytes_are_cut_or_left_alone(data: bytes) -> None:
    pieces = cut(data)
    if pieces is not None:
        assert len(pieces.head) + len(pieces.identity) + sum(pieces.sizes) <= len(data)


@given(st.integers(0, 2**40))
def test_lengths_are_written_as_protobuf_does(number: int) -> None:
    message = oi.InferParameter(uint64_param=number)
    assert message.SerializeToString() == b"\x28" + varint(number)
