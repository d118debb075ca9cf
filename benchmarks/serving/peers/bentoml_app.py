"""BentoML with its adaptive batching, over JSON: its binary input is a file, which it does not batch."""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from common import DEADLINE, MAX_BATCH, WORKERS, Network

_shape_of = Network()
Rows = Annotated[np.ndarray, DType(_shape_of.dtype.name), Shape((-1, *_shape_of.shape))]


@bentoml.service(
    workers=WORKERS,
    traffic={"timeout": 60, "max_concurrency": 1000},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Service:
    """Nested lists in, nested lists out."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(
        batchable=True,
        max_batch_size=MAX_BATCH,
        max_latency_ms=round(DEADLINE * 1000) or 1000,
        route="/predict",
    )
    def predict(self, x: Rows) -> np.ndarray:
        return self.network(np.asarray(x, dtype=_shape_of.dtype))
