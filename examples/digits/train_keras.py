"""Train the digits network with Keras: 60,000 training images, the test images only at the end.

    python train_keras.py -o digits.keras                # a Keras file
    python train_keras.py -o digits.keras --pack repo    # and a Modelport package, verified

The network takes float32 [batch, 28, 28, 1], (pixel / 255 - 0.1307) / 0.3081 of white ink on
black, and gives raw logits [batch, 10].
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import command
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from mnist import MEAN, STD, Bytes, MnistError, load
from rich.progress import track

BATCH = 128
PEAK_RATE = 0.15
SMOOTHING = 0.02
"""The share of certainty the labels give up, so that scores stay short of 1."""
BLACK = -MEAN / STD


def network(widths: Sequence[int] = (16, 32, 64)) -> keras.Model:
    """Two 3x3 convolutions of each of three widths, then one dense layer; 77,786 trained parameters."""
    inputs = flow = keras.Input((28, 28, 1), name="image")
    for width in widths:
        for _ in range(2):
            flow = layers.Conv2D(width, 3, padding="same", use_bias=False)(flow)
            flow = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(flow))
        flow = layers.MaxPooling2D()(flow)
    return keras.Model(inputs, layers.Dense(10, name="logits")(layers.Flatten()(flow)), name="digits")


def normalised(images: Bytes) -> np.ndarray:
    """uint8 [n, 28, 28] to float32 [n, 28, 28, 1], as the network takes it."""
    return ((images[..., None].astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def augmented(images: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Each image [n, 28, 28, 1] turned, scaled, sheared, moved and tilted a little; same shape.

    At most, when `strength` is 1: 12 degrees, a scale of 0.85 to 1.15 each way, a shear of 0.15,
    2 pixels, a slight perspective. Each image draws how much of that it gets, so many stay nearly
    as they are. One in four is made bolder or thinner.
    """
    count = tf.shape(images)[0]
    amount = tf.random.uniform([count]) * strength

    def within(limit: float) -> tf.Tensor:
        return tf.random.uniform([count], -limit, limit) * amount

    angle, shear = within(math.pi / 15), within(0.15)
    wide, tall = 1 + within(0.15), 1 + within(0.15)
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = cos / wide, (shear * cos - sin) / wide
    c, d = sin / tall, (shear * sin + cos) / tall
    p, q = within(0.004), within(0.004)
    # The picture's centre (13.5, 13.5) stays where it is, then moves by dx and dy.
    dx, dy = within(2.0), within(2.0)
    scale = 1 + 13.5 * (p + q)
    x0 = (13.5 + dx) * scale - 13.5 * (a + b)
    y0 = (13.5 + dy) * scale - 13.5 * (c + d)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images - BLACK,
        transforms=tf.stack([a, b, x0, c, d, y0, p, q], 1),
        output_shape=[28, 28],
        fill_value=0.0,
        interpolation="BILINEAR",
    )
    chance = tf.random.uniform([count, 1, 1, 1])
    share = tf.random.uniform([count, 1, 1, 1]) * 0.6 * strength
    bolder = moved + share * (tf.nn.max_pool2d(moved, 3, 1, "SAME") - moved)
    thinner = moved - share * (moved + tf.nn.max_pool2d(-moved, 3, 1, "SAME"))
    return tf.where(chance < 0.15, bolder, tf.where(chance > 0.9, thinner, moved)) + BLACK


def train(model: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> None:
    """SGD on a one-cycle rate, milder augmentation in the last third; prints each epoch's loss."""
    steps = math.ceil(len(images) / BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 25,
        decay_steps=int(0.75 * steps * epochs),
        alpha=1e-4,
        warmup_target=PEAK_RATE,
        warmup_steps=int(0.25 * steps * epochs),
    )
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    all_images, all_labels = tf.constant(images), tf.one_hot(labels, 10) * (1 - SMOOTHING) + SMOOTHING / 10
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]

    @tf.function
    def step(picked: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        inputs = augmented(tf.gather(all_images, picked), strength)
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            wanted = tf.gather(all_labels, picked)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
            total = loss + 5e-4 * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(total, variables), variables)
        return loss

    chance = np.random.default_rng(seed)
    for epoch in range(1, epochs + 1):
        began, total = time.perf_counter(), 0.0
        strength = tf.constant(1 - 0.5 * max(0.0, (epoch / epochs - 0.7) / 0.3), tf.float32)
        batches = np.array_split(chance.permutation(len(images)), steps)
        for picked in track(batches, f"epoch {epoch:2}/{epochs}", transient=True, disable=command.QUIET):
            total += float(step(tf.constant(picked), strength)) * len(picked)
        seconds = time.perf_counter() - began
        print(f"epoch {epoch:2}: loss {total / len(images):.4f}, {seconds:.0f} s", flush=True)


def main() -> None:
    args = command.arguments("Keras", "digits.keras").parse_args()
    try:
        data = load(args.data)
    except MnistError as error:
        raise SystemExit(f"error: {error}") from None

    keras.utils.set_random_seed(args.seed)
    model = network()
    print(f"{model.count_params():,} parameters, seed {args.seed}")
    began = time.perf_counter()
    train(model, normalised(data.train_images), data.train_labels, args.epochs, args.seed)
    minutes = (time.perf_counter() - began) / 60
    logits = model.predict(normalised(data.test_images), batch_size=1000, verbose=0)
    share = float((logits.argmax(1) == data.test_labels).mean())
    print(f"test accuracy {share:.2%} of {len(data.test_labels):,} images, {minutes:.1f} minutes")

    model.save(args.out)
    if args.pack:
        command.pack(args.out, args.pack)


if __name__ == "__main__":
    main()
