"""A small MXNet network that tells which way stripes run, trained and saved as a Module's checkpoint.

python make.py OUT    writes OUT/stripes-symbol.json, OUT/stripes-0001.params, OUT/labels.txt and OUT/samples
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import mxnet as mx
import numpy as np
import numpy.typing as npt

NAMES = ("level", "upright", "rising", "falling")
SIDE = 32
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, ROWS, SAVED = 60, 32, 12
DIRECTIONS = ((0.0, 1.0), (1.0, 0.0), (0.7, 0.7), (0.7, -0.7))

Pixels = npt.NDArray[np.uint8]


def picture(kind: int, side: int, random: np.random.Generator) -> Pixels:
    """Stripes of two colours with noise: uint8[side, side, 3]."""
    rows, columns = np.mgrid[:side, :side] / side
    across, down = DIRECTIONS[kind]
    phase = random.uniform(0, 6.3) + (columns * across + rows * down) * random.uniform(18, 30)
    share = (np.sin(phase) > 0)[..., None]
    dark, light = random.integers(0, 100, 3), random.integers(150, 256, 3)
    noise = random.integers(-20, 21, (side, side, 3))
    return np.asarray(np.clip(np.where(share, dark, light) + noise, 0, 255), np.uint8)


def prepared(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Normalised as the recipe `imagenet` does: float32[3, side, side]."""
    return ((pixels / 255.0 - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


def network() -> mx.sym.Symbol:
    """Convolution, batch norm, PReLU, pooling, and a head as networks of MXNet's first years have it."""
    layer = mx.sym.Variable("data")
    layer = mx.sym.Convolution(layer, kernel=(5, 5), num_filter=16, pad=(2, 2), name="conv1")
    layer = mx.sym.BatchNorm(layer, fix_gamma=True, name="norm1")
    layer = mx.sym.LeakyReLU(layer, act_type="prelu", name="prelu1")
    layer = mx.sym.Pooling(layer, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full")
    layer = mx.sym.Convolution(layer, kernel=(3, 3), num_filter=16, stride=(2, 2), name="conv2")
    layer = mx.sym.Activation(layer, act_type="relu", name="relu2")
    layer = mx.sym.FullyConnected(layer, num_hidden=len(NAMES), name="fc")
    return mx.sym.SoftmaxOutput(layer, name="prob")


def png(pixels: Pixels) -> bytes:
    """A PNG file of uint8[height, width, 3]."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def main(out: Path) -> None:
    """Train for some seconds and save."""
    mx.random.seed(0)
    np.random.seed(0)  # MXNet's initialisers draw from it
    random = np.random.default_rng(0)
    module = mx.mod.Module(network(), label_names=["prob_label"])
    module.bind([("data", (ROWS, 3, SIDE, SIDE))], [("prob_label", (ROWS,))])
    module.init_params(mx.init.Xavier())
    module.init_optimizer(optimizer="adam", optimizer_params={"learning_rate": 0.003})
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        pictures = np.stack([prepared(picture(int(kind), SIDE, random)) for kind in kinds])
        batch = mx.io.DataBatch([mx.nd.array(pictures)], [mx.nd.array(kinds)])
        module.forward_backward(batch)
        module.update()
    out.mkdir(parents=True, exist_ok=True)
    module.save_checkpoint(str(out / "stripes"), 1)
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    (out / "samples").mkdir(exist_ok=True)
    samples = [picture(number % len(NAMES), SIDE, random) for number in range(ROWS)]
    for number, pixels in enumerate(samples[:SAVED]):
        (out / "samples" / f"{NAMES[number % len(NAMES)]}-{number}.png").write_bytes(png(pixels))
    given = mx.nd.array(np.stack([prepared(pixels) for pixels in samples]))
    module.forward(mx.io.DataBatch([given], [mx.nd.zeros(ROWS)]), is_train=False)
    answers = module.get_outputs()[0].asnumpy().argmax(1)
    print(f"{int((answers == np.arange(ROWS) % len(NAMES)).sum())} of {ROWS} samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
