"""Why torch does not export a network, in its author's terms: which operators and layers, what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .converter import first_line
from .frames import Array
from .torch_network import DYNAMO, OPSET, Network, evaluating, tensors

SHOWN = 5
TORCHS = ("aten", "prim", "prims", "quantized", "quantized_decomposed")


def explained(
    torch: Any, network: Network, exporter: str, feeds: Mapping[str, Array], problem: Exception
) -> tuple[str, str | None]:
    """What went wrong in a sentence, and what to do where that is known.

    Args:
        exporter: the one that failed; see `torch_network.exporters`.
        feeds: the batch that it was given.
        problem: what it raised.
    """
    said = first_line(problem)
    if exporter == DYNAMO and "No ONNX function" in said:
        try:
            missing = unsupported(torch, network, feeds)
        except Exception:  # noqa: BLE001  # torch's inner parts: without them the one operator is named
            missing = []
        if missing:
            shown = ", ".join(missing[:SHOWN]) + (" …" if len(missing) > SHOWN else "")
            return f"ONNX has no operator for {shown}", _advice([name.split(" ")[0] for name in missing])
    if found := re.search(r"op='(\w+)\.(\w+)'", said) or re.search(r"'?\b(\w+)::(\w+)'?", said):
        return said, _advice([f"{found[1]}.{found[2]}"])
    if "data-dependent" in said or "data dependent" in said:
        return said, "the network decides by values: write the `if` with torch.where, or torch.cond"
    return said, None


def unsupported(torch: Any, network: Network, feeds: Mapping[str, Array]) -> list[str]:
    """Every operator that the exporter has nothing for, with its layer: `aten.linalg_eig (body.1, Eig)`."""
    from torch.onnx._internal.exporter import _fx_passes, _registration

    program = network.exported
    if network.format != "pt2":
        with evaluating(network):
            program = torch.export.export(network.module, tensors(torch, network, list(feeds.values())))
    registry = _registration.ONNXRegistry().from_torchlib(OPSET)
    missing: list[str] = []
    for node in _fx_passes.decompose_with_registry(program, registry).graph.nodes:
        if node.op == "call_function" and not registry.is_registered(node.target):
            name = str(node.target).removesuffix(".default")
            layers = [layer for layer in (node.meta.get("nn_module_stack") or {}).values() if layer[0]]
            text = f"{name} ({layers[-1][0]}, {str(layers[-1][1]).rpartition('.')[2]})" if layers else name
            if text not in missing:
                missing.append(text)
    return missing


def _advice(operators: list[str]) -> str:
    own = [name for name in operators if name.split(".")[0] not in TORCHS]
    if own:
        return (
            f"{own[0]} is no operator of torch: compute it with torch's own in forward; or export the "
            "network yourself with torch.onnx.export(custom_translation_table=…) and pack the .onnx"
        )
    return (
        f"compute {operators[0]} with other operators, or after the network instead of in it; or export the "
        "network yourself and pack the .onnx file"
    )
