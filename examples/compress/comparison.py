"""What the recipes share: their options; and the networks they made, packed and compared on the test
pictures.

Every figure of the table is of the packed bundle, not of the framework's model: multiply-adds and bytes of
`net.onnx`, answers by `modelport.evaluate` to PNG files, time in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from pictures import DataError, Pictures, read, write_folders

import modelport
from modelport.evaluate.compare import compare
from modelport.importers.source import Permission
from modelport.optimize.count import count
from modelport.optimize.intervals import interval

RECIPE = Path(__file__).parent / "pictures.toml"
GOLDEN = 4
ROUNDS = 60
RUNS = 10
DATA = (
    "the pictures: train/CLASS/*.jpg (or .png) and test/CLASS/*.jpg, or MNIST's four files, or CIFAR-10's "
    "binary version"
)
NETWORK = (
    "a Python file with a function network(widths, classes, shape) that makes your network, not trained; "
    "pytorch/own.py is one (default: a network that fits the pictures)"
)
KINDS = ("pruned", "sparse", "student")


@dataclass(frozen=True)
class Row:
    """One network beside the first. Differences are this one's minus the first's, in points, of the same
    items."""

    name: str
    multiply_adds: int
    bytes: int
    packed_bytes: int
    """After gzip."""
    accuracy: float
    """Percent."""
    difference: float
    low: float
    high: float
    """The 95 % interval of the difference, by the paired bootstrap."""
    p_value: float
    """McNemar's exact test."""
    time: float
    """Processor time of the network over the first's, batch 1, one thread."""
    time_low: float
    time_high: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that the recipes of all frameworks have."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", required=True, help=DATA)
    add("--side", type=int, default=32, help="pictures in folders of classes become so large (default 32)")
    add("--network", type=Path, metavar="FILE.py", help=NETWORK)
    add("--teacher", type=Path, metavar="FILE", help="the first network, trained (default: it is trained)")
    add("--teacher-epochs", type=int, default=6, help="of training it (default 6)")
    add("--only", choices=KINDS, nargs="+", default=list(KINDS), help="what to make of it (default: all)")
    add("--fewer", type=float, default=4.5, help="times fewer multiply-adds for `pruned` (default 4.5)")
    add("--importance", choices=("taylor", "magnitude"), default="taylor", help="of channels, for `pruned`")
    add("--multiple", type=int, default=2, help="this many channels of a layer go at a time (default 2)")
    add("--zeros", type=float, default=0.9, help="share of the weights, for `sparse` (default 0.9)")
    add("--rounds", type=int, default=3, help="of pruning, with training in between (default 3)")
    add("--epochs", type=int, default=4, help="of training after the last round of `pruned` (default 4)")
    add("--student-epochs", type=int, default=6, help="of training `student` (default 6)")
    add("--batch", type=int, default=128, help="pictures of a step (default 128)")
    add("--flip", action="store_true", help="mirror half of the training pictures (not for digits)")
    add("--threads", type=int, default=2, help="of training (default 2)")
    add("--seed", type=int, default=1, help="of every random choice (default 1)")
    add("-o", "--out", type=Path, default=Path("compressed"), help="folder of all of it (default compressed)")


