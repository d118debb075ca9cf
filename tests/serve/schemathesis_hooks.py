"""What schemathesis cannot guess: names that are served, bytes that are pictures, tensors that fit.

Loaded by `schemathesis run` (SCHEMATHESIS_HOOKS). A third of what it sends stays its own invention.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), (200, 30, 20)).save(file, "PNG")
    return file.getvalue()


PICTURE = picture()
ENCODED = base64.b64encode(PICTURE).decode()
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": [0.5] * 192}
BATCH = np.full((1, 3, 8, 8), 0.5, np.float32)
_NAMED = [TENSOR | {"data": None, "parameters": {"binary_data_size": 768}}]
FITTING: dict[str, tuple[Any, ...]] = {
    "/infer": (
        {"inputs": [TENSOR], "id": "7"},
        {"inputs": [TENSOR], "outputs": [{"name": "logits", "parameters": {"classification": 2}}]},
        {"inputs": [TENSOR], "parameters": {"binary_data_output": True}},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["no picture"]}]},
        {"inputs": _NAMED},
    ),
    ":predict": ({"instances": BATCH.tolist()}, {"inputs": {"x": BATCH.tolist()}}),
    ":classify": ({"examples": [{"image": {"b64": ENCODED}}]},),
    "/predict/": ({"image": ENCODED}, {"image": ENCODED, "parameters": {"score_threshold": 0.5}}),
    "/hf/": (
        {"inputs": ENCODED, "parameters": {"threshold": 0.5}},
        {"inputs": ENCODED},
        {"inputs": ENCODED, "parameters": {"top_k": 1}},
    ),
    "/models/": ({"inputs": ENCODED}, {"inputs": ENCODED, "parameters": {"function_to_apply": "none"}}),
}
"""By a part of the path, bodies that are right there; the first part that fits counts."""
UNLIKELY = ("Inference-Header-Content-Length", "X-Request-Timeout-Ms")

for kind in ("image/png", "image/jpeg"):
    schemathesis.openapi.media_type(kind, st.sampled_from([PICTURE, PICTURE[:40], b"", b"\xff\xd8\xff\xe0"]))


@schemathesis.hook
def flatmap_path_parameters(context: Any, parameters: dict[str, Any] | None) -> Any:
    tensors = context.operation.path.startswith(("/v1", "/v2")) and "classify" not in context.operation.path
    names = ("colours.net",) * 3 + ("colours",) if tensors else ("colours", "shapes") * 2 + ("colours.net",)
    known = {"name": names, "version": ("1", "2"), "number": (0, 1, 99), "label": ("stable",)}
    real = {name: st.sampled_from(known[name]) for name in parameters or () if name in known}
    served = st.fixed_dictionaries(real).map(lambda chosen: {**(parameters or {}), **chosen})
    return st.one_of(st.just(parameters), served, served)


@schemathesis.hook
def flatmap_body(context: Any, body: Any) -> Any:
    path = context.operation.path
    right = next((bodies for part, bodies in FITTING.items() if part in path), ())
    if not right or not isinstance(body, (dict, list)):
        return st.just(body)
    return st.one_of(st.just(body), *[st.sampled_from(right)] * 3)


@schemathesis.hook
def flatmap_headers(context: Any, headers: dict[str, Any] | None) -> Any:
    # A length that was made up fits no body, and a millisecond is often too short.
    rest = {name: value for name, value in (headers or {}).items() if name not in UNLIKELY}
    return st.one_of(st.just(headers), st.just(rest), st.just(rest))


@schemathesis.hook
def flatmap_query(context: Any, query: dict[str, Any] | None) -> Any:
    # The options are a detector's: `/predict` refuses them for a model that has none.
    return st.one_of(st.just(query), st.just({})) if "/predict/" in context.operation.path else st.just(query)
