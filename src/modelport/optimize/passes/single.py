"""The network with one layer alone in 8 bits, all else in float: what that layer's rounding does."""

from __future__ import annotations

import onnx
from onnx import NodeProto, helper

from ..rewriting import copied, makers, put_before
from ..tail import LAYERS


def only(network: onnx.ModelProto, quantized: onnx.ModelProto, layer: str) -> onnx.ModelProto | None:
    """`network` with the layer computed from what `quantized` gives it; None where it does not quantize it.

    Args:
        network: in float, as `StaticInt8.ready` gives it; nodes named as in `quantized`.
        quantized: the same network in QDQ form.
        layer: a node's name.
    """
    node = next((each for each in quantized.graph.node if each.name == layer), None)
    own = copied(network)
    target = next((each for each in own.graph.node if each.name == layer), None)
    if node is None or target is None or node.op_type not in LAYERS:
        return None
    made_by = makers(quantized.graph)
    weights = {tensor.name: tensor for tensor in quantized.graph.initializer}
    here = {tensor.name for tensor in own.graph.initializer}
    added: list[NodeProto] = []
    for place, (name, plain) in enumerate(zip(node.input, list(target.input), strict=True)):
        back = made_by.get(name)
        if back is None or back.op_type != "DequantizeLinear":
            continue
        there = made_by.get(back.input[0])
        while there is not None and there.op_type in ("SpaceToDepth", "Pad"):
            there = made_by.get(there.input[0])  # of what is folded after it was rounded
        value = f"{layer}/quantized_{place}"
        if there is not None and there.op_type == "QuantizeLinear":
            added.append(helper.make_node("QuantizeLinear", [plain, *there.input[1:]], [value]))
            added[-1].attribute.extend(there.attribute)
            constants = {*there.input[1:], *back.input[1:]}
        else:
            value, constants = back.input[0], set(back.input)
        added.append(
            helper.make_node("DequantizeLinear", [value, *back.input[1:]], [f"{value}/float_{place}"])
        )
        added[-1].attribute.extend(back.attribute)
        target.input[place] = f"{value}/float_{place}"
        for each in sorted(constants & weights.keys() - here):
            own.graph.initializer.append(weights[each])
            here.add(each)
    if not added:
        return None
    put_before(own.graph, target, added)
    for own_set in own.opset_import:
        if own_set.domain == "":
            own_set.version = next(each.version for each in quantized.opset_import if each.domain == "")
    return own
