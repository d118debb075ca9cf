"""A Python function of one file: imported and called here, and nowhere else."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .converter import Refused
from .frames import Array

MODULE = "modelport_function"


class Converter:
    """`open` imports the file that is sent and finds the function; `run` calls it with arrays by name."""

    def __init__(self) -> None:
        self.function: Callable[..., Any] | None = None
        self.name = ""

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            self.name = str(fields["function"])
            self.function = self.find(arrays["source"].tobytes(), self.name)
            return {"framework": f"python {sys.version.split()[0]}", "kind": "python"}, {}
        return {}, self.run(arrays)

    def find(self, source: bytes, name: str) -> Callable[..., Any]:
        """The function.

        Raises:
            Refused: the file does not import, or has no such function.
        """
        path = Path(f"{MODULE}.py").resolve()
        path.write_bytes(source)
        spec = importlib.util.spec_from_file_location(MODULE, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[MODULE] = module
        try:
            spec.loader.exec_module(module)
        except Exception as problem:
            raise Refused(f"the file of {name!r} does not import: {_told(problem)}") from problem
        found = getattr(module, name, None)
        if not callable(found):
            raise Refused(f"the file has no function {name!r}")
        function: Callable[..., Any] = found
        return function

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the function gives: a dictionary of arrays, or one array, which is called `output`.

        Raises:
            Refused: it raises, or gives something else.
        """
        assert self.function is not None
        try:
            result = self.function(**batch)
        except Exception as problem:
            raise Refused(f"the function {self.name!r} failed: {_told(problem)}") from problem
        named = result if isinstance(result, Mapping) else {"output": result}
        outputs = {str(name): np.asarray(value) for name, value in named.items()}
        strange = [name for name, array in outputs.items() if array.dtype.kind not in "fiubUSO"]
        if not outputs or strange:
            raise Refused(
                f"the function {self.name!r} gives no arrays of numbers or text: {type(result).__name__}"
            )
        return {
            name: array.astype(str).astype(object) if array.dtype.kind in "USO" else array
            for name, array in outputs.items()
        }


def _told(problem: BaseException) -> str:
    """The error and the line of the file that it comes from."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if MODULE in frame.filename]
    where = f" (line {frames[-1].lineno}: {(frames[-1].line or '').strip()[:80]})" if frames else ""
    said = " ".join(str(problem).split())[:200]
    return f"{type(problem).__name__}: {said}{where}"
