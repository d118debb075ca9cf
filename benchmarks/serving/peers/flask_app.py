"""Flask over ONNX Runtime by hand, under gunicorn: one request at a time in each worker, no batching."""

from common import Network
from flask import Flask, Response, request

app = Flask(__name__)
network = Network()


@app.post("/predict")
def predict() -> Response:
    """Raw bytes in, raw bytes out."""
    answer = network(network.parse(request.get_data()))
    return Response(answer.tobytes(), mimetype="application/octet-stream")
