"""A Caffe network out of its two files: which layers there are, and what ONNX they make together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import caffe_axes, caffe_pointwise, caffe_spatial, caffe_ssd
from .caffe_layer import Convert, Layer
from .caffe_ssd import Detection
from .caffemodel import Weights
from .converter import NotConverted, Refused
from .onnx_graph import OnnxGraph, Value
from .prototxt import Message

LAYERS: dict[str, Convert] = {
    **caffe_spatial.LAYERS,
    **caffe_pointwise.LAYERS,
    **caffe_axes.LAYERS,
    **caffe_ssd.LAYERS,
}
DETECTION = "DetectionOutput"
DATA = frozenset({"Data", "ImageData", "HDF5Data", "WindowData", "AnnotatedData", "MemoryData", "DummyData"})
LOSSES = frozenset({"SoftmaxWithLoss", "Accuracy", "EuclideanLoss", "SigmoidCrossEntropyLoss", "HingeLoss"})
TRAINED = frozenset({"Convolution", "Deconvolution", "InnerProduct", "PReLU", "BatchNorm", "Normalize"})
OLD_TYPES = {
    "ABSVAL": "AbsVal",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONVOLUTION": "Convolution",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "ELTWISE": "Eltwise",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SPLIT": "Split",
    "TANH": "TanH",
}
MAX_LAYERS = 20_000
MAX_SIDE = 1 << 20


@dataclass
class Network:
    """A graph that is being built, with what each blob is at the moment (layers may work in place)."""

    graph: OnnxGraph
    values: dict[str, Value]
    makers: dict[str, Layer] = field(default_factory=dict)
    """The layer that made a blob last."""
    unused: dict[str, None] = field(default_factory=dict)
    """Blobs that no layer has taken yet, in the order in which they were made."""
    detections: list[Detection] = field(default_factory=list)


def layers_of(description: Message, weights: Mapping[str, Weights]) -> list[Layer]:
    """The layers that work outside of training, in their order, with their weights.

    Raises:
        Refused: no layers, or none of them is named in the caffemodel.
        NotConverted: a description for training, or of Caffe's oldest form.
    """
    found = [_layer(each, weights) for each in _stated(description)]
    if not found or len(found) > MAX_LAYERS:
        raise Refused(f"the prototxt describes {len(found)} layers")
    data = [layer for layer in found if layer.type in DATA]
    if data:
        raise NotConverted(
            f"the prototxt is for training: its layer {data[0].name!r} ({data[0].type}) reads data itself",
            "give the one for deployment, usually deploy.prototxt, which states the input's shape",
        )
    trained = [layer for layer in found if layer.type in TRAINED]
    if trained and not any(layer.blobs for layer in found):
        raise Refused(
            f"none of the {len(trained)} layers with weights in the prototxt is named in the caffemodel "
            f"(which has {', '.join(list(weights)[:3]) or 'none'}): they are no pair"
        )
    return [layer for layer in found if layer.type != "Input"]


def _stated(description: Message) -> Iterable[Message]:
    """The messages of layers that are there outside of training."""
    old = description.messages("layers")
    if any(each.messages("layer") for each in old):
        raise NotConverted(
            "the prototxt is in the form that Caffe had until 2013",
            "Caffe's own upgrade_net_proto_text and upgrade_net_proto_binary bring it up to date",
        )
    for each in (*description.messages("layer"), *old):
        includes = [rule.text("phase") for rule in each.messages("include")]
        excludes = [rule.text("phase") for rule in each.messages("exclude")]
        if "TEST" not in excludes and (not any(includes) or "TEST" in includes):
            yield each


def _layer(message: Message, weights: Mapping[str, Weights]) -> Layer:
    name, kind = message.text("name"), message.text("type")
    held = weights.get(name)
    return Layer(
        name,
        OLD_TYPES.get(kind, kind),
        tuple(str(blob) for blob in message.all("bottom")),
        tuple(str(blob) for blob in message.all("top")),
        message,
        held.blobs if held is not None else (),
    )


def inputs_of(description: Message, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shape of each input, its batch being 1.

    Args:
        description: the whole prototxt.
        given: shapes that the user stated.

    Raises:
        Refused: none is stated, or one is no shape. NotConverted: `given` names another input.
    """
    shapes: dict[str, list[int]] = {}
    names = [str(name) for name in description.all("input")]
    sides = description.integers("input_dim")
    stated = [each.integers("dim") for each in description.messages("input_shape")]
    for index, name in enumerate(names):
        old = sides[index * 4 : index * 4 + 4]
        shapes[name] = stated[index] if index < len(stated) else old
    for layer in _stated(description):
        if layer.text("type") == "Input":
            each = [shape.integers("dim") for shape in layer.message("input_param").messages("shape")]
            for index, name in enumerate(layer.all("top")):
                shapes[str(name)] = each[min(index, len(each) - 1)] if each else []
    if unknown := [name for name in given if name not in shapes]:
        raise NotConverted(
            f"the network has no input {unknown[0]!r}; it has {', '.join(shapes) or 'none'}", "see --input"
        )
    for name, shape in shapes.items():
        sizes = list(given.get(name, shape))
        if not sizes or min(sizes) < 1 or max(sizes) > MAX_SIDE:
            raise Refused(
                f"the prototxt states no shape for the input {name!r}",
                f"state it: --input {name}:float32[1,3,224,224]",
            )
        shapes[name] = [1, *sizes[1:]]
    if not shapes:
        raise Refused("the prototxt states no input")
    return {name: tuple(shape) for name, shape in shapes.items()}


def convert(layers: list[Layer], inputs: Mapping[str, tuple[int, ...]]) -> Network:
    """The graph of all layers.

    Raises:
        NotConverted: layers of types that are not converted, all of them named. Refused: one cannot be right.
    """
    _refuse_unknown(layers)
    network = Network(OnnxGraph(), {name: Value(name, shape) for name, shape in inputs.items()})
    network.graph.reserve(*inputs, *(top for layer in layers for top in layer.tops))
    for layer in layers:
        network.graph.place = layer.name
        _append(network, layer)
    network.graph.place = ""
    return network


def _append(network: Network, layer: Layer) -> None:
    missing = [blob for blob in layer.bottoms if blob not in network.values]
    if missing or not layer.bottoms:
        raise layer.wrong(f"takes {missing[0]!r}, which no layer above makes" if missing else "takes nothing")
    bottoms = [network.values[blob] for blob in layer.bottoms]
    for blob in layer.bottoms:
        network.unused.pop(blob, None)
    if layer.type == DETECTION:
        network.detections.append(caffe_ssd.detection(layer, bottoms))
        return
    try:
        made = LAYERS[layer.type](network.graph, layer, bottoms)
    except ValueError as problem:
        raise layer.wrong(f"takes {len(bottoms)} values: {problem}") from problem
    for top, value in zip(layer.tops, made, strict=False):
        network.values[top] = value
        network.makers[top] = layer
        network.unused[top] = None


def _refuse_unknown(layers: list[Layer]) -> None:
    unknown = [layer for layer in layers if layer.type not in LAYERS and layer.type != DETECTION]
    if not unknown:
        return
    shown = ", ".join(f"{layer.name!r} ({layer.type})" for layer in unknown[:20])
    more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
    training = all(layer.type in LOSSES for layer in unknown)
    raise NotConverted(
        f"layers that are not converted: {shown}{more}",
        "they are for training; give the prototxt for deployment"
        if training
        else f"converted are {', '.join(sorted([*LAYERS, DETECTION]))}; replace these, or convert the "
        "network to ONNX with the fork of Caffe that has them",
    )
