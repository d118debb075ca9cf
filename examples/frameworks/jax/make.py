"""Trains the Flax network of `waves.py` on made-up signals.

python make.py OUT    writes OUT/waves.py, OUT/parameters.npz and OUT/samples (a signal each)
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from waves import LENGTH, NAMES, Waves

STEPS, ROWS, RATE = 150, 64, 0.02


def signals(kinds: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Waves of any length, phase and height, with noise: float32[rows, 64]."""
    turns = random.uniform(2, 5, (len(kinds), 1)) * np.linspace(0, 1, LENGTH) + random.uniform(
        0, 1, (len(kinds), 1)
    )
    shapes = (np.sin(2 * np.pi * turns), np.sign(np.sin(2 * np.pi * turns)), 2 * (turns % 1) - 1)
    chosen = np.choose(kinds[:, None], shapes) * random.uniform(0.5, 2, (len(kinds), 1))
    return (chosen + random.normal(0, 0.05, chosen.shape)).astype(np.float32)


def main(out: Path) -> None:
    """Train for some seconds and save."""
    random = np.random.default_rng(0)
    model = Waves(nnx.Rngs(0))
    definition, parameters = nnx.split(model)

    @jax.jit
    def step(
        held: nnx.State, speed: nnx.State, given: jax.Array, kinds: jax.Array
    ) -> tuple[nnx.State, nnx.State]:
        def loss(each: nnx.State) -> jax.Array:
            shares = nnx.merge(definition, each)(given)
            return -jnp.mean(jnp.log(jnp.take_along_axis(shares, kinds[:, None], axis=1) + 1e-9))

        slope = jax.grad(loss)(held)
        speed = jax.tree.map(lambda fast, steep: 0.9 * fast + steep, speed, slope)
        return jax.tree.map(lambda value, fast: value - RATE * fast, held, speed), speed

    speed = jax.tree.map(jnp.zeros_like, parameters)
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        parameters, speed = step(parameters, speed, signals(kinds, random), kinds)
    out.mkdir(parents=True, exist_ok=True)
    flat = {
        "/".join(map(str, path)): np.asarray(value.get_value())
        for path, value in nnx.to_flat_state(parameters)
    }
    np.savez(out / "parameters.npz", **flat)
    shutil.copy(Path(__file__).with_name("waves.py"), out / "waves.py")
    kinds = np.arange(12) % len(NAMES)
    rows = signals(kinds, random)
    right = int((np.argmax(nnx.merge(definition, parameters)(rows), axis=1) == kinds).sum())
    (out / "samples").mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        np.savez(out / "samples" / f"{NAMES[kinds[number]]}-{number}.npz", signal=row)
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
