"""The server's own process stays small: graphs and pictures are the executors' affair until somebody asks."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("PIL", "onnx", "onnxruntime", "av", "torch", "cv2")


def test_the_front_end_imports_nothing_that_runs_or_reads_models() -> None:
    code = f"import sys, modelport.serve.server; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]", "import it where it is used"
