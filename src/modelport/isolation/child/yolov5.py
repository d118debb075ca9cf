"""Networks as YOLOv5 saved them (2020 to 2022), run with the building blocks of today's Ultralytics.

Those checkpoints name `models.common.Conv`, `models.yolo.Detect` and so on, modules of a repository that is
no package. The blocks have kept their names and attributes in `ultralytics.nn.modules`; the model and its
detection head have not, so they stand here. Imported where torch is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Model(nn.Module):  # type: ignore[misc]  # Any here: mypy follows no framework
    """A list of layers, each of which says (`f`) which earlier outputs it takes."""

    def forward(self, pictures: Any) -> Any:
        """Pictures float[batch, 3, height, width] to what the last layer gives."""
        outputs: list[Any] = []
        latest = pictures
        for layer in self.model:
            if layer.f != -1:
                wanted = [layer.f] if isinstance(layer.f, int) else layer.f
                taken = [latest if index == -1 else outputs[index] for index in wanted]
                latest = taken[0] if isinstance(layer.f, int) else taken
            latest = layer(latest)
            outputs.append(latest if layer.i in self.save else None)
        return latest


class Detect(nn.Module):  # type: ignore[misc]
    """The head with anchors: boxes in pixels as centre and size, objectness, a score for each class."""

    def forward(self, levels: Any) -> Any:
        """Feature maps float[batch, channels, rows, columns], finest first, to [batch, boxes, 5 + nc]."""
        return torch.cat([self._decode(level, features) for level, features in enumerate(levels)], 1)

    def _decode(self, level: int, features: Any) -> Any:
        raw = self.m[level](features)
        batch, _, rows, columns = raw.shape
        raw = raw.view(batch, self.na, self.no, rows, columns).permute(0, 1, 3, 4, 2)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        cell = torch.stack((x, y), 2).to(raw)
        stride = self.stride[level]
        # Anchors are kept in cells of their level.
        anchors = (self.anchors[level] * stride).view(1, self.na, 1, 1, 2)
        shares = raw.sigmoid()
        centre = (shares[..., 0:2] * 2 - 0.5 + cell) * stride
        size = (shares[..., 2:4] * 2) ** 2 * anchors
        return torch.cat((centre, size, shares[..., 4:]), 4).reshape(batch, -1, self.no)


OWN = {"Model": Model, "DetectionModel": Model, "Detect": Detect}


def stand_in(module: str, name: str) -> Any:
    """The class for a name in the modules of YOLOv5's repository; None for any other."""
    if module not in ("models.common", "models.yolo", "models.experimental"):
        return None
    if name in OWN:
        return OWN[name]
    from ultralytics.nn import modules

    found = getattr(modules, name, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None
