"""The other process: confines itself, opens one source with one converter, and answers until told to stop.

    python -I main.py FOLDER CONVERTER MEMORY_BYTES SECONDS

Requests come on standard input and answers leave on standard output (`frames`); whatever a framework prints
goes to standard error. The first frame out says what confines this process; the rest are answers, each
`{"ok": true, "seconds": ..., "peak_bytes": ..., ...}` or `{"ok": false, "kind": "...", "reason": "..."}`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

PACKAGE = "modelport_child"
MAX_REQUEST_BYTES = 4 << 30


def main(folder: str, converter: str, memory_bytes: int, seconds: int) -> None:
    """Serve requests until standard input ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    os.chdir(folder)
    _package()
    sandbox = importlib.import_module(f"{PACKAGE}.sandbox")
    confined = sandbox.confine(folder, memory_bytes, seconds)
    frames = importlib.import_module(f"{PACKAGE}.frames")
    memory = importlib.import_module(f"{PACKAGE}.memory")
    frames.write_frame(answers, {"ok": True, "confined": confined}, {})
    work = _converter(converter).Converter()
    while (request := frames.read_frame(requests, MAX_REQUEST_BYTES)) is not None:
        fields, arrays = request
        try:
            begun = time.monotonic()
            reply, results = work.answer(fields, arrays)
            cost = {"seconds": time.monotonic() - begun, "peak_bytes": memory.peak_bytes()}
            frames.write_frame(answers, {**reply, **cost, "ok": True}, results)
        except Exception as problem:  # noqa: BLE001  # the edge of this process: told to the other side
            _tell(frames, answers, problem)


def _tell(frames: Any, answers: Any, problem: BaseException) -> None:
    import traceback

    traceback.print_exception(problem)
    kind = getattr(problem, "kind", type(problem).__name__)
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    reason = lines[0][:500] if lines else type(problem).__name__
    fields = {"ok": False, "kind": kind, "reason": reason, "hint": getattr(problem, "hint", None)}
    frames.write_frame(answers, fields, {})


def _converter(name: str) -> Any:
    """One of this folder's modules, or the file of a plugin's, which imports from this folder as they do."""
    if not name.endswith(".py"):
        return importlib.import_module(f"{PACKAGE}.{name}")
    spec = importlib.util.spec_from_file_location(f"{PACKAGE}.plugin", name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _package() -> None:
    """This folder as a package of its own name: Modelport is not there to be imported from."""
    folder = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
