"""Asks a server as KServe's own clients do. Runs in a Python that has `kserve`, which brings a FastAPI and a
protobuf of its own: `python kserve_client.py URL GRPC_ADDRESS`. Prints what came back as JSON.
"""

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

BATCH = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)


def request(model="colours.net", *, binary=True, outputs=None):
    tensor = InferInput("x", list(BATCH.shape), "FP32")
    tensor.set_data_from_numpy(BATCH, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_outputs=outputs)


def values(reply):
    return reply.outputs[0].as_numpy().tolist()


async def over_grpc(address):
    client = InferenceGRPCClient(url=address)
    found = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model": await client.is_model_ready("colours"),
        "raw": values(await client.infer(request())),
        "typed": values(await client.infer(request(binary=False))),
    }
    try:
        await client.infer(request("none"))
    except grpc.aio.AioRpcError as problem:
        found["refused"] = problem.code().name
    await client.close()
    return found


async def over_http(url):
    client, model = InferenceRESTClient(RESTConfig(protocol="v2")), "colours.net"
    wanted = [RequestedOutput("logits", {"binary_data": True})]
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model": await client.is_model_ready(url, "colours"),
        "json": values(await client.infer(url, request(binary=False), model_name=model)),
        "binary": values(await client.infer(url, request(), model_name=model)),
        "all binary": values(await client.infer(url, request(outputs=wanted), model_name=model)),
    }


async def over_v1(url):
    """KServe's older protocol is TensorFlow Serving's."""
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    reply = await client.infer(url, {"instances": BATCH.tolist()}, model_name="colours.net")
    return reply["predictions"]


async def main(url, address):
    found = {"grpc": await over_grpc(address), "http": await over_http(url), "v1": await over_v1(url)}
    print(json.dumps(found))


asyncio.run(main(*sys.argv[1:]))
