"""The options of a bundle, as the command line gives them: `--option NAME=VALUE`, `--conf` and `--iou`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from .. import plugins
from ..bundle.options import check_options
from ..bundle.store import Bundle
from ..errors import InputError, UsageError

SHARE = click.FloatRange(0, 1)
conf_option = click.option("--conf", type=SHARE, help="Least score of a box: --option score_threshold=…")
iou_option = click.option(
    "--iou", type=SHARE, help="Overlap above which one box yields: --option iou_threshold=…"
)

trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Run a bundle whose network is a Python function, in a process of its own.",
)

SHORT = {"conf": "score_threshold", "iou": "iou_threshold"}
"""Flags that stand for an option."""


def known_runtime(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse a runtime that there is no adapter for, before anything is read.

    Raises:
        UsageError: it is none, with those that are known.
    """
    names: Iterable[str] = [value] if isinstance(value, str) else value or ()
    for name in names:
        if name not in plugins.table("runtimes"):
            known = ", ".join(plugins.table("runtimes"))
            raise UsageError(f"no runtime named {name!r}", hint=f"known: {known}")
    return value


runtime_option = click.option(
    "--runtime",
    callback=known_runtime,
    help="What runs the network: onnxruntime, openvino, …  [default: the chosen variant's]",
)


variant_option = click.option(
    "--variant",
    metavar="NAME",
    help="A form of the network; packed: as it was packed.  [default: the one chosen for this machine]",
)


def runtime_of(trust: bool, runtime: str | None = None, bundle: Bundle | None = None) -> str | None:
    """What runs the network: with `--trust` also functions; None for what the bundle says.

    Raises:
        click.UsageError: another runtime was named beside --trust.
        Unsupported: the runtime of functions was named, and the bundle's network is a graph.
    """
    if trust and runtime not in (None, "onnxruntime", "python"):
        raise click.UsageError(f"--trust is for the runtime python: --runtime {runtime} runs no functions")
    if bundle is not None and not trust:
        from ..runtimes.form import check_runtime

        check_runtime(bundle, runtime)
    return "python" if trust else runtime


def pairs_of(texts: Iterable[str], **flags: float | None) -> dict[str, Any]:
    """NAME=VALUE texts, and what the flags stand for, by name.

    Raises:
        UsageError: a text of another form.
        click.UsageError: an option that is given in two ways.
    """
    options: dict[str, Any] = dict(named(texts, "--option NAME=VALUE"))
    for flag, number in flags.items():
        if number is None:
            continue
        if SHORT[flag] in options:
            raise click.UsageError(f"--{flag} and --option {SHORT[flag]}= say the same: give one of them")
        options[SHORT[flag]] = number
    return options


def options_of(bundle: Bundle, texts: Iterable[str], **flags: float | None) -> dict[str, Any]:
    """What `post` is given, by name, judged by the bundle.

    Raises:
        UsageError, click.UsageError: as `pairs_of`; the bundle has no such option, or not such a value.
    """
    try:
        return dict(check_options(bundle.manifest, pairs_of(texts, **flags)))
    except InputError as problem:
        hint = f" ({problem.hint})" if problem.hint else ""
        raise click.UsageError(f"{problem.message}{hint}") from problem


def named(texts: Iterable[str], expected: str) -> dict[str, str]:
    """Options of the form `NAME=VALUE`, by name.

    Args:
        expected: what the error says was expected.

    Raises:
        UsageError: one has no name, or no `=`.
    """
    pairs = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise UsageError(f"expected {expected}, got {text!r}")
        pairs[name] = value
    return pairs
