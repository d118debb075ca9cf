"""Makes each contestant's network in its own environment, and judges it. Slow; what is there stays."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modelport.bundle.store import Bundle
from modelport.engine.cores import usable_cores
from modelport.evaluate.values import Outcome
from modelport.optimize.calibration import read_calibration
from modelport.runtimes.pipeline import Pipeline

from .cases import Case, Labelled
from .contestants import MARGIN, OURS, START, Contestant, contestants
from .environments import LINES, python_for
from .judging import Judge
from .networks import InOnnxRuntime, InOpenVINO, Network, outputs_of
from .places import MADE, PEERS, RESULTS, SOURCE, key, read_json, write_json

SECONDS = 3600
"""The longest that a peer may take for one network."""
Told = dict[str, Any]


def made_path(case: Case) -> Path:
    """What is known of the networks of a case."""
    return RESULTS / f"made-{case.name}.json"


def make(case: Case, data: Path, *, only: str, again: str, tell: Callable[[str], None]) -> None:
    """Every contestant's network of a case that is not there yet.

    Args:
        only: a regular expression of the contestants that are looked at.
        again: the same of those that are made even though they are there.
    """
    bundle, labelled = case.bundle(data), case.labelled(data)
    calibration = _calibration(case, bundle, labelled)
    judge: Judge | None = None
    start: list[Outcome] = []
    for contestant in contestants(case):
        if not re.search(only, contestant.id):
            continue
        folder = _folder(case, contestant, bundle, calibration, labelled)
        known = read_json(made_path(case)).get(contestant.id, {})
        anew = bool(again and re.search(again, contestant.id))
        there = (folder / "answer.json").exists() and not anew
        if there and known.get("folder") == folder.name and "judged" in known:
            continue
        tell(f"{case.name}: {contestant.id}")
        if judge is None:
            judge = Judge(bundle, labelled.truth)
            start = judge.outcomes(_start(bundle).net)
        if there:  # what was cut short before it was judged
            told = read_json(folder / "answer.json")
        else:
            told = _made(case, contestant, bundle, labelled, calibration, folder, data)
        if "error" not in told:
            told["judged"] = _judged(judge, start, bundle, contestant, folder, told)
        found = read_json(made_path(case)) | {contestant.id: {**told, "folder": folder.name}}
        write_json(made_path(case), found)
        tell(f"    {told.get('error') or told['judged']}")
    if judge is not None:
        judge.close()


def _calibration(case: Case, bundle: Bundle, labelled: Labelled) -> Path:
    """The prepared calibration items, the same for all."""
    path = MADE / "cases" / case.name / "calibration.npz"
    if not path.exists():
        found = read_calibration(bundle, labelled.calibration)
        names = found.prepared[0]
        np.savez(path, **{name: np.stack([item[name] for item in found.prepared]) for name in names})
    return path


def _folder(
    case: Case, contestant: Contestant, bundle: Bundle, calibration: Path, labelled: Labelled
) -> Path:
    """Where this network is, or would be: another one for other inputs."""
    net = bundle.read(bundle.manifest.graphs.net.file)
    inputs: list[Any] = [case.name, contestant.id, contestant.settings, net]
    if contestant.module:
        inputs += [calibration, (PEERS / f"{contestant.module}.py"), list(LINES[contestant.environment])]
    if labelled.truth.is_file():
        inputs.append(labelled.truth)
    return MADE / "networks" / case.name / f"{contestant.id}-{key(*inputs)}"


def _made(
    case: Case,
    contestant: Contestant,
    bundle: Bundle,
    labelled: Labelled,
    calibration: Path,
    folder: Path,
    data: Path,
) -> Told:
    """The network's file and what it took, or why there is none."""
    if contestant.id == START:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "net.onnx").write_bytes(bundle.read(bundle.manifest.graphs.net.file))
        told = {"file": "net.onnx", "runtime": "onnxruntime", "seconds": 0.0, "processor_seconds": 0.0}
        write_json(folder / "answer.json", told)
        return told
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if contestant.id == OURS:
        return _ours(case, bundle, labelled, folder)
    job = {
        "model": str(_start_file(bundle, folder)),
        "out": str(folder),
        "calibration": str(calibration),
        "bundle": str(bundle.path),
        "truth": str(labelled.truth),
        "weights": str(data / case.weights),
        "settings": {**contestant.settings, "photos": str(labelled.calibration)},
    }
    path = write_json(folder / "job.json", job)
    command = [
        str(python_for(contestant.environment)),
        "-m",
        f"benchmarks.optimize.peers.{contestant.module}",
    ]
    return _run([*command, str(path)], folder)


