"""ModelStreamInfer and the asynchronous client."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from modelport.protos import open_inference as oi

from .test_client import everything, given, sample


def ask(value: float, request_id: str = "", model: str = "slow") -> oi.ModelInferRequest:
    request = oi.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(np.float32(value).tobytes())
    return request


async def test_the_asynchronous_client(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready() and await client.is_model_ready("every")
        answers = await asyncio.gather(*(client.infer("every", everything(rows)) for rows in range(1, 9)))
        for rows, answer in enumerate(answers, 1):
            assert answer.as_numpy("out_int32").tobytes() == sample("INT32", rows).tobytes()
        with pytest.raises(InferenceServerException, match="unknown model"):
            await client.infer("none", everything())


async def test_rows_of_many_callers_never_mix(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        others = [each for each in everything(1) if each.name() != "in_int64"]

        async def one(number: int) -> None:
            mine = np.full((1, 3), number, np.int64)
            answer = await client.infer("every", [*others, given("in_int64", mine, "INT64")])
            assert answer.as_numpy("out_int64").tolist() == mine.tolist()

        await asyncio.gather(*(one(number) for number in range(300)))


async def test_a_stream_answers_in_order_and_goes_on_after_errors(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for number in range(12):
                batch = np.full((1, 1), number, np.float32)
                yield {
                    "model_name": "none" if number == 5 else "slow" if number < 2 else "slow.net",
                    "inputs": [given("x", batch, "FP32")],
                    "request_id": str(number),
                }

        heard = [pair async for pair in client.stream_infer(requests())]
    assert len(heard) == 12
    for number, (result, error) in enumerate(heard):
        if number == 5:
            assert result is None and "unknown model: 'none'" in str(error)
            continue
        assert error is None and result.as_numpy("y").tolist() == [[number]]
        reply = result.get_response()
        assert reply.id == str(number) and reply.parameters["triton_final_response"].bool_param


async def test_an_error_in_a_stream_says_whose_it_is(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = oi.Stub(channel).ModelStreamInfer()
        await call.write(ask(1, "mine", model="none"))
        reply = await call.read()
        assert "unknown model" in reply.error_message and reply.infer_response.id == "mine"
        await call.write(ask(2, "next", model="slow.net"))
        assert (await call.read()).infer_response.id == "next"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF and await call.code() == grpc.StatusCode.OK


async def test_a_strict_stream_ends_with_the_errors_status(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = oi.Stub(channel).ModelStreamInfer(metadata=(("triton_grpc_error", "true"),))
        for request in (ask(1, "a"), ask(2, "b", model="none"), ask(3, "c")):
            await call.write(request)
        assert (await call.read()).infer_response.id == "a"
        with pytest.raises(grpc.aio.AioRpcError, match="unknown model"):
            await call.read()
        assert await call.code() == grpc.StatusCode.NOT_FOUND


def test_a_stream_of_the_blocking_client(address: str) -> None:
    heard: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(callback=lambda result, error: heard.put((result, error)))
        for number in range(20):
            batch = given("x", np.full((1, 1), number, np.float32), "FP32")
            client.async_stream_infer(
                "slow", [batch], request_id=str(number), enable_empty_final_response=True
            )
        for number in range(20):
            result, error = heard.get(timeout=60)
            assert error is None and result.get_response().id == str(number)
        client.stop_stream()


async def test_a_stream_that_is_broken_off_leaves_nothing_behind(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = oi.Stub(channel)
        for _ in range(5):
            call = stub.ModelStreamInfer()
            for number in range(20):
                await call.write(ask(number))
            call.cancel()
            assert await call.code() == grpc.StatusCode.CANCELLED
        reply = await stub.ModelInfer(ask(7))
        assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [7]
        (counted,) = (await stub.ModelStatistics(oi.ModelStatisticsRequest(name="slow"))).model_stats
        # Of the hundred that were given up at most a few were already running.
        assert counted.inference_stats.success.count < 60


async def test_more_requests_than_a_stream_works_on_at_once(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:

        async def requests() -> AsyncIterator[oi.ModelInferRequest]:
            for number in range(400):
                yield ask(number, str(number), model="colours")

        replies = [reply async for reply in oi.Stub(channel).ModelStreamInfer(requests())]
    assert [reply.infer_response.id for reply in replies] == [str(number) for number in range(400)]
    assert all("expected one input `image`" in reply.error_message for reply in replies)
