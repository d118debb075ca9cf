"""Tracks of a MOTChallenge sequence: our session beside the tracker's own library, scored by TrackEval.

    python benchmarks/tracking.py --sequence TUD-Campus --model yolov5n.onnx
        [--appearance EMBEDDING_BUNDLE] [--fps 25] [--json]

The sequence is a folder with img1/, det/det.txt and gt/gt.txt. Both sides get the same boxes: those of
det.txt, and those that the packed network finds (score 0.1 and above, people alone). The library's side is
what its documentation shows: `update` with every picture's boxes, everything at its default. With a bundle
that gives a vector for a picture DeepSORT is measured too, both sides with the same vectors; it has no second
look at weak boxes, so both get those above 0.3.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import supervision
import trackers

import modelport
from modelport.media.sources import open_source
from modelport.track.appearance import Appearance
from modelport.track.association import Following
from modelport.track.mot import Row, by_frame, read_rows, write_rows
from modelport.track.run import Given, detector, follow_source
from modelport.track.session import Session

MADE = {"bytetrack": "ByteTrackTracker", "ocsort": "OCSORTTracker", "sort": "SORTTracker"}
HOTAS = {"hota": "HOTA", "det_a": "DetA", "ass_a": "AssA"}
WEAK = 0.3
"""DeepSORT takes boxes that score more."""
FIGURES = ("mota", "idf1", "hota", "det_a", "ass_a", "id_switches")


def by_trackeval(truth: list[Row], result: list[Row]) -> dict[str, float]:
    """TrackEval's metrics; how far boxes overlap (IoU) is computed here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from trackeval.metrics import CLEAR, HOTA, Identity
    rows = (truth, result)
    numbers = [{track: i for i, track in enumerate(sorted({row.track for row in each}))} for each in rows]
    frames = max(row.frame for each in rows for row in each) + 1
    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    for frame in range(frames):
        boxes = []
        for name, each, known in zip(("gt_ids", "tracker_ids"), rows, numbers, strict=True):
            here = [row for row in each if row.frame == frame]
            data[name].append(np.array([known[row.track] for row in here], int))
            boxes.append(np.array([row.box for row in here], float).reshape(-1, 4))
        data["similarity_scores"].append(overlaps(*boxes))
    data |= {"num_gt_ids": len(numbers[0]), "num_tracker_ids": len(numbers[1]), "num_timesteps": frames}
    data |= {"num_gt_dets": len(truth), "num_tracker_dets": len(result)}
    hota = HOTA().eval_sequence(data)
    clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    means = {name: float(np.mean(hota[key])) for name, key in HOTAS.items()}
    return {
        "mota": float(clear["MOTA"]),
        "idf1": float(identity["IDF1"]),
        **means,
        "id_switches": int(clear["IDSW"]),
        "fragments": int(clear["Frag"]),
        "false_positives": int(clear["CLR_FP"]),
        "misses": int(clear["CLR_FN"]),
    }


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union: float[n, 4], float[m, 4] -> float[n, m]."""
    a, b = one[:, None], other[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    both = np.prod(sides, -1)
    areas = [np.prod(each[..., 2:] - each[..., :2], -1) for each in (a, b)]
    return both / (areas[0] + areas[1] - both)


def alone(name: str, frames: dict[int, list[dict[str, Any]]], fps: float) -> list[Row]:
    """What the library says by itself."""
    tracker = getattr(trackers, MADE[name])(frame_rate=fps)
    rows = []
    for frame in range(max(frames) + 1):
        found = frames.get(frame, [])
        boxes = np.array([each["box"] for each in found], np.float32).reshape(-1, 4)
        scores = np.array([each["score"] for each in found], np.float32)
        said = tracker.update(supervision.Detections(xyxy=boxes, confidence=scores))
        for box, identity in zip(said.xyxy, said.tracker_id, strict=True):
            if identity >= 0:
                rows.append(Row(frame, int(identity), tuple(map(float, box)), 1.0))
    return rows


def ours(name: str, frames: dict[int, list[dict[str, Any]]], fps: float, folder: Path) -> list[Row]:
    """What `modelport track` says, through the file that it writes."""
    path = folder / "result.txt"
    session = Session(Following(name, fps=fps))
    with Given("boxes", frames, fps) as source, path.open("w") as file:
        for shown in follow_source(source, lambda frame: frames.get(frame.index, []), session):
            write_rows(file, shown.step.frame, shown.step.tracks)
    return read_rows(path)


def by_looks(frames: dict[int, Any], sequence: Path, bundle: Path, fps: float) -> dict[str, list[Row]]:
    """DeepSORT's tracks, by its library alone and by our session."""
    from deep_sort_realtime.deepsort_tracker import DeepSort

    alone = DeepSort(embedder=None, max_age=round(fps), nn_budget=100)
    session = Session(Following("deepsort", fps=fps))
    rows: dict[str, list[Row]] = {"library": [], "modelport": []}
    with modelport.Pipeline.open(bundle) as pipeline, open_source(str(sequence / "img1"), fps=fps) as source:
        appearance = Appearance(pipeline)
        for frame in source:
            found = [each for each in frames.get(frame.index, []) if each["score"] > WEAK]
            vectors = appearance.vectors(frame.picture, found)
            corners = [each["box"] for each in found]
            given = [
                ([x, y, right - x, bottom - y], each["score"], None)
                for each, (x, y, right, bottom) in zip(found, corners, strict=True)
            ]
            places = list(range(len(found)))
            for track in alone.update_tracks(given, embeds=list(vectors), others=places):
                if track.is_confirmed() and track.time_since_update == 0:
                    box = tuple(map(float, corners[track.get_det_supplementary()]))
                    rows["library"].append(Row(frame.index, int(track.track_id), box, 1.0))
            height, width = frame.picture.shape[:2]
            step = session.step(found, frame.seconds, (width, height), vectors=vectors)
            for each in step.tracks:
                rows["modelport"].append(Row(frame.index, each["track"], tuple(each["box"]), 1.0))
    return rows


