"""Triton's Python backend: requests that Triton has put together are run as one batch."""

import numpy as np
import triton_python_backend_utils as triton
from common import Network


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict) -> None:
        self.network = Network()

    def execute(self, requests: list) -> list:
        rows = [
            triton.get_input_tensor_by_name(request, self.network.name).as_numpy() for request in requests
        ]
        answer = self.network(np.concatenate(rows))
        replies, start = [], 0
        for part in rows:
            end = start + len(part)
            tensor = triton.Tensor(self.network.output, answer[start:end])
            replies.append(triton.InferenceResponse([tensor]))
            start = end
        return replies
