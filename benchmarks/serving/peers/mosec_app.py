"""mosec with its batching and a window of a millisecond (its least); the port is on its command line."""

import numpy as np
from common import MAX_BATCH, WORKERS, Network
from mosec import Server, Worker


class Predict(Worker):
    """Raw bytes in, raw bytes out."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def deserialize(self, data: bytes) -> np.ndarray:
        return self.network.parse(data)

    def forward(self, data: list) -> list:
        answer = self.network(np.concatenate(data))
        return [answer[row : row + 1] for row in range(len(data))]

    def serialize(self, data: np.ndarray) -> bytes:
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Predict, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=1, env=[{}] * WORKERS)
    server.run()
