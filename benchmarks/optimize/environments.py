"""The peers' environments: made of pinned lines, one call of pip for each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.serving.places import CACHE, python_of

OWN = (
    "msgspec pillow click rich pyyaml faster-coco-eval starlette prometheus_client simplejpeg httptools "
    "uvloop python-multipart sympy requests"
)
"""What judging by this project's own evaluation needs, and what the peers import without saying so."""
COMMON = "numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1"
LINES: dict[str, tuple[str, ...]] = {
    "olive": ("torch==2.13.0", f"torch==2.13.0 olive-ai==0.13.0 {COMMON}"),
    "openvino": (f"openvino==2026.4.1 nncf==3.4.0 {COMMON}",),
    # torchvision by itself: its pins would have torch chosen again, with CUDA.
    "ultralytics": (
        "torch==2.13.0",
        "--no-deps torchvision==0.28.0",
        f"torch==2.13.0 ultralytics==8.4.190 openvino==2026.4.1 nncf==3.4.0 onnxslim==0.1.98 {COMMON}",
    ),
}
"""The pins that a peer's network hangs on."""


def python_for(name: str) -> Path:
    """The interpreter of an environment, made where it is not there yet."""
    python = python_of(name)
    done = CACHE / "venv" / name / "optimize-lines"
    lines = "\n".join((*LINES[name], OWN))
    if not done.exists() or done.read_text() != lines:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv" / name)], check=True)
        for line in (*LINES[name], OWN):
            subprocess.run([str(python), "-m", "pip", "-q", "install", *line.split()], check=True)
        done.write_text(lines)
    return python
