"""Asks a server as PAI-EAS's SDK does. Runs in a Python that has `eas-prediction`, which needs an older
protobuf than the rest of the tests: `python eas_client.py URL TOKEN`. Prints what came back as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
from eas_prediction import (
    OnnxRequest,
    PredictClient,
    PredictException,
    StringRequest,
    TFRequest,
    TorchRequest,
)
from eas_prediction.onnx_processor_data_helper import from_array, to_array

BATCH = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
SHAPE, VALUES = list(BATCH.shape), BATCH.ravel().tolist()


def client(url, token, service="colours", custom=""):
    made = PredictClient(url, service, custom_url=custom)
    made.set_token(token)
    made.set_retry_count(1)
    made.init()
    return made


def tensorflow(signature="serving_default", kind=TFRequest.DT_FLOAT, fetch=("logits",), name="x"):
    request = TFRequest(signature)
    request.add_feed(name, SHAPE, kind, VALUES)
    for output in fetch:
        request.add_fetch(output)
    return request


def torch(*fetch, kind=TorchRequest.DT_FLOAT):
    request = TorchRequest()
    request.add_feed(0, SHAPE, kind, VALUES)
    for output in fetch:
        request.add_fetch(output)
    return request


def refusal(asked, request):
    try:
        asked.predict(request)
    except PredictException as problem:
        return [problem.code, problem.message.decode()]
    return [200, ""]


def main(url, token, picture):
    sdk = client(url, token)
    found = {}
    image = Path(picture).read_bytes()
    found["picture"] = json.loads(sdk.predict(StringRequest(image)).response_data)
    reply = sdk.predict(tensorflow())
    found["tensorflow"] = [reply.get_tensor_shape("logits"), list(reply.get_values("logits"))]
    reply = sdk.predict(torch())
    found["torch"] = [reply.get_tensor_shape(0), list(reply.get_values(0))]
    reply = sdk.predict(torch(0))
    found["torch filtered"] = [reply.get_tensor_shape(0), list(reply.get_values(0))]
    by_name = TorchRequest()
    by_name.add_feed_map("x", SHAPE, TorchRequest.DT_FLOAT, VALUES)
    reply = sdk.predict(by_name)
    found["torch by name"] = [reply.get_tensor_shape_map("logits"), list(reply.get_values_map("logits"))]
    onnx = OnnxRequest()
    onnx.add_tensor(from_array(BATCH, "x"))
    reply = sdk.predict(onnx)
    array = to_array(reply.get_tensor(0))
    found["onnx"] = [list(array.shape), array.ravel().tolist(), reply.get_name(0)]
    version = client(url, token, "colours/2").predict(StringRequest(image))
    found["version"] = json.loads(version.response_data)["version"]
    direct = client("", token, "", url + "/api/predict/colours/")
    found["custom url"] = json.loads(direct.predict(StringRequest(image)).response_data)["answer"]
    found["refusals"] = {
        "wrong token": refusal(client(url, token + "x"), StringRequest(image)),
        "no service": refusal(client(url, token, "none"), StringRequest(image)),
        "no picture": refusal(sdk, StringRequest("hello")),
        "wrong type": refusal(sdk, tensorflow(kind=TFRequest.DT_DOUBLE)),
        "wrong input": refusal(sdk, tensorflow(name="y")),
        "wrong output": refusal(sdk, tensorflow(fetch=["z"])),
        "wrong signature": refusal(sdk, tensorflow("predict_images")),
        "wrong place": refusal(sdk, torch(7)),
        "no such output": refusal(sdk, torch(-1)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
