"""Functions and networks of JAX converted and compared with `jax.jit`; run by an interpreter that has JAX.

    python jax_cases.py MODELPORT_SOURCES SITE_PACKAGES OUT    prints JSON

What JAX's environment lacks of Modelport's own needs is taken from the second place, behind its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path += sys.argv[1:3]

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from flax import linen, nnx

from modelport.errors import ModelportError
from modelport.importers.pack import pack
from modelport.isolation.child.converter import NotConverted
from modelport.isolation.child.jax_function import Converter

Case = tuple[Any, list[tuple[Any, ...]], str]


class Pictures(nnx.Module):
    """Convolutions, norms, pools with their windows given by place, dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.second = nnx.Conv(8, 16, (3, 3), strides=2, feature_group_count=2, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(16 * 3 * 3, 4, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.avg_pool(nnx.relu(self.norm(self.first(x))), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.gelu(self.second(x)), (2, 2), (1, 1), padding="SAME")
        return self.last(self.drop(x.reshape(x.shape[0], -1)))


class Upwards(nnx.Module):
    """A transposed convolution, groups, holes."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.up = nnx.ConvTranspose(3, 4, (3, 3), strides=(2, 2), rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.holes = nnx.Conv(4, 4, (3, 3), kernel_dilation=2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return jax.nn.silu(self.holes(self.norm(self.up(x)))).mean((1, 2))


class Words(nnx.Module):
    """An embedding and attention."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(50, 16, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 16, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.embed(x)
        return jax.nn.log_softmax(self.norm(x + self.attend(x)).mean(axis=1))


class Recurrent(nnx.Module):
    """A scan, with what its cell draws to begin with."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.cell = nnx.RNN(nnx.GRUCell(4, 8, rngs=rngs))

    def __call__(self, x: Any) -> Any:
        return self.cell(x)[:, -1]


class OldStyle(linen.Module):
    """Linen, whose parameters lie outside."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.max_pool(linen.relu(linen.Conv(4, (3, 3))(x)), (2, 2), strides=(2, 2))
        return linen.softmax(linen.Dense(3)(linen.LayerNorm()(x.reshape((x.shape[0], -1)))))


def many(a: Any, b: Any) -> dict[str, Any]:
    """One of much."""
    order = jnp.argsort(b, -1)
    return {
        "best": jnp.argmax(a, -1), "sorted": jnp.sort(b, -1), "order": order, "top": jax.lax.top_k(a, 2),
        "along": jnp.take_along_axis(a, order, axis=-1), "rows": a * a.shape[0], "rest": jnp.fmod(a, 0.7),
        "down": a // 0.3, "cumulated": jnp.cumsum(a, -1), "any": (a > 0).any(-1), "all": (a < 3).all(-1),
        "clipped": jnp.clip(a, -1, 1), "norm": jnp.linalg.norm(a, axis=-1), "where": jnp.where(a > 0, a, b),
        "power": a**3, "root": jnp.cbrt(a), "soft": jax.nn.softplus(a), "elu": jax.nn.elu(a),
        "log": jax.nn.logsumexp(a, -1), "rolled": jnp.roll(a, 1, -1), "turned": a[:, ::-1],
        "hot": jax.nn.one_hot(jnp.argmax(a, -1), 4), "outer": jnp.tril(jnp.einsum("bi,bj->bij", a, b)),
        "set": a.at[:, 1].set(0.0), "added": a.at[:, 2:].add(b[:, :2]), "stack": jnp.stack([a, b], 1),
        "tiled": jnp.tile(a, (1, 2)), "padded": jnp.pad(a, ((0, 0), (1, 2))), "rounded": jnp.round(a * 3),
        "whole": (a * 5).astype(jnp.int32) % 3, "xor": (a > 0) ^ (b > 0), "small": jnp.log1p(a * 1e-6),
        "least": jnp.expm1(a * 1e-6), "finite": jnp.isfinite(1 / jnp.maximum(a, 0)),
    }  # fmt: skip


def until(x: Any) -> Any:
    """A loop whose end is found on the way, and a branch."""
    turned = jax.lax.while_loop(lambda c: c[0] < 7, lambda c: (c[0] + 1, jnp.tanh(c[1] * 1.1)), (0, x))[1]
    grown = jax.lax.fori_loop(0, 5, lambda i, c: c + jnp.sin(c) * i, turned)
    return jax.lax.cond(x[0, 0] > 0, lambda v: v * 2, lambda v: v - 1, grown)


def looked_up(x: Any) -> Any:
    """Indices beyond the table: cut to it, or nothing there."""
    table = jnp.arange(24.0).reshape(6, 4)
    return jnp.concatenate([jnp.take(table, x, axis=0, mode="clip"), jnp.take(table, x, axis=0)], -1)


def plain(x: Any) -> Any:
    """Attention without a library."""
    heads = x.reshape(x.shape[0], x.shape[1], 2, 4)
    return jax.nn.dot_product_attention(heads, heads, heads, is_causal=True).reshape(x.shape)


def cases() -> dict[str, Case]:
    """Name -> what is converted, the shapes that it takes, their datatype."""
    old = OldStyle()
    held = old.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    dense = equinox.nn.MLP(4, 3, 8, 2, key=jax.random.key(1))
    return {
        "pictures": (Pictures(nnx.Rngs(0)), [("batch", 12, 12, 1)], "float32"),
        "upwards": (Upwards(nnx.Rngs(0)), [("batch", 6, 5, 3)], "float32"),
        "words": (Words(nnx.Rngs(0)), [("batch", 7)], "int32"),
        "recurrent": (Recurrent(nnx.Rngs(0)), [("batch", 5, 4)], "float32"),
        "linen": (lambda x: old.apply(held, x), [("batch", 8, 8, 1)], "float32"),
        "bound": (old.bind(held), [("batch", 8, 8, 1)], "float32"),
        "equinox": (lambda x: jax.vmap(dense)(x), [("batch", 4)], "float32"),
        "many": (many, [("batch", 4), ("batch", 4)], "float32"),
        "until": (until, [(3, 4)], "float32"),
        "looked_up": (looked_up, [("batch", 3)], "int32"),
        "plain": (jax.jit(plain), [("batch", 6, 8)], "float32"),
    }


def difference(made: Any, shapes: list[tuple[Any, ...]], dtype: str) -> float:
    """The largest between JAX and ONNX Runtime, relative to the largest number, over several batches."""
    converter = Converter()
    names = [f"x{number}" for number in range(len(shapes))]
    specs = [
        {"name": name, "dtype": dtype, "shape": list(shape)}
        for name, shape in zip(names, shapes, strict=True)
    ]
    _, arrays = converter.open(made, specs)
    session = onnxruntime.InferenceSession(arrays["onnx"].tobytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for rows in (3, 1, 5):
        random = np.random.default_rng(rows)
        given: dict[str, Any] = {}
        for name, shape in zip(names, shapes, strict=True):
            sizes = [rows if side == "batch" else side for side in shape]
            numbers = random.normal(size=sizes) * 2 if dtype == "float32" else random.integers(-3, 50, sizes)
            given[name] = np.abs(numbers).astype(dtype) if dtype == "int32" else numbers.astype(dtype)
        want, got = converter.run(given), session.run(None, given)
        for output, array in zip(session.get_outputs(), got, strict=True):
            expected = want[output.name]
            assert (array.shape, array.dtype) == (expected.shape, expected.dtype), output.name
            np.testing.assert_array_equal(np.isfinite(array), np.isfinite(expected), output.name)
            scale = max(1.0, float(np.abs(np.nan_to_num(expected)).max()))
            worst = max(worst, float(np.abs(np.nan_to_num(array - expected * 1.0)).max()) / scale)
    return worst


def refusal(made: Callable[..., Any], dtype: str = "float32") -> str:
    """Why it is not converted."""
    try:
        Converter().open(made, [{"name": "x", "dtype": dtype, "shape": ["batch", 4]}])
    except NotConverted as problem:
        return str(problem)
    return ""


def packed(out: Path) -> dict[str, Any]:
    """A jitted function and a network, from memory."""
    bundle = pack(
        jax.jit(many), inputs=["a:float32[batch,4]", "b:float32[batch,4]"], recipe="raw", out=out, name="many"
    )
    try:
        pack(jax.jit(until), out=out, name="none")
        why = ""
    except ModelportError as problem:
        why = f"{problem.message} | {problem.hint}"
    network = pack(
        Pictures(nnx.Rngs(1)), inputs=["x:float32[batch,12,12,1]"], recipe="raw", out=out, name="net"
    )
    outputs = [spec.name for spec in bundle.manifest.outputs]
    return {"outputs": outputs, "batch": network.manifest.graphs.net.batch, "why": why}


if __name__ == "__main__":
    told: dict[str, Any] = {name: difference(*case) for name, case in cases().items()}
    told["refused"] = [
        refusal(lambda x: jax.lax.erf_inv(jnp.tanh(x))),
        refusal(lambda x: jnp.fft.fft(x).real),
    ]
    told["packed"] = packed(Path(sys.argv[3]))
    print(json.dumps(told))
