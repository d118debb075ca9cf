"""Triton's Python backend over `models.compute`."""

import json
import sys

import triton_python_backend_utils as triton

sys.path.insert(0, "@HERE@")
import models


class TritonPythonModel:
    """One instance; requests are answered one by one."""

    def initialize(self, args: dict) -> None:
        self.name = json.loads(args["model_config"])["name"]

    def execute(self, requests: list) -> list:
        replies = []
        for request in requests:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            wanted = request.requested_output_names()
            outputs = models.compute(self.name, inputs)
            tensors = [triton.Tensor(name, array) for name, array in outputs.items() if name in wanted]
            replies.append(triton.InferenceResponse(tensors))
        return replies
