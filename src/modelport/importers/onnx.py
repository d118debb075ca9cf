"""ONNX files and `onnx.ModelProto` objects."""

from __future__ import annotations

import ast
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from ..errors import BundleError, InputError, Unsupported, UsageError
from ..runtimes.onnxruntime import OnnxRuntime
from ..tensors import Array, Signature, TensorSpec
from .batch import run_session, with_batch
from .canonical import MAX_IR, canonical, opset_of, refuse_domains, signature_of, tensors_of
from .evaluator import evaluator, not_evaluated
from .onnx_values import as_tensors, check_maps, labels_of
from .opsets import FIRST_RUN, first_runnable, upgraded
from .protobuf import outer_fields
from .source import MAX_ONNX_BYTES, Imported, Reference, as_path, of_module
from .strange import AGAIN

MAX_LABELS_TEXT = 1 << 20
TOO_LARGE = "a bundle's network is one file of at most 2 GB: export it in float16, or quantised"


class OnnxImporter:
    """Takes ONNX as it is, within the limits of `canonical`; the reference is the untouched original."""

    def recognises(self, source: Any) -> bool:
        """A `ModelProto`, or a file whose outermost protobuf fields are those of one."""
        if of_module(source, "onnx", "ModelProto"):
            return True
        path = as_path(source)
        # ir_version, graph and opset_import; a TensorFlow SavedModel begins alike but has no field 7.
        return path is not None and path.is_file() and _is_model(path)

    def graph(self, source: Any) -> ModelProto:
        """The model as it is, with its metadata."""
        return _read(source)

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """Inputs and outputs as the file says them."""
        model, _ = canonical(_with_inputs(as_tensors(_read(source))[0], inputs))
        return signature_of(model)

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Check, bring within the limits, and give the first axis any size where that is proven.

        Raises:
            InputError: damaged, or weights missing or outside the model's folder.
            Unsupported: custom operators, an opset that cannot be converted, or over 2 GB.
            ParityFailed: a map of classes is not the tensor that it is made of.
        """
        whole = _read(source)
        original, mapped, rewritten = as_tensors(whole)
        if mapped:
            check_maps(whole, original, mapped)
        own, notes = canonical(_with_inputs(original, inputs))
        reference, framework, how = reference_of(original)
        own, upgrades = upgraded(own, reference, example)
        model, batch, batch_notes = with_batch(own, reference, example)
        return Imported(
            onnx=one_file(model),
            signature=signature_of(model),
            batch=batch,
            reference=reference,
            framework=framework,
            format="onnx",
            notes=(*rewritten, *notes, *how, *upgrades, *batch_notes),
            labels=_labels(original) or labels_of(mapped),
        )


def reference_of(original: ModelProto) -> tuple[Reference, str, tuple[str, ...]]:
    """The original, run with every graph optimisation off; its engine, and notes.

    A model that is too new for the installed ONNX Runtime is run by onnx's own reference evaluator.
    """
    import onnxruntime

    engine = f"onnxruntime {onnxruntime.__version__}"
    plain = ModelProto()
    plain.CopyFrom(original)
    # A number in the header: weights, operators and opset stay as they are.
    plain.ir_version = min(plain.ir_version, MAX_IR)
    for model in (original, plain):
        try:
            session = OnnxRuntime().open(one_file(model), optimise=False)
        except BundleError as problem:
            reason = problem.message
            continue
        return run_session(session), engine, ()
    evaluated = evaluator(original)
    failing = not_evaluated(original) if opset_of(original) < FIRST_RUN else None
    if failing is None:
        note = f"the original was run by onnx's reference evaluator: {reason}"
        return evaluated, f"onnx {onnx.__version__}", (note,)
    older = first_runnable(original)
    if older is None:
        return evaluated, f"onnx {onnx.__version__}", (failing,)
    session = OnnxRuntime().open(one_file(older), optimise=False)
    note = (
        f"warning: nothing here runs opset {opset_of(original)} ({reason}; {failing}), so what is compared "
        f"with is the file as onnx brought it to opset {opset_of(older)}: that step is not proven"
    )
    return run_session(session), engine, (note,)


def one_file(model: ModelProto) -> bytes:
    """The serialized model.

    Raises:
        Unsupported: over 2 GB, where protobuf ends.
    """
    size = model.ByteSize()
    if size > MAX_ONNX_BYTES:
        raise Unsupported(
            f"the network has {size} bytes; one ONNX file holds {MAX_ONNX_BYTES}", hint=TOO_LARGE
        )
    return bytes(model.SerializeToString(deterministic=True))


def inline_weights(model: ModelProto, folder: Path | None) -> None:
    """Bring weights that lie in other files into the model.

    Args:
        model: changed in place.
        folder: the model's folder; None where there is none (an object in memory).

    Raises:
        InputError: a file outside the folder, a link, missing, or shorter than the model says.
        Unsupported: over 2 GB altogether.
    """
    total = model.ByteSize()
    for tensor in tensors_of(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _external_bytes(tensor.name, entries, folder, MAX_ONNX_BYTES - total)
        total += len(data)
        tensor.raw_data = data
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT


def _external_bytes(name: str, entries: Mapping[str, str], folder: Path | None, room: int) -> bytes:
    location = entries.get("location", "")
    at = f"weights {name!r} in {location!r}"
    parts = PurePosixPath(location).parts
    if folder is None:
        raise InputError(f"{at}: an object in memory has no folder", hint="give the path of the .onnx file")
    if not parts or "\\" in location or "\0" in location or location.startswith("/") or ".." in parts:
        raise InputError(f"{at}: outside the model's folder", hint="move the file next to the model")
    for depth in range(1, len(parts) + 1):
        if folder.joinpath(*parts[:depth]).is_symlink():
            raise InputError(f"{at}: a link", hint="put the file itself next to the model")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
        with _open_regular(folder.joinpath(*parts)) as stream:
            size = os.fstat(stream.fileno()).st_size
            length = size - offset if length < 0 else length
            if offset < 0 or length < 0 or offset + length > size:
                raise InputError(f"{at}: bytes {offset} to {offset + length} of a file of {size}")
            if length > room:
                raise Unsupported(
                    f"the network has more than {MAX_ONNX_BYTES} bytes with its weights inside",
                    hint=TOO_LARGE,
                )
            stream.seek(offset)
            return stream.read(length)
    except FileNotFoundError as problem:
        raise InputError(
            f"{at}: no such file", hint=f"copy {location} next to the model; it is part of it"
        ) from problem
    except (OSError, ValueError) as problem:
        raise InputError(f"{at}: {problem}") from problem


def _open_regular(path: Path) -> BinaryIO:
    """A file opened for reading, unless it is a link or a device by now."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # each is missing on some system
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _is_model(path: Path) -> bool:
    fields, whole = outer_fields(path)
    return whole and {1, 7, 8} <= fields


