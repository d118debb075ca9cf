"""A page drawn by matplotlib, without a display; the same data gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

from ..errors import Unsupported

BLUE, ORANGE, GREEN, RED, GREY, INK = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8f98", "#1f2933"


def page(
    draw: Callable[[Any], None],
    *,
    width: float,
    height: float,
    letters: int = 10,
    format: Literal["svg", "png"] = "png",
    extra: str = "optimize",
) -> bytes:
    """What `draw` draws on a matplotlib Figure of so many inches.

    Args:
        letters: their size, in points.
        extra: of Modelport, that brings matplotlib.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise Unsupported("plots need matplotlib", hint=f"pip install 'modelport[{extra}]'") from problem
    settings = {
        "svg.hashsalt": "modelport",
        "svg.fonttype": "path",
        "font.size": letters,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.grid": True,
        "grid.color": "#e4e7eb",
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=150 if format == "png" else 100)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format=format, metadata={"Date": None} if format == "svg" else None)
    return file.getvalue()
