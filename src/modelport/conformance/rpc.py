"""The protocol over gRPC: calls, what they answered, and answers read strictly.

gRPC and protobuf are loaded when a server's gRPC address is given, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import Unsupported
from .tensors import DATATYPES, Array, from_bytes, texts, to_bytes
from .verdict import NotOffered, Wrong, expect

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which field of InferTensorContents holds a datatype; FP16 has none."""
_OURS = frozenset(["INTERNAL", "UNKNOWN", "DATA_LOSS"])
"""Codes that say that the server is at fault."""


class Refusal(Exception):
    """A call that ended with another status than OK."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code} {details[:100]}".strip())
        self.code = code
        self.details = details


class Rpc:
    """A server's gRPC side.

    Args:
        address: HOST:PORT. timeout: seconds for a call. metadata: sent with every call.

    Raises:
        Unsupported: grpcio or protobuf is not installed.
    """

    def __init__(self, address: str, timeout: float, metadata: Mapping[str, str]) -> None:
        try:
            import grpc

            from ..protos import open_inference
        except ModuleNotFoundError as problem:
            raise Unsupported("checks of gRPC need grpcio", hint="pip install 'modelport[grpc]'") from problem
        self.messages: Any = open_inference
        self._grpc: Any = grpc
        self._timeout = timeout
        self._metadata = [(name.lower(), value) for name, value in metadata.items()]
        limit = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
        self._channel = grpc.insecure_channel(address.rpartition("://")[2], options=limit)

    def close(self) -> None:
        """Let the connection go."""
        self._channel.close()

    def call(self, method: str, message: Any = None, **fields: Any) -> Any:
        """Call a method with a message, or with one of these fields.

        Raises:
            Refusal: a status other than OK.
        """
        known = self.messages.METHODS[method]
        data = (message or known.request(**fields)).SerializeToString()
        return known.response.FromString(self.send(known.path, data))

    def send(self, path: str, data: bytes) -> bytes:
        """Call any path with any bytes.

        Raises:
            Refusal: a status other than OK.
        """
        call = self._channel.unary_unary(path)
        try:
            answer: bytes = call(data, timeout=self._timeout, metadata=self._metadata)
        except self._grpc.RpcError as problem:
            raise Refusal(problem.code().name, problem.details() or "") from problem
        return answer

    def stream(self, messages: list[Any]) -> list[Any]:
        """Every answer of one ModelStreamInfer call.

        Raises:
            Refusal: a status other than OK.
        """
        stub = self.messages.Stub(self._channel)
        try:
            return list(stub.ModelStreamInfer(iter(messages), timeout=self._timeout, metadata=self._metadata))
        except self._grpc.RpcError as problem:
            raise Refusal(problem.code().name, problem.details() or "") from problem

    def infer_request(
        self, model: Any, values: Mapping[str, Array], *, raw: bool = True, **fields: Any
    ) -> Any:
        """A ModelInferRequest, with raw or with typed contents."""
        message = self.messages.ModelInferRequest(model_name=model.name, **fields)
        kinds = {tensor.name: tensor.datatype for tensor in model.inputs}
        for name, array in values.items():
            tensor = message.inputs.add(name=name, datatype=kinds[name], shape=array.shape)
            if raw:
                message.raw_input_contents.append(to_bytes(array))
            else:
                getattr(tensor.contents, CONTENTS[kinds[name]]).extend(array.ravel().tolist())
        return message


def worked(call: Any, *arguments: Any, **fields: Any) -> Any:
    """The answer of a call that has to be OK.

    Raises:
        Wrong: it was not.
    """
    try:
        return call(*arguments, **fields)
    except Refusal as problem:
        raise Wrong(f"expected OK, got {problem}") from problem


def offered(call: Any, *arguments: Any, **fields: Any) -> Any:
    """The same for a method of an extension.

    Raises:
        NotOffered: UNIMPLEMENTED. Wrong: another status than OK.
    """
    try:
        return call(*arguments, **fields)
    except Refusal as problem:
        if problem.code == "UNIMPLEMENTED":
            raise NotOffered("UNIMPLEMENTED") from problem
        raise Wrong(f"expected OK, got {problem}") from problem


def refused_call(what: str, call: Any, *arguments: Any, **fields: Any) -> None:
    """Hold a call to being refused, and (a "should") to being told as the caller's fault.

    Raises:
        Wrong: OK, no answer, or a status that blames the server.
    """
    try:
        call(*arguments, **fields)
    except Refusal as problem:
        lost = problem.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
        expect(not lost, f"{what}: {problem}")
        expect(problem.code not in _OURS, f"{what}: {problem} blames the server for it", should=True)
        return
    raise Wrong(f"{what} was answered with OK")


def read_outputs(response: Any) -> dict[str, Array]:
    """The outputs of a ModelInferResponse, raw or typed.

    Raises:
        Wrong: sizes that do not fit, both forms at once, or an unknown datatype.
    """
    raw = list(response.raw_output_contents)
    expect(
        not raw or len(raw) == len(response.outputs), f"{len(raw)} raw contents for {len(response.outputs)}"
    )
    found: dict[str, Array] = {}
    for index, output in enumerate(response.outputs):
        shape = list(output.shape)
        expect(output.datatype in DATATYPES, f"output {output.name!r} is {output.datatype!r}")
        if raw:
            found[output.name] = from_bytes(raw[index], output.datatype, shape)
            continue
        expect(output.datatype in CONTENTS, f"{output.datatype} has no typed contents")
        items = list(getattr(output.contents, CONTENTS[output.datatype]))
        expect(len(items) == int(np.prod(shape)), f"{output.datatype}{shape} came with {len(items)} elements")
        array = (
            texts(items, shape) if output.datatype == "BYTES" else np.array(items, DATATYPES[output.datatype])
        )
        found[output.name] = array.reshape(shape)
    expect(bool(found), "no outputs")
    return found
