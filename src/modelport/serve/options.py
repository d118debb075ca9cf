"""The options of a request, wherever its protocol carries them: for the bundle that is asked, judged once.

A bundle with options refuses an unknown name, since a misspelt threshold would silently be the default. One
without passes over what it does not know, but in the address of `/predict`: what somebody writes there is
meant for the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from ..engine.model import LiveModel
from ..engine.wire import Options
from ..errors import InputError

MAX_FIELDS = 32
"""Fields of a query or a form that are looked at; more are refused."""
_PROTOCOL = frozenset(
    [
        "binary_data_output",
        "content_type",
        "headers",
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
    ]
)
"""Parameters of an inference request that belong to the protocol, or to servers and clients of it."""


def of_query(query: bytes | str) -> dict[str, str]:
    """The fields of an address's query.

    Raises:
        InputError: too many, not text, or one that comes twice.
    """
    if not query:
        return {}
    text = query if isinstance(query, str) else query.decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as problem:
        raise InputError(f"the query cannot be read: {problem}", at="the address") from problem
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InputError("a field of the query comes twice", at="the address")
    return found


def chosen(model: LiveModel, *given: Mapping[str, Any]) -> Options | None:
    """The options among what a request says in its query, its form or its parameters; None for none.

    Raises:
        InputError: an unknown name (where the bundle has options), a value out of its range, or a name that
            is said in two places.
    """
    if not model.bundle.manifest.options:
        return None
    merged: dict[str, Any] = {}
    for each in given:
        for name, value in each.items():
            if name in merged:
                raise InputError(f"{name[:64]!r} is given in two places", at=f"$.parameters.{name[:64]}")
            merged[name] = value
    return model.check_options(merged)


def of_address(
    model: LiveModel, query: bytes | str, fields: Mapping[str, Any] | None = None
) -> Options | None:
    """The options of a request to `/predict`: in its address, and in the fields of its body.

    Raises:
        InputError: as `chosen`; an unknown name in the address also where the bundle has no options.
    """
    given = of_query(query)
    return chosen(model, given, fields or {}) if model.bundle.manifest.options else model.check_options(given)


def of_parameters(model: LiveModel, parameters: Mapping[str, Any]) -> Options | None:
    """The options among an inference request's parameters; the protocol's own are not options.

    Raises:
        InputError: as `chosen`.
    """
    if not parameters or not model.bundle.manifest.options:
        return None
    return chosen(
        model,
        {
            name: value
            for name, value in parameters.items()
            if name not in _PROTOCOL and not name.startswith("triton_")
        },
    )
