"""Checkpoints of Ultralytics and YOLOv5 (`.pt`): pickles, so they are opened in another process only.

What comes back is the ONNX file with the metadata that Ultralytics' own export writes, and a way to have a
batch computed by the network itself. From there on it is packed like any ONNX file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ..errors import InputError, UsageError
from ..isolation.child.checkpoint import PLAIN, RENAMED
from ..isolation.worker import Worker
from ..tensors import Array, Signature, Tensors, TensorSpec
from .batch import with_batch
from .canonical import canonical, refuse_domains, signature_of
from .checkpoint import kind_of_file, pickled_names
from .isolated import how_confined, open_worker, refusal
from .onnx import one_file
from .source import Imported, Permission, as_path

ENVIRONMENT = "ultralytics"
CONVERTER = "ultralytics_checkpoint"
NETWORKS = ("models.yolo.", "ultralytics.nn.tasks.", "ultralytics.yolo.")
OWN = ("torch.", "ultralytics.", "models.")


class UltralyticsImporter:
    """Opened once, when something of it is first asked for; the process ends with the importer."""

    def __init__(self) -> None:
        self._permission = Permission()
        self._opened: tuple[Path, Worker, onnx.ModelProto, dict[str, Any]] | None = None

    def recognises(self, source: Any) -> bool:
        """A pickle, alone or in torch's archive, that names a YOLO network's class."""
        path = as_path(source)
        if path is None or kind_of_file(source) != "pickle":
            return False
        return any(name.startswith(NETWORKS) for name in pickled_names(path))

    def permit(self, permission: Permission) -> None:
        """What the user allows."""
        self._permission = permission

    def graph(self, source: Any) -> onnx.ModelProto:
        """The exported network with its metadata: names, stride, task, imgsz.

        Raises:
            Unsupported: it may not be opened, or nothing here can. InputError: it is damaged.
        """
        return self._open(source)[2]

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """Inputs and outputs as the export has them."""
        if inputs:
            raise UsageError("a YOLO checkpoint says itself what it takes", hint="leave --input out")
        return signature_of(canonical(self.graph(source))[0])

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """Check the export and prove its batch axis against the framework.

        Raises:
            Unsupported: it may not be opened, or nothing here can. InputError: it is damaged.
        """
        _, worker, graph, about = self._open(source)
        own, notes = canonical(graph)

        def reference(batch: Tensors) -> dict[str, Array]:
            return worker.call({"do": "run"}, dict(batch))[1]

        model, batched, batch_notes = with_batch(own, reference, example)
        return Imported(
            onnx=one_file(model),
            signature=signature_of(model),
            batch=batched,
            reference=reference,
            framework=str(about.get("framework", ""))[:200],
            format=_text(about, "kind"),
            notes=(how_confined(worker), *notes, *batch_notes),
            labels=_labels(about),
        )

    def _open(self, source: Any) -> tuple[Path, Worker, onnx.ModelProto, dict[str, Any]]:
        path = as_path(source)
        assert path is not None  # only files are recognised
        if self._opened is not None and self._opened[0] == path:
            return self._opened
        if not self._permission.trust:
            names = sorted(pickled_names(path))
            foreign = [name for name in names if not _usual(name)]
            networks = [name for name in names if name.startswith(NETWORKS)]
            others = [name for name in names if _usual(name) and name not in networks]
            others.sort(key=lambda name: not name.startswith(("models.", "ultralytics.")))
            raise refusal(path, "a YOLO checkpoint", [*networks, *others], foreign)
        worker = open_worker(CONVERTER, ENVIRONMENT, self._permission)
        about, arrays = worker.call({"do": "open", "path": str(path.resolve())})
        if "onnx" not in arrays:
            raise InputError(f"{path}: the converter gave no network")
        try:
            graph = onnx.load_model_from_string(arrays["onnx"].tobytes())
        except DecodeError as problem:
            raise InputError(f"{path}: the converter gave a damaged network: {problem}") from problem
        refuse_domains(graph)
        self._opened = (path, worker, graph, about)
        return self._opened


def _usual(name: str) -> bool:
    """Whether a checkpoint needs what is called so."""
    module, _, attribute = name.rpartition(".")
    plain = {*PLAIN.get(module, ()), *PLAIN.get(RENAMED.get(module, module), ())}
    if module.startswith("torch") and not module.startswith(("torch.nn", "torch._utils")):
        return attribute[:1].isupper() or attribute in DTYPES
    return attribute in plain or name.startswith(OWN)


DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")


def _text(about: Mapping[str, Any], key: str) -> str:
    value = about.get(key)
    return value if value in ("yolov5", "ultralytics") else "pickle"


def _labels(about: Mapping[str, Any]) -> tuple[str, ...]:
    names = about.get("names")
    return tuple(str(name) for name in names) if isinstance(names, list) else ()
