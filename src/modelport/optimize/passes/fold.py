"""Pictures' four neighbouring pixels become channels, so that the first convolution fills its registers.

A convolution of stride 2 over 3 channels takes its inputs in pieces of 3 values; over the 12 channels of
SpaceToDepth they come in pieces of 12, and the kernel is half as wide. The numbers that are multiplied are
the same ones (YOLOv5 began with such a layer, called Focus).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..rewriting import drop_unused, makers, put_before, replace, settings_of

CHANNELS = 4
"""More than these fill the registers by themselves."""
BLOCK = 2
OPSET = 13
"""From here on SpaceToDepth takes 8-bit values."""
_EVEN = "_even"


def folded(network: onnx.ModelProto, kept: Collection[str] = ()) -> list[str]:
    """Fold every convolution that it is possible for, in place; what was done.

    Args:
        kept: the names of those to leave alone.
    """
    graph = network.graph
    if any(each.domain in ("", "ai.onnx") and each.version < OPSET for each in network.opset_import):
        return []
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input}
    said: list[str] = []
    for node in list(graph.node):
        if node.op_type != "Conv" or node.name in kept or node.input[1] not in weights:
            continue
        shape, kernel = sizes.get(node.input[0], []), weights[node.input[1]]
        if len(shape) != 4 or not 0 < shape[1] <= CHANNELS:
            continue
        made = _kernel(node, numpy_helper.to_array(kernel), shape[2:])
        if made is None:
            continue
        _put(graph, node, shape, made[0], made[1])
        was, now = ("x".join(map(str, dims[1:])) for dims in (kernel.dims, made[0].shape))
        said.append(f"{node.name or node.op_type}: a kernel of {was} at stride 2 is one of {now} at stride 1")
    drop_unused(network)
    return said


def quantized_first(network: onnx.ModelProto) -> None:
    """Pixels are rounded to 8 bits and then folded, in place: a quarter of the bytes are moved."""
    graph = network.graph
    made_by = makers(graph)
    for deep in [node for node in graph.node if node.op_type == "SpaceToDepth"]:
        users = [node for node in graph.node if deep.output[0] in node.input]
        if len(users) != 1 or users[0].op_type != "QuantizeLinear":
            continue
        rounds, first = users[0], deep
        even = made_by.get(deep.input[0])
        if even is not None and even.op_type == "Pad" and even.name == f"{deep.name}{_EVEN}":
            first = even
            even.input.append(rounds.input[2])  # its lines are zeros, in 8 bits as well
        flat, made = f"{rounds.output[0]}/flat", rounds.output[0]
        rounds.input[0], rounds.output[0] = first.input[0], flat
        first.input[0], deep.output[0] = flat, made
        graph.node.remove(rounds)
        put_before(graph, first, [rounds])
        for value in [value for value in graph.value_info if value.name in (*first.output, *deep.output)]:
            graph.value_info.remove(value)  # it says float


def moves(network: onnx.ModelProto) -> list[str]:
    """The names of the nodes that fold: they take what is rounded already."""
    deep = [node.name for node in network.graph.node if node.op_type == "SpaceToDepth"]
    return deep + [node.name for node in network.graph.node if node.name.removesuffix(_EVEN) in deep]


def _put(
    graph: onnx.GraphProto, node: onnx.NodeProto, shape: list[int], kernel: np.ndarray, pads: list[int]
) -> None:
    """SpaceToDepth and the new convolution in place of `node`; a picture of odd size gets one more line."""
    source = node.input[0]
    name = f"{node.name or node.output[0]}/folded"
    new = []
    odd = [size % BLOCK for size in shape[2:]]
    if any(odd):
        lines = np.array([0, 0, 0, 0, 0, 0, *odd], np.int64)
        graph.initializer.append(numpy_helper.from_array(lines, f"{name}_lines"))
        new.append(
            helper.make_node("Pad", [source, f"{name}_lines"], [f"{name}{_EVEN}"], name=f"{name}{_EVEN}")
        )
        source = f"{name}{_EVEN}"
    graph.initializer.append(numpy_helper.from_array(kernel, f"{name}_kernel"))
    new.append(helper.make_node("SpaceToDepth", [source], [name], name=name, blocksize=BLOCK))
    conv = helper.make_node(
        "Conv",
        [name, f"{name}_kernel", *node.input[2:]],
        list(node.output),
        name=node.name,
        kernel_shape=kernel.shape[2:],
        pads=pads,
        strides=[1, 1],
    )
    replace(graph, node, [*new, conv])


def _kernel(
    node: onnx.NodeProto, kernel: np.ndarray, sizes: list[int]
) -> tuple[np.ndarray, list[int]] | None:
    """The kernel over blocks of pixels, and its pads; None where there is none.

    Output i takes the pixels 2 i - p + u; zeros in front make p even, zeros behind the kernel's size.
    """
    settings = settings_of(node)
    plain = (
        list(settings.get("strides", [])) == [BLOCK, BLOCK]
        and all(each == 1 for each in settings.get("dilations", [1]))
        and settings.get("group", 1) == 1
        and settings.get("auto_pad", b"NOTSET") == b"NOTSET"
        and min(sizes) > 0
    )
    if not plain:
        return None
    pads = list(settings.get("pads", [0] * 4))
    begins, ends, grown = [], [], []
    for axis, size in enumerate(sizes):
        width, begin, end = kernel.shape[2 + axis], pads[axis], pads[2 + axis]
        count = (size + begin + end - width) // BLOCK + 1
        front = begin % BLOCK
        back = (width + front) % BLOCK
        blocks = (width + front + back) // BLOCK
        begins.append((begin + front) // BLOCK)
        ends.append(count - (size + 1) // BLOCK - begins[-1] + blocks - 1)
        grown.append((front, back))
    if min(ends) < 0:
        return None  # it leaves pixels out at the end
    full = np.pad(kernel, [(0, 0), (0, 0), *grown])
    outputs, channels, high, wide = full.shape
    apart = full.reshape(outputs, channels, high // BLOCK, BLOCK, wide // BLOCK, BLOCK)
    array = apart.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, -1, high // BLOCK, wide // BLOCK)
    return np.ascontiguousarray(array), [*begins, *ends]