def _start_file(bundle: Bundle, folder: Path) -> Path:
    path = folder / "float32.onnx"
    path.write_bytes(bundle.read(bundle.manifest.graphs.net.file))
    return path


def _run(command: list[str], folder: Path) -> Told:
    """A peer's process; its output is kept beside what it made."""
    paths = {"PYTHONPATH": f"{SOURCE / 'src'}:{SOURCE}", "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    with (folder / "log").open("w") as log:
        try:
            done = subprocess.run(
                command, stdout=log, stderr=log, cwd=folder, env=paths, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {SECONDS} s"}
    answer = folder / "answer.json"
    if not answer.exists():
        return {"error": f"it ended with {done.returncode}: {last_words((folder / 'log').read_text())}"}
    told: Told = json.loads(answer.read_text())
    return told


def last_words(log: str) -> str:
    """What a process says of its end: its exception where there is one, its last line else."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return (raised or lines or ["no output"])[-1][:300]


def _ours(case: Case, bundle: Bundle, labelled: Labelled, folder: Path) -> Told:
    """`modelport optimize` as a user calls it."""
    command = ["optimize", str(bundle.path), "--data", str(labelled.calibration)]
    command += ["--eval", str(labelled.truth), "--max-drop", f"{MARGIN:g}", "--gate", case.gate]
    command += ["-o", str(folder / "repo"), "--json"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "modelport", *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
        )
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / "report.json").write_text(done.stdout)
    if done.returncode not in (0, 1):
        return {"error": f"it ended with {done.returncode}: {last_words((folder / 'log').read_text())}"}
    report = json.loads(done.stdout)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {
        "file": f"repo/{report['written']}" if report["written"] else "",
        "runtime": "bundle",
        "chosen": report["chosen"],
        "tried": len(report["entries"]),
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "versions": report["versions"],
        "gate": case.gate,
    }
    write_json(folder / "answer.json", told)
    return told


def opened(
    bundle: Bundle, folder: Path, told: Told, *, threads: int, rows: int = 0, streams: int = 0
) -> Network:
    """A peer's network, as its users run it."""
    path, outputs = folder / told["file"], outputs_of(bundle)
    if told["runtime"] == "openvino":
        return InOpenVINO(path, outputs, threads=threads, rows=rows, streams=streams)
    return InOnnxRuntime(path, outputs, threads=threads)


def chosen_bundle(bundle: Bundle, folder: Path, told: Told) -> Bundle:
    """Ours: what `modelport optimize` wrote; the START where it found nothing better."""
    return Bundle.open(folder / told["file"]) if told["file"] else bundle


def _start(bundle: Bundle) -> Pipeline:
    return Pipeline.open(bundle, variant="", threads=usable_cores())


def _judged(
    judge: Judge, start: list[Outcome], bundle: Bundle, contestant: Contestant, folder: Path, told: Told
) -> Told:
    """The network's accuracy beside the START's, and its size."""
    if contestant.id == OURS:
        own = chosen_bundle(bundle, folder, told)
        with Pipeline.open(own, threads=usable_cores()) as pipeline:
            found = judge.outcomes(pipeline.net, around=pipeline)
            variant = next((each for each in own.manifest.variants if each.name == pipeline.variant), None)
        file = own.manifest.graphs.net.file if variant is None else variant.file
        size = own.manifest.files[file].size
    else:
        network = opened(bundle, folder, told, threads=usable_cores())
        found = judge.outcomes(network.run)
        network.close()
        size = (folder / told["file"]).stat().st_size
        weights = (folder / told["file"]).with_suffix(".bin")
        size += weights.stat().st_size if told["runtime"] == "openvino" else 0
    return judge.compared(start, found) | {"bytes": size}
