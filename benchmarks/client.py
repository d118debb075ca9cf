"""Microseconds that clients of the Open Inference Protocol take for one infer call, by turns in one run.

    python benchmarks/client.py [--json] [--calls 256]

The server is a stand-in in its own process that answers every request at once with the same bytes, so what
is measured is the client and the loopback. `cpu` is the client's own processor time, `wall` the time that
one caller waits; both are the best of many short turns, since whatever else runs on the machine only adds.
The floor is a bare socket that sends prepared bytes and reads the reply, which no client can pass.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import numpy as np

TURNS = 30
SIZES = {"10 floats": (1, 10), "600 KB": (1, 3, 224, 224)}
MODEL = "tiny"
AT_ONCE = 64


def reply_bytes() -> bytes:
    """What the stand-in says: one float."""
    head = json.dumps(
        {
            "model_name": MODEL,
            "model_version": "1",
            "outputs": [
                {"name": "y", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}}
            ],
        },
        separators=(",", ":"),
    ).encode()
    lines = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + 4}\r\n\r\n"
    )
    return lines.encode() + head + np.float32(7).tobytes()


class StandIn(asyncio.Protocol):
    """Reads requests with llhttp and answers each."""

    answer = reply_bytes()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(self.answer)  # type: ignore[attr-defined]


def serve_http() -> None:
    """Serve until the parent ends this process; its port is the first line."""
    import uvloop

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(StandIn, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(run())


def serve_grpc() -> None:
    """The same over gRPC."""
    import grpc
    import grpc.aio

    from modelport.protos.open_inference import SERVICE, ModelInferRequest, ModelInferResponse

    answer = ModelInferResponse(model_name=MODEL, model_version="1")
    answer.outputs.add(name="y", datatype="FP32", shape=[1, 1])
    answer.raw_output_contents.append(np.float32(7).tobytes())

    async def infer(request: Any, context: Any) -> Any:
        return answer

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        handler = grpc.unary_unary_rpc_method_handler(
            infer, ModelInferRequest.FromString, ModelInferResponse.SerializeToString
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),)
        )
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


def floor(port: int, array: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """A bare socket with everything prepared."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = array.tobytes()
    request = (
        f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    size = len(StandIn.answer)

    def call() -> None:
        sock.sendall(request)
        assert len(sock.recv(65536)) == size

    return call


def modelport_client(url: str, array: np.ndarray[Any, Any]) -> Callable[[], Any]:
    from modelport.client import Client

    client = Client(url)
    return lambda: client.infer(MODEL, {"x": array})["y"]


def triton_http(port: int, array: np.ndarray[Any, Any]) -> Callable[[], Any]:
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{port}")

    def call() -> Any:
        tensor = triton.InferInput("x", list(array.shape), "FP32").set_data_from_numpy(array)
        return client.infer(MODEL, [tensor]).as_numpy("y")

    return call


def triton_grpc(port: int, array: np.ndarray[Any, Any]) -> Callable[[], Any]:
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{port}")

    def call() -> Any:
        tensor = triton.InferInput("x", list(array.shape), "FP32").set_data_from_numpy(array)
        return client.infer(MODEL, [tensor]).as_numpy("y")

    return call


def httpx_client(port: int, array: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """The same bytes through httpx, with the parsing that any client does."""
    import httpx

    client = httpx.Client()

    def call() -> Any:
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": list(array.shape),
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": array.nbytes},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        reply = client.post(
            f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer",
            content=head + array.tobytes(),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
        end = int(reply.headers["Inference-Header-Content-Length"])
        json.loads(reply.content[:end])
        return np.frombuffer(reply.content[end:], np.float32)

    return call


async def together(call: Callable[[], Awaitable[Any]], calls: int) -> tuple[float, float]:
    """Seconds of processor and of clock for each call, `AT_ONCE` of them at a time."""

    each = max(4, calls // 16)

    async def worker(number: int) -> None:
        for _ in range(number):
            await call()

    await asyncio.gather(*(worker(2) for _ in range(AT_ONCE)))  # every connection is open by now
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker(each) for _ in range(AT_ONCE)))
    done = each * AT_ONCE
    return (time.process_time() - cpu) / done, (time.perf_counter() - began) / done


async def modelport_async(url: str, array: np.ndarray[Any, Any], calls: int) -> tuple[float, float]:
    from modelport.client import AsyncClient

    async with AsyncClient(url) as client:
        return await together(lambda: client.infer(MODEL, {"x": array}), calls)


async def triton_async(port: int, array: np.ndarray[Any, Any], calls: int) -> tuple[float, float]:
    import tritonclient.http.aio as triton

    async with triton.InferenceServerClient(f"127.0.0.1:{port}", conn_limit=AT_ONCE) as client:

        def call() -> Awaitable[Any]:
            tensor = triton.InferInput("x", list(array.shape), "FP32").set_data_from_numpy(array)
            result: Awaitable[Any] = client.infer(MODEL, [tensor])
            return result

        return await together(call, calls)


def alone(call: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Seconds of processor and of clock for each call, one after the other."""
    for _ in range(20):
        call()
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - cpu) / calls, (time.perf_counter() - began) / calls


def measure(http: int, grpc: int, calls: int) -> dict[str, dict[str, tuple[float, float]]]:
    """For each size and client the best turn's processor and clock, in microseconds."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for size, shape in SIZES.items():
        array = np.random.default_rng(1).random(shape).astype(np.float32)
        some = calls if array.nbytes < 1000 else max(64, calls // 4)
        callers = {
            "bare socket, prepared bytes": floor(http, array),
            "modelport.Client": modelport_client(f"http://127.0.0.1:{http}", array),
            "tritonclient.http": triton_http(http, array),
            "httpx, by hand": httpx_client(http, array),
            "modelport.Client, grpc://": modelport_client(f"grpc://127.0.0.1:{grpc}", array),
            "tritonclient.grpc": triton_grpc(grpc, array),
        }
        turns: dict[str, list[tuple[float, float]]] = {}
        for _ in range(TURNS):
            for name, call in callers.items():
                turns.setdefault(name, []).append(alone(call, some))
            name = f"modelport.AsyncClient, {AT_ONCE} at once"
            ours = asyncio.run(modelport_async(f"http://127.0.0.1:{http}", array, some))
            turns.setdefault(name, []).append(ours)
            name = f"tritonclient.http.aio, {AT_ONCE} at once"
            turns.setdefault(name, []).append(asyncio.run(triton_async(http, array, some)))
        found[size] = {
            name: (
                min(cpu for cpu, _ in values) * 1e6,
                min(wall for _, wall in values) * 1e6,
            )
            for name, values in turns.items()
        }
    return found


def main() -> None:
    """Measure, by turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=256, help="in each turn")
    parser.add_argument("--serve", choices=["http", "grpc"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve_http() if options.serve == "http" else serve_grpc()
    servers = [
        subprocess.Popen([sys.executable, __file__, "--serve", kind], stdout=subprocess.PIPE, text=True)
        for kind in ("http", "grpc")
    ]
    try:
        ports = [int(server.stdout.readline()) for server in servers if server.stdout]
        found = measure(ports[0], ports[1], options.calls)
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)
    if options.json:
        print(json.dumps(found))
        return None
    for size, rows in found.items():
        print(f"{size:42} {'cpu us':>8} {'wall us':>8}")
        for name, (cpu, wall) in rows.items():
            print(f"  {name:40} {cpu:8.1f} {wall:8.1f}")
    return None


if __name__ == "__main__":
    main()
