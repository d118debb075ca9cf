"""A graph of TensorFlow 1, trained in a session and frozen: handwritten digits of 8 x 8 pixels.

python make.py OUT    writes OUT/digits.pb and OUT/samples/*.npz, of scikit-learn's digits
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

v1 = tf.compat.v1


def main(out: Path) -> None:
    """Train, freeze, and write the graph and some digits."""
    pictures, kinds = load_digits(return_X_y=True)
    pictures = (pictures / 16).astype(np.float32)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        v1.set_random_seed(0)
        digit = v1.placeholder(tf.float32, [None, 64], name="digit")
        answer = v1.placeholder(tf.int64, [None], name="answer")
        training = v1.placeholder(tf.bool, [], name="is_training")
        grid = tf.reshape(digit, [-1, 8, 8, 1])
        kernel = v1.get_variable("kernel", [3, 3, 1, 16])
        maps = tf.nn.relu(tf.nn.conv2d(grid, kernel, 1, "SAME"))
        flat = tf.reshape(tf.nn.max_pool2d(maps, 2, 2, "SAME"), [-1, 256])
        kept = tf.cond(training, lambda: tf.nn.dropout(flat, rate=0.2), lambda: flat)
        logits = tf.matmul(kept, v1.get_variable("weights", [256, 10])) + v1.get_variable("bias", [10])
        tf.nn.softmax(logits, name="probabilities")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=answer, logits=logits)
        step = v1.train.AdamOptimizer(0.01).minimize(tf.reduce_mean(losses))
        session.run(v1.global_variables_initializer())
        for _ in range(80):
            session.run(step, {digit: pictures, answer: kinds, training: True})
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["probabilities"]
        )
    (out / "digits.pb").write_bytes(frozen.SerializeToString())
    (out / "samples").mkdir(exist_ok=True)
    for number, picture in enumerate(pictures[:12]):
        np.savez(out / "samples" / f"digit{number:02}.npz", digit=picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
