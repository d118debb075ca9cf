"""What can be asked of a server, as values: how a request is written, how its reply is read. No I/O.

`Calls` is the seam: the Open Inference Protocol over HTTP (oip.py) and over gRPC (grpc_oip.py) are two ways
to make the same calls, and the blocking and the asyncio client two ways to carry them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ..errors import UsageError
from .items import Read
from .values import (
    InferResult,
    ModelMetadata,
    ModelState,
    ModelStatistics,
    Output,
    ServerMetadata,
)

T = TypeVar("T")

Parameter = bool | int | float | str
Version = str | int | None


class Call(Generic[T]):
    """One request, to be sent once or more often."""

    __slots__ = ("about", "read", "write")

    def __init__(
        self, about: str, write: Callable[[float | None], Any], read: Callable[[Any, float], T]
    ) -> None:
        self.about = about
        """What is asked, in words for an error."""
        self.write = write
        """Seconds left (None: no limit) -> what the transport sends."""
        self.read = read
        """What the transport received, and the seconds since the call began -> the answer.

        Raises Failed for a refusal, BadReply for nonsense.
        """


class Calls(Protocol):
    """Everything a client can ask for, in one of the protocol's transports."""

    def live(self) -> Call[bool]: ...

    def ready(self, model: str | None, version: Version) -> Call[bool]: ...

    def server(self) -> Call[ServerMetadata]: ...

    def metadata(self, model: str, version: Version) -> Call[ModelMetadata]: ...

    def models(self) -> Call[tuple[ModelState, ...]]: ...

    def statistics(self, model: str | None, version: Version) -> Call[tuple[ModelStatistics, ...]]: ...

    def load(self, model: str, parameters: Mapping[str, Parameter]) -> Call[None]: ...

    def unload(self, model: str, parameters: Mapping[str, Parameter]) -> Call[None]: ...

    def predict(
        self,
        model: str,
        item: Read,
        version: Version,
        options: Mapping[str, Parameter] | None = None,
    ) -> Call[Any]:
        """A Prediction; of a table's several rows a list of them."""
        ...

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: Version,
        outputs: Sequence[str | Output] | None,
        id: str | None,
        priority: int,
        parameters: Mapping[str, Parameter] | None,
    ) -> Call[InferResult]: ...


def parameters_of(given: Mapping[str, Parameter] | None, priority: int = 0) -> dict[str, Parameter]:
    """A request's parameters: the caller's, and the priority.

    Raises:
        UsageError: one that is no plain value.
    """
    found: dict[str, Parameter] = dict(given or {})
    for name, value in found.items():
        if not isinstance(value, bool | int | float | str):
            raise UsageError(f"parameter {name!r}: expected text or a number, got {type(value).__name__}")
    if priority:
        found["priority"] = priority
    return found


def microseconds(seconds: float) -> int:
    """Time left as the protocol's parameter `timeout` has it, where 0 would mean no limit."""
    return max(1, int(seconds * 1e6))


def outputs_of(asked: Sequence[str | Output] | None) -> list[Output] | None:
    """The outputs that a caller names.

    Raises:
        UsageError: not a sequence of names, or a name twice.
    """
    if asked is None:
        return None
    if isinstance(asked, str):
        raise UsageError(f"outputs={asked!r}: expected a sequence", hint=f"outputs=[{asked!r}]")
    found = [Output(entry) if isinstance(entry, str) else entry for entry in asked]
    names = [entry.name for entry in found]
    if len(set(names)) != len(names):
        raise UsageError(f"an output is asked for twice: {', '.join(names)}")
    return found


def name_of(model: str) -> str:
    """A model's name.

    Raises:
        UsageError: none, or one that would mean another path.
    """
    if not isinstance(model, str) or model in ("", ".", ".."):
        raise UsageError(f"{model!r} is no model's name", hint="client.models() lists them")
    return model


def version_of(version: Version) -> str:
    """A version as text; empty: the server chooses.

    Raises:
        UsageError: one that would mean another path.
    """
    text = "" if version is None else str(version)
    if text in (".", "..") or (version is not None and not text):
        raise UsageError(f"{version!r} is no version", hint="client.metadata(model).versions lists them")
    return text


def version_parameter(version: Version) -> dict[str, Parameter]:
    """A version as load and unload take it."""
    return {} if version is None else {"version": version_of(version)}
