"""Keras: `keras.Model` objects, which are in this process, and `.keras` and `.h5` files, which another one
opens, those of Keras 2 included.

Either way Keras exports the network itself (`isolation.child.keras_network`), and the reference is the model
with `training=False`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from ..errors import ModelFailed, Unsupported, UsageError
from ..isolation.child.converter import FAILURES, NotConverted, first_line
from ..isolation.child.keras_network import NEVER_CALLED, KerasNetwork
from ..tensors import Array, Signature, Tensors, TensorSpec
from .batch import BATCH, made_up, sizes_to_try, with_batch
from .canonical import canonical, signature_of
from .converted import ConvertedImporter
from .onnx import one_file
from .pixels import ASSUMED, classifies, pixels_recipe
from .quiet import quiet, silenced
from .source import (
    HDF5_MAGIC,
    Declared,
    Imported,
    Reference,
    as_path,
    describe,
    file_head,
    of_module,
    zip_members,
)

_INSTALL = "pip install 'modelport[tensorflow]'"


class KerasImporter(ConvertedImporter):
    """Opens a file in a process of its own; computes with an object where it is."""

    environment = "tensorflow"
    converter = "keras_file"
    what = "a Keras file"

    def recognises(self, source: Any) -> bool:
        """A model by its type; files by `config.json` in a zip, or by HDF5's magic."""
        return of_module(source, "keras", "Model") or format_of(source) is not None

    def question(self, path: Path) -> dict[str, Any]:
        """Which of the two formats it is, and whether Python in it may run in the other process."""
        return {"form": format_of(path), "trusted": self.permission.trust}

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """Pixels as they are, where the network's first layers say that they scale them."""
        if as_path(source) is None:
            return None
        stated = self.open(source, inputs).about.get("declared")
        signature = self.signature(source, inputs)
        if not isinstance(stated, dict) or signature is None or not classifies(signature):
            return None
        return Declared(pixels_recipe("keras"), str(stated.get("pixels"))[:200], assumed=ASSUMED)

    def graph(self, source: Any) -> onnx.ModelProto | None:
        """The converted network of a file; None for an object."""
        return super().graph(source) if as_path(source) is not None else None

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """What the model says of itself; None for an object that was never built and has no given inputs."""
        if as_path(source) is not None:
            return super().signature(source, inputs)
        return _signature(KerasNetwork(_keras(), source), inputs)

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
        if as_path(source) is not None:
            return super().load(source, example=example, inputs=inputs)
        network = KerasNetwork(_keras(), source)
        signature = _signature(network, inputs)
        if signature is None:
            hint = "call it once, or give --input 'x:float32[batch,32,32,3]'"
            raise UsageError(NEVER_CALLED, hint=hint)
        feeds = example or made_up(signature, 2, next(sizes_to_try(signature)))
        network.order = tuple(spec.name for spec in signature.inputs)
        reference = _reference(network)
        outputs = tuple(reference(feeds))
        try:
            with quiet(), silenced(1, 2):
                shapes = [(spec.dtype, spec.shape) for spec in signature.inputs]
                proto = network.export(describe(source), outputs, shapes)
        except NotConverted as problem:
            raise Unsupported(str(problem), hint=problem.hint) from problem
        own, changed = canonical(proto)
        batched, batch, batch_notes = with_batch(own, reference, feeds)
        return Imported(
            onnx=one_file(batched),
            signature=signature_of(batched),
            batch=batch,
            reference=reference,
            framework=_framework(network.keras),
            format="keras.Model",
            notes=(*changed, *batch_notes),
        )


def format_of(source: Any) -> str | None:
    """`keras`, `h5`, or None for something else."""
    if file_head(source, 8) == HDF5_MAGIC:
        return "h5"
    members = zip_members(source)
    return "keras" if "config.json" in members and "metadata.json" in members else None


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
        raise Unsupported(f"packing Keras models needs keras ({problem})", hint=_INSTALL) from problem
    return keras


def _framework(keras: Any) -> str:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return f"keras {keras.__version__} on {backend}"
    import tensorflow

    return f"keras {keras.__version__} on tensorflow {tensorflow.__version__}"


def _signature(network: KerasNetwork, inputs: Sequence[TensorSpec]) -> Signature | None:
    """The model's own inputs and outputs; for one that was never built, after calling it once."""
    if not network.inputs():
        if not inputs:
            return None
        given = Signature(tuple(inputs), ())
        with quiet():
            network.call(list(made_up(given, 2, next(sizes_to_try(given))).values()))
    own = network.inputs()
    if not own:
        return Signature(tuple(inputs), ()) if inputs else None
    results = [_spec(f"output_{i}", *found) for i, found in enumerate(network.outputs())]
    return Signature(tuple(_spec(*found) for found in own), tuple(results))


def _spec(name: str, dtype: str, shape: Sequence[int | None]) -> TensorSpec:
    sizes = tuple(
        size if size is not None else (BATCH if axis == 0 else f"{name}.{axis}")
        for axis, size in enumerate(shape)
    )
    return TensorSpec(name, dtype, sizes)


def _reference(network: KerasNetwork) -> Reference:
    def run(batch: Tensors) -> dict[str, Array]:
        try:
            with quiet():
                return network.compute(batch)
        except FAILURES as problem:
            raise ModelFailed(f"the model failed in Keras: {first_line(problem)}") from problem

    return run
