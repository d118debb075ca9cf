"""What every engine gives: a runtime that says what it refuses, and sessions that run one graph.

Knows no engine; the adapters are found through `modelport.plugins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from ..bundle.manifest import Setting
from ..errors import UsageError, did_you_mean
from ..tensors import Array, Signature, Tensors, TensorSpec

if TYPE_CHECKING:
    from ..bundle.store import Bundle


Settings = Mapping[str, Setting]
"""A runtime's settings, by name."""
DEFAULTS: Settings = MappingProxyType({})
"""Nothing is set."""


class Values(msgspec.Struct, frozen=True):
    """What one setting does, and may be."""

    about: str
    among: tuple[Setting, ...] = ()
    """Each that it may be; a whole number of at least 1 where empty."""

    def refuses(self, value: object) -> str | None:
        """What is expected instead of `value`; None where it may be that."""
        if not self.among:
            whole = isinstance(value, int) and not isinstance(value, bool)
            return None if whole and int(str(value)) >= 1 else "a whole number of at least 1"
        if any(type(value) is type(each) and value == each for each in self.among):
            return None
        return f"one of {', '.join(str(each).lower() for each in self.among)}"


YES_NO = (False, True)


class Session(Protocol):
    """One loaded graph. `run` may be called from several threads at once."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; every dimension is an integer or has a name."""
        ...

    @property
    def options(self) -> Sequence[TensorSpec]:
        """The inputs that have a default in the graph; they are not in the signature."""
        ...

    def run(self, batch: Tensors, options: Tensors | None = None) -> dict[str, Array]:
        """The graph's outputs, by name; text comes back as object arrays of `str`.

        Args:
            batch: every input of the signature.
            options: inputs that have a default, where they are not to have it.

        Raises:
            InputError: the arrays do not fit the signature.
            ModelFailed: the graph itself raised.
        """
        ...

    def close(self) -> None:
        """Free the graph; a run in another thread is finished first."""
        ...


class Runtime(Protocol):
    """An engine that runs ONNX graphs."""

    @property
    def settings(self) -> Mapping[str, Values]:
        """What can be set where a graph is opened, by name."""
        ...

    def refuses(self, bundle: Bundle) -> str | None:
        """The reason why this engine cannot run the bundle here, as a sentence; None where it can."""
        ...

    def describe(self) -> str:
        """Version and devices, for people.

        Raises:
            Unsupported: the engine is not installed.
        """
        ...

    def open(self, graph: bytes, *, threads: int = 1, settings: Settings = DEFAULTS) -> Session:
        """Load a serialized ONNX model.

        Args:
            threads: that one run may use; a setting may allow fewer.
            settings: of `Runtime.settings`, those that are not to have their default.

        Raises:
            BundleError: the engine does not take the graph.
            Unsupported: the engine is not installed.
            UsageError: a setting that it does not have, with those that it has.
        """
        ...


def check_settings(name: str, given: Settings, known: Mapping[str, Values]) -> None:
    """Refuse settings that a runtime does not have.

    Raises:
        UsageError: the first unknown name or value, with what is known.
    """
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                f"the runtime {name} has no setting {key!r}",
                hint=did_you_mean(key, list(known)) if known else "it has none",
            )
        if (expected := known[key].refuses(value)) is not None:
            raise UsageError(f"the setting {key} of {name} is {value!r}; expected {expected}")


def run_in_parts(run: Callable[[Tensors], dict[str, Array]], batch: Tensors, rows: int) -> dict[str, Array]:
    """A graph made for exactly `rows` rows, run on a batch of any size.

    The last part is filled up with copies of its last row, which are taken off again.
    """
    total = len(next(iter(batch.values())))
    parts: list[dict[str, Array]] = []
    for start in range(0, total, rows):
        part = {name: array[start : start + rows] for name, array in batch.items()}
        missing = max(0, start + rows - total)
        if missing:
            part = {
                name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
                for name, array in part.items()
            }
        parts.append({name: array[: rows - missing] for name, array in run(part).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
