"""Photos in, boxes out: a served detector beside Ultralytics' own predict loop with the same ONNX file.

    python benchmarks/detection.py --model yolov5n.onnx --photos DIR [--video FILE] --ultralytics PYTHON

Both run the same file with the same onnxruntime on all cores, conf .25 and iou .45, by turns. Ours is asked
over HTTP with the JPEG's bytes, by one client and by several; theirs reads the files itself. A video is
read by `modelport predict` and by Ultralytics. PYTHON is one that has Ultralytics; the model must be of a
layout that it reads (`[1, 4 + classes, boxes]`, with Ultralytics' metadata).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import modelport

OPTIONS = {"score_threshold": 0.25, "iou_threshold": 0.45}
FEW_FRAMES = 10
"""Frames before the clock of a video starts: until then the process starts and loads."""


@contextmanager
def ended(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes, gone at the end."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def theirs(peer: subprocess.Popen[str], source: Path) -> dict[str, Any]:
    """One round of Ultralytics on a folder or a video."""
    assert peer.stdin is not None and peer.stdout is not None
    peer.stdin.write(json.dumps({"source": str(source)}) + "\n")
    peer.stdin.flush()
    for line in peer.stdout:
        if line.startswith("round "):
            told: dict[str, Any] = json.loads(line.removeprefix("round "))
            return told
    raise SystemExit(f"Ultralytics ended with {peer.wait(10)}")


def ours(client: modelport.Client, name: str, photos: list[bytes], clients: int) -> dict[str, Any]:
    """One round over HTTP: every photo once, `clients` of them under way."""
    stages: dict[str, list[float]] = {"decode": [], "pre": [], "queue": [], "net": [], "post": []}

    def ask(photo: bytes) -> int:
        answer = client.predict(name, photo, options=OPTIONS)
        for stage, values in stages.items():
            values.append(getattr(answer.timing, stage) * 1e3)
        return len(answer.detections)

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        boxes = sum(pool.map(ask, photos))
    seconds = time.perf_counter() - began
    mean = {stage: statistics.fmean(values) for stage, values in stages.items()}
    return {"seconds": seconds, "pictures": len(photos), "boxes": boxes, "stages": mean}


def our_video(bundle: Path, video: Path) -> float:
    """Frames a second of `modelport predict` on a video, after its first frames."""
    command = [sys.executable, "-m", "modelport", "predict", str(bundle), str(video), "--json"]
    with ended([*command, "--conf", "0.25", "--iou", "0.45"]) as process:
        assert process.stdout is not None
        times = [time.perf_counter() for _ in process.stdout]
    return (len(times) - FEW_FRAMES) / (times[-1] - times[FEW_FRAMES - 1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the medians."""
    photos = [path.read_bytes() for path in sorted(options.photos.glob("*.jpg"))]
    rates: dict[str, list[float]] = {}
    last: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = modelport.pack(
            options.model, out=folder, name="detector", recipe=options.recipe, golden=[options.golden]
        )
        serve = [sys.executable, "-m", "modelport", "serve", folder, "--port", "0", "--json"]
        peer_file = Path(__file__).with_name("detection_peer.py")
        theirs_of = [str(options.ultralytics), str(peer_file), str(options.model)]
        with ended(serve) as server, ended(theirs_of) as peer:
            assert server.stdout is not None
            with modelport.Client(json.loads(server.stdout.readline())["url"]) as client:
                for turn in range(options.rounds + 1):  # the first warms up
                    rounds = {"Ultralytics": theirs(peer, options.photos)}
                    for clients in (1, options.clients):
                        rounds[f"modelport, {clients} clients"] = ours(client, "detector", photos, clients)
                    for name, told in rounds.items():
                        if turn:
                            rates.setdefault(name, []).append(told["pictures"] / told["seconds"])
                        last[name] = told
            if options.video:
                for _ in range(options.rounds):
                    told = theirs(peer, options.video)
                    rates.setdefault("Ultralytics, video", []).append(told["pictures"] / told["seconds"])
                    path = Path(folder) / "detector" / bundle.manifest.version
                    rates.setdefault("modelport, video", []).append(our_video(path, options.video))
    return {"rates": {name: statistics.median(values) for name, values in rates.items()}, "last": last}


def report(result: dict[str, Any]) -> str:
    """A table: pictures a second, over Ultralytics', and where one picture's time goes."""
    head = "| what | pictures/s | over Ultralytics | boxes | ms of one picture by stage |"
    lines = [head, "|---|---|---|---|---|"]
    for name, rate in result["rates"].items():
        base = result["rates"]["Ultralytics, video" if "video" in name else "Ultralytics"]
        told = result["last"].get(name, {})
        stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in told.get("stages", {}).items())
        lines.append(f"| {name} | {rate:.1f} | {rate / base:.2f} | {told.get('boxes', '')} | {stages} |")
    peer = result["last"]["Ultralytics"]
    lines += ["", f"*Ultralytics {peer['ultralytics']}, onnxruntime {peer['onnxruntime']} there.*"]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of .jpg files")
    parser.add_argument("--golden", type=Path, required=True, help="a photo with objects, to pack with")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--recipe", help="where it is not recognised")
    parser.add_argument("--ultralytics", type=Path, required=True, help="a Python that has Ultralytics")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    result = measure(options := parser.parse_args())
    print(json.dumps(result) if options.json else report(result))


if __name__ == "__main__":
    main()
