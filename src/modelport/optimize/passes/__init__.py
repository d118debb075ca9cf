"""The passes, each in its own file: a network in, another network out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

import msgspec
import onnx

from ... import plugins
from ..calibration import Calibration
from ..candidate import Made, NotApplicable, Pass
from .half import Half
from .int8 import DynamicInt8, StaticInt8
from .low_rank import LowRank
from .offline import Offline
from .weights import WeightOnly


class Asked(Protocol):
    """What a plan says of the passes."""

    @property
    def portable(self) -> bool:
        """Only 8 bits that no processor overflows on."""
        ...


def catalogue(plan: Asked, *, detector: bool = False) -> Iterator[Pass]:
    """What is tried on a network, the likeliest first; passes of third parties at the end."""
    if detector:
        yield StaticInt8(calibrator="percentile", heads=True, reduced=plan.portable)
        if not plan.portable:
            yield StaticInt8(heads=True, runtime="openvino")
    for calibrator in ("minmax", "percentile", "entropy"):
        yield StaticInt8(calibrator=calibrator, reduced=plan.portable)
    if not plan.portable:
        yield StaticInt8(runtime="openvino")
        yield StaticInt8(calibrator="percentile", runtime="openvino")
        yield StaticInt8(reduced=True)
    yield StaticInt8(weights="u8", per_channel=False)
    yield DynamicInt8(reduced=plan.portable)
    yield WeightOnly(bits=8)
    yield WeightOnly(bits=4)
    yield LowRank()
    yield Half()
    yield Offline()
    for name in plugins.table("passes"):
        yield _of_third_party(name)


class NotLoaded(msgspec.Struct, frozen=True):
    """In the place of a third party's pass that does not load."""

    name: ClassVar[str] = "not-loaded"
    id: str
    reason: str

    @property
    def title(self) -> str:
        return f"the pass {self.id}"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        raise NotApplicable(self.reason)


def _of_third_party(name: str) -> Pass:
    try:
        made: Pass = plugins.load("passes", name)()
    except Exception as problem:  # noqa: BLE001  # it raises what it likes, and its entry tells
        cause = problem.__cause__ or problem
        return NotLoaded(name, f"this plugin does not load: {type(cause).__name__}: {cause}")
    return made
