"""Accuracy of the shipped digits bundle through HTTP, on all 10,000 test images of MNIST.

    python benchmarks/digits_http.py --data DIR [--json]

Each image is sent as a PNG to /predict, so it is decoded and goes through the whole recipe, ink steps
included; beside it the bare network is given the pixels as it was in training. DIR holds
t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from rich.progress import track

import modelport
from modelport.cli.demo import DIGITS


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8[10000, 28, 28] and labels uint8[10000]."""
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
        labels, np.uint8, offset=8
    )


def through_http(images: np.ndarray) -> np.ndarray:
    """The best label of each image, asked of a server in its own process by 16 clients."""
    command = [sys.executable, "-m", "modelport", "serve", str(DIGITS), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(16) as pool:

            def ask(pixels: np.ndarray) -> int:
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                reply = client.post("/predict/digits", content=file.getvalue())
                reply.raise_for_status()
                return int(reply.json()["answer"][0]["label"])

            return np.array(list(track(pool.map(ask, images), "through HTTP", len(images))))
    finally:
        server.terminate()
        server.wait(30)


def bare_network(images: np.ndarray) -> np.ndarray:
    """The network alone, fed as in training: (pixel / 255 - 0.1307) / 0.3081."""
    with modelport.Pipeline.open(DIGITS) as pipeline:
        name = pipeline.bundle.manifest.graphs.net.signature.inputs[0].name
        batch = ((images[:, None].astype(np.float32) / 255) - np.float32(0.1307)) / np.float32(0.3081)
        (logits,) = pipeline.net({name: batch}).values()
        return np.asarray(logits.argmax(1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    images, labels = load(options.data)
    bare = float((bare_network(images) == labels).mean())
    http = float((through_http(images) == labels).mean())
    result = {"images": len(labels), "bare_network": bare, "through_http": http, "difference": http - bare}
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{len(labels)} images: bare network {bare:.2%}, whole bundle through HTTP {http:.2%}")


if __name__ == "__main__":
    main()
