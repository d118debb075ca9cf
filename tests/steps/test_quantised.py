"""Quantising and its undoing give ONNX's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.steps.compile import compile_post, compile_pre, reference_post, reference_pre
from modelport.steps.image import Layout, Normalize
from modelport.steps.post import TopK
from modelport.steps.quantised import Dequantize, Quantize
from modelport.tensors import TensorSpec


@pytest.mark.parametrize("to", ["int8", "uint8"])
@pytest.mark.parametrize("scale", [0.0078431, 1 / 127.5, 0.5, 0.02])
def test_quantize(to: str, scale: float) -> None:
    zero = -1 if to == "int8" else 128
    steps = (Normalize(127.5, 127.5), Quantize(scale, zero, to), Layout("chw"))  # type: ignore[arg-type]
    picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    session = OnnxRuntime().open(compile_pre(steps, "x").data)
    got, want = session.run({"image": picture})["x"], reference_pre(steps, picture)
    assert got.dtype == want.dtype == to
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_dequantize(dtype: str) -> None:
    steps = (Dequantize(0.00390625, 3), TopK())
    spec = TensorSpec("y", dtype, ("batch", 256))
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype)[None]
    got = OnnxRuntime().open(compile_post(steps, [spec], ()).data).run({"y": values})
    want = reference_post(steps, {"y": values}, ())
    np.testing.assert_array_equal(got["scores"], want["scores"])
    assert want["scores"][0, 0] == np.float32((limits.max - 3) / 256)


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Quantize(0.0)
    with pytest.raises(ValueError, match="-128 to 127"):
        Quantize(1.0, 128)
    with pytest.raises(UsageError, match="uint8 or int8"):
        compile_post((Dequantize(1.0),), [TensorSpec("y", "float32", ("batch", 4))], ())
    two = [TensorSpec(name, "uint8", ("batch", 4)) for name in ("a", "b")]
    with pytest.raises(UsageError, match="must say `of`"):
        compile_post((Dequantize(1.0),), two, ())
