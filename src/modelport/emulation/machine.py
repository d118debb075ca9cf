"""The machines that can be emulated, and what is run on one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ..errors import ModelFailed, NotFound, Unsupported, did_you_mean
from ..tensors import Array
from . import jobs as files
from .arm64 import NEWER, Arm64
from .jobs import Job
from .older_x86 import OlderX86
from .wasm import Wasm

Note = Callable[[str], None]
Count = Callable[[int], None]
"""Told how many are done."""

GRACE = 2.0
"""A run that has taken so many times what it was given is ended: it looks at the clock between jobs alone."""
MORE = 10
"""So many times what was not enough for anything is worth a try."""
LINES = 6
GLANCE = 0.25
"""Seconds from one look at what is done to the next."""


class Emulator(Protocol):
    """How graphs are run on one kind of machine."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def machine(self) -> str:
        """The class of processors that it stands for, as `Variant.machine` names it."""
        ...

    def reason(self) -> str:
        """Why it cannot be used here, and what to install; empty where it can."""
        ...

    def ready(self) -> bool:
        """Whether nothing has to be fetched or built before."""
        ...

    def prepare(self, tell: Note) -> str:
        """Fetch and build what is not there yet; the engine that will run, with its version.

        Raises:
            Unsupported: that does not work.
        """
        ...

    def command(self, jobs: str, seconds: float) -> list[str]:
        """What runs the file of jobs from within its folder."""
        ...


class Machine(msgspec.Struct, frozen=True):
    """A machine that may be emulated here."""

    name: str
    title: str
    machine: str
    """The class of processors, as in `Variant.machine`."""
    reason: str
    """Why it cannot be emulated here, and what to install; empty where it can."""
    ready: bool
    """False: something is fetched once, when it is first used."""

    @property
    def available(self) -> bool:
        """Whether it can be emulated here."""
        return not self.reason


class Ran(msgspec.Struct, frozen=True, eq=False):
    """What a machine gave."""

    outputs: list[dict[str, Array]]
    """Of the jobs that the time was enough for, in order."""
    engine: str
    seconds: float


class Kept(msgspec.Struct, frozen=True):
    """What is fetched and built once for a machine."""

    name: str
    folder: Path
    megabytes: int
    purpose: str
    licence: str


EMULATORS: tuple[Emulator, ...] = (
    OlderX86(),
    Arm64(),
    Arm64("aarch64-dotprod", "an arm64 with dot products, as in a Graviton 2", "aarch64-dotprod", NEWER),
    Wasm(),
)
SATURATES = "haswell"
"""Where 8-bit products of unsigned and signed numbers are cut off at 16 bits."""
ALL = "all"


def machines() -> list[Machine]:
    """Every machine that there is an emulator for, with the reason where it does not work here."""
    return [_about(each) for each in EMULATORS]


def machine(name: str) -> Machine:
    """One of them.

    Raises:
        NotFound: none has this name.
    """
    return _about(_emulator(name))


def kept() -> list[Kept]:
    """What there is to fetch, whether it was or not; several machines may share it."""
    made = (each for each in EMULATORS if isinstance(each, Arm64 | Wasm))
    there = {each.folder: each for each in reversed(list(made))}
    return [
        Kept(each.name, folder, each.megabytes, f"replay bundles on {each.title}", each.licence)
        for folder, each in there.items()
    ]


def make(name: str, tell: Note) -> None:
    """Fetch and build what a machine needs, as where there will be no network later.

    Raises:
        NotFound: no such machine. Unsupported: it cannot be emulated here.
    """
    emulator = _emulator(name)
    if reason := emulator.reason():
        raise Unsupported(f"{name} cannot be emulated here: {reason}")
    emulator.prepare(tell)


def _unheard(_: object) -> None:
    """Where nobody wants to be told."""


def run(name: str, jobs: Sequence[Job], *, seconds: float, tell: Note, count: Count = _unheard) -> Ran:
    """Run graphs on a machine, one after the other, on one thread.

    Args:
        seconds: no job is begun after that; all is ended when it takes twice as long.
        tell: told what is fetched and built, once.
        count: told how many jobs are done, as often as that is more.

    Raises:
        NotFound: no such machine. Unsupported: it cannot be emulated here. ModelFailed: a graph does not
        load or run there, or nothing was done in time.
    """
    emulator = _emulator(name)
    if reason := emulator.reason():
        raise Unsupported(f"{name} cannot be emulated here: {reason}")
    engine = emulator.prepare(tell)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        files.write(Path(folder), jobs)
        printed = _ran(emulator.command(files.NAME, seconds), folder, GRACE * seconds, count)
        try:
            outputs = files.read(Path(folder), jobs, printed)
        except (ValueError, OSError, KeyError) as problem:
            raise ModelFailed(f"what it printed cannot be read: {problem}") from problem
    return Ran(outputs, engine, round(time.monotonic() - begun, 2))


def _ran(command: Sequence[str], folder: str, limit: float, count: Count = _unheard) -> str:
    """What the program printed; also where it was ended because its time was over."""
    # Into files, which can be looked at while it runs.
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        # A session of its own, so that what it starts ends with it.
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        ) as process,
    ):
        try:
            ended = _ended(process, out.fileno(), limit, count)
        except BaseException:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            raise
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed, said = _text(out.fileno()), _text(err.fileno())
    if not ended:
        if "ran" not in printed.splitlines():
            longer = f"give it more time, perhaps --seconds {MORE * limit / GRACE:.0f}"
            raise ModelFailed(f"not one graph was run in {limit:.0f} s", hint=longer)
    elif process.returncode:
        raise ModelFailed(_last(said) or f"it ended with {process.returncode}")
    return printed


def _ended(process: subprocess.Popen[bytes], out: int, limit: float, count: Count) -> bool:
    """Whether the program ended by itself within `limit` seconds; tells how many jobs are done meanwhile."""
    until, known = time.monotonic() + limit, 0
    while True:
        left = until - time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, min(GLANCE, left)))
        done = _text(out).split("\n").count("ran")
        if done > known:
            known = done
            count(done)
        if process.returncode is not None:
            return True
        if left <= 0:
            return False


def _text(file: int) -> str:
    """All of a file, whose end stays where its writer is."""
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace").replace("\r\n", "\n")


def _last(said: str) -> str:
    """The end of what a program complained of, without the emulator's own warnings."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "TCG doesn't support" not in line]
    return " | ".join(lines[-LINES:])[-600:]


def _emulator(name: str) -> Emulator:
    known = {each.name: each for each in EMULATORS}
    if name not in known:
        raise NotFound(f"no machine is called {name!r}", hint=did_you_mean(name, [*known, ALL]))
    return known[name]


def _about(emulator: Emulator) -> Machine:
    return Machine(emulator.name, emulator.title, emulator.machine, emulator.reason(), emulator.ready())
