"""Train a detector on your own pictures, and leave a bundle that serves it. One command.

    python train.py --data data.yaml --out repo

The data set is checked first. Training, validation and the export run in an environment of their own (the
private one that Modelport makes, see --isolate, or the current one where Ultralytics is installed); then the
network is packed with its letterbox, decoding and NMS, and the bundle is verified against Ultralytics itself.

Ultralytics is under AGPL-3.0 (or a licence bought from it). It stays in that environment; whether the weights
you train may be used as you intend is for you to settle with its licence.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import check_dataset

FOLDER = Path(__file__).resolve().parent
GOLDEN = 8
"""Pictures of `val` that golden cases are recorded from."""


def parser() -> argparse.ArgumentParser:
    """The options; what is not among them goes to Ultralytics with --set."""
    made = argparse.ArgumentParser(description="Train, validate, export, pack, verify and serve a detector.")
    made.add_argument(
        "--data", type=Path, required=True, metavar="data.yaml", help="the data set, YOLO format"
    )
    made.add_argument("--out", type=Path, required=True, metavar="REPO", help="model repository to pack into")
    made.add_argument("--name", default="detector", help="the bundle's name (default detector)")
    made.add_argument("--version", default="1", help="the bundle's version (default 1)")
    made.add_argument(
        "--model", default="yolov8n.yaml", help="from scratch: a .yaml (default yolov8n.yaml); or .pt weights"
    )
    made.add_argument("--epochs", type=int, default=100)
    made.add_argument("--imgsz", type=int, default=640, help="side the network works at (default 640)")
    made.add_argument("--batch", type=int, default=16)
    made.add_argument("--device", default="cpu", help="cpu (default), or a number of a GPU")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--runs", type=Path, default=Path("runs"), help="curves, weights, logs (default runs)")
    made.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a training setting of Ultralytics: lr0=0.002",
    )
    made.add_argument("--isolate", action="store_true", help="make the private environment without asking")
    made.add_argument("--bad-labels", action="store_true", help="train although the check found errors")
    made.add_argument("--serve", type=int, metavar="PORT", help="serve the repository when all is done")
    return made


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return name, value


def main() -> int:
    chosen = parser().parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in order with what Ultralytics prints
    try:
        from modelport.errors import ModelportError
    except ImportError as problem:
        raise SystemExit(f"error: this needs Modelport ({problem})\nhint: pip install modelport") from problem
    if (target := chosen.out / chosen.name / chosen.version).exists():
        print(f"error: {target} exists; a bundle is never changed: choose another --version", file=sys.stderr)
        return 2
    try:
        if not _checked(chosen):
            return 1
        python = _python(isolate=chosen.isolate)
        began = time.monotonic()
        result = _train(chosen, python)
        print(f"trained in {time.monotonic() - began:.0f} s: {result['weights']}")
        print(f"validation: mAP50 {result['map50']:.3f}, mAP50-95 {result['map50_95']:.3f}")
        _pack(chosen, Path(result["weights"]))
    except ModelportError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except check_dataset.DataError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 3
    serve = ["serve", str(chosen.out)]
    if chosen.serve is None:
        print(f"next: modelport {' '.join(serve)}")
        return 0
    command = [sys.executable, "-m", "modelport", *serve, "--port", str(chosen.serve)]
    return subprocess.run(command, check=False).returncode


def _checked(chosen: argparse.Namespace) -> bool:
    """Print what the check of the data set found; False where it stops the training."""
    report = check_dataset.check(chosen.data)
    for line in check_dataset.lines(report):
        print(line)
    if report.ok or chosen.bad_labels:
        return True
    print("error: mend these first, or train in spite of them with --bad-labels", file=sys.stderr)
    return False


def _python(*, isolate: bool) -> Path:
    """The interpreter to train with: this one where it has Ultralytics, else the private environment's.

    Raises:
        Unsupported: neither is there and none may be made.
    """
    from modelport.errors import Unsupported
    from modelport.isolation import environments

    wanted = environments.table("ultralytics")
    lacking = environments.lacks(wanted)
    if not lacking:
        return Path(sys.executable)
    if (python := environments.python_of(wanted)) is not None:
        return python
    about = f"about {wanted.megabytes / 1000:.1f} GB in {environments.root()}, once; {wanted.licence}"
    if not isolate:
        question = f"{', '.join(lacking)} is not here. Make a private environment ({about})? [y/N] "
        if not sys.stdin.isatty() or input(question).strip().lower() not in ("y", "yes"):
            raise Unsupported(
                f"training needs {', '.join(lacking)}",
                hint=f"--isolate makes a private environment ({about})",
            )
    return environments.make(wanted, lambda step: print(step, file=sys.stderr))


def _train(chosen: argparse.Namespace, python: Path) -> dict[str, Any]:
    """Run training in its own process; where the weights are, and how good they were in validation."""
    runs = chosen.runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "model": chosen.model,
        "epochs": chosen.epochs,
        "imgsz": chosen.imgsz,
        "batch": chosen.batch,
        "device": chosen.device,
        "seed": chosen.seed,
        "name": f"{chosen.name}-{chosen.version}",
    }
    task = runs / "task.json"
    said = runs / "result.json"
    said.unlink(missing_ok=True)
    task.write_text(
        json.dumps(
            {
                "data": str(chosen.data.resolve()),
                "runs": str(runs),
                "result": str(said),
                "settings": settings,
                "extra": dict(chosen.set),
            }
        )
    )
    print(f"curves: tensorboard --logdir {runs}  (with {python.parent / 'tensorboard'})")
    environment = os.environ | {"YOLO_CONFIG_DIR": str(runs / "config"), "YOLO_AUTOINSTALL": "false"}
    (runs / "config").mkdir(exist_ok=True)
    command = [str(python), str(FOLDER / "train_ultralytics.py"), str(task)]
    with _in_use(python):
        done = subprocess.run(command, env=environment, check=False)
    if done.returncode or not said.is_file():
        raise SystemExit(f"error: training ended with status {done.returncode}; what it said is above")
    result: dict[str, Any] = json.loads(said.read_text())
    return result


def _in_use(python: Path) -> contextlib.AbstractContextManager[object]:
    """While this is held, the private environment is not cleared."""
    from modelport.isolation import environments

    folder = environments.table("ultralytics").folder
    private = python.is_relative_to(folder)
    return environments.locked(folder, shared=True) if private else contextlib.nullcontext()


def _pack(chosen: argparse.Namespace, weights: Path) -> None:
    """Pack the weights with golden cases from `val`, and say how the verification went."""
    import modelport
    from modelport.importers.source import Permission

    pictures = [
        path
        for place in check_dataset.read(chosen.data).splits["val"]
        for path in sorted(check_dataset.pictures_in(place))
    ]
    bundle = modelport.pack(
        weights,
        out=chosen.out,
        name=chosen.name,
        version=chosen.version,
        golden=pictures[:: max(1, len(pictures) // GOLDEN)][:GOLDEN],
        description=f"Trained on {chosen.data.name} of {chosen.data.resolve().parent.name}.",
        permission=Permission(trust=True, isolate=True),  # the file was made by ourselves a moment ago
    )
    report = modelport.verify(bundle)
    print(report.summary())
    print(f"packed {bundle.path}")


if __name__ == "__main__":
    sys.exit(main())
