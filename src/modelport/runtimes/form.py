"""Which form of a bundle's network runs here, on which engine, with which settings."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import msgspec

from .. import plugins
from ..bundle.manifest import Variant
from ..bundle.store import Bundle
from ..errors import ModelportError, Unsupported
from .machine import choose_variant
from .session import Runtime, Settings, check_settings

DEFAULT = "onnxruntime"
"""It prepares and answers everywhere, and runs networks unless something else is said."""
FUNCTIONS = "python"
log = logging.getLogger("modelport.runtimes")


class Form(msgspec.Struct, frozen=True):
    """What runs where `net` is asked."""

    variant: str
    """Empty for the network that was packed."""
    file: str
    runtime: str
    settings: Settings
    outputs: tuple[str, ...] = ()
    """Values of the graph that it ends in; its own outputs where none are named."""
    post: str | None = None
    """The graph that makes answers of its outputs, where they are not those of the network as packed."""
    pre: str | None = None
    """The graph that prepares items for it, where that is another one."""
    prepares: tuple[dict[str, dict[str, Any]], ...] = ()
    """The steps of that graph."""
    reduced: tuple[int, int] | None = None
    """The least height and width at which a JPEG may be decoded; whole where there is none."""


def form_of(
    bundle: Bundle, variant: str | None = None, runtime: str | None = None, settings: Settings | None = None
) -> Form:
    """The form that a caller wants, or the one that was chosen for machines like this.

    A chosen variant whose runtime is not here, or has no such settings, is passed over, which is logged once.

    Args:
        bundle: with its variants.
        variant: by name; "" for the network that was packed; None for the chosen one of `runtime`.
        runtime: None for the variant's own.
        settings: None for the variant's own, where it runs on its own runtime.

    Raises:
        NotFound: no such variant.
    """
    net = bundle.manifest.graphs.net
    if runtime == FUNCTIONS and net.function is None:
        runtime = None  # allowed to run functions, and there is none

    def usable(each: Variant) -> bool:
        return runtime in (None, each.runtime) and _runs(bundle, each)

    found = choose_variant(bundle.manifest, variant, usable)
    if found is None:
        return Form("", net.file, runtime or DEFAULT, settings or {})
    own = runtime in (None, found.runtime)
    if settings is None:
        settings = found.settings if own else {}
    return Form(
        found.name,
        found.file,
        runtime or found.runtime,
        settings,
        found.outputs,
        found.post,
        pre=found.pre,
        prepares=found.prepares,
        reduced=found.reduced,
    )


def check_runtime(bundle: Bundle, runtime: str | None) -> None:
    """Refuse the runtime of functions where it was asked for by name and the network is a graph.

    Raises:
        Unsupported: it is.
    """
    if runtime == FUNCTIONS and bundle.manifest.graphs.net.function is None:
        raise Unsupported(
            f"the runtime {FUNCTIONS} runs no ONNX networks, and that of {bundle.manifest.name} is one",
            hint=f"leave --runtime out, or name another: {DEFAULT}",
        )


def overruled(bundle: Bundle, form: Form) -> str:
    """What is to be noted where a variant runs on another runtime than its own; else nothing."""
    own = {each.name: each.runtime for each in bundle.manifest.variants}.get(form.variant, form.runtime)
    if own == form.runtime:
        return ""
    return f"variant {form.variant} was judged on {own}; it is run on {form.runtime}"


def _runs(bundle: Bundle, variant: Variant) -> bool:
    """Whether a variant's runtime is here and takes it; where not, that is said once."""
    try:
        engine: Runtime = plugins.load("runtimes", variant.runtime)()
        reason = engine.refuses(bundle)
        check_settings(variant.runtime, variant.settings, engine.settings)
    except ModelportError as problem:
        reason = problem.message
    if reason is not None:
        _said(bundle.manifest.name, bundle.manifest.version, variant.name, reason)
    return reason is None


@cache
def _said(name: str, version: str, variant: str, reason: str) -> None:
    log.warning("%s %s runs without its variant %s here: %s", name, version, variant, reason)
