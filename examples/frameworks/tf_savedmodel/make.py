"""A SavedModel of TensorFlow 2 with two signatures: wines by their chemistry, as probabilities and as logits.

python make.py OUT    writes OUT/wines and OUT/samples/*.npz, of scikit-learn's wine data
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_wine


class Wines(tf.Module):
    """Two layers on standardised numbers."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        random = tf.random.Generator.from_seed(0)
        self.mean, self.deviation = tf.constant(rows.mean(0)), tf.constant(rows.std(0))
        self.first = tf.Variable(random.normal([rows.shape[1], 16]) * 0.3)
        self.second = tf.Variable(random.normal([16, 3]) * 0.3)

    @tf.function(input_signature=[tf.TensorSpec([None, 13], tf.float32, name="wine")])
    def logits(self, wine: tf.Tensor) -> dict[str, tf.Tensor]:
        """Three numbers for each wine."""
        hidden = tf.nn.gelu(((wine - self.mean) / self.deviation) @ self.first)
        return {"logits": hidden @ self.second}

    @tf.function(input_signature=[tf.TensorSpec([None, 13], tf.float32, name="wine")])
    def classify(self, wine: tf.Tensor) -> dict[str, tf.Tensor]:
        """Three probabilities for each wine."""
        return {"probabilities": tf.nn.softmax(self.logits(wine)["logits"])}


def main(out: Path) -> None:
    """Train, and save the model and some wines."""
    rows, kinds = load_wine(return_X_y=True)
    rows = rows.astype(np.float32)
    model = Wines(rows)
    for _ in range(200):
        with tf.GradientTape() as tape:
            scores = model.logits(tf.constant(rows))["logits"]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(kinds, scores))
        for variable, slope in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            variable.assign_sub(0.5 * slope)
    signatures = {"classify": model.classify, "logits": model.logits}
    tf.saved_model.save(model, str(out / "wines"), signatures=signatures)
    (out / "samples").mkdir(exist_ok=True)
    for number, row in enumerate(rows[::15]):
        np.savez(out / "samples" / f"wine{number:02}.npz", wine=row)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
