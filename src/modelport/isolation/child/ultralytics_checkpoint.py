"""A `.pt` of Ultralytics or YOLOv5 to ONNX with the metadata that Ultralytics' own export writes."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np

from .checkpoint import load
from .converter import NotConverted, Refused
from .frames import Array

OPSET = 17
INPUT, OUTPUT = "images", "output0"
DEFAULT_SIDE = 640
DETECTORS = ("detect",)


class Converter:
    """`open` reads the checkpoint and exports it; `run` computes a batch with the source's own network."""

    def __init__(self) -> None:
        self.network: Any = None

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            about, onnx = self.open(str(fields["path"]))
            return about, {"onnx": onnx}
        return {}, self.run(arrays)

    def open(self, path: str) -> tuple[dict[str, Any], Array]:
        """What the checkpoint is (JSON), and the ONNX file as uint8[bytes].

        Raises:
            Refused: not a detection network, or a name in the file that no checkpoint holds.
        """
        import torch
        import ultralytics

        from . import yolov5

        torch.set_grad_enabled(False)
        held = load(torch, path, ("ultralytics",), yolov5.stand_in)
        network = _network(torch, held)
        old = isinstance(network, yolov5.Model)
        task = "detect" if old else _task(network, held)
        if task not in DETECTORS:
            raise NotConverted(f"the checkpoint is for the task {task!r}; only detection is packed from .pt")
        side = DEFAULT_SIDE if old else _side(held)
        names = _names(network)
        self.network = _settled(torch, network)
        stride = int(max(float(s) for s in torch.as_tensor(network.stride).reshape(-1)))
        about = {
            "kind": "yolov5" if old else "ultralytics",
            "framework": f"torch {torch.__version__.split('+')[0]}, ultralytics {ultralytics.__version__}",
            "head": type(network.model[-1]).__name__,
            "labels": names,
            "side": side,
        }
        metadata = {
            "description": "YOLOv5 detection model" if old else "Ultralytics detection model",
            "author": "Ultralytics",
            "version": ultralytics.__version__,
            "license": "AGPL-3.0 License (https://ultralytics.com/license)",
            "stride": str(stride),
            "task": task,
            "head": str(about["head"]),
            "batch": "1",
            "imgsz": str([side, side]),
            "names": str(dict(enumerate(names))),
            "channels": str(_channels(network)),
            "end2end": str(bool(getattr(network, "end2end", False))),
        }
        return about, _export(torch, self.network, side, _channels(network), metadata)

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """`images` float32[batch, 3, height, width] to `output0`, as the framework computes it."""
        import torch

        result = self.network(torch.from_numpy(np.array(arrays[INPUT], order="C")))
        return {OUTPUT: _first(result).numpy()}


def _network(torch: Any, held: Any) -> Any:
    """The averaged weights where there are some, as Ultralytics itself prefers them."""
    if isinstance(held, dict):
        held = held.get("ema") or held.get("model")
    if not isinstance(held, torch.nn.Module):
        raise Refused(
            "the checkpoint holds weights and no network",
            "save it with Ultralytics, which keeps the network beside them",
        )
    return held


def _task(network: Any, held: Any) -> str:
    """What the network does, which trained checkpoints say in their arguments and nowhere else."""
    from ultralytics.nn.tasks import guess_model_task

    if isinstance(held, dict) and "task" in (held.get("train_args") or {}):
        return str(held["train_args"]["task"])
    return str(getattr(network, "task", None) or guess_model_task(network))


def _settled(torch: Any, network: Any) -> Any:
    """In float32 and evaluation mode, with what layers of older versions of torch lack."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.Upsample) and not hasattr(layer, "recompute_scale_factor"):
            layer.recompute_scale_factor = None
    return network.float().eval()


def _names(network: Any) -> list[str]:
    names = getattr(network, "names", None) or {}
    if isinstance(names, dict):
        names = [names[index] for index in sorted(names)]
    return [str(name) for name in names]


def _side(held: Any) -> int:
    """The size it was trained at, rounded up to a multiple of 32."""
    arguments = held.get("train_args") if isinstance(held, dict) else None
    side = (arguments or {}).get("imgsz", DEFAULT_SIDE)
    side = max(side) if isinstance(side, (list, tuple)) else side
    return -(-int(side) // 32) * 32


def _channels(network: Any) -> int:
    first = next(p for p in network.parameters() if p.ndim == 4)
    return int(first.shape[1])


def _first(result: Any) -> Any:
    while isinstance(result, (tuple, list)):
        result = result[0]
    return result


def _export(torch: Any, network: Any, side: int, channels: int, metadata: dict[str, str]) -> Array:
    """A copy with its batch norms folded in, traced at one size; the batch stays open."""
    import onnx

    copied = copy.deepcopy(network)
    if hasattr(copied, "fuse"):
        copied = copied.fuse(verbose=False)
    head = copied.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", False
    picture = torch.zeros(2, channels, side, side)
    given = _first(copied(picture))  # heads settle their anchors at the first run
    buffer = io.BytesIO()
    torch.onnx.export(
        copied,
        picture,
        buffer,
        dynamo=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    # The exporter leaves every axis open where the batch is.
    for axis, size in enumerate(given.shape[1:], 1):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = size
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return np.frombuffer(model.SerializeToString(), np.uint8)
