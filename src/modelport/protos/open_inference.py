"""The Open Inference Protocol's gRPC messages and methods (open_inference.proto), as Python classes.

The classes are built when this module is imported, from the compiled description in open_inference.binpb,
instead of by code that protoc generates, for two reasons:

- generated code refuses every protobuf runtime older than the protoc that made it and is only promised to
  work with the next major version; a description is data, which every runtime of the last years reads
  (protobuf 4.22 to 7 here);
- generated code registers its messages in the process-wide pool, where a second library that brings the
  same protocol (tritonclient, kserve) fails to import. These have a pool of their own.

The types that a type checker sees are in open_inference.pyi. Knows nothing of grpc: `stub` takes any object
with a channel's methods.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
except ModuleNotFoundError as problem:  # pragma: no cover: the tests have it
    from ..errors import Unsupported

    raise Unsupported("gRPC needs `protobuf`", hint="pip install 'modelport[grpc]'") from problem

SERVICE = "inference.GRPCInferenceService"

POOL = descriptor_pool.DescriptorPool()


class Method(NamedTuple):
    """One method of the service: how it is called, and with what."""

    name: str
    path: str
    request: Any
    response: Any
    streams: bool
    """Both ways; no method streams one way only."""


class Stub:
    """The service's methods as callables on a channel of grpc or grpc.aio."""

    def __init__(self, channel: Any) -> None:
        for method in METHODS.values():
            kind = channel.stream_stream if method.streams else channel.unary_unary
            call = kind(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            setattr(self, method.name, call)


def _build() -> dict[str, Method]:
    """Put every top-level message and enumeration into this module; return the methods by name."""
    data = files(__package__).joinpath("open_inference.binpb").read_bytes()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(data).file
    POOL.AddSerializedFile(file.SerializeToString())

    def message(full: str) -> Any:
        return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full))

    for described in file.message_type:
        globals()[described.name] = message(f"{file.package}.{described.name}")
    for enum in file.enum_type:
        globals()[enum.name] = EnumTypeWrapper(POOL.FindEnumTypeByName(f"{file.package}.{enum.name}"))
    return {
        method.name: Method(
            method.name,
            f"/{SERVICE}/{method.name}",
            message(method.input_type.lstrip(".")),
            message(method.output_type.lstrip(".")),
            method.client_streaming and method.server_streaming,
        )
        for method in file.service[0].method
    }


METHODS = _build()
