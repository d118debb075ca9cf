"""Caffe's layers that look at neighbours: convolutions, pooling, normalisation over places, resizing."""

from __future__ import annotations

from .caffe_layer import Convert, Layer
from .onnx_graph import OnnxGraph, Value
from .prototxt import Message

Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, Pair, int, int]
"""Kernel, padding, stride, dilation, outputs and groups."""


def _pair(layer: Layer, settings: Message, name: str, default: int | None, sides: str = "") -> Pair:
    """A setting of height and width: `NAME_h` and `NAME_w`, or `NAME` (or `sides`) once or twice."""
    high, wide = settings.integers(f"{name}_h")[-1:], settings.integers(f"{name}_w")[-1:]
    both = settings.integers(sides or name)
    if high and wide:
        found = (high[0], wide[0])
    elif both:
        if len(both) > 2:
            raise layer.refuse(f"{name} has {len(both)} sides; only two are converted")
        found = (both[0], both[-1])
    elif default is not None and not high and not wide:
        found = (default, default)
    else:
        raise layer.wrong(f"does not state its {sides or name}")
    least = 0 if name == "pad" else 1
    if min(found) < least or max(found) > 1 << 16:
        raise layer.wrong(f"{name} is {found[0]} x {found[1]}")
    return found


def convolution(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Convolution, also with groups and holes."""
    settings = layer.settings.message("convolution_param")
    if settings.integer("axis", 1) != 1:
        raise layer.refuse("axis is not 1")
    made = []
    for bottom in bottoms:
        channels, height, width = layer.picture(bottom)
        kernel, pad, stride, hole, count, groups = window = _window(layer, settings, channels)
        shape = (1, count, *_slid((height, width), kernel, pad, stride, hole))
        if min(shape) < 1:
            raise layer.wrong(f"its window is larger than the {height} x {width} places that it gets")
        sizes = (count, channels // groups, *kernel)
        made.append(Value(_swept(graph, "Conv", layer, bottom, settings, sizes, window), shape))
    return made


def deconvolution(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Transposed convolution."""
    settings = layer.settings.message("convolution_param")
    bottom = bottoms[0]
    channels, height, width = layer.picture(bottom)
    kernel, pad, stride, hole, count, groups = window = _window(layer, settings, channels)
    sides = [
        stride[axis] * (side - 1) + hole[axis] * (kernel[axis] - 1) + 1 - 2 * pad[axis]
        for axis, side in enumerate((height, width))
    ]
    if min(sides) < 1:
        raise layer.wrong("its padding leaves nothing over")
    sizes = (channels, count // groups, *kernel)
    name = _swept(graph, "ConvTranspose", layer, bottom, settings, sizes, window)
    return [Value(name, (1, count, sides[0], sides[1]))]


def _swept(
    graph: OnnxGraph,
    operator: str,
    layer: Layer,
    bottom: Value,
    settings: Message,
    sizes: tuple[int, ...],
    window: Window,
) -> str:
    """The layer's weights of `sizes`, and its bias, swept over a picture by an operator."""
    kernel, pad, stride, hole, count, groups = window
    weights = [graph.weight(layer.weights(0, *sizes))]
    if settings.flag("bias_term", True):
        weights.append(graph.weight(layer.weights(1, count)))
    return graph.op(
        operator,
        graph.name_of(bottom),
        *weights,
        kernel_shape=kernel,
        pads=(*pad, *pad),
        strides=stride,
        dilations=hole,
        group=groups,
    )


def _window(layer: Layer, settings: Message, channels: int) -> Window:
    """Kernel, padding, stride, dilation, outputs and groups."""
    kernel = _pair(layer, settings, "kernel", None, "kernel_size")
    pad, stride = _pair(layer, settings, "pad", 0), _pair(layer, settings, "stride", 1)
    hole = _pair(layer, settings, "dilation", 1)
    count, groups = settings.integer("num_output", 0), settings.integer("group", 1)
    if not 0 < count <= 1 << 20 or groups < 1 or channels % groups or count % groups:
        raise layer.wrong(f"{channels} channels to {count} in {groups} groups")
    return kernel, pad, stride, hole, count, groups


def _slid(sides: Pair, kernel: Pair, pad: Pair, stride: Pair, hole: Pair = (1, 1)) -> Pair:
    first, second = (
        (side + 2 * pad[axis] - hole[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis, side in enumerate(sides)
    )
    return first, second


def pooling(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Pooling by Caffe's rule: the last window may stand over the edge, but must begin inside."""
    settings = layer.settings.message("pooling_param")
    bottom = bottoms[0]
    channels, height, width = layer.picture(bottom)
    method = settings.text("pool", "MAX")
    if method not in ("MAX", "AVE", "0", "1"):
        raise layer.refuse(f"pools by {method}; MAX and AVE are converted")
    if len(layer.tops) > 1:
        raise layer.refuse("gives the places of the largest values as well")
    average = method in ("AVE", "1")
    if settings.flag("global_pooling", False):
        kind = "GlobalAveragePool" if average else "GlobalMaxPool"
        return [Value(graph.op(kind, graph.name_of(bottom)), (1, channels, 1, 1))]
    kernel = _pair(layer, settings, "kernel", None, "kernel_size")
    pad, stride = _pair(layer, settings, "pad", 0), _pair(layer, settings, "stride", 1)
    if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
        raise layer.wrong("its padding is as large as its window")
    down = not settings.flag("ceil_mode", True) or settings.text("round_mode", "CEIL") in ("FLOOR", "1")
    sides = (height, width)
    pooled = _slid(sides, kernel, pad, stride) if down else _caffe_sides(sides, kernel, pad, stride)
    if min(pooled) < 1:
        raise layer.wrong(f"its window is larger than the {height} x {width} places that it gets")
    # What is missing below and to the right for the last window to be whole.
    more = [max(0, (pooled[a] - 1) * stride[a] + kernel[a] - sides[a] - pad[a]) for a in (0, 1)]
    if any((pooled[a] - 1) * stride[a] >= sides[a] + pad[a] for a in (0, 1)):
        raise layer.refuse("a window lies wholly outside of what it pools")
    name, shape = graph.name_of(bottom), (1, channels, *pooled)
    window = {"kernel_shape": kernel, "strides": stride}
    if not average:
        return [Value(graph.op("MaxPool", name, pads=(*pad, *more), **window), shape)]
    if any(pad):
        # The stated padding counts as zeros, what lies beyond it does not count.
        after = [min(pad[a], more[a]) for a in (0, 1)]
        name = graph.op("Pad", name, graph.integers(0, 0, *pad, 0, 0, *after), mode="constant")
        more = [more[a] - after[a] for a in (0, 1)]
    return [Value(graph.op("AveragePool", name, pads=(0, 0, *more), count_include_pad=0, **window), shape)]


def _caffe_sides(sides: Pair, kernel: Pair, pad: Pair, stride: Pair) -> Pair:
    made = []
    for axis, side in enumerate(sides):
        count = -(-(side + 2 * pad[axis] - kernel[axis]) // stride[axis]) + 1
        if any(pad) and (count - 1) * stride[axis] >= side + pad[axis]:
            count -= 1
        made.append(count)
    return made[0], made[1]


def lrn(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Local response normalisation, across channels or within one."""
    settings = layer.settings.message("lrn_param")
    bottom = bottoms[0]
    name = graph.name_of(bottom)
    size, alpha = settings.integer("local_size", 5), settings.number("alpha", 1.0)
    beta = settings.number("beta", 0.75)
    if size < 1 or size % 2 == 0:
        raise layer.wrong(f"local_size is {size}; it must be odd")
    if settings.text("norm_region", "ACROSS_CHANNELS") in ("ACROSS_CHANNELS", "0"):
        if settings.number("k", 1.0) != 1:
            raise layer.refuse("k is not 1, which OpenCV, that is to prove the conversion, does not heed")
        made = graph.op("LRN", name, size=size, alpha=alpha, beta=beta, bias=1.0)
        return [Value(made, bottom.shape)]
    layer.picture(bottom)
    half = size // 2
    mean = graph.op(
        "AveragePool",
        graph.op("Mul", name, name),
        kernel_shape=(size, size),
        strides=(1, 1),
        pads=(half,) * 4,
        count_include_pad=1,
    )
    scale = graph.op("Add", graph.op("Mul", mean, graph.weight(alpha)), graph.weight(1.0))
    return [Value(graph.op("Div", name, graph.op("Pow", scale, graph.weight(beta))), bottom.shape)]


def interp(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Bilinear resizing whose corners stay where they are."""
    settings = layer.settings.message("interp_param")
    bottom = bottoms[0]
    channels, height, width = layer.picture(bottom)
    if settings.integer("pad_beg", 0) or settings.integer("pad_end", 0) or len(bottoms) > 1:
        raise layer.refuse("pads, or takes its size from another value")
    if (shrink := settings.integer("shrink_factor", 1)) != 1:
        raise layer.refuse(f"shrinks by {shrink}")
    zoom = settings.integer("zoom_factor", 1)
    sides = (height + (height - 1) * (zoom - 1), width + (width - 1) * (zoom - 1))
    sides = (settings.integer("height", sides[0]), settings.integer("width", sides[1]))
    if not 1 <= min(sides) <= max(sides) <= 1 << 14:
        raise layer.wrong(f"makes {sides[0]} x {sides[1]}")
    made = graph.op(
        "Resize",
        graph.name_of(bottom),
        "",
        "",
        graph.integers(*sides),
        axes=(2, 3),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    return [Value(made, (1, channels, *sides))]


def crop(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """The part of the first value that is as large as the second, from an axis on."""
    settings = layer.settings.message("crop_param")
    bottom, like = bottoms
    if len(bottom.shape) != len(like.shape):
        raise layer.wrong(f"{list(bottom.shape)} is cropped to {list(like.shape)}")
    first = layer.axis(settings.integer("axis", 2), len(bottom.shape))
    offsets = settings.integers("offset") or [0]
    axes = list(range(first, len(bottom.shape)))
    starts = offsets * len(axes) if len(offsets) == 1 else offsets
    if len(starts) != len(axes):
        raise layer.wrong(f"{len(starts)} offsets for {len(axes)} axes")
    ends = [start + like.shape[axis] for start, axis in zip(starts, axes, strict=True)]
    if min(starts) < 0 or any(end > bottom.shape[axis] for end, axis in zip(ends, axes, strict=True)):
        raise layer.wrong(f"{list(like.shape)} at {starts} does not lie within {list(bottom.shape)}")
    made = graph.op(
        "Slice",
        graph.name_of(bottom),
        graph.integers(*starts),
        graph.integers(*ends),
        graph.integers(*axes),
    )
    return [Value(made, (*bottom.shape[:first], *like.shape[first:]))]


LAYERS: dict[str, Convert] = {
    "Convolution": convolution,
    "Deconvolution": deconvolution,
    "Pooling": pooling,
    "LRN": lrn,
    "Interp": interp,
    "Crop": crop,
}
