"""A Flax network that tells sines, squares and sawtooths apart; `make.py` trains it."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

NAMES = ("sine", "square", "sawtooth")
LENGTH = 64


class Waves(nnx.Module):
    """Two convolutions over a signal of 64 numbers, and the largest of each feature."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 16, (7,), strides=2, rngs=rngs)
        self.second = nnx.Conv(16, 32, (5,), rngs=rngs)
        self.norm = nnx.LayerNorm(32, rngs=rngs)
        self.last = nnx.Linear(32, len(NAMES), rngs=rngs)

    def __call__(self, signal: jax.Array) -> jax.Array:
        """float32[batch, 64] to the shares of the three: float32[batch, 3]."""
        found = nnx.gelu(self.first(signal[:, :, None]))
        found = nnx.max_pool(found, (2,), (2,))
        found = self.norm(nnx.gelu(self.second(found)))
        return nnx.softmax(self.last(jnp.max(found, axis=1)))


def network() -> Waves:
    """The trained network: its parameters are in parameters.npz, beside this file."""
    made = Waves(nnx.Rngs(0))
    with np.load(Path(__file__).with_name("parameters.npz")) as held:
        for path, variable in nnx.to_flat_state(nnx.state(made, nnx.Param)):
            variable.set_value(jnp.asarray(held["/".join(map(str, path))]))
    return made
