"""The JSON Schemas of what is written: of a struct, under the name that its files bear."""

from __future__ import annotations

from typing import Any

import msgspec


def schema_of(kind: type[msgspec.Struct], name: str, title: str) -> dict[str, Any]:
    """The schema of a file that holds `kind`, and first `schema`, which is `name`."""
    schema: dict[str, Any] = msgspec.json.schema(kind)
    whole = schema["$defs"][kind.__name__]
    whole["properties"] = {"schema": {"const": name}, **whole["properties"]}
    whole["required"] = ["schema", *whole["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
