"""Names to code: which module answers for a runtime or an importer, without importing any of them.

Built-in adapters and third-party ones (entry points in the groups `modelport.runtimes`,
`modelport.importers` and `modelport.passes`) go through the same table, so the plugin path is exercised on
every run.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from .errors import Unsupported

BUILT_IN: dict[str, dict[str, str]] = {
    "runtimes": {
        "onnxruntime": "modelport.runtimes.onnxruntime:OnnxRuntime",
        "openvino": "modelport.runtimes.openvino:OpenVinoRuntime",
        "python": "modelport.runtimes.python:PythonRuntime",
    },
    # Asked in this order; the first that recognises a source takes it.
    "importers": {
        "onnx": "modelport.importers.onnx:OnnxImporter",
        "python": "modelport.importers.python:PythonFunctionImporter",
        "huggingface": "modelport.importers.huggingface:HuggingFaceImporter",
        "jax": "modelport.importers.jax:JaxImporter",
        "jax-object": "modelport.importers.jax:JaxObjectImporter",
        "ultralytics": "modelport.importers.ultralytics:UltralyticsImporter",
        "sklearn": "modelport.importers.sklearn:SklearnImporter",
        "torch": "modelport.importers.torch:TorchImporter",
        "keras": "modelport.importers.keras:KerasImporter",
        "savedmodel": "modelport.importers.savedmodel:SavedModelImporter",
        "tflite": "modelport.importers.tflite:TFLiteImporter",
        "graphdef": "modelport.importers.graphdef:FrozenGraphImporter",
        "paddle": "modelport.importers.paddle:PaddleImporter",
        "mxnet": "modelport.importers.mxnet:MXNetImporter",
        "caffe": "modelport.importers.caffe:CaffeImporter",
        "darknet": "modelport.importers.darknet:DarknetImporter",
        "xgboost": "modelport.importers.xgboost:XGBoostImporter",
        "lightgbm": "modelport.importers.lightgbm:LightGBMImporter",
        "catboost": "modelport.importers.catboost:CatBoostImporter",
    },
    # What `modelport optimize` tries beside its own: classes that are made without arguments, see
    # `modelport.optimize.candidate.Pass`.
    "passes": {},
    # Modules with ROUTES and perhaps OPEN_ROUTES and ADMIN_ROUTES, mounted in this order.
    "dialects": {
        "v2": "modelport.serve:v2",
        "predict": "modelport.serve:predict",
        "track": "modelport.serve:track",
        "tfs": "modelport.serve.dialects:tfs",
        "hf": "modelport.serve.dialects:hf",
        "torchserve": "modelport.serve.dialects:torchserve",
        "mlflow": "modelport.serve.dialects:mlflow",
        "eas": "modelport.serve.dialects:eas",
    },
}


@cache
def table(group: str) -> dict[str, str]:
    """Name -> `module:attribute` of every adapter of a group, built-ins first."""
    from importlib.metadata import entry_points

    found = dict(BUILT_IN[group])
    for point in entry_points(group=f"modelport.{group}"):
        found.setdefault(point.name, point.value)
    return found


def load(group: str, name: str) -> Any:
    """The adapter object itself.

    Raises:
        Unsupported: an unknown name, or a third-party adapter that does not import (its own error is
            the cause); a failure inside Modelport's own adapter is a bug and is not hidden.
    """
    target = table(group).get(name)
    if target is None:
        raise Unsupported(f"no {_one(group)} named {name!r}; known: {', '.join(table(group))}")
    module, _, attribute = target.partition(":")
    try:
        found = importlib.import_module(module)
        # A module of a package is an attribute of it only after it was imported.
        return getattr(found, attribute, None) or importlib.import_module(f"{module}.{attribute}")
    except (ImportError, AttributeError) as problem:
        if name in BUILT_IN[group]:
            raise
        raise Unsupported(
            f"the {_one(group)} plugin {name!r} ({target}) does not load: {problem}"
        ) from problem


def _one(group: str) -> str:
    """One of a group: a runtime, an importer, a pass."""
    return group.removesuffix("es" if group == "passes" else "s")
