"""A bundle whose right answers are obvious: it says which of red, green and blue a picture has most of.

And the real server in a process of its own, for everything that talks to it.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

LABELS = ["red", "green", "blue"]
RECIPE = """
task = "image-classification"
description = "Mean colour"
pre = [{ resize = { size = 8, kernel = "nearest" } }, { scale = { divide = 255 } }, { layout = "chw" }]
post = ["softmax", { top_k = 0 }, "labels"]
"""


def write_network(path: Path, *, sides: tuple[int | str, int | str] = (8, 8)) -> Path:
    """The mean over the pixels of each channel, times 20: logits [N, 3]."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *sides])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("scale", TensorProto.FLOAT, [1], [20.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def picture(colour: str, size: tuple[int, int] = (32, 24), kind: str = "PNG") -> bytes:
    """A picture of one colour, with a little of the others, as an encoded file."""
    pixels = np.full((*size, 3), 20, np.uint8)
    pixels[..., LABELS.index(colour)] = 230
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pack_colours(folder: Path, *, name: str = "colours", version: str = "1") -> Path:
    """Pack it into `folder`/repo with golden pictures, and return the repository."""
    import modelport

    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    for colour in LABELS:
        (photos / f"{colour}.png").write_bytes(picture(colour))
    (folder / "colours.toml").write_text(RECIPE)
    modelport.pack(
        write_network(folder / "colours.onnx"),
        out=folder / "repo",
        name=name,
        version=version,
        recipe=folder / "colours.toml",
        labels=LABELS,
        golden=photos,
    )
    return folder / "repo"


@contextmanager
def served(path: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`modelport serve PATH` on a free port of the loopback: its URL and process, ended at the end."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "modelport", "serve", str(path), "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line, f"the server ended with {server.wait(10)} before it was ready"
        yield json.loads(line)["url"], server
    finally:
        server.terminate()
        assert server.wait(timeout=60) is not None
        server.stdout.close()
