"""Bundles that take tensors and whose right answers anybody can work out."""

from __future__ import annotations

from pathlib import Path

from onnx import parser

import modelport

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
NETWORKS = {
    "pair": "g (float[N, 3] a, float[N, 3] b) => (float[N, 3] total, float[N, 3] difference) "
    "{ total = Add(a, b) difference = Sub(a, b) }",
    "sum": "g (float[N, 3] a, float[N, 3] b) => (float[N] total) "
    "<int64[1] axis = {1}> { both = Add(a, b) total = ReduceSum<keepdims=0>(both, axis) }",
    "echo": "g (string[N, 2] said) => (string[N, 2] text, string[N, 2] text_bytes) "
    "{ text = Identity(said) text_bytes = Identity(said) }",
    "row": "g (float[N, 3] x) => (float[N, 3] twice) { twice = Add(x, x) }",
}


def pack_tensor_models(folder: Path, *names: str) -> Path:
    """Pack those of NETWORKS (all, by default) into `folder`/repo, and return the repository."""
    for name in names or NETWORKS:
        network = parser.parse_model(HEAD + NETWORKS[name])
        modelport.pack(network, out=folder / "repo", name=name, recipe="raw")
    return folder / "repo"
