"""What is to be run on another machine, as files that a program in any language reads in a few lines.

The file of jobs holds lines of words with one space between them; a name, being last, may hold spaces:

    model LEVEL FILE                       begins a job: the graph, opened once, and how far it is rewritten
    setting KEY VALUE                      of the session, by ONNX Runtime's name
    input DTYPE RANK SIZE … FILE NAME      DTYPE is ONNX's number of a type, FILE the values
    output FILE NAME                       where an output is to be written
    run                                    ends the job

and the program prints, for each job that it ran, `output DTYPE RANK SIZE … FILE` for every output and then
`ran`. Values lie in C order and little-endian; texts are UTF-8, each with a zero byte behind it. A program
begins no job after the seconds that it was given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..errors import Unsupported
from ..tensors import DTYPES_OF_ONNX, Array, dtype_name

NAME = "jobs"
"""The file of jobs, in a folder of its own, from where the program is started."""
NUMBERS = {name: number for number, name in DTYPES_OF_ONNX.items()}
"""ONNX's number of each datatype."""
ALL = 99
"""Every rewriting of a graph that ONNX Runtime knows."""


class Job(msgspec.Struct, frozen=True, eq=False):
    """One run of one graph."""

    graph: bytes
    """The serialized model, its weights inside."""
    inputs: Mapping[str, Array | Earlier]
    outputs: tuple[str, ...]
    """The names of those that are wanted."""
    level: int = ALL
    """How far ONNX Runtime rewrites the graph: 0 not at all, 99 as far as it can."""
    settings: Mapping[str, str] = {}
    """Of its session, by ONNX Runtime's own names."""


class Earlier(msgspec.Struct, frozen=True, eq=False):
    """What an earlier job gives on that machine."""

    job: int
    output: int
    like: Array
    """An array of the datatype and the shape that it has."""


def write(folder: Path, jobs: Sequence[Job]) -> None:
    """The file of jobs, the graphs and the inputs, into an empty folder.

    Raises:
        Unsupported: a name or text that the files cannot hold.
    """
    lines = []
    for number, job in enumerate(jobs):
        model = f"{hashlib.sha256(job.graph).hexdigest()[:16]}.onnx"
        if not (folder / model).exists():
            (folder / model).write_bytes(job.graph)
        lines.append(f"model {job.level} {model}")
        lines += [f"setting {key} {value}" for key, value in job.settings.items()]
        for index, (name, given) in enumerate(job.inputs.items()):
            if isinstance(given, Earlier):
                file, array = f"{given.job}.{given.output}.out", given.like
            else:
                file, array = f"{number}.{index}.in", given
                (folder / file).write_bytes(_bytes(array))
            sizes = " ".join(str(size) for size in (array.ndim, *array.shape))
            lines.append(f"input {NUMBERS[dtype_name(array)]} {sizes} {file} {_name(name)}")
        lines += [f"output {number}.{index}.out {_name(name)}" for index, name in enumerate(job.outputs)]
        lines.append("run")
    (folder / NAME).write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")


def read(folder: Path, jobs: Sequence[Job], printed: str) -> list[dict[str, Array]]:
    """The outputs of the jobs that were run, which may be fewer than there are; the first ones.

    Args:
        printed: what the program wrote on its standard output, also where it was ended in the midst of it.

    Raises:
        ValueError: it is not what such a program prints.
    """
    done: list[dict[str, Array]] = []
    arrays: list[Array] = []
    lines = printed.split("\n")
    whole = max((place for place, line in enumerate(lines) if line == "ran"), default=-1) + 1
    for line in lines[:whole]:
        word, *rest = line.split(" ")
        if word == "ran":
            job = jobs[len(done)]
            done.append(dict(zip(job.outputs, arrays, strict=True)))
            arrays = []
        elif word == "output":
            number, rank, *shape, file = rest
            if len(shape) != int(rank):
                raise ValueError(f"not a line of outputs: {line!r}")
            data = (folder / file).read_bytes()
            arrays.append(_array(data, DTYPES_OF_ONNX[int(number)], [int(n) for n in shape]))
    return done


def _name(name: str) -> str:
    if "\n" in name or "\r" in name:
        raise Unsupported(f"a tensor is called {name!r}: only names of one line are run on other machines")
    return name


def _bytes(array: Array) -> bytes:
    if dtype_name(array) != "string":
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return np.ascontiguousarray(little).tobytes()
    texts = [str(text) for text in array.reshape(-1)]
    if any("\0" in text for text in texts):
        raise Unsupported("a text with a zero character in it cannot be given to another machine")
    return "".join(f"{text}\0" for text in texts).encode()


def _array(data: bytes, dtype: str, shape: Sequence[int]) -> Array:
    if dtype == "string":
        texts = data.decode().split("\0")[: math.prod(shape)]
        made = np.empty(len(texts), dtype=object)
        made[:] = texts
        return made.reshape(shape)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)
