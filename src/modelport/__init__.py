"""Modelport takes a trained model to every place it has to run, with proof that the answers stay the same.

    import modelport
    bundle = modelport.pack(net, out="repo", name="digits", recipe="digits")
    assert modelport.verify(bundle).ok

Every name below is imported on first use: `import modelport` loads no framework and no runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .bundle.store import Bundle
    from .client.aio import AsyncClient
    from .client.sync import Client
    from .errors import ModelportError
    from .evaluate.run import evaluate
    from .importers.pack import pack
    from .optimize.bench.run import bench
    from .runtimes.pipeline import Pipeline
    from .verify.replay import verify

__all__ = [
    "AsyncClient",
    "Bundle",
    "Client",
    "ModelportError",
    "Pipeline",
    "__version__",
    "bench",
    "evaluate",
    "pack",
    "verify",
]

_HOMES = {
    "AsyncClient": "modelport.client.aio",
    "Bundle": "modelport.bundle.store",
    "Client": "modelport.client.sync",
    "ModelportError": "modelport.errors",
    "Pipeline": "modelport.runtimes.pipeline",
    "bench": "modelport.optimize.bench.run",
    "evaluate": "modelport.evaluate.run",
    "pack": "modelport.importers.pack",
    "verify": "modelport.verify.replay",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'modelport' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
