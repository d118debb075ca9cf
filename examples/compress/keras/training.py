"""Training with labels, and with a teacher's answers where there is one."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "digits"))
from channels import chain
from pictures import Pictures
from train_keras import augmented as bent

SMOOTHING = 0.02
TEMPERATURE = 4.0
TAUGHT = 0.9
"""The share of the loss that comes from the teacher; the rest comes from the labels."""
Masks = Sequence[tuple[keras.Variable, tf.Tensor]]


@dataclass(frozen=True)
class Lessons:
    """Training pictures, uint8 [n, side, side, channels], their classes int64 [n], and how they are
    varied."""

    images: tf.Tensor
    labels: tf.Tensor
    mean: float
    std: float
    varied: Callable[[tf.Tensor], tf.Tensor]
    size: int
    """Pictures in a batch."""

    def batch(self, picked: tf.Tensor) -> tf.Tensor:
        """float32 [n, side, side, channels] of the pictures `picked`, normalised and varied."""
        return self.varied((tf.cast(tf.gather(self.images, picked), tf.float32) / 255 - self.mean) / self.std)


def lessons(pictures: Pictures, size: int, flip: bool = False) -> Lessons:
    """Of the training pictures; `flip` mirrors half of them, which is wrong for digits and right for dogs."""
    side = pictures.shape[0]

    def moved(images: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        across, down = (tf.random.uniform([count], -2, 3, tf.int32) for _ in range(2))
        one, none = tf.ones([count]), tf.zeros([count])
        if flip:
            mirrored = tf.random.uniform([count]) < 0.5
            images = tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        places = [one, none, tf.cast(across, tf.float32), none, one, tf.cast(down, tf.float32), none, none]
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=tf.stack(places, 1),
            output_shape=[side, side],
            fill_value=0.0,
            interpolation="NEAREST",
            fill_mode="REFLECT",
        )

    varied = (lambda images: bent(images, tf.constant(0.7))) if pictures.digits else moved
    images, labels = tf.constant(pictures.train_images), tf.constant(pictures.train_labels)
    return Lessons(images, labels, pictures.mean, pictures.std, varied, size)


def loss_of(logits: tf.Tensor, labels: tf.Tensor, taught: tf.Tensor | None) -> tf.Tensor:
    """Cross entropy with the labels, and with the teacher's softened answers.

    The second part is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
    (2015): T² KL(softmax(taught / T) ‖ softmax(logits / T)), where T² keeps its gradients as large as the
    first part's whatever T is.

    Args:
        logits, taught: float32 [n, classes]; `taught` is None where there is no teacher.
        labels: int64 [n].
    """
    if taught is None:
        classes = logits.shape[-1]
        wanted = tf.one_hot(labels, classes) * (1 - SMOOTHING) + SMOOTHING / classes
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
    wanted = tf.nn.log_softmax(taught / TEMPERATURE)
    told = tf.exp(wanted) * (wanted - tf.nn.log_softmax(logits / TEMPERATURE))
    told = tf.reduce_mean(tf.reduce_sum(told, 1)) * TEMPERATURE**2
    known = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return TAUGHT * told + (1 - TAUGHT) * known


def train(
    model: keras.Model,
    data: Lessons,
    epochs: int,
    *,
    peak: float,
    teacher: keras.Model | None = None,
    masks: Masks = (),
) -> None:
    """SGD on a rate that warms up to `peak` and falls along a cosine; prints each epoch's loss.

    Args:
        masks: variables that are multiplied by these after each step, so that zeros stay zeros.
    """
    count = len(data.images)
    steps = math.ceil(count / data.size)
    warm = int(0.2 * steps * epochs)
    rate = keras.optimizers.schedules.CosineDecay(
        peak / 25, steps * epochs - warm, alpha=1e-4, warmup_target=peak, warmup_steps=warm
    )
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]

    @tf.function
    def step(picked: tf.Tensor) -> tf.Tensor:
        inputs = data.batch(picked)
        taught = teacher(inputs, training=False) if teacher else None
        with tf.GradientTape() as tape:
            loss = loss_of(model(inputs, training=True), tf.gather(data.labels, picked), taught)
            total = loss + 5e-4 * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
        optimizer.apply(tape.gradient(total, model.trainable_variables), model.trainable_variables)
        for variable, mask in masks:
            variable.assign(variable * mask)
        return loss

    chance = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        began, total = time.process_time(), 0.0
        for picked in np.array_split(chance.permutation(count), steps):
            total += float(step(tf.constant(picked))) * len(picked)
        print(
            f"  epoch {epoch}/{epochs}: loss {total / count:.4f}, {time.process_time() - began:.0f} s",
            flush=True,
        )


def taylor(data: Lessons, pictures: int = 512) -> Callable[[keras.Model], dict[str, npt.NDArray[np.float64]]]:
    """Importances of filters: what the loss would change by if one went, to first order.

    |Σ weight · gradient| over the scale and the shift that batch normalisation gives a filter's output
    (Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019), from as many training
    pictures.

    Raises:
        ValueError: a convolution has no batch normalisation behind it; use `channels.sizes_of_weights`.
    """

    def importances(model: keras.Model) -> dict[str, npt.NDArray[np.float64]]:
        found, behind = {}, chain(model)
        norms = {}
        for layer, after in pairwise(behind):
            if isinstance(layer, layers.Conv2D):
                if not isinstance(after, layers.BatchNormalization):
                    raise ValueError(
                        f"expected batch normalisation behind {layer.name!r}, got {after.name!r}"
                    )
                norms[layer.name] = after
        picked = tf.random.uniform([pictures], 0, len(data.images), tf.int32)
        variables = [each for norm in norms.values() for each in (norm.gamma.value, norm.beta.value)]
        with tf.GradientTape() as tape:
            logits = model(data.batch(picked), training=False)
            loss = loss_of(logits, tf.gather(data.labels, picked), None)
        terms = [
            (variable * gradient).numpy().astype(np.float64)
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True)
        ]
        for place, name in enumerate(norms):
            found[name] = np.abs(terms[2 * place] + terms[2 * place + 1])
        return found

    return importances