def _read(source: Any) -> ModelProto:
    """The model as it is, with weights that lie in other files brought in."""
    path = as_path(source)
    if path is None:
        model = ModelProto()
        model.CopyFrom(source)
    else:
        if path.stat().st_size > MAX_ONNX_BYTES:
            size = path.stat().st_size
            raise Unsupported(
                f"{path} has {size} bytes; one ONNX file holds {MAX_ONNX_BYTES}", hint=TOO_LARGE
            )
        try:
            model = onnx.load_model_from_string(path.read_bytes())
        except DecodeError as problem:
            raise InputError(f"{path} is a damaged ONNX file: {problem}", hint=AGAIN) from problem
    # Before anything is run or converted: onnx's own tools stumble over operators they do not know.
    refuse_domains(model)
    inline_weights(model, path.parent if path is not None else None)
    return model


def _with_inputs(model: ModelProto, inputs: Sequence[TensorSpec]) -> ModelProto:
    """The model with open dimensions set to the sizes that the user gave; a copy where there are any.

    Raises:
        UsageError: no such input, or another datatype, rank or size than the model's.
    """
    if not inputs:
        return model
    own = ModelProto()
    own.CopyFrom(model)
    known = {value.name: value for value in own.graph.input}
    have = {spec.name: spec for spec in signature_of(own).inputs if spec.name in known}
    for spec in inputs:
        if spec.name not in known:
            raise UsageError(f"the network has no input {spec.name!r}; it has {', '.join(known)}")
        mine = have[spec.name]
        fits = len(mine.shape) == len(spec.shape) and all(
            isinstance(a, str) or isinstance(b, str) or a == b
            for a, b in zip(mine.shape, spec.shape, strict=True)
        )
        if mine.dtype != spec.dtype or not fits:
            raise UsageError(f"the network's input {spec.name!r} is {mine}, not {spec}")
        dims = known[spec.name].type.tensor_type.shape.dim
        for axis, size in enumerate(spec.shape):
            if axis and isinstance(size, int):
                dims[axis].Clear()
                dims[axis].dim_value = size
    return own


def _labels(model: ModelProto) -> tuple[str, ...]:
    """Class names from the metadata entry `names`: a JSON or Python list, or a map from 0 on; or none."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "names"), "")
    if not text or len(text) > MAX_LABELS_TEXT:
        return ()
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return ()
    if isinstance(found, dict):
        try:
            numbered = {int(key): value for key, value in found.items()}
        except (ValueError, TypeError):
            return ()
        found = [numbered.get(index) for index in range(len(numbered))]
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return ()
    return tuple(found)
