"""Runs ONNX graphs on raw inputs from files; started on an emulated processor, so it imports little.

    python graphs.py JOBS SECONDS

`jobs.py`, beside this folder, tells what the file JOBS holds and what is printed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
NUMBERS = {name: number for number, name in DTYPES.items()}
TEXT = 8


def session(model: str, level: int, entries: Sequence[tuple[str, str]]) -> Any:
    """A graph, opened for one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(level)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in entries:
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(number: int, shape: Sequence[int], file: str) -> Any:
    """One input."""
    with open(file, "rb") as opened:
        data = opened.read()
    if number == TEXT:
        texts = [text.decode() for text in data.split(b"\0")[: math.prod(shape)]]
        return np.array(texts, dtype=object).reshape(shape)
    # An earlier job's output may have more rows than are wanted.
    return np.frombuffer(data, DTYPES[number], math.prod(shape)).reshape(shape)


def write(array: Any, file: str) -> None:
    """One output; prints what it is."""
    if array.dtype == object or array.dtype.kind in "US":
        number, data = TEXT, b"".join(str(text).encode() + b"\0" for text in array.reshape(-1))
    else:
        number, data = NUMBERS[array.dtype.name], np.ascontiguousarray(array).tobytes()
    with open(file, "wb") as opened:
        opened.write(data)
    print("output", number, array.ndim, *array.shape, file)


def main(jobs: str, seconds: float) -> None:
    """Every job in its order, until the time is over."""
    until = time.monotonic() + seconds
    model, level = "", 99
    sessions: dict[str, Any] = {}
    entries: list[tuple[str, str]] = []
    inputs: dict[str, Any] = {}
    outputs: dict[str, str] = {}
    with open(jobs, encoding="utf-8", newline="\n") as file:
        for line in file:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "model":
                rewritten, model = rest.split(" ", 1)
                level = int(rewritten)
                entries, inputs, outputs = [], {}, {}
            elif word == "setting":
                key, value = rest.split(" ", 1)
                entries.append((key, value))
            elif word == "input":
                number, rank, rest = rest.split(" ", 2)
                *shape, name_file = rest.split(" ", int(rank))
                file_name, name = name_file.split(" ", 1)
                inputs[name] = read(int(number), [int(size) for size in shape], file_name)
            elif word == "output":
                file_name, name = rest.split(" ", 1)
                outputs[name] = file_name
            elif word == "run":
                if time.monotonic() > until:
                    break
                if model not in sessions:
                    sessions[model] = session(model, level, entries)
                made = sessions[model].run(list(outputs), inputs)
                for array, file_name in zip(made, outputs.values(), strict=True):
                    write(np.asarray(array), file_name)
                print("ran", flush=True)


main(sys.argv[1], float(sys.argv[2]))
