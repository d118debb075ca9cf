"""One other process that opens a source which is code, and computes with it; seen from this side."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy.typing as npt

from ..errors import InputError, ModelFailed, Unsupported, UsageError
from .child.converter import LAST_WORDS
from .child.frames import FrameError, read_frame, write_frame

Array = npt.NDArray[Any]

MAIN = Path(__file__).parent / "child" / "main.py"
# Where libraries are found, how many threads they take, and the language; no keys, tokens or proxies.
KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
MAX_ANSWER_BYTES = 4 << 30
LOG_TAIL = 4096


class Limits(msgspec.Struct, frozen=True):
    """What the other process may use."""

    memory_bytes: int = 8 << 30
    seconds: float = 600.0
    """For one answer, by the wall clock."""


class Worker:
    """Ends with `close`, or with the last reference to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], folder: Path, limits: Limits, confined: Mapping[str, str]
    ) -> None:
        self.limits = limits
        self.confined = dict(confined)
        """Measure -> "yes", or why it is not in force (see `child.sandbox.confine`)."""
        self._process = process
        self._folder = folder
        self.close = weakref.finalize(self, _end, process, folder)

    def call(
        self, fields: Mapping[str, Any], arrays: Mapping[str, Array] | None = None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request and its answer.

        Raises:
            InputError: the source cannot be read as what it looks like. Unsupported: it is of a kind that
                is not converted, or needs more memory or time than allowed. ModelFailed: the process died.
        """
        return _exchange(self._process, self._folder, self.limits, (fields, arrays or {}))


def start(
    python: Path, converter: str, limits: Limits, *, private: bool, holding: int | None = None
) -> Worker:
    """A confined process with one converter in it.

    Args:
        python: the interpreter: this one, or that of a private environment.
        converter: the name of its module in `child`, or a plugin's file, absolute and ending in `.py`.
        limits: memory and time.
        private: whether it is a private environment, which the user's settings of Python do not reach.
        holding: a file descriptor that the process keeps open while it lives.

    Raises:
        Unsupported: it does not start.
    """
    if os.name != "posix":
        raise Unsupported("opening files that are code needs Linux or macOS")
    folder = Path(tempfile.mkdtemp(prefix="modelport-isolated-"))
    cores = os.cpu_count() or 1
    command = [str(python), "-I" if private else "-P", str(MAIN), str(folder), converter]
    command += [str(limits.memory_bytes), str(int(limits.seconds * cores))]
    try:
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(folder, private),
                cwd=folder,
                start_new_session=True,
                pass_fds=() if holding is None else (holding,),
            )
    except OSError as problem:
        shutil.rmtree(folder, ignore_errors=True)
        raise Unsupported(f"{python} does not start: {problem}") from problem
    try:
        first, _ = _exchange(process, folder, limits, None)
    except BaseException:
        _end(process, folder)
        raise
    return Worker(process, folder, limits, first["confined"])


def _environment(folder: Path, private: bool) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    if not private and "PYTHONPATH" in os.environ:
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    own = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR", "MPLCONFIGDIR"), str(folder))
    return (
        kept
        | own
        | {
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
    )


def _exchange(
    process: subprocess.Popen[bytes],
    folder: Path,
    limits: Limits,
    request: tuple[Mapping[str, Any], Mapping[str, Array]] | None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Send, and read the answer, with the clock running."""
    assert process.stdin is not None and process.stdout is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    clock = threading.Timer(limits.seconds, stop)
    clock.daemon = True
    clock.start()
    try:
        if request is not None:
            write_frame(process.stdin, *request)
        answer = read_frame(process.stdout, MAX_ANSWER_BYTES)
    except (FrameError, OSError) as problem:
        process.kill()
        raise _died(process, folder, limits, late.is_set()) from problem
    finally:
        clock.cancel()
    if answer is None:
        raise _died(process, folder, limits, late.is_set())
    fields, arrays = answer
    if fields.get("ok") is not True:
        raise _failure(fields, limits)
    return fields, arrays


def _failure(fields: Mapping[str, Any], limits: Limits) -> Exception:
    """The error that an answer tells of; its words come from a process that is not trusted."""
    kind, reason = str(fields.get("kind")), str(fields.get("reason"))[:500]
    hint = str(fields["hint"])[:500] if fields.get("hint") else None
    if kind == "refused":
        return InputError(reason, hint=hint)
    if kind == "unsupported":
        return Unsupported(reason, hint=hint)
    if kind == "usage":
        return UsageError(reason, hint=hint)
    if kind == "MemoryError" or "can't allocate memory" in reason:
        return _too_much_memory(limits)
    if kind in ("ModuleNotFoundError", "ImportError", "PackageNotFoundError"):
        return Unsupported(f"the environment is not complete: {reason}", hint="modelport doctor --envs")
    return InputError(f"the source cannot be read or run: {reason} ({kind})")


def _died(process: subprocess.Popen[bytes], folder: Path, limits: Limits, late: bool) -> Exception:
    code = process.wait()
    if late or code == -24:  # SIGXCPU
        return Unsupported(
            f"it took longer than {limits.seconds:g} seconds and was stopped",
            hint="a file that is sound is read in far less; a slow machine may need a second try",
        )
    said = _tail(folder / "log")
    if "MemoryError" in said or "bad_alloc" in said:
        return _too_much_memory(limits)
    if (foreseen := _last_words(folder)) is not None:
        return _failure(foreseen, limits)
    lines = [line for line in said.splitlines() if not re.match(r"[IW]\d{4} ", line)]  # TensorFlow's chatter
    return ModelFailed(f"the process that opened it died (status {code}): {lines[-1] if lines else '-'}")


def _too_much_memory(limits: Limits) -> Unsupported:
    return Unsupported(f"it needs more than the {limits.memory_bytes / 2**30:g} GB of memory that it may use")


def _last_words(folder: Path) -> dict[str, Any] | None:
    """What the process left to be said if it died; it is not trusted."""
    try:
        with (folder / LAST_WORDS).open("rb") as stream:
            said = msgspec.json.decode(stream.read(LOG_TAIL))
    except (OSError, msgspec.DecodeError):
        return None
    return said if isinstance(said, dict) else None


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LOG_TAIL))
            return stream.read(LOG_TAIL).decode(errors="replace").strip()
    except OSError:
        return ""


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    streams: tuple[IO[bytes] | None, ...] = (process.stdin, process.stdout)
    for stream in streams:
        if stream is not None:
            with contextlib.suppress(OSError):  # what was still to be written to a dead process
                stream.close()
    shutil.rmtree(folder, ignore_errors=True)
