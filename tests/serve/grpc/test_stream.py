"""ModelStreamInfer and the asynchronous client."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from modelport.protos import open_inference as oi

from .running import grpc_served
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


async def test_cancelled_requests_do_not_run(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = oi.Stub(channel)

        async def rows() -> int:
            (counted,) = (await stub.ModelStatistics(oi.ModelStatisticsRequest(name="slow"))).model_stats
            return int(counted.inference_count)

        before = await rows()
        calls = [stub.ModelInfer(ask(number)) for number in range(100)]
        await rows()  # an answer to a later call: the earlier ones have come to the server
        for call in calls[1:]:
            call.cancel()
        assert (await calls[0]).model_name == "slow"
        assert (await stub.ModelInfer(ask(7))).model_name == "slow"
        # The first and the last; of the others those that were running with the first already.
        assert await rows() - before < 30


async def test_the_loop_of_the_standard_library_does_too(repo: Path) -> None:
    with grpc_served(repo, "--plain-loop") as plain:
        async with triton_aio.InferenceServerClient(plain) as client:
            answers = await asyncio.gather(*(client.infer("every", everything(rows)) for rows in (1, 2, 3)))
            assert [len(answer.as_numpy("out_bool")) for answer in answers] == [1, 2, 3]


async def test_each_inference_is_told_once(repo: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with grpc_served(repo, "--log", str(log)) as told:
        async with grpc.aio.insecure_channel(told) as channel:
            stub = oi.Stub(channel)
            for number in (1, 2):
                await stub.ModelInfer(ask(number), metadata=(("x-request-id", f"r{number}"),))
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ModelInfer(ask(3, model="none"))
            late = stub.ModelInfer(ask(4))
            await stub.ServerLive(oi.ServerLiveRequest())
            late.cancel()
            stream = stub.ModelStreamInfer()
            for number in (5, 6):
                await stream.write(ask(number, model="slow" if number == 5 else "none"))
            await stream.done_writing()
            assert [bool(reply.error_message) async for reply in stream] == [False, True]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    path = "/inference.GRPCInferenceService/ModelInfer"
    unary = [line for line in lines if line["path"] == path]
    assert [line["status"] for line in unary] == [200, 200, 404, 499]
    assert [line["id"] for line in unary[:2]] == ["r1", "r2"] and unary[0]["address"] == "127.0.0.1"
    assert unary[0]["model"] == unary[1]["model"] == "slow" and {"queue", "net"} <= set(unary[1]["stages"])
    streamed = [line["status"] for line in lines if line["path"].endswith("ModelStreamInfer")]
    assert sorted(streamed) == [200, 404]