def found_by(model: Path, sequence: Path, fps: float, folder: Path) -> dict[int, Any]:
    """The people that the packed network finds in each picture."""
    bundle = modelport.pack(model, out=folder / "repo", recipe="yolov5", name="detector")
    frames: dict[int, Any] = {}
    with modelport.Pipeline.open(bundle, threads=2) as pipeline:
        people = [number for number, label in enumerate(bundle.labels()) if label == "person"]
        detect = detector(pipeline, {}, classes=people)

        def keep(frame: Any) -> list[dict[str, Any]]:
            frames[frame.index] = detect(frame)
            return frames[frame.index]

        with open_source(str(sequence / "img1"), fps=fps) as source:
            for _ in follow_source(source, keep, Session(Following(fps=fps))):
                pass
            return frames


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequence", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="YOLOv5, ONNX; without it only the boxes of det.txt")
    parser.add_argument("--appearance", type=Path, help="a bundle that gives a vector for a picture")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    truth = [row for row in read_rows(given.sequence / "gt" / "gt.txt") if row.score != 0]
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boxes = {"det.txt": by_frame(read_rows(given.sequence / "det" / "det.txt"))}
        if given.model:
            boxes[given.model.stem] = found_by(given.model, given.sequence, given.fps, folder)
        for source, frames in boxes.items():
            for tracker in MADE:
                for side, rows in (
                    ("library", alone(tracker, frames, given.fps)),
                    ("modelport", ours(tracker, frames, given.fps, folder)),
                ):
                    lines.append(
                        {"boxes": source, "tracker": tracker, "by": side, **by_trackeval(truth, rows)}
                    )
            if given.appearance and source != "det.txt":
                for side, rows in by_looks(frames, given.sequence, given.appearance, given.fps).items():
                    line = {"boxes": source, "tracker": "deepsort", "by": side}
                    lines.append({**line, **by_trackeval(truth, rows)})
    if given.json:
        print(json.dumps(lines, indent=2))
        return
    print("| boxes | tracker | by | MOTA | IDF1 | HOTA | DetA | AssA | switches |")
    print("|---" * 9 + "|")
    for line in lines:
        cells = [f"{line[each]:.4f}" for each in FIGURES[:-1]] + [str(line["id_switches"])]
        print("| " + " | ".join([line["boxes"], line["tracker"], line["by"], *cells]) + " |")


if __name__ == "__main__":
    main()
