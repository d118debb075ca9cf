"""The part of train.py that runs where Ultralytics is installed: train, validate, say where the weights are.

    PYTHON train_ultralytics.py task.json

Knows nothing of Modelport, which is not in that environment.
"""

from __future__ import annotations

import contextlib
import json
import netrc
import os
import sys
from pathlib import Path
from typing import Any

import yaml


def main(task: dict[str, Any]) -> None:
    """Train as `task` says (see train.py), and write the result to its `result` file."""
    if Path(task["settings"]["model"]).is_file() or task["settings"]["model"].endswith(".yaml"):
        os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing has to be fetched
    from ultralytics import YOLO
    from ultralytics import settings as own
    from ultralytics.utils import torch_utils

    if hasattr(os, "sched_getaffinity"):
        # Ultralytics leaves a core free, which on two cores is half of the machine.
        torch_utils.NUM_THREADS = min(8, len(os.sched_getaffinity(0)))
    own.update({"tensorboard": True, "wandb": _wandb()})
    settings = dict(task["settings"])
    runs = Path(task["runs"])
    model = YOLO(settings.pop("model"))
    model.train(
        data=str(_resolved(Path(task["data"]), runs)),
        project=str(runs),
        exist_ok=True,
        verbose=False,
        **{"workers": 0 if settings["device"] == "cpu" else 8, **settings, **_typed(task["extra"])},
    )
    weights = Path(model.trainer.best)
    measured = YOLO(str(weights)).val(
        data=str(runs / "data.yaml"),
        imgsz=settings["imgsz"],
        device=settings["device"],
        workers=0,
        plots=False,
        project=str(runs),
        name=f"{settings['name']}-val",
        exist_ok=True,
        verbose=False,
    )
    result = {
        "weights": str(weights),
        "map50": float(measured.box.map50),
        "map50_95": float(measured.box.map),
    }
    Path(task["result"]).write_text(json.dumps(result))


def _resolved(data: Path, runs: Path) -> Path:
    """A copy of data.yaml with a whole path in it: Ultralytics takes others from where it was started."""
    held = yaml.safe_load(data.read_text())
    held["path"] = str((data.parent / str(held.get("path") or "")).resolve())
    copy = runs / "data.yaml"
    copy.write_text(yaml.safe_dump(held, sort_keys=False))
    return copy


def _wandb() -> bool:
    """Whether Weights & Biases is configured, by its variables or by `wandb login`; says what is missing
    where its package is not there.
    """
    if not (os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") or _logged_in()):
        return False
    try:
        import wandb  # noqa: F401
    except ImportError:
        print(f"note: for Weights & Biases: {sys.executable} -m pip install wandb", file=sys.stderr)
        return False
    return True


def _logged_in() -> bool:
    """Whether `wandb login` left a key for Weights & Biases' own server."""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    return False


def _typed(extra: dict[str, str]) -> dict[str, Any]:
    """Settings given as text: numbers and true/false are read as such."""
    return {name: yaml.safe_load(text) for name, text in extra.items()}


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
