"""MLServer's custom runtime over ONNX Runtime."""

from common import Network
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    """One input, one output."""

    async def load(self) -> bool:
        self.network = Network()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(self.network.dtype)
        answer = NumpyCodec.encode_output(self.network.output, self.network(rows))
        return InferenceResponse(model_name=self.name, outputs=[answer])
