"""Keras: `keras.Model` objects, `.keras` archives and `.h5` files, those of Keras 2 included.

Files are opened with Keras's safe mode; layers that hold Python code are refused before Keras sees them.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..errors import InputError, ModelFailed, Unsupported, UsageError
from ..tensors import Array, Signature, Tensors, TensorSpec
from .batch import BATCH, made_up, sizes_to_try, with_batch
from .canonical import canonical, rename, signature_of
from .onnx import one_file
from .quiet import FAILURES, FILE_FAILURES, first_line, quiet, silenced
from .source import HDF5_MAGIC, Imported, Reference, as_path, describe, file_head, of_module, zip_members

OPSET = 18
_INSTALL = "pip install 'modelport[tensorflow]'"
_PACK_OBJECT = "load it in Python with its classes and pack the object: modelport.pack(model, …)"
_MAX_CONFIG = 64 << 20
_CODE_LAYERS = frozenset({"Lambda", "__lambda__"})
_NEUTRAL = {
    "groups": (1,),
    "time_major": (False,),
    "renorm": (False,),
    "virtual_batch_size": (None,),
    "fused": (None, True, False),
    "implementation": (1, 2),
}
"""Parameters that older Keras wrote and newer layers no longer have -> values that change nothing."""


class KerasImporter:
    """Exports with Keras's own ONNX export; the reference is the model itself, `training=False`."""

    def __init__(self) -> None:
        self._opened: tuple[Any, Any] | None = None

    def recognises(self, source: Any) -> bool:
        """A model by its type; files by `config.json` in a zip, or by HDF5's magic."""
        return of_module(source, "keras", "Model") or _format_of(source) is not None

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """What the model says of itself; None for one that was never built and has no given inputs."""
        return _signature(_keras(), self._model(source), inputs)

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Export to ONNX and prove the batch axis.

        Raises:
            Unsupported: keras or TensorFlow is missing, a layer holds Python code or is not Keras's own,
                or the export fails.
            UsageError: nothing says what the model takes.
            InputError: the file is damaged.
        """
        keras = _keras()
        model = self._model(source)
        signature = _signature(keras, model, inputs)
        if signature is None:
            raise UsageError(
                "nothing says what the model takes: it was never called",
                hint="call it once, or give --input 'x:float32[batch,32,32,3]'",
            )
        feeds = example or made_up(signature, 2, next(sizes_to_try(signature)))
        order = tuple(spec.name for spec in signature.inputs)
        reference = _reference(keras, model, order)
        outputs = tuple(reference(feeds))
        proto = _export(model, describe(source))
        if len(proto.graph.input) != len(order):
            raise Unsupported(f"the export takes {len(proto.graph.input)} inputs, the model {len(order)}")
        public = (*order, *outputs)
        values = (*proto.graph.input, *proto.graph.output)
        own, changed = canonical(rename(proto, [value.name for value in values], public))
        batched, batch, batch_notes = with_batch(own, reference, feeds)
        return Imported(
            onnx=one_file(batched),
            signature=signature_of(batched),
            batch=batch,
            reference=reference,
            framework=_framework(keras),
            format=_format_of(source) or "keras.Model",
            notes=(*changed, *batch_notes),
        )

    def _model(self, source: Any) -> Any:
        """The model, opened once for both questions: a file takes seconds."""
        if self._opened is None or self._opened[0] is not source:
            self._opened = (source, _model(source))
        return self._opened[1]


def _keras() -> Any:
    # Before the first import, which is when TensorFlow reads it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with quiet(), silenced(2):
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow  # noqa: F401
                import tf2onnx  # noqa: F401
    except ImportError as problem:
        raise Unsupported(f"reading Keras models needs keras ({problem})", hint=_INSTALL) from problem
    return keras


def _framework(keras: Any) -> str:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return f"keras {keras.__version__} on {backend}"
    import tensorflow

    return f"keras {keras.__version__} on tensorflow {tensorflow.__version__}"


def _format_of(source: Any) -> str | None:
    """`keras`, `h5`, or None for something else."""
    if file_head(source, 8) == HDF5_MAGIC:
        return "h5"
    members = zip_members(source)
    return "keras" if "config.json" in members and "metadata.json" in members else None


def _model(source: Any) -> Any:
    path = as_path(source)
    if path is None:
        return source
    form = _format_of(path)
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        # Keras tells formats by a name's ending; and what is mended is never the user's own file.
        copy = Path(folder) / ("model.h5" if form == "h5" else "model.keras")
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        if form == "h5":
            _mend_h5(copy, path)
        else:
            with zipfile.ZipFile(copy) as archive:
                config = _parsed(archive.read("config.json"), path)
            _refuse_code(config, path)
            _refuse_custom(_keras(), config, path)
        keras = _keras()
        try:
            with quiet():
                return keras.models.load_model(copy, compile=False, safe_mode=True)
        except FILE_FAILURES as problem:
            reason = first_line(problem)
            if "Unknown layer" in reason:
                raise Unsupported(f"{path} has layers of its own: {reason}", hint=_PACK_OBJECT) from problem
            raise InputError(f"Keras does not load {path}: {reason}") from problem


def _mend_h5(copy: Path, path: Path) -> None:
    """Judge the configuration of an .h5, and take out of it what newer Keras no longer knows.

    Only parameters with a value that changes nothing are taken out.
    """
    keras = _keras()
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(copy, "r+") as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise Unsupported(
                    f"{path} holds weights and no network",
                    hint="build the model in Python, model.load_weights(…), then pack the object",
                )
            config = _parsed(text, path)
            _refuse_code(config, path)
            _drop_unknown(keras, config)
            file.attrs["model_config"] = json.dumps(config)
    except (OSError, RuntimeError) as problem:
        raise InputError(f"{path} is a damaged HDF5 file: {first_line(problem)}") from problem


def _parsed(text: str | bytes, path: Path) -> Any:
    if len(text) > _MAX_CONFIG:
        raise InputError(f"the configuration in {path} has {len(text)} bytes; at most {_MAX_CONFIG} are read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"the configuration in {path} is not JSON: {problem}") from problem


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object of a configuration, without recursion: the file's nesting is its own."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _refuse_code(config: Any, path: Path) -> None:
    for found in _objects(config):
        if found["class_name"] in _CODE_LAYERS:
            name = found.get("name") or (found.get("config") or {}).get("name") or ""
            raise Unsupported(
                f"{path} has a {found['class_name']} layer {name!r}, which is Python code inside the file",
                hint="load it in Python where you trust it, and pack the object: modelport.pack(model, …)",
            )


def _refuse_custom(keras: Any, config: Any, path: Path) -> None:
    for found in _objects(config):
        name = found.get("registered_name")
        own = name and not str(found.get("module")).startswith(("keras.", "builtins"))
        if own and keras.saving.get_registered_object(name) is None:
            raise Unsupported(f"{path} has a layer of its own: {name}", hint=_PACK_OBJECT)


def _drop_unknown(keras: Any, config: Any) -> None:
    for found in _objects(config):
        layer = getattr(keras.layers, str(found["class_name"]), None)
        parameters = found.get("config")
        if not isinstance(layer, type) or not isinstance(parameters, dict):
            continue
        known = inspect.signature(layer.__init__).parameters  # type: ignore[misc]
        for key, neutral in _NEUTRAL.items():
            if key in parameters and key not in known and parameters[key] in neutral:
                del parameters[key]


def _signature(keras: Any, model: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
    """The model's own inputs and outputs; for one that was never built, after calling it once."""
    if not getattr(model, "built", False) or not _tensors(keras, model, "inputs"):
        if not inputs:
            return None
        given = Signature(tuple(inputs), ())
        _call(model, list(made_up(given, 2, next(sizes_to_try(given))).values()))
    own = _tensors(keras, model, "inputs")
    if not own:
        return Signature(tuple(inputs), ()) if inputs else None
    # A name like keras_tensor_316 counts the tensors that the process made so far.
    names = [f"input_{i}" if len(own) > 1 else "input" for i in range(len(own))]
    names = [
        name if re.fullmatch(r"keras_tensor(_\d+)?", tensor.name) else tensor.name
        for name, tensor in zip(names, own, strict=True)
    ]
    specs = tuple(_spec(tensor, name) for tensor, name in zip(own, names, strict=True))
    results = _tensors(keras, model, "outputs")
    return Signature(specs, tuple(_spec(t, f"output_{i}") for i, t in enumerate(results)))


