"""Steps that were read from a source's own preparation of pictures, held against that preparation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..bundle.manifest import Decode
from ..steps.compile import reference_pre
from ..steps.step import PreStep
from ..tensors import Array
from . import golden as cases

LAST_DIGITS = 2e-6
"""Share of the magnitude that numbers may differ by: they are float32 made in another order."""

Prepare = Callable[[Array], Array]
"""A picture uint8 [height, width, 3] to what the source itself makes of it."""


def difference(steps: Sequence[PreStep], prepare: Prepare) -> tuple[float, int]:
    """How far the steps are from `prepare`, as a share of the largest number (infinite where shapes or
    dtypes differ), and on how many pictures."""
    decode = cases.decoder(Decode(), ())
    worst, count = 0.0, 0
    for item in cases.made_up_pictures():
        image = decode(item.data)["image"]
        for picture in (image, np.ascontiguousarray(image[: len(image) * 2 // 3 | 1])):
            want, got = prepare(picture), reference_pre(steps, picture)
            count += 1
            if want.shape != got.shape or want.dtype != got.dtype:
                return np.inf, count
            scale = float(np.abs(want).max()) or 1.0
            worst = max(worst, float(np.abs(want.astype(np.float64) - got).max()) / scale)
    return worst, count
