"""Which forms of the network, on which runtimes, are to be measured; and which cannot be, and why."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ... import plugins
from ...bundle.store import Bundle
from ...errors import ModelportError, Unsupported, UsageError
from ...runtimes.form import DEFAULT, FUNCTIONS, Form, check_runtime, form_of
from ...runtimes.machine import PACKED, choose_variant
from ...runtimes.session import Runtime
from .outcome import Left, Tried


def forms_of(
    bundle: Bundle, runtimes: Sequence[str], variants: Sequence[str], *, trust: bool
) -> tuple[list[Form], list[Left]]:
    """Every variant on every runtime, each pair once; and what is left out.

    Args:
        runtimes: names; none for all that are installed and take the bundle.
        variants: names, `packed` among them; none for all.
        trust: whether a network that is a Python function may run.

    Raises:
        NotFound: no such variant. Unsupported: no such runtime, one that was asked for is not installed or
        does not take the bundle, or none does. UsageError: a name twice.
    """
    for flag, names in (("--runtime", runtimes), ("--variant", variants)):
        if len(set(names)) < len(names):
            raise UsageError(f"{flag} names one twice: {', '.join(names)}")
    wanted = _variants(bundle, variants)
    able, left = _runtimes(bundle, runtimes, trust=trust)
    found: list[Form] = []
    for variant in wanted:
        for runtime in able:
            form = form_of(bundle, variant, runtime)
            if not any(_same(form, other) for other in found):
                found.append(form)
    return found, left


def tried(form: Form) -> Tried:
    """A form as the report has it."""
    return Tried(runtime=form.runtime, variant=form.variant or PACKED, settings=dict(form.settings))


def _same(form: Form, other: Form) -> bool:
    """Two variants may share one file, and differ in a runtime that is overruled here."""
    return msgspec.structs.replace(form, variant=other.variant) == other


def _variants(bundle: Bundle, names: Sequence[str]) -> list[str]:
    """Names as `form_of` takes them.

    Raises:
        NotFound: there is none of this name.
    """
    for name in names:
        choose_variant(bundle.manifest, name)
    return [*names] or [PACKED, *(variant.name for variant in bundle.manifest.variants)]


def _runtimes(bundle: Bundle, names: Sequence[str], *, trust: bool) -> tuple[list[str], list[Left]]:
    function = bundle.manifest.graphs.net.function is not None
    for name in () if trust else names:
        check_runtime(bundle, name)
    table = [name for name in plugins.table("runtimes") if name != FUNCTIONS]
    if function:
        table = [FUNCTIONS if trust else DEFAULT]  # which says that it takes --trust
    able, left = [], []
    for name in names or table:
        try:
            engine: Runtime = plugins.load("runtimes", name)()
            reason = engine.refuses(bundle)
        except (ModelportError, ImportError) as problem:
            if name in names:
                raise
            reason = str(problem)
        if reason is None:
            able.append(name)
        elif name in names:
            raise Unsupported(f"{name} does not run {bundle.manifest.name}: {reason}")
        else:
            left.append(Left(name, reason))
    if not able:
        reasons = "; ".join(f"{each.what}: {each.reason}" for each in left)
        raise Unsupported(f"no runtime here runs {bundle.manifest.name}: {reasons}")
    return able, left
