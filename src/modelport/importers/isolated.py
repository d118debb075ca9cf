"""Sources that are code: who may open them, where, and the process that does. Knows no framework.

This process never unpickles and never imports the framework: it says what is needed, asks, and talks to the
other one (`isolation.worker`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import Unsupported
from ..isolation import environments
from ..isolation.environments import Table
from ..isolation.worker import Limits, Worker, start
from .source import Permission

SHOWN_NAMES = 4
EXTRAS = ("torch", "tensorflow", "sklearn", "xgboost", "lightgbm", "catboost")
"""Environments whose packages are an extra of the same name, too."""


def refusal(path: Path, what: str, names: Sequence[str], foreign: Sequence[str]) -> Unsupported:
    """Why a file that is code is not opened without `trust`, and what it would call.

    Args:
        path, what: the file, and what it is in a few words.
        names: what the file names of the framework's own.
        foreign: what it names beyond that.
    """
    holds = f"{path} is {what}, a pickle: opening it runs what it names ({_some(names)})"
    if foreign:
        return Unsupported(
            f"{holds}; it also names {_some(foreign)}, which no such file needs",
            hint="do not open it; ask whoever made it for weights without code, or for ONNX",
        )
    return Unsupported(
        holds,
        hint="if you trust whoever made it: --trust (permission=Permission(trust=True) in Python) opens it "
        "in a process of its own, without network",
    )


def open_worker(
    converter: str, environment: str, permission: Permission, limits: Limits | None = None
) -> Worker:
    """A confined process with a converter, in the current environment or in a private one.

    Args:
        converter: the module in `isolation.child`, or a plugin's file.
        environment: the private environment's name.
        permission: whether one may be made, and who is asked.
        limits: memory and time.

    Raises:
        Unsupported: the current environment will not do and another may not, or cannot, be made.
    """
    wanted = environments.table(environment)
    limits = limits or Limits()
    lacking = environments.lacks(wanted)
    if not lacking:
        return start(Path(sys.executable), converter, limits, private=False)
    python = environments.python_of(wanted) or _made(wanted, lacking, permission)
    permission.tell(f"starting in the private environment {environment}")
    with environments.locked(wanted.folder, shared=True) as lock:
        # The lock goes with the process: while it lives, the environment is not cleared.
        return start(python, converter, limits, private=True, holding=lock)


def how_confined(worker: Worker) -> str:
    """What the other process may not do, in a sentence; what the system did not grant is said as well."""
    said = {
        "network": "no network",
        "processes": "no other programs",
        "files": "no writing outside its own folder",
        "memory": f"at most {worker.limits.memory_bytes / 2**30:g} GB of memory",
    }
    kept = [text for measure, text in said.items() if worker.confined.get(measure) == "yes"]
    kept.append(f"{worker.limits.seconds:g} s for each answer")
    missing = [
        f"{said[measure]} ({reason})"
        for measure, reason in worker.confined.items()
        if reason != "yes" and measure in said
    ]
    text = f"opened in a process of its own: {', '.join(kept)}"
    return text + (f"; NOT enforced on this system: {', '.join(missing)}" if missing else "")


def _made(wanted: Table, lacking: Sequence[str], permission: Permission) -> Path:
    environments.refuse_python(wanted)
    begun = time.monotonic()
    why = f"this needs {', '.join(lacking)}, which the current environment has not"
    size = f"about {wanted.megabytes / 1000:.1f} GB in {environments.root()}, once"
    offer = f"a private environment for it ({size}; {wanted.licence})"
    if not permission.isolate:
        ask: Callable[[str], bool] | None = permission.ask
        if ask is None or not ask(f"{why}. Make {offer}?"):
            raise Unsupported(why, hint=f"--isolate makes {offer}{_or_here(wanted)}")
    permission.tell(f"{why}; making {offer}")
    python = environments.make(wanted, permission.tell)
    permission.making.append(time.monotonic() - begun)
    return python


def _or_here(wanted: Table) -> str:
    """The extra that brings the same into the current environment, where there is one of that name."""
    return f"; or, here: pip install 'modelport[{wanted.name}]'" if wanted.name in EXTRAS else ""


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    return f"{shown} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else shown
