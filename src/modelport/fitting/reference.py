"""The user's function, called in another process: samples in, arrays out. Knows nothing of steps."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ..errors import InputError, NotFound, Unsupported, UsageError, did_you_mean
from ..tensors import Array
from .samples import Sample

Takes = Literal["auto", "path", "bytes", "pil", "rgb", "bgr"]
SCRIPT = Path(__file__).parent / "child" / "run_reference.py"
REPEATS = 3
GREY_READERS = r"IMREAD_GRAYSCALE|\bimread\s*\([^\n]*,\s*(flags\s*=\s*)?0\s*\)"
"""How OpenCV is asked for it."""
WORDS = {
    "path": "a path",
    "pil": "a PIL image",
    "rgb": "an array in RGB",
    "bgr": "an array in BGR",
    "bytes": "the file's bytes",
}


class Answers(msgspec.Struct, frozen=True, eq=False):
    """What the function gave."""

    way: str
    """How it was given the pictures."""
    outputs: Sequence[Array | None]
    """For each sample; None for probes that it did not take."""
    random: bool
    """Whether the same picture gave different answers."""
    packages: Mapping[str, str]
    """The libraries that it imported, with versions."""


class Reference(msgspec.Struct, frozen=True):
    """`FILE.py:FUNCTION`, and the Python that runs it."""

    file: Path
    function: str
    python: str

    @classmethod
    def parse(cls, text: str, python: str | None) -> Reference:
        """
        Raises:
            UsageError: not FILE.py:FUNCTION. NotFound: no such file.
        """
        name, colon, function = text.rpartition(":")
        if not colon or not name or not function.replace(".", "_").isidentifier():
            raise UsageError(f"expected FILE.py:FUNCTION, got {text!r}", at="--reference")
        path = Path(name)
        if not path.is_file():
            raise NotFound(f"there is no file {name!r}", hint="--reference my_preprocess.py:func")
        return cls(path.resolve(), function, python or sys.executable)

    def ask(self, samples: Sequence[Sample], takes: Takes, seconds: float) -> Answers:
        """Call the function on every sample.

        Raises:
            InputError: it is not there, raises, or gives no numbers. Unsupported: the Python does not
                start, or it takes longer than `seconds`.
        """
        with tempfile.TemporaryDirectory(prefix="modelport-fit-") as name:
            folder = Path(name)
            self._write(folder, samples, takes)
            self._run(folder, seconds)
            reply = json.loads((folder / "reply.json").read_bytes())
            if "refused" in reply:
                raise self._refusal(reply["refused"], samples)
            with np.load(folder / "outputs.npz", allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        outputs = [arrays.get(str(index)) for index in range(len(samples))]
        again = [arrays[f"again.{index}"] for index in range(REPEATS)]
        first = outputs[0]
        assert first is not None
        random = any(not _same(first, other) for other in again)
        return Answers(reply["way"], outputs, random, reply["packages"])

    def _write(self, folder: Path, samples: Sequence[Sample], takes: Takes) -> None:
        ways = self._ways() if takes == "auto" else [takes]
        items = []
        for index, sample in enumerate(samples):
            items.append({"path": str(sample.path), "probe": bool(sample.probe), "pixels": f"{index}.npy"})
            if {"rgb", "bgr"} & set(ways):
                np.save(folder / f"{index}.npy", sample.pixels)
        request = {
            "file": str(self.file),
            "function": self.function,
            "ways": ways,
            "items": items,
            "repeats": REPEATS,
        }
        (folder / "request.json").write_text(json.dumps(request))

    def _ways(self) -> list[str]:
        """Every way; BGR before RGB where the function itself turns BGR round."""
        text = self._source()
        arrays = ["bgr", "rgb"] if "BGR2RGB" in text else ["rgb", "bgr"]
        return ["path", "pil", *arrays, "bytes"]

    def _source(self) -> str:
        """The function's own lines; the whole file where it is no plain function of the file."""
        text = self.file.read_text("utf-8", "replace")
        try:
            nodes = ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError):
            return text
        own = [node for node in nodes if getattr(node, "name", None) == self.function]
        return (ast.get_source_segment(text, own[-1]) or text) if own else text

    def reads_grey(self) -> bool:
        """Whether it looks as if the function has a file decoded in grey, and not in colours."""
        return re.search(GREY_READERS, self._source()) is not None

    def _run(self, folder: Path, seconds: float) -> None:
        command = [self.python, "-X", "utf8", str(SCRIPT), str(folder)]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        log = folder / "log"
        try:
            with log.open("wb") as stream:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment,
                    timeout=seconds, check=False,
                )  # fmt: skip
        except OSError as problem:
            raise Unsupported(
                f"{self.python} does not start: {problem.strerror or problem}",
                hint="--python takes the Python of the environment that the function was written for",
            ) from problem
        except subprocess.TimeoutExpired as problem:
            raise Unsupported(
                f"{self} took longer than {seconds:g} seconds and was stopped",
                hint="fewer pictures (--limit), or more time (--timeout)",
            ) from problem
        if done.returncode or not (folder / "reply.json").is_file():
            said = log.read_text("utf-8", "replace").strip().splitlines()
            raise InputError(
                f"the process that runs {self} ended with status {done.returncode}: "
                f"{said[-1][:300] if said else 'it said nothing'}",
                hint="NumPy is needed there" if said and "numpy" in said[-1] else None,
            )

    def _refusal(self, told: Mapping[str, Any], samples: Sequence[Sample]) -> Exception:
        """The error that the process tells of."""
        kind, message = told["kind"], str(told["message"])
        at = samples[told["item"]].name if "item" in told else None
        if kind == "missing":
            known = [str(name) for name in told["known"]]
            near = did_you_mean(self.function, known, f"it has {', '.join(known)}") if known else None
            return UsageError(f"{self.file.name}: {message}", at="--reference", hint=near)
        if kind == "import":
            needs = "No module named" in message
            hint = "--python takes the Python of the environment that has it" if needs else None
            return InputError(f"{self.file.name}: {message}", at="--reference", hint=hint)
        hint = "--takes path, bytes, pil, rgb or bgr says what it is given" if kind == "call" else None
        return InputError(f"{self}: {message}", at=at, hint=hint)

    def __str__(self) -> str:
        return f"{self.file.name}:{self.function}"


def _same(one: Array, two: Array) -> bool:
    return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
