"""KServe's Python server without batching, which in a cluster an agent beside it does."""

from functools import cached_property

from common import PORT, WORKERS, Network
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Served(Model):
    """One input, one output."""

    @cached_property
    def network(self) -> Network:
        """Loaded where it is first used: the server sends the model itself to its processes."""
        return Network()

    def load(self) -> bool:
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers: dict | None = None) -> InferResponse:
        answer = self.network(payload.inputs[0].as_numpy())
        output = InferOutput(self.network.output, list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=True)
        return InferResponse(payload.id or "none", self.name, [output])


if __name__ == "__main__":
    model = Served("network")
    model.load()
    server = ModelServer(http_port=PORT, workers=WORKERS, enable_grpc=False, enable_latency_logging=False)
    server.start([model])
