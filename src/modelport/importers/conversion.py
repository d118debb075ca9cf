"""What a conversion took and how close it came: the figures that `pack` ends with."""

from __future__ import annotations

import msgspec

from ..bundle.manifest import Golden, Tolerance
from ..bundle.store import Bundle
from ..isolation.child.memory import peak_bytes
from ..verify.replay import Report
from .source import Imported


class Conversion(msgspec.Struct, frozen=True):
    """One conversion, measured while its bundle was packed and replayed."""

    source: str
    """The framework that the source was read and run by, with its version."""
    format: str
    seconds: float
    """By the wall clock: to open the source, convert it and prove its batch axis. Making a private
    environment is not among them."""
    peak_bytes: int | None
    """The most memory that the process with the framework in it ever had; None where nothing says."""
    own_process: bool
    """Whether that was a process of its own, and not this one."""
    bytes: int
    """Of the bundle's files."""
    cases: int
    generated: bool
    """Whether the golden inputs were made up."""
    max_difference: float
    """The largest absolute difference between the packed network and the framework over the golden cases."""
    tolerance: Tolerance
    """What it may be: `|got - expected| <= absolute + relative * |expected|`."""
    dtypes: tuple[str, ...]
    """Of the network's outputs; the tolerance is chosen by them."""
    labels_compared: int
    """Golden cases that are answered with a class; 0 where the model does not classify."""
    labels_agreeing: int
    """Those of them that the bundle answers with the class that was recorded."""


def conversion(
    imported: Imported, seconds: float, bundle: Bundle, golden: Golden, report: Report
) -> Conversion:
    """The figures of one conversion.

    Args:
        imported: what the importer made.
        seconds: from the first look at the source to the converted network.
        bundle, golden, report: what was written, its golden cases, and the replay that it passed.
    """
    cost = imported.cost
    return Conversion(
        source=imported.framework,
        format=imported.format,
        seconds=seconds,
        peak_bytes=cost.peak_bytes if cost is not None else peak_bytes(),
        own_process=cost is not None,
        bytes=sum(file.size for file in bundle.manifest.files.values()),
        cases=report.cases,
        generated=report.generated,
        max_difference=report.max_difference,
        tolerance=golden.net,
        dtypes=tuple(sorted({spec.dtype for spec in imported.signature.outputs})),
        labels_compared=report.labels_compared,
        labels_agreeing=report.labels_agreeing,
    )
