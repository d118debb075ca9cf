"""What the peers' server files share: the network, or the sleep in its place, and the bytes of the raw wire.

In the environment: MODEL (an ONNX file), PORT, WORKERS, and SLEEP ("seconds seconds-a-row") for the network
that only takes time.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import onnxruntime

PORT = int(os.environ["PORT"])
WORKERS = int(os.environ.get("WORKERS", "1"))
MAX_BATCH = 32
DEADLINE = float(os.environ.get("DEADLINE", "0"))
"""Seconds after which an answer is of no use, for servers that can be told; 0 for never."""


class Network:
    """One session with one thread; rows in, rows out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.environ["MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (taken,), (given,) = self.session.get_inputs(), self.session.get_outputs()
        self.name, self.shape = taken.name, tuple(taken.shape[1:])
        self.dtype = np.dtype(np.uint8 if taken.type == "tensor(uint8)" else np.float32)
        self.output, self.outputs = given.name, int(given.shape[1])
        self.sleep = [float(part) for part in os.environ.get("SLEEP", "").split()]
        self.device = threading.Lock()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[n, …] to float32 [n, outputs]."""
        if self.sleep:
            with self.device:  # one batch at a time, as an accelerator would
                time.sleep(self.sleep[0] + self.sleep[1] * len(rows))
            return np.zeros((len(rows), self.outputs), np.float32)
        return self.session.run(None, {self.name: rows})[0]

    def parse(self, body: bytes) -> np.ndarray:
        """The raw wire: one item's bytes, little-endian."""
        return np.frombuffer(body, self.dtype).reshape(-1, *self.shape)