def own_network(path: Path) -> Callable[[Sequence[int], int, tuple[int, int, int]], Any]:
    """The function `network(widths, classes, shape)` of a Python file, which is run.

    It makes a network that is not trained: of three widths, as wide as `widths` says, for pictures of
    `shape` in the order of its framework (PyTorch: channels, side, side; Keras: side, side, channels), with
    raw logits [batch, classes].

    Raises:
        SystemExit: no such file, it does not run, or it has no such function.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SystemExit(f"error: expected a Python file at {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise SystemExit(f"error: {path} does not run: {_said(problem)}") from problem
    if not hasattr(module, "network"):
        raise SystemExit(f"error: expected a function network(widths, classes, shape) in {path}, found none")
    return module.network


@contextlib.contextmanager
def explained(path: Path, takes: str, classes: int) -> Iterator[list[tuple[int, ...]]]:
    """Within it a network of the file `path` is made and asked about two pictures; the shape of what it gives
    goes into the list.

    Args:
        takes: how pictures are given to it.

    Raises:
        SystemExit: it fails, or gives something else than a logit for each class; what was expected is said.
    """
    expected = (
        f"error: {path}: expected of network(widths, classes, shape) a network for pictures {takes} that "
    )
    expected += f"gives [batch, {classes}]"
    given: list[tuple[int, ...]] = []
    try:
        yield given
    except Exception as problem:
        raise SystemExit(f"{expected}; it fails: {_said(problem)}") from problem
    if given != [(2, classes)]:
        raise SystemExit(f"{expected}; for 2 pictures it gives {list(given[0])}")


def _said(problem: Exception) -> str:
    """The first line of what went wrong."""
    return f"{type(problem).__name__}: {(str(problem).splitlines() or [''])[0]}"


def begun(description: str, needs: Mapping[str, str]) -> tuple[argparse.Namespace, Pictures]:
    """What the command line asks for, and the pictures that it names; the folder of all of it is made.

    Args:
        description: the first line of --help.
        needs: modules that the recipe imports, and the command that brings each.

    Raises:
        SystemExit: --help, a wrong option, a module that is not installed, or no such pictures.
    """
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    args = parser.parse_args()
    for module, command in needs.items():
        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"error: this recipe needs {module}, which is not installed: {command}")
    try:
        pictures = read(args.data, args.side)
    except DataError as error:
        raise SystemExit(f"error: {error}") from None
    args.out.mkdir(parents=True, exist_ok=True)
    return args, pictures


def finished(
    args: argparse.Namespace, pictures: Pictures, ending: str, write: Callable[[str, Path, Path], None]
) -> None:
    """Make what is asked for and not there yet, the teacher first, and compare all.

    Args:
        ending: of the files of networks.
        write: makes the network of a name, by the teacher's file, and writes it to the last path.
    """
    teacher = args.teacher or args.out / f"teacher{ending}"
    files = {"teacher": teacher} | {name: args.out / f"{name}{ending}" for name in args.only}
    for name, file in files.items():
        if not file.is_file():
            print(f"{name}:")
            write(name, teacher, file)
    report(files, pictures, args.out)


def report(files: Mapping[str, Path], pictures: Pictures, out: Path) -> list[Row]:
    """Pack each of `files`, compare all with the first, print the table, write OUT/table.md and
    OUT/table.json.

    OUT/test has the test pictures as PNG files and OUT/repo the bundles; both are made once.
    """
    test = out / "test"
    if not test.is_dir():
        write_folders(pictures.test_images, pictures.test_labels, pictures.names, test)
    bundles = {name: packed(name, path, pictures, out) for name, path in files.items()}
    found = {name: modelport.evaluate(bundle, test, concurrency=1) for name, bundle in bundles.items()}
    networks = {name: bundle.read(bundle.manifest.graphs.net.file) for name, bundle in bundles.items()}
    times = seconds(networks, pictures.shape)
    first = next(iter(files))
    rows = []
    for name, network in networks.items():
        comparison = compare(found[first], found[name])
        change, test_of_pairs = comparison.changes["accuracy"], comparison.mcnemar
        if change.low is None or change.high is None or test_of_pairs is None:
            raise SystemExit("error: expected a classification with intervals")
        rows.append(
            Row(
                name,
                count(onnx.load_model_from_string(network)).total,
                len(network),
                len(gzip.compress(network)),
                100 * (change.second or 0.0),
                100 * (change.difference or 0.0),
                100 * change.low,
                100 * change.high,
                test_of_pairs.p_value,
                *ratio(times[name], times[first]),
            )
        )
    text = table(rows, len(found[first].outcomes))
    print(text)
    (out / "table.md").write_text(text + "\n")
    (out / "table.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return rows


def packed(name: str, path: Path, pictures: Pictures, out: Path) -> modelport.Bundle:
    """The bundle OUT/repo/NAME/1 of the model in `path`, made unless it is there and of this file;
    verified."""
    place = out / "repo" / name / "1"
    if place.is_dir() and place.stat().st_mtime < path.stat().st_mtime:
        shutil.rmtree(place)
    if not place.is_dir():
        golden = sorted((out / "test").rglob("*.png"))
        modelport.pack(
            path,
            out=out / "repo",
            name=name,
            recipe="digits" if pictures.digits else RECIPE,
            settings={"size": pictures.shape[0]},
            labels=pictures.names,
            golden=golden[:: max(1, len(golden) // GOLDEN)][:GOLDEN],
            permission=Permission(trust=True),  # the file was made by ourselves a moment ago
        )
    bundle = modelport.Bundle.open(place)
    replay = modelport.verify(bundle)
    if not replay.ok:
        raise SystemExit(f"error: {name} does not answer as the trained one did:\n{replay.summary()}")
    return bundle


def seconds(networks: Mapping[str, bytes], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Processor time of one picture in each network, float64 [rounds], measured by turns with one thread.

    The time of this thread's own work, not the clock's: what else the machine does hardly shows in it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    side, _, channels = shape
    random = np.random.default_rng(0)
    opened = {}
    for name, network in networks.items():
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        last = given.shape[-1] == channels and given.shape[1] != channels
        size = (1, side, side, channels) if last else (1, channels, side, side)
        opened[name] = (session, {given.name: random.standard_normal(size, dtype=np.float32)})
    found: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(ROUNDS + 1):
        for name in random.permutation(list(opened)):
            session, inputs = opened[name]
            began = time.thread_time()
            for _ in range(RUNS):
                session.run(None, inputs)
            if turn:  # the first round warms up
                found[name].append((time.thread_time() - began) / RUNS)
    return {name: np.array(each) for name, each in found.items()}


def ratio(times: np.ndarray, first: np.ndarray) -> tuple[float, float, float]:
    """The median over rounds of times / first, and its 95 % interval by the bootstrap over rounds."""
    found = interval(times / first)
    return found.value, found.low, found.high


def table(rows: list[Row], items: int) -> str:
    """In Markdown."""
    head = ["network", "multiply-adds", "kB", "kB, gzip", f"right of {items:,}", "difference, points", "time"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    first = rows[0]
    for row in rows:
        fewer = first.multiply_adds / row.multiply_adds
        cells = [
            f"`{row.name}`",
            f"{row.multiply_adds / 1e6:.2f} M" + (f" (÷ {fewer:.2f})" if row is not first else ""),
            f"{row.bytes / 1000:.0f}",
            f"{row.packed_bytes / 1000:.0f}",
            f"{row.accuracy:.2f} %",
        ]
        if row is first:
            cells += ["", "1"]
        else:
            cells += [
                f"{row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f}), p = {row.p_value:.2g}",
                f"{row.time:.2f} ({row.time_low:.2f}–{row.time_high:.2f})",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
