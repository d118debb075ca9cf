"""Train the digits network with Keras: 60,000 training images, the test images only at the end.

    python train_keras.py -o digits.keras                # a Keras file
    python train_keras.py -o digits.keras --pack repo    # and a Modelport package, verified

The network takes float32 [batch, 28, 28, 1], (pixel / 255 - 0.1307) / 0.3081 of white ink on
black, and gives raw logits [batch, 10].
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from mnist import MEAN, STD, Bytes, MnistError, load
from rich.progress import track

BATCH = 128
PEAK_RATE = 0.01
BLACK = -MEAN / STD


def network() -> keras.Model:
    """Six 3x3 convolutions in three stages, then one dense layer; 77,786 trained parameters."""
    inputs = flow = keras.Input((28, 28, 1), name="image")
    for width in (16, 32, 64):
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

    At strength 1: rotation to 12 degrees, scale 0.85 to 1.15, shear to 0.15, 4 pixels either way,
    a slight perspective; one stroke in four is made bolder or thinner.
    """
    count = tf.shape(images)[0]

    def within(limit: float) -> tf.Tensor:
        return tf.random.uniform([count], -limit, limit) * strength

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


def train(model: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """AdamW, one cycle of the rate, milder augmentation at the end; prints each epoch's loss."""
    steps = math.ceil(len(images) / BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 25,
        decay_steps=int(0.75 * steps * epochs),
        warmup_target=PEAK_RATE,
        warmup_steps=int(0.25 * steps * epochs),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.02)
    all_images, all_labels = tf.constant(images), tf.constant(labels, tf.int32)

    @tf.function
    def step(picked: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        inputs = augmented(tf.gather(all_images, picked), strength)
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            wanted = tf.gather(all_labels, picked)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            loss = tf.reduce_mean(losses)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    order = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        began, total = time.perf_counter(), 0.0
        strength = tf.constant(1 - 0.7 * max(0.0, (epoch / epochs - 0.7) / 0.3), tf.float32)
        batches = np.array_split(order.permutation(len(images)), steps)
        for picked in track(batches, f"epoch {epoch:2}/{epochs}", transient=True):
            total += float(step(tf.constant(picked), strength)) * len(picked)
        seconds = time.perf_counter() - began
        print(f"epoch {epoch:2}: loss {total / len(images):.4f}, {seconds:.0f} s", flush=True)
