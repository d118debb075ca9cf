"""Is a graph what the manifest says of it? Callers check what they get against the manifest alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..bundle.manifest import GraphInfo
from ..errors import BundleError
from ..tensors import TensorSpec
from .session import Session


def check_signature(
    info: GraphInfo,
    session: Session,
    sides: Sequence[str] = ("input", "output"),
    given: Sequence[TensorSpec] = (),
) -> None:
    """Refuse a graph that is not what the manifest says.

    Args:
        sides: what is looked at; of a form with a `post` of its own, what is between the two is its own.
        given: what the graph before this one gives for one item: a size in it may be written into this graph
            where the manifest leaves the axis free, and an axis that it leaves free may be free in this one.

    Raises:
        BundleError: a name, datatype or input dimension differs.
    """
    got = session.signature
    for side, said, found in (
        ("input", info.signature.inputs, got.inputs),
        ("output", info.signature.outputs, got.outputs),
    ):
        same = [(spec.name, spec.dtype) for spec in said] == [(spec.name, spec.dtype) for spec in found]
        if side in sides and not same:
            raise BundleError(
                f"the manifest's {side}s are {_listed(said)}, the graph's {_listed(found)}", at=info.file
            )
    sizes = {spec.name: (..., *spec.shape) for spec in given}
    inputs = zip(info.signature.inputs, got.inputs, strict=True) if "input" in sides else ()
    for want, have in inputs:
        made = sizes.get(want.name, ())
        alike = len(want.shape) == len(have.shape) and all(
            a == b or (isinstance(a, str) and isinstance(b, str)) or _follows(a, b, made[axis : axis + 1])
            for axis, (a, b) in enumerate(zip(want.shape, have.shape, strict=True))
        )
        if not alike:
            raise BundleError(f"the manifest's input is {want}, the graph's {have}", at=info.file)


def _follows(said: int | str, have: int | str, made: tuple[object, ...]) -> bool:
    """Whether an axis is otherwise than the manifest says because what is given to it is."""
    if isinstance(said, str):
        return made == (have,)
    return isinstance(have, str) and bool(made) and isinstance(made[0], str)


def check_offered(info: GraphInfo, session: Session, offered: Sequence[tuple[str, str]]) -> None:
    """Refuse a graph whose inputs with defaults are not the manifest's options.

    Raises:
        BundleError: a name or datatype differs.
    """
    found = [(spec.name, spec.dtype) for spec in session.options]
    if sorted(found) != sorted(offered):
        said, have = (", ".join(f"{n} {t}" for n, t in sorted(each)) or "none" for each in (offered, found))
        raise BundleError(f"the manifest's options are {said}, the graph's {have}", at=info.file)


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec}" for spec in specs)
