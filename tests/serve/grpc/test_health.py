"""grpc.health.v1, reflection, and models that come and go while they are watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

from modelport.protos import open_inference as oi

from .running import grpc_served
from .test_client import ask_colour

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture(scope="module")
def managed(repo: Path) -> Iterator[str]:
    with grpc_served(repo, "--management") as address:
        yield address


def ask(name: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


NAMES = ["", oi.SERVICE, "modelport.live", "colours", "colours.net", "colours/2", "every.net/1"]


@pytest.mark.parametrize("name", NAMES)
def test_what_serves(address: str, name: str) -> None:
    with grpc.insecure_channel(address) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(ask(name), timeout=30).status == SERVING


@pytest.mark.parametrize("name", ["none", "colours/7", "colours.net.net", "x" * 10_000])
def test_names_that_are_not_known(address: str, name: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError, match="unknown service") as raised:
            stub.Check(ask(name), timeout=30)
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(ask(name), timeout=30)
        assert next(watch).status == SERVICE_UNKNOWN
        watch.cancel()


async def test_a_watcher_sees_a_model_go_and_come_back(managed: str) -> None:
    async with grpc.aio.insecure_channel(managed) as channel:
        health, inference = health_pb2_grpc.HealthStub(channel), oi.Stub(channel)
        watches = {name: health.Watch(ask(name)) for name in ("colours", "every", "modelport.live")}
        for watch in watches.values():
            assert (await watch.read()).status == SERVING
        await inference.RepositoryModelUnload(oi.RepositoryModelUnloadRequest(model_name="colours"))
        assert (await watches["colours"].read()).status == NOT_SERVING
        assert (await health.Check(ask("colours.net"))).status == NOT_SERVING
        assert (await health.Check(ask("every"))).status == SERVING
        assert not (await inference.ModelReady(oi.ModelReadyRequest(name="colours"))).ready
        index = await inference.RepositoryIndex(oi.RepositoryIndexRequest())
        assert {m.state for m in index.models if m.name == "colours"} == {"UNAVAILABLE"}
        ready = await inference.RepositoryIndex(oi.RepositoryIndexRequest(ready=True))
        assert {m.name for m in ready.models} == {"every", "every.net", "slow", "slow.net"}
        await inference.RepositoryModelLoad(oi.RepositoryModelLoadRequest(model_name="colours"))
        assert (await watches["colours"].read()).status == SERVING
        assert (await inference.ServerReady(oi.ServerReadyRequest())).ready
        for watch in watches.values():
            watch.cancel()


def test_load_and_unload_by_tritonclient(managed: str) -> None:
    with triton.InferenceServerClient(managed) as client:
        client.unload_model("colours")
        with pytest.raises(InferenceServerException, match="is not ready") as raised:
            ask_colour(client, "red")
        assert raised.value.status() == "StatusCode.UNAVAILABLE"
        client.load_model("colours.net")
        assert ask_colour(client, "red") == "red"
        for act in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException) as raised:
                act("none")
            assert raised.value.status() == "StatusCode.NOT_FOUND"
        for parameters in ({"config": "{}"}, {"files": {"file:1/../../model.onnx": b"x"}}):
            with pytest.raises(InferenceServerException, match="are not taken") as raised:
                client.load_model("colours", **{"config": "{}", **parameters})
            assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert ask_colour(client, "blue") == "blue"


async def test_one_version_is_unloaded_and_loaded_again(managed: str) -> None:
    async with grpc.aio.insecure_channel(managed) as channel:
        stub = oi.Stub(channel)
        load = oi.RepositoryModelLoadRequest(model_name="colours")
        for version in ("2", "10"):
            load.parameters["version"].string_param = version
            await stub.RepositoryModelLoad(load)
        unload = oi.RepositoryModelUnloadRequest(model_name="colours")
        unload.parameters["version"].string_param = "10"
        await stub.RepositoryModelUnload(unload)
        index = await stub.RepositoryIndex(oi.RepositoryIndexRequest())
        states = {m.version: m.state for m in index.models if m.name == "colours"}
        assert states == {"2": "READY", "10": "UNAVAILABLE"}
        await stub.RepositoryModelLoad(load)
        assert (await stub.ModelReady(oi.ModelReadyRequest(name="colours", version="10"))).ready
        load.parameters["version"].string_param = "77"
        with pytest.raises(grpc.aio.AioRpcError, match="has no version"):
            await stub.RepositoryModelLoad(load)
        named = oi.RepositoryIndexRequest(repository_name="other")
        with pytest.raises(grpc.aio.AioRpcError, match="one repository"):
            await stub.RepositoryIndex(named)


def test_a_stopping_server_tells_its_watchers_and_finishes_what_it_took(repo: Path) -> None:
    with ExitStack() as stack:
        with grpc_served(repo) as address:
            channel = stack.enter_context(grpc.insecure_channel(address))
            watch = health_pb2_grpc.HealthStub(channel).Watch(ask(""), timeout=60)
            assert next(watch).status == SERVING
            slow = oi.ModelInferRequest(model_name="slow")
            slow.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(3)
            taken = oi.Stub(channel).ModelInfer.future(slow, timeout=60)
            statistics = oi.ModelStatisticsRequest(name="slow")
            oi.Stub(channel).ModelStatistics(statistics, timeout=60)  # the server has read what came before
        # It was told to stop, and ended by itself although somebody watched.
        assert [each.status for each in watch] == [NOT_SERVING]
        assert np.frombuffer(taken.result().raw_output_contents[0], np.float32) == 3


def test_reflection_describes_every_service(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == {
            oi.SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        pool = DescriptorPool(database)
        service = pool.FindServiceByName(oi.SERVICE)
        assert {method.name for method in service.methods} == set(oi.METHODS)
        assert (
            pool.FindMessageTypeByName("inference.ModelConfig").fields_by_name["max_batch_size"].number == 4
        )
        for name in database.get_services():
            assert pool.FindServiceByName(name).methods


def test_reflection_under_its_newer_name(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.ModelInferRequest")
        unknown = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.Nothing")
        found, not_found = list(call(iter([asked, unknown]), timeout=30))
        assert len(found.file_descriptor_response.file_descriptor_proto) == 1
        assert not_found.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
