"""Every layer of Caffe that is converted, against OpenCV 4, which runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.isolation.worker import Worker

from .caffe_files import CONV, Blobs, layer, net, numbers, pair
from .opencv4 import both, converter


def pool(settings: str) -> str:
    return layer("Pooling", f"pooling_param {{ {settings} }}")


def elt(settings: str) -> str:
    return layer("Power", "power_param { scale: 2 shift: 1 }", tops="two", name="two") + layer(
        "Eltwise", f"eltwise_param {{ {settings} }}", bottoms="data two"
    )


POSITIVE = layer("Exp", "exp_param { scale: 0.5 }", tops="p", name="p")
LAYERS: list[tuple[str, str, Blobs]] = [
    ("convolution", layer("Convolution", CONV), {"one": [numbers(4, 6, 3, 3), numbers(4)]}),
    (
        "convolution with groups",
        layer(
            "Convolution",
            "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 3 group: 2 bias_term: false }",
        ),
        {"one": [numbers(4, 3, 1, 3)]},
    ),
    (
        "convolution with holes",
        layer(
            "Convolution", "convolution_param { num_output: 4 kernel_size: 3 dilation: 2 pad_h: 2 pad_w: 1 }"
        ),
        {"one": [numbers(4, 6, 3, 3), numbers(4)]},
    ),
    (
        "deconvolution",
        layer("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }"),
        {"one": [numbers(6, 4, 4, 4), numbers(4)]},
    ),
    (
        "deconvolution with groups",
        layer(
            "Deconvolution",
            "convolution_param { num_output: 6 kernel_size: 4 stride: 2 group: 6 bias_term: false }",
        ),
        {"one": [numbers(6, 1, 4, 4)]},
    ),
    ("pooling over the edge", pool("pool: MAX kernel_size: 2 stride: 2"), {}),
    ("pooling with padding", pool("pool: MAX kernel_size: 3 stride: 2 pad: 1"), {}),
    ("pooling of two sides", pool("pool: MAX kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 3"), {}),
    ("average", pool("pool: AVE kernel_size: 3 stride: 2"), {}),
    ("average over the edge", pool("pool: AVE kernel_size: 2 stride: 2"), {}),
    ("average with padding", pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"), {}),
    ("global average", pool("pool: AVE global_pooling: true"), {}),
    ("global maximum", pool("pool: MAX global_pooling: true"), {}),
    (
        "inner product",
        layer("InnerProduct", "inner_product_param { num_output: 5 }"),
        {"one": [numbers(5, 594), numbers(5)]},
    ),
    (
        "inner product, last axis",
        layer("InnerProduct", "inner_product_param { num_output: 5 axis: 3 bias_term: false }"),
        {"one": [numbers(5, 11)]},
    ),
    ("relu", layer("ReLU"), {}),
    ("leaky relu", layer("ReLU", "relu_param { negative_slope: 0.2 }"), {}),
    (
        "relu6",
        layer("Power", "power_param { scale: 9 }", tops="p", name="p") + layer("ReLU6", bottoms="p"),
        {},
    ),
    ("prelu", layer("PReLU"), {"one": [numbers(6)]}),
    ("shared prelu", layer("PReLU", "prelu_param { channel_shared: true }"), {"one": [numbers(1)]}),
    ("elu", layer("ELU", "elu_param { alpha: 0.7 }"), {}),
    ("sigmoid", layer("Sigmoid"), {}),
    ("tanh", layer("TanH"), {}),
    ("bnll", layer("BNLL"), {}),
    ("absolute value", layer("AbsVal"), {}),
    ("swish", layer("Swish"), {}),
    ("power", POSITIVE + layer("Power", "power_param { power: 1.5 scale: 2 shift: 0.5 }", bottoms="p"), {}),
    ("power, linear", layer("Power", "power_param { scale: -2 shift: 0.5 }"), {}),
    ("exp", layer("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.25 }"), {}),
    (
        "batch norm and scale",
        layer("BatchNorm", "batch_norm_param { eps: 0.001 }", tops="b", name="b")
        + layer("Scale", "scale_param { bias_term: true }", bottoms="b"),
        {"b": [numbers(6), abs(numbers(6)) + 1, [2.0]], "one": [numbers(6), numbers(6, seed=4)]},
    ),
    (
        "scale by another value",
        pool("pool: AVE global_pooling: true").replace('"out"', '"g"').replace('"one"', '"g"')
        + layer("Flatten", bottoms="g", tops="f", name="f")
        + layer("Scale", "scale_param { axis: 0 }", bottoms="data f"),
        {},
    ),
    ("lrn", layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 }"), {}),
    (
        "lrn within a channel",
        layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
        {},
    ),
    ("scale alone", layer("Scale"), {"one": [numbers(6)]}),
    (
        "silence",
        layer("Slice", "slice_param { slice_point: 2 }", tops="a b", name="s")
        + layer("Silence", bottoms="a", tops="", name="n")
        + layer("ReLU", bottoms="b"),
        {},
    ),
    ("sum", elt("operation: SUM"), {}),
    ("weighted sum", elt("operation: SUM coeff: 0.5 coeff: -2"), {}),
    ("product", elt("operation: PROD"), {}),
    ("maximum", elt("operation: MAX"), {}),
    (
        "concat",
        layer("Sigmoid", tops="s", name="s") + layer("Concat", "concat_param { axis: 2 }", "data s"),
        {},
    ),
    ("slice", layer("Slice", "slice_param { axis: 1 slice_point: 1 slice_point: 4 }", tops="a b c"), {}),
    ("slice, equal", layer("Slice", tops="a b c", name="s") + layer("Concat", bottoms="c a b"), {}),
    (
        "split and dropout in place",
        layer("Split", tops="a b", name="s")
        + layer("Dropout", bottoms="a", tops="a", name="d")
        + layer("Concat", bottoms="a b"),
        {},
    ),
    ("reshape", layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 33 } }"), {}),
    (
        "reshape of an axis",
        layer("Reshape", "reshape_param { shape { dim: 2 dim: 3 } axis: 1 num_axes: 1 }"),
        {},
    ),
    ("flatten", layer("Flatten"), {}),
    ("flatten of two axes", layer("Flatten", "flatten_param { axis: 1 end_axis: 2 }"), {}),
    ("permute", layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"), {}),
    ("softmax", layer("Softmax"), {}),
    ("softmax, last axis", layer("Softmax", "softmax_param { axis: 3 }"), {}),
    ("mvn", layer("MVN"), {}),
    (
        "crop",
        pool("kernel_size: 3 stride: 2").replace('"out"', '"p"').replace('"one"', '"p"')
        + layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", "data p"),
        {},
    ),
    ("interp", layer("Interp", "interp_param { height: 17 width: 30 }"), {}),
    ("interp by a factor", layer("Interp", "interp_param { zoom_factor: 2 }"), {}),
    (
        "normalize",
        layer("Normalize", "norm_param { across_spatial: false channel_shared: false }"),
        {"one": [numbers(6)]},
    ),
    ("shuffle", layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"), {}),
    (
        "in place",
        layer("Convolution", CONV) + layer("ReLU", bottoms="out", name="r"),
        {"one": [numbers(4, 6, 3, 3), numbers(4)]},
    ),
]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with converter("caffe") as found:
        yield found


def question(path: Path, **more: Any) -> dict[str, Any]:
    return {"prototxt": str(path), "caffemodel": str(path.with_suffix(".caffemodel")), **more}


@pytest.mark.parametrize(("text", "blobs"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
def test_a_layer_computes_what_opencv_does(worker: Worker, tmp_path: Path, text: str, blobs: Blobs) -> None:
    got, want, _ = both(worker, question(pair(tmp_path, net(text), {"unused": [[1.0]], **blobs})))
    assert list(got) == list(want) and got
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)
