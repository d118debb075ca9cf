"""A typed client for Modelport's server, and any other of the Open Inference Protocol v2.

    from modelport import Client
    with Client("http://127.0.0.1:8000", key="…") as client:
        print(client.predict("digits", "photo.png").top)

Imported names are loaded on first use, so that a blocking client does not pay for asyncio. Over HTTP it
needs numpy, msgspec and httptools, which Modelport has anyway; over gRPC grpcio (`modelport[grpc]`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .failures import BadReply
    from .items import Item
    from .retry import Retries
    from .rows import Text
    from .settings import TLS
    from .sync import Client
    from .values import (
        ClassScore,
        Detection,
        InferResult,
        Label,
        ModelMetadata,
        ModelState,
        ModelStatistics,
        Output,
        Prediction,
        ServerMetadata,
        Timing,
    )

__all__ = [
    "TLS",
    "AsyncClient",
    "BadReply",
    "ClassScore",
    "Client",
    "Detection",
    "InferResult",
    "Item",
    "Label",
    "ModelMetadata",
    "ModelState",
    "ModelStatistics",
    "Output",
    "Prediction",
    "Retries",
    "ServerMetadata",
    "Text",
    "Timing",
]

_HOMES = {
    "TLS": "settings",
    "AsyncClient": "aio",
    "BadReply": "failures",
    "Client": "sync",
    "Item": "items",
    "Retries": "retry",
    "Text": "rows",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'modelport.client' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'values')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
