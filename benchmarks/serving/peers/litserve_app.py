"""LitServe with its batching, its fast queue and a window of a millisecond."""

from typing import Annotated

import litserve
import numpy as np
from common import DEADLINE, MAX_BATCH, PORT, WORKERS, Network
from fastapi import Body, Response

OCTETS = "application/octet-stream"


class Api(litserve.LitAPI):
    """Raw bytes in, raw bytes out."""

    def setup(self, device: str) -> None:
        self.network = Network()

    def decode_request(self, request: Annotated[bytes, Body(media_type=OCTETS)]) -> np.ndarray:
        return self.network.parse(request)

    def batch(self, inputs: list) -> np.ndarray:
        return np.concatenate(inputs)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.network(rows)

    def unbatch(self, output: np.ndarray) -> list:
        return [output[row : row + 1] for row in range(len(output))]

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(output.tobytes(), media_type=OCTETS)


if __name__ == "__main__":
    litserve.LitServer(
        Api(max_batch_size=MAX_BATCH, batch_timeout=0.001),
        accelerator="cpu",
        devices=1,
        workers_per_device=WORKERS,
        timeout=DEADLINE or 30,
        fast_queue=True,
    ).run(
        port=PORT,
        num_api_servers=WORKERS,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
