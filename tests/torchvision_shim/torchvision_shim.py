"""Lets torchvision be imported beside a torch that its compiled operators were not built for.

Only for the tests' set-up: some machines have a CPU build of torch and no torchvision that fits it. When
torchvision is imported, `nms` is declared and computed in plain torch first; its other compiled operators
stay away. `install` puts this module into an environment, where Python loads it at every start (cheaply:
torch is imported with torchvision, not before).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import shutil
import sys
from pathlib import Path
from typing import Any


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()
        return None


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )  # declared, because torchvision describes it at import
    library.impl("nms", _nms, "CPU")
    _Finder.library = library  # type: ignore[attr-defined]  # an operator ends with its library

    class Loader(importlib.machinery.SourceFileLoader):
        def exec_module(self, module: Any) -> None:
            super().exec_module(module)
            module._assert_has_ops = lambda: None

    class Extension(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
            if name != "torchvision.extension":
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and spec.origin:
                spec.loader = Loader(name, spec.origin)
            return spec

    sys.meta_path.insert(0, Extension())


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy suppression: boxes float[n, 4] as x1 y1 x2 y2; indices of those kept, best first."""
    import torch

    order = scores.argsort(descending=True, stable=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        order = order[shared <= iou_threshold * (areas[best] + areas[order] - shared)]
    return torch.stack(kept) if kept else order


def install(site_packages: Path) -> None:
    """Put this module into an environment, to be loaded at every start of its Python."""
    shutil.copy(__file__, site_packages / "torchvision_shim.py")
    (site_packages / "torchvision_shim.pth").write_text("import torchvision_shim\n")


if __name__ == "__main__":
    install(Path(sys.argv[1]))
else:
    sys.meta_path.insert(0, _Finder())