def _tensors(keras: Any, model: Any, side: str) -> list[Any]:
    try:
        return list(keras.tree.flatten(getattr(model, side, None) or []))
    except ValueError:  # a Sequential model that was never built
        return []


def _spec(tensor: Any, name: str) -> TensorSpec:
    shape = tuple(
        size if size is not None else (BATCH if axis == 0 else f"{name}.{axis}")
        for axis, size in enumerate(tensor.shape)
    )
    return TensorSpec(name, str(tensor.dtype), shape)


def _call(model: Any, tensors: list[Any]) -> Any:
    """The model on tensors in the order of its inputs, in the structure that it was built with."""
    structure = getattr(model, "_inputs_struct", None)
    value: Any = (
        tensors[0] if len(tensors) == 1 and not isinstance(structure, (list, tuple, dict)) else tensors
    )
    if isinstance(structure, dict):
        # Keras flattens mappings in the order of their keys.
        value = dict(zip(sorted(structure), tensors, strict=True))
    with quiet():
        return model(value, training=False)


def _reference(keras: Any, model: Any, order: tuple[str, ...]) -> Reference:
    def run(batch: Tensors) -> dict[str, Array]:
        try:
            results = _call(model, [np.ascontiguousarray(batch[name]) for name in order])
        except FAILURES as problem:
            raise ModelFailed(f"the model failed in Keras: {first_line(problem)}") from problem
        with quiet():
            arrays = [np.array(keras.ops.convert_to_numpy(value)) for value in keras.tree.flatten(results)]
        if isinstance(results, dict) and len(results) == len(arrays):
            names = [str(key) for key in sorted(results)]
        else:
            names = ["output"] if len(arrays) == 1 else [f"output_{i}" for i in range(len(arrays))]
        return dict(zip(names, arrays, strict=True))

    return run


def _export(model: Any, what: str) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        target = Path(folder) / "model.onnx"
        try:
            with quiet(), silenced(1, 2):
                model.export(str(target), format="onnx", opset_version=OPSET, verbose=False)
            return onnx.load(target)
        except FILE_FAILURES as problem:
            raise Unsupported(
                f"Keras cannot export {what} to ONNX: {first_line(problem)}",
                hint="export it to ONNX yourself and pack the .onnx file",
            ) from problem
