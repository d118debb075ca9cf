"""FastAPI over ONNX Runtime by hand: a plain `def`, so each request has a thread, and no batching."""

from common import Network
from fastapi import Body, FastAPI, Response

app = FastAPI()
network = Network()
OCTETS = "application/octet-stream"


@app.post("/predict")
def predict(body: bytes = Body(media_type=OCTETS)) -> Response:
    """Raw bytes in, raw bytes out."""
    return Response(network(network.parse(body)).tobytes(), media_type=OCTETS)
