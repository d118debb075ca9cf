"""What `compress.py` makes of a Keras network: fewer filters, zeros, or a student."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from channels import chain, fewer_filters, sizes_of_weights
from keras import layers
from training import Lessons, lessons, taylor, train
from weights import masks_of_fewer, zeros

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "digits"))
import comparison
from pictures import Pictures
from train_keras import network as digits

FULL = (16, 32, 64)
NARROW = (8, 14, 28)
"""Of the student: a little more than four times fewer multiply-adds than `FULL`."""


def network(pictures: Pictures, widths: tuple[int, ...], own: Path | None = None) -> keras.Model:
    """That of the file `own`; or the digits network for MNIST's pictures, six convolutions for others. Not
    trained.

    Raises:
        SystemExit: the file's network does not take the pictures, or does not give a logit for each class.
    """
    if own:
        return own_network(own, widths, len(pictures.names), pictures.shape)
    if pictures.digits:
        return digits(widths)
    inputs = flow = keras.Input(pictures.shape, name="image")
    for width in widths:
        for _ in range(2):
            flow = layers.Conv2D(width, 3, padding="same", use_bias=False)(flow)
            flow = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(flow))
        flow = layers.MaxPooling2D()(flow)
    pooled = layers.GlobalAveragePooling2D()(flow)
    return keras.Model(inputs, layers.Dense(len(pictures.names), name="logits")(pooled), name="pictures")


def own_network(own: Path, widths: tuple[int, ...], classes: int, shape: tuple[int, int, int]) -> keras.Model:
    """The network of the file `own`, asked about two black pictures; its shape is (side, side, channels), as
    Keras has pictures."""
    side, _, channels = shape
    make = comparison.own_network(own)
    with comparison.explained(own, f"[batch, {side}, {side}, {channels}]", classes) as given:
        made = make(widths, classes, shape)
        given.append(tuple(made(tf.zeros((2, *shape))).shape))
    return made


def pruned(teacher: keras.Model, data: Lessons, args: argparse.Namespace) -> keras.Model:
    """`teacher` with fewer filters, trained after each round with the whole network as its teacher."""
    importances = taylor(data) if args.importance == "taylor" else sizes_of_weights
    model = teacher
    stages = fewer_filters(teacher, importances, args.fewer, rounds=args.rounds, multiple=args.multiple)
    for turn, stage in enumerate(stages, 1):
        model, last = stage, turn == args.rounds
        widths = [layer.filters for layer in chain(model) if isinstance(layer, layers.Conv2D)]
        print(f"  round {turn}: filters {widths}")
        train(model, data, args.epochs if last else 1, peak=0.1 if last else 0.03, teacher=teacher)
    return model


def sparse(teacher: keras.Model, data: Lessons, args: argparse.Namespace) -> keras.Model:
    """`teacher` with `args.zeros` of its weights zero, trained again after each round."""
    model = keras.models.clone_model(teacher)
    model.set_weights(teacher.get_weights())
    for turn, masks in enumerate(masks_of_fewer(model, args.zeros, rounds=args.rounds), 1):
        epochs = 2 if turn == args.rounds else 1
        train(model, data, epochs, peak=0.03, teacher=teacher, masks=masks)
    print(f"  {zeros(model):.1%} of the weights are zero")
    return model


def run(args: argparse.Namespace, pictures: Pictures) -> None:
    """Make what the options ask for of the pictures, and compare all."""
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = lessons(pictures, args.batch, args.flip)

    def made(name: str, first: Path) -> keras.Model:
        teacher = None if name == "teacher" else keras.models.load_model(first)
        keras.utils.set_random_seed(args.seed)
        if name == "pruned":
            return pruned(teacher, data, args)
        if name == "sparse":
            return sparse(teacher, data, args)
        whole = teacher is None
        model = network(pictures, FULL if whole else NARROW, args.network)
        epochs = args.teacher_epochs if whole else args.student_epochs
        train(model, data, epochs, peak=0.15, teacher=teacher)
        return model

    comparison.finished(args, pictures, ".keras", lambda name, first, file: made(name, first).save(file))
