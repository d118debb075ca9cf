"""A small network that tells circles, squares and triangles apart, trained in PyTorch and saved as Caffe
saves it, without Caffe: protobuf's wire form is a few lines.

    python make.py OUT    writes OUT/deploy.prototxt, shapes_iter_240.caffemodel, mean.binaryproto, labels.txt
                          and OUT/samples (pictures)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import nn

NAMES = ("circle", "square", "triangle")
SIDE = 32
STEPS, ROWS = 240, 32
Array = npt.NDArray[np.float32]

LAYERS = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 12 kernel_size: 3 bias_term: false } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 24 kernel_size: 3 } }
layer { name: "prelu2" type: "PReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "fc3" type: "InnerProduct" bottom: "pool2" top: "fc3"
  inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc3" top: "prob" }
"""


def picture(kind: int, random: np.random.Generator) -> Image.Image:
    """One shape of any bright colour on a dark ground."""
    side = int(random.integers(64, 128))
    ground = random.integers(0, 60, (side, side, 3)) + random.integers(0, 100, 3)
    image = Image.fromarray(ground.astype(np.uint8))
    radius = side * random.uniform(0.2, 0.36)
    x, y = random.uniform(radius, side - radius, 2)
    colour = tuple(int(each) for each in random.integers(180, 256, 3))
    draw, box = ImageDraw.Draw(image), (x - radius, y - radius, x + radius, y + radius)
    if kind == 0:
        draw.ellipse(box, fill=colour)
    elif kind == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    return image


def prepared(image: Image.Image, mean: Array) -> Array:
    """As Caffe takes pictures: BGR, 0 to 255, minus the mean colour, channels first."""
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    return np.asarray((small[..., ::-1] - mean).transpose(2, 0, 1), np.float32)


class Network(nn.Module):
    """What the prototxt describes; Caffe's pooling may stand over the edge."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 24, 3)
        self.prelu2 = nn.PReLU(24)
        self.fc3 = nn.Linear(24 * 6 * 6, len(NAMES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures [batch, 3, SIDE, SIDE] to logits [batch, classes]."""
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, ceil_mode=True)
        x = nn.functional.avg_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        return self.fc3(x.flatten(1))


def varint(value: int) -> bytes:
    """A number in protobuf's wire form."""
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(numbers: Array) -> bytes:
    """A BlobProto: its shape, and its numbers."""
    shape = b"".join(varint(side) for side in numbers.shape)
    return field(7, field(1, shape)) + field(5, numbers.astype("<f4").tobytes())


def caffemodel(network: Network) -> bytes:
    """A NetParameter with a layer for each that has weights."""
    norm, held = network.bn1, {key: value.numpy() for key, value in network.state_dict().items()}
    one = np.ones(1, np.float32)
    blobs = {
        "conv1": ("Convolution", [held["conv1.weight"]]),
        "bn1": ("BatchNorm", [held["bn1.running_mean"], held["bn1.running_var"], one]),
        "scale1": ("Scale", [held["bn1.weight"], held["bn1.bias"]]),
        "conv2": ("Convolution", [held["conv2.weight"], held["conv2.bias"]]),
        "prelu2": ("PReLU", [held["prelu2.weight"]]),
        "fc3": ("InnerProduct", [held["fc3.weight"], held["fc3.bias"]]),
    }
    assert norm.eps == 1e-5  # Caffe's own, which the prototxt need not state
    out = field(1, b"shapes")
    for name, (kind, arrays) in blobs.items():
        head = field(1, name.encode()) + field(2, kind.encode())
        out += field(100, head + b"".join(field(7, blob(array)) for array in arrays))
    return out


def main(out: Path) -> None:
    """Train for some seconds and save."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    mean = np.array([90, 95, 100], np.float32)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        batch = np.stack([prepared(picture(int(kind), random), mean) for kind in kinds])
        logits = network(torch.from_numpy(batch))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(kinds))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    (out / "samples").mkdir(parents=True, exist_ok=True)
    shape = f"dim: 1 dim: 3 dim: {SIDE} dim: {SIDE}"
    given = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}'
    (out / "deploy.prototxt").write_text(f'name: "shapes"\n{given}{LAYERS}')
    (out / f"shapes_iter_{STEPS}.caffemodel").write_bytes(caffemodel(network))
    (out / "mean.binaryproto").write_bytes(blob(np.tile(mean[:, None, None], (1, SIDE, SIDE))))
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    right = 0
    for number in range(12):
        kind = number % len(NAMES)
        image = picture(kind, random)
        image.save(out / "samples" / f"{NAMES[kind]}-{number}.png")
        with torch.no_grad():
            right += int(network(torch.from_numpy(prepared(image, mean)[None])).argmax()) == kind
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
