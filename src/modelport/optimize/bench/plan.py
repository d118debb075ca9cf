"""What is to be measured, what a reader has to know of it, and what repeats it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from ..._version import __version__
from ...bundle.store import Bundle
from ...runtimes.form import DEFAULT, FUNCTIONS
from ..items import Items
from .timing import LEAST_ROUNDS, Measured

SECONDS, EACH = 20.0, 1.0
"""Of measuring, and of each configuration where there are more."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and for how long."""

    runtimes: tuple[str, ...] = ()
    """Names; none for every one that is installed and takes the bundle."""
    variants: tuple[str, ...] = ()
    """Names, `packed` for the network as it was packed; none for all."""
    batches: tuple[int, ...] = ()
    """Items of a call; by default 1, 4 and 16, and for a network of a fixed batch that."""
    threads: tuple[int, ...] = ()
    """Threads of one run; by default 1 and as many as there are cores."""
    seconds: float | None = None
    """Of measuring; by default 20, and more where there are more configurations than that."""
    profile: bool = False
    """Whether the operators are asked for, too."""
    trust: bool = False
    """Whether a network that is a Python function may run."""
    seed: int = 0
    """Of the order of turns."""


def said_of_items(items: Items) -> list[str]:
    """Where the items come from, unless they are the user's, and what was left out of those."""
    said = list(items.notes)
    count = f"{len(items.encoded)} item{'s' if len(items.encoded) > 1 else ''}"
    if items.origin == "golden":
        said.append(f"measured on the {count} in the bundle (its golden cases); --data measures on others")
    if items.origin == "generated":
        said.append(f"measured on {count} that were made up; --data measures on real ones")
    return said


def said_of(measured: Measured) -> list[str]:
    """What is to be known of how it was measured."""
    said = []
    split = {each.batch: parts for each, parts in measured.parts.items() if parts > 1}
    for batch, parts in split.items():
        said.append(
            f"a batch of {batch} is {parts} runs of the network: once prepared, its items have several shapes"
        )
    if measured.rounds < LEAST_ROUNDS:
        count = f"{measured.rounds} round{'s' if measured.rounds > 1 else ''}"
        said.append(
            f"only {count} in {measured.seconds:.0f} s: the intervals say little; measure fewer "
            "configurations, or longer (--seconds)"
        )
    return said


def processor() -> str:
    """The processor's name; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def versions_of(names: Collection[str]) -> dict[str, str]:
    """Of Modelport, Python, ONNX Runtime, and the packages that are called so, as most runtimes are."""
    found = {"modelport": __version__, "python": platform.python_version()}
    for name in sorted({*names, DEFAULT} - {FUNCTIONS}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a runtime that is called otherwise than its package
    return found


def command_of(bundle: Bundle, data: object, plan: Plan) -> str:
    """What repeats it."""
    words = ["modelport", "bench", str(bundle.path)]
    words += [] if data is None else ["--data", str(data)]
    for name in plan.runtimes:
        words += ["--runtime", name]
    for name in plan.variants:
        words += ["--variant", name]
    words += ["--batch", ",".join(map(str, plan.batches))] if plan.batches else []
    words += ["--threads", ",".join(map(str, plan.threads))] if plan.threads else []
    words += ["--seconds", f"{plan.seconds:g}"] if plan.seconds is not None else []
    words += ["--seed", str(plan.seed)] if plan.seed else []
    words += ["--profile"] if plan.profile else []
    words += ["--trust"] if plan.trust else []
    return shlex.join(words)
