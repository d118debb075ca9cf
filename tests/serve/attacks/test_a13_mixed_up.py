"""A13: a bad request harms nobody who runs in the same batch, and nobody gets another's answer."""

from __future__ import annotations

import random
import struct
from concurrent.futures import ThreadPoolExecutor

from ...colours import LABELS, picture
from .wire import Target, as_json, post, read

RAGGED = {"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [1] * 5}
NO_PICTURES = {"name": "image", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
BAD = [
    post("/predict/colours", picture("red")[:150]),
    post("/predict/colours", b"\x89PNG\r\n\x1a\n"),
    post("/predict/colours", picture("red", (1, 1))),
    post("/v2/models/sum/infer", b"{"),
    post("/v2/models/sum/infer", as_json({"inputs": [RAGGED]})),
    post("/v2/models/colours/infer", as_json({"inputs": [NO_PICTURES]})),
]


def test_everybody_gets_their_own_answer_with_bad_requests_among_them(target: Target) -> None:
    def client(seed: int) -> int:
        chance = random.Random(seed)
        asked = 0
        with target.connect() as sock:
            for _ in range(60):
                kind = chance.randrange(4)
                if kind == 0:
                    sock.sendall(chance.choice(BAD))
                    (reply,) = read(sock)
                    assert reply.status in (200, 400, 415), reply
                    if reply.headers.get("connection") == "close":
                        return asked
                elif kind == 1:
                    colour = chance.choice(LABELS)
                    sock.sendall(post("/predict/colours", picture(colour, (chance.randrange(8, 60), 20))))
                    (reply,) = read(sock)
                    assert reply.status == 200 and f'"label":"{colour}"'.encode() in reply.body[:90], reply
                else:
                    rows = chance.randrange(1, 6)
                    values = [float(chance.randrange(1000)) for _ in range(4 * rows)]
                    entry = {"name": "x", "datatype": "FP32", "shape": [rows, 4]}
                    text = as_json(
                        {"inputs": [entry | {"parameters": {"binary_data_size": 16 * rows}}],
                         "parameters": {"binary_data_output": True}}
                    )  # fmt: skip
                    body = text + struct.pack(f"<{4 * rows}f", *values)
                    name = chance.choice(["sum", "sum.net"])
                    sock.sendall(
                        post(f"/v2/models/{name}/infer", body, inference_header_content_length=len(text))
                    )
                    (reply,) = read(sock)
                    assert reply.status == 200, reply
                    right = [sum(values[4 * row : 4 * row + 4]) for row in range(rows)]
                    assert reply.body.endswith(struct.pack(f"<{rows}f", *right))
                asked += 1
        return asked

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(client, range(12))) > 500
