"""gRPC reflection, v1 and v1alpha, of the services that are here: grpcurl and its like need no .proto file.

The two versions differ in name only, so the package's v1alpha answers for both (newer clients ask for v1
first).
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ...protos import open_inference

ALPHA = reflection.SERVICE_NAME
SERVICES = (ALPHA, ALPHA.replace("v1alpha", "v1"))
HEALTH = "grpc.health.v1.Health"


def described() -> Any:
    """A pool with the files of every service here."""
    pool = descriptor_pool.DescriptorPool()
    inference = open_inference.POOL.FindFileContainingSymbol(open_inference.SERVICE)
    for file in (inference, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool


def servicer() -> Any:
    """What answers ServerReflectionInfo: an asynchronous generator of replies."""
    return reflection.aio.ReflectionServicer((open_inference.SERVICE, HEALTH, ALPHA), pool=described())


def handler(work: Any) -> grpc.RpcMethodHandler:
    """`work(requests, context)` as the method ServerReflectionInfo of either version."""
    return grpc.stream_stream_rpc_method_handler(
        work,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
