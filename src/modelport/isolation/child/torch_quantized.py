"""Linear layers that torch quantises while they run (`quantized::linear_dynamic`), for torch's ONNX exporter.

The exporter knows no such operator, and their weights are packed objects. Here each becomes an operator of
ours with the weights as tensors, and that one becomes ONNX with the arithmetic of torch: the least and the
greatest value of the whole input settle a scale and a zero point, the values become whole numbers of 8 bits,
and those are multiplied with the weights', exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NAME = "quantized::linear_dynamic"
OWN = "modelport::linear_dynamic"
SMALLEST_SCALE = 6.1e-5
"""Below it torch takes another way, which networks that are trained do not meet."""


def has_dynamic_layers(module: Any) -> bool:
    """Whether a script module has such layers."""
    return any(node.kind() == NAME for node in _nodes(module.inlined_graph))


def unpacked(torch: Any, module: Any) -> Any:
    """The script module with its packed layers replaced; for the exporter only. `module` is changed."""
    _register(torch)
    if hasattr(module, "training"):
        module = torch.jit.freeze(module.eval())
    graph = module.graph
    torch._C._jit_pass_inline(graph)
    for node in [node for node in _nodes(graph) if node.kind() == NAME]:
        values, packed, narrow = list(node.inputs())
        weight, bias = torch.ops.quantized.linear_unpack(packed.toIValue())
        if weight.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
            scale, zero = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
        else:
            scale = torch.tensor([weight.q_scale()])
            zero = torch.tensor([weight.q_zero_point()])
        whole = weight.int_repr().to(torch.int32) - zero.to(torch.int32).reshape(-1, 1)
        bias = torch.zeros(weight.shape[0]) if bias is None else bias.detach()
        graph.setInsertPoint(node)
        held = [
            graph.insertConstant(each.contiguous())
            for each in (whole.t(), scale.to(torch.float32).reshape(-1), bias.to(torch.float32))
        ]
        made = graph.create(OWN, [values, *held, narrow], 1)
        made.insertBefore(node)
        made.output().setType(node.output().type())
        node.output().replaceAllUsesWith(made.output())
        node.destroy()
    torch._C._jit_pass_dce(graph)
    return module


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


_kept: list[Any] = []


def _register(torch: Any) -> None:
    if _kept:
        return
    library = torch.library.Library("modelport", "DEF")
    library.define("linear_dynamic(Tensor x, Tensor w, Tensor scale, Tensor bias, bool narrow) -> Tensor")
    library.impl("linear_dynamic", lambda x, w, scale, bias, narrow: x @ (w * scale) + bias, "CPU")
    _kept.append(library)  # an operator ends with its library
    torch.onnx.register_custom_op_symbolic(OWN, _symbolic, 9)


def _symbolic(g: Any, x: Any, whole: Any, scale: Any, bias: Any, narrow: Any) -> Any:
    """x float32[…, in] by whole int32[in, out], as ONNX."""
    import torch

    def double(value: float) -> Any:
        return g.op("Constant", value_t=torch.tensor(value, dtype=torch.float64))

    def cast(value: Any, to: int) -> Any:
        return g.op("Cast", value, to_i=to)

    float32, float64, uint8 = 1, 11, 2
    most = 127.0 if int(narrow.node().t("value")) else 255.0
    low = g.op("Min", cast(g.op("ReduceMin", x, keepdims_i=0), float64), double(0.0))
    high = g.op("Max", cast(g.op("ReduceMax", x, keepdims_i=0), float64), double(0.0))
    step = cast(g.op("Div", g.op("Sub", high, low), double(most)), float32)
    zero = g.op("Round", g.op("Neg", g.op("Div", low, cast(step, float64))))
    zero = cast(g.op("Min", zero, double(most)), float32)
    rounded = g.op("Round", g.op("Mul", x, g.op("Reciprocal", step)))
    bottom, top = (g.op("Constant", value_t=torch.tensor(value)) for value in (0.0, most))
    small = cast(g.op("Min", g.op("Max", g.op("Add", rounded, zero), bottom), top), uint8)
    held = g.op("Constant", value_t=whole.node().t("value").to(torch.int8)) if _fits(whole) else None
    if held is not None:
        sums = cast(g.op("MatMulInteger", small, held, cast(zero, uint8)), float32)
    else:
        sums = g.op("MatMul", cast(g.op("Sub", cast(small, float32), zero), float64), cast(whole, float64))
        sums = cast(sums, float32)
    return g.op("Add", g.op("Mul", sums, g.op("Mul", step, scale)), bias)


def _fits(whole: Any) -> bool:
    values = whole.node().t("value")
    return bool(values.min() >= -128 and values.max() <= 127)
